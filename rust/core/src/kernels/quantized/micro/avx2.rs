//! The loops with AVX2: pairs of numbers of 16 bits, whose two products are added up in 32.
//!
//! Four columns of eight rows are a vector of bytes. A mask takes the first and third of each four as numbers of 16 bits, a
//! shift the second and fourth, and a lane is a row in all of them: no number moves between lanes. A step of four rows of
//! activations is sixteen such products. Products of bytes have no room for activations of 9 bits, and two planes of them
//! took twice the instructions.

use super::{Micro, Tile};
use crate::kernels::quantized::activations::Form;
use crate::kernels::quantized::layout::{BIAS_8, BLOCK, PANEL};
use core::arch::x86_64::*;

pub const MICRO: Micro = Micro { form: Form::Words, int8, int4 };

/// The most rows of activations whose sums stay in registers.
const TOGETHER: usize = 4;

/// Bytes from what is multiplied to what is fetched.
const AHEAD: usize = 1024;

/// # Safety
/// The tile must be one that [`Micro::run`] takes.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn int8(tile: &mut Tile<'_>) {
    // SAFETY: passed on from the caller.
    unsafe { by_few_rows::<Int8>(tile) };
}

/// # Safety
/// As for [`int8`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn int4(tile: &mut Tile<'_>) {
    // SAFETY: passed on from the caller.
    unsafe { by_few_rows::<Int4>(tile) };
}

/// Weights that are integers of some bits. The functions are `unsafe` for their instructions, which the processor must
/// have, and for their pointers.
trait Weights {
    /// Bytes of a block, for one row.
    const BYTES: usize;
    /// What stored integers are larger by.
    const BIAS: i32;
    /// Adds the products of a block of half a panel with a block of each row, of which there are two planes.
    unsafe fn add<const M: usize>(block: *const u8, x: [[*const i32; 2]; M], dots: &mut [__m256i; M]);
}

struct Int8;

impl Weights for Int8 {
    const BYTES: usize = BLOCK;
    const BIAS: i32 = BIAS_8 as i32;

    #[inline(always)]
    unsafe fn add<const M: usize>(block: *const u8, x: [[*const i32; 2]; M], dots: &mut [__m256i; M]) {
        // SAFETY: passed on from the caller.
        unsafe {
            let low = _mm256_set1_epi16(0xFF);
            for four in 0..BLOCK / 4 {
                let w = load(block.add(four * 4 * PANEL));
                multiply(_mm256_and_si256(w, low), _mm256_srli_epi16::<8>(w), x, four, dots);
            }
        }
    }
}

struct Int4;

impl Weights for Int4 {
    const BYTES: usize = BLOCK / 2;
    const BIAS: i32 = 8;

    #[inline(always)]
    unsafe fn add<const M: usize>(block: *const u8, x: [[*const i32; 2]; M], dots: &mut [__m256i; M]) {
        // SAFETY: passed on from the caller.
        unsafe {
            let low = _mm256_set1_epi16(0xF);
            for four in 0..BLOCK / 8 {
                let w = load(block.add(four * 4 * PANEL));
                let odd = _mm256_and_si256(_mm256_srli_epi16::<8>(w), low);
                multiply(_mm256_and_si256(w, low), odd, x, four, dots);
                let even = _mm256_and_si256(_mm256_srli_epi16::<4>(w), low);
                multiply(even, _mm256_srli_epi16::<12>(w), x, four + BLOCK / 8, dots);
            }
        }
    }
}

/// The bytes of half a panel in some columns.
///
/// # Safety
/// 32 bytes must be readable; the processor must have AVX2.
#[inline(always)]
unsafe fn load(at: *const u8) -> __m256i {
    // SAFETY: passed on from the caller; the hint may be of any address.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
        _mm256_loadu_si256(at.cast())
    }
}

/// Adds the products of four columns, given by their first and third, and second and fourth, with four numbers of each row.
///
/// # Safety
/// Each row's planes must hold so many fours; the processor must have AVX2.
#[inline(always)]
unsafe fn multiply<const M: usize>(
    even: __m256i,
    odd: __m256i,
    x: [[*const i32; 2]; M],
    four: usize,
    dots: &mut [__m256i; M],
) {
    for m in 0..M {
        // SAFETY: passed on from the caller.
        unsafe {
            let [first, second] = x[m];
            let first = _mm256_madd_epi16(even, _mm256_set1_epi32(first.add(four).read_unaligned()));
            let second = _mm256_madd_epi16(odd, _mm256_set1_epi32(second.add(four).read_unaligned()));
            dots[m] = _mm256_add_epi32(dots[m], _mm256_add_epi32(first, second));
        }
    }
}

/// # Safety
/// The tile must be one that [`Micro::run`] takes, and the processor must have AVX2, FMA and F16C.
#[inline(always)]
unsafe fn by_few_rows<W: Weights>(tile: &mut Tile<'_>) {
    let (panel, scales, x) = (tile.panel, tile.scales, tile.x);
    for (i, out) in tile.out.chunks_mut(TOGETHER).enumerate() {
        let part = Tile { panel, scales, x, row: tile.row + i * TOGETHER, out };
        // SAFETY: passed on from the caller; a part has rows of the tile alone.
        unsafe {
            match part.out.len() {
                1 => run::<W, 1>(part),
                2 => run::<W, 2>(part),
                3 => run::<W, 3>(part),
                _ => run::<W, TOGETHER>(part),
            }
        }
    }
}

/// # Safety
/// As for [`by_few_rows`], with `M` rows.
#[inline(always)]
unsafe fn run<W: Weights, const M: usize>(tile: Tile<'_>) {
    let x = tile.x;
    // SAFETY: the rows' blocks lie within the activations, each block within the panel and the scales, as was checked.
    unsafe {
        let first = tile.row * x.blocks;
        let (x_scales, x_sums) = (x.scales.as_ptr().add(first), x.sums.as_ptr().add(first));
        let planes = [x.planes[0].as_ptr().add(first * BLOCK), x.planes[1].as_ptr().add(first * BLOCK)];
        let mut sums = [[_mm256_setzero_ps(); M]; 2];
        for b in 0..x.blocks {
            for half in 0..2 {
                let mut rows = [[std::ptr::null(); 2]; M];
                let mut dots = [_mm256_setzero_si256(); M];
                for m in 0..M {
                    let at = m * x.blocks + b;
                    rows[m] = [planes[0].add(at * BLOCK).cast(), planes[1].add(at * BLOCK).cast()];
                    dots[m] = _mm256_set1_epi32(-W::BIAS * *x_sums.add(at));
                }
                W::add(tile.panel.as_ptr().add(b * W::BYTES * PANEL + half * 32), rows, &mut dots);
                let scales = _mm_loadu_si128(tile.scales.as_ptr().add(b * PANEL + half * PANEL / 2).cast());
                let scales = _mm256_cvtph_ps(scales);
                for m in 0..M {
                    let scales = _mm256_mul_ps(scales, _mm256_set1_ps(*x_scales.add(m * x.blocks + b)));
                    sums[half][m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[m]), scales, sums[half][m]);
                }
            }
        }
        for half in 0..2 {
            for m in 0..M {
                _mm256_storeu_ps(tile.out[m][half * PANEL / 2..].as_mut_ptr(), sums[half][m]);
            }
        }
    }
}
