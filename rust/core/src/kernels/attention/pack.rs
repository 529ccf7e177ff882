//! How rows of a strided view are laid out for the tiles: padded to whole vectors, blocked, or transposed.

use super::Plan;
use super::tile::{HALVES, KEYS, Lanes, QUERIES, Row, SLICE};
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

/// The vectors that a row of `dim` numbers fills, the last one padded.
pub(super) fn vectors(dim: usize) -> usize {
    dim.div_ceil(LANES)
}

/// Writes `row` as vectors `step` apart, the last one padded with zeros.
#[inline(always)]
fn spread<S: Simd, E: Element>(s: S, row: &[E], out: &mut [Lanes], step: usize) {
    let (whole, tail) = row.as_chunks::<LANES>();
    for (lanes, out) in whole.iter().zip(out.iter_mut().step_by(step)) {
        s.store(&mut out.0, E::load(s, lanes));
    }
    if !tail.is_empty() {
        s.store(&mut out[whole.len() * step].0, E::load_tail(s, tail, 0.0));
    }
}

/// The rows `range`, each padded to `width` vectors; rows past the end of `out`'s range are zero.
#[inline(always)]
pub(super) fn rows<S: Simd, E: Element>(
    s: S,
    view: ArrayView2<E>,
    range: Range<usize>,
    width: usize,
    out: &mut [Lanes],
) {
    let live = range.len() * width;
    for (i, out) in range.zip(out[..live].chunks_exact_mut(width)) {
        spread(s, row(view, i), out, 1);
    }
    out[live..].fill(Lanes::ZERO);
}

/// The rows `range` as tiles of [`KEYS`] rows, a tile as `width` blocks of 16 coordinates; missing rows are zero.
#[inline(always)]
pub(super) fn blocks<S: Simd, E: Element>(
    s: S,
    view: ArrayView2<E>,
    range: Range<usize>,
    width: usize,
    out: &mut [[Lanes; KEYS]],
) {
    for (tile, out) in out.chunks_exact_mut(width).enumerate() {
        let first = range.start + tile * KEYS;
        let out = out.as_flattened_mut();
        for key in 0..KEYS {
            if first + key < range.end {
                spread(s, row(view, first + key), &mut out[key..], KEYS);
            } else {
                out[key..].iter_mut().step_by(KEYS).for_each(|lanes| *lanes = Lanes::ZERO);
            }
        }
    }
}

/// A group's rows (as packed by [`rows`]) transposed to one [`Row`] a coordinate and multiplied by `scale`.
#[inline(always)]
pub(super) fn transpose(rows: &[Lanes], width: usize, scale: f32, out: &mut [Row]) {
    for (column, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        for first in (0..QUERIES).step_by(4) {
            let from: [&[[f32; 4]]; 4] = [0, 1, 2, 3].map(|i| rows[(first + i) * width + column].0.as_chunks::<4>().0);
            for d in 0..LANES / 4 {
                let block = transpose_block([from[0][d], from[1][d], from[2][d], from[3][d]], scale);
                for i in 0..4 {
                    out[d * 4 + i].0.as_chunks_mut::<4>().0[first / 4] = block[i];
                }
            }
        }
    }
}

