//! The loops with AVX-512 and its dot products of four bytes (VNNI): a vector is four columns of 16 rows.
//!
//! A step of eight rows of activations is sixteen dot products, two a cycle and two a row, for one load of weights and
//! sixteen of activations.

use super::{Micro, Tile, by_rows};
use crate::kernels::quantized::activations::Form;
use crate::kernels::quantized::layout::{BIAS_8, BLOCK, PANEL};
use core::arch::x86_64::*;

pub const MICRO: Micro = Micro { form: Form::Bytes, int8: run_int8, int4: run_int4 };

/// Bytes from what is multiplied to what is fetched: a page ends too soon for the hardware to do so itself.
const AHEAD: usize = 2048;

/// # Safety
/// The tile must be one that [`Micro::run`] takes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn run_int8(tile: &mut Tile<'_>) {
    // SAFETY: passed on from the caller.
    unsafe { by_rows!(int8, tile) };
}

/// # Safety
/// The tile must be one that [`Micro::run`] takes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn run_int4(tile: &mut Tile<'_>) {
    // SAFETY: passed on from the caller.
    unsafe { by_rows!(int4, tile) };
}

/// Activations of a tile, by pointers whose ends [`Micro::run`] has checked.
struct Rows {
    planes: [*const i32; 2],
    scales: *const f32,
    sums: *const i32,
    blocks: usize,
}

impl Rows {
    #[inline(always)]
    fn new(tile: &Tile<'_>) -> Rows {
        let first = tile.row * tile.x.blocks;
        Rows {
            planes: tile.x.planes.map(|plane| plane[first * BLOCK..].as_ptr().cast()),
            scales: tile.x.scales[first..].as_ptr(),
            sums: tile.x.sums[first..].as_ptr(),
            blocks: tile.x.blocks,
        }
    }
}

#[inline(always)]
unsafe fn fetch(panel: *const u8) {
    // SAFETY: a hint, for any address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(panel.wrapping_add(AHEAD).cast()) };
}

/// # Safety
/// The tile must be one that [`Micro::run`] takes, of `M` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn int8<const M: usize>(tile: &mut Tile<'_>) {
    let (x, panel) = (Rows::new(tile), tile.panel.as_ptr());
    let mut sums = [_mm512_setzero_ps(); M];
    for b in 0..x.blocks {
        // SAFETY: block `b` lies within panel, scales and the rows' blocks, as was checked.
        unsafe {
            let mut dots: [__m512i; M] = [_mm512_setzero_si512(); M];
            for m in 0..M {
                dots[m] = _mm512_set1_epi32(-i32::from(BIAS_8) * *x.sums.add(m * x.blocks + b));
            }
            for g in 0..BLOCK / 4 {
                let at = panel.add((b * BLOCK + g * 4) * PANEL);
                fetch(at);
                let w = _mm512_loadu_si512(at.cast());
                for m in 0..M {
                    let at = (m * x.blocks + b) * (BLOCK / 4) + g;
                    let [first, second] = x.planes.map(|plane| plane.add(at).read_unaligned());
                    dots[m] = _mm512_dpbusd_epi32(dots[m], w, _mm512_set1_epi32(first));
                    dots[m] = _mm512_dpbusd_epi32(dots[m], w, _mm512_set1_epi32(second));
                }
            }
            finish(tile, &x, b, &dots, &mut sums);
        }
    }
    for m in 0..M {
        // SAFETY: a row of the output has 16 floats.
        unsafe { _mm512_storeu_ps(tile.out[m].as_mut_ptr(), sums[m]) };
    }
}

/// # Safety
/// As for [`int8`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn int4<const M: usize>(tile: &mut Tile<'_>) {
    let (x, panel, nibble) = (Rows::new(tile), tile.panel.as_ptr(), _mm512_set1_epi8(15));
    let mut sums = [_mm512_setzero_ps(); M];
    for b in 0..x.blocks {
        // SAFETY: as in `int8`.
        unsafe {
            let mut dots: [__m512i; M] = [_mm512_setzero_si512(); M];
            for m in 0..M {
                dots[m] = _mm512_set1_epi32(-8 * *x.sums.add(m * x.blocks + b));
            }
            for g in 0..BLOCK / 8 {
                let at = panel.add((b * BLOCK / 2 + g * 4) * PANEL);
                fetch(at);
                let both = _mm512_loadu_si512(at.cast());
                let low = _mm512_and_si512(both, nibble);
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(both), nibble);
                for m in 0..M {
                    let at = (m * x.blocks + b) * (BLOCK / 4) + g;
                    for (bytes, at) in [(low, at), (high, at + BLOCK / 8)] {
                        let [first, second] = x.planes.map(|plane| plane.add(at).read_unaligned());
                        dots[m] = _mm512_dpbusd_epi32(dots[m], bytes, _mm512_set1_epi32(first));
                        dots[m] = _mm512_dpbusd_epi32(dots[m], bytes, _mm512_set1_epi32(second));
                    }
                }
            }
            finish(tile, &x, b, &dots, &mut sums);
        }
    }
    for m in 0..M {
        // SAFETY: a row of the output has 16 floats.
        unsafe { _mm512_storeu_ps(tile.out[m].as_mut_ptr(), sums[m]) };
    }
}

/// Scales the sums of a block and adds them.
///
/// # Safety
/// As for [`int8`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn finish<const M: usize>(tile: &Tile<'_>, x: &Rows, b: usize, dots: &[__m512i; M], sums: &mut [__m512; M]) {
    // SAFETY: passed on from the caller.
    unsafe {
        let scales = _mm512_cvtph_ps(_mm256_loadu_si256(tile.scales.as_ptr().add(b * PANEL).cast()));
        for m in 0..M {
            let scales = _mm512_mul_ps(scales, _mm512_set1_ps(*x.scales.add(m * x.blocks + b)));
            sums[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[m]), scales, sums[m]);
        }
    }
}
