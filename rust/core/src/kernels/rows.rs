//! How the row kernels walk matrices: the check at the door, blocks of rows, and who runs them.
//!
//! Blocks are cut by shape alone, so that results do not depend on the number of threads.

use crate::error::{Error, Result};
use crate::parallel;
use crate::simd::Element;
use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use std::cell::Cell;
use std::ops::Range;

/// Rows whose contributions to a parameter's gradient are added up before they meet those of other blocks.
pub(super) const BLOCK: usize = 64;

/// Elements below which work stays on the calling thread: a region costs about as much as the work.
pub(super) const SERIAL: usize = 8_192;

/// Elements of a task where nothing else fixes its size: one or a few microseconds, many times what a task costs.
pub(super) const TASK: usize = 8_192;

/// An array must have the shape `expected` and rows without gaps.
pub(super) fn check(
    op: &'static str,
    what: &'static str,
    shape: [usize; 2],
    strides: &[isize],
    expected: [usize; 2],
) -> Result<()> {
    super::check::shape(op, what, &shape, &expected)?;
    if shape[1] > 1 && shape[0] > 0 && strides[1] != 1 {
        return Err(Error::shape(op, what, strides, "a last axis without gaps (stride 1)"));
    }
    Ok(())
}

/// Checks views by name: each must have the shape `[rows, columns]` and contiguous rows.
macro_rules! check_rows {
    ($op:expr, [$rows:expr, $columns:expr], $($view:ident),+) => {
        $(super::rows::check($op, stringify!($view), $view.dim().into(), $view.strides(), [$rows, $columns])?;)+
    };
}
pub(super) use check_rows;

/// Row `i`, which [`check`] found to be contiguous.
#[inline(always)]
pub(super) fn row<'a, E: Element>(view: &ArrayView2<'a, E>, i: usize) -> &'a [E] {
    view.index_axis_move(Axis(0), i).to_slice().unwrap_or_default()
}

/// Row `i` for writing.
#[inline(always)]
pub(super) fn row_mut<'a, E: Element>(view: &'a mut ArrayViewMut2<'_, E>, i: usize) -> &'a mut [E] {
    view.row_mut(i).into_slice().unwrap_or_default()
}

/// Rows of a task where nothing else fixes their number.
pub(super) fn task_rows(columns: usize) -> usize {
    (TASK / columns.max(1)).clamp(1, 1024)
}

/// `view` in blocks of `rows` rows, the last one shorter.
pub(super) fn blocks_mut<'a, E: Element>(view: ArrayViewMut2<'a, E>, rows: usize) -> Vec<ArrayViewMut2<'a, E>> {
    let (mut rest, mut blocks) = (view, Vec::new());
    while rest.nrows() > rows {
        let (block, behind) = rest.split_at(Axis(0), rows);
        blocks.push(block);
        rest = behind;
    }
    blocks.push(rest);
    blocks
}

/// `view` in blocks of `size` columns, the last one narrower.
pub(super) fn columns_mut<'a, E: Element>(
    view: ArrayViewMut2<'a, E>,
    size: usize,
) -> Vec<(Range<usize>, ArrayViewMut2<'a, E>)> {
    let (columns, mut rest, mut blocks) = (view.ncols(), view, Vec::new());
    for from in (0..columns).step_by(size) {
        let end = columns.min(from + size);
        let (block, behind) = rest.split_at(Axis(1), end - from);
        blocks.push((from..end, block));
        rest = behind;
    }
    blocks
}

/// The place of a task of a kernel that works element by element: its first row and its columns.
#[derive(Clone)]
pub(super) struct Tile {
    pub first: usize,
    pub columns: Range<usize>,
}

impl Tile {
    /// What lies in row `i` of the tile.
    #[inline(always)]
    pub fn row<'a, E: Element>(&self, view: &ArrayView2<'a, E>, i: usize) -> &'a [E] {
        &row(view, self.first + i)[self.columns.clone()]
    }
}

/// `view` in tiles: blocks of rows, or pieces of rows that are longer than a task.
pub(super) fn tiles_mut<'a, E: Element>(view: ArrayViewMut2<'a, E>) -> Vec<(Tile, ArrayViewMut2<'a, E>)> {
    let (size, mut tiles) = (task_rows(view.ncols()), Vec::new());
    for (i, block) in blocks_mut(view, size).into_iter().enumerate() {
        for (columns, piece) in columns_mut(block, TASK) {
            tiles.push((Tile { first: i * size, columns }, piece));
        }
    }
    tiles
}

/// `x` in chunks of `size`; where `x` is empty, an endless supply of empty chunks, so that it can be zipped with any number
/// of parts.
pub(super) fn chunks_mut<T>(x: &mut [T], size: usize) -> impl Iterator<Item = &mut [T]> {
    let none = x.is_empty();
    x.chunks_mut(size.max(1)).chain(std::iter::repeat_with(|| &mut [][..]).take_while(move |_| none))
}

