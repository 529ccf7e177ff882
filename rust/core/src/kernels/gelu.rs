//! GELU, exact and in its tanh form.
//!
//! ```text
//! Erf:  y = x * P,  P = (1 + erf(x / sqrt 2)) / 2             dy/dx = P + x * e^(-x^2 / 2) / sqrt(2 pi)
//! Tanh: y = x * S,  S = sigmoid(2 u) = (1 + tanh u) / 2       dy/dx = S + x * S * (1 - S) * 2 u'
//!       u = sqrt(2 / pi) * (x + 0.044715 x^3)
//! ```
//!
//! Slices of any length. The tanh form is computed as a sigmoid: one exponential and one division, and no cancellation
//! for large negative `x`.
//!
//! Hendrycks, Gimpel: "Gaussian error linear units", 2016; `torch.nn.functional.gelu` with `approximate` "none" and
//! "tanh".

use super::{check, rows};
use crate::error::Result;
use crate::simd::{Kernel, LANES, Simd, dispatch, isa, math};
use std::f32::consts::FRAC_1_SQRT_2;

/// Which GELU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gelu {
    /// By the error function.
    Erf,
    /// The approximation by tanh (`gelu_new`, `gelu_pytorch_tanh`).
    Tanh,
}

/// `sqrt(8 / pi)`: twice the factor in `u`.
const TWO_SQRT_2_OVER_PI: f32 = 1.595_769_2;
const CUBE: f32 = 0.044_715;
/// `1 / sqrt(2 pi)`
const DENSITY: f32 = 0.398_942_3;

/// `y = gelu(x)`
pub fn gelu(kind: Gelu, x: &[f32], y: &mut [f32]) -> Result<()> {
    check::len("gelu", "y", y.len(), x.len())?;
    let isa = isa::current();
    let parts = y.chunks_mut(rows::TASK).zip(x.chunks(rows::TASK));
    rows::each(x.len(), parts, |_, (y, x)| dispatch(isa, Forward { kind, x, y }));
    Ok(())
}

/// `dx = dy * gelu'(x)`
pub fn gelu_backward(kind: Gelu, x: &[f32], dy: &[f32], dx: &mut [f32]) -> Result<()> {
    check::len("gelu_backward", "dy", dy.len(), x.len())?;
    check::len("gelu_backward", "dx", dx.len(), x.len())?;
    let isa = isa::current();
    let parts = dx.chunks_mut(rows::TASK).zip(x.chunks(rows::TASK)).zip(dy.chunks(rows::TASK));
    rows::each(x.len(), parts, |_, ((dx, x), dy)| dispatch(isa, Backward { kind, x, dy, dx }));
    Ok(())
}

/// `dy *= gelu'(x)`: [`gelu_backward`] whose `dx` takes the place of `dy`.
pub fn gelu_backward_inplace(kind: Gelu, x: &[f32], dy: &mut [f32]) -> Result<()> {
    check::len("gelu_backward_inplace", "dy", dy.len(), x.len())?;
    let isa = isa::current();
    let parts = dy.chunks_mut(rows::TASK).zip(x.chunks(rows::TASK));
    rows::each(x.len(), parts, |_, (dy, x)| dispatch(isa, BackwardInplace { kind, x, dy }));
    Ok(())
}

struct Forward<'a> {
    kind: Gelu,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (0..self.x.len()).step_by(LANES) {
            let x = s.load_at(self.x, at, 0.0);
            let part = match self.kind {
                Gelu::Erf => normal_below(s, x),
                Gelu::Tanh => sigmoid_2u(s, x),
            };
            s.store_at(self.y, at, s.mul(x, part));
        }
    }
}

struct Backward<'a> {
    kind: Gelu,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (0..self.x.len()).step_by(LANES) {
            let slope = slope(s, self.kind, s.load_at(self.x, at, 0.0));
            s.store_at(self.dx, at, s.mul(s.load_at(self.dy, at, 0.0), slope));
        }
    }
}

struct BackwardInplace<'a> {
    kind: Gelu,
    x: &'a [f32],
    dy: &'a mut [f32],
}

impl Kernel for BackwardInplace<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (0..self.x.len()).step_by(LANES) {
            let slope = slope(s, self.kind, s.load_at(self.x, at, 0.0));
            let dx = s.mul(s.load_at(self.dy, at, 0.0), slope);
            s.store_at(self.dy, at, dx);
        }
    }
}

/// The part of a normal distribution below `x`: `(1 + erf(x / sqrt 2)) / 2`.
#[inline(always)]
fn normal_below<S: Simd>(s: S, x: S::V) -> S::V {
    let half = s.splat(0.5);
    s.fma(math::erf(s, s.mul(x, s.splat(FRAC_1_SQRT_2))), half, half)
}

/// `sigmoid(2 u)`
#[inline(always)]
fn sigmoid_2u<S: Simd>(s: S, x: S::V) -> S::V {
    let cubic = s.fma(s.mul(x, x), s.splat(CUBE), s.splat(1.0));
    math::sigmoid(s, s.mul(s.mul(x, s.splat(TWO_SQRT_2_OVER_PI)), cubic))
}

