//! Against the naive f64 twin on every instruction set, in strided views between guards of NaN.

use super::*;
use crate::rng::{Philox, Stream};
use crate::simd::bf16;
use crate::simd::isa::{self, Isa};
use ndarray::{Array3, Array4, ArrayView4, s};
use proptest::prelude::*;
use subgpt_testkit::attention::Attention;

/// Floats after every row that nobody may read or write.
const GUARD: usize = 3;

/// Errors of bfloat16, over the largest number: half a unit of 2^-8 for each rounding of output and log-sum-exp.
const HALF: f64 = 0.02;

/// Sizes, options and spread of the inputs.
#[derive(Clone, Debug)]
struct Case {
    naive: Attention,
    options: Options,
    std: f64,
}

impl Case {
    fn new(batch: usize, (heads, kv_heads): (usize, usize), (queries, keys): (usize, usize), dim: usize) -> Case {
        let naive = Attention { batch, heads, kv_heads, queries, keys, dim, ..Attention::default() };
        Case { naive, options: Options::default(), std: 1.0 }
    }

    fn square(t: usize, dim: usize) -> Case {
        Case::new(1, (2, 2), (t, t), dim)
    }

    fn window(mut self, window: usize) -> Case {
        self.options.window = Some(window);
        self.naive.window = Some(window);
        self
    }

    fn softcap(mut self, cap: f32, scale: f32) -> Case {
        (self.options.softcap, self.options.scale) = (Some(cap), Some(scale));
        (self.naive.softcap, self.naive.scale) = (Some(f64::from(cap)), Some(f64::from(scale)));
        self
    }

    fn dropout(mut self, p: f32) -> Case {
        let drop = Dropout { p, seed: 11, substream: 5 };
        let keys = self.naive.keys;
        let mut factors = Vec::new();
        for row in 0..self.naive.q_len() / self.naive.dim {
            let mut one = vec![0.0; keys];
            drop.fill_factors((row * keys.next_multiple_of(4)) as u64, &mut one);
            factors.extend(one.into_iter().map(f64::from));
        }
        self.options.dropout = Some(drop);
        self.naive.factors = Some(factors);
        self
    }

    fn spread(mut self, std: f64) -> Case {
        self.std = std;
        self
    }
}

/// A `(B, T, H, D)` array with guards, seen as `(B, H, T, D)`.
struct Guarded<E>(Array4<E>);

impl<E: Element> Guarded<E> {
    fn new(batch: usize, heads: usize, t: usize, dim: usize) -> Guarded<E> {
        Guarded(Array4::from_elem((batch, t, heads, dim + GUARD), E::from_f32(f32::NAN)))
    }

    fn random(batch: usize, heads: usize, t: usize, dim: usize, seed: u64, std: f64) -> Guarded<E> {
        let mut x = vec![0.0; batch * heads * t * dim];
        Philox::new(seed, Stream::Test, 0).fill_normal(&mut x, std);
        let mut out = Guarded::new(batch, heads, t, dim);
        out.view_mut().iter_mut().zip(x).for_each(|(to, x)| *to = E::from_f32(x));
        out
    }

    fn dim(&self) -> usize {
        self.0.dim().3 - GUARD
    }

    fn view(&self) -> ArrayView4<'_, E> {
        self.0.slice(s![.., .., .., ..self.dim()]).permuted_axes([0, 2, 1, 3])
    }

    fn view_mut(&mut self) -> ArrayViewMut4<'_, E> {
        let dim = self.dim();
        self.0.slice_mut(s![.., .., .., ..dim]).permuted_axes([0, 2, 1, 3])
    }

    fn flat(&self) -> Vec<f64> {
        self.view().iter().map(|&x| f64::from(x.to_f32())).collect()
    }

    fn assert_guards(&self) {
        assert!(self.0.slice(s![.., .., .., self.dim()..]).iter().all(|x| x.to_f32().is_nan()), "a guard was written");
    }
}

/// Inputs and everything that the kernels make of them.
struct Computed<E> {
    q: Guarded<E>,
    k: Guarded<E>,
    v: Guarded<E>,
    dout: Guarded<E>,
    out: Guarded<E>,
    lse: Array3<f32>,
    dq: Guarded<E>,
    dk: Guarded<E>,
    dv: Guarded<E>,
}

