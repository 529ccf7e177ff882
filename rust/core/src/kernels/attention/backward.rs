//! The backward pass: probabilities recomputed from the log-sum-exp, five products a tile.
//!
//! ```text
//! P = 2^(S - lse)      Z = P * F            F: dropout factors, else 1
//! dV = Z^T dO          dP = (dO V^T) * F
//! dS = P * (dP - D) * cap'(S)               D = rowsum(dO * O) = rowsum(P * dP), with dropout too
//! dQ = scale dS K      dK = scale dS^T Q
//! ```
//!
//! A task is a key/value head with all its query heads, so `dK` and `dV` are private sums in a fixed order: groups of
//! queries outside, blocks of keys inside, both strips of a block in the first-level cache.

use super::pack::{self, Group};
use super::tile::{self, KEYS, Lanes, QUERIES, Row, SLICE};
use super::{Plan, Scratch, for_each, head_of, split};
use crate::simd::{self, Element, Kernel, LANES, Simd, isa};
use ndarray::{ArrayView1, ArrayView3, ArrayView4, ArrayViewMut2, ArrayViewMut3, ArrayViewMut4, Axis, s};
use std::f32::consts::LOG2_E;

/// Tiles of keys in a block.
const BLOCK: usize = 4;

/// What the forward pass read and wrote, and the gradient of its output.
pub(super) struct Inputs<'a, E> {
    pub q: ArrayView4<'a, E>,
    pub k: ArrayView4<'a, E>,
    pub v: ArrayView4<'a, E>,
    pub out: ArrayView4<'a, E>,
    pub lse: ArrayView3<'a, f32>,
    pub dout: ArrayView4<'a, E>,
}

/// The gradients of one key/value head and of its query heads.
struct Part<'a, E> {
    batch: usize,
    kv_head: usize,
    dq: ArrayViewMut3<'a, E>,
    dk: ArrayViewMut2<'a, E>,
    dv: ArrayViewMut2<'a, E>,
}

fn parts<'a, E>(
    plan: &Plan,
    dq: ArrayViewMut4<'a, E>,
    dk: ArrayViewMut4<'a, E>,
    dv: ArrayViewMut4<'a, E>,
) -> Vec<Part<'a, E>> {
    let mut parts = Vec::with_capacity(plan.batch * plan.kv_heads);
    let batches = split(dq).zip(split(dk)).zip(split(dv));
    for (batch, ((mut dq, dk), dv)) in batches.enumerate() {
        for (kv_head, (dk, dv)) in split(dk).zip(split(dv)).enumerate() {
            let (ours, rest) = dq.split_at(Axis(0), plan.sharing());
            parts.push(Part { batch, kv_head, dq: ours, dk, dv });
            dq = rest;
        }
    }
    parts
}

/// Computes the gradients; shapes are checked.
pub(super) fn run<E: Element>(
    plan: &Plan,
    inputs: &Inputs<E>,
    dq: ArrayViewMut4<E>,
    dk: ArrayViewMut4<E>,
    dv: ArrayViewMut4<E>,
) {
    let isa = isa::current();
    for_each(plan.work(), parts(plan, dq, dk, dv), |part, scratch| {
        simd::dispatch(isa, Backward { plan, inputs, part, scratch });
    });
}

/// One key/value head.
struct Backward<'p, 'i, 'o, E> {
    plan: &'p Plan,
    inputs: &'p Inputs<'i, E>,
    part: Part<'o, E>,
    scratch: &'p mut Scratch,
}

/// A key/value head's keys and values as packed, and where their gradients are summed.
struct Keys<'a> {
    key_blocks: &'a [[Lanes; KEYS]],
    value_blocks: &'a [[Lanes; KEYS]],
    key_rows: &'a [Lanes],
    dk: &'a mut [Lanes],
    dv: &'a mut [Lanes],
}

/// A group of queries as packed, with a row of numbers for each: log-sum-exp in bits and `D`.
struct Queries<'a> {
    rows: &'a mut [Lanes],
    dout_rows: &'a mut [Lanes],
    queries: &'a mut [Row],
    douts: &'a mut [Row],
    lse: Row,
    delta: Row,
}

/// The strips of a block: scores, then probabilities; their gradients; dropout factors.
struct Strips<'a> {
    scores: &'a mut [[Row; KEYS]],
    gradient: &'a mut [[Row; KEYS]],
    mask: &'a mut [[Row; KEYS]],
    factors: &'a mut Vec<f32>,
}

