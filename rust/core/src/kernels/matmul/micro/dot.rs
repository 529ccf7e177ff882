//! Few rows of `a` against columns of `b` that are runs in memory: blocks of `b` are transposed in registers and used there.
//!
//! The columns taken at a time are as many streams, each read to the end of its run; nothing is written but the sums. A block of 8 by 8
//! costs some ten cycles, less than memory takes to bring its 256 bytes. (A dot product along the runs would need no
//! transposing, but another order of additions than the tiles have.)

use super::super::operand::Operand;
use super::BLOCK;
use super::transpose::transpose_block;
use core::arch::x86_64::*;
use std::ops::Range;

/// The most vectors of columns at a time.
const VECTORS: usize = 4;

/// The sums over `ks` for `N` columns from `j` on, one to four times eight: row `i` of the result belongs to row `i` of
/// `a`. Chains enough to hide the latency of an addition are four.
///
/// `b` is transposed (its rows are the product's columns); `a` holds the `M` rows' values `k` by `k`.
#[target_feature(enable = "avx2,fma")]
pub fn sums<const M: usize, const N: usize>(
    a: &[[f32; M]],
    b: &Operand<'_, f32>,
    j: usize,
    ks: Range<usize>,
) -> [[f32; N]; M] {
    const { assert!(N.is_multiple_of(BLOCK) && N <= VECTORS * BLOCK) };
    let mut runs: [[&[f32]; BLOCK]; VECTORS] = [[&[]; BLOCK]; VECTORS];
    for (g, runs) in runs[..N / BLOCK].iter_mut().enumerate() {
        for (i, run) in runs.iter_mut().enumerate() {
            *run = b.run(j + BLOCK * g + i, ks.clone());
        }
    }
    let deep = ks.len();
    assert!(a.len() >= deep && runs[..N / BLOCK].iter().flatten().all(|run| run.len() == deep));
    let mut sums = [[_mm256_setzero_ps(); VECTORS]; M];
    let whole = deep / BLOCK * BLOCK;
    for k in (0..whole).step_by(BLOCK) {
        for g in 0..N / BLOCK {
            // SAFETY: eight floats from `k` on lie within the runs, as asserted.
            let block = unsafe { transpose_block(&runs[g], k) };
            for i in 0..BLOCK {
                for m in 0..M {
                    // SAFETY: `a` is as long as the runs, as asserted.
                    let x = unsafe { a.get_unchecked(k + i)[m] };
                    sums[m][g] = _mm256_fmadd_ps(_mm256_set1_ps(x), block[i], sums[m][g]);
                }
            }
        }
    }
    let mut out = [[0.0; N]; M];
    for m in 0..M {
        for g in 0..N / BLOCK {
            // SAFETY: a vector's part of a row of the result.
            unsafe { _mm256_storeu_ps(out[m].as_mut_ptr().add(BLOCK * g), sums[m][g]) };
        }
        for k in whole..deep {
            for (c, out) in out[m].iter_mut().enumerate() {
                *out = a[k][m].mul_add(runs[c / BLOCK][c % BLOCK][k], *out);
            }
        }
    }
    out
}
