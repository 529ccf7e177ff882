//! The backward pass: probabilities recomputed from the log-sum-exp, five products a tile.
//!
//! ```text
//! P = 2^(S - lse)      Z = P * F            F: dropout factors, else 1
//! dV = Z^T dO          dP = (dO V^T) * F
//! dS = P * (dP - D) * cap'(S)               D = rowsum(dO * O) = rowsum(P * dP), with dropout too
//! dQ = scale dS K      dK = scale dS^T Q
//! ```
//!
//! A task owns some keys of a key/value head and goes through all queries that see them, so `dK` and `dV` are private sums
//! in a fixed order: chunks of keys outside, then groups of queries, then blocks of keys, whose strips stay in the
//! first-level cache ([`super::gradient`]). Where there are many heads a task has all keys of its head, and `dQ` is private
//! too. Where there are few, heads are cut by keys; each part then leaves its share of `dQ`, and a second region adds the
//! shares up in the order of the keys.

use super::gradient::{self, BLOCK, Keys, Queries, Strips};
use super::group::Group;
use super::operand::Operand;
use super::tile::{KEYS, Lanes, QUERIES, Row, WordRow, Words};
use super::{Plan, SERIAL_WORK, Scratch, for_each, head_of, pack, split};
use crate::simd::{self, Element, Kernel, LANES, Simd, isa, prefetch};
use ndarray::{ArrayView3, ArrayView4, ArrayViewMut2, ArrayViewMut3, ArrayViewMut4, Axis, s};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

/// Keys whose gradients are summed at once: they stay in the second-level cache.
const CHUNK: usize = 512;
/// Key/value heads that are tasks enough; fewer are cut.
const TASKS: usize = 16;
/// Parts that few heads are cut into, all together: a head's first keys are seen by most queries, so parts differ in work.
const PARTS: usize = 24;
/// The fewest keys of a part of a head, as it packs the queries for itself.
const PART: usize = 4 * QUERIES;

/// What the forward pass read and wrote, and the gradient of its output.
pub(super) struct Inputs<'a, E> {
    pub q: ArrayView4<'a, E>,
    pub k: ArrayView4<'a, E>,
    pub v: ArrayView4<'a, E>,
    pub out: ArrayView4<'a, E>,
    pub lse: ArrayView3<'a, f32>,
    pub dout: ArrayView4<'a, E>,
}

/// Some keys of a key/value head and their gradients.
struct Part<'a, E> {
    batch: usize,
    kv_head: usize,
    keys: Range<usize>,
    dq: QueryGradient<'a, E>,
    dk: ArrayViewMut2<'a, E>,
    dv: ArrayViewMut2<'a, E>,
}

/// Where the gradient of the queries goes.
enum QueryGradient<'a, E> {
    /// The part has all keys of its head: the gradient itself.
    Whole(ArrayViewMut3<'a, E>),
    /// The share of the part's keys: `(query heads, groups from the first that sees a key, QUERIES, width)`.
    Share(&'a mut [Lanes]),
}

/// Keys of a part, by shape alone; all where heads are not cut.
fn part_keys(plan: &Plan) -> usize {
    let heads = plan.batch * plan.kv_heads;
    if heads >= TASKS || plan.work() < SERIAL_WORK {
        return plan.keys.max(1);
    }
    let cuts = PARTS.div_ceil(heads).min(plan.keys / PART).max(1);
    plan.keys.div_ceil(cuts).next_multiple_of(QUERIES)
}

/// The groups of a head of sequence `batch`.
fn groups<'a>(plan: &Plan<'a>, batch: usize) -> impl DoubleEndedIterator<Item = Group<'a>> {
    (0..plan.queries).step_by(QUERIES).map(move |first| plan.group(batch, first, QUERIES.min(plan.queries - first)))
}

/// What is in both ranges.
fn common(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    a.start.max(b.start)..a.end.min(b.end)
}

/// The number of the first group that sees one of `keys` or a later one.
fn first_group(plan: &Plan, keys: &Range<usize>) -> usize {
    (keys.start + plan.queries).saturating_sub(plan.keys) / QUERIES
}

/// The vectors of a share of `dQ`.
fn share_len(plan: &Plan, keys: &Range<usize>) -> usize {
    let groups = plan.queries.div_ceil(QUERIES) - first_group(plan, keys);
    plan.sharing() * groups * QUERIES * pack::vectors(plan.dim)
}

