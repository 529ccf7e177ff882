//! A few queries against a long cache: the decoding step, bound by the reading of keys and values.
//!
//! Scores run along the keys, 16 of them turned to the lanes of a vector; the weighted sum runs along the head dimension.
//! Keys and values are read once for all queries of their head (the query heads of a key/value head share them, as do the
//! queries of a short chunk). Parallel over the key/value heads.
//!
//! Every sum is the chain that the tiled path makes of it ([`super::tile`], [`super::forward`]), so a query has the same
//! bits in both: a text does not depend on the chunks in which it was read.

use super::operand::Operand;
use super::tile::{KEYS, Lanes, Words};
use super::{Plan, Scratch, for_each, head_of, math, pack, split};
use crate::simd::{self, Element, Kernel, LANES, Simd, isa, prefetch};
use ndarray::{ArrayView2, ArrayView3, ArrayView4, ArrayViewMut2, ArrayViewMut3, ArrayViewMut4, Axis};
use std::f32::consts::LN_2;
use std::marker::PhantomData;
use std::ops::Range;

/// The most queries of a head that come here; more are worth the packing of the tiled path.
pub const MAX_QUERIES: usize = 4;

/// Multiply-adds of the tiled path that take as long as one here, where keys and values come from memory.
const READING: usize = 8;

/// Keys from those that are worked on to those that are fetched: a head's are too few for the hardware to foresee.
const AHEAD: usize = TURNED * LANES;

/// Fetches some rows, if there are so many.
#[inline(always)]
fn fetch<E>(rows: ArrayView2<'_, E>, range: Range<usize>) {
    (range.start..range.end.min(rows.nrows())).for_each(|i| prefetch(pack::row(rows, i)));
}

/// The outputs of the query heads that share a key/value head.
struct Part<'a, E> {
    batch: usize,
    kv_head: usize,
    out: ArrayViewMut3<'a, E>,
    lse: ArrayViewMut2<'a, f32>,
}

fn parts<'a, E>(plan: &Plan, out: ArrayViewMut4<'a, E>, lse: ArrayViewMut3<'a, f32>) -> Vec<Part<'a, E>> {
    let mut parts = Vec::with_capacity(plan.batch * plan.kv_heads);
    for (batch, (mut out, mut lse)) in split(out).zip(split(lse)).enumerate() {
        for kv_head in 0..plan.kv_heads {
            let (our_out, rest_out) = out.split_at(Axis(0), plan.sharing());
            let (our_lse, rest_lse) = lse.split_at(Axis(0), plan.sharing());
            parts.push(Part { batch, kv_head, out: our_out, lse: our_lse });
            (out, lse) = (rest_out, rest_lse);
        }
    }
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
    for_each(READING * plan.work(), parts(plan, out, lse), |part, scratch| {
        let heads = part.kv_head * plan.sharing()..(part.kv_head + 1) * plan.sharing();
        let q = q.index_axis(Axis(0), part.batch);
        let q = q.slice_axis(Axis(0), heads.into());
        let k = head_of(&k, part.batch, part.kv_head);
        let v = head_of(&v, part.batch, part.kv_head);
        simd::dispatch(isa, Decode { plan, q, k, v, part, scratch, precision: PhantomData::<P> });
    });
}

/// One key/value head.
struct Decode<'p, 'i, 'o, E, P> {
    plan: &'p Plan<'p>,
    q: ArrayView3<'i, E>,
    k: ArrayView2<'i, E>,
    v: ArrayView2<'i, E>,
    part: Part<'o, E>,
    scratch: &'p mut Scratch,
    precision: PhantomData<P>,
}

