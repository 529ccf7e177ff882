//! Packing a panel whose columns are runs in memory: blocks of 8 by 8 transposed in AVX2 registers.
//!
//! A block takes sixteen loads of half a register (the upper half straight into place), sixteen shuffles and eight
//! stores: some 8 cycles for 256 bytes where two shuffles start in a cycle. Sixteen by sixteen in AVX-512 registers
//! would take 64 shuffles that run one a cycle on Zen 4: no faster.

use super::{BLOCK, unit};
use crate::simd::Element;
use core::arch::x86_64::*;

/// Writes unit `u` of the eight runs next to each other at `out[u * width..]`.
#[target_feature(enable = "avx2")]
pub fn transpose<E: Element>(runs: &[&[E]; BLOCK], width: usize, out: &mut [u32]) {
    let per_unit = size_of::<u32>() / size_of::<E>();
    let (len, units) = (runs[0].len(), runs[0].len() / per_unit);
    assert!(runs.iter().all(|run| run.len() == len) && (units == 0 || out.len() >= (units - 1) * width + BLOCK));
    let whole = units / BLOCK * BLOCK;
    for u in (0..whole).step_by(BLOCK) {
        // SAFETY: eight units from `u` on lie within every run, and eight from `u * width` on, for every `u` of the
        // runs, within `out`, as asserted.
        unsafe {
            let block = transpose_block(runs, u);
            for i in 0..BLOCK {
                _mm256_storeu_ps(out.as_mut_ptr().add((u + i) * width).cast(), block[i]);
            }
        }
    }
    for u in whole..units {
        for i in 0..BLOCK {
            out[u * width + i] = unit(&runs[i][u * per_unit..][..per_unit]);
        }
    }
}

/// Units `u..u + 8` of the eight runs, one vector for each unit.
///
/// # Safety
/// The runs must be that long.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) unsafe fn transpose_block<E: Element>(runs: &[&[E]; BLOCK], u: usize) -> [__m256; BLOCK] {
    let mut columns = [_mm256_setzero_ps(); BLOCK];
    for half in (0..BLOCK).step_by(4) {
        let mut rows = [_mm256_setzero_ps(); 4];
        for i in 0..4 {
            // SAFETY: four units from `u + half` on lie within the runs; the loads ask for no alignment.
            unsafe {
                let low = _mm_loadu_ps(runs[i].as_ptr().cast::<f32>().add(u + half));
                let high = _mm_loadu_ps(runs[i + 4].as_ptr().cast::<f32>().add(u + half));
                rows[i] = _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high);
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
