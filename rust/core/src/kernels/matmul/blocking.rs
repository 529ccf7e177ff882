//! Block sizes, and how a length is cut into blocks.
//!
//! Every size depends on the shape of the product alone, never on the number of threads or on the instruction set, so
//! that each element of the output is the same sum in the same order everywhere. Tile registers alone have deeper blocks
//! (`KC_TILED`), hence other sums.
//!
//! The loops of a product, from the outside in, and the cache that holds what is used again:
//!
//! | loop | step | what stays | bytes | where |
//! |---|---|---|---|---|
//! | columns and depth of `b` | [`PACKED_MAX`] | packed `b` | 16 MiB | L3 (32 MiB, shared) |
//! | task: columns | [`NC`] | packed block of `b`, `KC x NC` | 384 x 512 x 4 = 768 KiB | L2 (1 MiB a core) |
//! | task: rows | [`tasks`] | | | |
//! | depth | [`KC`] | | | |
//! | rows | `MR` = 12 | packed panel of `a`, `MR x KC` | 12 x 384 x 4 = 18 KiB | L1 (32 KiB) |
//! | columns | `NR` = 32 | tile of `c` | 12 x 32 x 4 = 1.5 KiB | registers |
//!
//! A panel of `b` passes from L2 through L1 at 128 bytes in the 24 cycles of a step of the 12 x 32 tile, a tenth of what
//! the port gives.

use std::ops::Range;

/// The deepest block. A chain of additions is at most this long; the chains of the blocks are added in order.
pub const KC: usize = 384;

/// The deepest block in tile registers: a stripe of `b` of 256 KiB and the rows of a task, 512 KiB, stay in L2.
#[cfg(target_arch = "x86_64")]
const KC_TILED: usize = 1024;

/// Columns of a task's block of `b`.
pub const NC: usize = 8 * STRIPE;

/// Columns that are packed as one piece of work, and finished as one strip; every `NR` divides it.
pub const STRIPE: usize = 64;

/// Floats of packed `b` at a time.
pub const PACKED_MAX: usize = 4 << 20;

/// Units of `a` up to which it is packed before the tasks.
pub const A_PACKED_MAX: usize = 2 << 20;

/// Rows of `a` up to which `b` is not packed ahead: there would be nothing to share.
pub const SKINNY_ROWS: usize = 48;

/// Every `MR` divides it.
const ROW_UNIT: usize = 12;

/// Tasks that a product is cut into if it is large enough: enough to balance some ten threads.
const TASKS: usize = 64;

/// Tasks below which a product is cut finer than is best for one thread, so that two can share it evenly.
const TASKS_MIN: usize = 16;

/// Multiplications of units below which a task is not cut: some five microseconds.
const TASK_WORK: usize = 1 << 18;

/// A length cut into blocks of equal size, but for the last, which may be smaller.
#[derive(Clone, Copy, Debug)]
pub struct Cuts {
    len: usize,
    step: usize,
}

impl Cuts {
    /// Blocks of at most `most`, as equal as multiples of `unit` allow. A length of 0 is one empty block.
    pub fn even(len: usize, most: usize, unit: usize) -> Cuts {
        let count = len.div_ceil(most).max(1);
        Cuts { len, step: len.div_ceil(count).next_multiple_of(unit).max(1) }
    }

    /// Blocks of `step`.
    pub fn every(len: usize, step: usize) -> Cuts {
        Cuts { len, step: step.max(1) }
    }

    /// The number of blocks, at least one.
    pub fn count(self) -> usize {
        self.len.div_ceil(self.step).max(1)
    }

    /// The size of every block but the last.
    pub fn step(self) -> usize {
        self.step
    }

    /// The indices in block `i`.
    pub fn range(self, i: usize) -> Range<usize> {
        (i * self.step).min(self.len)..((i + 1) * self.step).min(self.len)
    }

    /// All blocks, in order.
    pub fn iter(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.count()).map(move |i| self.range(i))
    }
}

/// The depth of a product in blocks; of equal size, so that no short block wastes a pass over `c`. What extends it
/// lengthens the last.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    cuts: Cuts,
    /// Units behind those of the blocks.
    extension: usize,
}

impl Depth {
    /// The blocks of `units`, extended.
    pub fn new(units: usize, extension: usize) -> Depth {
        Depth { cuts: Cuts::even(units, KC, 8), extension }
    }

    /// The same for tile registers, whose sums wait in them for a whole block.
    #[cfg(target_arch = "x86_64")]
    pub fn tiled(units: usize, extension: usize) -> Depth {
        Depth { cuts: Cuts::even(units, KC_TILED, super::tiled::UNIT), extension }
    }

