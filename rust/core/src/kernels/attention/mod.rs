//! Causal attention, forward and backward, tiled so that no `T x T` array ever exists.
//!
//! ```text
//! out = softmax(mask(cap(scale q k^T))) v          cap(s) = softcap tanh(s / softcap), if asked for
//! ```
//!
//! Shapes: `q`, `out` are `(B, H, Tq, D)`, `k`, `v` are `(B, Hkv, Tk, D)`, `lse` is `(B, H, Tq)`. Query head `h` uses
//! key/value head `h / (H / Hkv)` (grouped-query attention, Ainslie et al. 2023). Query `i` sits at position
//! `Tk - Tq + i`: it sees the keys up to that position, the last `window` of them where there is a window, and none before
//! the start of its document where there are documents. The first key that is seen never falls from one query to the next,
//! so that tiles before that of the first query of a group are left out.
//!
//! Sources: Dao et al., "FlashAttention" (2022) and Dao, "FlashAttention-2" (2023) for the recomputation of the
//! probabilities from the log-sum-exp and for `D = rowsum(dO * O)` in the backward pass; Rabe and Staats,
//! "Self-attention does not need O(n^2) memory" (2021).
//!
//! # Precisions
//!
//! Inputs and outputs are float32 or bfloat16. With bfloat16 the products multiply pairs as they are ([`operand`]), sums,
//! softmax and log-sum-exp are float32, probabilities and gradients of the scores are rounded where they enter a product,
//! and every result is rounded once at its end. The weights of a row are summed before they are rounded: the log-sum-exp,
//! from which the backward pass recomputes them, is then that of the exact scores.
//!
//! # Which path runs when
//!
//! - Up to [`decode::MAX_QUERIES`] queries, or [`decode::MAX_CACHED_QUERIES`] with a [`cache`] (a decoding step):
//!   [`decode`], keys and values read as they lie there.
//! - More queries: [`forward`], groups of 32 queries against tiles of 8 keys, in one exact pass (scores, maximum,
//!   exponential and sum, weighted sum) instead of the rescaling of an online softmax. A group's strip of scores takes
//!   `128 Tk` bytes: 32 KiB at 256 keys, 512 KiB at 4096, where the rate is no lower than at 1024, so that nothing is
//!   left for rescaling to win.
//! - [`backward`] needs no maximum, so it goes through the keys in blocks and keeps the strips of a block ([`gradient`]).
//!
//! Work is cut by shape alone (see [`crate::parallel`]) and every sum has a fixed order: the same bits for any number of
//! threads, and for AVX2 and AVX-512. Buffers belong to the threads and are reused; a call allocates only the list of its
//! tasks, and the keys and values of a prompt's part that a [`cache`] gives back as rows.

mod backward;
pub mod cache;
mod decode;
mod forward;
mod gradient;
mod group;
mod operand;
mod pack;
#[cfg(test)]
mod tests;
mod tile;
mod transpose;

use crate::error::{Error, Result};
use crate::kernels::dropout::Dropout;
use crate::kernels::{check, rows};
use crate::parallel;
use crate::simd::Element;
use cache::Cache;
use group::Group;
use ndarray::{ArrayView2, ArrayView3, ArrayView4, ArrayViewMut, ArrayViewMut3, ArrayViewMut4, Axis, RemoveAxis};
use operand::{Operand, Pair, Single};
use std::cell::RefCell;
use std::f32::consts::LOG2_E;
use tile::{KEYS, Lanes, QUERIES, Row, WordRow, Words};

/// What attention may do beside the plain formula.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// The factor of the scores; `1 / sqrt(head_dim)` where none is given.
    pub scale: Option<f32>,
    /// How many keys a query sees at most, its own included; all before it where none is given.
    pub window: Option<usize>,
    /// The first key of each query's document `(B, Tq)`, where sequences hold several that do not see each other; there
    /// must be as many queries as keys then. See [`check::starts`].
    pub starts: Option<&'a [u32]>,
    /// Bounds the scores to `-softcap..softcap` with a tanh (Gemma 2).
    pub softcap: Option<f32>,
    /// Dropout of the probabilities, after the softmax.
    ///
    /// Probability `(b, h, i, j)` has the index `((b * H + h) * Tq + i) * Tk4 + j`, where `Tk4` is `Tk` rounded up to a
    /// multiple of 4.
    pub dropout: Option<Dropout>,
}

