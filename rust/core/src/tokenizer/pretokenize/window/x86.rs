//! 64 bytes in one AVX-512 register or two AVX2 ones.

use super::masks::{Classify, WINDOW};
use core::arch::x86_64::*;

/// Proof that the processor has AVX-512 F and BW; made by [`super::Scanner`] alone.
#[derive(Clone, Copy)]
pub struct Avx512(pub(super) ());

/// Proof that the processor has AVX2; made by [`super::Scanner`] alone.
#[derive(Clone, Copy)]
pub struct Avx2(pub(super) ());

impl Classify for Avx512 {
    type Block = __m512i;

    #[inline(always)]
    fn load(self, block: &[u8; WINDOW]) -> __m512i {
        // SAFETY: `self` proves AVX-512 F; the load reads the 64 bytes of `block`.
        unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
    }

    #[inline(always)]
    fn within(self, block: __m512i, first: u8, count: u8) -> u64 {
        // SAFETY: `self` proves AVX-512 F and BW.
        unsafe {
            let from = _mm512_sub_epi8(block, _mm512_set1_epi8(first as i8));
            _mm512_cmplt_epu8_mask(from, _mm512_set1_epi8(count as i8))
        }
    }

    #[inline(always)]
    fn is(self, block: __m512i, byte: u8) -> u64 {
        // SAFETY: `self` proves AVX-512 F and BW.
        unsafe { _mm512_cmpeq_epi8_mask(block, _mm512_set1_epi8(byte as i8)) }
    }

    #[inline(always)]
    fn high(self, block: __m512i) -> u64 {
        // SAFETY: `self` proves AVX-512 F and BW.
        unsafe { _mm512_movepi8_mask(block) }
    }

    #[inline(always)]
    fn follows(self, block: __m512i) -> u64 {
        // As signed numbers they are the smallest: -128 to -65.
        // SAFETY: `self` proves AVX-512 F and BW.
        unsafe { _mm512_cmplt_epi8_mask(block, _mm512_set1_epi8(-64)) }
    }

    #[inline(always)]
    fn positions(self, bits: u64, base: u32, out: &mut [u32; WINDOW]) -> usize {
        let mut count = 0;
        for quarter in 0..4 {
            let mask = (bits >> (16 * quarter)) as u16;
            let room = &mut out[count.min(WINDOW - 16)..][..16];
            // SAFETY: `self` proves AVX-512 F; `room` has sixteen places.
            unsafe {
                let lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
                let all = _mm512_add_epi32(lanes, _mm512_set1_epi32((base + 16 * quarter) as i32));
                _mm512_storeu_si512(room.as_mut_ptr().cast(), _mm512_maskz_compress_epi32(mask, all));
            }
            count += mask.count_ones() as usize;
        }
        count
    }
}

// No closures here: they would be compiled for the baseline instead of AVX2, and called.
impl Avx2 {
    /// The highest bits of all bytes.
    #[inline(always)]
    fn bits(self, low: __m256i, high: __m256i) -> u64 {
        // SAFETY: `self` proves AVX2.
        let (low, high) = unsafe { (_mm256_movemask_epi8(low) as u32, _mm256_movemask_epi8(high) as u32) };
        u64::from(low) | u64::from(high) << 32
    }
}

impl Classify for Avx2 {
    type Block = (__m256i, __m256i);

    #[inline(always)]
    fn load(self, block: &[u8; WINDOW]) -> Self::Block {
        let (low, high) = block.split_at(WINDOW / 2);
        // SAFETY: `self` proves AVX2; each load reads the 32 bytes of its half.
        unsafe { (_mm256_loadu_si256(low.as_ptr().cast()), _mm256_loadu_si256(high.as_ptr().cast())) }
    }

    #[inline(always)]
    fn within(self, (low, high): Self::Block, first: u8, count: u8) -> u64 {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let (first, last) = (_mm256_set1_epi8(first as i8), _mm256_set1_epi8(count as i8 - 1));
            let (low, high) = (_mm256_sub_epi8(low, first), _mm256_sub_epi8(high, first));
            let low = _mm256_cmpeq_epi8(low, _mm256_min_epu8(low, last));
            self.bits(low, _mm256_cmpeq_epi8(high, _mm256_min_epu8(high, last)))
        }
    }

    #[inline(always)]
    fn is(self, (low, high): Self::Block, byte: u8) -> u64 {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let byte = _mm256_set1_epi8(byte as i8);
            self.bits(_mm256_cmpeq_epi8(low, byte), _mm256_cmpeq_epi8(high, byte))
        }
    }

    #[inline(always)]
    fn high(self, (low, high): Self::Block) -> u64 {
        self.bits(low, high)
    }

    #[inline(always)]
    fn follows(self, (low, high): Self::Block) -> u64 {
        // As signed numbers they are the smallest: -128 to -65.
        // SAFETY: `self` proves AVX2.
        unsafe {
            let end = _mm256_set1_epi8(-64);
            self.bits(_mm256_cmpgt_epi8(end, low), _mm256_cmpgt_epi8(end, high))
        }
    }
}
