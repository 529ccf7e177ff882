//! `b` in few bits: a task takes four panels of it at a time, 64 columns, through all of its rows of `a`.
//!
//! With one row memory is read once, in one stream a panel, and nothing else costs anything to speak of. With many, a panel
//! stays in L1 or L2 while they pass.
//!
//! Integers meet rows that are rounded block by block, all of them before the tasks ([`activations`]); their sums have the
//! same bits on every instruction set. Numbers of bfloat16 meet rows that are rounded to bfloat16, in one of the ways of
//! [`floats`].

use super::blocking::{Cuts, STRIPE};
use super::buffers::{self, Buffer};
use super::floats::{AsTiles, Chains, Dots, Floats, Way};
use super::matrix::Matrix;
#[cfg(target_arch = "x86_64")]
use super::micro::amx::floats;
use super::operand::{Operand, Source};
use super::target::Step;
use super::{Product, for_each_task};
#[cfg(doc)]
use crate::kernels::quantized::activations;
use crate::kernels::quantized::activations::{Activations, Quantize, RoundBlocks};
use crate::kernels::quantized::layout::{BLOCK, PANEL};
use crate::kernels::quantized::micro::{self, Micro, Tile};
use crate::kernels::quantized::{Format, QuantizedMatrix};
use crate::parallel;
use crate::simd::{Element, Isa, Kernel, LANES, Simd, bf16, dispatch, round_to_bf16};
use std::borrow::Cow;
use std::ops::Range;

/// Rows of `a` of a task: its strip of sums is 32 KiB.
const ROWS: usize = 128;

/// Bytes of weights that a task with one row reads, where there are so many for each thread.
const TASK_BYTES: usize = 1 << 20;

/// What all tasks share.
struct Shared<'a> {
    isa: Isa,
    product: &'a Product<'a>,
    matrix: &'a QuantizedMatrix,
    extension: Option<(Source<'a>, Source<'a>)>,
}

/// Computes the product, in parallel if `parallel`.
pub fn run(product: &Product<'_>, matrix: &QuantizedMatrix, extension: Option<Matrix<'_>>, parallel: bool) {
    let extension = product.left.extension.zip(extension.map(Source::from));
    let shared = Shared { isa: product.isa, product, matrix, extension };
    let (m, k) = (product.m, product.k);
    if matrix.format() == Format::BF16 {
        return shared.run_floats(parallel);
    }
    let blocks = k.div_ceil(BLOCK);
    #[cfg(target_arch = "x86_64")]
    if product.isa == Isa::Amx && m >= micro::amx::MANY {
        return buffers::with(Buffer::Left, m * blocks * BLOCK / 2, |x| {
            let x: &mut [bf16] = bytemuck::must_cast_slice_mut(x);
            each_row(parallel, x.chunks_mut((blocks * BLOCK).max(1)), |i, out| {
                match Row::new(&product.left.own, i, k) {
                    Row::Float(x) => dispatch(shared.isa, RoundBlocks { x: &x, out }),
                    Row::Half(x) => dispatch(shared.isa, RoundBlocks { x: &x, out }),
                }
            });
            shared.run(parallel, |rows, panels, strip| {
                shared.blocks(&x[rows.start * blocks * BLOCK..rows.end * blocks * BLOCK], panels, strip);
            });
        });
    }
    let (numbers, all) = (m * blocks * BLOCK / size_of::<u32>(), m * blocks);
    let form = Micro::of(shared.isa).form;
    buffers::with(Buffer::Left, 2 * numbers + 2 * all, |room| {
        let (numbers, rest) = room.split_at_mut(2 * numbers);
        let (scales, sums) = rest.split_at_mut(all);
        let numbers: &mut [i8] = bytemuck::must_cast_slice_mut(numbers);
        let (first, second) = numbers.split_at_mut(numbers.len() / 2);
        let (scales, sums): (&mut [f32], &mut [i32]) =
            (bytemuck::must_cast_slice_mut(scales), bytemuck::must_cast_slice_mut(sums));
        let one = blocks.max(1);
        let planes = first.chunks_mut(one * BLOCK).zip(second.chunks_mut(one * BLOCK));
        let rows = planes.zip(scales.chunks_mut(one)).zip(sums.chunks_mut(one));
        each_row(parallel, rows, |i, (((first, second), scales), sums)| {
            let planes = [first, second];
            match Row::new(&product.left.own, i, k) {
                Row::Float(x) => dispatch(shared.isa, Quantize { x: &x, form, planes, scales, sums }),
                Row::Half(x) => dispatch(shared.isa, Quantize { x: &x, form, planes, scales, sums }),
            }
        });
        let x = Activations { planes: [first, second], scales, sums, blocks };
        shared.run(parallel, |rows, panels, strip| shared.integers(x, rows, panels, strip));
    });
}

/// Calls `f` for every row; a few are not worth a region.
fn each_row<T: Send>(parallel: bool, rows: impl Iterator<Item = T>, f: impl Fn(usize, T) + Sync + Send) {
    const FEW: usize = 8;
    let rows: Vec<T> = rows.collect();
    if parallel && rows.len() > FEW {
        parallel::for_each(rows, f);
    } else {
        rows.into_iter().enumerate().for_each(|(i, row)| f(i, row));
    }
}

