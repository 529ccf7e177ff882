//! `b` in panels: how a block of it is laid out in cells, and matrices that are packed ahead of their products.

use super::blocking::{Cuts, Depth, STRIPE};
use super::matrix::{Matrix, Precision};
use super::micro::Micro;
use super::operand::Deep;
use super::pack::Panels;
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernels::check;
use crate::{parallel, simd::isa};
use std::ops::Range;

/// Some columns and blocks of depth of `b`, packed: a cell of panels for each stripe of columns of each block of depth.
pub struct Layout {
    panels: Panels,
    /// The depth of the whole product, in units.
    pub depth: Depth,
    /// The blocks of it that are packed.
    pub depth_blocks: Range<usize>,
    /// The first column that is packed.
    pub column: usize,
    /// The columns that are packed, by stripe; counted from the first.
    pub stripes: Cuts,
}

impl Layout {
    /// The layout of some `columns` and `depth_blocks` for a microkernel.
    pub fn new(micro: &Micro, depth: Depth, depth_blocks: Range<usize>, columns: Range<usize>) -> Layout {
        let stripes = Cuts::every(columns.len(), STRIPE);
        Layout { panels: Panels::of_b(micro), depth, depth_blocks, column: columns.start, stripes }
    }

    /// Units of a cell, whatever the last of a row of cells needs of them.
    fn cell_len(&self) -> usize {
        self.panels.len(self.depth.step(), STRIPE)
    }

    /// Units of all cells.
    pub fn len(&self) -> usize {
        self.cell_len() * self.stripes.count() * self.depth_blocks.len()
    }

    /// The packed cell of a stripe and a block of depth.
    pub fn cell<'a>(&self, units: &'a [u32], stripe: usize, depth_block: usize) -> &'a [u32] {
        let at = (depth_block - self.depth_blocks.start) * self.stripes.count() + stripe;
        &units[at * self.cell_len()..][..self.cell_len()]
    }

    /// Packs all cells, in parallel if `parallel`.
    pub fn pack(&self, b: &Deep<'_>, parallel: bool, units: &mut [u32]) {
        let pack = |i: usize, cell: &mut [u32]| {
            let us = self.depth.range(self.depth_blocks.start + i / self.stripes.count());
            let js = self.stripes.range(i % self.stripes.count());
            let cell = &mut cell[..self.panels.len(us.len(), js.len())];
            self.panels.pack(b, us, self.column + js.start..self.column + js.end, cell);
        };
        let (units, len) = (&mut units[..self.len()], self.cell_len().max(1));
        if parallel {
            parallel::for_each_chunk(units, len, pack);
        } else {
            units.chunks_mut(len).enumerate().for_each(|(i, cell)| pack(i, cell));
        }
    }
}

/// A right operand `b (K, N)` that is packed ahead, for products with it that pack nothing of it.
///
/// It serves the instruction set that was chosen when it was made.
pub struct Packed {
    pub(super) micro: &'static Micro,
    pub(super) layout: Layout,
    pub(super) k: usize,
    pub(super) n: usize,
    buffer: Buffer,
}

impl Packed {
    /// Room for matrices of `k` rows and `n` columns, for products of one precision; of zeros until [`Packed::pack`].
    pub fn new(precision: Precision, k: usize, n: usize) -> Result<Packed> {
        let micro = Micro::of(isa::current(), precision);
        let depth = Depth::new(precision.units(k), 0);
        let layout = Layout::new(micro, depth, 0..depth.count(), 0..n);
        let buffer = Buffer::zeros(layout.len(), "packed weights")?;
        Ok(Packed { micro, layout, k, n, buffer })
    }

    /// Packs `b`; it must have the shape that this was made for, and, for products in float32, be float32.
    pub fn pack(&mut self, b: Matrix<'_>) -> Result<()> {
        let (k, n) = b.dim();
        check::shape("pack", "b", &[k, n], &[self.k, self.n])?;
        check_precision("pack", "b", &b, self.micro.precision)?;
        let b = Deep { own: b.into(), units: self.micro.precision.units(k), extension: None };
        self.layout.pack(&b, true, bytemuck::must_cast_slice_mut(&mut self.buffer));
        Ok(())
    }

    /// Bytes that the copy of such matrices takes.
    pub fn bytes(precision: Precision, k: usize, n: usize) -> usize {
        let micro = Micro::of(isa::current(), precision);
        let depth = Depth::new(precision.units(k), 0);
        size_of::<f32>() * Layout::new(micro, depth, 0..depth.count(), 0..n).len()
    }

    pub(super) fn units(&self) -> &[u32] {
        bytemuck::must_cast_slice(&self.buffer)
    }
}

/// Products in float32 take float32 operands; those in bfloat16 take both.
pub fn check_precision(op: &'static str, what: &'static str, matrix: &Matrix<'_>, precision: Precision) -> Result<()> {
    match (precision, matrix) {
        (Precision::Float32, Matrix::Half(_)) => {
            Err(Error::value(op, what, "bfloat16", "products in float32 take float32 operands"))
        }
        _ => Ok(()),
    }
}
