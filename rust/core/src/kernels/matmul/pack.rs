//! Packing: a block of a matrix copied into panels that the microkernel reads from end to end.
//!
//! A panel holds `width` neighbouring columns of a block, row after row: element `(k, j)` of a panel is at
//! `k * width + j`. Panels follow each other; the last is as wide as its columns need, rounded up to whole vectors and
//! filled with zeros. `b` is packed as it is (`K` by `N`), `a` as its transpose (`K` by `M`), so one function serves both:
//!
//! - rows adjacent in memory: runs are copied;
//! - columns adjacent in memory (a `.t()` view of rows): blocks are transposed in registers
//!   ([`super::micro::transpose`]), or copied lane by lane where there are none;
//! - anything else: element by element.

use super::micro::{self, MicroKernel};
use super::operand::Operand;
use crate::simd::Isa;
use std::ops::Range;

/// The shape of panels.
#[derive(Clone, Copy)]
pub struct Panels {
    /// Columns of a panel.
    pub width: usize,
    /// The last panel's width is a multiple of this.
    pub lanes: usize,
    /// Whose vectors may be used.
    pub isa: Isa,
}

impl Panels {
    /// The panels of `b` for microkernel `M`.
    pub fn of_b<M: MicroKernel>() -> Panels {
        Panels { width: M::NR, lanes: M::LANES, isa: M::ISA }
    }

    /// The one panel of `rows` rows of `a` for microkernel `M`.
    pub fn of_a<M: MicroKernel>(rows: usize) -> Panels {
        Panels { width: rows, lanes: 1, isa: M::ISA }
    }

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
        if src.has_runs() {
            return self.copy(src, ks, js, out);
        }
        let (k, columns) = (ks.len(), src.t());
        for (j, n, width) in self.iter(js.len()) {
            let js = js.start + j..js.start + j + n;
            let panel = &mut out[j * k..][..k * width];
            if !columns.has_runs() {
                gather(src, ks.clone(), js, width, panel);
            } else if !micro::transpose(self.isa, &columns, ks.clone(), js.clone(), width, panel) {
                transpose(&columns, ks.clone(), js, width, panel);
            }
            if n < width {
                panel.chunks_exact_mut(width).for_each(|row| row[n..].fill(0.0));
            }
        }
    }

    /// Packs from rows: a run of all columns at a time, so that memory is read in long pieces.
    fn copy(self, src: &Operand<'_>, ks: Range<usize>, js: Range<usize>, out: &mut [f32]) {
        match self.width {
            32 => self.copy_rows::<32>(src, ks, js, out),
            16 => self.copy_rows::<16>(src, ks, js, out),
            12 => self.copy_rows::<12>(src, ks, js, out),
            8 => self.copy_rows::<8>(src, ks, js, out),
            6 => self.copy_rows::<6>(src, ks, js, out),
            _ => self.copy_rows::<1>(src, ks, js, out),
        }
    }

    /// Whole panels of `W` columns are copied by moves of a length that the compiler knows. If that is not the width,
    /// there must be one panel at most.
    fn copy_rows<const W: usize>(self, src: &Operand<'_>, ks: Range<usize>, js: Range<usize>, out: &mut [f32]) {
        debug_assert!(self.width == W || js.len() <= self.width);
        let k = ks.len();
        let whole = if self.width == W { js.len() / W } else { 0 };
        let (panels, last) = out.split_at_mut(whole * W * k);
        let rest = js.len() - whole * W;
        let width = rest.next_multiple_of(self.lanes);
        for (i, row) in ks.enumerate() {
            let (run, tail) = src.run(row, js.clone()).split_at(whole * W);
            for (p, x) in run.as_chunks::<W>().0.iter().enumerate() {
                panels[(p * k + i) * W..][..W].copy_from_slice(x);
            }
            if rest > 0 {
                let (columns, padding) = last[i * width..][..width].split_at_mut(rest);
                columns.copy_from_slice(tail);
                padding.fill(0.0);
            }
        }
    }
}

/// Packs from `src`, whose *rows* are the panel's columns, without vectors.
fn transpose(src: &Operand<'_>, ks: Range<usize>, js: Range<usize>, width: usize, panel: &mut [f32]) {
    // Sixteen rows at a time: every cache line of the source is used up while it is there.
    for k in ks.clone().step_by(16) {
        let deep = k..ks.end.min(k + 16);
        for (j, column) in js.clone().enumerate() {
            for (&x, k) in src.run(column, deep.clone()).iter().zip(k - ks.start..) {
                panel[k * width + j] = x;
            }
        }
    }
}

/// Packs element by element.
fn gather(src: &Operand<'_>, ks: Range<usize>, js: Range<usize>, width: usize, panel: &mut [f32]) {
    for (k, row) in ks.zip(panel.chunks_exact_mut(width)) {
        row.iter_mut().zip(js.clone()).for_each(|(x, j)| *x = src.at(k, j));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::isa;
    use ndarray::{Array2, ArrayView2, s};

    const WIDTHS: [(usize, usize); 6] = [(32, 16), (16, 8), (8, 4), (12, 1), (6, 1), (1, 1)];

    fn expect_packed(view: ArrayView2<'_, f32>, ks: Range<usize>, js: Range<usize>) {
        for ((width, lanes), isa) in WIDTHS.iter().flat_map(|&w| isa::available().into_iter().map(move |isa| (w, isa)))
        {
            let panels = Panels { width, lanes, isa };
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
