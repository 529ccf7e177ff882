//! The forward pass of many queries: groups of 32 against all keys they see, in one exact pass.
//!
//! For a group: the strip of scores tile by tile (hidden ones set to minus infinity, running maximum), then
//! `2^(score - maximum)` and its sum, then the weighted sum of the values and the division by the sum.

use super::group::Group;
use super::operand::Operand;
use super::tile::{self, HALVES, KEYS, Lanes, QUERIES, Row, SLICE, WordRow, Words};
use super::{Plan, Scratch, for_each, head_of, pack, split};
use crate::simd::{self, Element, Kernel, LANES, Simd, isa, math, prefetch};
use ndarray::{ArrayView2, ArrayView4, ArrayViewMut1, ArrayViewMut2, ArrayViewMut3, ArrayViewMut4, Axis};
use std::f32::consts::LN_2;
use std::marker::PhantomData;
use std::ops::Range;

/// Tasks that are worth cutting heads for: enough to share among some threads.
const TASKS: usize = 16;
/// The fewest queries of a task that is a part of a head, as it packs the keys for itself.
const PART: usize = 4 * QUERIES;

/// Keys in a block of the weighted sum.
const BLOCK: usize = 256;

/// Some consecutive queries of one head.
struct Part<'a, E> {
    batch: usize,
    head: usize,
    first: usize,
    out: ArrayViewMut2<'a, E>,
    lse: ArrayViewMut1<'a, f32>,
}

/// Cuts the outputs into parts, by shape alone; those with most work first.
fn parts<'a, E>(plan: &Plan, out: ArrayViewMut4<'a, E>, lse: ArrayViewMut3<'a, f32>) -> Vec<Part<'a, E>> {
    let cuts = TASKS.div_ceil(plan.batch * plan.heads).min(plan.queries.div_ceil(PART));
    let rows = plan.queries.div_ceil(cuts).next_multiple_of(QUERIES);
    let mut parts = Vec::with_capacity(plan.batch * plan.heads * cuts);
    let (outs, lses) = (split(out), split(lse));
    for (batch, (out, lse)) in outs.zip(lses).enumerate() {
        for (head, (mut out, mut lse)) in split(out).zip(split(lse)).enumerate() {
            let mut first = 0;
            while !lse.is_empty() {
                let n = rows.min(lse.len());
                let (head_out, rest_out) = out.split_at(Axis(0), n);
                let (head_lse, rest_lse) = lse.split_at(Axis(0), n);
                parts.push(Part { batch, head, first, out: head_out, lse: head_lse });
                (out, lse, first) = (rest_out, rest_lse, first + n);
            }
        }
    }
    parts.sort_by_key(|part| std::cmp::Reverse(part.first));
    parts
}

/// Computes `out` and `lse`; shapes are checked.
pub(super) fn run<E: Element, P: Operand>(
    plan: &Plan,
    q: ArrayView4<E>,
    k: ArrayView4<E>,
    v: ArrayView4<E>,
    out: ArrayViewMut4<E>,
    lse: ArrayViewMut3<f32>,
) {
    if out.is_empty() {
        return;
    }
    let isa = isa::current();
    for_each(plan.work(), parts(plan, out, lse), |part, scratch| {
        let kv_head = part.head / plan.sharing();
        let q = head_of(&q, part.batch, part.head);
        let k = head_of(&k, part.batch, kv_head);
        let v = head_of(&v, part.batch, kv_head);
        simd::dispatch(isa, Forward { plan, q, k, v, part, scratch, precision: PhantomData::<P> });
    });
}

/// One part, with the inputs of its head.
struct Forward<'p, 'i, 'o, E, P> {
    plan: &'p Plan<'p>,
    q: ArrayView2<'i, E>,
    k: ArrayView2<'i, E>,
    v: ArrayView2<'i, E>,
    part: Part<'o, E>,
    scratch: &'p mut Scratch,
    precision: PhantomData<P>,
}

