//! Large products: `b` packed once for all tasks, the output cut into tasks.
//!
//! A pass takes as much of `b` as [`PACKED_MAX`](super::blocking::PACKED_MAX) allows: one parallel region packs it, one
//! computes with it. (`b` packed ahead needs one region in all.) Where several blocks of columns need the same rows of `a`,
//! those are packed before as well; else each task packs its own, some panels at a time. Tasks are tiles of the output, those of one block of
//! columns next to each other, so that threads work on the same part of `b` at the same time and L3 serves it once.

use super::blocking::{self, Cuts, Depth, STRIPE};
use super::buffers::{self, Buffer};
use super::micro::{Micro, Tile};
use super::operand::Deep;
use super::pack::Panels;
use super::packed::{Layout, Packed};
use super::target::{Step, Target};
use super::{Product, for_each_task};
use crate::parallel;
use std::ops::Range;

/// Computes the product with `b` as it lies in memory, in parallel if `parallel`.
pub fn run(micro: &Micro, product: &Product<'_>, b: &Deep<'_>, parallel: bool) {
    let depth = product.depth;
    let depth_pass = Cuts::every(depth.count(), blocking::depth_blocks_per_pass());
    let pass_depth = depth.step() * depth_pass.step().min(depth.count());
    let column_pass = Cuts::every(product.n, blocking::columns_per_pass(product.n, pass_depth));
    for columns in column_pass.iter() {
        for depth_blocks in depth_pass.iter() {
            let layout = Layout::new(micro, depth, depth_blocks, columns.clone());
            buffers::with(Buffer::Pass, layout.len(), |units| {
                layout.pack(b, parallel, units);
                Pass::new(micro, product, &layout, columns.len(), units).run(parallel);
            });
        }
    }
}

/// Computes the product with `b` packed ahead, in parallel if `parallel`.
pub fn run_packed(product: &Product<'_>, b: &Packed, parallel: bool) {
    Pass::new(b.micro, product, &b.layout, b.n, b.units()).run(parallel);
}

/// Some columns and some blocks of depth of a product.
struct Pass<'a> {
    micro: &'a Micro,
    product: &'a Product<'a>,
    layout: &'a Layout,
    /// The packed `b`.
    units: &'a [u32],
    /// The columns of the pass by task.
    blocks: Cuts,
    /// The rows by task.
    rows: Cuts,
}

