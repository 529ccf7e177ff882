//! The AVX2 tile, 6 by 16: twelve accumulators, two vectors of `b`, one of `a` broadcast.
//!
//! A step of the full tile is twelve fused multiply-adds, two a cycle, for eight loads. Masked stores are slow on AMD
//! processors without AVX-512: a tile whose columns do not fill its vectors goes through the stack. Pairs of bfloat16
//! numbers are widened on the way, one half of them after the other: there are sixteen registers, and both halves of `b`
//! at once would send sums to the stack. Their products are exact in float32.

use super::{Micro, Tile};
use crate::kernels::matmul::matrix::Precision;
use crate::simd::Isa;
use core::arch::asm;
use core::arch::x86_64::*;

/// Float32 units with AVX2 and FMA.
pub static FLOATS: Micro = Micro {
    isa: Isa::Avx2,
    precision: Precision::Float32,
    mr: 6,
    nr: 16,
    lanes: 8,
    rounds: false,
    tile: tile::<Floats>,
};

/// Pairs of bfloat16 numbers with AVX2 and FMA.
pub static PAIRS: Micro = Micro {
    isa: Isa::Avx2,
    precision: Precision::Bfloat16,
    mr: 6,
    nr: 16,
    lanes: 8,
    rounds: false,
    tile: tile::<Pairs>,
};

/// What a unit holds. The functions are `unsafe` for their instructions alone, AVX2 and FMA, which the processor must
/// have.
trait Unit {
    /// Numbers of a unit.
    const NUMBERS: usize;
    /// Gives the number that is added in turn `turn` of eight units.
    unsafe fn widen(units: __m256i, turn: usize) -> __m256;
}

struct Floats;

impl Unit for Floats {
    const NUMBERS: usize = 1;

    #[inline(always)]
    unsafe fn widen(units: __m256i, _: usize) -> __m256 {
        // SAFETY: passed on from the caller.
        unsafe { _mm256_castsi256_ps(units) }
    }
}

struct Pairs;

impl Unit for Pairs {
    const NUMBERS: usize = 2;

    /// The second number of a pair is added first, as AVX512-BF16 does.
    #[inline(always)]
    unsafe fn widen(units: __m256i, turn: usize) -> __m256 {
        // SAFETY: passed on from the caller.
        unsafe {
            _mm256_castsi256_ps(if turn == 0 {
                _mm256_and_si256(units, _mm256_set1_epi32(0xFFFF_0000_u32 as i32))
            } else {
                _mm256_slli_epi32::<16>(units)
            })
        }
    }
}

/// # Safety
/// As for [`Micro::run`]; the processor must have AVX2 and FMA.
unsafe fn tile<O: Unit>(tile: &Tile<'_>) {
    // SAFETY: passed on from the caller.
    unsafe { if tile.columns > 8 { rows::<O, 2>(tile) } else { rows::<O, 1>(tile) } }
}

/// # Safety
/// As for [`tile`].
unsafe fn rows<O: Unit, const V: usize>(tile: &Tile<'_>) {
    // SAFETY: passed on from the caller.
    unsafe {
        match tile.rows {
            1 => run::<O, 1, V>(tile),
            2 => run::<O, 2, V>(tile),
            3 => run::<O, 3, V>(tile),
            4 => run::<O, 4, V>(tile),
            5 => run::<O, 5, V>(tile),
            _ => run::<O, 6, V>(tile),
        }
    }
}

/// A tile of `M` rows and `V` vectors.
///
/// # Safety
/// As for [`tile`].
#[target_feature(enable = "avx2,fma")]
unsafe fn run<O: Unit, const M: usize, const V: usize>(tile: &Tile<'_>) {
    assert!(tile.operands_fit(M, 8 * V));
    let mut sums = [[_mm256_setzero_ps(); V]; M];
    let (mut a, mut b) = (tile.a.as_ptr(), tile.b.as_ptr());
    for _ in 0..tile.units {
        // SAFETY: both packed operands hold `units` rows of this width, as asserted.
        unsafe {
            for turn in 0..O::NUMBERS {
                let (a, b) = if turn == 0 { (a, b) } else { (elsewhere(a), elsewhere(b)) };
                let mut bs = [_mm256_setzero_ps(); V];
                for v in 0..V {
                    bs[v] = O::widen(_mm256_loadu_si256(b.add(8 * v).cast()), turn);
                }
                for i in 0..M {
                    let x = O::widen(_mm256_castps_si256(_mm256_broadcast_ss(&*a.add(i).cast())), turn);
                    for v in 0..V {
                        sums[i][v] = _mm256_fmadd_ps(x, bs[v], sums[i][v]);
                    }
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

/// Gives a pointer of which the compiler does not know that it is the same: so it loads a second time what it would
/// keep, and keeps what it would send to the stack.
#[inline(always)]
#[expect(clippy::pointers_in_nomem_asm_block, reason = "nothing is read or written through it")]
fn elsewhere<T>(mut pointer: *const T) -> *const T {
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0} */", inout(reg) pointer, options(pure, nomem, nostack, preserves_flags)) };
    pointer
}

/// Writes row `i` from its sums.
///
/// # Safety
/// As for [`tile`].
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
