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
    type W = [__m256i; 2];

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
        unsafe { [_mm256_sqrt_ps(a[0]), _mm256_sqrt_ps(a[1])] }
    }
    #[inline(always)]
    fn abs(self, a: Pair) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, a[0]), _mm256_andnot_ps(sign, a[1])]
        }
    }
    #[inline(always)]
    fn copysign(self, magnitude: Pair, sign: Pair) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let bit = _mm256_set1_ps(-0.0);
            [
                _mm256_or_ps(magnitude[0], _mm256_and_ps(sign[0], bit)),
                _mm256_or_ps(magnitude[1], _mm256_and_ps(sign[1], bit)),
            ]
        }
    }
    #[inline(always)]
    fn round(self, a: Pair) -> Pair {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_round_ps::<NEAREST>(a[0]), _mm256_round_ps::<NEAREST>(a[1])] }
    }
    #[inline(always)]
    fn exp2i(self, n: Pair) -> Pair {
        self.add_exponent(self.splat(1.0), n)
    }
    #[inline(always)]
    fn add_exponent(self, a: Pair, n: Pair) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let low = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n[0]));
            let high = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n[1]));
            [
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a[0]), low)),
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a[1]), high)),
            ]
        }
    }
    #[inline(always)]
    fn lt(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0]), _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1])] }
    }
    #[inline(always)]
    fn select(self, m: Pair, a: Pair, b: Pair) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_blendv_ps(b[0], a[0], m[0]), _mm256_blendv_ps(b[1], a[1], m[1])] }
    }
    #[inline(always)]
    fn reduce_add(self, v: Pair) -> f32 {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let eight = _mm256_add_ps(v[0], v[1]);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn reduce_max(self, v: Pair) -> f32 {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let eight = _mm256_max_ps(v[0], v[1]);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn wide_splat(self, x: u64) -> Self::W {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_set1_epi64x(x as i64); 2] }
    }
    #[inline(always)]
    fn wide_count(self, x: u64) -> Self::W {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let x = _mm256_set1_epi64x(x as i64);
            [_mm256_add_epi64(x, _mm256_set_epi64x(3, 2, 1, 0)), _mm256_add_epi64(x, _mm256_set_epi64x(7, 6, 5, 4))]
        }
    }
    #[inline(always)]
    fn wide_mul(self, a: Self::W, b: Self::W) -> Self::W {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_mul_epu32(a[0], b[0]), _mm256_mul_epu32(a[1], b[1])] }
    }
    #[inline(always)]
    fn wide_xor(self, a: Self::W, b: Self::W) -> Self::W {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_xor_si256(a[0], b[0]), _mm256_xor_si256(a[1], b[1])] }
    }
    #[inline(always)]
    fn wide_high(self, a: Self::W) -> Self::W {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_srli_epi64::<32>(a[0]), _mm256_srli_epi64::<32>(a[1])] }
    }
    #[inline(always)]
    fn wide_join(self, a: Self::W, b: Self::W) -> Self::W {
        // SAFETY: `self` proves AVX2.
        unsafe {
            [
                _mm256_blend_epi32::<0xAA>(a[0], _mm256_slli_epi64::<32>(b[0])),
                _mm256_blend_epi32::<0xAA>(a[1], _mm256_slli_epi64::<32>(b[1])),
            ]
        }
    }
    #[inline(always)]
    fn wide_interleave(self, a: Self::W, b: Self::W) -> [Self::W; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let (l0, h0) = (_mm256_unpacklo_epi64(a[0], b[0]), _mm256_unpackhi_epi64(a[0], b[0]));
            let (l1, h1) = (_mm256_unpacklo_epi64(a[1], b[1]), _mm256_unpackhi_epi64(a[1], b[1]));
            [
                [_mm256_permute2x128_si256::<0x20>(l0, h0), _mm256_permute2x128_si256::<0x31>(l0, h0)],
                [_mm256_permute2x128_si256::<0x20>(l1, h1), _mm256_permute2x128_si256::<0x31>(l1, h1)],
            ]
        }
    }
    #[inline(always)]
    fn wide_at_least(self, a: Self::W, threshold: u32) -> Pair {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let t = _mm256_set1_epi32(threshold as i32);
            [
                _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_max_epu32(a[0], t), a[0])),
                _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_max_epu32(a[1], t), a[1])),
            ]
        }
    }
}