impl<'a> Pass<'a> {
    fn new(
        micro: &'a Micro,
        product: &'a Product<'a>,
        layout: &'a Layout,
        columns: usize,
        units: &'a [u32],
    ) -> Pass<'a> {
        let deep = layout.depth.step() * layout.depth_blocks.len();
        let (rows, blocks) = blocking::tasks(product.m, columns, deep);
        Pass { micro, product, layout, units, blocks, rows }
    }

    /// Packs `a` too where several blocks of columns need it, and computes.
    fn run(&self, parallel: bool) {
        let cell = self.rows.step() * self.layout.depth.step();
        let len = cell * self.rows.count() * self.layout.depth_blocks.len();
        if self.blocks.count() == 1 || len > blocking::A_PACKED_MAX {
            return self.multiply(None, parallel);
        }
        buffers::with(Buffer::Left, len, |units| {
            let pack = |i: usize, cell: &mut [u32]| {
                let depth_block = self.layout.depth_blocks.start + i / self.rows.count();
                let (us, rows) = (self.layout.depth.range(depth_block), self.rows.range(i % self.rows.count()));
                let cell = &mut cell[..us.len() * rows.len()];
                Panels::of_a(self.micro).pack(&self.product.left, us, rows, cell);
            };
            let cells = cell.max(1);
            if parallel {
                parallel::for_each_chunk(units, cells, pack);
            } else {
                units.chunks_mut(cells).enumerate().for_each(|(i, cell)| pack(i, cell));
            }
            self.multiply(Some(units), parallel);
        });
    }

    /// Runs the tasks, with `a` packed or to be packed by them.
    fn multiply(&self, a: Option<&[u32]>, parallel: bool) {
        for_each_task(parallel, self.rows.count() * self.blocks.count(), |task| {
            self.run_task(task / self.rows.count(), task % self.rows.count(), a);
        });
    }

    /// Computes a block of rows and columns over the pass's depth.
    fn run_task(&self, column_block: usize, row_block: usize, a: Option<&[u32]>) {
        let (micro, depth, rows) = (self.micro, self.layout.depth, self.rows.range(row_block));
        with_task_room(micro, depth, |room, strip| {
            for depth_block in self.layout.depth_blocks.clone() {
                let us = depth.range(depth_block);
                if let Some(a) = a {
                    let cell = (depth_block - self.layout.depth_blocks.start) * self.rows.count() + row_block;
                    let a = &a[cell * self.rows.step() * depth.step()..][..rows.len() * us.len()];
                    self.run_panels(column_block, rows.clone(), depth_block, a, strip);
                    continue;
                }
                for group in Cuts::every(rows.len(), GROUP * micro.mr).iter() {
                    let group = rows.start + group.start..rows.start + group.end;
                    let a = &mut room[..group.len() * us.len()];
                    Panels::of_a(micro).pack(&self.product.left, us.clone(), group.clone(), a);
                    self.run_panels(column_block, group, depth_block, a, strip);
                }
            }
        });
    }

    /// Multiplies packed panels of `a` with a block of depth and columns of `b`.
    fn run_panels(
        &self,
        column_block: usize,
        rows: Range<usize>,
        depth_block: usize,
        panels: &[u32],
        strip: &mut [f32],
    ) {
        let (depth, columns) = (self.layout.depth, self.blocks.range(column_block));
        let (units, stripes) = (depth.range(depth_block).len(), self.layout.stripes);
        let step = Step { first: depth_block == 0, last: depth_block + 1 == depth.count() };
        for (i, height, _) in Panels::of_a(self.micro).iter(rows.len()) {
            let rows = rows.start + i..rows.start + i + height;
            let a = &panels[i * units..][..height * units];
            for stripe in columns.start / STRIPE..columns.end.div_ceil(STRIPE) {
                let columns = stripes.range(stripe);
                let columns = self.layout.column + columns.start..self.layout.column + columns.end;
                let b = self.layout.cell(self.units, stripe, depth_block);
                let target = &self.product.target;
                // SAFETY: every task has rows and columns of its own.
                unsafe { row_of_tiles(self.micro, target, rows.clone(), columns, step, a, b, strip) };
            }
        }
    }
}

/// Panels of `a` that are packed together: their rows are one run in memory where `a` is transposed.
const GROUP: usize = 4;

/// Calls `f` with room for a group of panels of `a` and for a strip of sums.
fn with_task_room<R>(micro: &Micro, depth: Depth, f: impl FnOnce(&mut [u32], &mut [f32]) -> R) -> R {
    let strip = micro.mr * STRIPE;
    buffers::with(Buffer::Task, strip + GROUP * micro.mr * depth.step(), |room| {
        let (strip, panels) = room.split_at_mut(strip);
        f(panels, bytemuck::must_cast_slice_mut(strip))
    })
}

/// Multiplies a packed panel of `a` with packed panels of `b`: the tiles of `rows` and `columns`, at most [`STRIPE`].
///
/// # Safety
/// Nobody else may use these rows and columns of the target.
pub unsafe fn row_of_tiles(
    micro: &Micro,
    target: &Target<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    step: Step,
    a: &[u32],
    b: &[u32],
    strip: &mut [f32],
) {
    let units = a.len() / rows.len();
    let finishes = step.last && target.is_finished(micro);
    if finishes {
        target.fetch(&rows, &columns);
    }
    for (j, n, width) in Panels::of_b(micro).iter(columns.len()) {
        let b = &b[j * units..][..width * units];
        let tile = if finishes {
            Tile::of_strip(strip, j, rows.len(), n, units, a, b)
        } else {
            target.tile(rows.clone(), columns.start + j..columns.start + j + n, step, units, a, b)
        };
        // SAFETY: passed on from the caller; the tile lies within its rows and columns, or within the strip.
        unsafe { micro.run(&tile) };
    }
    if finishes {
        // SAFETY: passed on from the caller.
        unsafe { target.finish(micro.isa, rows, columns, step, strip, STRIPE) };
    }
}
