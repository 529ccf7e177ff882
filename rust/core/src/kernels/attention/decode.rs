//! A few queries against a long cache: the decoding step, bound by the reading of keys and values.
//!
//! Vectors run along the head dimension. A block of 16 keys is read once for all queries of its head (the query heads
//! of a key/value head share it, as do the queries of a short chunk), then the values likewise. Parallel over the
//! key/value heads.

use super::tile::Lanes;
use super::{Plan, Scratch, for_each, head_of, math, pack, split};
use crate::simd::{self, Element, Kernel, LANES, Simd, isa};
use ndarray::{ArrayView2, ArrayView3, ArrayView4, ArrayViewMut2, ArrayViewMut3, ArrayViewMut4, Axis};
use std::f32::consts::LN_2;
use std::ops::Range;

/// The most queries of a head that come here; more are worth the packing of the tiled path.
pub const MAX_QUERIES: usize = 4;

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
pub(super) fn run<E: Element>(
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
        let heads = part.kv_head * plan.sharing()..(part.kv_head + 1) * plan.sharing();
        let q = q.index_axis(Axis(0), part.batch);
        let q = q.slice_axis(Axis(0), heads.into());
        let k = head_of(&k, part.batch, part.kv_head);
        let v = head_of(&v, part.batch, part.kv_head);
        simd::dispatch(isa, Decode { plan, q, k, v, part, scratch });
    });
}

/// One key/value head.
struct Decode<'p, 'i, 'o, E> {
    plan: &'p Plan<'p>,
    q: ArrayView3<'i, E>,
    k: ArrayView2<'i, E>,
    v: ArrayView2<'i, E>,
    part: Part<'o, E>,
    scratch: &'p mut Scratch,
}

impl<E: Element> Kernel for Decode<'_, '_, '_, E> {
    type Output = ();
    const BF16: bool = E::HALF;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Decode { plan, q, k, v, mut part, scratch } = self;
        let (width, count) = (pack::vectors(plan.dim), plan.sharing() * plan.queries);
        let keys = plan.group(part.batch, 0, plan.queries).keys();
        let length = keys.len().div_ceil(LANES);
        let queries = pack::reserve(&mut scratch.decode_queries, count * width, Lanes::ZERO);
        let strip = pack::reserve(&mut scratch.decode_strip, count * length, Lanes::ZERO);
        let block = pack::reserve(&mut scratch.decode_block, LANES * width, Lanes::ZERO);
        let acc = pack::reserve(&mut scratch.out, count * width, Lanes::ZERO);
        for (shared, out) in queries.chunks_exact_mut(plan.queries * width).enumerate() {
            pack::floats(s, q.index_axis(Axis(0), shared), 0..plan.queries, width, out);
        }
        dots(s, k, keys.clone(), plan.factors(), queries, width, block, strip);
        for row in 0..count {
            let (shared, query) = (row / plan.queries, row % plan.queries);
            let strip = &mut strip[row * length..(row + 1) * length];
            let seen = plan.group(part.batch, query, 1).keys();
            let seen = seen.start - keys.start..seen.end - keys.start;
            let (max, sum) = softmax(s, strip, seen);
            part.lse[[shared, query]] = max * LN_2 + sum.ln();
            for lanes in strip.iter_mut() {
                let p = s.div(s.load(&lanes.0), s.splat(sum));
                s.store(&mut lanes.0, p);
            }
            if let Some(drop) = &plan.dropout {
                let head = part.batch * plan.heads + part.kv_head * plan.sharing() + shared;
                let start = keys.start / 4 * 4;
                let factors = pack::reserve(&mut scratch.factors, keys.end - start, 0.0);
                drop.fill_factors(plan.dropout_row(head, query) + start as u64, factors);
                let weights = strip.iter_mut().flat_map(|lanes| &mut lanes.0);
                weights.zip(&factors[keys.start - start..]).for_each(|(w, f)| *w *= f);
            }
        }
        combine(s, v, keys, strip, length, width, block, acc);
        for (shared, out) in part.out.outer_iter_mut().enumerate() {
            pack::unpack(s, &acc[shared * plan.queries * width..], width, |_| 1.0, out);
        }
    }
}

/// The scores in bits of all queries with the keys `keys`, 16 keys a vector of the strip.
#[inline(always)]
fn dots<S: Simd, E: Element>(
    s: S,
    k: ArrayView2<E>,
    keys: Range<usize>,
    (factor, cap): (f32, Option<f32>),
    queries: &[Lanes],
    width: usize,
    block: &mut [Lanes],
    strip: &mut [Lanes],
) {
    let length = keys.len().div_ceil(LANES);
    let mut partial = [Lanes::ZERO; LANES];
    for at in 0..length {
        let first = keys.start + at * LANES;
        pack::floats(s, k, first..keys.end.min(first + LANES), width, block);
        for (row, query) in queries.chunks_exact(width).enumerate() {
            let out = &mut strip[row * length + at].0;
            for (partial, key) in partial.iter_mut().zip(block.chunks_exact(width)) {
                let mut sum = s.splat(0.0);
                for (a, b) in key.iter().zip(query) {
                    sum = s.fma(s.load(&a.0), s.load(&b.0), sum);
                }
                s.store(&mut partial.0, sum);
            }
            let mut y = s.mul(pack::sums(s, &partial), s.splat(factor));
            if let Some(cap) = cap {
                y = s.mul(math::tanh(s, y), s.splat(cap));
            }
            s.store(out, y);
        }
    }
}

/// Turns one query's scores into `2^(score - max)`, 0 where it does not see, and gives maximum and sum.
#[inline(always)]
fn softmax<S: Simd>(s: S, strip: &mut [Lanes], seen: Range<usize>) -> (f32, f32) {
    let end = strip.len() * LANES;
    for hidden in (0..seen.start).chain(seen.end..end) {
        strip[hidden / LANES].0[hidden % LANES] = f32::NEG_INFINITY;
    }
    let mut max = s.splat(f32::NEG_INFINITY);
    for lanes in strip.iter() {
        max = s.max(s.load(&lanes.0), max);
    }
    let max = s.reduce_max(max);
    let mut sum = s.splat(0.0);
    for lanes in strip.iter_mut() {
        let p = math::exp2(s, s.sub(s.load(&lanes.0), s.splat(max)));
        sum = s.add(sum, p);
        s.store(&mut lanes.0, p);
    }
    (max, s.reduce_add(sum))
}

/// The weighted sums of the values, a block of 16 at a time.
#[inline(always)]
fn combine<S: Simd, E: Element>(
    s: S,
    v: ArrayView2<E>,
    keys: Range<usize>,
    strip: &[Lanes],
    length: usize,
    width: usize,
    block: &mut [Lanes],
    acc: &mut [Lanes],
) {
    acc.fill(Lanes::ZERO);
    for at in 0..length {
        let first = keys.start + at * LANES;
        pack::floats(s, v, first..keys.end.min(first + LANES), width, block);
        for (row, acc) in acc.chunks_exact_mut(width).enumerate() {
            let weights = &strip[row * length + at].0;
            for (column, acc) in acc.iter_mut().enumerate() {
                let mut sum = s.load(&acc.0);
                for (value, &weight) in block.chunks_exact(width).zip(weights) {
                    sum = s.fma(s.splat(weight), s.load(&value[column].0), sum);
                }
                s.store(&mut acc.0, sum);
            }
        }
    }
}