/// Causal attention (see the module): writes `out` and `lse`, the log-sum-exp of the scaled and capped scores in nats.
///
/// The last axis of every view must be contiguous; the others may have any stride.
///
/// # Errors
/// [`Error::Shape`] where a shape or the last stride does not fit, [`Error::Value`] for an option out of range.
pub fn attention<E: Element>(
    q: ArrayView4<E>,
    k: ArrayView4<E>,
    v: ArrayView4<E>,
    options: &Options,
    out: ArrayViewMut4<E>,
    lse: ArrayViewMut3<f32>,
) -> Result<()> {
    const OP: &str = "attention";
    let plan = Plan::new(OP, q.view(), k.shape(), options)?;
    plan.check_rows(OP, [k.view(), v.view()], plan.keys)?;
    plan.check_outputs(OP, out.view(), lse.shape())?;
    if q.is_empty() {
        return Ok(()); // any number of heads without queries costs no memory, but would cost a task each
    }
    match (plan.queries <= decode::MAX_QUERIES, E::HALF) {
        (true, false) => decode::run::<E, Single>(&plan, q, k, v, out, lse),
        (true, true) => decode::run::<E, Pair>(&plan, q, k, v, out, lse),
        (false, false) => forward::run::<E, Single>(&plan, q, k, v, out, lse),
        (false, true) => forward::run::<E, Pair>(&plan, q, k, v, out, lse),
    }
    Ok(())
}

/// The same for one sequence that goes on: `k` and `v` `(1, Hkv, Tq, D)` are those of the queries' own positions; they come
/// behind those in the `cache`, all of which the queries see.
///
/// # Errors
/// As [`attention`], and where the cache has no room for them.
pub fn attention_cached<E: Element>(
    q: ArrayView4<E>,
    k: ArrayView4<E>,
    v: ArrayView4<E>,
    cache: Cache<'_>,
    options: &Options,
    out: ArrayViewMut4<E>,
    lse: ArrayViewMut3<f32>,
) -> Result<()> {
    const OP: &str = "attention";
    let (kv_heads, t, dim) = (k.dim().1, k.dim().2, k.dim().3);
    check::len(OP, "sequences of q", q.dim().0, 1)?;
    let plan = Plan::new(OP, q.view(), &[1, kv_heads, cache.len + t, dim], options)?;
    plan.check_rows(OP, [k.view(), v.view()], plan.queries)?;
    plan.check_outputs(OP, out.view(), lse.shape())?;
    let [key, value] = cache::floats_of_position::<E>(dim).map(|floats| kv_heads * cache.room * floats);
    check::len(OP, "keys of the cache", cache.keys.len(), key)?;
    check::len(OP, "values of the cache", cache.values.len(), value)?;
    if plan.keys > cache.room || !cache.room.is_multiple_of(cache::POSITIONS) {
        let remedy = format!("{} positions need room, a multiple of {}", plan.keys, cache::POSITIONS);
        return Err(Error::value(OP, "room of the cache", cache.room, remedy));
    }
    match E::HALF {
        false => run_cached::<E, Single>(&plan, q, k, v, cache, out, lse),
        true => run_cached::<E, Pair>(&plan, q, k, v, cache, out, lse),
    }
    Ok(())
}

/// With many queries the tiled path reads rows, which the cache gives back where there are any before them.
fn run_cached<E: Element, P: Operand>(
    plan: &Plan,
    q: ArrayView4<E>,
    k: ArrayView4<E>,
    v: ArrayView4<E>,
    cache: Cache<'_>,
    out: ArrayViewMut4<E>,
    lse: ArrayViewMut3<f32>,
) {
    if plan.queries <= decode::MAX_CACHED_QUERIES {
        return decode::run_cached::<E, P>(plan, q, k, v, cache, out, lse);
    }
    let (len, size) = (cache.len, plan.keys * plan.dim);
    let numbers = if len == 0 { 0 } else { plan.kv_heads * size };
    let mut both = vec![E::zeroed(); 2 * numbers];
    let (all_k, all_v) = both.split_at_mut(numbers);
    let heads = cache.heads(plan.kv_heads).zip(rows::chunks_mut(all_k, size)).zip(rows::chunks_mut(all_v, size));
    let parts: Vec<_> = heads.enumerate().collect();
    for_each(plan.kv_heads * size, parts, |(i, ((mut head, all_k), all_v)), scratch| {
        let [k, v] = [&k, &v].map(|x| head_of(x, 0, i));
        head.append::<E, P>(len, k, v, &mut scratch.words);
        head.read::<E, P>(plan.dim, all_k, all_v);
    });
    match len {
        0 => forward::run::<E, P>(plan, q, k, v, out, lse),
        _ => {
            let shape = (1, plan.kv_heads, plan.keys, plan.dim);
            let [k, v] = [all_k, all_v].map(|x| ArrayView4::from_shape(shape, &*x).expect("as many numbers"));
            forward::run::<E, P>(plan, q, k, v, out, lse);
        }
    }
}

