//! The tiles of attention: the three register-tiled products that everything is made of.
//!
//! A [`Row`] holds one key's scores for the [`QUERIES`] queries of a group, so a strip of scores is stored transposed
//! (keys down, queries across). Maximum, exponential, sum, mask and softmax gradient then run down the lanes without
//! a horizontal reduction, and both products that follow read it broadcast: `P V` takes it column by column,
//! `P^T dO` row by row.
//!
//! | product | rows | lanes | contraction | operands ([`super::pack`]) |
//! |---|---|---|---|---|
//! | [`scores`]: `K Q^T`, `V dO^T` | keys | queries | head dim | keys in blocks, queries transposed |
//! | [`weighted_sum`]: `P V`, `dS K` | queries | head dim | keys | strip of key words, padded rows |
//! | [`outer_sum`]: `P^T dO`, `dS^T Q` | keys | head dim | queries | strip of query words, padded rows |
//!
//! Operands are words ([`super::operand`]): a float32 number, or two bfloat16 numbers that are neighbours along the
//! contraction. Every element is one chain of (fused or dotted) multiply-adds in ascending order of the contraction,
//! whatever the register tile, so AVX2 and AVX-512 give the same bits. Padding is zero on both sides of a product.

use super::group::Hidden;
use super::operand::Operand;
use crate::simd::{LANES, Simd};
use bytemuck::{Pod, Zeroable};
use std::ops::Range;

/// Queries in a group: two vectors.
pub(super) const QUERIES: usize = 32;
/// Keys in a tile: few, since the tiles on the diagonal are computed whole.
pub(super) const KEYS: usize = 8;
/// Vectors of a group.
pub(super) const HALVES: usize = QUERIES / LANES;
/// Queries that [`weighted_sum`] takes at once, on every instruction set.
pub(super) const SLICE: usize = 8;

/// One vector of sums in memory, on a cache line of its own.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Lanes(pub [f32; LANES]);

/// One vector of an operand.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Words(pub [u32; LANES]);

/// One key's scores for a group.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Row(pub [f32; QUERIES]);

/// The words of a group's queries: one coordinate (or two) of each, or the weights of one key (or two) for each. Weights
/// as words along the queries fill the first `QUERIES / PER`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct WordRow(pub [u32; QUERIES]);

impl Lanes {
    pub const ZERO: Lanes = Lanes([0.0; LANES]);
}

impl Words {
    pub const ZERO: Words = Words([0; LANES]);
}

impl Row {
    pub const ZERO: Row = Row([0.0; QUERIES]);

    /// The queries of half `h`.
    #[inline(always)]
    pub fn half(&self, h: usize) -> &[f32; LANES] {
        &self.0.as_chunks::<LANES>().0[h]
    }

    /// The queries of half `h`, to be written.
    #[inline(always)]
    pub fn half_mut(&mut self, h: usize) -> &mut [f32; LANES] {
        &mut self.0.as_chunks_mut::<LANES>().0[h]
    }
}

impl WordRow {
    pub const ZERO: WordRow = WordRow([0; QUERIES]);

    /// The words of half `h`.
    #[inline(always)]
    pub fn half(&self, h: usize) -> &[u32; LANES] {
        &self.0.as_chunks::<LANES>().0[h]
    }

    /// The words of half `h`, to be written.
    #[inline(always)]
    pub fn half_mut(&mut self, h: usize) -> &mut [u32; LANES] {
        &mut self.0.as_chunks_mut::<LANES>().0[h]
    }
}

/// The accumulators that fit into the registers: 16 of 32 on AVX-512, 4 pairs of 16 on AVX2, 2 quadruples on SSE2.
enum Registers {
    Wide,
    Pairs,
    Few,
}

/// A mask is a bit a lane only where a vector is one of 32 registers, and a `bool` a lane only in portable code.
const fn registers<S: Simd>() -> Registers {
    match size_of::<S::M>() {
        2 => Registers::Wide,
        16 => Registers::Few,
        _ => Registers::Pairs,
    }
}

