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

use super::group::Group;
use super::operand::Operand;
use super::tile::{self, KEYS, Lanes, QUERIES, Row, SLICE, WordRow, Words};
use super::{Plan, Scratch, for_each, head_of, math, pack, split};
use crate::simd::{self, Element, Kernel, LANES, Simd, isa};
use ndarray::{ArrayView1, ArrayView3, ArrayView4, ArrayViewMut2, ArrayViewMut3, ArrayViewMut4, Axis, s};
use std::f32::consts::LOG2_E;
use std::marker::PhantomData;

/// Tiles of keys in a block.
const BLOCK: usize = 6;

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
pub(super) fn run<E: Element, P: Operand>(
    plan: &Plan,
    inputs: &Inputs<E>,
    dq: ArrayViewMut4<E>,
    dk: ArrayViewMut4<E>,
    dv: ArrayViewMut4<E>,
) {
    let isa = isa::current();
    for_each(plan.work(), parts(plan, dq, dk, dv), |part, scratch| {
        simd::dispatch(isa, Backward { plan, inputs, part, scratch, precision: PhantomData::<P> });
    });
}

/// One key/value head.
struct Backward<'p, 'i, 'o, E, P> {
    plan: &'p Plan,
    inputs: &'p Inputs<'i, E>,
    part: Part<'o, E>,
    scratch: &'p mut Scratch,
    precision: PhantomData<P>,
}

/// A key/value head's keys and values as packed, and where their gradients are summed.
struct Keys<'a> {
    key_blocks: &'a mut [[Words; KEYS]],
    value_blocks: &'a mut [[Words; KEYS]],
    key_rows: &'a mut [Words],
    dk: &'a mut [Lanes],
    dv: &'a mut [Lanes],
}

/// A group of queries as packed, with a row of numbers for each: log-sum-exp in bits and `D`.
struct Queries<'a> {
    rows: &'a mut [Words],
    dout_rows: &'a mut [Words],
    queries: &'a mut [WordRow],
    douts: &'a mut [WordRow],
    lse: Row,
    delta: Row,
}

/// The strips of a block: probabilities and gradients of the scores, as words along the queries; the latter as pairs along
/// the keys too, where words are pairs; dropout factors.
struct Strips<'a> {
    weights: &'a mut [[WordRow; KEYS]],
    gradient: &'a mut [[WordRow; KEYS]],
    gradient_by_key: &'a mut [WordRow],
    mask: &'a mut [[Row; KEYS]],
    factors: &'a mut Vec<f32>,
}

