//! The activations of an MLP: GELU, exact and in its tanh form, the squared ReLU, and SiLU.
//!
//! ```text
//! Gelu:     y = x * P,  P = (1 + erf(x / sqrt 2)) / 2          dy/dx = P + x * e^(-x^2 / 2) / sqrt(2 pi)
//! GeluTanh: y = x * S,  S = sigmoid(2 u) = (1 + tanh u) / 2    dy/dx = S + x * S * (1 - S) * 2 u'
//!           u = sqrt(2 / pi) * (x + 0.044715 x^3)
//! Relu2:    y = max(x, 0)^2                                    dy/dx = 2 max(x, 0)
//! Silu:     y = x * S,  S = sigmoid x                          dy/dx = S * (1 + x * (1 - S))
//! ```
//!
//! Vectors ([`Activation::value`], for epilogues of products) and slices of any length. The tanh form is computed as a
//! sigmoid: one exponential and one division, and no cancellation for large negative `x`. Results that are rounded to
//! bfloat16 need less ([`near`]).
//!
//! Hendrycks, Gimpel: "Gaussian error linear units", 2016; So et al.: "Primer", 2021; `torch.nn.functional.gelu` with
//! `approximate` "none" and "tanh".

mod near;

use super::{check, rows};
use crate::error::Result;
use crate::simd::{Element, Kernel, LANES, Simd, dispatch, isa, math};
use std::f32::consts::FRAC_1_SQRT_2;

/// Which activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// GELU by the error function.
    Gelu,
    /// GELU by its approximation with tanh (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
    /// The square of the positive part.
    Relu2,
    /// `x` times its sigmoid.
    Silu,
}

/// `sqrt(8 / pi)`: twice the factor in `u`.
const TWO_SQRT_2_OVER_PI: f32 = 1.595_769_2;
const CUBE: f32 = 0.044_715;
/// `1 / sqrt(2 pi)`
const DENSITY: f32 = 0.398_942_3;

impl Activation {
    /// `f(x)`, exact enough for results of type `E`.
    #[inline(always)]
    pub fn value<E: Element, S: Simd>(self, s: S, x: S::V) -> S::V {
        match self {
            Activation::Gelu => s.mul(x, normal_below::<E, S>(s, x)),
            Activation::GeluTanh => s.mul(x, sigmoid_2u::<E, S>(s, x)),
            Activation::Relu2 => {
                let positive = positive(s, x);
                s.mul(positive, positive)
            }
            Activation::Silu => s.mul(x, math::sigmoid(s, x)),
        }
    }

    /// `f(x)` with the bits of [`Activation::value`], and `f'(x)`; what both need is computed once.
    #[inline(always)]
    pub fn value_and_slope<E: Element, S: Simd>(self, s: S, x: S::V) -> (S::V, S::V) {
        match self {
            Activation::Gelu => {
                let part = normal_below::<E, S>(s, x);
                let bend = if E::HALF { near::bend(s, x) } else { bend(s, x) };
                (s.mul(x, part), s.add(bend, part))
            }
            Activation::GeluTanh => {
                let (part, x1) = (sigmoid_2u::<E, S>(s, x), bounded(s, x));
                let twice_du =
                    s.fma(s.mul(x1, x1), s.splat(3.0 * CUBE * TWO_SQRT_2_OVER_PI), s.splat(TWO_SQRT_2_OVER_PI));
                // part * (1 - part) is exactly 0 where x^3 is huge.
                let bend = s.mul(part, s.sub(s.splat(1.0), part));
                (s.mul(x, part), s.fma(s.mul(x1, twice_du), bend, part))
            }
            Activation::Relu2 => {
                let positive = positive(s, x);
                (s.mul(positive, positive), s.add(positive, positive))
            }
            Activation::Silu => {
                let part = math::sigmoid(s, x);
                let value = s.mul(x, part);
                // S + x S (1 - S), which stays 0 where S is 0, however large x is.
                (value, s.fma(value, s.sub(s.splat(1.0), part), part))
            }
        }
    }
}

/// `max(x, 0)`; NaN stays NaN.
#[inline(always)]
fn positive<S: Simd>(s: S, x: S::V) -> S::V {
    s.max(s.splat(0.0), x)
}

/// `x` within +-1e4: beyond, the slope of GELU is 0 or 1, and `x^2` would overflow against an exponential that is 0. NaN
/// passes through.
#[inline(always)]
fn bounded<S: Simd>(s: S, x: S::V) -> S::V {
    s.max(s.splat(-1e4), s.min(s.splat(1e4), x))
}

