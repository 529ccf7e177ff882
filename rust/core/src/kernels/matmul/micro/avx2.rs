//! The AVX2 tile, 6 by 16: twelve accumulators, two vectors of `b`, one of `a` broadcast.
//!
//! A step of the full tile is twelve fused multiply-adds, two a cycle, for eight loads. Masked stores are slow on AMD
//! processors without AVX-512: a tile whose columns do not fill its vectors goes through the stack.

use super::{MicroKernel, Tile};
use crate::simd::Isa;
use core::arch::x86_64::*;

/// AVX2 and FMA.
pub struct Avx2;

impl MicroKernel for Avx2 {
    const ISA: Isa = Isa::Avx2;
    const MR: usize = 6;
    const NR: usize = 16;
    const LANES: usize = 8;

    unsafe fn run(tile: &Tile<'_>) {
        // SAFETY: passed on from the caller.
        unsafe { if tile.columns > 8 { rows::<2>(tile) } else { rows::<1>(tile) } }
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
            _ => run::<6, V>(tile),
        }
    }
}

/// A tile of `M` rows and `V` vectors.
///
/// # Safety
/// As for [`MicroKernel::run`].
#[target_feature(enable = "avx2,fma")]
unsafe fn run<const M: usize, const V: usize>(tile: &Tile<'_>) {
    assert!(tile.operands_fit(M, 8 * V));
    let mut sums = [[_mm256_setzero_ps(); V]; M];
    let (mut a, mut b) = (tile.a.as_ptr(), tile.b.as_ptr());
    for _ in 0..tile.k {
        // SAFETY: both packed operands hold `k` rows of this width, as asserted.
        unsafe {
            let mut bs = [_mm256_setzero_ps(); V];
            for v in 0..V {
                bs[v] = _mm256_loadu_ps(b.add(8 * v));
            }
            for i in 0..M {
                let x = _mm256_set1_ps(*a.add(i));
                for v in 0..V {
                    sums[i][v] = _mm256_fmadd_ps(x, bs[v], sums[i][v]);
                }
            }
            a = a.add(M);
            b = b.add(8 * V);
        }
    }
    for i in 0..M {
        // SAFETY: passed on from the caller; `i` is a row of the tile, as asserted.
        unsafe { write_row(tile, i, sums[i]) };
    }
}

/// Writes row `i` from its sums.
///
/// # Safety
/// As for [`MicroKernel::run`].
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn write_row<const V: usize>(tile: &Tile<'_>, i: usize, sums: [__m256; V]) {
    if tile.columns < 8 * V {
        let mut spilled = [0.0; 16];
        for v in 0..V {
            // SAFETY: V is at most two.
            unsafe { _mm256_storeu_ps(spilled.as_mut_ptr().add(8 * v), sums[v]) };
        }
        // SAFETY: passed on from the caller.
        return unsafe { tile.write_row(i, &spilled) };
    }
    let residual = tile.residual_row(i);
    for v in 0..V {
        // SAFETY: the tile has all columns of its vectors; bias and residual row have as many.
        unsafe {
            let c = tile.c_row(i).add(8 * v);
            let mut x = sums[v];
            if tile.add {
                x = _mm256_add_ps(_mm256_loadu_ps(c), x);
            }
            if let Some(bias) = tile.bias {
                x = _mm256_add_ps(x, _mm256_loadu_ps(bias.as_ptr().add(8 * v)));
            }
            if let Some(residual) = residual {
                x = _mm256_add_ps(x, _mm256_loadu_ps(residual.as_ptr().add(8 * v)));
            }
            _mm256_storeu_ps(c, x);
        }
    }
}
