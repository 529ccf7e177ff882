//! A block of the backward pass: one group of queries with some tiles of keys.

use super::backward::Inputs;
use super::group::Group;
use super::operand::Operand;
use super::tile::{KEYS, Lanes, Row, SLICE, WordRow, Words};
use super::{Plan, head_of, pack, tile as product};
use crate::simd::{Element, LANES, Simd, math};
use ndarray::{ArrayView1, ArrayView2, Axis};
use std::f32::consts::LOG2_E;
use std::ops::Range;

/// Tiles of keys in a block: as many as the first-level cache holds together with a group.
pub(super) const BLOCK: usize = 8;

/// A chunk of keys and values as packed, and where their gradients are summed.
pub(super) struct Keys<'a> {
    /// The tile that is packed first.
    pub first: usize,
    pub key_blocks: &'a mut [[Words; KEYS]],
    pub value_blocks: &'a mut [[Words; KEYS]],
    pub key_rows: &'a mut [Words],
    pub dk: &'a mut [Lanes],
    pub dv: &'a mut [Lanes],
}

/// A group of queries as packed, with a row of numbers for each: log-sum-exp in bits and `D`.
pub(super) struct Queries<'a> {
    /// A place for rows that are about to be transposed.
    pub words: &'a mut [Words],
    pub rows: &'a mut [Words],
    pub dout_rows: &'a mut [Words],
    pub queries: &'a mut [WordRow],
    pub douts: &'a mut [WordRow],
    pub lse: Row,
    pub delta: Row,
}

/// The strips of a block: probabilities and gradients of the scores, as words along the queries; the latter as pairs along
/// the keys too, where words are pairs; dropout factors.
pub(super) struct Strips<'a> {
    pub weights: &'a mut [[WordRow; KEYS]],
    pub gradient: &'a mut [[WordRow; KEYS]],
    pub gradient_by_key: &'a mut [WordRow],
    pub mask: &'a mut [[Row; KEYS]],
    pub factors: &'a mut Vec<f32>,
}

impl Keys<'_> {
    /// Packs the rows `range`, whose first is that of a tile.
    #[inline(always)]
    pub fn load<E: Element, P: Operand>(
        &mut self,
        k: ArrayView2<E>,
        v: ArrayView2<E>,
        range: Range<usize>,
        width: usize,
        blocks: usize,
    ) {
        let (at, to) = (range.start / KEYS - self.first, range.end.div_ceil(KEYS) - self.first);
        pack::blocks(k, range.clone(), blocks, &mut self.key_blocks[at * blocks..to * blocks]);
        pack::blocks(v, range.clone(), blocks, &mut self.value_blocks[at * blocks..to * blocks]);
        let words = KEYS / P::PER * width;
        pack::rows::<E, P>(k, range, width, &mut self.key_rows[at * words..to * words]);
    }
}

impl Queries<'_> {
    /// Packs a group of one head.
    #[inline(always)]
    pub fn load<S: Simd, E: Element, P: Operand>(
        &mut self,
        s: S,
        plan: &Plan,
        inputs: &Inputs<E>,
        batch: usize,
        head: usize,
        group: &Group,
        width: usize,
        blocks: usize,
    ) {
        let range = group.first..group.first + group.live;
        let [q, dout, out] = [&inputs.q, &inputs.dout, &inputs.out].map(|view| head_of(view, batch, head));
        for (view, factor, rows, transposed) in [
            (q, plan.factors().0, &mut *self.rows, &mut *self.queries),
            (dout, 1.0, &mut *self.dout_rows, &mut *self.douts),
        ] {
            pack::rows::<E, P>(view, range.clone(), width, rows);
            if P::PER == 1 {
                pack::transpose::<P>(rows, blocks, factor, transposed);
            } else {
                pack::words(view, range.clone(), blocks, self.words);
                pack::transpose::<P>(self.words, blocks, factor, transposed);
            }
        }
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
pub(super) fn tile<S: Simd, P: Operand>(
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
    let place = tile - keys.first;
    let words = place * blocks..(place + 1) * blocks;
    let (halves, (factor, cap)) = (group.halves(tile), plan.factors());
    let (mut scores, mut gradient) = ([Row::ZERO; KEYS], [Row::ZERO; KEYS]);
    let [x, dx] = [&mut scores, &mut gradient];
    product::scores::<S, P>(s, &keys.key_blocks[words.clone()], queries.queries, halves.clone(), factor, x);
    product::scores::<S, P>(s, &keys.value_blocks[words], queries.douts, halves.clone(), 1.0, dx);
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
        if let Some(hidden) = group.hidden(tile, half) {
            product::hide(s, x, half, &hidden, f32::NEG_INFINITY);
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
pub(super) fn accumulate<S: Simd, P: Operand>(
    s: S,
    group: &Group,
    tiles: Range<usize>,
    keys: &mut Keys,
    queries: &Queries,
    strips: &Strips,
    width: usize,
    dq: &mut [Lanes],
) {
    for tile in tiles.clone() {
        let (at, place) = (tile - tiles.start, tile - keys.first);
        let rows = place * KEYS * width..(place + 1) * KEYS * width;
        let halves = group.halves(tile);
        // Queries before the tile's first key see nothing of it.
        let first = (halves.start * LANES).max((tile * KEYS).saturating_sub(group.position));
        let end = group.live.min(halves.end * LANES);
        let seen = first / P::PER..end.div_ceil(P::PER);
        for (strip, from, to) in [
            (&strips.weights[at], &*queries.dout_rows, &mut keys.dv[rows.clone()]),
            (&strips.gradient[at], &*queries.rows, &mut keys.dk[rows.clone()]),
        ] {
            product::outer_sum::<S, P>(s, strip, from, width, seen.clone(), to);
        }
    }
    let block = tiles.start * KEYS..tiles.end * KEYS;
    let strip = if P::PER == 2 { &*strips.gradient_by_key } else { strips.gradient.as_flattened() };
    for slice in 0..group.live.div_ceil(SLICE) {
        let seen = group.slice_keys(slice);
        let (start, end) = (seen.start.max(block.start), seen.end.min(block.end));
        if start < end {
            let (start, end) = (start / P::PER, end.div_ceil(P::PER));
            let (first, packed) = (block.start / P::PER, keys.first * KEYS / P::PER);
            let values = &keys.key_rows[(start - packed) * width..(end - packed) * width];
            product::weighted_sum::<S, P>(s, &strip[start - first..end - first], values, width, slice, dq);
        }
    }
}