    /// The number of blocks, at least one.
    pub fn count(self) -> usize {
        self.cuts.count()
    }

    /// The size of the largest block.
    pub fn step(self) -> usize {
        self.cuts.step() + self.extension
    }

    /// The units in block `i`.
    pub fn range(self, i: usize) -> Range<usize> {
        let Range { start, end } = self.cuts.range(i);
        start..if i + 1 == self.count() { end + self.extension } else { end }
    }

    /// All blocks, in order.
    pub fn iter(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.count()).map(move |i| self.range(i))
    }
}

/// Rows and columns of a pass by task, for a depth of `units`.
///
/// A block of `b` comes into L2 once a task: larger tasks are cheaper, smaller ones balance better.
pub fn tasks(m: usize, columns: usize, units: usize) -> (Cuts, Cuts) {
    let mut blocks = Cuts::even(columns, NC, STRIPE);
    let wanted = m * blocks.count() / TASKS;
    let mut rows = Cuts::even(m, wanted.clamp(4 * ROW_UNIT, 20 * ROW_UNIT), ROW_UNIT);
    rows = Cuts::every(m, rows.step());
    while rows.count() * blocks.count() < TASKS_MIN && rows.step() * blocks.step() * units >= 2 * TASK_WORK {
        if blocks.step() > STRIPE {
            blocks = Cuts::every(columns, (blocks.step() / 2).next_multiple_of(STRIPE));
        } else if rows.step() > ROW_UNIT {
            rows = Cuts::every(m, (rows.step() / 2).next_multiple_of(ROW_UNIT));
        } else {
            break;
        }
    }
    (rows, blocks)
}

/// Columns of `b` that are packed together, for `k` rows of it.
pub fn columns_per_pass(n: usize, k: usize) -> usize {
    let most = (PACKED_MAX / k.clamp(1, PACKED_MAX)).max(NC) / NC * NC;
    Cuts::even(n, most, NC).step()
}

/// Blocks of depth that are packed together.
pub fn depth_blocks_per_pass() -> usize {
    PACKED_MAX / (NC * KC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_a_length_once_and_fit() {
        for (len, most, unit) in
            [(0, 5, 1), (1, 384, 8), (384, 384, 8), (385, 384, 8), (1024, 384, 8), (3073, 512, 128)]
        {
            let cuts = Cuts::even(len, most, unit);
            assert!(cuts.iter().flatten().eq(0..len), "{len} {most} {unit}");
            assert!(cuts.iter().all(|r| r.len() <= most.next_multiple_of(unit)));
        }
        assert_eq!((Depth::new(0, 0).count(), Depth::new(0, 0).range(0)), (1, 0..0));
        assert!((0..4000).all(|k| Depth::new(k, 0).step() <= KC));
    }

    #[test]
    fn an_extension_moves_no_block() {
        for k in [0, 1, 384, 385, 1024] {
            let (plain, extended) = (Depth::new(k, 0), Depth::new(k, 9));
            assert!(extended.iter().flatten().eq(0..k + 9) && plain.count() == extended.count());
            assert!((0..plain.count()).all(|i| plain.range(i).start == extended.range(i).start));
            assert!(extended.iter().all(|range| range.len() <= extended.step()));
        }
    }

    #[test]
    fn tasks_cover_a_product_and_balance() {
        for (m, n, k) in
            [(49, 1, 1), (768, 128, 128), (128, 512, 768), (65, 128, 256), (2048, 3072, 768), (50257, 768, 9)]
        {
            let (rows, blocks) = tasks(m, n, k);
            assert!(rows.iter().flatten().eq(0..m) && blocks.iter().flatten().eq(0..n));
            assert!(rows.step().is_multiple_of(ROW_UNIT) && blocks.step().is_multiple_of(STRIPE));
            let tasks = rows.count() * blocks.count();
            assert!(tasks >= TASKS_MIN || m.min(12) * n.min(128) * k < 4 * TASK_WORK, "{m} {n} {k}: {tasks}");
        }
    }

    #[test]
    fn a_pass_fits_the_buffer() {
        for k in [1, 100, 384, 768, 4096, 8064, 100_000] {
            let depth = Depth::new(k, 0);
            let depth = depth.step() * depth.count().min(depth_blocks_per_pass());
            let columns = columns_per_pass(50_257, depth);
            assert!(columns.is_multiple_of(STRIPE) && depth * columns <= PACKED_MAX, "{k}: {depth} x {columns}");
        }
    }
}
