//! Few rows of `a`: every task packs the part of `b` it needs and uses it at once.
//!
//! With few rows, packing `b` ahead would send it through memory three times (read, write, read). Here a stripe
//! of `b` (64 columns of a depth block, 96 KiB) is packed into L2 and multiplied from there; `b` passes through memory
//! once. Serves up to [`SKINNY_ROWS`](super::blocking::SKINNY_ROWS) rows wherever [`super::gemv`] does not: bfloat16,
//! float32 from nine rows on, and `b` in columns on processors without AVX2.

use super::blocking::{Cuts, STRIPE};
use super::buffers::{self, Buffer};
use super::micro::Micro;
use super::operand::Deep;
use super::pack::Panels;
use super::schedule::row_of_tiles;
use super::target::Step;
use super::{Product, for_each_task};
use std::ops::Range;

/// Computes the product, in parallel if `parallel`.
pub fn run(micro: &Micro, product: &Product<'_>, b: &Deep<'_>, parallel: bool) {
    let stripes = Cuts::every(product.n, STRIPE);
    for_each_task(parallel, stripes.count(), |task| run_stripe(micro, product, b, stripes.range(task)));
}

/// Computes the columns of one task.
fn run_stripe(micro: &Micro, product: &Product<'_>, b: &Deep<'_>, columns: Range<usize>) {
    let depth = product.depth;
    let panels = Panels::of_b(micro);
    let (strip_len, a_len) = (micro.mr * STRIPE, depth.step() * product.m);
    buffers::with(Buffer::Task, strip_len + panels.len(depth.step(), STRIPE) + a_len, |room| {
        let (strip, room) = room.split_at_mut(strip_len);
        let (b_room, a_room) = room.split_at_mut(panels.len(depth.step(), STRIPE));
        let strip = bytemuck::must_cast_slice_mut(strip);
        for (depth_block, us) in depth.iter().enumerate() {
            let units = us.len();
            Panels::of_a(micro).pack(&product.left, us.clone(), 0..product.m, &mut a_room[..product.m * units]);
            let b_room = &mut b_room[..panels.len(units, columns.len())];
            panels.pack(b, us, columns.clone(), b_room);
            let step = Step { first: depth_block == 0, last: depth_block + 1 == depth.count() };
            for (row, height, _) in Panels::of_a(micro).iter(product.m) {
                let (rows, a) = (row..row + height, &a_room[row * units..][..height * units]);
                // SAFETY: every task has columns of its own.
                unsafe { row_of_tiles(micro, &product.target, rows, columns.clone(), step, a, b_room, strip) };
            }
        }
    });
}
