//! The portable tile, 4 by 8: plain arrays that LLVM turns into the target's baseline vectors.

use super::{Micro, Tile};
use crate::kernels::matmul::matrix::Precision;
use crate::simd::Isa;

const NR: usize = 8;

/// Float32 units in plain Rust. Multiplication and addition round separately: a fused operation would be a call into libm.
pub static FLOATS: Micro = Micro {
    isa: Isa::Portable,
    precision: Precision::Float32,
    mr: 4,
    nr: NR,
    lanes: NR,
    rounds: false,
    tile: tile::<Floats>,
};

/// Pairs of bfloat16 numbers in plain Rust; their products are exact in float32.
pub static PAIRS: Micro = Micro {
    isa: Isa::Portable,
    precision: Precision::Bfloat16,
    mr: 4,
    nr: NR,
    lanes: NR,
    rounds: false,
    tile: tile::<Pairs>,
};

/// What is done with two units.
trait Multiply {
    /// `sum + a * b`
    fn add(a: u32, b: u32, sum: f32) -> f32;
}

struct Floats;

impl Multiply for Floats {
    #[inline(always)]
    fn add(a: u32, b: u32, sum: f32) -> f32 {
        sum + f32::from_bits(a) * f32::from_bits(b)
    }
}

struct Pairs;

impl Multiply for Pairs {
    #[inline(always)]
    fn add(a: u32, b: u32, sum: f32) -> f32 {
        let second = sum + f32::from_bits(a & 0xFFFF_0000) * f32::from_bits(b & 0xFFFF_0000);
        second + f32::from_bits(a << 16) * f32::from_bits(b << 16)
    }
}

/// # Safety
/// As for [`Micro::run`].
unsafe fn tile<O: Multiply>(tile: &Tile<'_>) {
    // SAFETY: passed on from the caller.
    unsafe {
        match tile.rows {
            1 => rows::<O, 1>(tile),
            2 => rows::<O, 2>(tile),
            3 => rows::<O, 3>(tile),
            _ => rows::<O, 4>(tile),
        }
    }
}

/// # Safety
/// As for [`Micro::run`].
unsafe fn rows<O: Multiply, const M: usize>(tile: &Tile<'_>) {
    assert!(tile.operands_fit(M, NR));
    let mut sums = [[0.0f32; NR]; M];
    let (a, b) = (tile.a.as_chunks::<M>().0, tile.b.as_chunks::<NR>().0);
    for (a, b) in a.iter().zip(b).take(tile.units) {
        for i in 0..M {
            for j in 0..NR {
                sums[i][j] = O::add(a[i], b[j], sums[i][j]);
            }
        }
    }
    for i in 0..M {
        // SAFETY: passed on from the caller; `i` is a row of the tile, as asserted.
        unsafe { tile.write_row(i, &sums[i]) };
    }
}
