//! `b` in panels: how a block of it is laid out in cells, and matrices that are packed ahead of their products.

use super::blocking::{Cuts, Depth, STRIPE};
use super::matrix::{Matrix, Precision};
use super::micro::Micro;
use super::operand::Deep;
use super::pack::Panels;
#[cfg(target_arch = "x86_64")]
use super::tiled;
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernels::check;
use crate::parallel;
use crate::simd::{Isa, isa};
use std::ops::Range;

/// Some columns and blocks of depth of `b`, packed: a cell of panels for each stripe of columns of each block of depth.
pub struct Layout {
    panels: Panels,
    /// The depth of a cell is filled up with zeros to a multiple.
    unit: usize,
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
        Layout { panels: Panels::of_b(micro), unit: 1, depth, depth_blocks, column: columns.start, stripes }
    }

    /// The same for tile registers.
    #[cfg(target_arch = "x86_64")]
    pub fn tiled(depth: Depth, depth_blocks: Range<usize>, columns: Range<usize>) -> Layout {
        let stripes = Cuts::every(columns.len(), STRIPE);
        let (panels, unit) = (tiled::panels(), tiled::UNIT);
        Layout { panels, unit, depth, depth_blocks, column: columns.start, stripes }
    }

    /// Units of a cell, whatever the last of a row of cells needs of them.
    fn cell_len(&self) -> usize {
        self.panels.len(self.depth.step().next_multiple_of(self.unit), STRIPE)
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
            let (live, units) = (us.len(), us.len().next_multiple_of(self.unit));
            let cell = &mut cell[..self.panels.len(units, js.len())];
            let columns = self.column + js.start..self.column + js.end;
            self.panels.pack_deeper(b, us, columns, units, cell);
            if live < units {
                for (j, _, width) in self.panels.iter(js.len()) {
                    cell[j * units..][live * width..units * width].fill(0);
                }
            }
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
    /// Whether it is for tile registers.
    pub(super) tiled: bool,
    pub(super) layout: Layout,
    pub(super) k: usize,
    pub(super) n: usize,
    buffer: Buffer,
}

impl Packed {
    /// Room for matrices of `k` rows and `n` columns, for products of one precision; of zeros until [`Packed::pack`].
    pub fn new(precision: Precision, k: usize, n: usize) -> Result<Packed> {
        let isa = isa::current();
        let layout = Self::layout(isa, precision, k, n);
        let buffer = Buffer::zeros(layout.len(), "packed weights")?;
        Ok(Packed { micro: Micro::of(isa, precision), tiled: serves_tiles(isa, precision), layout, k, n, buffer })
    }

    fn layout(isa: Isa, precision: Precision, k: usize, n: usize) -> Layout {
        let units = precision.units(k);
        #[cfg(target_arch = "x86_64")]
        if serves_tiles(isa, precision) {
            let depth = Depth::tiled(units, 0);
            return Layout::tiled(depth, 0..depth.count(), 0..n);
        }
        let depth = Depth::new(units, 0);
        Layout::new(Micro::of(isa, precision), depth, 0..depth.count(), 0..n)
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
        size_of::<f32>() * Self::layout(isa::current(), precision, k, n).len()
    }

    pub(super) fn units(&self) -> &[u32] {
        bytemuck::must_cast_slice(&self.buffer)
    }
}

/// Whether products in `precision` go through tile registers.
pub fn serves_tiles(isa: Isa, precision: Precision) -> bool {
    #[cfg(target_arch = "x86_64")]
    return tiled::serves(isa, precision);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (isa, precision);
        false
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
