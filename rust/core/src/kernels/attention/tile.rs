//! The tiles of attention: the three register-tiled products that everything is made of, and base-2 exponentials.
//!
//! A [`Row`] holds one key's scores for the [`QUERIES`] queries of a group, so a strip of scores is stored transposed
//! (keys down, queries across). Maximum, exponential, sum, mask and softmax gradient then run down the lanes without
//! a horizontal reduction, and both products that follow read it as it lies: `P V` takes it column by column,
//! `P^T dO` row by row.
//!
//! | product | rows | lanes | contraction | operands ([`super::pack`]) |
//! |---|---|---|---|---|
//! | [`scores`]: `K Q^T`, `V dO^T` | keys | queries | head dim | keys in blocks, queries transposed |
//! | [`weighted_sum`]: `P V`, `dS K` | queries | head dim | keys | strip, padded rows |
//! | [`outer_sum`]: `P^T dO`, `dS^T Q` | keys | head dim | queries | strip, padded rows |
//!
//! Every element is one chain of fused multiply-adds in ascending order of the contraction, whatever the register tile,
//! so AVX2 and AVX-512 give the same bits. Padding is zero on both sides of a product.

use crate::simd::{LANES, Simd};
use std::ops::Range;

/// Queries in a group: two vectors.
pub(super) const QUERIES: usize = 32;
/// Keys in a tile.
pub(super) const KEYS: usize = 12;
/// Vectors of a group.
pub(super) const HALVES: usize = QUERIES / LANES;
/// Queries that [`weighted_sum`] takes at once, on every instruction set.
pub(super) const SLICE: usize = 8;

/// One vector in memory, on a cache line of its own.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Lanes(pub [f32; LANES]);

/// One key's scores for a group, or one coordinate of a group's queries.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Row(pub [f32; QUERIES]);