thread_local! {
    /// The shares of `dQ` of the calls that this thread starts.
    static SHARES: RefCell<Vec<Lanes>> = RefCell::default();
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
    let task = |part, scratch: &mut Scratch| {
        simd::dispatch(isa, Backward { plan, inputs, part, scratch, precision: PhantomData::<P> });
    };
    let rows = part_keys(plan);
    let mut parts = Vec::with_capacity(plan.batch * plan.kv_heads * plan.keys.div_ceil(rows));
    if rows >= plan.keys {
        let batches = split(dq).zip(split(dk)).zip(split(dv));
        for (batch, ((mut dq, dk), dv)) in batches.enumerate() {
            for (kv_head, (dk, dv)) in split(dk).zip(split(dv)).enumerate() {
                let (ours, rest) = dq.split_at(Axis(0), plan.sharing());
                parts.push(Part { batch, kv_head, keys: 0..plan.keys, dq: QueryGradient::Whole(ours), dk, dv });
                dq = rest;
            }
        }
        return for_each(plan.work(), parts, task);
    }
    let cuts = || (0..plan.keys).step_by(rows).map(|start| start..plan.keys.min(start + rows));
    let len: usize = cuts().map(|keys| share_len(plan, &keys)).sum();
    let mut shares = SHARES.take();
    let mut rest = pack::reserve(&mut shares, plan.batch * plan.kv_heads * len, Lanes::ZERO);
    for (batch, (dk, dv)) in split(dk).zip(split(dv)).enumerate() {
        for (kv_head, (mut dk, mut dv)) in split(dk).zip(split(dv)).enumerate() {
            for keys in cuts() {
                let (share, others) = rest.split_at_mut(share_len(plan, &keys));
                let (our_dk, rest_dk) = dk.split_at(Axis(0), keys.len());
                let (our_dv, rest_dv) = dv.split_at(Axis(0), keys.len());
                parts.push(Part { batch, kv_head, keys, dq: QueryGradient::Share(share), dk: our_dk, dv: our_dv });
                (rest, dk, dv) = (others, rest_dk, rest_dv);
            }
        }
    }
    parts.sort_by_key(|part| part.keys.start);
    for_each(plan.work(), parts, task);
    let sums =
        split(dq).enumerate().flat_map(|(batch, dq)| split(dq).enumerate().map(move |(head, dq)| (batch, head, dq)));
    let shares_of_heads = &shares[..plan.batch * plan.kv_heads * len];
    for_each(plan.work(), sums.collect(), |(batch, head, dq), scratch| {
        let kv_head = batch * plan.kv_heads + head / plan.sharing();
        let shares = &shares_of_heads[kv_head * len..(kv_head + 1) * len];
        let shared = head % plan.sharing();
        simd::dispatch(isa, AddShares { plan, batch, shared, shares, rows, dq, acc: &mut scratch.out });
    });
    SHARES.set(shares);
}

/// One part.
struct Backward<'p, 'i, 'o, E, P> {
    plan: &'p Plan<'p>,
    inputs: &'p Inputs<'i, E>,
    part: Part<'o, E>,
    scratch: &'p mut Scratch,
    precision: PhantomData<P>,
}

