//! Few rows of `a`: every task packs the part of `b` it needs and uses it at once.
//!
//! With few rows, packing `b` ahead would send it through memory three times (read, write, read). Here a stripe
//! of `b` (128 columns of a depth block, 192 KiB) is packed into L2 and multiplied from there; `b` passes through memory once. Serves
//! transposed `b` at any number of rows up to [`SKINNY_ROWS`](super::blocking::SKINNY_ROWS) (the logits of a decode
//! step against tied embeddings), and `b` in rows where [`super::gemv`] does not.

use super::Product;
use super::blocking::{self, Cuts};
use super::buffers::{self, Buffer};
use super::micro::MicroKernel;
use super::output::Step;
use super::pack::Panels;
use super::schedule::row_of_tiles;
use std::ops::Range;

/// Computes the product with microkernel `M`, in parallel if `parallel`.
///
/// # Safety
/// The processor must have the instruction set of `M`.
pub unsafe fn run<M: MicroKernel>(product: &Product<'_>, parallel: bool) {
    let stripes = Cuts::every(product.n, blocking::STRIPE);
    super::for_each_task(parallel, stripes.count(), |task| {
        // SAFETY: passed on from the caller; every task has columns of its own.
        unsafe { run_stripe::<M>(product, stripes.range(task)) }
    });
}

/// Computes the columns of one task.
///
/// # Safety
/// The processor must have the instruction set of `M`; nobody else may use these columns of the output.
unsafe fn run_stripe<M: MicroKernel>(product: &Product<'_>, columns: Range<usize>) {
    let depth = blocking::depth(product.k);
    let row_panels = Cuts::even(product.m, M::MR, 1);
    let panels = Panels::of_b::<M>();
    let a_len = depth.step() * product.m;
    buffers::with(Buffer::Task, a_len + panels.len(depth.step(), blocking::STRIPE), |room| {
        let (a_room, b_room) = room.split_at_mut(a_len);
        for (kb, ks) in depth.iter().enumerate() {
            let k = ks.len();
            for rows in row_panels.iter() {
                let a = &mut a_room[rows.start * k..rows.end * k];
                Panels::of_a::<M>(rows.len()).pack(&product.a_t, ks.clone(), rows, a);
            }
            let b = &mut b_room[..panels.len(k, columns.len())];
            panels.pack(&product.b, ks, columns.clone(), b);
            let step = Step { first: kb == 0, last: kb + 1 == depth.count() };
            for rows in row_panels.iter() {
                let a = &a_room[rows.start * k..rows.end * k];
                // SAFETY: passed on from the caller.
                unsafe { row_of_tiles::<M>(&product.out, rows, columns.start, columns.len(), step, a, b) };
            }
        }
    });
}
