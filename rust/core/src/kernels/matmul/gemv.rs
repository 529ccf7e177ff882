//! One to eight rows of `a`: the products of a decode step, bound by the speed of memory.
//!
//! `b` in rows is read once, where it lies ([`run_rows`]): a task takes a block of depth and as many columns as it can
//! keep sums of in L1, so that what it reads is one run of memory, or few; eight rows at a time. `b` in columns is
//! transposed in registers ([`run_transposed`]). Each element is the same chains of multiply-adds as in the tiles of larger
//! products, added in the same order, so a decoded token has the bits of a prefilled one.

#[cfg(target_arch = "x86_64")]
use super::blocking;
use super::blocking::Cuts;
use super::buffers::{self, Buffer};
use super::grid::Grid;
use super::matrix::Precision;
#[cfg(target_arch = "x86_64")]
use super::micro::{self, dot};
use super::operand::{Deep, Operand, Source};
use super::target::Step;
use super::{Product, for_each_task};
use crate::parallel;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch, prefetch_line};
use std::ops::Range;

/// The largest number of rows of `a` that is taken here.
pub const MAX_ROWS: usize = 8;

/// Columns of a task that are not cut further for the sake of more threads: a run of 1 KiB.
const SHORTEST: usize = 256;

/// Elements of the output whose blocks' sums a thread adds before another one is asked to help: below this, waking it
/// takes as long as the sums do.
const MERGED: usize = 16384;

/// Columns whose runs are transposed at a time: chains enough for the multiply-add pipes, and no more streams than the
/// hardware follows.
const COLUMNS: usize = 16;

/// The same with more than four rows, whose sums take more registers.
const FEW_COLUMNS: usize = 8;

/// Rows of `b` at a time.
const DEEP: usize = 8;

/// Both operands and what extends them, in float32.
#[derive(Clone, Copy)]
struct Operands<'a> {
    /// `a`, transposed.
    a_t: Operand<'a, f32>,
    b: Operand<'a, f32>,
    /// The same of the extension, whose right side runs along its rows.
    extension: Option<(Operand<'a, f32>, Operand<'a, f32>)>,
}

impl<'a> Operands<'a> {
    fn new(left: &Deep<'a>, right: &Deep<'a>) -> Option<Self> {
        let (Source::Float(a_t), Source::Float(b)) = (left.own, right.own) else { return None };
        let extension = match (left.extension, right.extension) {
            (None, None) => None,
            (Some(Source::Float(a_t)), Some(Source::Float(b))) if b.has_runs() => Some((a_t, b)),
            _ => return None,
        };
        Some(Operands { a_t, b, extension })
    }

    /// The rows of `b` in block `ks` of depth.
    fn own(&self, ks: &Range<usize>) -> Range<usize> {
        ks.start..ks.end.min(self.b.rows())
    }
}

/// Computes the product with `right`, in parallel if `parallel`; `false` (and nothing is done) where it is not in float32,
/// has more than [`MAX_ROWS`] rows, or `right` lies in memory in a way that is not for this.
pub fn run(isa: Isa, product: &Product<'_>, right: &Deep<'_>, parallel: bool) -> bool {
    if product.m > MAX_ROWS || product.precision != Precision::Float32 {
        return false;
    }
    let Some(operands) = Operands::new(&product.left, right) else { return false };
    if operands.b.has_runs() {
        run_rows(isa, product, operands, parallel);
        return true;
    }
    #[cfg(target_arch = "x86_64")]
    if product.n >= COLUMNS && operands.b.t().has_runs() && micro::has_transpose(isa) {
        // SAFETY: the instruction set was just asked for.
        unsafe { run_transposed(isa, product, operands, parallel) };
        return true;
    }
    false
}

