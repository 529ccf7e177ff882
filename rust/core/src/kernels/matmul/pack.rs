//! Packing: a block of a matrix copied into panels that the microkernel reads from end to end.
//!
//! A panel holds `width` neighbouring columns of a block, row after row: element `(k, j)` of a panel is at
//! `k * width + j`. Panels follow each other; the last is as wide as its columns need, rounded up to whole vectors and
//! filled with zeros. `b` is packed as it is (`K` by `N`), `a` as its transpose (`K` by `M`), so one function serves both:
//!
//! - rows adjacent in memory: runs are copied;
//! - columns adjacent in memory (a `.t()` view of rows): blocks of 4 by 4 are transposed in registers, sixteen rows of
//!   the panel at a time so that every cache line of the source is used up while it is there;
//! - anything else: element by element.

use super::operand::Operand;
use std::ops::Range;

/// The shape of panels.
#[derive(Clone, Copy)]
pub struct Panels {
    /// Columns of a panel.
    pub width: usize,
    /// The last panel's width is a multiple of this.
    pub lanes: usize,
}

impl Panels {
    /// Floats of the panels for a block of `k` rows and `columns` columns.
    pub fn len(self, k: usize, columns: usize) -> usize {
        k * columns.next_multiple_of(self.lanes)
    }

    /// The panels of `columns` columns: first column, columns, width with padding.
    pub fn iter(self, columns: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..columns).step_by(self.width).map(move |j| {
            let n = self.width.min(columns - j);
            (j, n, n.next_multiple_of(self.lanes))
        })
    }

    /// Packs rows `ks` and columns `js` of `src` into `out`, which holds [`Panels::len`] floats.
    pub fn pack(self, src: &Operand<'_>, ks: Range<usize>, js: Range<usize>, out: &mut [f32]) {
        let k = ks.len();
        for (j, n, width) in self.iter(js.len()) {
            let columns = js.start + j..js.start + j + n;
            let panel = &mut out[j * k..][..k * width];
            if src.has_runs() {
                copy_rows(src, ks.clone(), columns, width, panel);
            } else if src.t().has_runs() {
                transpose(&src.t(), ks.clone(), columns, width, panel);
            } else {
                gather(src, ks.clone(), columns, width, panel);
            }
        }
    }
}

fn copy_rows(src: &Operand<'_>, ks: Range<usize>, js: Range<usize>, width: usize, panel: &mut [f32]) {
    match (js.len() == width, width) {
        (true, 32) => copy_whole_rows::<32>(src, ks, js, panel),
        (true, 16) => copy_whole_rows::<16>(src, ks, js, panel),
        (true, 12) => copy_whole_rows::<12>(src, ks, js, panel),
        (true, 8) => copy_whole_rows::<8>(src, ks, js, panel),
        (true, 6) => copy_whole_rows::<6>(src, ks, js, panel),
        (true, 1) => copy_whole_rows::<1>(src, ks, js, panel),
        _ => {
            for (k, row) in ks.zip(panel.chunks_exact_mut(width)) {
                let (row, padding) = row.split_at_mut(js.len());
                row.copy_from_slice(src.run(k, js.clone()));
                padding.fill(0.0);
            }
        }
    }
}

/// Rows of a length known to the compiler: a few moves instead of a call.
fn copy_whole_rows<const W: usize>(src: &Operand<'_>, ks: Range<usize>, js: Range<usize>, panel: &mut [f32]) {
    for (k, row) in ks.zip(panel.as_chunks_mut::<W>().0) {
        row.copy_from_slice(&src.run(k, js.clone())[..W]);
    }
}

/// Packs from `src`, whose *rows* are the panel's columns.
fn transpose(src: &Operand<'_>, ks: Range<usize>, js: Range<usize>, width: usize, panel: &mut [f32]) {
    const DEEP: usize = 16;
    let columns = js.len();
    for k in ks.clone().step_by(DEEP) {
        let deep = DEEP.min(ks.end - k);
        let rows = &mut panel[(k - ks.start) * width..][..deep * width];
        for j in (0..columns).step_by(4) {
            if columns - j >= 4 && deep == DEEP {
                let runs = [0, 1, 2, 3].map(|i| src.run(js.start + j + i, k..k + DEEP));
                transpose_4_by_16(runs, width, &mut rows[j..]);
            } else {
                for (i, j) in (j..columns.min(j + 4)).enumerate() {
                    let run = src.run(js.start + j, k..k + deep);
                    let _ = i;
                    run.iter().enumerate().for_each(|(k, &x)| rows[k * width + j] = x);
                }
            }
        }
        rows.chunks_exact_mut(width).for_each(|row| row[columns..].fill(0.0));
    }
}

/// Writes element `k` of the four runs next to each other at `out[k * width..]`.
#[inline(always)]
fn transpose_4_by_16(runs: [&[f32]; 4], width: usize, out: &mut [f32]) {
    let [a, b, c, d] = runs.map(|run| run.as_chunks::<4>().0);
    for k in 0..4 {
        let (a, b, c, d) = (a[k], b[k], c[k], d[k]);
        for i in 0..4 {
            out[(4 * k + i) * width..][..4].copy_from_slice(&[a[i], b[i], c[i], d[i]]);
        }
    }
}

fn gather(src: &Operand<'_>, ks: Range<usize>, js: Range<usize>, width: usize, panel: &mut [f32]) {
    for (k, row) in ks.zip(panel.chunks_exact_mut(width)) {
        let (row, padding) = row.split_at_mut(js.len());
        row.iter_mut().zip(js.clone()).for_each(|(x, j)| *x = src.at(k, j));
        padding.fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, ArrayView2, s};

    fn expect_packed(view: ArrayView2<'_, f32>, ks: Range<usize>, js: Range<usize>) {
        for (width, lanes) in [(32, 16), (16, 8), (8, 4), (12, 1), (6, 1), (5, 1), (1, 1)] {
            let panels = Panels { width, lanes };
            let mut out = vec![f32::NAN; panels.len(ks.len(), js.len())];
            panels.pack(&Operand::new(view), ks.clone(), js.clone(), &mut out);
            for (j0, n, padded) in panels.iter(js.len()) {
                for k in 0..ks.len() {
                    for j in 0..padded {
                        let wanted = if j < n { view[[ks.start + k, js.start + j0 + j]] } else { 0.0 };
                        assert_eq!(out[j0 * ks.len() + k * padded + j], wanted, "width {width} k {k} j {j0}+{j}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_layout_is_packed_alike() {
        let x = Array2::from_shape_fn((70, 90), |(i, j)| (i * 100 + j) as f32);
        for view in [x.view(), x.t(), x.slice(s![..;2, ..;3]), x.slice(s![..;-1, ..]), x.slice(s![.., ..;-1])] {
            let (k, n) = view.dim();
            for (ks, js) in [(0..k, 0..n), (3..k - 1, 1..n.min(18)), (0..0, 0..5), (7..8, 2..3)] {
                expect_packed(view, ks, js);
            }
        }
    }
}
