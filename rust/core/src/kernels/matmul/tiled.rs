//! Products of bfloat16 numbers in tile registers (AMX): ten times as many a cycle as vectors have.
//!
//! A task takes 64 columns and up to 128 rows. `b` lies in panels of 16 columns, which are tiles one after the other, and a
//! row of `a` is a row of a tile: where rows of bfloat16 numbers are runs in memory, as activations are, they are read
//! where they lie; else they are rounded, or turned, before the tasks.
//!
//! A block of depth is a chain of tiles ([`crate::simd::amx`]), so bits differ from those of vectors. They do not depend on
//! the other rows and columns, nor on the number of threads.

use super::blocking::{self, Cuts, STRIPE};
use super::buffers::{self, Buffer};
use super::matrix::Precision;
use super::micro::{self, amx};
use super::operand::{Deep, Operand, Source};
use super::pack::{Packable, Panels, Place};
use super::packed::{Layout, Packed};
use super::quantized::Round;
use super::target::Step;
use super::{Product, for_each_task};
use crate::parallel;
use crate::simd::{Isa, bf16, dispatch};
use amx::PANEL;
use std::ops::Range;

/// Units of depth that a row of a tile has: depth is filled up to a multiple.
pub const UNIT: usize = 16;

/// Rows of a task: its strip of sums is 32 KiB.
const ROWS: usize = 128;

/// Rows that are turned together.
const TURNED: usize = PANEL;

/// Whether products in `precision` are computed here.
pub fn serves(isa: Isa, precision: Precision) -> bool {
    isa == Isa::Amx && precision == Precision::Bfloat16
}

/// The panels of `b`.
pub fn panels() -> Panels {
    Panels { width: PANEL, lanes: PANEL, precision: Precision::Bfloat16, isa: Isa::Amx }
}

/// Computes the product with `b` as it lies in memory, in parallel if `parallel`.
pub fn run(product: &Product<'_>, b: &Deep<'_>, parallel: bool) {
    let depth = product.depth;
    let padded = depth.step().next_multiple_of(UNIT);
    for depth_block in 0..depth.count() {
        with_left(product, depth.range(depth_block), parallel, |left| {
            for columns in Cuts::every(product.n, blocking::columns_per_pass(product.n, padded)).iter() {
                let layout = Layout::tiled(depth, depth_block..depth_block + 1, columns.clone());
                buffers::with(Buffer::Pass, layout.len(), |units| {
                    layout.pack(b, parallel, units);
                    multiply(product, &left, &layout, units, depth_block, columns.len(), parallel);
                });
            }
        });
    }
}

/// Computes the product with `b` packed ahead, in parallel if `parallel`.
pub fn run_packed(product: &Product<'_>, b: &Packed, parallel: bool) {
    for depth_block in 0..product.depth.count() {
        with_left(product, product.depth.range(depth_block), parallel, |left| {
            multiply(product, &left, &b.layout, b.units(), depth_block, b.n, parallel);
        });
    }
}

/// Rows of bfloat16 numbers: a block of the depth of `a`, filled up to whole tiles.
#[derive(Clone, Copy)]
struct Left {
    start: *const bf16,
    /// Numbers from one row to the next.
    pitch: usize,
    /// Columns, a multiple of 32.
    depth: usize,
}

// SAFETY: the pointer stands for a shared borrow, of an operand or of packed rows, that outlives all tasks.
unsafe impl Send for Left {}
// SAFETY: as for Send.
unsafe impl Sync for Left {}

impl Left {
    /// Where row `i` begins.
    fn row(&self, i: usize) -> *const bf16 {
        self.start.wrapping_add(i * self.pitch)
    }
}

/// Calls `f` with the units `us` of all rows of `a`.
fn with_left(product: &Product<'_>, us: Range<usize>, parallel: bool, f: impl FnOnce(Left)) {
    let left = &product.left;
    let padded = us.len().next_multiple_of(UNIT);
    if let (Source::Half(a_t), None) = (left.own, left.extension)
        && us.len() == padded
        && 2 * us.end <= product.k
        && let Some((start, pitch)) = a_t.t().start_of_runs(2 * us.start)
    {
        return f(Left { start, pitch, depth: 2 * padded });
    }
    buffers::with(Buffer::Left, product.m * padded, |units| {
        let pack = |i: usize, out: &mut [u32]| {
            let rows = i * TURNED..product.m.min((i + 1) * TURNED);
            pack_rows(left, us.clone(), rows, padded, out);
        };
        let len = (TURNED * padded).max(1);
        match parallel {
            true => parallel::for_each_chunk(units, len, pack),
            false => units.chunks_mut(len).enumerate().for_each(|(i, out)| pack(i, out)),
        }
        f(Left { start: units.as_ptr().cast(), pitch: 2 * padded, depth: 2 * padded });
    });
}

