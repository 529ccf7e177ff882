//! A few queries against a long cache: the decoding step, bound by the reading of keys and values.
//!
//! Scores run along the positions, 16 to a vector; the weighted sum runs along the head dimension. Keys and values lie as
//! both read them ([`super::cache`]), and the queries of their head go through them one after the other (the query heads
//! of a key/value head share them, as do the queries of a short chunk). Parallel over the key/value heads.
//!
//! Every sum is the chain that the tiled path makes of it ([`super::tile`], [`super::forward`]), so a query has the same
//! bits in both: a text does not depend on the chunks in which it was read.

use super::cache::{self, Cache, Head, POSITIONS};
use super::operand::Operand;
use super::tile::{KEYS, Lanes, Words};
use super::{Plan, Scratch, for_each, head_of, pack, split};
use crate::simd::{self, Element, Kernel, LANES, Simd, isa, math, prefetch_line};
use ndarray::{ArrayView2, ArrayView3, ArrayView4, ArrayViewMut2, ArrayViewMut3, ArrayViewMut4, Axis};
use std::f32::consts::LN_2;
use std::marker::PhantomData;
use std::ops::Range;

/// The most queries of a head that come here without a cache; more are worth the packing of the tiled path.
pub const MAX_QUERIES: usize = 4;

/// The most that come here with one.
pub const MAX_CACHED_QUERIES: usize = 16;

/// Multiply-adds of the tiled path that take as long as one here, where keys and values come from memory.
const READING: usize = 4;

// Whole tiles of keys, as the sum of the weights is made of them.
const _: () = assert!(POSITIONS.is_multiple_of(KEYS));

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

/// Where a key/value head's keys and values are.
enum Kept<'a, E> {
    /// In rows.
    Rows(ArrayView2<'a, E>, ArrayView2<'a, E>),
    /// In a cache, but for those of the queries' own positions, which come there first.
    Cache(Head<'a>, ArrayView2<'a, E>, ArrayView2<'a, E>),
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
    let mut kept = Vec::with_capacity(plan.batch * plan.kv_heads);
    for batch in 0..plan.batch {
        kept.extend((0..plan.kv_heads).map(|head| Kept::Rows(head_of(&k, batch, head), head_of(&v, batch, head))));
    }
    run_parts::<E, P>(plan, q, kept, parts(plan, out, lse));
}

/// The same for one sequence with a cache, of whose newest positions `k` and `v` are.
pub(super) fn run_cached<E: Element, P: Operand>(
    plan: &Plan,
    q: ArrayView4<E>,
    k: ArrayView4<E>,
    v: ArrayView4<E>,
    cache: Cache<'_>,
    out: ArrayViewMut4<E>,
    lse: ArrayViewMut3<f32>,
) {
    let heads = cache.heads(plan.kv_heads).enumerate();
    let kept = heads.map(|(i, head)| Kept::Cache(head, head_of(&k, 0, i), head_of(&v, 0, i))).collect();
    run_parts::<E, P>(plan, q, kept, parts(plan, out, lse));
}

fn run_parts<E: Element, P: Operand>(plan: &Plan, q: ArrayView4<E>, kept: Vec<Kept<'_, E>>, parts: Vec<Part<'_, E>>) {
    if plan.queries == 0 {
        return;
    }
    let isa = isa::current();
    let parts = kept.into_iter().zip(parts).collect();
    for_each(READING * plan.work(), parts, |(kept, part): (Kept<'_, E>, Part<'_, E>), scratch| {
        let heads = part.kv_head * plan.sharing()..(part.kv_head + 1) * plan.sharing();
        let q = q.index_axis(Axis(0), part.batch);
        let q = q.slice_axis(Axis(0), heads.into());
        simd::dispatch(isa, Decode { plan, q, kept, part, scratch, precision: PhantomData::<P> });
    });
}

/// One key/value head.
struct Decode<'p, 'i, 'k, 'o, E, P> {
    plan: &'p Plan<'p>,
    q: ArrayView3<'i, E>,
    kept: Kept<'k, E>,
    part: Part<'o, E>,
    scratch: &'p mut Scratch,
    precision: PhantomData<P>,
}