impl<E: Element, P: Operand> Kernel for Forward<'_, '_, '_, E, P> {
    type Output = ();
    const BF16: bool = E::HALF;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Forward { plan, q, k, v, part, scratch, .. } = self;
        let (count, first) = (part.lse.len(), part.first);
        let (width, blocks) = (pack::vectors(plan.dim), pack::word_vectors::<P>(plan.dim));
        let all = plan.group(part.batch, first, count).keys();
        let base = all.start / KEYS;
        let (from, tiles) = (base * KEYS, all.end.div_ceil(KEYS) - base);
        let key_blocks = pack::reserve(&mut scratch.key_blocks, tiles * blocks, [Words::ZERO; KEYS]);
        let values = pack::reserve(&mut scratch.key_rows, tiles * KEYS / P::PER * width, Words::ZERO);
        let strip = pack::reserve(&mut scratch.strip, tiles, [Row::ZERO; KEYS]);
        let words = pack::reserve(&mut scratch.words, QUERIES * blocks, Words::ZERO);
        let queries = pack::reserve(&mut scratch.queries, blocks * LANES, WordRow::ZERO);
        let acc = pack::reserve(&mut scratch.out, QUERIES * width, Lanes::ZERO);
        let (factor, cap) = plan.factors();
        let (mut out, mut lse) = (part.out, part.lse);
        let mut packed = from;
        for start in (0..count).step_by(QUERIES) {
            let group = plan.group(part.batch, first + start, QUERIES.min(count - start));
            let end = group.keys().end.next_multiple_of(KEYS).min(all.end);
            if packed < end {
                // Keys are packed when the first group sees them, while their rows are still on the way to the next.
                let (at, to) = ((packed - from) / KEYS, (end - from).div_ceil(KEYS));
                pack::blocks(k, packed..end, blocks, &mut key_blocks[at * blocks..to * blocks]);
                let words = KEYS / P::PER * width;
                pack::rows::<E, P>(v, packed..end, width, &mut values[at * words..to * words]);
                packed = end;
            }
            pack::words(q, group.first..group.first + group.live, blocks, words);
            pack::transpose::<P>(words, blocks, factor, queries);
            let tiles = group.keys().end.div_ceil(KEYS) - group.keys().start / KEYS;
            let ahead = |step: usize| {
                for i in pack::share_of_group(step, tiles).map(|i| start + QUERIES + i).filter(|&i| i < count) {
                    prefetch(pack::row(q, first + i));
                    prefetch(pack::row(k, plan.position(first + i)));
                    prefetch(pack::row(v, plan.position(first + i)));
                    prefetch(pack::row(out.view(), i));
                }
            };
            let max = score_strip::<S, P>(s, &group, base, key_blocks, blocks, queries, (factor, cap), ahead, strip);
            let rounded = plan.dropout.is_none();
            let sum = exponentials::<S, P>(s, &group, base, &max, rounded, strip.as_flattened_mut());
            if let Some(drop) = &plan.dropout {
                let head = part.batch * plan.heads + part.head;
                let keys = from..group.keys().end;
                pack::drop_strip(s, plan, drop, head, &group, keys, &mut scratch.factors, strip.as_flattened_mut());
                if P::PER == 2 {
                    round(s, &group, base, strip.as_flattened_mut());
                }
            }
            acc.fill(Lanes::ZERO);
            let strip: &[WordRow] = bytemuck::must_cast_slice(strip.as_flattened());
            for block in blocks_of(&group) {
                for slice in 0..group.live.div_ceil(SLICE) {
                    let keys = group.slice_keys(slice);
                    let (start, end) = (keys.start.max(block.start), keys.end.min(block.end));
                    if start < end {
                        let words = (start - from) / P::PER..(end - from).div_ceil(P::PER);
                        let values = &values[words.start * width..words.end * width];
                        tile::weighted_sum::<S, P>(s, &strip[words], values, width, slice, acc);
                    }
                }
            }
            let ours = ndarray::s![start..start + group.live, ..];
            pack::unpack(s, acc, width, |i| 1.0 / sum.0[i], out.slice_mut(ours));
            for i in 0..group.live {
                lse[start + i] = max.0[i] * LN_2 + sum.0[i].ln();
            }
        }
    }
}

