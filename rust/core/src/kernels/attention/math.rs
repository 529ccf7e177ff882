//! Powers of two and the tanh of the soft cap: exponentials are taken to base 2 throughout.

use crate::simd::Simd;

/// `2^x` for `x` up to about 100, within 2 ulp; 0 below -126.5; NaN stays NaN.
///
/// `2^x = 2^n 2^r` with a minimax polynomial of degree 5 for `2^r` on `[-1/2, 1/2]` (relative error 9e-8), exact at 0.
#[inline(always)]
#[allow(clippy::approx_constant)] // 0.693147 is the minimax coefficient, which is not ln 2
pub(super) fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
    power(s, x, [0.001_326_472_8, 0.009_671_513, 0.055_507_337, 0.240_222_42, 0.693_147, 1.0])
}

/// [`exp2`] with a relative error of 3e-6 (degree 4): a thousandth of what rounding the result to bfloat16 adds, and little
/// enough for the log-sum-exp.
#[inline(always)]
#[allow(clippy::approx_constant)]
pub(super) fn exp2_rounded<S: Simd>(s: S, x: S::V) -> S::V {
    power(s, x, [0.009_582_855, 0.055_906_422, 0.240_240_99, 0.693_124_2, 1.0])
}

/// `2^x` by a polynomial for the fraction. The exponent -127 is biased to 0, whose bits are the number 0: underflow needs
/// no select.
#[inline(always)]
fn power<S: Simd, const N: usize>(s: S, x: S::V, polynomial: [f32; N]) -> S::V {
    let x = s.max(s.splat(-127.0), x);
    let n = s.round(x);
    let r = s.sub(x, n);
    let mut p = s.splat(polynomial[0]);
    for c in &polynomial[1..] {
        p = s.fma(p, r, s.splat(*c));
    }
    s.mul(p, s.exp2i(n))
}

/// `tanh(x)` within 3 ulp: an odd polynomial near zero (Cephes), `1 - 2 / (e^2x + 1)` elsewhere.
#[inline(always)]
pub(super) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let a = s.abs(x);
    let e = exp2(s, s.mul(s.min(s.splat(10.0), a), s.splat(2.0 * std::f32::consts::LOG2_E)));
    let far = s.copysign(s.sub(s.splat(1.0), s.div(s.splat(2.0), s.add(e, s.splat(1.0)))), x);
    let z = s.mul(x, x);
    let mut p = s.splat(-5.704_988_7e-3);
    for c in [2.063_909e-2, -5.373_971_4e-2, 1.333_144_2e-1, -3.333_328e-1] {
        p = s.fma(p, z, s.splat(c));
    }
    let near = s.fma(s.mul(p, z), x, x);
    s.select(s.lt(a, s.splat(0.625)), near, far)
}
