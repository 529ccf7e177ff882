//! The portable tile, 4 by 8: plain arrays that LLVM turns into the target's baseline vectors.

use super::{MicroKernel, Tile};
use crate::simd::Isa;

/// Plain Rust. Multiplication and addition round separately: a fused operation would be a call into libm.
pub struct Portable;

impl MicroKernel for Portable {
    const ISA: Isa = Isa::Portable;
    const MR: usize = 4;
    const NR: usize = 8;
    const LANES: usize = 8;

    unsafe fn run(tile: &Tile<'_>) {
        // SAFETY: passed on from the caller.
        unsafe {
            match tile.rows {
                1 => rows::<1>(tile),
                2 => rows::<2>(tile),
                3 => rows::<3>(tile),
                _ => rows::<4>(tile),
            }
        }
    }
}

/// # Safety
/// As for [`MicroKernel::run`].
unsafe fn rows<const M: usize>(tile: &Tile<'_>) {
    assert!(tile.operands_fit(M, Portable::NR));
    let mut sums = [[0.0f32; Portable::NR]; M];
    let (a, b) = (tile.a.as_chunks::<M>().0, tile.b.as_chunks::<{ Portable::NR }>().0);
    for (a, b) in a.iter().zip(b).take(tile.k) {
        for i in 0..M {
            for j in 0..Portable::NR {
                sums[i][j] += a[i] * b[j];
            }
        }
    }
    for i in 0..M {
        // SAFETY: passed on from the caller; `i` is a row of the tile, as asserted.
        unsafe { tile.write_row(i, &sums[i]) };
    }
}
