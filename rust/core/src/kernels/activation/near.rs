//! GELU for results that are rounded to bfloat16: within some 1e-5 of `x` times a probability, at a third of the cost.
//!
//! The part of a normal distribution below `x`, and its approximation by tanh, are `1/2` plus an odd function: a polynomial
//! within 4.2, where it is 1.4e-5 from its limit, and the limit beyond. Coefficients by iteratively reweighted least
//! squares, which ends in a minimax fit: both are within 1e-5 where they are used.

use super::DENSITY;
use crate::simd::{Simd, math};

/// Where the polynomials end.
const END: f32 = 4.2;

/// Of `x`, `x^3`, .. for `(1 + erf(x / sqrt 2)) / 2 - 1/2`, the last first.
const NORMAL: [f32; 9] = [
    5.998_047e-11,
    -5.633_302_3e-9,
    2.343_669_6e-7,
    -5.760_762e-6,
    9.457_434e-5,
    -1.114_147_7e-3,
    9.830_129e-3,
    -6.636_037e-2,
    0.398_907_42,
];

/// The same for `(1 + tanh u) / 2 - 1/2`.
const TANH: [f32; 9] = [
    7.183_987e-11,
    -6.647_983e-9,
    2.710_558_2e-7,
    -6.487_225_6e-6,
    1.030_683_8e-4,
    -1.172_476_4e-3,
    1.004_426_5e-2,
    -6.666_674e-2,
    0.398_899_38,
];

/// `1/2` plus an odd function.
#[inline(always)]
fn part<S: Simd>(s: S, x: S::V, coefficients: [f32; 9]) -> S::V {
    let square = s.mul(x, x);
    let mut p = s.splat(coefficients[0]);
    for i in 1..9 {
        p = s.fma(p, square, s.splat(coefficients[i]));
    }
    let half = s.splat(0.5);
    // The comparison is false for NaN, which the callers' products with `x` bring back.
    let odd = s.select(s.lt(s.abs(x), s.splat(END)), s.mul(p, x), s.copysign(half, x));
    s.add(odd, half)
}

/// The part of a normal distribution below `x`.
#[inline(always)]
pub(super) fn normal_below<S: Simd>(s: S, x: S::V) -> S::V {
    part(s, x, NORMAL)
}

/// `(1 + tanh u) / 2`
#[inline(always)]
pub(super) fn sigmoid_2u<S: Simd>(s: S, x: S::V) -> S::V {
    part(s, x, TANH)
}

/// GELU'(x) without its first term, `x e^(-x^2 / 2) / sqrt(2 pi)`: a polynomial of degree 4 for the power of two.
#[inline(always)]
pub(super) fn bend<S: Simd>(s: S, x: S::V) -> S::V {
    // Beyond 12 the density is below 1e-32.
    let t = s.max(s.splat(-12.0), s.min(s.splat(12.0), x));
    s.mul(
        s.mul(t, s.splat(DENSITY)),
        math::exp2_rounded(s, s.mul(s.mul(t, t), s.splat(-0.5 * std::f32::consts::LOG2_E))),
    )
}
