//! Sixteen floats in one AVX-512 register.

use super::lane::{LANES, Simd};
use core::arch::x86_64::*;
use half::bf16;

/// Proof that the processor has AVX-512 F, BW, DQ and VL, and AVX512-BF16 if `BF16`; made by [`super::dispatch`] alone.
#[derive(Clone, Copy)]
pub struct Avx512<const BF16: bool>(pub(super) ());

/// The lanes rounded to bfloat16, in the upper halves of 32-bit lanes; what is below is left over. For processors with
/// AVX-512 F.
#[inline]
#[target_feature(enable = "avx512f")]
fn round_high(v: __m512) -> __m512i {
    let bits = _mm512_castps_si512(v);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    let magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFF_FFFF));
    let nan = _mm512_cmpgt_epu32_mask(magnitude, _mm512_set1_epi32(0x7F80_0000));
    let small = _mm512_cmplt_epu32_mask(magnitude, _mm512_set1_epi32(0x0080_0000));
    let rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x0040_0000));
    _mm512_mask_and_epi32(rounded, small, bits, _mm512_set1_epi32(i32::MIN))
}

/// The first `len` lanes.
#[inline(always)]
fn tail_mask(len: usize) -> __mmask16 {
    ((1u32 << len.min(LANES)) - 1) as __mmask16
}

impl<const BF16: bool> Avx512<BF16> {
    /// The lanes rounded to bfloat16.
    #[inline(always)]
    fn half(self, v: __m512) -> __m256i {
        // SAFETY: `self` proves AVX-512, and AVX512-BF16 where it is used.
        unsafe {
            if BF16 {
                std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v))
            } else {
                _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(round_high(v)))
            }
        }
    }
}

impl<const BF16: bool> Simd for Avx512<BF16> {
    type V = __m512;
    type M = __mmask16;
    type P = __m512i;
    type W = __m512i;