/// `b` runs along its rows.
fn run_rows(isa: Isa, product: &Product<'_>, operands: Operands<'_>, parallel: bool) {
    match product.m {
        1 => stretches::<1, 4096>(isa, product, operands, parallel),
        2 => stretches::<2, 2048>(isa, product, operands, parallel),
        3 => stretches::<3, 1024>(isa, product, operands, parallel),
        4 => stretches::<4, 1024>(isa, product, operands, parallel),
        5 => stretches::<5, 512>(isa, product, operands, parallel),
        6 => stretches::<6, 512>(isa, product, operands, parallel),
        7 => stretches::<7, 512>(isa, product, operands, parallel),
        _ => stretches::<MAX_ROWS, 512>(isa, product, operands, parallel),
    }
}

/// Computes a product of `M` rows; a task has a block of depth and at most `N` columns.
fn stretches<const M: usize, const N: usize>(isa: Isa, product: &Product<'_>, operands: Operands<'_>, parallel: bool) {
    let (depth, n) = (product.depth, product.n);
    let blocks = depth.count();
    let chunks = Cuts::even(n, N.min(longest(n, blocks, if parallel { parallel::num_threads() } else { 1 })), LANES);
    if blocks == 1 {
        return for_each_task(parallel, chunks.count(), |task| {
            let (columns, step) = (chunks.range(task), Step { first: true, last: true });
            with_sums::<M, N>(isa, operands, depth.range(0), columns.clone(), |sums| {
                // SAFETY: every task has columns of its own.
                unsafe { product.target.write(isa, 0..M, columns, step, sums.as_flattened_mut(), N) };
            });
        });
    }
    buffers::with(Buffer::Sums, blocks * M * n, |room| {
        let room: &mut [f32] = bytemuck::must_cast_slice_mut(room);
        let all = Grid::from_slice(room, n);
        for_each_task(parallel, blocks * chunks.count(), |task| {
            let (kb, columns) = (task / chunks.count(), chunks.range(task % chunks.count()));
            with_sums::<M, N>(isa, operands, depth.range(kb), columns.clone(), |sums| {
                for (i, sums) in sums.iter().enumerate() {
                    // SAFETY: every task has a block and columns of its own.
                    let kept = unsafe { all.run_mut(kb * M + i, columns.clone()) };
                    kept.copy_from_slice(&sums[..columns.len()]);
                }
            });
        });
        let runs = Cuts::every(n, MERGED / M);
        for_each_task(parallel && runs.count() > 1, runs.count(), |task| {
            for kb in 0..blocks {
                let step = Step { first: kb == 0, last: kb + 1 == blocks };
                for i in 0..M {
                    let columns = runs.range(task);
                    // SAFETY: the tasks above have ended, and every one of these has columns of its own.
                    unsafe {
                        let sums = all.run_mut(kb * M + i, columns.clone());
                        product.target.write(isa, i..i + 1, columns, step, sums, n);
                    }
                }
            }
        });
    });
}

/// Calls `f` with the sums over `ks` of `M` rows and some columns, in the first places of each row.
fn with_sums<const M: usize, const N: usize>(
    isa: Isa,
    operands: Operands<'_>,
    ks: Range<usize>,
    columns: Range<usize>,
    f: impl FnOnce(&mut [[f32; N]; M]),
) {
    buffers::with(Buffer::Task, M * N, |room| {
        let room: &mut [f32] = bytemuck::must_cast_slice_mut(room);
        let sums: &mut [[f32; N]; M] = room.as_chunks_mut().0.try_into().expect("M rows");
        sums.iter_mut().for_each(|sums| sums[..columns.len()].fill(0.0));
        dispatch(isa, Stretch { operands, ks, columns, sums });
        f(sums);
    });
}

/// Columns of a task, of `n`: as many as leave every thread as much to do, since shorter runs are read more slowly.
/// (Elements are independent of each other, so this changes no bits.)
fn longest(n: usize, blocks: usize, threads: usize) -> usize {
    let most = n.div_ceil(SHORTEST).max(1);
    let is_even = |chunks: &usize| (blocks * chunks).is_multiple_of(threads) || blocks * chunks >= 4 * threads;
    n.div_ceil((1..most).find(is_even).unwrap_or(most)).next_multiple_of(LANES)
}

