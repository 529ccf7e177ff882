//! Sixteen floats in two AVX2 registers.

use super::lane::{LANES, Simd};
use core::arch::x86_64::*;
use half::bf16;

/// Proof that the processor has AVX2 and FMA; made by [`super::dispatch`] alone.
#[derive(Clone, Copy)]
pub struct Avx2(pub(super) ());

/// The lower and the upper eight floats.
type Pair = [__m256; 2];

/// The lanes rounded to bfloat16, in the lower halves of 32-bit lanes. For processors with AVX2 and FMA.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn round_low(v: __m256) -> __m256i {
    let bits = _mm256_castps_si256(v);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    let magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7FFF_FFFF));
    let nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7F80_0000));
    let small = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x0080_0000), magnitude);
    let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
    let zero = _mm256_and_si256(bits, _mm256_set1_epi32(i32::MIN));
    let rounded = _mm256_blendv_epi8(_mm256_blendv_epi8(rounded, quiet, nan), zero, small);
    _mm256_srli_epi32::<16>(rounded)
}

impl Simd for Avx2 {
    type V = Pair;
    type M = Pair;
    type P = [__m256i; 2];
    type W = [__m256i; 2];

    const WIDE: bool = false;

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
    fn load_half(self, x: &[bf16; LANES]) -> Pair {
        // SAFETY: `self` proves AVX2; the array is 32 bytes long.
        unsafe {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().add(8).cast()));
            [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high))]
        }
    }
    #[inline(always)]
    fn store_half(self, out: &mut [bf16; LANES], v: Pair) {
        // SAFETY: `self` proves AVX2; the array is 32 bytes long.
        unsafe {
            // Packing works within halves of a register: the quarters come out as 0 2 1 3.
            let packed = _mm256_packus_epi32(round_low(v[0]), round_low(v[1]));
            _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(packed));
        }
    }
    #[inline(always)]
    fn load_pairs(self, x: &[u32; LANES]) -> Self::P {
        // SAFETY: `self` proves AVX2; both halves of the array are 32 bytes long.
        unsafe { [_mm256_loadu_si256(x.as_ptr().cast()), _mm256_loadu_si256(x.as_ptr().add(8).cast())] }
    }
    #[inline(always)]
    fn store_pairs(self, out: &mut [u32; LANES], p: Self::P) {
        // SAFETY: `self` proves AVX2; both halves of the array are 32 bytes long.
        unsafe {
            _mm256_storeu_si256(out.as_mut_ptr().cast(), p[0]);
            _mm256_storeu_si256(out.as_mut_ptr().add(8).cast(), p[1]);
        }
    }
    #[inline(always)]
    fn splat_pair(self, x: u32) -> Self::P {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_set1_epi32(x as i32); 2] }
    }
    #[inline(always)]
    fn round_pairs(self, first: Pair, second: Pair) -> Self::P {
        // SAFETY: `self` proves AVX2.
        unsafe {
            [
                _mm256_or_si256(round_low(first[0]), _mm256_slli_epi32::<16>(round_low(second[0]))),
                _mm256_or_si256(round_low(first[1]), _mm256_slli_epi32::<16>(round_low(second[1]))),
            ]
        }
    }
    #[inline(always)]
    fn halves(self, p: Self::P) -> [Pair; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let high = _mm256_set1_epi32(0xFFFF_0000_u32 as i32);
            [
                p.map(|p| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(p))),
                p.map(|p| _mm256_castsi256_ps(_mm256_and_si256(p, high))),
            ]
        }
    }
    #[inline(always)]
    fn dot(self, a: Self::P, b: Self::P, acc: Pair) -> Pair {
        let mut out = acc;
        for i in 0..2 {
            // SAFETY: `self` proves AVX2 and FMA.
            unsafe {
                let high = _mm256_set1_epi32(0xFFFF_0000_u32 as i32);
                let [a2, b2] = [_mm256_and_si256(a[i], high), _mm256_and_si256(b[i], high)];
                let second = _mm256_fmadd_ps(_mm256_castsi256_ps(a2), _mm256_castsi256_ps(b2), out[i]);
                let [a1, b1] = [_mm256_slli_epi32::<16>(a[i]), _mm256_slli_epi32::<16>(b[i])];
                out[i] = _mm256_fmadd_ps(_mm256_castsi256_ps(a1), _mm256_castsi256_ps(b1), second);
            }
        }
        out
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