    const WIDE: bool = true;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> __m512 {
        // SAFETY: `self` proves AVX-512; the array is sixteen floats long.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, out: &mut [f32; LANES], v: __m512) {
        // SAFETY: `self` proves AVX-512; the array is sixteen floats long.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn load_tail(self, x: &[f32], fill: f32) -> __m512 {
        let mask = tail_mask(x.len());
        // SAFETY: `self` proves AVX-512; only the floats under the mask are read.
        unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), mask, x.as_ptr()) }
    }
    #[inline(always)]
    fn store_tail(self, out: &mut [f32], v: __m512) {
        let mask = tail_mask(out.len());
        // SAFETY: `self` proves AVX-512; only the floats under the mask are written.
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, v) }
    }
    #[inline(always)]
    fn load_half(self, x: &[bf16; LANES]) -> __m512 {
        // SAFETY: `self` proves AVX-512; the array is 32 bytes long.
        unsafe {
            let half = _mm256_loadu_si256(x.as_ptr().cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)))
        }
    }
    #[inline(always)]
    fn store_half(self, out: &mut [bf16; LANES], v: __m512) {
        // SAFETY: `self` proves AVX-512; the array is 32 bytes long.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), self.half(v)) }
    }
    #[inline(always)]
    fn load_half_tail(self, x: &[bf16], fill: bf16) -> __m512 {
        let mask = tail_mask(x.len());
        // SAFETY: `self` proves AVX-512; only the numbers under the mask are read.
        unsafe {
            let fill = _mm256_set1_epi16(fill.to_bits() as i16);
            let half = _mm256_mask_loadu_epi16(fill, mask, x.as_ptr().cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)))
        }
    }
    #[inline(always)]
    fn store_half_tail(self, out: &mut [bf16], v: __m512) {
        if BF16 {
            let mask = tail_mask(out.len());
            // SAFETY: `self` proves AVX-512; only the numbers under the mask are written.
            return unsafe { _mm256_mask_storeu_epi16(out.as_mut_ptr().cast(), mask, self.half(v)) };
        }
        // LLVM 22 fuses the emulated rounding and the masked store into one narrowing store that writes zeros instead of
        // the numbers; so they go through memory.
        let mut lanes = [bf16::ZERO; LANES];
        self.store_half(&mut lanes, v);
        let n = out.len().min(LANES);
        out[..n].copy_from_slice(&lanes[..n]);
    }
    #[inline(always)]
    fn load_pairs(self, x: &[u32; LANES]) -> __m512i {
        // SAFETY: `self` proves AVX-512; the array is 64 bytes long.
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store_pairs(self, out: &mut [u32; LANES], p: __m512i) {
        // SAFETY: `self` proves AVX-512; the array is 64 bytes long.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), p) }
    }
    #[inline(always)]
    fn splat_pair(self, x: u32) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_set1_epi32(x as i32) }
    }
    #[inline(always)]
    fn round_pairs(self, first: __m512, second: __m512) -> __m512i {
        // SAFETY: `self` proves AVX-512, and AVX512-BF16 where it is used.
        unsafe {
            if BF16 {
                let first = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(first));
                let second = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(second));
                let second = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(second));
                return _mm512_or_si512(_mm512_cvtepu16_epi32(first), second);
            }
            _mm512_mask_blend_epi16(0xAAAA_AAAA, _mm512_srli_epi32::<16>(round_high(first)), round_high(second))
        }
    }
    #[inline(always)]
    fn halves(self, p: __m512i) -> [__m512; 2] {
        // SAFETY: `self` proves AVX-512.
        unsafe {
            let second = _mm512_and_si512(p, _mm512_set1_epi32(0xFFFF_0000_u32 as i32));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(p)), _mm512_castsi512_ps(second)]
        }
    }
    #[inline(always)]
    fn dot(self, a: __m512i, b: __m512i, acc: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512, and AVX512-BF16 where it is used.
        unsafe {
            if BF16 {
                let a = std::mem::transmute::<__m512i, __m512bh>(a);
                return _mm512_dpbf16_ps(acc, a, std::mem::transmute::<__m512i, __m512bh>(b));
            }
            let high = _mm512_set1_epi32(0xFFFF_0000_u32 as i32);
            let second = _mm512_fmadd_ps(
                _mm512_castsi512_ps(_mm512_and_si512(a, high)),
                _mm512_castsi512_ps(_mm512_and_si512(b, high)),
                acc,
            );
            let [a, b] = [_mm512_slli_epi32::<16>(a), _mm512_slli_epi32::<16>(b)];
            _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), second)
        }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    fn copysign(self, magnitude: __m512, sign: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_or_ps(magnitude, _mm512_and_ps(sign, _mm512_set1_ps(-0.0))) }
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn exp2i(self, n: __m512) -> __m512 {
        self.add_exponent(self.splat(1.0), n)
    }
    #[inline(always)]
    fn add_exponent(self, a: __m512, n: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe {
            let n = _mm512_slli_epi32::<23>(_mm512_cvtps_epi32(n));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), n))
        }
    }
    #[inline(always)]
    fn lt(self, a: __m512, b: __m512) -> __mmask16 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b) }
    }
    #[inline(always)]
    fn select(self, m: __mmask16, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_mask_blend_ps(m, b, a) }
    }
    #[inline(always)]
    fn reduce_add(self, v: __m512) -> f32 {
        // SAFETY: `self` proves AVX-512 and AVX2.
        unsafe {
            let eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn reduce_max(self, v: __m512) -> f32 {
        // SAFETY: `self` proves AVX-512 and AVX2.
        unsafe {
            let eight = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn wide_splat(self, x: u64) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_set1_epi64(x as i64) }
    }
    #[inline(always)]
    fn wide_count(self, x: u64) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_add_epi64(_mm512_set1_epi64(x as i64), _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0)) }
    }
    #[inline(always)]
    fn wide_mul(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_mul_epu32(a, b) }
    }
    #[inline(always)]
    fn wide_xor(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_xor_si512(a, b) }
    }
    #[inline(always)]
    fn wide_high(self, a: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_srli_epi64::<32>(a) }
    }
    #[inline(always)]
    fn wide_join(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_mask_blend_epi32(0xAAAA, a, _mm512_slli_epi64::<32>(b)) }
    }
    #[inline(always)]
    fn wide_interleave(self, a: __m512i, b: __m512i) -> [__m512i; 2] {
        // SAFETY: `self` proves AVX-512.
        unsafe {
            let (low, high) =
                (_mm512_set_epi64(11, 3, 10, 2, 9, 1, 8, 0), _mm512_set_epi64(15, 7, 14, 6, 13, 5, 12, 4));
            [_mm512_permutex2var_epi64(a, low, b), _mm512_permutex2var_epi64(a, high, b)]
        }
    }
    #[inline(always)]
    fn wide_at_least(self, a: __m512i, threshold: u32) -> __mmask16 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_cmpge_epu32_mask(a, _mm512_set1_epi32(threshold as i32)) }
    }
}