impl<E: Element> Computed<E> {
    fn new(case: &Case) -> Computed<E> {
        let n = &case.naive;
        let like_q = |seed| Guarded::random(n.batch, n.heads, n.queries, n.dim, seed, case.std);
        let like_k = |seed| Guarded::random(n.batch, n.kv_heads, n.keys, n.dim, seed, case.std);
        let empty_q = || Guarded::new(n.batch, n.heads, n.queries, n.dim);
        let empty_k = || Guarded::new(n.batch, n.kv_heads, n.keys, n.dim);
        let (q, k, v, dout) = (like_q(1), like_k(2), like_k(3), like_q(4));
        let (mut out, mut dq, mut dk, mut dv) = (empty_q(), empty_q(), empty_k(), empty_k());
        let mut lse = Array3::from_elem((n.batch, n.heads, n.queries), f32::NAN);
        attention(q.view(), k.view(), v.view(), &case.options, out.view_mut(), lse.view_mut()).unwrap();
        let (dq_view, dk_view, dv_view) = (dq.view_mut(), dk.view_mut(), dv.view_mut());
        attention_backward(
            q.view(),
            k.view(),
            v.view(),
            out.view(),
            lse.view(),
            dout.view(),
            &case.options,
            dq_view,
            dk_view,
            dv_view,
        )
        .unwrap();
        Computed { q, k, v, dout, out, lse, dq, dk, dv }
    }

    fn bits(&self) -> Vec<u32> {
        let views = [&self.out, &self.dq, &self.dk, &self.dv];
        let lse = self.lse.iter().map(|x| x.to_bits());
        views
            .iter()
            .flat_map(|x| x.view().iter().map(|x| x.to_f32().to_bits()).collect::<Vec<_>>())
            .chain(lse)
            .collect()
    }
}

/// The largest difference over the largest expected magnitude (at least `floor`).
fn error(got: &[f64], expected: &[f64], floor: f64) -> f64 {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(floor, |m, x| m.max(x.abs()));
    got.iter().zip(expected).map(|(a, b)| if a.is_nan() { f64::INFINITY } else { (a - b).abs() }).fold(0.0, f64::max)
        / largest
}

/// Checks all outputs of `case` on every instruction set to `tolerance`, and AVX2 against AVX-512 to the bit.
fn check_to<E: Element>(case: &Case, tolerance: f64) {
    let mut bits = Vec::new();
    for isa in isa::available() {
        let c = isa::with(isa, || Computed::<E>::new(case));
        let (q, k, v, dout) = (c.q.flat(), c.k.flat(), c.v.flat(), c.dout.flat());
        let (out, lse) = case.naive.forward(&q, &k, &v);
        let g = case.naive.backward(&q, &k, &v, &dout);
        let got_lse: Vec<f64> = c.lse.iter().map(|&x| f64::from(x)).collect();
        // Terms of a gradient may cancel to nothing (a query with one key), so none is measured below the inputs.
        for (name, got, expected) in [
            ("out", c.out.flat(), out),
            ("lse", got_lse, lse),
            ("dq", c.dq.flat(), g.dq),
            ("dk", c.dk.flat(), g.dk),
            ("dv", c.dv.flat(), g.dv),
        ] {
            let error = error(&got, &expected, case.std.max(0.1));
            assert!(error < tolerance, "{name} on {}: {error:.2e} for {case:?}", isa.name());
        }
        [&c.q, &c.k, &c.v, &c.out, &c.dq, &c.dk, &c.dv].iter().for_each(|x| x.assert_guards());
        if isa != Isa::Portable {
            bits.push(c.bits());
        }
    }
    assert!(bits.windows(2).all(|w| w[0] == w[1]), "AVX2 and AVX-512 differ for {case:?}");
}

fn check(case: Case) {
    check_to::<f32>(&case, 1e-5);
    check_to::<bf16>(&case, HALF);
}