/// A block of 4 x 4 transposed and scaled. In shuffles that every x86-64 has: left to itself the compiler makes
/// scatters of the loop, which take a cycle or more an element.
#[inline(always)]
fn transpose_block(rows: [[f32; 4]; 4], scale: f32) -> [[f32; 4]; 4] {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{__m128, _mm_movehl_ps, _mm_movelh_ps, _mm_mul_ps, _mm_set1_ps};
        use core::arch::x86_64::{_mm_unpackhi_ps, _mm_unpacklo_ps};
        let [a, b, c, d]: [__m128; 4] = bytemuck::must_cast(rows);
        // SAFETY: SSE is part of every x86-64 processor.
        bytemuck::must_cast(unsafe {
            let scale = _mm_set1_ps(scale);
            let (ab_low, ab_high) = (_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
            let (cd_low, cd_high) = (_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
            [
                _mm_mul_ps(_mm_movelh_ps(ab_low, cd_low), scale),
                _mm_mul_ps(_mm_movehl_ps(cd_low, ab_low), scale),
                _mm_mul_ps(_mm_movelh_ps(ab_high, cd_high), scale),
                _mm_mul_ps(_mm_movehl_ps(cd_high, ab_high), scale),
            ]
        })
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::array::from_fn(|i| std::array::from_fn(|j| rows[j][i] * scale))
}

/// The sum of each of 16 vectors, one a lane: transposed, then added up in a fixed order.
#[inline(always)]
pub(super) fn sums<S: Simd>(s: S, rows: &[Lanes; LANES]) -> S::V {
    let mut columns = [Lanes::ZERO; LANES];
    for first in (0..LANES).step_by(4) {
        let from: [&[[f32; 4]]; 4] = [0, 1, 2, 3].map(|i| rows[first + i].0.as_chunks::<4>().0);
        for d in 0..LANES / 4 {
            let block = transpose_block([from[0][d], from[1][d], from[2][d], from[3][d]], 1.0);
            for i in 0..4 {
                columns[d * 4 + i].0.as_chunks_mut::<4>().0[first / 4] = block[i];
            }
        }
    }
    let mut quarters = [s.splat(0.0); 4];
    for (i, column) in columns.iter().enumerate() {
        quarters[i % 4] = s.add(quarters[i % 4], s.load(&column.0));
    }
    s.add(s.add(quarters[0], quarters[1]), s.add(quarters[2], quarters[3]))
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
pub(super) fn drop_strip(
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
        drop.fill_factors(plan.dropout_row(head, group.first + query) + start as u64, factors);
        for (row, factor) in strip.iter_mut().zip(&factors[keys.start - start..]) {
            row.0[query] *= factor;
        }
    }
}

/// Which keys a group of queries sees, tile by tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// The first query, counted in its head.
    pub first: usize,
    /// Its queries, at most [`QUERIES`].
    pub live: usize,
    /// The position of the first query: the last key that it sees.
    pub position: usize,
    /// Keys that a query sees, its own included; more than there are where there is no window.
    pub window: usize,
}

impl Group {
    /// The keys that some query sees.
    pub fn keys(&self) -> Range<usize> {
        (self.position + 1).saturating_sub(self.window)..self.position + self.live
    }

    /// The tiles of keys that some query of half `half` sees; empty where the half has no queries.
    pub fn half_tiles(&self, half: usize) -> Range<usize> {
        let first = half * LANES;
        if first >= self.live {
            return 0..0;
        }
        let queries = first..self.live.min(first + LANES);
        let end = self.position + queries.end;
        (self.position + first + 1).saturating_sub(self.window) / KEYS..end.div_ceil(KEYS)
    }

    /// The halves that see tile `tile`.
    pub fn halves(&self, tile: usize) -> Range<usize> {
        let sees = |half: usize| self.half_tiles(half).contains(&tile);
        let start = (0..HALVES).find(|&half| sees(half)).unwrap_or(HALVES);
        start..(start..HALVES).find(|&half| !sees(half)).unwrap_or(HALVES)
    }

    /// The keys of [`SLICE`] queries from `first` on, within the tiles of their half.
    pub fn slice_keys(&self, slice: usize) -> Range<usize> {
        let first = slice * SLICE;
        let end = self.position + self.live.min(first + SLICE);
        (self.position + first + 1).saturating_sub(self.window)..end
    }

    /// The first key of `tile` counted from the first query of `half`, where lanes of this half must be hidden.
    pub fn hidden(&self, tile: usize, half: usize) -> Option<f32> {
        let at = self.position + half * LANES;
        let (first, last) = (tile * KEYS, tile * KEYS + KEYS - 1);
        let in_future = last > at;
        let out_of_window = first + self.window < at + LANES;
        (in_future || out_of_window).then_some(first as f32 - at as f32)
    }
}