impl<E: Element> Kernel for Backward<'_, '_, '_, E> {
    type Output = ();
    const BF16: bool = E::HALF;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Backward { plan, inputs, part, scratch } = self;
        let Part { batch, kv_head, mut dq, dk, dv } = part;
        let width = pack::vectors(plan.dim);
        let tiles = plan.keys.div_ceil(KEYS);
        let k = head_of(&inputs.k, batch, kv_head);
        let v = head_of(&inputs.v, batch, kv_head);
        let key_blocks = pack::reserve(&mut scratch.key_blocks, tiles * width, [Lanes::ZERO; KEYS]);
        let value_blocks = pack::reserve(&mut scratch.value_blocks, tiles * width, [Lanes::ZERO; KEYS]);
        let key_rows = pack::reserve(&mut scratch.key_rows, plan.keys * width, Lanes::ZERO);
        pack::blocks(s, k, 0..plan.keys, width, key_blocks);
        pack::blocks(s, v, 0..plan.keys, width, value_blocks);
        pack::rows(s, k, 0..plan.keys, width, key_rows);
        let mut keys = Keys {
            key_blocks,
            value_blocks,
            key_rows,
            dk: pack::reserve(&mut scratch.dk, tiles * KEYS * width, Lanes::ZERO),
            dv: pack::reserve(&mut scratch.dv, tiles * KEYS * width, Lanes::ZERO),
        };
        keys.dk.fill(Lanes::ZERO);
        keys.dv.fill(Lanes::ZERO);
        let mut queries = Queries {
            rows: pack::reserve(&mut scratch.query_rows, QUERIES * width, Lanes::ZERO),
            dout_rows: pack::reserve(&mut scratch.dout_rows, QUERIES * width, Lanes::ZERO),
            queries: pack::reserve(&mut scratch.queries, width * LANES, Row::ZERO),
            douts: pack::reserve(&mut scratch.douts, width * LANES, Row::ZERO),
            lse: Row::ZERO,
            delta: Row::ZERO,
        };
        let mut strips = Strips {
            scores: pack::reserve(&mut scratch.strip, BLOCK, [Row::ZERO; KEYS]),
            gradient: pack::reserve(&mut scratch.gradient, BLOCK, [Row::ZERO; KEYS]),
            mask: pack::reserve(&mut scratch.mask, BLOCK, [Row::ZERO; KEYS]),
            factors: &mut scratch.factors,
        };
        let acc = pack::reserve(&mut scratch.out, QUERIES * width, Lanes::ZERO);
        for step in 0..plan.sharing() * plan.queries.div_ceil(QUERIES) {
            let (shared, first) =
                (step / plan.queries.div_ceil(QUERIES), step % plan.queries.div_ceil(QUERIES) * QUERIES);
            let head = kv_head * plan.sharing() + shared;
            let group = plan.group(first, QUERIES.min(plan.queries - first));
            queries.load(s, plan, inputs, batch, head, &group, width, acc);
            acc.fill(Lanes::ZERO);
            let tiles = group.keys().start / KEYS..group.keys().end.div_ceil(KEYS);
            for start in tiles.clone().step_by(BLOCK) {
                let tiles = start..tiles.end.min(start + BLOCK);
                if let Some(drop) = &plan.dropout {
                    let mask = &mut strips.mask[..tiles.len()];
                    mask.as_flattened_mut().iter_mut().for_each(|row| row.0.fill(1.0));
                    let (keys, head) = (tiles.start * KEYS..plan.keys.min(tiles.end * KEYS), batch * plan.heads + head);
                    pack::drop_strip(plan, drop, head, &group, keys, strips.factors, mask.as_flattened_mut());
                }
                for tile in tiles.clone() {
                    gradient_tile(s, plan, &group, tile, tile - start, &keys, &queries, &mut strips, width);
                }
                accumulate(s, &group, tiles, &mut keys, &queries, &strips, width, acc);
            }
            let rows = s![shared, first..first + group.live, ..];
            pack::unpack(s, acc, width, |_| plan.scale, dq.slice_mut(rows));
        }
        pack::unpack(s, keys.dk, width, |_| plan.scale, dk);
        pack::unpack(s, keys.dv, width, |_| 1.0, dv);
    }
}

impl Queries<'_> {
    /// Packs a group of one head.
    #[inline(always)]
    fn load<S: Simd, E: Element>(
        &mut self,
        s: S,
        plan: &Plan,
        inputs: &Inputs<E>,
        batch: usize,
        head: usize,
        group: &Group,
        width: usize,
        out_rows: &mut [Lanes],
    ) {
        let range = group.first..group.first + group.live;
        pack::rows(s, head_of(&inputs.q, batch, head), range.clone(), width, self.rows);
        pack::rows(s, head_of(&inputs.dout, batch, head), range.clone(), width, self.dout_rows);
        pack::rows(s, head_of(&inputs.out, batch, head), range, width, out_rows);
        pack::transpose(self.rows, width, plan.factors().0, self.queries);
        pack::transpose(self.dout_rows, width, 1.0, self.douts);
        let lse: ArrayView1<f32> = inputs.lse.index_axis(Axis(0), batch).index_axis_move(Axis(0), head);
        (self.lse, self.delta) = (Row::ZERO, Row::ZERO);
        for query in 0..group.live {
            self.lse.0[query] = lse[group.first + query] * LOG2_E;
            let mut sum = s.splat(0.0);
            for at in query * width..(query + 1) * width {
                sum = s.fma(s.load(&self.dout_rows[at].0), s.load(&out_rows[at].0), sum);
            }
            self.delta.0[query] = s.reduce_add(sum);
        }
    }
}

