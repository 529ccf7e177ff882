//! Sixteen floats in two AVX2 registers.

use super::lane::{LANES, Simd};
use core::arch::x86_64::*;

/// Proof that the processor has AVX2 and FMA; made by [`super::dispatch`] alone.
#[derive(Clone, Copy)]
pub struct Avx2(pub(super) ());

/// The lower and the upper eight floats.
type Pair = [__m256; 2];

impl Simd for Avx2 {
    type V = Pair;
    type M = Pair;

    #[inline(always)]
    fn splat(self, x: f32) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Pair {
        // SAFETY: `self` proves AVX2; both halves of the array are eight floats long.
        unsafe { [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))] }
    }
    #[inline(always)]
    fn store(self, out: &mut [f32; LANES], v: Pair) {
        // SAFETY: `self` proves AVX2; both halves of the array are eight floats long.
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), v[1]);
        }
    }
    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn sub(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn div(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn max(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn min(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn fma(self, a: Pair, b: Pair, c: Pair) -> Pair {
        // SAFETY: `self` proves AVX2 and FMA.
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    fn sqrt(self, a: Pair) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe { a.map(|x| _mm256_sqrt_ps(x)) }
    }
    #[inline(always)]
    fn abs(self, a: Pair) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe { a.map(|x| _mm256_andnot_ps(_mm256_set1_ps(-0.0), x)) }
    }
    #[inline(always)]
    fn copysign(self, magnitude: Pair, sign: Pair) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let bit = _mm256_set1_ps(-0.0);
            [0, 1].map(|i| _mm256_or_ps(magnitude[i], _mm256_and_ps(sign[i], bit)))
        }
    }
    #[inline(always)]
    fn round(self, a: Pair) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe { a.map(|x| _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x)) }
    }
    #[inline(always)]
    fn exp2i(self, n: Pair) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe {
            n.map(|n| {
                let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
            })
        }
    }
    #[inline(always)]
    fn lt(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe { [0, 1].map(|i| _mm256_cmp_ps::<_CMP_LT_OQ>(a[i], b[i])) }
    }
    #[inline(always)]
    fn select(self, m: Pair, a: Pair, b: Pair) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe { [0, 1].map(|i| _mm256_blendv_ps(b[i], a[i], m[i])) }
    }
}
