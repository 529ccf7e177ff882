//! How rows of a strided view are laid out for the tiles: as words padded to whole vectors, in blocks, joined, transposed.

use super::group::Group;
use super::operand::Operand;
use super::tile::{KEYS, Lanes, QUERIES, Row, WordRow, Words};
use super::{Plan, transpose};
use crate::kernels::dropout::Dropout;
use crate::simd::{Element, LANES, Simd};
use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use std::ops::Range;

/// Makes `buffer` at least `len` long; what it holds stays, so a warm buffer costs nothing.
pub(super) fn reserve<T: Copy>(buffer: &mut Vec<T>, len: usize, zero: T) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, zero);
    }
    &mut buffer[..len]
}

/// Row `i` of a view whose last axis is contiguous (checked at the door).
#[inline(always)]
pub(super) fn row<E>(view: ArrayView2<'_, E>, i: usize) -> &[E] {
    view.index_axis_move(Axis(0), i).to_slice().unwrap_or(&[])
}

/// The bytes of row `i`; none where `range` has no such row.
#[inline(always)]
fn bytes<'a, E: Element>(view: ArrayView2<'a, E>, i: usize, range: &Range<usize>) -> &'a [u8] {
    if range.contains(&i) { bytemuck::cast_slice(row(view, i)) } else { &[] }
}

/// The beginning of a vector whose rest is 0.
#[inline(always)]
fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out[..bytes.len()].copy_from_slice(bytes);
    out
}

/// Writes the bytes of a row as vectors `step` apart, the last one padded; `out` ends with the row's last vector.
#[inline(always)]
fn spread(bytes: &[u8], out: &mut [Words], step: usize) {
    let (whole, tail) = bytes.as_chunks::<64>();
    for (bytes, out) in whole.iter().zip(out.iter_mut().step_by(step)) {
        out.0 = bytemuck::must_cast(*bytes);
    }
    if whole.len() < out.len().div_ceil(step) {
        let rest = &mut out[whole.len() * step..];
        rest.iter_mut().step_by(step).for_each(|out| *out = Words::ZERO);
        rest[0].0 = bytemuck::must_cast(padded::<64>(tail));
    }
}

/// Writes two rows as pairs along the rows' index, padded.
#[inline(always)]
fn join(first: &[u8], second: &[u8], out: &mut [Words]) {
    let ((low, low_tail), (high, high_tail)) = (first.as_chunks::<32>(), second.as_chunks::<32>());
    let whole = low.len().min(high.len());
    for ((low, high), out) in low.iter().zip(high).zip(&mut *out) {
        pair_up(bytemuck::must_cast(*low), bytemuck::must_cast(*high), out);
    }
    for (i, out) in out.iter_mut().enumerate().skip(whole) {
        let low = low.get(i).copied().unwrap_or_else(|| padded(if i == low.len() { low_tail } else { &[] }));
        let high = high.get(i).copied().unwrap_or_else(|| padded(if i == high.len() { high_tail } else { &[] }));
        pair_up(bytemuck::must_cast(low), bytemuck::must_cast(high), out);
    }
}

#[inline(always)]
fn pair_up(low: [u16; LANES], high: [u16; LANES], out: &mut Words) {
    for j in 0..LANES {
        out.0[j] = u32::from(low[j]) | u32::from(high[j]) << 16;
    }
}

/// The vectors that a row of `dim` numbers fills as float32, the last one padded.
pub(super) fn vectors(dim: usize) -> usize {
    dim.div_ceil(LANES)
}

/// The vectors that it fills as words, the last one padded.
pub(super) fn word_vectors<P: Operand>(dim: usize) -> usize {
    dim.div_ceil(LANES * P::PER)
}

/// The rows `range` as tiles of [`KEYS`] rows, a tile as `blocks` blocks of 16 words along the row; missing rows are zero.
#[inline(always)]
pub(super) fn blocks<E: Element>(view: ArrayView2<E>, range: Range<usize>, blocks: usize, out: &mut [[Words; KEYS]]) {
    for (tile, out) in out.chunks_exact_mut(blocks).enumerate() {
        for key in 0..KEYS {
            let bytes = bytes(view, range.start + tile * KEYS + key, &range);
            spread(bytes, &mut out.as_flattened_mut()[key..], KEYS);
        }
    }
}

/// The rows `range`, each as `blocks` vectors of words along the row; rows that `out` has beyond them are zero.
#[inline(always)]
pub(super) fn words<E: Element>(view: ArrayView2<E>, range: Range<usize>, blocks: usize, out: &mut [Words]) {
    for (i, out) in out.chunks_exact_mut(blocks).enumerate() {
        spread(bytes(view, range.start + i, &range), out, 1);
    }
}