/// `gelu'(x)`
#[inline(always)]
fn slope<S: Simd>(s: S, kind: Gelu, x: S::V) -> S::V {
    let zero = s.splat(0.0);
    // Beyond 1e4 the slope is 0 or 1, and x^2 would overflow against an exponential that is 0. NaN passes through.
    let x = s.max(s.splat(-1e4), s.min(s.splat(1e4), x));
    let square = s.mul(x, x);
    match kind {
        Gelu::Erf => {
            let density = math::exp(s, s.mul(square, s.splat(-0.5)));
            s.fma(s.mul(x, s.splat(DENSITY)), density, normal_below(s, x))
        }
        Gelu::Tanh => {
            let part = sigmoid_2u(s, x);
            let twice_du = s.fma(square, s.splat(3.0 * CUBE * TWO_SQRT_2_OVER_PI), s.splat(TWO_SQRT_2_OVER_PI));
            // part * (1 - part) is exactly 0 where x^3 is huge.
            let bend = s.mul(part, s.sub(s.splat(1.0), part));
            s.add(part, s.mul(s.mul(x, twice_du), s.max(zero, bend)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::testing::{assert_same_bits, on_each_isa};
    use super::*;
    use proptest::prelude::*;
    use subgpt_testkit::gradcheck::{assert_close, gradient, weighted, wide};
    use subgpt_testkit::{noise::Noise, rows as naive};

    const KINDS: [(Gelu, fn(f64) -> f64); 2] = [(Gelu::Erf, naive::gelu_erf), (Gelu::Tanh, naive::gelu_tanh)];

    fn forward(kind: Gelu, x: &[f32]) -> Vec<f32> {
        let mut y = vec![f32::NAN; x.len()];
        gelu(kind, x, &mut y).unwrap();
        y
    }

    /// The backward pass both ways, which must agree.
    fn backward(kind: Gelu, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let (mut dx, mut inplace) = (vec![f32::NAN; x.len()], dy.to_vec());
        gelu_backward(kind, x, dy, &mut dx).unwrap();
        gelu_backward_inplace(kind, x, &mut inplace).unwrap();
        assert!(dx.iter().zip(&inplace).all(|(a, b)| a.to_bits() == b.to_bits()));
        dx
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn forward_and_backward_are_the_formula_and_its_gradient(n in 1usize..70, seed: u64, std in 0.1f64..8.0) {
            let mut noise = Noise::new(seed);
            let (x, dy) = (noise.normal(n, std), noise.normal(n, 1.0));
            for (kind, exact) in KINDS {
                let all = |x: &[f64]| x.iter().map(|&v| exact(v)).collect::<Vec<f64>>();
                let dx = gradient(&wide(&x), |x| weighted(&all(x), &dy));
                on_each_isa(|| {
                    assert_close("y", &forward(kind, &x), &all(&wide(&x)), 4e-7);
                    assert_close("dx", &backward(kind, &x, &dy), &dx, 2e-6);
                });
            }
        }
    }

    #[test]
    fn each_element_is_right_over_the_whole_range() {
        let x: Vec<f32> = (-60_000..60_000).map(|i| i as f32 * 2.5e-4).collect();
        for (kind, exact) in KINDS {
            on_each_isa(|| {
                for (&x, y) in x.iter().zip(forward(kind, &x)) {
                    let error = (f64::from(y) - exact(f64::from(x))).abs();
                    assert!(error <= 3e-7 * f64::from(x.abs()) + 1e-12, "{kind:?} of {x} is off by {error}");
                }
            });
        }
    }

    #[test]
    fn edges_are_the_limits() {
        for (kind, _) in KINDS {
            on_each_isa(|| {
                let x = [0.0, -0.0, 1e-40, 1e4, -1e4, 1e30, -1e30, f32::MAX, f32::MIN, f32::INFINITY, f32::NAN];
                let y = forward(kind, &x);
                assert!(y[..10].iter().zip(&x).all(|(y, x)| *y == x.max(0.0) || (*x == 1e-40 && *y > 0.0)), "{y:?}");
                let slope = backward(kind, &x, &[1.0; 11]);
                assert_eq!(slope[3..10], [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
                assert!(slope[0] == 0.5 && slope[1] == 0.5 && y[10].is_nan() && slope[10].is_nan());
            });
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let mut noise = Noise::new(9);
        let (x, dy) = (noise.normal(50_003, 3.0), noise.normal(50_003, 1.0));
        for (kind, _) in KINDS {
            assert_same_bits(|| [forward(kind, &x), backward(kind, &x, &dy)].concat());
        }
    }

    #[test]
    fn wrong_lengths_are_errors() {
        let (x, mut y) = ([0.0; 3], [0.0; 2]);
        assert!(gelu(Gelu::Erf, &x, &mut y).is_err());
        assert!(gelu_backward(Gelu::Erf, &x, &[0.0; 2], &mut [0.0; 3]).is_err());
        assert!(gelu_backward(Gelu::Erf, &x, &x, &mut y).is_err());
        assert!(gelu_backward_inplace(Gelu::Tanh, &x, &mut y).is_err());
        gelu(Gelu::Tanh, &[], &mut []).unwrap();
    }
}