/// Fills tile `at` of the strips: probabilities (dropped) and gradients of the scores.
#[inline(always)]
fn gradient_tile<S: Simd>(
    s: S,
    plan: &Plan,
    group: &Group,
    tile: usize,
    at: usize,
    keys: &Keys,
    queries: &Queries,
    strips: &mut Strips,
    width: usize,
) {
    let blocks = tile * width..(tile + 1) * width;
    let (halves, cap) = (group.halves(tile), plan.factors().1);
    let (scores, gradient) = (&mut strips.scores[at], &mut strips.gradient[at]);
    tile::scores(s, &keys.key_blocks[blocks.clone()], queries.queries, halves.clone(), scores);
    tile::scores(s, &keys.value_blocks[blocks], queries.douts, halves.clone(), gradient);
    for half in halves {
        let (lse, mut delta) = (s.load(queries.lse.half(half)), s.load(queries.delta.half(half)));
        if plan.dropout.is_some() {
            multiply(s, gradient, &strips.mask[at], half);
        }
        if let Some(cap) = cap {
            uncap(s, scores, gradient, half, cap, delta);
            delta = s.splat(0.0);
        }
        if let Some(offset) = group.hidden(tile, half) {
            tile::hide(s, scores, half, offset, group.window as f32, f32::NEG_INFINITY);
        }
        for (x, dx) in scores.iter_mut().zip(gradient.iter_mut()) {
            let p = tile::exp2(s, s.sub(s.load(x.half(half)), lse));
            let g = s.mul(p, s.sub(s.load(dx.half(half)), delta));
            s.store(x.half_mut(half), p);
            s.store(dx.half_mut(half), g);
        }
        if plan.dropout.is_some() {
            multiply(s, scores, &strips.mask[at], half);
        }
    }
}

/// `x *= factor` in one half of a tile.
#[inline(always)]
fn multiply<S: Simd>(s: S, x: &mut [Row; KEYS], factor: &[Row; KEYS], half: usize) {
    for (x, f) in x.iter_mut().zip(factor) {
        let y = s.mul(s.load(x.half(half)), s.load(f.half(half)));
        s.store(x.half_mut(half), y);
    }
}

/// `x` becomes the capped score in bits, `dx` becomes `(dx - delta) (1 - tanh^2)`.
#[inline(always)]
fn uncap<S: Simd>(s: S, x: &mut [Row; KEYS], dx: &mut [Row; KEYS], half: usize, cap: f32, delta: S::V) {
    for (x, dx) in x.iter_mut().zip(dx) {
        let t = tile::tanh(s, s.load(x.half(half)));
        let slope = s.sub(s.splat(1.0), s.mul(t, t));
        let g = s.mul(s.sub(s.load(dx.half(half)), delta), slope);
        s.store(dx.half_mut(half), g);
        s.store(x.half_mut(half), s.mul(t, s.splat(cap)));
    }
}

/// Adds a block's share to `dV`, `dK` and the group's `dQ` (the scale is left to the end).
#[inline(always)]
fn accumulate<S: Simd>(
    s: S,
    group: &Group,
    tiles: std::ops::Range<usize>,
    keys: &mut Keys,
    queries: &Queries,
    strips: &Strips,
    width: usize,
    dq: &mut [Lanes],
) {
    for tile in tiles.clone() {
        let (at, rows) = (tile - tiles.start, tile * KEYS * width..(tile + 1) * KEYS * width);
        let halves = group.halves(tile);
        // Queries before the tile's first key see nothing of it.
        let first = (halves.start * LANES).max((tile * KEYS).saturating_sub(group.position));
        let seen = first..group.live.min(halves.end * LANES);
        for (strip, from, to) in [
            (&strips.scores[at], &*queries.dout_rows, &mut keys.dv[rows.clone()]),
            (&strips.gradient[at], &*queries.rows, &mut keys.dk[rows.clone()]),
        ] {
            tile::outer_sum(s, strip, from, width, seen.clone(), to);
        }
    }
    let block = tiles.start * KEYS..tiles.end * KEYS;
    let strip = strips.gradient.as_flattened();
    for slice in 0..group.live.div_ceil(SLICE) {
        let seen = group.slice_keys(slice);
        let (start, end) = (seen.start.max(block.start), seen.end.min(block.end));
        if start < end {
            let values = &keys.key_rows[start * width..end * width];
            tile::weighted_sum(s, &strip[start - block.start..end - block.start], values, width, slice, dq);
        }
    }
}