impl<E: Element, P: Operand> Kernel for Backward<'_, '_, '_, E, P> {
    type Output = ();
    const BF16: bool = E::HALF;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Backward { plan, inputs, part, scratch, .. } = self;
        let Part { batch, kv_head, mut dq, dk, dv } = part;
        let (width, blocks) = (pack::vectors(plan.dim), pack::word_vectors::<P>(plan.dim));
        let tiles = plan.keys.div_ceil(KEYS);
        let k = head_of(&inputs.k, batch, kv_head);
        let v = head_of(&inputs.v, batch, kv_head);
        let mut keys = Keys {
            key_blocks: pack::reserve(&mut scratch.key_blocks, tiles * blocks, [Words::ZERO; KEYS]),
            value_blocks: pack::reserve(&mut scratch.value_blocks, tiles * blocks, [Words::ZERO; KEYS]),
            key_rows: pack::reserve(&mut scratch.key_rows, tiles * KEYS / P::PER * width, Words::ZERO),
            dk: pack::reserve(&mut scratch.dk, tiles * KEYS * width, Lanes::ZERO),
            dv: pack::reserve(&mut scratch.dv, tiles * KEYS * width, Lanes::ZERO),
        };
        pack::blocks(k, 0..plan.keys, blocks, keys.key_blocks);
        pack::blocks(v, 0..plan.keys, blocks, keys.value_blocks);
        pack::rows::<E, P>(k, 0..plan.keys, width, keys.key_rows);
        keys.dk.fill(Lanes::ZERO);
        keys.dv.fill(Lanes::ZERO);
        let mut queries = Queries {
            rows: pack::reserve(&mut scratch.query_rows, QUERIES / P::PER * width, Words::ZERO),
            dout_rows: pack::reserve(&mut scratch.dout_rows, QUERIES / P::PER * width, Words::ZERO),
            queries: pack::reserve(&mut scratch.queries, blocks * LANES, WordRow::ZERO),
            douts: pack::reserve(&mut scratch.douts, blocks * LANES, WordRow::ZERO),
            lse: Row::ZERO,
            delta: Row::ZERO,
        };
        let mut strips = Strips {
            weights: pack::reserve(&mut scratch.weights, BLOCK, [WordRow::ZERO; KEYS]),
            gradient: pack::reserve(&mut scratch.gradient, BLOCK, [WordRow::ZERO; KEYS]),
            gradient_by_key: pack::reserve(&mut scratch.gradient_by_key, BLOCK * KEYS / 2, WordRow::ZERO),
            mask: pack::reserve(&mut scratch.mask, BLOCK, [Row::ZERO; KEYS]),
            factors: &mut scratch.factors,
        };
        let acc = pack::reserve(&mut scratch.out, QUERIES * width, Lanes::ZERO);
        for step in 0..plan.sharing() * plan.queries.div_ceil(QUERIES) {
            let (shared, first) =
                (step / plan.queries.div_ceil(QUERIES), step % plan.queries.div_ceil(QUERIES) * QUERIES);
            let head = kv_head * plan.sharing() + shared;
            let group = plan.group(first, QUERIES.min(plan.queries - first));
            queries.load::<S, E, P>(s, plan, inputs, batch, head, &group, width);
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
                    gradient_tile::<S, P>(s, plan, &group, tile, tile - start, &keys, &queries, &mut strips, blocks);
                }
                accumulate::<S, P>(s, &group, tiles, &mut keys, &queries, &strips, width, acc);
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
    fn load<S: Simd, E: Element, P: Operand>(
        &mut self,
        s: S,
        plan: &Plan,
        inputs: &Inputs<E>,
        batch: usize,
        head: usize,
        group: &Group,
        width: usize,
    ) {
        let range = group.first..group.first + group.live;
        let [q, dout, out] = [&inputs.q, &inputs.dout, &inputs.out].map(|view| head_of(view, batch, head));
        pack::rows::<E, P>(q, range.clone(), width, self.rows);
        pack::rows::<E, P>(dout, range.clone(), width, self.dout_rows);
        pack::transpose::<E, P>(q, range.clone(), plan.factors().0, self.queries);
        pack::transpose::<E, P>(dout, range, 1.0, self.douts);
        let lse: ArrayView1<f32> = inputs.lse.index_axis(Axis(0), batch).index_axis_move(Axis(0), head);
        (self.lse, self.delta) = (Row::ZERO, Row::ZERO);
        for query in 0..group.live {
            self.lse.0[query] = lse[group.first + query] * LOG2_E;
            let [dout, out] = [dout, out].map(|view| pack::row(view, group.first + query));
            let mut sum = s.splat(0.0);
            for at in (0..dout.len()).step_by(LANES) {
                sum = s.fma(E::load_at(s, dout, at, 0.0), E::load_at(s, out, at, 0.0), sum);
            }
            self.delta.0[query] = s.reduce_add(sum);
        }
    }
}

