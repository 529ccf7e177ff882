//! The AVX-512 tile, 12 by 32: 24 accumulators, two vectors of `b`, `a` broadcast from memory.
//!
//! A step of the full tile is 24 fused multiply-adds, one a cycle on Zen 4, for 14 loads. Smaller tiles keep the pipe
//! full as long as they have four chains. Shape after AMD's own choice for Zen 4 (BLIS, `bli_cntx_init_zen4.c`).

use super::{Micro, Tile};
use crate::kernels::matmul::matrix::Precision;
use crate::simd::{Isa, bf16};
use core::arch::x86_64::*;

/// Float32 units with AVX-512 F.
pub static FLOATS: Micro =
    Micro { isa: Isa::Avx512, precision: Precision::Float32, mr: 12, nr: 32, lanes: 16, rounds: false, tile: floats };

/// Pairs of bfloat16 numbers with AVX-512 F: widened on the way, their products are exact in float32.
pub static PAIRS: Micro =
    Micro { isa: Isa::Avx512, precision: Precision::Bfloat16, mr: 12, nr: 32, lanes: 16, rounds: false, tile: pairs };

/// What is done with a unit of `a` and sixteen of `b`. The functions are `unsafe` for their instructions alone, which
/// the processor must have.
pub(super) trait Multiply {
    /// What units are widened to: once a step.
    type Wide: Copy;
    /// Widens sixteen units.
    unsafe fn widen(units: __m512i) -> Self::Wide;
    /// `sum + a * b`
    unsafe fn add(a: Self::Wide, b: Self::Wide, sum: __m512) -> __m512;
    /// Rounds to bfloat16 and writes the lanes of the mask; for microkernels that say that they can.
    unsafe fn store_half(to: *mut bf16, lanes: __mmask16, sums: __m512) {
        let _ = (to, lanes, sums);
    }
}

struct Floats;

impl Multiply for Floats {
    type Wide = __m512;

    #[inline(always)]
    unsafe fn widen(units: __m512i) -> __m512 {
        // SAFETY: passed on from the caller.
        unsafe { _mm512_castsi512_ps(units) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512, sum: __m512) -> __m512 {
        // SAFETY: passed on from the caller.
        unsafe { _mm512_fmadd_ps(a, b, sum) }
    }
}

struct Pairs;

impl Multiply for Pairs {
    type Wide = [__m512; 2];

    #[inline(always)]
    unsafe fn widen(units: __m512i) -> [__m512; 2] {
        // SAFETY: passed on from the caller.
        unsafe {
            let second = _mm512_and_si512(units, _mm512_set1_epi32(0xFFFF_0000_u32 as i32));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(units)), _mm512_castsi512_ps(second)]
        }
    }
    #[inline(always)]
    unsafe fn add(a: [__m512; 2], b: [__m512; 2], sum: __m512) -> __m512 {
        // SAFETY: passed on from the caller.
        unsafe { _mm512_fmadd_ps(a[0], b[0], _mm512_fmadd_ps(a[1], b[1], sum)) }
    }
}

/// Calls the function `$run::<M, V>` for the tile's rows and vectors.
macro_rules! by_shape {
    ($run:ident, $tile:expr) => {
        match ($tile.rows, $tile.columns > 16) {
            (1, false) => $run::<1, 1>($tile),
            (2, false) => $run::<2, 1>($tile),
            (3, false) => $run::<3, 1>($tile),
            (4, false) => $run::<4, 1>($tile),
            (5, false) => $run::<5, 1>($tile),
            (6, false) => $run::<6, 1>($tile),
            (7, false) => $run::<7, 1>($tile),
            (8, false) => $run::<8, 1>($tile),
            (9, false) => $run::<9, 1>($tile),
            (10, false) => $run::<10, 1>($tile),
            (11, false) => $run::<11, 1>($tile),
            (_, false) => $run::<12, 1>($tile),
            (1, true) => $run::<1, 2>($tile),
            (2, true) => $run::<2, 2>($tile),
            (3, true) => $run::<3, 2>($tile),
            (4, true) => $run::<4, 2>($tile),
            (5, true) => $run::<5, 2>($tile),
            (6, true) => $run::<6, 2>($tile),
            (7, true) => $run::<7, 2>($tile),
            (8, true) => $run::<8, 2>($tile),
            (9, true) => $run::<9, 2>($tile),
            (10, true) => $run::<10, 2>($tile),
            (11, true) => $run::<11, 2>($tile),
            (_, true) => $run::<12, 2>($tile),
        }
    };
}
pub(super) use by_shape;

/// # Safety
/// As for [`Micro::run`]; the processor must have AVX-512 F.
unsafe fn floats(tile: &Tile<'_>) {
    #[target_feature(enable = "avx512f")]
    unsafe fn run<const M: usize, const V: usize>(tile: &Tile<'_>) {
        // SAFETY: passed on from the caller.
        unsafe { tile_of::<Floats, M, V>(tile) }
    }
    // SAFETY: passed on from the caller.
    unsafe { by_shape!(run, tile) }
}

/// # Safety
/// As for [`Micro::run`]; the processor must have AVX-512 F.
unsafe fn pairs(tile: &Tile<'_>) {
    #[target_feature(enable = "avx512f")]
    unsafe fn run<const M: usize, const V: usize>(tile: &Tile<'_>) {
        // SAFETY: passed on from the caller.
        unsafe { tile_of::<Pairs, M, V>(tile) }
    }
    // SAFETY: passed on from the caller.
    unsafe { by_shape!(run, tile) }
}

