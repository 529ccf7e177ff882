//! The tanh of the soft cap, and powers of two: exponentials are taken to base 2 throughout.

use crate::simd::Simd;
pub(super) use crate::simd::math::{exp2, exp2_rounded};

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