/// `b` runs along its columns.
///
/// # Safety
/// The processor must have the instructions of [`dot`].
#[cfg(target_arch = "x86_64")]
unsafe fn run_transposed(isa: Isa, product: &Product<'_>, operands: Operands<'_>, parallel: bool) {
    let stripes = Cuts::every(product.n, blocking::STRIPE);
    for_each_task(parallel, stripes.count(), |task| {
        let columns = stripes.range(task);
        // SAFETY: passed on from the caller; every task has columns of its own.
        unsafe {
            match product.m {
                1 => columns_transposed::<1, COLUMNS>(isa, product, operands, columns),
                2 => columns_transposed::<2, COLUMNS>(isa, product, operands, columns),
                3 => columns_transposed::<3, COLUMNS>(isa, product, operands, columns),
                4 => columns_transposed::<4, COLUMNS>(isa, product, operands, columns),
                5 => columns_transposed::<5, FEW_COLUMNS>(isa, product, operands, columns),
                6 => columns_transposed::<6, FEW_COLUMNS>(isa, product, operands, columns),
                7 => columns_transposed::<7, FEW_COLUMNS>(isa, product, operands, columns),
                _ => columns_transposed::<MAX_ROWS, FEW_COLUMNS>(isa, product, operands, columns),
            }
        }
    });
}

/// Computes some columns of a product of `M` rows.
///
/// # Safety
/// The processor must have the instructions of [`dot`]; nobody else may use these columns of the output.
#[cfg(target_arch = "x86_64")]
unsafe fn columns_transposed<const M: usize, const N: usize>(
    isa: Isa,
    product: &Product<'_>,
    operands: Operands<'_>,
    columns: Range<usize>,
) {
    let (depth, b) = (product.depth, &operands.b.t());
    buffers::with(Buffer::Task, M * product.k, |room| {
        let room: &mut [f32] = bytemuck::must_cast_slice_mut(room);
        let a = room.as_chunks_mut::<M>().0;
        for (k, a) in a.iter_mut().enumerate() {
            for (i, a) in a.iter_mut().enumerate() {
                *a = operands.a_t.at(k, i);
            }
        }
        for first in columns.clone().step_by(N) {
            // The last columns may need some before them to fill the vectors: those are not written once more.
            let j = first.min(product.n - N);
            let n = N.min(columns.end - first);
            for (kb, ks) in depth.iter().enumerate() {
                let step = Step { first: kb == 0, last: kb + 1 == depth.count() };
                // SAFETY: passed on from the caller.
                unsafe {
                    let own = operands.own(&ks);
                    let mut sums = dot::sums::<M, N>(&a[own.clone()], b, j, own.clone());
                    if let Some((a_t, b)) = operands.extension.filter(|_| ks.end > own.end) {
                        let columns = j..j + N;
                        dispatch(isa, Rows::<M, N> { a_t, b, columns, sums: &mut sums });
                    }
                    for i in 0..M {
                        let columns = first..first + n;
                        product.target.write(isa, i..i + 1, columns, step, &mut sums[i][first - j..][..n], n);
                    }
                }
            }
        }
    });
}

/// Sums of a block of depth and at most `N` columns, for `M` rows.
struct Stretch<'a, const M: usize, const N: usize> {
    operands: Operands<'a>,
    ks: Range<usize>,
    columns: Range<usize>,
    sums: &'a mut [[f32; N]; M],
}

impl<const M: usize, const N: usize> Kernel for Stretch<'_, M, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Stretch { operands, ks, columns, sums } = self;
        let own = operands.own(&ks);
        let Operands { a_t, b, extension } = operands;
        add(s, &a_t, &b, &columns, own.clone(), sums);
        if let Some((a_t, b)) = extension.filter(|_| ks.end > own.end) {
            add(s, &a_t, &b, &columns, 0..b.rows(), sums);
        }
    }
}