/// Fills tile `at` of the strips: probabilities (dropped) and gradients of the scores.
#[inline(always)]
fn gradient_tile<S: Simd, P: Operand>(
    s: S,
    plan: &Plan,
    group: &Group,
    tile: usize,
    at: usize,
    keys: &Keys,
    queries: &Queries,
    strips: &mut Strips,
    blocks: usize,
) {
    let words = tile * blocks..(tile + 1) * blocks;
    let (halves, (factor, cap)) = (group.halves(tile), plan.factors());
    let (mut scores, mut gradient) = ([Row::ZERO; KEYS], [Row::ZERO; KEYS]);
    let [x, dx] = [&mut scores, &mut gradient];
    tile::scores::<S, P>(s, &keys.key_blocks[words.clone()], queries.queries, halves.clone(), factor, x);
    tile::scores::<S, P>(s, &keys.value_blocks[words], queries.douts, halves.clone(), 1.0, dx);
    let (weights, gradients) = (&mut strips.weights[at], &mut strips.gradient[at]);
    let by_key = &mut strips.gradient_by_key[at * KEYS / 2..(at + 1) * KEYS / 2];
    for half in halves {
        let (lse, mut delta) = (s.load(queries.lse.half(half)), s.load(queries.delta.half(half)));
        let mask = plan.dropout.is_some().then_some(&strips.mask[at]);
        if let Some(mask) = mask {
            for (dx, f) in dx.iter_mut().zip(mask) {
                let y = s.mul(s.load(dx.half(half)), s.load(f.half(half)));
                s.store(dx.half_mut(half), y);
            }
        }
        if let Some(cap) = cap {
            uncap(s, x, dx, half, cap, delta);
            delta = s.splat(0.0);
        }
        if let Some(offset) = group.hidden(tile, half) {
            tile::hide(s, x, half, offset, group.window as f32, f32::NEG_INFINITY);
        }
        for first in (0..KEYS).step_by(2) {
            let mut pair = [s.splat(0.0); 2];
            for i in 0..2 {
                let at = first + i;
                let mut p = P::exp2(s, s.sub(s.load(x[at].half(half)), lse));
                pair[i] = s.mul(p, s.sub(s.load(dx[at].half(half)), delta));
                if let Some(mask) = mask {
                    p = s.mul(p, s.load(mask[at].half(half)));
                }
                P::store_queries(s, &mut weights[at], half, p);
                P::store_queries(s, &mut gradients[at], half, pair[i]);
            }
            if P::PER == 2 {
                s.store_pairs(by_key[first / 2].half_mut(half), s.round_pairs(pair[0], pair[1]));
            }
        }
    }
}

/// `x` becomes the capped score in bits, `dx` becomes `(dx - delta) (1 - tanh^2)`.
#[inline(always)]
fn uncap<S: Simd>(s: S, x: &mut [Row; KEYS], dx: &mut [Row; KEYS], half: usize, cap: f32, delta: S::V) {
    for (x, dx) in x.iter_mut().zip(dx) {
        let t = math::tanh(s, s.load(x.half(half)));
        let slope = s.sub(s.splat(1.0), s.mul(t, t));
        let g = s.mul(s.sub(s.load(dx.half(half)), delta), slope);
        s.store(dx.half_mut(half), g);
        s.store(x.half_mut(half), s.mul(t, s.splat(cap)));
    }
}

/// Adds a block's share to `dV`, `dK` and the group's `dQ` (the scale is left to the end).
#[inline(always)]
fn accumulate<S: Simd, P: Operand>(
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
        let end = group.live.min(halves.end * LANES);
        let seen = first / P::PER..end.div_ceil(P::PER);
        for (strip, from, to) in [
            (&strips.weights[at], &*queries.dout_rows, &mut keys.dv[rows.clone()]),
            (&strips.gradient[at], &*queries.rows, &mut keys.dk[rows.clone()]),
        ] {
            tile::outer_sum::<S, P>(s, strip, from, width, seen.clone(), to);
        }
    }
    let block = tiles.start * KEYS..tiles.end * KEYS;
    let strip = if P::PER == 2 { &*strips.gradient_by_key } else { strips.gradient.as_flattened() };
    for slice in 0..group.live.div_ceil(SLICE) {
        let seen = group.slice_keys(slice);
        let (start, end) = (seen.start.max(block.start), seen.end.min(block.end));
        if start < end {
            let (first, start, end) = (block.start / P::PER, start / P::PER, end.div_ceil(P::PER));
            let values = &keys.key_rows[start * width..end * width];
            tile::weighted_sum::<S, P>(s, &strip[start - first..end - first], values, width, slice, dq);
        }
    }
}