/// A tile of `M` rows and `V` vectors, to be inlined where its instructions are enabled.
///
/// # Safety
/// As for [`Micro::run`]; the processor must have AVX-512 F and the instructions of `O`.
#[inline(always)]
pub(super) unsafe fn tile_of<O: Multiply, const M: usize, const V: usize>(tile: &Tile<'_>) {
    assert!(tile.operands_fit(M, 16 * V));
    // SAFETY: the caller's processor has the instructions. Prefetches never fault; everything else says why below.
    unsafe {
        // The rows of the tile are far apart, so nothing else brings them in time.
        for i in 0..M {
            match tile.half {
                Some(half) => _mm_prefetch::<_MM_HINT_T0>(half.row(i).cast::<i8>()),
                None => {
                    for v in 0..V {
                        _mm_prefetch::<_MM_HINT_T0>(tile.c_row(i).wrapping_add(16 * v).cast::<i8>());
                    }
                }
            }
        }
        let mut sums = [[_mm512_setzero_ps(); V]; M];
        let (mut a, mut b) = (tile.a.as_ptr().cast::<i32>(), tile.b.as_ptr());
        for _ in 0..tile.units {
            // Both packed operands hold `units` rows of this width, as asserted.
            let mut bs = [O::widen(_mm512_setzero_si512()); V];
            for v in 0..V {
                bs[v] = O::widen(_mm512_loadu_si512(b.add(16 * v).cast()));
            }
            for i in 0..M {
                let x = O::widen(_mm512_set1_epi32(*a.add(i)));
                for v in 0..V {
                    sums[i][v] = O::add(x, bs[v], sums[i][v]);
                }
            }
            a = a.add(M);
            b = b.add(16 * V);
        }
        // The mask keeps every load and store within the tile's columns; bias and residual row have as many.
        let mut masks: [__mmask16; V] = [0; V];
        for v in 0..V {
            masks[v] = lanes(tile.columns, v);
        }
        // The four outputs that products have most often are loops short enough to be unrolled: only then do the sums
        // stay in registers from beginning to end. (A loop that picks them by number would put them all into memory, the
        // zeros of the beginning too.)
        match (tile.bias.is_some() || tile.residual.is_some(), tile.half, tile.add) {
            (false, None, false) => {
                for i in 0..M {
                    for v in 0..V {
                        _mm512_mask_storeu_ps(tile.c_row(i).wrapping_add(16 * v), masks[v], sums[i][v]);
                    }
                }
            }
            (false, None, true) => {
                for i in 0..M {
                    for v in 0..V {
                        let c = tile.c_row(i).wrapping_add(16 * v);
                        let x = _mm512_add_ps(_mm512_maskz_loadu_ps(masks[v], c), sums[i][v]);
                        _mm512_mask_storeu_ps(c, masks[v], x);
                    }
                }
            }
            (false, Some(half), false) => {
                for i in 0..M {
                    for v in 0..V {
                        O::store_half(half.row(i).wrapping_add(16 * v), masks[v], sums[i][v]);
                    }
                }
            }
            (false, Some(half), true) => {
                for i in 0..M {
                    for v in 0..V {
                        let c = tile.c_row(i).wrapping_add(16 * v);
                        let x = _mm512_add_ps(_mm512_maskz_loadu_ps(masks[v], c), sums[i][v]);
                        O::store_half(half.row(i).wrapping_add(16 * v), masks[v], x);
                    }
                }
            }
            _ => {
                let mut kept = [[_mm512_setzero_ps(); V]; M];
                for i in 0..M {
                    for v in 0..V {
                        kept[i][v] = sums[i][v];
                    }
                }
                write::<O, M, V>(tile, &kept, masks);
            }
        }
    }
}

/// Writes sums to which anything may be added, from memory.
///
/// # Safety
/// As for [`tile_of`].
#[inline(always)]
unsafe fn write<O: Multiply, const M: usize, const V: usize>(
    tile: &Tile<'_>,
    sums: &[[__m512; V]; M],
    lanes: [__mmask16; V],
) {
    // SAFETY: as in [`tile_of`].
    unsafe {
        for i in 0..M {
            let residual = tile.residual_row(i);
            for v in 0..V {
                let c = tile.c_row(i).wrapping_add(16 * v);
                let mut x = sums[i][v];
                if tile.add {
                    x = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes[v], c), x);
                }
                if let Some(bias) = tile.bias {
                    x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(lanes[v], bias.as_ptr().wrapping_add(16 * v)));
                }
                if let Some(residual) = residual {
                    x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(lanes[v], residual.as_ptr().wrapping_add(16 * v)));
                }
                match tile.half {
                    Some(half) => O::store_half(half.row(i).wrapping_add(16 * v), lanes[v], x),
                    None => _mm512_mask_storeu_ps(c, lanes[v], x),
                }
            }
        }
    }
}

/// The lanes of vector `v` that lie within `columns`.
#[inline(always)]
fn lanes(columns: usize, v: usize) -> __mmask16 {
    match columns.saturating_sub(16 * v) {
        n @ 0..16 => (1 << n) - 1,
        _ => u16::MAX,
    }
}