/// Writes units `us` of some rows of `a`, `pitch` units from one row to the next, and zeros behind them.
fn pack_rows(left: &Deep<'_>, us: Range<usize>, rows: Range<usize>, pitch: usize, out: &mut [u32]) {
    let own = us.start..us.end.min(left.units);
    put(&left.own, own.clone(), rows.clone(), 0, pitch, out);
    if let Some(extension) = left.extension.filter(|_| us.end > left.units) {
        put(&extension, 0..us.end - left.units, rows, own.len(), pitch, out);
    }
    out.chunks_mut(pitch).for_each(|row| row[us.len()..].fill(0));
}

/// Writes units `us` of some rows of the transpose of `source`, from unit `first` of each row of `out` on.
fn put(source: &Source<'_>, us: Range<usize>, rows: Range<usize>, first: usize, pitch: usize, out: &mut [u32]) {
    match source {
        Source::Float(a_t) if a_t.t().has_runs() => put_runs(a_t, us, rows, first, pitch, out),
        Source::Half(a_t) if a_t.t().has_runs() => put_runs(a_t, us, rows, first, pitch, out),
        _ => buffers::with(Buffer::Task, us.len() * PANEL, |units| {
            panels().pack_source(source, us.clone(), rows.clone(), Place { units: us.len(), first: 0 }, units);
            let from: &[[f32; PANEL]] = bytemuck::must_cast_slice::<u32, f32>(units).as_chunks().0;
            let (eights, rest) = from.as_chunks::<{ micro::BLOCK }>();
            for (u, eight) in eights.iter().enumerate() {
                let runs: [&[f32]; micro::BLOCK] = eight.each_ref().map(|unit| &unit[..rows.len()]);
                micro::transpose(Isa::Amx, &runs, pitch, &mut out[first + u * micro::BLOCK..]);
            }
            let done = first + eights.len() * micro::BLOCK;
            for (u, unit) in rest.iter().enumerate() {
                unit[..rows.len()].iter().enumerate().for_each(|(i, x)| out[i * pitch + done + u] = x.to_bits());
            }
        }),
    }
}

/// [`put`] from rows that are runs in memory.
fn put_runs<E: Packable>(
    a_t: &Operand<'_, E>,
    us: Range<usize>,
    rows: Range<usize>,
    first: usize,
    pitch: usize,
    out: &mut [u32],
) {
    let ks = 2 * us.start..(2 * us.end).min(a_t.rows());
    for (row, out) in rows.zip(out.chunks_mut(pitch)) {
        let x: &mut [bf16] = bytemuck::must_cast_slice_mut(&mut out[first..first + us.len()]);
        dispatch(Isa::Amx, Round { row: a_t.t().run(row, ks.clone()), x });
    }
}

/// Multiplies a block of depth of all rows with that of some columns, the first of which is `layout.column`.
fn multiply(
    product: &Product<'_>,
    left: &Left,
    layout: &Layout,
    units: &[u32],
    depth_block: usize,
    columns: usize,
    parallel: bool,
) {
    let rows = Cuts::every(product.m, ROWS);
    let step = Step { first: depth_block == 0, last: depth_block + 1 == product.depth.count() };
    let stripes = columns.div_ceil(STRIPE);
    for_each_task(parallel, stripes * rows.count(), |task| {
        let (stripe, rows) = (task / rows.count(), rows.range(task % rows.count()));
        let columns = layout.stripes.range(stripe);
        let cell: &[u8] = bytemuck::must_cast_slice(layout.cell(units, stripe, depth_block));
        let count = if left.depth == 0 { 0 } else { columns.len().div_ceil(PANEL) };
        let panels: Vec<&[u8]> = cell.chunks_exact((2 * PANEL * left.depth).max(1)).take(count).collect();
        buffers::with(Buffer::Task, rows.len() * STRIPE, |strip| {
            let strip: &mut [f32] = bytemuck::must_cast_slice_mut(strip);
            let x = left.row(rows.start);
            if left.depth == 0 {
                strip.fill(0.0);
            }
            // SAFETY: `a` has these rows, each with `left.depth` numbers.
            unsafe { amx::floats_at(x, left.pitch, rows.len(), left.depth, &panels, strip, STRIPE) };
            let first = layout.column + columns.start;
            // SAFETY: every task has rows and columns of its own.
            unsafe { product.target.write(Isa::Amx, rows, first..first + columns.len(), step, strip, STRIPE) };
        });
    });
}