/// The part of a normal distribution below `x`: `(1 + erf(x / sqrt 2)) / 2`.
#[inline(always)]
fn normal_below<E: Element, S: Simd>(s: S, x: S::V) -> S::V {
    if E::HALF {
        return near::normal_below(s, x);
    }
    let half = s.splat(0.5);
    s.fma(math::erf(s, s.mul(x, s.splat(FRAC_1_SQRT_2))), half, half)
}

/// `x e^(-x^2 / 2) / sqrt(2 pi)`: what the slope has beyond that part.
#[inline(always)]
fn bend<S: Simd>(s: S, x: S::V) -> S::V {
    let x = bounded(s, x);
    s.mul(s.mul(x, s.splat(DENSITY)), math::exp(s, s.mul(s.mul(x, x), s.splat(-0.5))))
}

/// `sigmoid(2 u)`
#[inline(always)]
fn sigmoid_2u<E: Element, S: Simd>(s: S, x: S::V) -> S::V {
    if E::HALF {
        return near::sigmoid_2u(s, x);
    }
    let cubic = s.fma(s.mul(x, x), s.splat(CUBE), s.splat(1.0));
    math::sigmoid(s, s.mul(s.mul(x, s.splat(TWO_SQRT_2_OVER_PI)), cubic))
}

/// `y = f(x)`
pub fn activation<E: Element>(kind: Activation, x: &[E], y: &mut [E]) -> Result<()> {
    check::len("activation", "y", y.len(), x.len())?;
    let isa = isa::current();
    let parts = y.chunks_mut(rows::TASK).zip(x.chunks(rows::TASK));
    rows::each(x.len(), parts, |_, (y, x)| dispatch(isa, Forward { kind, x, y }));
    Ok(())
}

/// `dx = dy * f'(x)`
pub fn activation_backward<E: Element>(kind: Activation, x: &[E], dy: &[E], dx: &mut [E]) -> Result<()> {
    check::len("activation_backward", "dy", dy.len(), x.len())?;
    check::len("activation_backward", "dx", dx.len(), x.len())?;
    let isa = isa::current();
    let parts = dx.chunks_mut(rows::TASK).zip(x.chunks(rows::TASK)).zip(dy.chunks(rows::TASK));
    rows::each(x.len(), parts, |_, ((dx, x), dy)| dispatch(isa, Backward { kind, x, dy, dx }));
    Ok(())
}

struct Forward<'a, E> {
    kind: Activation,
    x: &'a [E],
    y: &'a mut [E],
}

impl<E: Element> Kernel for Forward<'_, E> {
    type Output = ();
    const BF16: bool = E::HALF;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (0..self.x.len()).step_by(LANES) {
            let y = self.kind.value::<E, S>(s, E::load_at(s, self.x, at, 0.0));
            E::store_at(s, self.y, at, y);
        }
    }
}

struct Backward<'a, E> {
    kind: Activation,
    x: &'a [E],
    dy: &'a [E],
    dx: &'a mut [E],
}