/// The scores of a tile of keys with the queries of `halves`: `out[key][query] = sum_d keys[key][d] queries[d][query]`.
///
/// `keys` are the tile's blocks of 16 words, `queries` as many words as those have; `factor` is that of the scores, which
/// a precision may have given to the queries already.
#[inline(always)]
pub(super) fn scores<S: Simd, P: Operand>(
    s: S,
    keys: &[[Words; KEYS]],
    queries: &[WordRow],
    halves: Range<usize>,
    factor: f32,
    out: &mut [Row; KEYS],
) {
    match const { registers::<S>() } {
        Registers::Wide if halves.len() == 2 => scores_tile::<S, P, 8, 2>(s, keys, queries, 0, 0, factor, out),
        Registers::Wide => scores_tile::<S, P, 8, 1>(s, keys, queries, 0, halves.start, factor, out),
        Registers::Pairs => {
            for half in halves {
                for first in [0, 4] {
                    scores_tile::<S, P, 4, 1>(s, keys, queries, first, half, factor, out);
                }
            }
        }
        Registers::Few => {
            for half in halves {
                for first in (0..KEYS).step_by(2) {
                    scores_tile::<S, P, 2, 1>(s, keys, queries, first, half, factor, out);
                }
            }
        }
    }
}

/// [`scores`] of keys `first..first + M` with `N` vectors of queries.
#[inline(always)]
fn scores_tile<S: Simd, P: Operand, const M: usize, const N: usize>(
    s: S,
    keys: &[[Words; KEYS]],
    queries: &[WordRow],
    first: usize,
    half: usize,
    factor: f32,
    out: &mut [Row; KEYS],
) {
    let mut acc = [[s.splat(0.0); N]; M];
    for (block, coordinates) in keys.iter().zip(queries.as_chunks::<LANES>().0) {
        let block = &block.as_chunks::<M>().0[first / M];
        for d in 0..LANES {
            let mut q = [P::splat(s, 0); N];
            for n in 0..N {
                q[n] = P::load(s, coordinates[d].half(half + n));
            }
            for m in 0..M {
                let k = P::splat(s, block[m].0[d]);
                for n in 0..N {
                    acc[m][n] = P::fma(s, k, q[n], acc[m][n]);
                }
            }
        }
    }
    let (out, factor) = (&mut out.as_chunks_mut::<M>().0[first / M], s.splat(factor));
    for m in 0..M {
        for n in 0..N {
            s.store(out[m].half_mut(half + n), P::scale_score(s, acc[m][n], factor));
        }
    }
}

/// Adds to the rows `slice * SLICE ..` of `out`: `out[query][d] += sum_key strip[key][query] values[key][d]`.
///
/// `values` and `out` have `width` vectors a row; a row of `strip` and of `values` is one word of keys.
#[inline(always)]
pub(super) fn weighted_sum<S: Simd, P: Operand>(
    s: S,
    strip: &[WordRow],
    values: &[Words],
    width: usize,
    slice: usize,
    out: &mut [Lanes],
) {
    let first = slice * SLICE;
    match const { registers::<S>() } {
        Registers::Wide => {
            for column in (0..width / 2 * 2).step_by(2) {
                weighted_sum_tile::<S, P, 8, 2>(s, strip, values, width, first, column, out);
            }
            if width % 2 == 1 {
                weighted_sum_tile::<S, P, 8, 1>(s, strip, values, width, first, width - 1, out);
            }
        }
        Registers::Pairs => {
            for column in 0..width {
                for first in [first, first + 4] {
                    weighted_sum_tile::<S, P, 4, 1>(s, strip, values, width, first, column, out);
                }
            }
        }
        Registers::Few => {
            for column in 0..width {
                for first in (first..first + SLICE).step_by(2) {
                    weighted_sum_tile::<S, P, 2, 1>(s, strip, values, width, first, column, out);
                }
            }
        }
    }
}

/// [`weighted_sum`] of queries `first..first + M` and vectors `column..column + N`.
#[inline(always)]
fn weighted_sum_tile<S: Simd, P: Operand, const M: usize, const N: usize>(
    s: S,
    strip: &[WordRow],
    values: &[Words],
    width: usize,
    first: usize,
    column: usize,
    out: &mut [Lanes],
) {
    let mut acc = load_tile::<S, M, N>(s, &out[first * width..], width, column);
    for (row, value) in strip.iter().zip(values.chunks_exact(width)) {
        let weights = &row.0.as_chunks::<M>().0[first / M];
        let value = &value[column..column + N];
        let mut v = [P::splat(s, 0); N];
        for n in 0..N {
            v[n] = P::load(s, &value[n].0);
        }
        for m in 0..M {
            let w = P::splat(s, weights[m]);
            for n in 0..N {
                acc[m][n] = P::fma(s, w, v[n], acc[m][n]);
            }
        }
    }
    store_tile::<S, M, N>(s, acc, &mut out[first * width..], width, column);
}