/// Runs `task(i, part)` for every part, in parallel where the whole has enough `elements`.
pub(super) fn each<T: Send>(
    elements: usize,
    parts: impl IntoIterator<Item = T>,
    task: impl Fn(usize, T) + Sync + Send,
) {
    if elements < SERIAL {
        return parts.into_iter().enumerate().for_each(|(i, part)| task(i, part));
    }
    parallel::for_each(parts, task);
}

thread_local! {
    /// Room for the partial sums of [`fold_blocks`], kept from call to call.
    static SUMS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Adds to each of `outs` (of `columns` elements) what `partial(rows, part, sums)` leaves in the buffer of a block of
/// [`BLOCK`] rows, in the order of the blocks. A block's buffer holds the sums of all `outs`, one behind the other;
/// without `outs` it is empty.
pub(super) fn fold_blocks<T: Send>(
    [rows, columns]: [usize; 2],
    elements: usize,
    outs: &mut [&mut [f32]],
    parts: impl IntoIterator<Item = T>,
    partial: impl Fn(Range<usize>, T, &mut [f32]) + Sync + Send,
) {
    let (blocks, width) = (rows.div_ceil(BLOCK), outs.len() * columns);
    let mut sums = SUMS.take();
    if sums.len() < blocks * width {
        sums.resize(blocks * width, 0.0);
    }
    let buffers = chunks_mut(&mut sums[..blocks * width], width).take(blocks).zip(parts);
    each(elements, buffers, |i, (sums, part)| {
        sums.fill(0.0);
        partial(i * BLOCK..((i + 1) * BLOCK).min(rows), part, sums);
    });
    for sums in sums[..blocks * width].chunks(width.max(1)) {
        for (out, sums) in outs.iter_mut().zip(sums.chunks(columns.max(1))) {
            out.iter_mut().zip(sums).for_each(|(o, s)| *o += s);
        }
    }
    SUMS.set(sums);
}

/// What the kernels' tests share.
#[cfg(test)]
pub(super) mod testing {
    use crate::parallel::set_num_threads;
    use crate::simd::{Isa, bf16, isa, round_to_bf16};
    use ndarray::{Array2, ArrayView2};
    use proptest::prelude::*;
    use subgpt_testkit::noise::Noise;

    /// Widths around the sixteen lanes, and primes.
    pub fn width() -> impl Strategy<Value = usize> {
        prop_oneof![Just(1), Just(2), Just(15), Just(16), Just(17), Just(32), Just(61), 1usize..80]
    }

    /// Runs `f` on every instruction set of this processor.
    pub fn on_each_isa(mut f: impl FnMut()) {
        isa::available().into_iter().for_each(|isa| isa::with(isa, &mut f));
    }

    /// A matrix of noise.
    pub fn matrix(noise: &mut Noise, rows: usize, columns: usize, std: f64) -> Array2<f32> {
        Array2::from_shape_vec((rows, columns), noise.normal(rows * columns, std)).unwrap()
    }

    /// The matrix rounded to bfloat16.
    pub fn half(m: &Array2<f32>) -> Array2<bf16> {
        m.map(|&x| round_to_bf16(x))
    }

    /// The matrix of bfloat16 numbers in float32.
    pub fn full(m: &Array2<bf16>) -> Array2<f32> {
        m.map(|&x| x.to_f32())
    }

    /// A matrix that must be written over.
    pub fn nan(rows: usize, columns: usize) -> Array2<f32> {
        Array2::from_elem((rows, columns), f32::NAN)
    }

    /// A matrix that lies within a wider one, as the third of a fused projection does.
    pub fn within(m: &Array2<f32>) -> Array2<f32> {
        let mut wide = nan(m.nrows(), m.ncols() + 5);
        wide.slice_mut(ndarray::s![.., 2..m.ncols() + 2]).assign(m);
        wide
    }

    /// The matrix inside what [`within`] gave.
    pub fn inner(wide: &Array2<f32>) -> ArrayView2<'_, f32> {
        wide.slice(ndarray::s![.., 2..wide.ncols() - 3])
    }

    /// `f` must give the same bits for any number of threads, and on AVX2 and AVX-512.
    pub fn assert_same_bits(f: impl Fn() -> Vec<f32>) {
        let bits = |isa| isa::with(isa, || f().into_iter().map(f32::to_bits).collect::<Vec<_>>());
        for isa in isa::available() {
            let each = [1, 2, 3, 5, 8].map(|n| {
                set_num_threads(n);
                bits(isa)
            });
            assert!(each.iter().all(|x| *x == each[0]), "the bits depend on the thread count on {}", isa.name());
        }
        set_num_threads(2);
        if Isa::Avx512.is_available() {
            assert!(bits(Isa::Avx2) == bits(Isa::Avx512), "AVX2 and AVX-512 differ");
        }
    }
}