/// The rows `range` as words along the rows' index: `PER` rows become one row of `width` vectors. Missing rows are zero.
#[inline(always)]
pub(super) fn rows<E: Element, P: Operand>(view: ArrayView2<E>, range: Range<usize>, width: usize, out: &mut [Words]) {
    if P::PER == 1 {
        return words(view, range, width, out);
    }
    for (at, out) in out.chunks_exact_mut(width).enumerate() {
        let first = range.start + 2 * at;
        join(bytes(view, first, &range), bytes(view, first + 1, &range), out);
    }
}

/// A group's rows (as packed by [`words`]) transposed: a row of `out` is one word along the rows for each query, multiplied
/// by the scores' `factor` where the precision does that here.
#[inline(always)]
pub(super) fn transpose<P: Operand>(rows: &[Words], blocks: usize, factor: f32, out: &mut [WordRow]) {
    for (column, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        for first in (0..QUERIES).step_by(4) {
            let from: [&[[u32; 4]]; 4] = [0, 1, 2, 3].map(|i| rows[(first + i) * blocks + column].0.as_chunks::<4>().0);
            for d in 0..LANES / 4 {
                let block = transpose::transposed([from[0][d], from[1][d], from[2][d], from[3][d]]);
                for i in 0..4 {
                    let out = &mut out[d * 4 + i].0.as_chunks_mut::<4>().0[first / 4];
                    for j in 0..4 {
                        out[j] = P::scale_query(block[i][j], factor);
                    }
                }
            }
        }
    }
}

/// Sixteen rows of `blocks` vectors of words (as packed by [`words`]) turned: a vector of `out` is one word of each row.
#[inline(always)]
pub(super) fn turn(rows: &[Words], blocks: usize, out: &mut [Words]) {
    for (column, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        for first in (0..LANES).step_by(4) {
            let from: [&[[u32; 4]]; 4] = [0, 1, 2, 3].map(|i| rows[(first + i) * blocks + column].0.as_chunks::<4>().0);
            for d in 0..LANES / 4 {
                let block = transpose::transposed([from[0][d], from[1][d], from[2][d], from[3][d]]);
                for i in 0..4 {
                    out[d * 4 + i].0.as_chunks_mut::<4>().0[first / 4] = block[i];
                }
            }
        }
    }
}

/// The rows of the next group that are asked for with tile `step` of this one's `steps`, so that memory is not waited for.
#[inline(always)]
pub(super) fn share_of_group(step: usize, steps: usize) -> Range<usize> {
    let rows = QUERIES.div_ceil(steps);
    (step * rows).min(QUERIES)..((step + 1) * rows).min(QUERIES)
}

/// Writes padded rows, each multiplied by its factor, into the rows of a view.
#[inline(always)]
pub(super) fn unpack<S: Simd, E: Element>(
    s: S,
    rows: &[Lanes],
    width: usize,
    factor: impl Fn(usize) -> f32,
    mut out: ArrayViewMut2<E>,
) {
    for (i, out) in out.outer_iter_mut().enumerate() {
        let factor = s.splat(factor(i));
        let from = &rows[i * width..(i + 1) * width];
        let Some(out) = out.into_slice() else { continue };
        let (whole, tail) = out.as_chunks_mut::<LANES>();
        for (out, lanes) in whole.iter_mut().zip(from) {
            E::store(s, out, s.mul(s.load(&lanes.0), factor));
        }
        if !tail.is_empty() {
            E::store_tail(s, tail, s.mul(s.load(&from[width - 1].0), factor));
        }
    }
}

/// Multiplies a strip, whose rows are `keys`, by the dropout factors of a group's probabilities.
#[inline(always)]
pub(super) fn drop_strip<S: Simd>(
    s: S,
    plan: &Plan,
    drop: &Dropout,
    head: usize,
    group: &Group,
    keys: Range<usize>,
    factors: &mut Vec<f32>,
    strip: &mut [Row],
) {
    // The generator makes four numbers at a time, so a row of factors starts at a multiple of four.
    let start = keys.start / 4 * 4;
    let factors = reserve(factors, keys.end - start, 0.0);
    for query in 0..group.live {
        drop.fill_factors(s, plan.dropout_row(head, group.first + query) + start as u64, factors);
        for (row, factor) in strip.iter_mut().zip(&factors[keys.start - start..]) {
            row.0[query] *= factor;
        }
    }
}