/// Adds to a tile of keys: `out[key][d] += sum_query strip[key][query] rows[query][d]` over the words `queries`.
///
/// `rows` and `out` have `width` vectors a row; a row of `rows` is one word of queries.
#[inline(always)]
pub(super) fn outer_sum<S: Simd, P: Operand>(
    s: S,
    strip: &[WordRow; KEYS],
    rows: &[Words],
    width: usize,
    queries: Range<usize>,
    out: &mut [Lanes],
) {
    match const { registers::<S>() } {
        Registers::Wide => {
            for column in (0..width / 2 * 2).step_by(2) {
                outer_sum_tile::<S, P, 8, 2>(s, strip, rows, width, queries.clone(), 0, column, out);
            }
            if width % 2 == 1 {
                outer_sum_tile::<S, P, 8, 1>(s, strip, rows, width, queries, 0, width - 1, out);
            }
        }
        Registers::Pairs => {
            for column in 0..width {
                for first in [0, 4] {
                    outer_sum_tile::<S, P, 4, 1>(s, strip, rows, width, queries.clone(), first, column, out);
                }
            }
        }
        Registers::Few => {
            for column in 0..width {
                for first in (0..KEYS).step_by(2) {
                    outer_sum_tile::<S, P, 2, 1>(s, strip, rows, width, queries.clone(), first, column, out);
                }
            }
        }
    }
}

/// [`outer_sum`] of keys `first..first + M` and vectors `column..column + N`.
#[inline(always)]
fn outer_sum_tile<S: Simd, P: Operand, const M: usize, const N: usize>(
    s: S,
    strip: &[WordRow; KEYS],
    rows: &[Words],
    width: usize,
    queries: Range<usize>,
    first: usize,
    column: usize,
    out: &mut [Lanes],
) {
    let mut acc = load_tile::<S, M, N>(s, &out[first * width..], width, column);
    let keys = &strip.as_chunks::<M>().0[first / M];
    let rows = &rows[queries.start * width..queries.end * width];
    for (query, row) in queries.zip(rows.chunks_exact(width)) {
        let row = &row[column..column + N];
        let mut b = [P::splat(s, 0); N];
        for n in 0..N {
            b[n] = P::load(s, &row[n].0);
        }
        for m in 0..M {
            let w = P::splat(s, keys[m].0[query]);
            for n in 0..N {
                acc[m][n] = P::fma(s, w, b[n], acc[m][n]);
            }
        }
    }
    store_tile::<S, M, N>(s, acc, &mut out[first * width..], width, column);
}

#[inline(always)]
fn load_tile<S: Simd, const M: usize, const N: usize>(
    s: S,
    out: &[Lanes],
    width: usize,
    column: usize,
) -> [[S::V; N]; M] {
    let mut acc = [[s.splat(0.0); N]; M];
    for m in 0..M {
        for n in 0..N {
            acc[m][n] = s.load(&out[m * width + column + n].0);
        }
    }
    acc
}

#[inline(always)]
fn store_tile<S: Simd, const M: usize, const N: usize>(
    s: S,
    acc: [[S::V; N]; M],
    out: &mut [Lanes],
    width: usize,
    column: usize,
) {
    for m in 0..M {
        for n in 0..N {
            s.store(&mut out[m * width + column + n].0, acc[m][n]);
        }
    }
}

/// Sets what a query of `half` does not see of a tile to `fill`: keys after its position, before its window or of another
/// document.
#[inline(always)]
pub(super) fn hide<S: Simd>(s: S, tile: &mut [Row; KEYS], half: usize, hidden: &Hidden, fill: f32) {
    let lane = s.load(&LANE);
    let fill = s.splat(fill);
    for (m, row) in tile.iter_mut().enumerate() {
        let key = hidden.offset + m as f32;
        let x = s.select(s.lt(lane, s.splat(key)), fill, s.load(row.half(half)));
        let mut x = s.select(s.lt(lane, s.splat(hidden.end + m as f32)), x, fill);
        if let Some(starts) = &hidden.starts {
            x = s.select(s.lt(s.splat(m as f32), s.load(starts)), fill, x);
        }
        s.store(row.half_mut(half), x);
    }
}

/// The number of each lane.
const LANE: [f32; LANES] = {
    let mut lanes = [0.0; LANES];
    let mut i = 0;
    while i < LANES {
        lanes[i] = i as f32;
        i += 1;
    }
    lanes
};
