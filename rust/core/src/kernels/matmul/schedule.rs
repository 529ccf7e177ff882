//! Large products: the output cut into tasks, `b` packed by whoever needs it first.
//!
//! A pass takes as much of `b` as [`PACKED_MAX`](super::blocking::PACKED_MAX) allows. Its tasks are tiles of the output,
//! the tasks of one block of columns next to each other, so that threads work on the same part of `b` at the same time
//! and L3 serves it once. There is one parallel region a pass and no barrier in it: a task packs what nobody has begun
//! of its block of `b`, waits for what others have begun, and goes on.

use super::Product;
use super::blocking::{self, Cuts};
use super::buffers::{self, Buffer};
use super::micro::MicroKernel;
use super::output::{Output, Step};
use super::pack::Panels;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

/// Computes the product with microkernel `M`, in parallel if `parallel`.
///
/// # Safety
/// The processor must have the instruction set of `M`.
pub unsafe fn run<M: MicroKernel>(product: &Product<'_>, parallel: bool) {
    let depth = blocking::depth(product.k);
    let depth_pass = Cuts::every(depth.count(), blocking::depth_blocks_per_pass());
    let pass_depth = depth.step() * depth_pass.step().min(depth.count());
    let column_pass = Cuts::every(product.n, blocking::columns_per_pass(product.n, pass_depth));
    for columns in column_pass.iter() {
        for depth_blocks in depth_pass.iter() {
            let pass = Pass::new::<M>(product, depth, depth_blocks, columns.clone());
            buffers::with(Buffer::Pass, pass.packed_len(), |room| {
                let packed = PackedB::new(&pass, room);
                super::for_each_task(parallel, pass.rows.count() * pass.blocks.count(), |task| {
                    // SAFETY: passed on from the caller; every task has rows and columns of its own.
                    unsafe { pass.run_task::<M>(&packed, task) }
                });
            });
        }
    }
}

/// One pass: some columns and some blocks of depth of a product.
struct Pass<'a> {
    product: &'a Product<'a>,
    /// The depth of the whole product.
    depth: Cuts,
    /// The blocks of it that are this pass's.
    depth_blocks: Range<usize>,
    /// The first column of the pass.
    column: usize,
    /// The columns of the pass by stripe, the unit of packing.
    stripes: Cuts,
    /// The same columns by task.
    blocks: Cuts,
    /// The rows by task.
    rows: Cuts,
    panels: Panels,
}

impl<'a> Pass<'a> {
    fn new<M: MicroKernel>(
        product: &'a Product<'a>,
        depth: Cuts,
        depth_blocks: Range<usize>,
        columns: Range<usize>,
    ) -> Pass<'a> {
        let blocks = Cuts::even(columns.len(), blocking::NC, blocking::STRIPE);
        let rows = Cuts::every(product.m, blocking::rows_per_task(product.m, blocks.count()));
        let stripes = Cuts::every(columns.len(), blocking::STRIPE);
        let panels = Panels::of_b::<M>();
        Pass { product, depth, depth_blocks, column: columns.start, stripes, blocks, rows, panels }
    }

    /// Floats that a stripe of a depth block takes at most.
    fn cell_len(&self) -> usize {
        self.panels.len(self.depth.step(), blocking::STRIPE)
    }

    /// Floats that the pass's part of `b` takes.
    fn packed_len(&self) -> usize {
        self.cell_len() * self.stripes.count() * self.depth_blocks.len()
    }

    /// The stripes that make up a block of columns.
    fn stripes_of(&self, block: usize) -> Range<usize> {
        let columns = self.blocks.range(block);
        columns.start / blocking::STRIPE..columns.end.div_ceil(blocking::STRIPE)
    }

    /// Computes one tile of the output over the pass's depth.
    ///
    /// # Safety
    /// The processor must have the instruction set of `M`, and no two calls for the same task may run at a time.
    unsafe fn run_task<M: MicroKernel>(&self, packed: &PackedB<'_, '_>, task: usize) {
        let (block, rows) = (task / self.rows.count(), self.rows.range(task % self.rows.count()));
        packed.pack(block);
        buffers::with(Buffer::Task, M::MR * self.depth.step(), |panel| {
            for kb in self.depth_blocks.clone() {
                packed.wait(block, kb);
                let panel_rows = Cuts::even(rows.len(), M::MR, 1);
                for panel_rows in panel_rows.iter() {
                    let panel_rows = rows.start + panel_rows.start..rows.start + panel_rows.end;
                    // SAFETY: passed on from the caller.
                    unsafe { self.run_panel::<M>(packed, block, kb, panel_rows, panel) };
                }
            }
        });
    }

    /// Packs a panel of `a` and multiplies it with a block of `b`.
    ///
    /// # Safety
    /// As for [`Pass::run_task`].
    unsafe fn run_panel<M: MicroKernel>(
        &self,
        packed: &PackedB<'_, '_>,
        block: usize,
        kb: usize,
        rows: Range<usize>,
        panel: &mut [f32],
    ) {
        let ks = self.depth.range(kb);
        let panel = &mut panel[..rows.len() * ks.len()];
        Panels::of_a::<M>(rows.len()).pack(&self.product.a_t, ks.clone(), rows.clone(), panel);
        let step = Step { first: kb == 0, last: kb + 1 == self.depth.count() };
        for stripe in self.stripes_of(block) {
            let columns = self.stripes.range(stripe);
            let b = packed.cell(stripe, kb);
            // SAFETY: passed on from the caller.
            unsafe {
                row_of_tiles::<M>(
                    &self.product.out,
                    rows.clone(),
                    self.column + columns.start,
                    columns.len(),
                    step,
                    panel,
                    b,
                );
            }
        }
    }
}