#[test]
fn lengths_around_the_edges_of_tiles_and_groups() {
    for t in [1, 2, 3, 4, 5, 11, 12, 13, 15, 16, 17, 23, 24, 25, 31, 32, 33, 47, 48, 49, 63, 64, 65, 97, 257] {
        check(Case::square(t, 8));
    }
}

#[test]
fn head_dims() {
    for dim in [1, 3, 7, 8, 15, 16, 17, 31, 32, 33, 48, 64, 80, 96, 128] {
        check(Case::square(37, dim));
        check(Case::new(1, (2, 1), (2, 37), dim));
    }
}

#[test]
fn heads_that_share_keys() {
    for heads in [(6, 2), (5, 1), (4, 4), (9, 3)] {
        check(Case::new(2, heads, (33, 33), 10));
        check(Case::new(2, heads, (3, 33), 10));
    }
}

#[test]
fn windows() {
    for window in [1, 2, 5, 12, 13, 16, 31, 32, 33, 64, 96, 97, 1000, usize::MAX] {
        check(Case::square(97, 6).window(window));
        check(Case::new(1, (4, 2), (3, 70), 6).window(window));
        check(Case::new(1, (4, 2), (41, 300), 6).window(window));
    }
}

#[test]
fn softcaps() {
    check(Case::new(2, (4, 2), (45, 45), 9).softcap(4.0, 0.25).spread(2.0));
    check(Case::new(2, (4, 2), (45, 45), 9).softcap(50.0, 0.3).window(11));
    check(Case::new(1, (4, 2), (2, 45), 9).softcap(4.0, 0.25).spread(2.0));
}

#[test]
fn cached_keys() {
    for (queries, keys) in [(1, 15), (3, 15), (4, 100), (5, 100), (31, 100), (64, 65), (33, 129), (1, 500), (7, 8)] {
        check(Case::new(2, (4, 2), (queries, keys), 16));
    }
}

#[test]
fn dropped_probabilities() {
    for (queries, keys) in [(1, 1), (2, 9), (40, 40), (70, 70), (20, 130)] {
        check(Case::new(2, (4, 2), (queries, keys), 16).dropout(0.3));
        check(Case::new(1, (2, 1), (queries, keys), 16).dropout(0.5).window(9).softcap(3.0, 0.5));
    }
}

#[test]
fn large_scores_do_not_overflow() {
    // Scores of some thousand: the log-sum-exp in f32 leaves about four digits of a probability.
    check_to::<f32>(&Case::square(50, 16).spread(30.0), 2e-3);
    check_to::<f32>(&Case::new(1, (2, 2), (2, 50), 16).spread(30.0), 2e-3);
    for isa in isa::available() {
        let c = isa::with(isa, || Computed::<f32>::new(&Case::square(40, 32).spread(1e4)));
        assert!(c.out.view().iter().chain(c.dq.view().iter()).all(|x| x.is_finite()));
    }
}

