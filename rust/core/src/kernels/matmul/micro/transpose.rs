//! Packing a panel whose columns are runs in memory: blocks of 8 by 8 transposed in AVX2 registers.
//!
//! A block takes sixteen loads of half a register (the upper half straight into place), sixteen shuffles and eight
//! stores: some 8 cycles for 256 bytes where two shuffles start in a cycle. Sixteen by sixteen in AVX-512 registers
//! would take 64 shuffles that run one a cycle on Zen 4: no faster.

use super::super::operand::Operand;
use core::arch::x86_64::*;
use std::ops::Range;

/// Rows and columns of a block.
pub(super) const BLOCK: usize = 8;

/// Rows of the panel that are finished before the next: this part of it stays in L1.
const DEEP: usize = 64;

/// Packs rows `ks` and columns `js` of the transpose of `src` into a panel of `width` columns; columns beyond `js` are
/// left as they are.
#[target_feature(enable = "avx2")]
pub fn transpose(src: &Operand<'_>, ks: Range<usize>, js: Range<usize>, width: usize, panel: &mut [f32]) {
    for k in ks.clone().step_by(DEEP) {
        let deep = k..ks.end.min(k + DEEP);
        let rows = &mut panel[(k - ks.start) * width..][..deep.len() * width];
        if js.len() < BLOCK {
            scatter_columns(src, deep, js.clone(), width, rows);
            continue;
        }
        for j in (0..js.len()).step_by(BLOCK) {
            // The last block may overlap the one before it and write the same once more.
            let j = j.min(js.len() - BLOCK);
            let runs = runs_of(src, js.start + j, deep.clone());
            transpose_runs(&runs, width, &mut rows[j..]);
        }
    }
}

/// Elements `ks` of rows `j..j + 8`.
#[inline(always)]
pub(super) fn runs_of<'a>(src: &Operand<'a>, j: usize, ks: Range<usize>) -> [&'a [f32]; BLOCK] {
    let mut runs: [&[f32]; BLOCK] = [&[]; BLOCK];
    for (run, j) in runs.iter_mut().zip(j..) {
        *run = src.run(j, ks.clone());
    }
    runs
}

/// Writes element `k` of the eight runs next to each other at `out[k * width..]`.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose_runs(runs: &[&[f32]; BLOCK], width: usize, out: &mut [f32]) {
    let deep = runs[0].len();
    let blocks = deep / BLOCK;
    assert!(runs.iter().all(|run| run.len() == deep) && (deep == 0 || out.len() >= (deep - 1) * width + BLOCK));
    for k in (0..blocks * BLOCK).step_by(BLOCK) {
        // SAFETY: eight floats from `k` on lie within every run, and eight from `k * width` on, for every `k` of the
        // runs, within `out`, as asserted.
        unsafe {
            let block = transpose_block(runs, k);
            for i in 0..BLOCK {
                _mm256_storeu_ps(out.as_mut_ptr().add((k + i) * width), block[i]);
            }
        }
    }
    for k in blocks * BLOCK..deep {
        for i in 0..BLOCK {
            out[k * width + i] = runs[i][k];
        }
    }
}

/// Elements `k..k + 8` of the eight runs, one vector for each element.
///
/// # Safety
/// The runs must be that long.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) unsafe fn transpose_block(runs: &[&[f32]; BLOCK], k: usize) -> [__m256; BLOCK] {
    let mut columns = [_mm256_setzero_ps(); BLOCK];
    for half in (0..BLOCK).step_by(4) {
        let mut rows = [_mm256_setzero_ps(); 4];
        for i in 0..4 {
            // SAFETY: four floats from `k + half` on lie within the runs.
            unsafe {
                let low = _mm256_castps128_ps256(_mm_loadu_ps(runs[i].as_ptr().add(k + half)));
                rows[i] = _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(runs[i + 4].as_ptr().add(k + half)));
            }
        }
        let [ab_low, ab_high] = [_mm256_unpacklo_ps(rows[0], rows[1]), _mm256_unpackhi_ps(rows[0], rows[1])];
        let [cd_low, cd_high] = [_mm256_unpacklo_ps(rows[2], rows[3]), _mm256_unpackhi_ps(rows[2], rows[3])];
        columns[half] = _mm256_shuffle_ps::<0x44>(ab_low, cd_low);
        columns[half + 1] = _mm256_shuffle_ps::<0xEE>(ab_low, cd_low);
        columns[half + 2] = _mm256_shuffle_ps::<0x44>(ab_high, cd_high);
        columns[half + 3] = _mm256_shuffle_ps::<0xEE>(ab_high, cd_high);
    }
    columns
}

/// Fewer columns than a block has: one after the other.
fn scatter_columns(src: &Operand<'_>, ks: Range<usize>, js: Range<usize>, width: usize, rows: &mut [f32]) {
    for (j, column) in js.enumerate() {
        for (k, &x) in src.run(column, ks.clone()).iter().enumerate() {
            rows[k * width + j] = x;
        }
    }
}