/// Multiplies a packed panel of `a` with packed panels of `b`: the tiles of `rows` from `column` on.
///
/// # Safety
/// The processor must have the instruction set of `M`; nobody else may use these rows and columns of `out`.
pub unsafe fn row_of_tiles<M: MicroKernel>(
    out: &Output<'_>,
    rows: Range<usize>,
    column: usize,
    columns: usize,
    step: Step,
    a: &[f32],
    b: &[f32],
) {
    let k = a.len() / rows.len();
    for (j, n, width) in Panels::of_b::<M>().iter(columns) {
        let tile_columns = column + j..column + j + n;
        // SAFETY: passed on from the caller; the tile lies within the rows and columns that are its own.
        unsafe { M::run(&out.tile(rows.clone(), tile_columns, step, k, a, &b[j * k..][..width * k])) };
    }
}

/// The packed `b` of a pass, a cell for each stripe of each depth block.
struct PackedB<'p, 'r> {
    pass: &'p Pass<'p>,
    cells: Vec<Cell<'r>>,
    /// A thread unwound out of a cell it had taken: nobody will ever finish it.
    abandoned: AtomicBool,
}

/// Raises the flag when it is dropped; forgotten where all went well.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Room for a stripe: taken by the thread that packs it, then shown to all.
struct Cell<'r> {
    room: Mutex<Option<&'r mut [f32]>>,
    packed: OnceLock<&'r [f32]>,
}

impl<'p, 'r> PackedB<'p, 'r> {
    fn new(pass: &'p Pass<'p>, room: &'r mut [f32]) -> PackedB<'p, 'r> {
        let cell = |room| Cell { room: Mutex::new(Some(room)), packed: OnceLock::new() };
        let count = pass.stripes.count() * pass.depth_blocks.len();
        // The chunks of an empty depth are empty.
        let mut rooms = room.chunks_mut(pass.cell_len().max(1));
        let cells = (0..count).map(|_| cell(rooms.next().unwrap_or_default())).collect();
        PackedB { pass, cells, abandoned: AtomicBool::new(false) }
    }

    fn index(&self, stripe: usize, kb: usize) -> usize {
        (kb - self.pass.depth_blocks.start) * self.pass.stripes.count() + stripe
    }

    /// Packs what nobody has begun of a block of columns.
    fn pack(&self, block: usize) {
        for kb in self.pass.depth_blocks.clone() {
            for stripe in self.pass.stripes_of(block) {
                let cell = &self.cells[self.index(stripe, kb)];
                if cell.packed.get().is_some() {
                    continue;
                }
                let taken = cell.room.lock().unwrap_or_else(|e| e.into_inner()).take();
                if let Some(room) = taken {
                    let alarm = Alarm(&self.abandoned);
                    let (ks, js) = (self.pass.depth.range(kb), self.pass.stripes.range(stripe));
                    let room = &mut room[..self.pass.panels.len(ks.len(), js.len())];
                    let js = self.pass.column + js.start..self.pass.column + js.end;
                    self.pass.panels.pack(&self.pass.product.b, ks, js, room);
                    let _ = cell.packed.set(room);
                    std::mem::forget(alarm);
                }
            }
        }
    }

    /// Waits until others have packed what they have begun: some microseconds, unless the system took their core away.
    ///
    /// # Panics
    /// Where one of them has panicked, instead of waiting for ever.
    fn wait(&self, block: usize, kb: usize) {
        for stripe in self.pass.stripes_of(block) {
            let mut spins = 0u32;
            while self.cells[self.index(stripe, kb)].packed.get().is_none() {
                assert!(!self.abandoned.load(Ordering::Relaxed), "another task of this product panicked");
                spins += 1;
                if spins.is_multiple_of(1024) { std::thread::yield_now() } else { std::hint::spin_loop() }
            }
        }
    }

    /// The packed stripe; [`PackedB::wait`] comes first.
    fn cell(&self, stripe: usize, kb: usize) -> &[f32] {
        self.cells[self.index(stripe, kb)].packed.get().expect("packed before it is used")
    }
}
