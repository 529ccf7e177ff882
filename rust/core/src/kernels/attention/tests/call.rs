//! Views as the model has them, what is refused, and the functions of a lane.

use super::*;
use crate::simd::math;

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
    let run =
        |q: [usize; 4], k: [usize; 4], v: [usize; 4], out: [usize; 4], lse: [usize; 3], options: Options<'static>| {
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
        Options { dropout: Some(Dropout { p: 1.0, seed: 0, substream: 0, first: 0 }), ..plain },
    ] {
        assert!(matches!(run(a, a, a, a, l, options), Err(Error::Value { .. })));
    }
    for starts in [&[0, 0, 2, 2, 2, 6][..], &[0, 1, 0, 0, 0, 0], &[1, 1, 1, 1, 1, 1]] {
        let error = run(a, a, a, a, l, Options { starts: Some(starts), ..plain }).unwrap_err();
        assert!(matches!(error, Error::Value { what: "starts", .. }), "{error}");
    }
    let started = Options { starts: Some(&[0; 6]), ..plain };
    let two = [2, 4, 6, 8];
    assert!(matches!(run(two, two, two, two, [2, 4, 6], started), Err(Error::Shape { what: "starts", .. })));
    let longer = [1, 4, 7, 8];
    assert!(matches!(run(a, longer, longer, a, l, started), Err(Error::Shape { what: "k", .. })));
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