/// A group's keys in blocks whose values stay in the second-level cache for all slices of the group.
#[inline(always)]
fn blocks_of(group: &Group) -> impl Iterator<Item = Range<usize>> {
    let keys = group.keys();
    // From a tile on, so that no word of keys belongs to two blocks.
    let first = keys.start / KEYS * KEYS;
    (first..keys.end).step_by(BLOCK).map(move |start| start..keys.end.min(start + BLOCK))
}

/// Fills the strip with a group's scores in bits and gives each query's maximum.
#[inline(always)]
fn score_strip<S: Simd, P: Operand>(
    s: S,
    group: &Group,
    base: usize,
    key_blocks: &[[Words; KEYS]],
    blocks: usize,
    queries: &[WordRow],
    (factor, cap): (f32, Option<f32>),
    ahead: impl Fn(usize),
    strip: &mut [[Row; KEYS]],
) -> Row {
    let keys = group.keys();
    let mut max = [s.splat(f32::NEG_INFINITY); HALVES];
    for tile in keys.start / KEYS..keys.end.div_ceil(KEYS) {
        let (halves, at) = (group.halves(tile), tile - base);
        let out = &mut strip[at];
        ahead(tile - keys.start / KEYS);
        tile::scores::<S, P>(s, &key_blocks[at * blocks..(at + 1) * blocks], queries, halves.clone(), factor, out);
        for half in halves {
            if let Some(cap) = cap {
                for row in out.iter_mut() {
                    let y = s.mul(math::tanh(s, s.load(row.half(half))), s.splat(cap));
                    s.store(row.half_mut(half), y);
                }
            }
            if let Some(hidden) = group.hidden(tile, half) {
                tile::hide(s, out, half, &hidden, f32::NEG_INFINITY);
            }
            for row in out.iter() {
                max[half] = s.max(s.load(row.half(half)), max[half]);
            }
        }
    }
    let mut out = Row::ZERO;
    for half in 0..HALVES {
        s.store(out.half_mut(half), max[half]);
    }
    out
}

/// Turns the scores of a strip into `2^(score - max)` and gives each query's sum. The weights are words along the keys if
/// they are to be `rounded`: `PER` rows become one, so that the strip shrinks.
#[inline(always)]
fn exponentials<S: Simd, P: Operand>(
    s: S,
    group: &Group,
    base: usize,
    max: &Row,
    rounded: bool,
    strip: &mut [Row],
) -> Row {
    let mut sums = Row([1.0; QUERIES]);
    for half in 0..HALVES {
        let max = s.load(max.half(half));
        let mut sum = s.splat(0.0);
        for tile in group.half_tiles(half) {
            let (mut partial, first) = (s.splat(0.0), (tile - base) * KEYS);
            for i in (first..first + KEYS).step_by(2) {
                let first = P::exp2(s, s.sub(s.load(strip[i].half(half)), max));
                let second = P::exp2(s, s.sub(s.load(strip[i + 1].half(half)), max));
                partial = s.add(s.add(partial, first), second);
                if P::PER == 2 && rounded {
                    s.store_pairs(bytemuck::must_cast_mut(strip[i / 2].half_mut(half)), s.round_pairs(first, second));
                } else {
                    s.store(strip[i].half_mut(half), first);
                    s.store(strip[i + 1].half_mut(half), second);
                }
            }
            sum = s.add(sum, partial);
        }
        s.store(sums.half_mut(half), sum);
    }
    sums
}

/// Turns weights that were left alone by [`exponentials`] into pairs along the keys.
#[inline(always)]
fn round<S: Simd>(s: S, group: &Group, base: usize, strip: &mut [Row]) {
    for half in 0..HALVES {
        let tiles = group.half_tiles(half);
        for i in (tiles.start.max(base) - base) * KEYS / 2..(tiles.end.max(base) - base) * KEYS / 2 {
            let (first, second) = (s.load(strip[2 * i].half(half)), s.load(strip[2 * i + 1].half(half)));
            s.store_pairs(bytemuck::must_cast_mut(strip[i].half_mut(half)), s.round_pairs(first, second));
        }
    }
}