/// A row of `a`; a copy where its numbers are not adjacent.
enum Row<'a> {
    Float(Cow<'a, [f32]>),
    Half(Cow<'a, [bf16]>),
}

impl<'a> Row<'a> {
    /// Row `i`, of `k` numbers, of the matrix whose transpose is `a_t`.
    fn new(a_t: &Source<'a>, i: usize, k: usize) -> Self {
        match a_t {
            Source::Float(a) => Row::Float(Self::of(a, i, k)),
            Source::Half(a) => Row::Half(Self::of(a, i, k)),
        }
    }

    fn of<E: Element>(a_t: &Operand<'a, E>, i: usize, k: usize) -> Cow<'a, [E]> {
        match a_t.t().has_runs() {
            true => Cow::Borrowed(a_t.t().run(i, 0..k)),
            false => Cow::Owned((0..k).map(|k| a_t.at(k, i)).collect()),
        }
    }
}

impl Shared<'_> {
    /// Runs the tasks: `sums` makes the sums of some rows and panels, [`STRIPE`] from one row to the next.
    fn run(&self, parallel: bool, sums: impl Fn(Range<usize>, Range<usize>, &mut [f32]) + Sync) {
        let (m, n) = (self.product.m, self.product.n);
        let (stripes, rows) = (Cuts::every(n, STRIPE), Cuts::every(m, ROWS));
        let together = Cuts::every(stripes.count(), self.stripes_of_a_task(stripes.count()));
        for_each_task(parallel, together.count() * rows.count(), |task| {
            let (together, rows) = (together.range(task / rows.count()), rows.range(task % rows.count()));
            buffers::with(Buffer::Task, rows.len() * STRIPE, |strip| {
                let strip: &mut [f32] = bytemuck::must_cast_slice_mut(strip);
                for stripe in together {
                    let (rows, columns) = (rows.clone(), stripes.range(stripe));
                    sums(rows.clone(), columns.start / PANEL..columns.end.div_ceil(PANEL), strip);
                    self.extend(rows.clone(), columns.clone(), strip);
                    let step = Step { first: true, last: true };
                    // SAFETY: every task has rows and columns of its own.
                    unsafe { self.product.target.write(self.isa, rows, columns, step, strip, STRIPE) };
                }
            });
        });
    }

    /// How many of `count` stripes a task takes: with few rows a stripe is read in a microsecond or two, and what the hardware
    /// fetches behind it belongs to another thread.
    fn stripes_of_a_task(&self, count: usize) -> usize {
        let stripe = self.matrix.panel(0).0.len() * STRIPE / PANEL;
        (TASK_BYTES / (stripe * self.product.m).max(1)).min(count / (2 * parallel::num_threads())).max(1)
    }

    fn integers(&self, x: Activations<'_>, rows: Range<usize>, panels: Range<usize>, strip: &mut [f32]) {
        let (micro, format) = (Micro::of(self.isa), self.matrix.format());
        for (p, panel) in panels.clone().enumerate() {
            let (bytes, scales) = self.matrix.panel(panel);
            #[cfg(target_arch = "x86_64")]
            if self.isa == Isa::Amx && rows.len() >= micro::amx::LEAST {
                micro::amx::integers(format, bytes, scales, x, rows.clone(), &mut strip[p * PANEL..], STRIPE);
                continue;
            }
            for first in (0..rows.len()).step_by(micro::ROWS) {
                let mut out = [[0.0; PANEL]; micro::ROWS];
                let count = micro::ROWS.min(rows.len() - first);
                let row = rows.start + first;
                micro.run(format, &mut Tile { panel: bytes, scales, x, row, out: &mut out[..count] });
                for (i, out) in out[..count].iter().enumerate() {
                    strip[(first + i) * STRIPE + p * PANEL..][..PANEL].copy_from_slice(out);
                }
            }
        }
    }

    /// Integers with many rows, which were rounded block by block.
    #[cfg(target_arch = "x86_64")]
    fn blocks(&self, x: &[bf16], panels: Range<usize>, strip: &mut [f32]) {
        let numbers = micro::amx::unpacked_numbers(self.product.k.div_ceil(BLOCK));
        for (p, panel) in panels.enumerate() {
            let (bytes, scales) = self.matrix.panel(panel);
            buffers::with(Buffer::Panel, numbers / 2, |room| {
                let room: &mut [bf16] = bytemuck::must_cast_slice_mut(room);
                micro::amx::unpack_panel(self.matrix.format(), bytes, room);
                micro::amx::blocks(room, scales, x, &mut strip[p * PANEL..], STRIPE);
            });
        }
    }

    /// Adds what extends the product, number by number behind the sums of all blocks.
    fn extend(&self, rows: Range<usize>, columns: Range<usize>, strip: &mut [f32]) {
        let Some((left, right)) = self.extension else { return };
        for (i, sums) in rows.zip(strip.chunks_exact_mut(STRIPE)) {
            let sums = &mut sums[..columns.len()];
            let columns = columns.clone();
            match right {
                Source::Float(right) if right.has_runs() => {
                    dispatch(self.isa, Extend { left_t: left, right, i, columns, sums });
                }
                Source::Half(right) if right.has_runs() => {
                    dispatch(self.isa, Extend { left_t: left, right, i, columns, sums });
                }
                _ => {
                    for r in 0..right.rows() {
                        let x = at(&left, r, i);
                        let numbers = columns.clone().map(|j| at(&right, r, j));
                        sums.iter_mut().zip(numbers).for_each(|(sum, y)| *sum += x * y);
                    }
                }
            }
        }
    }

    /// Rounds the rows to bfloat16 and runs the tasks.
    fn run_floats(&self, parallel: bool) {
        #[cfg(target_arch = "x86_64")]
        if self.isa == Isa::Amx && self.product.m >= micro::amx::LEAST {
            let (m, depth) = (self.product.m, self.product.k.next_multiple_of(BLOCK));
            return buffers::with(Buffer::Left, m * depth / 2, |x| {
                let x: &mut [bf16] = bytemuck::must_cast_slice_mut(x);
                each_row(parallel, x.chunks_mut(depth.max(1)), |i, x| self.round_row(i, x));
                self.run(parallel, |rows, panels, strip| {
                    let panels: Vec<&[u8]> = panels.map(|p| self.matrix.panel(p).0).collect();
                    floats(&x[rows.start * depth..rows.end * depth], depth, &panels, strip, STRIPE);
                });
            });
        }
        if self.isa == Isa::Amx {
            self.run_way::<AsTiles, f32>(parallel);
        } else if self.isa.prefers_bf16() {
            self.run_way::<Dots, bf16>(parallel);
        } else {
            self.run_way::<Chains, f32>(parallel);
        }
    }

    /// Rounds the rows to bfloat16, as numbers of type `E`, and runs the tasks one way.
    fn run_way<W: Way, E: Element>(&self, parallel: bool) {
        let (m, depth) = (self.product.m, self.product.k.next_multiple_of(BLOCK));
        let pairs = depth / 2;
        buffers::with(Buffer::Left, m * depth * size_of::<E>() / size_of::<u32>(), |x| {
            let x: &mut [E] = bytemuck::must_cast_slice_mut(x);
            each_row(parallel, x.chunks_mut(depth.max(1)), |i, x| self.round_row(i, x));
            let x: &[W::X] = bytemuck::cast_slice(x);
            self.run(parallel, |rows, panels, strip| {
                let panels: Vec<&[[u32; PANEL]]> =
                    panels.map(|p| bytemuck::cast_slice(self.matrix.panel(p).0).as_chunks().0).collect();
                let x = &x[rows.start * pairs..rows.end * pairs];
                dispatch(self.isa, Floats::<W> { x, pairs, panels: &panels, strip });
            });
        });
    }

    /// Row `i`, rounded to bfloat16 and filled up with zeros.
    fn round_row<E: Element>(&self, i: usize, x: &mut [E]) {
        match Row::new(&self.product.left.own, i, self.product.k) {
            Row::Float(row) => dispatch(self.isa, Round { row: &row, x }),
            Row::Half(row) => dispatch(self.isa, Round { row: &row, x }),
        }
    }
}

/// A row rounded to bfloat16, filled up with zeros.
pub(super) struct Round<'a, F, E> {
    pub row: &'a [F],
    pub x: &'a mut [E],
}