impl<E: Element, P: Operand> Kernel for Backward<'_, '_, '_, E, P> {
    type Output = ();
    const BF16: bool = E::HALF;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Backward { plan, inputs, part, scratch, .. } = self;
        let Part { batch, kv_head, keys: all, dq, mut dk, mut dv } = part;
        let (width, blocks) = (pack::vectors(plan.dim), pack::word_vectors::<P>(plan.dim));
        let tiles = CHUNK.min(all.len()).div_ceil(KEYS);
        let k = head_of(&inputs.k, batch, kv_head);
        let v = head_of(&inputs.v, batch, kv_head);
        let mut keys = Keys {
            first: 0,
            key_blocks: pack::reserve(&mut scratch.key_blocks, tiles * blocks, [Words::ZERO; KEYS]),
            value_blocks: pack::reserve(&mut scratch.value_blocks, tiles * blocks, [Words::ZERO; KEYS]),
            key_rows: pack::reserve(&mut scratch.key_rows, tiles * KEYS / P::PER * width, Words::ZERO),
            dk: pack::reserve(&mut scratch.dk, tiles * KEYS * width, Lanes::ZERO),
            dv: pack::reserve(&mut scratch.dv, tiles * KEYS * width, Lanes::ZERO),
        };
        let mut queries = Queries {
            words: pack::reserve(&mut scratch.words, QUERIES * blocks, Words::ZERO),
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
        // A single chunk is through with a group at once and needs the sums of one group only.
        let first = first_group(plan, &all);
        let mut slots = plan.queries.div_ceil(QUERIES) - first;
        let (mut whole, sums) = match dq {
            QueryGradient::Share(share) => (None, share),
            QueryGradient::Whole(dq) => {
                slots = if all.len() > CHUNK { slots } else { 1 };
                let len = plan.sharing() * slots * QUERIES * width;
                (Some(dq), pack::reserve(&mut scratch.out, len, Lanes::ZERO))
            }
        };
        for start in all.clone().step_by(CHUNK) {
            let chunk = start..all.end.min(start + CHUNK);
            let mut packed = start;
            let rows = chunk.len() * width;
            keys.first = start / KEYS;
            keys.dk[..rows].fill(Lanes::ZERO);
            keys.dv[..rows].fill(Lanes::ZERO);
            for shared in 0..plan.sharing() {
                let head = kv_head * plan.sharing() + shared;
                let [q, dout, out] = [&inputs.q, &inputs.dout, &inputs.out].map(|view| head_of(view, batch, head));
                for (number, group) in groups(plan, batch).enumerate().skip(first_group(plan, &chunk)) {
                    let seen = common(&group.keys(), &chunk);
                    if seen.is_empty() {
                        continue;
                    }
                    let end = seen.end.next_multiple_of(KEYS).min(chunk.end);
                    if packed < end {
                        // Keys are packed when the first group sees them, while rows are on the way to the next.
                        keys.load::<E, P>(k, v, packed..end, width, blocks);
                        packed = end;
                    }
                    let tiles = seen.start / KEYS..seen.end.div_ceil(KEYS);
                    let ahead = |step: usize| {
                        let rows = pack::share_of_group(step, tiles.len());
                        for i in rows.clone().map(|i| group.first + i).filter(|&i| i < plan.queries) {
                            if let Some(dq) = &whole {
                                prefetch(pack::row(dq.index_axis(Axis(0), shared), i));
                            }
                            let at = plan.position(i);
                            if shared == 0 && chunk.contains(&at) {
                                prefetch(pack::row(dk.view(), at - all.start));
                                prefetch(pack::row(dv.view(), at - all.start));
                            }
                        }
                        for i in rows.map(|i| group.first + QUERIES + i).filter(|&i| i < plan.queries) {
                            prefetch(pack::row(q, i));
                            prefetch(pack::row(dout, i));
                            prefetch(pack::row(out, i));
                            if packed < chunk.end {
                                prefetch(pack::row(k, plan.position(i)));
                                prefetch(pack::row(v, plan.position(i)));
                            }
                        }
                    };
                    queries.load::<S, E, P>(s, plan, inputs, batch, head, &group, width, blocks);
                    let slot = shared * slots + if slots > 1 { number - first } else { 0 };
                    let acc = &mut sums[slot * QUERIES * width..(slot + 1) * QUERIES * width];
                    if common(&group.keys(), &all).start >= chunk.start {
                        acc.fill(Lanes::ZERO);
                    }
                    for start in tiles.clone().step_by(BLOCK) {
                        let block = start..tiles.end.min(start + BLOCK);
                        if let Some(drop) = &plan.dropout {
                            let mask = strips.mask[..block.len()].as_flattened_mut();
                            mask.iter_mut().for_each(|row| row.0.fill(1.0));
                            let keys = block.start * KEYS..plan.keys.min(block.end * KEYS);
                            pack::drop_strip(
                                s,
                                plan,
                                drop,
                                batch * plan.heads + head,
                                &group,
                                keys,
                                strips.factors,
                                mask,
                            );
                        }
                        for tile in block.clone() {
                            ahead(tile - tiles.start);
                            let at = tile - start;
                            gradient::tile::<S, P>(s, plan, &group, tile, at, &keys, &queries, &mut strips, blocks);
                        }
                        gradient::accumulate::<S, P>(s, &group, block, &mut keys, &queries, &strips, width, acc);
                    }
                    if let Some(dq) = &mut whole
                        && group.keys().end <= chunk.end
                    {
                        let rows = s![shared, group.first..group.first + group.live, ..];
                        pack::unpack(s, acc, width, |_| plan.scale, dq.slice_mut(rows));
                    }
                }
            }
            let ours = s![start - all.start..chunk.end - all.start, ..];
            pack::unpack(s, keys.dk, width, |_| plan.scale, dk.slice_mut(ours));
            pack::unpack(s, keys.dv, width, |_| 1.0, dv.slice_mut(ours));
        }
    }
}

/// Adds up the shares of one head's `dQ`, in the order of their keys.
struct AddShares<'p, 'o, E> {
    plan: &'p Plan<'p>,
    batch: usize,
    /// The head, counted among those that share its keys.
    shared: usize,
    /// The shares of its key/value head, one after the other.
    shares: &'p [Lanes],
    /// Keys of a share.
    rows: usize,
    dq: ArrayViewMut2<'o, E>,
    acc: &'p mut Vec<Lanes>,
}

impl<E: Element> Kernel for AddShares<'_, '_, E> {
    type Output = ();
    const BF16: bool = E::HALF;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let AddShares { plan, batch, shared, shares, rows, mut dq, acc } = self;
        let len = QUERIES * pack::vectors(plan.dim);
        let acc = pack::reserve(acc, len, Lanes::ZERO);
        for (number, group) in groups(plan, batch).enumerate() {
            acc.fill(Lanes::ZERO);
            let mut rest = shares;
            for start in (0..plan.keys).step_by(rows) {
                let keys = start..plan.keys.min(start + rows);
                let (share, others) = rest.split_at(share_len(plan, &keys));
                rest = others;
                if common(&group.keys(), &keys).is_empty() {
                    continue;
                }
                let first = first_group(plan, &keys);
                let at = shared * (plan.queries.div_ceil(QUERIES) - first) + number - first;
                for (sum, x) in acc.iter_mut().zip(&share[at * len..(at + 1) * len]) {
                    let y = s.add(s.load(&sum.0), s.load(&x.0));
                    s.store(&mut sum.0, y);
                }
            }
            let rows = s![group.first..group.first + group.live, ..];
            pack::unpack(s, acc, pack::vectors(plan.dim), |_| plan.scale, dq.slice_mut(rows));
        }
    }
}
