//! 64 bytes in one AVX-512 register or two AVX2 ones.

use super::masks::{Ascii, Classify, WINDOW};
use core::arch::x86_64::*;

/// Proof that the processor has AVX-512 F and BW; made by [`super::Scanner`] alone.
#[derive(Clone, Copy)]
pub struct Avx512(pub(super) ());

/// Proof that the processor has AVX2; made by [`super::Scanner`] alone.
#[derive(Clone, Copy)]
pub struct Avx2(pub(super) ());

impl Classify for Avx512 {
    #[inline(always)]
    fn followers(self, block: &[u8; WINDOW]) -> u64 {
        // SAFETY: `self` proves AVX-512 F and BW; the load reads the 64 bytes of `block`.
        unsafe {
            // As signed numbers they are the smallest: -128 to -65.
            let bytes = _mm512_loadu_si512(block.as_ptr().cast());
            _mm512_cmplt_epi8_mask(bytes, _mm512_set1_epi8(-64))
        }
    }

    #[inline(always)]
    fn equal(self, block: &[u8; WINDOW], byte: u8) -> u64 {
        // SAFETY: as above.
        unsafe {
            let bytes = _mm512_loadu_si512(block.as_ptr().cast());
            _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(byte as i8))
        }
    }

    #[inline(always)]
    fn ascii(self, block: &[u8; WINDOW]) -> Ascii {
        // SAFETY: `self` proves AVX-512 F and BW; the load reads the 64 bytes of `block`.
        unsafe {
            let bytes = _mm512_loadu_si512(block.as_ptr().cast());
            let is = |byte: u8| _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(byte as i8));
            let within = |first: u8, count: u8| {
                let from = _mm512_sub_epi8(bytes, _mm512_set1_epi8(first as i8));
                _mm512_cmplt_epu8_mask(from, _mm512_set1_epi8(count as i8))
            };
            let blank = is(b' ');
            Ascii {
                upper: within(b'A', 26),
                lower: within(b'a', 26),
                number: within(b'0', 10),
                space: blank | within(9, 5),
                newline: is(b'\n') | is(b'\r'),
                blank,
                apostrophe: is(b'\''),
                slash: is(b'/'),
                high: _mm512_movepi8_mask(bytes),
            }
        }
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

impl Classify for Avx2 {
    #[inline(always)]
    fn followers(self, block: &[u8; WINDOW]) -> u64 {
        let (low, high) = block.split_at(WINDOW / 2);
        // SAFETY: `self` proves AVX2; each load reads the 32 bytes of its half.
        let [low, high] = unsafe {
            [low, high].map(|half| {
                let bytes = _mm256_loadu_si256(half.as_ptr().cast());
                _mm256_movemask_epi8(_mm256_cmpgt_epi8(_mm256_set1_epi8(-64), bytes)) as u32
            })
        };
        u64::from(low) | u64::from(high) << 32
    }

    #[inline(always)]
    fn equal(self, block: &[u8; WINDOW], byte: u8) -> u64 {
        let (low, high) = block.split_at(WINDOW / 2);
        // SAFETY: as above.
        let [low, high] = unsafe {
            [low, high].map(|half| {
                let bytes = _mm256_loadu_si256(half.as_ptr().cast());
                _mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte as i8))) as u32
            })
        };
        u64::from(low) | u64::from(high) << 32
    }

    #[inline(always)]
    fn ascii(self, block: &[u8; WINDOW]) -> Ascii {
        let (low, high) = block.split_at(WINDOW / 2);
        // SAFETY: `self` proves AVX2; each load reads the 32 bytes of its half.
        let halves = unsafe {
            [low, high].map(|half| {
                let bytes = _mm256_loadu_si256(half.as_ptr().cast());
                let mask = |found: __m256i| u64::from(_mm256_movemask_epi8(found) as u32);
                let is = |byte: u8| mask(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte as i8)));
                let within = |first: u8, count: u8| {
                    let from = _mm256_sub_epi8(bytes, _mm256_set1_epi8(first as i8));
                    let least = _mm256_min_epu8(from, _mm256_set1_epi8(count as i8 - 1));
                    mask(_mm256_cmpeq_epi8(from, least))
                };
                let blank = is(b' ');
                Ascii {
                    upper: within(b'A', 26),
                    lower: within(b'a', 26),
                    number: within(b'0', 10),
                    space: blank | within(9, 5),
                    newline: is(b'\n') | is(b'\r'),
                    blank,
                    apostrophe: is(b'\''),
                    slash: is(b'/'),
                    high: mask(bytes),
                }
            })
        };
        let [a, b] = halves;
        Ascii {
            upper: a.upper | b.upper << 32,
            lower: a.lower | b.lower << 32,
            number: a.number | b.number << 32,
            space: a.space | b.space << 32,
            newline: a.newline | b.newline << 32,
            blank: a.blank | b.blank << 32,
            apostrophe: a.apostrophe | b.apostrophe << 32,
            slash: a.slash | b.slash << 32,
            high: a.high | b.high << 32,
        }
    }
}