impl<F: Element, E: Element> Kernel for Round<'_, F, E> {
    type Output = ();
    const BF16: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (whole, tail) = self.row.as_chunks::<LANES>();
        let (x, rest) = self.x.split_at_mut(self.row.len());
        let (out, out_tail) = x.as_chunks_mut::<LANES>();
        let mut half = [bf16::ZERO; LANES];
        for (from, out) in whole.iter().zip(out) {
            s.store_half(&mut half, F::load(s, from));
            E::store(s, out, s.load_half(&half));
        }
        for (from, out) in tail.iter().zip(out_tail) {
            *out = E::from_f32(round_to_bf16(from.to_f32()).to_f32());
        }
        rest.fill(E::zeroed());
    }
}

/// A number of an operand, as a float.
fn at(source: &Source<'_>, i: usize, j: usize) -> f32 {
    match source {
        Source::Float(x) => x.at(i, j),
        Source::Half(x) => x.at(i, j).to_f32(),
    }
}

/// Some columns of a row of sums, to be extended.
struct Extend<'a, E> {
    left_t: Source<'a>,
    right: Operand<'a, E>,
    i: usize,
    columns: Range<usize>,
    sums: &'a mut [f32],
}

impl<E: Element> Kernel for Extend<'_, E> {
    type Output = ();
    const BF16: bool = E::HALF;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for r in 0..self.right.rows() {
            let (x, row) = (s.splat(at(&self.left_t, r, self.i)), self.right.run(r, self.columns.clone()));
            for at in (0..row.len()).step_by(LANES) {
                let sum = s.fma(x, E::load_at(s, row, at, 0.0), s.load_at(self.sums, at, 0.0));
                s.store_at(self.sums, at, sum);
            }
        }
    }
}