/// Sums of `M` rows of `a` and at most `N` columns of `b`, which runs along its rows.
#[cfg(target_arch = "x86_64")]
struct Rows<'a, const M: usize, const N: usize> {
    a_t: Operand<'a, f32>,
    b: Operand<'a, f32>,
    columns: Range<usize>,
    sums: &'a mut [[f32; N]; M],
}

/// Adds all rows of `b`.
#[cfg(target_arch = "x86_64")]
impl<const M: usize, const N: usize> Kernel for Rows<'_, M, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        add(s, &self.a_t, &self.b, &self.columns, 0..self.b.rows(), self.sums);
    }
}

/// Adds `a[.., ks] b[ks, columns]` to the sums. (They must be an argument: as a field they might be what is read.)
#[inline(always)]
fn add<S: Simd, const M: usize, const N: usize>(
    s: S,
    a_t: &Operand<'_, f32>,
    b: &Operand<'_, f32>,
    columns: &Range<usize>,
    ks: Range<usize>,
    sums: &mut [[f32; N]; M],
) {
    let whole = ks.start + ks.len() / DEEP * DEEP;
    for k in (ks.start..whole).step_by(DEEP) {
        add_rows::<S, DEEP, M, N>(s, a_t, b, columns, k, sums);
    }
    for k in whole..ks.end {
        add_rows::<S, 1, M, N>(s, a_t, b, columns, k, sums);
    }
}

/// Adds `a[.., k..k + D] b[k..k + D, columns]` to the sums.
#[inline(always)]
fn add_rows<S: Simd, const D: usize, const M: usize, const N: usize>(
    s: S,
    a_t: &Operand<'_, f32>,
    b: &Operand<'_, f32>,
    columns: &Range<usize>,
    k: usize,
    sums: &mut [[f32; N]; M],
) {
    let n = columns.len();
    // Loops, not closures: those may be compiled for no instruction set and called.
    let mut rows: [(&[[f32; LANES]], &[f32]); D] = [(&[], &[]); D];
    let mut a = [[0.0; D]; M];
    for d in 0..D {
        rows[d] = b.run(k + d, columns.clone()).as_chunks();
        for i in 0..M {
            a[i][d] = a_t.at(k + d, i);
        }
    }
    let vectors = n / LANES;
    // The hardware follows a row, and would have to find the next ones anew.
    let pitch = if D > 1 { rows[1].0.as_ptr().addr().wrapping_sub(rows[0].0.as_ptr().addr()) } else { 0 };
    let next = pitch.wrapping_mul(D); // rows may lie in falling order
    for j in 0..vectors {
        if D > 1 {
            for (row, _) in &rows {
                prefetch_line(row.as_ptr().wrapping_byte_add(next).wrapping_add(j));
            }
        }
        let mut b = [s.splat(0.0); D];
        for d in 0..D {
            b[d] = s.load(&rows[d].0[j]);
        }
        for i in 0..M {
            let sum = &mut sums[i].as_chunks_mut().0[j];
            let mut x = s.load(sum);
            for d in 0..D {
                x = s.fma(s.splat(a[i][d]), b[d], x);
            }
            s.store(sum, x);
        }
    }
    for i in 0..M {
        let sum = &mut sums[i][vectors * LANES..n];
        let mut x = s.load_tail(sum, 0.0);
        for d in 0..D {
            x = s.fma(s.splat(a[i][d]), s.load_tail(rows[d].1, 0.0), x);
        }
        s.store_tail(sum, x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_for_the_sake_of_threads_alone() {
        assert_eq!([longest(768, 2, 1), longest(768, 2, 2), longest(3072, 8, 2)], [768, 768, 3072]);
        assert_eq!([longest(768, 3, 2), longest(3072, 1, 2)], [384, 1536]); // or one thread would have twice as much
        assert_eq!([longest(3072, 2, 16), longest(768, 2, 16)], [384, SHORTEST]);
        assert_eq!([longest(1, 1, 8), longest(100, 1, 8)], [LANES, 112]);
    }
}
