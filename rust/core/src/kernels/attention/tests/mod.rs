//! Against the naive f64 twin on every instruction set, in strided views between guards of NaN, in both precisions.

mod call;
mod chunks;
mod documents;
mod half;
mod shapes;

use super::*;
use crate::rng::{Philox, Stream};
use crate::simd::isa::{self, Isa};
use crate::simd::{Kernel, LANES, Simd, bf16, dispatch};
use ndarray::{Array3, Array4, ArrayView4, s};
use std::fmt;
use subgpt_testkit::attention::Attention;

/// Floats after every row that nobody may read or write.
const GUARD: usize = 3;

/// Errors of bfloat16 over the largest number. A rounding is 2^-9 = 0.002 of a number at most; probability, output (also
/// within `D`), gradient of the score and result are rounded once each, and the sums over keys and coordinates add up such
/// errors of either sign. Few coordinates average little, dropout multiplies what it leaves, and where a gradient cancels
/// to nothing its error does not: then twice the error of rounding alone is granted. [`half`] measures more sharply.
const HALF: f64 = 0.02;

/// Sizes, options and spread of the inputs.
#[derive(Clone)]
struct Case {
    naive: Attention,
    /// All but the starts, which the twin has.
    options: Options<'static>,
    std: f64,
}

impl fmt::Debug for Case {
    /// Leaves the factors of dropout out: they follow from the options, and there are thousands.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attention { batch, heads, kv_heads, queries, keys, dim, .. } = self.naive;
        write!(f, "batch {batch}, heads {heads}/{kv_heads}, queries {queries}, keys {keys}, dim {dim}, ")?;
        write!(f, "std {}, {:?}", self.std, self.options())
    }
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
        let drop = Dropout { p, seed: 11, substream: 5, first: 0 };
        let keys = self.naive.keys;
        let mut factors = Vec::new();
        for row in 0..self.naive.q_len() / self.naive.dim {
            let first = (row * keys.next_multiple_of(4)) as u64;
            factors.extend((first..first + keys as u64).map(|index| f64::from(drop.factor(index))));
        }
        self.options.dropout = Some(drop);
        self.naive.factors = Some(factors);
        self
    }

    /// Every sequence cut into documents of some `lengths`, in turns.
    fn documents(mut self, lengths: &[usize]) -> Case {
        let (t, mut starts, mut lengths) = (self.naive.queries, Vec::new(), lengths.iter().cycle());
        for _ in 0..self.naive.batch {
            let mut start = 0;
            while start < t {
                let end = t.min(start + lengths.next().expect("at least one length"));
                starts.extend(std::iter::repeat_n(start as u32, end - start));
                start = end;
            }
        }
        self.naive.starts = Some(starts);
        self
    }

    fn options(&self) -> Options<'_> {
        Options { starts: self.naive.starts.as_deref(), ..self.options }
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
        attention(q.view(), k.view(), v.view(), &case.options(), out.view_mut(), lse.view_mut()).unwrap();
        let (dq_view, dk_view, dv_view) = (dq.view_mut(), dk.view_mut(), dv.view_mut());
        attention_backward(
            q.view(),
            k.view(),
            v.view(),
            out.view(),
            lse.view(),
            dout.view(),
            &case.options(),
            dq_view,
            dk_view,
            dv_view,
        )
        .unwrap();
        Computed { q, k, v, dout, out, lse, dq, dk, dv }
    }

    fn outputs(&self) -> [(&'static str, Vec<f64>); 5] {
        let lse = self.lse.iter().map(|&x| f64::from(x)).collect();
        let [out, dq, dk, dv] = [&self.out, &self.dq, &self.dk, &self.dv].map(Guarded::flat);
        [("out", out), ("lse", lse), ("dq", dq), ("dk", dk), ("dv", dv)]
    }

    /// What the naive twin makes of the same inputs.
    fn expected(&self, naive: &Attention) -> [Vec<f64>; 5] {
        let [q, k, v, dout] = [&self.q, &self.k, &self.v, &self.dout].map(Guarded::flat);
        let (out, lse) = naive.forward(&q, &k, &v);
        let g = naive.backward(&q, &k, &v, &dout);
        [out, lse, g.dq, g.dk, g.dv]
    }

    /// The error of output `i` of exact arithmetic that rounds what bfloat16 rounds.
    fn error_of_rounding(&self, case: &Case, expected: &[f64], i: usize, floor: f64) -> f64 {
        error(&self.expected(&case.naive.in_bf16())[i], expected, floor)
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

/// Whether the dot product of this processor has the bits of its emulation (it does on Zen 4; the manual leaves it open).
fn dots_are_emulated_exactly() -> bool {
    struct Dots;
    impl Kernel for Dots {
        type Output = Vec<u32>;
        const BF16: bool = true;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Vec<u32> {
            let noise = |seed| {
                let mut x = vec![0.0; 2 * LANES];
                Philox::new(seed, Stream::Test, 1).fill_normal(&mut x, 1.0);
                x
            };
            let mut sum = s.splat(0.1);
            let mut bits = Vec::new();
            for seed in 0..200 {
                let (a, b) = (noise(2 * seed), noise(2 * seed + 1));
                let a = s.round_pairs(s.load_at(&a, 0, 0.0), s.load_at(&a, LANES, 0.0));
                let b = s.round_pairs(s.load_at(&b, 0, 0.0), s.load_at(&b, LANES, 0.0));
                sum = s.dot(a, b, sum);
                bits.extend(s.to_array(sum).map(f32::to_bits));
            }
            bits
        }
    }
    Isa::Avx512Bf16.is_available() && dispatch(Isa::Avx512Bf16, Dots) == dispatch(Isa::Avx512, Dots)
}

/// Checks all outputs of `case` on every instruction set to `tolerance`, and AVX2 against AVX-512 to the bit.
fn check_to<E: Element>(case: &Case, tolerance: f64) {
    let mut bits = Vec::new();
    let mut expected = None;
    for isa in isa::available() {
        let c = isa::with(isa, || Computed::<E>::new(case));
        let expected = expected.get_or_insert_with(|| c.expected(&case.naive));
        // Terms of a gradient may cancel to nothing (a query with one key), so none is measured below the inputs.
        let floor = case.std.max(0.1);
        for (i, (name, got)) in c.outputs().into_iter().enumerate() {
            // The log-sum-exp is float32 in both precisions; that of bfloat16 has exponentials within 3e-6.
            let tolerance = if name == "lse" { tolerance.min(1e-5) } else { tolerance };
            let error = error(&got, &expected[i], floor);
            let granted = || if E::HALF { 2.0 * c.error_of_rounding(case, &expected[i], i, floor) } else { 0.0 };
            assert!(error < tolerance || error < granted(), "{name} on {}: {error:.2e} for {case:?}", isa.name());
        }
        [&c.q, &c.k, &c.v, &c.out, &c.dq, &c.dk, &c.dv].iter().for_each(|x| x.assert_guards());
        let comparable = isa < Isa::Avx512Bf16 || !E::HALF || dots_are_emulated_exactly();
        if isa != Isa::Portable && comparable {
            bits.push(c.bits());
        }
    }
    assert!(bits.windows(2).all(|w| w[0] == w[1]), "instruction sets differ for {case:?}");
}

fn check(case: Case) {
    check_to::<f32>(&case, 1e-5);
    check_to::<bf16>(&case, HALF);
}
