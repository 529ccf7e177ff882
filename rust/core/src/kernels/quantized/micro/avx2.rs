//! The loops with AVX2: half a panel at a time, products of bytes added up by pairs in 16 bits and again in 32.

use super::{Micro, Tile, by_rows};
use crate::kernels::quantized::layout::{BIAS_8, BLOCK, PANEL};
use core::arch::x86_64::*;

pub const MICRO: Micro = Micro { int8: run_int8, int4: run_int4 };

/// # Safety
/// The tile must be one that [`Micro::run`] takes.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run_int8(tile: &mut Tile<'_>) {
    // SAFETY: passed on from the caller.
    unsafe { by_rows!(int8, tile) };
}

/// # Safety
/// The tile must be one that [`Micro::run`] takes.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run_int4(tile: &mut Tile<'_>) {
    // SAFETY: passed on from the caller.
    unsafe { by_rows!(int4, tile) };
}

/// # Safety
/// The tile must be one that [`Micro::run`] takes, of `M` rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn int8<const M: usize>(tile: &mut Tile<'_>) {
    // SAFETY: passed on from the caller.
    unsafe { run::<Int8, M>(tile) }
}

/// # Safety
/// As for [`int8`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn int4<const M: usize>(tile: &mut Tile<'_>) {
    // SAFETY: passed on from the caller.
    unsafe { run::<Int4, M>(tile) }
}

/// Rows of half a panel.
const HALF: usize = PANEL / 2;

/// Bytes from what is multiplied to what is fetched.
const AHEAD: usize = 1024;

/// What is done with a block of a kind of integers. The functions are `unsafe` for their instructions, which the
/// processor must have, and for their pointers.
trait Block {
    /// Bytes of a block, for one row.
    const BYTES: usize;
    /// What stored integers are larger by.
    const BIAS: i32;
    /// Adds the products of a block of half a panel with a block of each row of a plane.
    unsafe fn add<const M: usize>(block: *const u8, x: [*const i32; M], dots: &mut [__m256i; M]);
}

struct Int8;

impl Block for Int8 {
    const BYTES: usize = BLOCK;
    const BIAS: i32 = 0; // taken off by the loop

    #[inline(always)]
    unsafe fn add<const M: usize>(block: *const u8, x: [*const i32; M], dots: &mut [__m256i; M]) {
        // SAFETY: passed on from the caller.
        unsafe {
            let flip = _mm256_set1_epi8(BIAS_8 as i8);
            for g in 0..BLOCK / 4 {
                let at = block.add(g * 4 * PANEL);
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
                let w = _mm256_xor_si256(_mm256_loadu_si256(at.cast()), flip);
                // The sign goes to the other side: bytes without one meet bytes with one.
                let size = _mm256_abs_epi8(w);
                for m in 0..M {
                    dots[m] = dot(size, _mm256_sign_epi8(_mm256_set1_epi32(x[m].add(g).read_unaligned()), w), dots[m]);
                }
            }
        }
    }
}

struct Int4;

impl Block for Int4 {
    const BYTES: usize = BLOCK / 2;
    const BIAS: i32 = 8;

    #[inline(always)]
    unsafe fn add<const M: usize>(block: *const u8, x: [*const i32; M], dots: &mut [__m256i; M]) {
        // SAFETY: passed on from the caller.
        unsafe {
            let nibble = _mm256_set1_epi8(15);
            for g in 0..BLOCK / 8 {
                let at = block.add(g * 4 * PANEL);
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
                let both = _mm256_loadu_si256(at.cast());
                let low = _mm256_and_si256(both, nibble);
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(both), nibble);
                for m in 0..M {
                    dots[m] = dot(low, _mm256_set1_epi32(x[m].add(g).read_unaligned()), dots[m]);
                    dots[m] = dot(high, _mm256_set1_epi32(x[m].add(g + BLOCK / 8).read_unaligned()), dots[m]);
                }
            }
        }
    }
}

/// Four products of bytes a lane, added up: `w` has no sign, and no pair of products passes 16 bits.
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn dot(w: __m256i, x: __m256i, sum: __m256i) -> __m256i {
    // SAFETY: passed on from the caller.
    unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1))) }
}

/// # Safety
/// As for [`int8`].
#[inline(always)]
unsafe fn run<B: Block, const M: usize>(tile: &mut Tile<'_>) {
    let (x, first) = (tile.x, tile.row * tile.x.blocks);
    // SAFETY: the rows' blocks lie within the activations, each block within the panel and the scales, as was checked.
    unsafe {
        let mut planes: [[*const i32; M]; 2] = [[std::ptr::null(); M]; 2];
        for m in 0..M {
            for plane in 0..2 {
                planes[plane][m] = x.planes[plane].as_ptr().add((first + m * x.blocks) * BLOCK).cast();
            }
        }
        for half in 0..2 {
            let mut sums = [_mm256_setzero_ps(); M];
            for b in 0..x.blocks {
                let mut dots = [_mm256_setzero_si256(); M];
                for m in 0..M {
                    dots[m] = _mm256_set1_epi32(-B::BIAS * x.sums[first + m * x.blocks + b]);
                }
                let block = tile.panel.as_ptr().add(b * B::BYTES * PANEL + half * HALF * 4);
                for rows in planes {
                    B::add(block, rows.map(|row| row.add(b * (BLOCK / 4))), &mut dots);
                }
                let scales = tile.scales.as_ptr().add(b * PANEL + half * HALF);
                let scales = _mm256_cvtph_ps(_mm_loadu_si128(scales.cast()));
                for m in 0..M {
                    let scales = _mm256_mul_ps(scales, _mm256_set1_ps(x.scales[first + m * x.blocks + b]));
                    sums[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[m]), scales, sums[m]);
                }
            }
            for m in 0..M {
                _mm256_storeu_ps(tile.out[m][half * HALF..].as_mut_ptr(), sums[m]);
            }
        }
    }
}
