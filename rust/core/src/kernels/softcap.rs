//! Soft caps of logits.
//!
//! ```text
//! y = cap * tanh(x / cap)        dx = dy * (1 - (y / cap)^2)
//! ```
//!
//! `x` `(rows, V)`, capped in place. The gradient of a capped row of logits is made where that of its loss is
//! ([`cross_entropy`](super::cross_entropy)), by [`slope`].
//!
//! Gemma Team: "Gemma 2: improving open language models at a practical size", 2024.

use super::rows::{self, check_rows};
use crate::error::{Error, Result};
use crate::simd::{Kernel, LANES, Simd, dispatch, isa, math};
use ndarray::ArrayViewMut2;

/// Bounds every element of `x` to `-cap..cap`.
pub fn softcap(cap: f32, x: ArrayViewMut2<f32>) -> Result<()> {
    const OP: &str = "softcap";
    let (n, v) = x.dim();
    check_rows!(OP, [n, v], x);
    if !(cap.is_finite() && cap > 0.0) {
        return Err(Error::value(OP, "cap", cap, "a soft cap must be finite and above 0"));
    }
    let isa = isa::current();
    rows::each(n * v, rows::tiles_mut(x), |_, (_, x)| dispatch(isa, Forward { cap, x }));
    Ok(())
}

/// `dy / dx` where the capped value is `y`.
#[inline(always)]
pub(super) fn slope<S: Simd>(s: S, cap: f32, y: S::V) -> S::V {
    let part = s.mul(y, s.splat(1.0 / cap));
    s.fma(s.mul(part, part), s.splat(-1.0), s.splat(1.0))
}

struct Forward<'a> {
    cap: f32,
    x: ArrayViewMut2<'a, f32>,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (cap, by) = (s.splat(self.cap), s.splat(1.0 / self.cap));
        for i in 0..self.x.nrows() {
            let x = rows::row_mut(&mut self.x, i);
            for at in (0..x.len()).step_by(LANES) {
                let part = s.mul(s.load_at(x, at, 0.0), by);
                s.store_at(x, at, s.mul(math::tanh(s, part), cap));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::testing::{assert_same_bits, on_each_isa, width};
    use super::*;
    use ndarray::Array2;
    use proptest::prelude::*;
    use subgpt_testkit::gradcheck::assert_close;
    use subgpt_testkit::noise::Noise;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn it_is_the_formula(n in 1usize..4, v in width(), cap in 0.5f32..60.0, seed: u64) {
            let x = Noise::new(seed).normal(n * v, 20.0);
            let exact: Vec<f64> =
                x.iter().map(|&x| f64::from(cap) * (f64::from(x) / f64::from(cap)).tanh()).collect();
            on_each_isa(|| {
                let mut y = Array2::from_shape_vec((n, v), x.clone()).unwrap();
                softcap(cap, y.view_mut()).unwrap();
                assert_close("y", y.as_slice().unwrap(), &exact, 1e-6);
            });
        }
    }

    #[test]
    fn edges_are_the_limits() {
        on_each_isa(|| {
            let mut x = ndarray::array![[0.0f32, f32::INFINITY, f32::NEG_INFINITY, 1e30, f32::NAN]];
            softcap(30.0, x.view_mut()).unwrap();
            assert!(x[[0, 0]] == 0.0 && x[[0, 1]] == 30.0 && x[[0, 2]] == -30.0 && x[[0, 3]] == 30.0);
            assert!(x[[0, 4]].is_nan());
        });
        for cap in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(softcap(cap, ndarray::array![[1.0f32]].view_mut()).is_err());
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let x = Noise::new(9).normal(3 * 20_001, 9.0);
        assert_same_bits(|| {
            let mut y = Array2::from_shape_vec((3, 20_001), x.clone()).unwrap();
            softcap(5.0, y.view_mut()).unwrap();
            y.into_raw_vec_and_offset().0
        });
    }
}