/// The gradients of [`attention`]: writes `dq`, `dk` and `dv` for the gradient `dout` of its output.
///
/// `out` and `lse` are what the forward pass wrote for the same inputs and options.
///
/// # Errors
/// As [`attention`].
pub fn attention_backward<E: Element>(
    q: ArrayView4<E>,
    k: ArrayView4<E>,
    v: ArrayView4<E>,
    out: ArrayView4<E>,
    lse: ArrayView3<f32>,
    dout: ArrayView4<E>,
    options: &Options,
    dq: ArrayViewMut4<E>,
    dk: ArrayViewMut4<E>,
    dv: ArrayViewMut4<E>,
) -> Result<()> {
    const OP: &str = "attention_backward";
    let plan = Plan::new(OP, q.view(), k.shape(), options)?;
    plan.check_rows(OP, [k.view(), v.view()], plan.keys)?;
    plan.check_outputs(OP, out.view(), lse.shape())?;
    check_view(OP, "dout", dout.view(), &plan.query_shape())?;
    check_view(OP, "dq", dq.view(), &plan.query_shape())?;
    check_view(OP, "dk", dk.view(), k.shape())?;
    check_view(OP, "dv", dv.view(), k.shape())?;
    if k.is_empty() {
        return Ok(()); // as in `attention`
    }
    let inputs = backward::Inputs { q, k, v, out, lse, dout };
    match E::HALF {
        false => backward::run::<E, Single>(&plan, &inputs, dq, dk, dv),
        true => backward::run::<E, Pair>(&plan, &inputs, dq, dk, dv),
    }
    Ok(())
}

/// What a call is about: its sizes and its options, checked and filled in.
struct Plan<'a> {
    batch: usize,
    heads: usize,
    kv_heads: usize,
    queries: usize,
    keys: usize,
    dim: usize,
    scale: f32,
    /// Beyond the keys and the padded queries where there is no window.
    window: usize,
    starts: Option<&'a [u32]>,
    softcap: Option<f32>,
    dropout: Option<Dropout>,
}

impl<'a> Plan<'a> {
    /// `k` is the shape of all keys.
    fn new<E: Element>(op: &'static str, q: ArrayView4<E>, k: &[usize], options: &Options<'a>) -> Result<Self> {
        let (batch, heads, queries, dim) = q.dim();
        let (kv_heads, keys) = (k[1], k[2]);
        if heads == 0 || dim == 0 {
            return Err(Error::shape(op, "q", q.shape(), "at least one head and one coordinate"));
        }
        if kv_heads == 0 || heads % kv_heads != 0 {
            let expected = format!("(B, Hkv, Tk, D) with Hkv a divisor of the {heads} query heads");
            return Err(Error::shape(op, "k", k, expected));
        }
        if queries > keys {
            return Err(Error::shape(op, "k", k, format!("at least the {queries} positions of q")));
        }
        check_view(op, "q", q.view(), q.shape())?;
        let scale = options.scale.unwrap_or(1.0 / (dim as f32).sqrt());
        if !scale.is_finite() {
            return Err(Error::value(op, "scale", scale, "it must be finite"));
        }
        if options.window == Some(0) {
            return Err(Error::value(op, "window", 0, "a query sees at least its own key, so it must be 1 or more"));
        }
        if let Some(starts) = options.starts {
            if queries != keys {
                return Err(Error::shape(op, "k", k, format!("the {queries} positions of q: it has starts")));
            }
            check::starts(op, starts, batch, queries)?;
        }
        if let Some(cap) = options.softcap.filter(|&cap| !(cap.is_finite() && cap > 0.0)) {
            return Err(Error::value(op, "softcap", cap, "it must be finite and above 0"));
        }
        if let Some(drop) = &options.dropout {
            drop.check(op)?;
        }
        let dropout = options.dropout.filter(|drop| drop.p > 0.0);
        let window = options.window.filter(|&window| window < keys).unwrap_or(keys + QUERIES);
        let (starts, softcap) = (options.starts, options.softcap);
        Ok(Plan { batch, heads, kv_heads, queries, keys, dim, scale, window, starts, softcap, dropout })
    }

    /// Keys and values of `t` positions.
    fn check_rows<E>(&self, op: &'static str, [k, v]: [ArrayView4<E>; 2], t: usize) -> Result<()> {
        check_view(op, "k", k, &[self.batch, self.kv_heads, t, self.dim])?;
        check_view(op, "v", v, &[self.batch, self.kv_heads, t, self.dim])
    }

    fn check_outputs<E>(&self, op: &'static str, out: ArrayView4<E>, lse: &[usize]) -> Result<()> {
        check_view(op, "out", out, &self.query_shape())?;
        check::shape(op, "lse", lse, &self.query_shape()[..3])
    }

    fn query_shape(&self) -> [usize; 4] {
        [self.batch, self.heads, self.queries, self.dim]
    }