impl<E: Element, P: Operand> Kernel for Decode<'_, '_, '_, E, P> {
    type Output = ();
    const BF16: bool = E::HALF;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Decode { plan, q, k, v, mut part, scratch, .. } = self;
        let (width, blocks) = (pack::vectors(plan.dim), pack::word_vectors::<P>(plan.dim));
        let count = plan.sharing() * plan.queries;
        let keys = plan.group(part.batch, 0, plan.queries).keys();
        let keys = keys.start / KEYS * KEYS..keys.end; // whole tiles, as the sum of the weights is made of them
        let length = keys.len().div_ceil(LANES);
        let (factor, cap) = plan.factors();
        let queries = pack::reserve(&mut scratch.decode_queries, count * blocks, Words::ZERO);
        let strip = pack::reserve(&mut scratch.decode_strip, count * length, Lanes::ZERO);
        let sums = pack::reserve(&mut scratch.decode_sums, count, 0.0);
        let acc = pack::reserve(&mut scratch.out, count * width, Lanes::ZERO);
        for (shared, out) in queries.chunks_exact_mut(plan.queries * blocks).enumerate() {
            pack::words(q.index_axis(Axis(0), shared), 0..plan.queries, blocks, out);
        }
        for word in queries.iter_mut().flat_map(|words| &mut words.0) {
            *word = P::scale_query(*word, factor);
        }
        let rows = pack::reserve(&mut scratch.words, TURNED * LANES * blocks, Words::ZERO);
        fetch(k, keys.start..keys.start + AHEAD);
        let turned = pack::reserve(&mut scratch.decode_keys, TURNED * LANES * blocks, Words::ZERO);
        scores::<S, E, P>(s, k, keys.clone(), (factor, cap), queries, blocks, rows, turned, strip);
        fetch(v, keys.start..keys.start + AHEAD);
        for row in 0..count {
            let (shared, query) = (row / plan.queries, row % plan.queries);
            let strip = &mut strip[row * length..(row + 1) * length];
            let seen = plan.group(part.batch, query, 1).keys();
            let seen = seen.start - keys.start..seen.end - keys.start;
            let max = exponentials::<S, P>(s, strip, seen);
            sums[row] = sum_by_tile(strip);
            part.lse[[shared, query]] = max * LN_2 + sums[row].ln();
            if let Some(drop) = &plan.dropout {
                let head = part.batch * plan.heads + part.kv_head * plan.sharing() + shared;
                let factors = pack::reserve(&mut scratch.factors, keys.len(), 0.0);
                drop.fill_factors(plan.dropout_row(head, query) + keys.start as u64, factors);
                let weights = strip.iter_mut().flat_map(|lanes| &mut lanes.0);
                weights.zip(factors).for_each(|(w, f)| *w *= *f);
            }
            if P::PER == 2 {
                // Rounded numbers side by side are words along the keys.
                for lanes in strip {
                    let x = s.load(&lanes.0);
                    s.store_half(&mut bytemuck::must_cast_mut::<_, [[_; LANES]; 2]>(&mut lanes.0)[0], x);
                }
            }
        }
        let values = pack::reserve(&mut scratch.decode_values, LANES / P::PER * width, Words::ZERO);
        weighted_sum::<S, E, P>(s, v, keys, strip, length, width, values, acc);
        for (shared, out) in part.out.outer_iter_mut().enumerate() {
            let first = shared * plan.queries;
            pack::unpack(s, &acc[first * width..], width, |i| 1.0 / sums[first + i], out);
        }
    }
}

/// Vectors of keys whose scores are summed side by side: a chain of multiply-adds waits for itself.
const TURNED: usize = 4;

/// The scores in bits of all queries with the keys `keys`, 16 keys a vector of the strip.
#[inline(always)]
fn scores<S: Simd, E: Element, P: Operand>(
    s: S,
    k: ArrayView2<E>,
    keys: Range<usize>,
    (factor, cap): (f32, Option<f32>),
    queries: &[Words],
    blocks: usize,
    rows: &mut [Words],
    turned: &mut [Words],
    strip: &mut [Lanes],
) {
    let length = keys.len().div_ceil(LANES);
    let words = blocks * LANES;
    for at in (0..length).step_by(TURNED) {
        let first = keys.start + at * LANES;
        let live = TURNED.min(length - at);
        fetch(k, first + AHEAD..first + 2 * AHEAD);
        pack::words(k, first..keys.end.min(first + TURNED * LANES), blocks, &mut rows[..live * words]);
        for (rows, turned) in rows.chunks_exact(words).zip(turned.chunks_exact_mut(words)).take(live) {
            pack::turn(rows, blocks, turned);
        }
        let (sides, _) = turned.split_at(TURNED * words);
        let sides: [&[Words]; TURNED] = std::array::from_fn(|side| &sides[side * words..(side + 1) * words]);
        for (row, query) in queries.chunks_exact(blocks).enumerate() {
            let mut sums = [s.splat(0.0); TURNED];
            for (word, &q) in query.iter().flat_map(|words| &words.0).enumerate() {
                let q = P::splat(s, q);
                for side in 0..TURNED {
                    sums[side] = P::fma(s, P::load(s, &sides[side][word].0), q, sums[side]);
                }
            }
            for (sum, out) in sums.into_iter().zip(&mut strip[row * length + at..][..live]) {
                let mut y = P::scale_score(s, sum, s.splat(factor));
                if let Some(cap) = cap {
                    y = s.mul(math::tanh(s, y), s.splat(cap));
                }
                s.store(&mut out.0, y);
            }
        }
    }
}

