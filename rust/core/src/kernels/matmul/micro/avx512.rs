//! The AVX-512 tile, 12 by 32: 24 accumulators, two vectors of `b`, `a` broadcast from memory.
//!
//! A step of the full tile is 24 fused multiply-adds, one a cycle on Zen 4, for 14 loads. Smaller tiles keep the pipe
//! full as long as they have four chains. Shape after AMD's own choice for Zen 4 (BLIS, `bli_cntx_init_zen4.c`).

use super::{MicroKernel, Tile};
use crate::simd::Isa;
use core::arch::x86_64::*;

/// AVX-512 F.
pub struct Avx512;

impl MicroKernel for Avx512 {
    const ISA: Isa = Isa::Avx512;
    const MR: usize = 12;
    const NR: usize = 32;
    const LANES: usize = 16;

    unsafe fn run(tile: &Tile<'_>) {
        // SAFETY: passed on from the caller.
        unsafe { if tile.columns > 16 { rows::<2>(tile) } else { rows::<1>(tile) } }
    }
}

/// # Safety
/// As for [`MicroKernel::run`].
unsafe fn rows<const V: usize>(tile: &Tile<'_>) {
    // SAFETY: passed on from the caller.
    unsafe {
        match tile.rows {
            1 => run::<1, V>(tile),
            2 => run::<2, V>(tile),
            3 => run::<3, V>(tile),
            4 => run::<4, V>(tile),
            5 => run::<5, V>(tile),
            6 => run::<6, V>(tile),
            7 => run::<7, V>(tile),
            8 => run::<8, V>(tile),
            9 => run::<9, V>(tile),
            10 => run::<10, V>(tile),
            11 => run::<11, V>(tile),
            _ => run::<12, V>(tile),
        }
    }
}

/// A tile of `M` rows and `V` vectors.
///
/// # Safety
/// As for [`MicroKernel::run`].
#[target_feature(enable = "avx512f")]
unsafe fn run<const M: usize, const V: usize>(tile: &Tile<'_>) {
    assert!(tile.operands_fit(M, 16 * V));
    for i in 0..M {
        // The rows of the tile are far apart, so nothing else brings them in time. A prefetch never faults.
        for v in 0..V {
            _mm_prefetch::<_MM_HINT_T0>(tile.c_row(i).wrapping_add(16 * v).cast::<i8>());
        }
    }
    let mut sums = [[_mm512_setzero_ps(); V]; M];
    let (mut a, mut b) = (tile.a.as_ptr(), tile.b.as_ptr());
    for _ in 0..tile.k {
        // SAFETY: both packed operands hold `k` rows of this width, as asserted.
        unsafe {
            let mut bs = [_mm512_setzero_ps(); V];
            for v in 0..V {
                bs[v] = _mm512_loadu_ps(b.add(16 * v));
            }
            for i in 0..M {
                let x = _mm512_set1_ps(*a.add(i));
                for v in 0..V {
                    sums[i][v] = _mm512_fmadd_ps(x, bs[v], sums[i][v]);
                }
            }
            a = a.add(M);
            b = b.add(16 * V);
        }
    }
    for i in 0..M {
        let residual = tile.residual_row(i);
        for v in 0..V {
            let lanes = lanes(tile.columns, v);
            let c = tile.c_row(i).wrapping_add(16 * v);
            // SAFETY: the mask keeps every load and store within the tile's columns; bias and residual row have as many.
            unsafe {
                let mut x = sums[i][v];
                if tile.add {
                    x = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, c), x);
                }
                if let Some(bias) = tile.bias {
                    x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(lanes, bias.as_ptr().wrapping_add(16 * v)));
                }
                if let Some(residual) = residual {
                    x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(lanes, residual.as_ptr().wrapping_add(16 * v)));
                }
                _mm512_mask_storeu_ps(c, lanes, x);
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