    /// Query heads of a key/value head.
    fn sharing(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// The position of query `i`.
    fn position(&self, i: usize) -> usize {
        self.keys - self.queries + i
    }

    /// The group of `live` queries of sequence `batch` from `first` on (for the keys that they see, any number of queries).
    fn group(&self, batch: usize, first: usize, live: usize) -> Group<'a> {
        let starts = self.starts.map(|starts| &starts[batch * self.queries + first..][..live]);
        Group { first, live, position: self.position(first), window: self.window, starts }
    }

    /// The factor of the queries, and that of the tanh of their scores where there is one: together they give scores in
    /// bits (nats times `log2 e`), so that the exponential is a power of two.
    fn factors(&self) -> (f32, Option<f32>) {
        match self.softcap {
            None => (self.scale * LOG2_E, None),
            Some(cap) => (self.scale / cap, Some(cap * LOG2_E)),
        }
    }

    /// The index of the first dropout factor of a query; `head` counts through the batch.
    fn dropout_row(&self, head: usize, query: usize) -> u64 {
        head as u64 * dropout_len(1, self.queries, self.keys) + query as u64 * dropout_len(1, 1, self.keys)
    }

    /// Multiply-adds of one product (scores, or weighted sum), roughly: what decides whether threads are worth it.
    fn work(&self) -> usize {
        (self.batch * self.heads * self.queries).saturating_mul(self.window.min(self.keys) * self.dim)
    }
}

/// Indices of dropout factors that `heads` have for `queries` each, which see `keys`.
pub fn dropout_len(heads: usize, queries: usize, keys: usize) -> u64 {
    (heads * queries) as u64 * keys.next_multiple_of(4) as u64
}

/// `view` must have `shape` and a contiguous last axis.
fn check_view<E>(op: &'static str, what: &'static str, view: ArrayView4<E>, shape: &[usize]) -> Result<()> {
    check::shape(op, what, view.shape(), shape)?;
    if view.is_empty() || shape[3] == 1 || view.strides()[3] == 1 {
        return Ok(());
    }
    let got = format!("{:?} with strides {:?}", view.shape(), view.strides());
    Err(Error::Shape { op, what, got, expected: "a contiguous last axis".into() })
}

/// One head of one sequence: `(T, D)`.
fn head_of<'a, E>(view: &ArrayView4<'a, E>, batch: usize, head: usize) -> ArrayView2<'a, E> {
    (*view).index_axis_move(Axis(0), batch).index_axis_move(Axis(0), head)
}

/// The parts of a view along its first axis, each to be owned by a task.
fn split<'a, E, D: RemoveAxis>(view: ArrayViewMut<'a, E, D>) -> impl Iterator<Item = ArrayViewMut<'a, E, D::Smaller>> {
    let mut rest = Some(view);
    std::iter::from_fn(move || {
        let view = rest.take().filter(|view| view.len_of(Axis(0)) > 0)?;
        let (first, others) = view.split_at(Axis(0), 1);
        rest = Some(others);
        Some(first.index_axis_move(Axis(0), 0))
    })
}

/// What a thread needs to compute a task; kept from call to call.
#[derive(Default)]
struct Scratch {
    key_blocks: Vec<[Words; KEYS]>,
    value_blocks: Vec<[Words; KEYS]>,
    key_rows: Vec<Words>,
    words: Vec<Words>,
    query_rows: Vec<Words>,
    dout_rows: Vec<Words>,
    queries: Vec<WordRow>,
    douts: Vec<WordRow>,
    strip: Vec<[Row; KEYS]>,
    weights: Vec<[WordRow; KEYS]>,
    gradient: Vec<[WordRow; KEYS]>,
    gradient_by_key: Vec<WordRow>,
    mask: Vec<[Row; KEYS]>,
    factors: Vec<f32>,
    out: Vec<Lanes>,
    dk: Vec<Lanes>,
    dv: Vec<Lanes>,
    decode_queries: Vec<Words>,
    decode_keys: Vec<Words>,
    decode_strip: Vec<Lanes>,
    decode_sums: Vec<f32>,
    decode_values: Vec<Words>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Multiply-adds below which waking another thread costs more than it saves (some ten microseconds).
const SERIAL_WORK: usize = 1 << 19;

/// Gives every part to `task`, on all threads where `work` is worth it.
fn for_each<T: Send>(work: usize, parts: Vec<T>, task: impl Fn(T, &mut Scratch) + Sync + Send) {
    let task = |part| SCRATCH.with_borrow_mut(|scratch| task(part, scratch));
    if work < SERIAL_WORK || parts.len() < 2 {
        parts.into_iter().for_each(task);
    } else {
        parallel::for_each(parts, |_, part| task(part));
    }
}