impl Lanes {
    pub const ZERO: Lanes = Lanes([0.0; LANES]);
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

/// The accumulators that fit into the registers: 24 of 32 on AVX-512, 6 pairs of 16 on AVX2, 2 quadruples on SSE2.
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
/// `keys` are the tile's blocks of 16 coordinates, `queries` as many coordinates as those have.
#[inline(always)]
pub(super) fn scores<S: Simd>(
    s: S,
    keys: &[[Lanes; KEYS]],
    queries: &[Row],
    halves: Range<usize>,
    out: &mut [Row; KEYS],
) {
    match const { registers::<S>() } {
        Registers::Wide if halves.len() == 2 => scores_tile::<S, 12, 2>(s, keys, queries, 0, 0, out),
        Registers::Wide => scores_tile::<S, 12, 1>(s, keys, queries, 0, halves.start, out),
        Registers::Pairs => {
            for half in halves {
                for first in [0, 6] {
                    scores_tile::<S, 6, 1>(s, keys, queries, first, half, out);
                }
            }
        }
        Registers::Few => {
            for half in halves {
                for first in (0..KEYS).step_by(2) {
                    scores_tile::<S, 2, 1>(s, keys, queries, first, half, out);
                }
            }
        }
    }
}

/// [`scores`] of keys `first..first + M` with `N` vectors of queries.
#[inline(always)]
fn scores_tile<S: Simd, const M: usize, const N: usize>(
    s: S,
    keys: &[[Lanes; KEYS]],
    queries: &[Row],
    first: usize,
    half: usize,
    out: &mut [Row; KEYS],
) {
    let mut acc = [[s.splat(0.0); N]; M];
    for (block, coordinates) in keys.iter().zip(queries.as_chunks::<LANES>().0) {
        let block = &block.as_chunks::<M>().0[first / M];
        for d in 0..LANES {
            let mut q = [s.splat(0.0); N];
            for n in 0..N {
                q[n] = s.load(coordinates[d].half(half + n));
            }
            for m in 0..M {
                let k = s.splat(block[m].0[d]);
                for n in 0..N {
                    acc[m][n] = s.fma(k, q[n], acc[m][n]);
                }
            }
        }
    }
    let out = &mut out.as_chunks_mut::<M>().0[first / M];
    for m in 0..M {
        for n in 0..N {
            s.store(out[m].half_mut(half + n), acc[m][n]);
        }
    }
}

/// Adds to the rows `slice * SLICE ..` of `out`: `out[query][d] += sum_key strip[key][query] values[key][d]`.
///
/// `values` and `out` have `width` vectors a row.
#[inline(always)]
pub(super) fn weighted_sum<S: Simd>(
    s: S,
    strip: &[Row],
    values: &[Lanes],
    width: usize,
    slice: usize,
    out: &mut [Lanes],
) {
    let first = slice * SLICE;
    match const { registers::<S>() } {
        Registers::Wide => {
            for column in (0..width / 2 * 2).step_by(2) {
                weighted_sum_tile::<S, 8, 2>(s, strip, values, width, first, column, out);
            }
            if width % 2 == 1 {
                weighted_sum_tile::<S, 8, 1>(s, strip, values, width, first, width - 1, out);
            }
        }
        Registers::Pairs => {
            for column in 0..width {
                for first in [first, first + 4] {
                    weighted_sum_tile::<S, 4, 1>(s, strip, values, width, first, column, out);
                }
            }
        }
        Registers::Few => {
            for column in 0..width {
                for first in (first..first + SLICE).step_by(2) {
                    weighted_sum_tile::<S, 2, 1>(s, strip, values, width, first, column, out);
                }
            }
        }
    }
}

/// [`weighted_sum`] of queries `first..first + M` and vectors `column..column + N`.
#[inline(always)]
fn weighted_sum_tile<S: Simd, const M: usize, const N: usize>(
    s: S,
    strip: &[Row],
    values: &[Lanes],
    width: usize,
    first: usize,
    column: usize,
    out: &mut [Lanes],
) {
    let mut acc = load_tile::<S, M, N>(s, &out[first * width..], width, column);
    for (row, value) in strip.iter().zip(values.chunks_exact(width)) {
        let weights = &row.0.as_chunks::<M>().0[first / M];
        let value = &value[column..column + N];
        let mut v = [s.splat(0.0); N];
        for n in 0..N {
            v[n] = s.load(&value[n].0);
        }
        for m in 0..M {
            let w = s.splat(weights[m]);
            for n in 0..N {
                acc[m][n] = s.fma(w, v[n], acc[m][n]);
            }
        }
    }
    store_tile::<S, M, N>(s, acc, &mut out[first * width..], width, column);
}

/// Adds to a tile of keys: `out[key][d] += sum_query strip[key][query] rows[query][d]` over `queries`.
///
/// `rows` and `out` have `width` vectors a row.
#[inline(always)]
pub(super) fn outer_sum<S: Simd>(
    s: S,
    strip: &[Row; KEYS],
    rows: &[Lanes],
    width: usize,
    queries: Range<usize>,
    out: &mut [Lanes],
) {
    match const { registers::<S>() } {
        Registers::Wide => {
            for column in (0..width / 2 * 2).step_by(2) {
                outer_sum_tile::<S, 12, 2>(s, strip, rows, width, queries.clone(), 0, column, out);
            }
            if width % 2 == 1 {
                outer_sum_tile::<S, 12, 1>(s, strip, rows, width, queries, 0, width - 1, out);
            }
        }
        Registers::Pairs => {
            for column in 0..width {
                for first in [0, 6] {
                    outer_sum_tile::<S, 6, 1>(s, strip, rows, width, queries.clone(), first, column, out);
                }
            }
        }
        Registers::Few => {
            for column in 0..width {
                for first in (0..KEYS).step_by(2) {
                    outer_sum_tile::<S, 2, 1>(s, strip, rows, width, queries.clone(), first, column, out);
                }
            }
        }
    }
}

/// [`outer_sum`] of keys `first..first + M` and vectors `column..column + N`.
#[inline(always)]
fn outer_sum_tile<S: Simd, const M: usize, const N: usize>(
    s: S,
    strip: &[Row; KEYS],
    rows: &[Lanes],
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
        let mut b = [s.splat(0.0); N];
        for n in 0..N {
            b[n] = s.load(&row[n].0);
        }
        for m in 0..M {
            let w = s.splat(keys[m].0[query]);
            for n in 0..N {
                acc[m][n] = s.fma(w, b[n], acc[m][n]);
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

/// Sets what a query of `half` does not see of a tile to `fill`: keys after its position or before its window.
///
/// `offset` is the tile's first key counted from the first query of the half ([`super::pack::Group::hidden`]).
#[inline(always)]
pub(super) fn hide<S: Simd>(s: S, tile: &mut [Row; KEYS], half: usize, offset: f32, window: f32, fill: f32) {
    let lane = s.load(&LANE);
    let fill = s.splat(fill);
    for (m, row) in tile.iter_mut().enumerate() {
        let key = offset + m as f32;
        let x = s.select(s.lt(lane, s.splat(key)), fill, s.load(row.half(half)));
        let x = s.select(s.lt(lane, s.splat(key + window)), x, fill);
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

/// `2^x` for `x` up to about 100, within 2 ulp; 0 below -126.5; NaN stays NaN.
///
/// `2^x = 2^n 2^r` with a minimax polynomial of degree 5 for `2^r` on `[-1/2, 1/2]` (relative error 9e-8), exact at 0. The
/// exponent -127 is biased to 0, whose bits are the number 0: underflow needs no select.
#[inline(always)]
#[allow(clippy::approx_constant)] // 0.693147 is the minimax coefficient, which is not ln 2
pub(super) fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
    let x = s.max(s.splat(-127.0), x);
    let n = s.round(x);
    let r = s.sub(x, n);
    let mut p = s.splat(0.001_326_472_8);
    for c in [0.009_671_513, 0.055_507_337, 0.240_222_42, 0.693_147, 1.0] {
        p = s.fma(p, r, s.splat(c));
    }
    s.mul(p, s.exp2i(n))
}

/// `tanh(x)` within 3 ulp: an odd polynomial near zero (Cephes), `1 - 2 / (e^2x + 1)` elsewhere.
#[inline(always)]
pub(super) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let a = s.abs(x);
    let e = exp2(s, s.mul(s.min(s.splat(10.0), a), s.splat(2.0 * std::f32::consts::LOG2_E)));
    let far = s.copysign(s.sub(s.splat(1.0), s.div(s.splat(2.0), s.add(e, s.splat(1.0)))), x);
    let z = s.mul(x, x);
    let mut p = s.splat(-5.704_988_7e-3);
    for c in [2.063_909e-2, -5.373_971_4e-2, 1.333_144_2e-1, -3.333_328e-1] {
        p = s.fma(p, z, s.splat(c));
    }
    let near = s.fma(s.mul(p, z), x, x);
    s.select(s.lt(a, s.splat(0.625)), near, far)
}