#[test]
fn gradients_agree_with_central_differences_of_the_forward() {
    let case = Case::new(1, (2, 1), (9, 12), 5).softcap(3.0, 0.5).window(7);
    let n = &case.naive;
    let c = Computed::<f32>::new(&case);
    let (inputs, dout) = ([c.q.flat(), c.k.flat(), c.v.flat()], c.dout.flat());
    let loss =
        |x: &[Vec<f64>; 3]| -> f64 { n.forward(&x[0], &x[1], &x[2]).0.iter().zip(&dout).map(|(a, b)| a * b).sum() };
    for (which, gradient) in [c.dq.flat(), c.dk.flat(), c.dv.flat()].into_iter().enumerate() {
        for at in 0..gradient.len() {
            let shifted = |by: f64| {
                let mut x = inputs.clone();
                x[which][at] += by;
                loss(&x)
            };
            let numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            assert!((numeric - gradient[at]).abs() < 1e-5 * (1.0 + numeric.abs()), "{which} {at}");
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let cases = [
        Case::new(1, (2, 1), (300, 300), 32),
        Case::new(3, (4, 2), (130, 130), 32).window(40).dropout(0.1),
        Case::new(2, (4, 2), (2, 3000), 64),
    ];
    for case in &cases {
        let bits = [1, 2, 5].map(|threads| {
            parallel::set_num_threads(threads);
            Computed::<f32>::new(case).bits()
        });
        assert!(bits.windows(2).all(|w| w[0] == w[1]), "{case:?}");
    }
}

#[test]
fn views_into_a_fused_buffer() {
    let (b, t, h, d) = (2, 35, 3, 16);
    let mut qkv = ndarray::Array2::<f32>::zeros((b * t, 3 * h * d));
    Philox::new(9, Stream::Test, 0).fill_normal(qkv.as_slice_mut().unwrap(), 1.0);
    let mut gradient = ndarray::Array2::from_elem(qkv.dim(), f32::NAN);
    let mut out = ndarray::Array2::from_elem((b * t, h * d), f32::NAN);
    let mut lse = Array3::zeros((b, h, t));
    let parts = qkv.view().into_shape_with_order((b, t, 3, h, d)).unwrap();
    let part = |i| parts.index_axis(Axis(2), i).permuted_axes([0, 2, 1, 3]);
    let heads = |x| ndarray::ArrayView4::permuted_axes(x, [0, 2, 1, 3]);
    let out_view = out.view_mut().into_shape_with_order((b, t, h, d)).unwrap().permuted_axes([0, 2, 1, 3]);
    let options = Options::default();
    attention(part(0), part(1), part(2), &options, out_view, lse.view_mut()).unwrap();
    let out_view = heads(out.view().into_shape_with_order((b, t, h, d)).unwrap());
    let mut split = gradient.view_mut().into_shape_with_order((b, t, 3, h, d)).unwrap();
    let (dq, dk, dv) = split.multi_slice_mut((s![.., .., 0, .., ..], s![.., .., 1, .., ..], s![.., .., 2, .., ..]));
    let [dq, dk, dv] = [dq, dk, dv].map(|x| x.permuted_axes([0, 2, 1, 3]));
    attention_backward(part(0), part(1), part(2), out_view, lse.view(), out_view, &options, dq, dk, dv).unwrap();
    let naive = Attention { batch: b, heads: h, kv_heads: h, queries: t, keys: t, dim: d, ..Attention::default() };
    let flat = |x: ArrayView4<f32>| -> Vec<f64> { x.iter().map(|&x| f64::from(x)).collect() };
    let [q, k, v] = [0, 1, 2].map(|i| flat(part(i)));
    let (expected, _) = naive.forward(&q, &k, &v);
    assert!(error(&flat(out_view), &expected, 0.1) < 1e-5);
    let g = naive.backward(&q, &k, &v, &flat(out_view));
    let gradient = gradient.view().into_shape_with_order((b, t, 3, h, d)).unwrap();
    for (i, expected) in [g.dq, g.dk, g.dv].into_iter().enumerate() {
        let got = flat(gradient.index_axis(Axis(2), i).permuted_axes([0, 2, 1, 3]));
        assert!(error(&got, &expected, 0.1) < 1e-5, "gradient {i}");
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let run = |q: [usize; 4], k: [usize; 4], v: [usize; 4], out: [usize; 4], lse: [usize; 3], options: Options| {
        let [q, k, v] = [q, k, v].map(Array4::<f32>::zeros);
        let (mut out, mut lse) = (Array4::zeros(out), Array3::zeros(lse));
        attention(q.view(), k.view(), v.view(), &options, out.view_mut(), lse.view_mut())
    };
    let (a, l) = ([1, 4, 6, 8], [1, 4, 6]);
    let plain = Options::default();
    assert!(run(a, a, a, a, l, plain).is_ok());
    assert!(matches!(run(a, [1, 3, 6, 8], a, a, l, plain), Err(Error::Shape { what: "k", .. })));
    assert!(matches!(run(a, [1, 0, 6, 8], a, a, l, plain), Err(Error::Shape { what: "k", .. })));
    assert!(matches!(run(a, [1, 4, 5, 8], a, a, l, plain), Err(Error::Shape { what: "k", .. })));
    assert!(matches!(run(a, [2, 4, 6, 8], a, a, l, plain), Err(Error::Shape { what: "k", .. })));
    assert!(matches!(run(a, a, [1, 4, 6, 7], a, l, plain), Err(Error::Shape { what: "v", .. })));
    assert!(matches!(run(a, a, a, [1, 4, 6, 9], l, plain), Err(Error::Shape { what: "out", .. })));
    assert!(matches!(run(a, a, a, a, [1, 4, 7], plain), Err(Error::Shape { what: "lse", .. })));
    assert!(matches!(run([1, 0, 6, 8], a, a, a, l, plain), Err(Error::Shape { what: "q", .. })));
    for options in [
        Options { window: Some(0), ..plain },
        Options { softcap: Some(0.0), ..plain },
        Options { scale: Some(f32::NAN), ..plain },
        Options { dropout: Some(Dropout { p: 1.0, seed: 0, substream: 0 }), ..plain },
    ] {
        assert!(matches!(run(a, a, a, a, l, options), Err(Error::Value { .. })));
    }
    let x = Array4::<f32>::zeros((1, 1, 8, 8));
    let (mut out, mut lse) = (Array4::zeros((1, 1, 8, 8)), Array3::zeros((1, 1, 8)));
    let transposed = x.view().permuted_axes([0, 1, 3, 2]);
    let result = attention(transposed, x.view(), x.view(), &plain, out.view_mut(), lse.view_mut());
    assert!(matches!(result, Err(Error::Shape { what: "q", .. })));
}

#[test]
fn nothing_to_do_is_done() {
    for case in [Case::new(0, (2, 1), (5, 5), 4), Case::new(2, (2, 1), (0, 5), 4), Case::new(2, (2, 1), (0, 0), 4)] {
        let c = Computed::<f32>::new(&case);
        assert!(c.dk.view().iter().chain(c.dv.view().iter()).all(|&x| x == 0.0));
    }
}

#[test]
fn powers_of_two_and_tanh_are_accurate() {
    use crate::simd::{Kernel, LANES, Simd, dispatch};
    struct Both([f32; LANES]);
    impl Kernel for Both {
        type Output = [[f32; LANES]; 2];
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Self::Output {
            let x = s.load(&self.0);
            [s.to_array(math::exp2(s, x)), s.to_array(math::tanh(s, x))]
        }
    }
    for isa in isa::available() {
        for start in -4000..200 {
            let x = std::array::from_fn(|i| start as f32 * 0.03 + i as f32 * 0.0019);
            let [exp2, tanh] = dispatch(isa, Both(x));
            for i in 0..LANES {
                let exact = f64::from(x[i]).exp2();
                assert!((f64::from(exp2[i]) / exact - 1.0).abs() < 2.5e-7, "2^{} on {}", x[i], isa.name());
                let exact = f64::from(x[i]).tanh();
                assert!((f64::from(tanh[i]) - exact).abs() <= 3e-7 * exact.abs(), "tanh {} on {}", x[i], isa.name());
            }
        }
        let [exp2, tanh] = dispatch(isa, Both([f32::NEG_INFINITY; LANES]));
        assert!(exp2[0] == 0.0 && tanh[0] == -1.0);
        let [exp2, tanh] = dispatch(isa, Both([f32::NAN; LANES]));
        assert!(exp2[0].is_nan() && tanh[0].is_nan());
        assert_eq!(dispatch(isa, Both([0.0; LANES])), [[1.0; LANES], [0.0; LANES]]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_shape(
        batch in 1..3usize,
        kv_heads in 1..3usize,
        sharing in 1..4usize,
        queries in 1..80usize,
        cached in 0..60usize,
        dim in 1..40usize,
        window in proptest::option::of(1..100usize),
        cap in proptest::option::of(1.0..20f32),
        drop in proptest::option::of(0.05..0.6f32),
    ) {
        let mut case = Case::new(batch, (kv_heads * sharing, kv_heads), (queries, queries + cached), dim);
        if let Some(window) = window {
            case = case.window(window);
        }
        if let Some(cap) = cap {
            case = case.softcap(cap, 0.4);
        }
        if let Some(p) = drop {
            case = case.dropout(p);
        }
        check_to::<f32>(&case, 2e-5);
        check_to::<bf16>(&case, HALF);
    }
}
