//! Packing from columns that are runs in memory: blocks of 8 columns, transposed in registers.

use super::super::matrix::Precision;
use super::super::micro::{self, BLOCK};
use super::super::operand::Operand;
use super::{Packable, Panels};
use crate::simd::{Element, Kernel, LANES, Simd, bf16, dispatch};
use std::ops::Range;

/// Units of depth that are finished before the next: this part of the panel stays in L1.
const DEEP: usize = 64;

/// Packs units `us` of rows `js` of `src` (the transpose of what is packed) into a panel of `width` columns; columns
/// beyond `js` are left as they are.
pub fn transpose<E: Packable>(
    panels: Panels,
    src: &Operand<'_, E>,
    us: Range<usize>,
    js: Range<usize>,
    width: usize,
    panel: &mut [u32],
) {
    let step = panels.precision.per_unit();
    for u in us.clone().step_by(DEEP) {
        let deep = u..us.end.min(u + DEEP);
        let ks = deep.start * step..(deep.end * step).min(src.columns());
        let rows = &mut panel[(u - us.start) * width..][..deep.len() * width];
        if js.len() < BLOCK {
            for (j, column) in js.clone().enumerate() {
                let run = src.run(column, ks.clone());
                for i in 0..deep.len() {
                    rows[i * width + j] = panels.unit(i, run.len(), |k| run[k]);
                }
            }
            continue;
        }
        for j in (0..js.len()).step_by(BLOCK) {
            // The last block may overlap the one before it and write the same once more.
            let j = j.min(js.len() - BLOCK);
            let mut runs: [&[E]; BLOCK] = [&[]; BLOCK];
            for (i, run) in runs.iter_mut().enumerate() {
                *run = src.run(js.start + j + i, ks.clone());
            }
            transpose_runs(panels, runs, width, &mut rows[j..]);
        }
    }
}

/// Writes unit `u` of the eight runs next to each other at `out[u * width..]`.
fn transpose_runs<E: Packable>(panels: Panels, runs: [&[E]; BLOCK], width: usize, out: &mut [u32]) {
    if E::HALF == (panels.precision == Precision::Bfloat16) && runs[0].len().is_multiple_of(panels.precision.per_unit())
    {
        return micro::transpose(panels.isa, &runs, width, out);
    }
    assert!(panels.precision == Precision::Bfloat16, "products in float32 have float32 operands alone");
    let mut half = [[bf16::ZERO; 2 * DEEP]; BLOCK];
    dispatch(panels.isa, Convert { runs, half: &mut half });
    let len = runs[0].len().next_multiple_of(2);
    micro::transpose(panels.isa, &half.each_ref().map(|run| &run[..len]), width, out);
}

/// Eight runs as bfloat16.
struct Convert<'a, E> {
    runs: [&'a [E]; BLOCK],
    half: &'a mut [[bf16; 2 * DEEP]; BLOCK],
}

impl<E: Packable> Kernel for Convert<'_, E> {
    type Output = ();
    const BF16: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (run, half) in self.runs.iter().zip(self.half) {
            for at in (0..run.len()).step_by(LANES) {
                bf16::store_at(s, half, at, E::load_at(s, run, at, 0.0));
            }
        }
    }
}