/// Turns one query's scores into `2^(score - max)`, 0 where it does not see, and gives the maximum.
#[inline(always)]
fn exponentials<S: Simd, P: Operand>(s: S, strip: &mut [Lanes], seen: Range<usize>) -> f32 {
    let end = strip.len() * LANES;
    for hidden in (0..seen.start).chain(seen.end..end) {
        strip[hidden / LANES].0[hidden % LANES] = f32::NEG_INFINITY;
    }
    let mut max = s.splat(f32::NEG_INFINITY);
    for lanes in strip.iter() {
        max = s.max(s.load(&lanes.0), max);
    }
    let max = s.reduce_max(max);
    for lanes in strip.iter_mut() {
        let p = P::exp2(s, s.sub(s.load(&lanes.0), s.splat(max)));
        s.store(&mut lanes.0, p);
    }
    max
}

/// The sum of the weights: that of each tile of keys, key by key, and these tile by tile.
#[inline(always)]
fn sum_by_tile(strip: &[Lanes]) -> f32 {
    let tiles = strip.iter().flat_map(|lanes| lanes.0.as_chunks::<KEYS>().0);
    tiles.fold(0.0, |sum, tile| sum + tile.iter().fold(0.0, |partial, weight| partial + weight))
}

/// The weighted sums of the values, a block of 16 keys at a time. The strip holds the weights as words along the keys, in
/// the first part of each vector.
#[inline(always)]
fn weighted_sum<S: Simd, E: Element, P: Operand>(
    s: S,
    v: ArrayView2<E>,
    keys: Range<usize>,
    strip: &[Lanes],
    length: usize,
    width: usize,
    values: &mut [Words],
    acc: &mut [Lanes],
) {
    acc.fill(Lanes::ZERO);
    for at in 0..length {
        let first = keys.start + at * LANES;
        fetch(v, first + AHEAD..first + AHEAD + LANES);
        pack::rows::<E, P>(v, first..keys.end.min(first + LANES), width, values);
        for (row, acc) in acc.chunks_exact_mut(width).enumerate() {
            let weights: &Words = bytemuck::must_cast_ref(&strip[row * length + at]);
            let weights = &weights.0[..LANES / P::PER];
            let (fours, rest) = acc.as_chunks_mut::<4>();
            for (column, acc) in fours.iter_mut().enumerate() {
                add_weighted::<S, P, 4>(s, weights, &values[4 * column..], width, acc);
            }
            let done = width - rest.len();
            for (column, acc) in rest.as_chunks_mut::<1>().0.iter_mut().enumerate() {
                add_weighted::<S, P, 1>(s, weights, &values[done + column..], width, acc);
            }
        }
    }
}

/// Adds the words `values` of some columns, each times its weight, to `N` vectors.
#[inline(always)]
fn add_weighted<S: Simd, P: Operand, const N: usize>(
    s: S,
    weights: &[u32],
    values: &[Words],
    width: usize,
    acc: &mut [Lanes; N],
) {
    let mut sums = [s.splat(0.0); N];
    for n in 0..N {
        sums[n] = s.load(&acc[n].0);
    }
    for (&weight, values) in weights.iter().zip(values.chunks(width)) {
        let weight = P::splat(s, weight);
        for n in 0..N {
            sums[n] = P::fma(s, weight, P::load(s, &values[n].0), sums[n]);
        }
    }
    for n in 0..N {
        s.store(&mut acc[n].0, sums[n]);
    }
}