impl<E: Element> Kernel for Backward<'_, E> {
    type Output = ();
    const BF16: bool = E::HALF;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (0..self.x.len()).step_by(LANES) {
            let (_, slope) = self.kind.value_and_slope::<E, S>(s, E::load_at(s, self.x, at, 0.0));
            E::store_at(s, self.dx, at, s.mul(E::load_at(s, self.dy, at, 0.0), slope));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::testing::{assert_same_bits, on_each_isa};
    use super::*;
    use crate::simd::{bf16, round_to_bf16};
    use proptest::prelude::*;
    use subgpt_testkit::gradcheck::{assert_close, gradient, weighted, wide};
    use subgpt_testkit::{noise::Noise, rows as naive};

    const KINDS: [(Activation, fn(f64) -> f64); 4] = [
        (Activation::Gelu, naive::gelu_erf),
        (Activation::GeluTanh, naive::gelu_tanh),
        (Activation::Relu2, |x| x.max(0.0) * x.max(0.0)),
        (Activation::Silu, naive::silu),
    ];

    fn forward(kind: Activation, x: &[f32]) -> Vec<f32> {
        let mut y = vec![f32::NAN; x.len()];
        activation(kind, x, &mut y).unwrap();
        y
    }

    fn backward(kind: Activation, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let mut dx = vec![f32::NAN; x.len()];
        activation_backward(kind, x, dy, &mut dx).unwrap();
        dx
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn forward_and_backward_are_the_formula_and_its_gradient(n in 1usize..70, seed: u64, std in 0.1f64..8.0) {
            let mut noise = Noise::new(seed);
            let (x, dy) = (noise.normal(n, std), noise.normal(n, 1.0));
            // The slope of a squared ReLU has a kink, which differences smooth; its own test is exact.
            for (kind, exact) in KINDS.into_iter().filter(|k| k.0 != Activation::Relu2) {
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
                    let size = f64::from(x.abs()).max(exact(f64::from(x)));
                    assert!(error <= 3e-7 * size + 1e-12, "{kind:?} of {x} is off by {error}");
                }
            });
        }
    }

    #[test]
    fn edges_are_the_limits() {
        for kind in [Activation::Gelu, Activation::GeluTanh] {
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
    fn edges_of_half_numbers_are_the_limits() {
        let x = [0.0, 5.0, -5.0, 1e30, -1e30, f32::INFINITY, f32::NAN].map(round_to_bf16);
        for kind in [Activation::Gelu, Activation::GeluTanh] {
            on_each_isa(|| {
                let (mut y, mut slope) = (x, x);
                activation(kind, &x, &mut y).unwrap();
                activation_backward(kind, &x, &[bf16::ONE; 7], &mut slope).unwrap();
                let [y, slope] = [y, slope].map(|x| x.map(|x| x.to_f32()));
                assert_eq!(y[..6], [0.0, 5.0, 0.0, 1e30, 0.0, f32::INFINITY].map(|x| round_to_bf16(x).to_f32()));
                assert!(slope[0] == 0.5 && slope[2].abs() < 1e-4 && slope[4].abs() < 1e-30);
                assert!([1, 3, 5].iter().all(|&i| slope[i] == 1.0));
                assert!(y[6].is_nan() && slope[6].is_nan());
            });
        }
    }

    #[test]
    fn a_squared_relu_is_exact() {
        on_each_isa(|| {
            let x = [0.0, -0.0, 3.0, -3.0, 1e30, f32::NEG_INFINITY, f32::NAN];
            let (y, slope) = (forward(Activation::Relu2, &x), backward(Activation::Relu2, &x, &[1.0; 7]));
            assert!(y[..6] == [0.0, 0.0, 9.0, 0.0, f32::INFINITY, 0.0] && y[6].is_nan());
            assert!(slope[..6] == [0.0, 0.0, 6.0, 0.0, 2e30, 0.0] && slope[6].is_nan());
        });
    }

    /// Numbers of half the width are widened, computed with, and rounded.
    #[test]
    fn half_numbers_give_the_result_within_their_own_rounding() {
        let mut noise = Noise::new(3);
        let half = |x: &[f32]| x.iter().map(|&x| round_to_bf16(x)).collect::<Vec<_>>();
        let (x, dy) = (half(&noise.normal(1003, 3.0)), half(&noise.normal(1003, 1.0)));
        let wide = |x: &[bf16]| x.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
        for (kind, _) in KINDS {
            on_each_isa(|| {
                let (mut y, mut dx) = (x.clone(), x.clone());
                activation(kind, &x, &mut y).unwrap();
                activation_backward(kind, &x, &dy, &mut dx).unwrap();
                let (exact, slopes) = (forward(kind, &wide(&x)), backward(kind, &wide(&x), &wide(&dy)));
                for i in 0..x.len() {
                    // Half of the last place, and 1.5e-5 of a probability.
                    let near = |got: bf16, want: f32, slack: f32| {
                        (got.to_f32() - want).abs() <= want.abs() / 255.0 + slack.abs() + 1e-30
                    };
                    let (size, dy) = (x[i].to_f32(), dy[i].to_f32());
                    assert!(near(y[i], exact[i], 3e-5 * size), "{kind:?} of {size}: {} {}", y[i], exact[i]);
                    // The tanh form multiplies its part by x u', some 25 where the polynomial ends.
                    assert!(near(dx[i], slopes[i], 4e-4 * dy), "slope at {size}: {} {}", dx[i], slopes[i]);
                }
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
        assert!(activation(Activation::Gelu, &x, &mut y).is_err());
        assert!(activation_backward(Activation::Gelu, &x, &[0.0; 2], &mut [0.0; 3]).is_err());
        assert!(activation_backward(Activation::Gelu, &x, &x, &mut y).is_err());
        activation::<f32>(Activation::GeluTanh, &[], &mut []).unwrap();
    }
}