impl<E: Element, P: Operand> Kernel for Decode<'_, '_, '_, '_, E, P> {
    type Output = ();
    const BF16: bool = E::HALF;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Decode { plan, q, kept, mut part, scratch, .. } = self;
        let Scratch { words: room, decode_keys, decode_values, decode_queries, decode_strip, decode_sums, .. } =
            scratch;
        let (width, blocks, words) =
            (pack::vectors(plan.dim), pack::word_vectors::<P>(plan.dim), plan.dim.div_ceil(P::PER));
        let count = plan.sharing() * plan.queries;
        let keys = plan.group(part.batch, 0, plan.queries).keys();
        let keys = keys.start / POSITIONS * POSITIONS..keys.end;
        let length = keys.len().div_ceil(LANES);
        let head;
        let (all_keys, all_values): (&[Words], &[Words]) = match kept {
            Kept::Rows(k, v) => {
                head = cache::packed::<E, P>(k, v, keys.clone(), decode_keys, decode_values, room);
                (head.keys, head.values)
            }
            Kept::Cache(mut kept, k, v) => {
                kept.append::<E, P>(plan.keys - plan.queries, k, v, room);
                head = kept;
                (&head.keys[keys.start / POSITIONS * words..], &head.values[keys.start / P::PER * width..])
            }
        };
        let (factor, cap) = plan.factors();
        let queries = pack::reserve(decode_queries, count * blocks, Words::ZERO);
        let strip = pack::reserve(decode_strip, count * length, Lanes::ZERO);
        let sums = pack::reserve(decode_sums, count, 0.0);
        let acc = pack::reserve(&mut scratch.out, count * width, Lanes::ZERO);
        for (shared, out) in queries.chunks_exact_mut(plan.queries * blocks).enumerate() {
            pack::words(q.index_axis(Axis(0), shared), 0..plan.queries, blocks, out);
        }
        for word in queries.iter_mut().flat_map(|words| &mut words.0) {
            *word = P::scale_query(*word, factor);
        }
        let mut at = 0;
        while at < length {
            let (ours, strip) = (&all_keys[at * words..], &mut strip[at..]);
            at += match length - at {
                8.. => scores::<S, P, 8>(s, ours, words, (factor, cap), queries, blocks, strip, length),
                4.. => scores::<S, P, 4>(s, ours, words, (factor, cap), queries, blocks, strip, length),
                _ => scores::<S, P, 1>(s, ours, words, (factor, cap), queries, blocks, strip, length),
            };
        }
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
                drop.fill_factors(s, plan.dropout_row(head, query) + keys.start as u64, factors);
                let weights = strip.iter_mut().flat_map(|lanes| &mut lanes.0);
                weights.zip(factors).for_each(|(w, f)| *w *= *f);
            }
            if P::PER == 2 {
                // Rounded numbers side by side are words along the keys.
                for lanes in &mut *strip {
                    let x = s.load(&lanes.0);
                    s.store_half(&mut bytemuck::must_cast_mut::<_, [[_; LANES]; 2]>(&mut lanes.0)[0], x);
                }
            }
            let values = &all_values[..keys.len().div_ceil(P::PER) * width];
            let (fours, rest) = acc[row * width..][..width].as_chunks_mut::<4>();
            let done = 4 * fours.len();
            for (column, acc) in fours.iter_mut().enumerate() {
                weighted_sums::<S, P, 4>(s, strip, &values[4 * column..], width, acc);
            }
            for (column, acc) in rest.as_chunks_mut::<1>().0.iter_mut().enumerate() {
                weighted_sums::<S, P, 1>(s, strip, &values[done + column..], width, acc);
            }
        }
        for (shared, out) in part.out.outer_iter_mut().enumerate() {
            let first = shared * plan.queries;
            pack::unpack(s, &acc[first * width..], width, |i| 1.0 / sums[first + i], out);
        }
    }
}

/// The scores in bits of all queries with the first `N` blocks of 16 `keys`, a block a vector of the strip, whose rows have
/// `length`: side by side, for a chain of multiply-adds waits for itself. Gives back `N`.
#[inline(always)]
fn scores<S: Simd, P: Operand, const N: usize>(
    s: S,
    keys: &[Words],
    words: usize,
    (factor, cap): (f32, Option<f32>),
    queries: &[Words],
    blocks: usize,
    strip: &mut [Lanes],
    length: usize,
) -> usize {
    let (ours, next) = keys.split_at(N * words);
    // What is read after these: nothing else brings it in time.
    for line in next.iter().take(ours.len()) {
        prefetch_line(line);
    }
    let mut sides: [&[Words]; N] = [&[]; N];
    for side in 0..N {
        sides[side] = &ours[side * words..][..words];
    }
    for (row, query) in queries.chunks_exact(blocks).enumerate() {
        let query: &[u32] = &bytemuck::cast_slice(query)[..words];
        let mut sums = [s.splat(0.0); N];
        for (word, &q) in query.iter().enumerate() {
            let q = P::splat(s, q);
            for side in 0..N {
                sums[side] = P::fma(s, P::load(s, &sides[side][word].0), q, sums[side]);
            }
        }
        for (sum, out) in sums.into_iter().zip(&mut strip[row * length..][..N]) {
            let mut y = P::scale_score(s, sum, s.splat(factor));
            if let Some(cap) = cap {
                y = s.mul(math::tanh(s, y), s.splat(cap));
            }
            s.store(&mut out.0, y);
        }
    }
    N
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

/// The sums of the first `N` vectors of each of the rows of `values`, `width` apart, each row times its weight. The strip holds
/// the weights as words along the positions, in the first part of each vector.
#[inline(always)]
fn weighted_sums<S: Simd, P: Operand, const N: usize>(
    s: S,
    strip: &[Lanes],
    values: &[Words],
    width: usize,
    acc: &mut [Lanes; N],
) {
    /// Rows from the one that is added to the one that is fetched.
    const AHEAD: usize = 16;
    let rows = LANES / P::PER;
    let mut sums = [s.splat(0.0); N];
    for (weights, values) in strip.iter().zip(values.chunks(rows * width)) {
        let weights: &Words = bytemuck::must_cast_ref(weights);
        for (&weight, values) in weights.0[..rows].iter().zip(values.chunks(width)) {
            let weight = P::splat(s, weight);
            let values = &values[..N];
            for n in 0..N {
                prefetch_line(values.as_ptr().wrapping_add(AHEAD * width + n));
                sums[n] = P::fma(s, weight, P::load(s, &values[n].0), sums[n]);
            }
        }
    }
    for n in 0..N {
        s.store(&mut acc[n].0, sums[n]);
    }
}
