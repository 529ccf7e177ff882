//! The first half of a block: `middle = x + post_1(out(attention(qkv(norm_1(x)))))`, forward beside backward, and with
//! caches.

use super::{Context, Place, add_branch, branch_backward, norm_backward, norm_forward, turn};
use crate::error::Result;
use crate::kernels::Beta;
use crate::kernels::attention::{Options, attention, attention_backward, attention_cached};
use crate::kernels::matmul::Scalar;
use crate::model::adapter::apply::{Room, RoomBackward};
use crate::model::arena::{Saved, Scratch};
use crate::model::documents::Documents;
use crate::model::gradients::Gradients;
use crate::model::kv_cache::LayerCache;
use crate::model::linear::{sums, view};
use crate::parallel;
use crate::profile::{Work, measure};
use ndarray::{ArrayView3, ArrayView4, ArrayViewMut3, ArrayViewMut4, Axis, Dim, Ix4, ShapeBuilder, StrideShape, s};
use std::ops::Range;

/// The shape (B, H, T, D) of `heads` heads that lie side by side in rows of `width` columns.
fn head_shape(cx: &Context<'_>, width: usize, heads: usize) -> StrideShape<Ix4> {
    let d = cx.config.head_dim();
    Dim([cx.b, heads, cx.t, d]).strides(Dim([cx.t * width, d, width, 1]))
}

/// `heads` heads from column `first` on of rows of `width` columns, without a copy.
fn heads<'a, E>(cx: &Context<'_>, rows: &'a [E], width: usize, first: usize, heads: usize) -> ArrayView4<'a, E> {
    ArrayView4::from_shape(head_shape(cx, width, heads), &rows[first..]).expect("columns within the rows")
}

/// The same for writing.
fn heads_mut<'a, E>(cx: &Context<'_>, rows: &'a mut [E], width: usize, heads: usize) -> ArrayViewMut4<'a, E> {
    ArrayViewMut4::from_shape(head_shape(cx, width, heads), rows).expect("columns within the rows")
}

/// Queries, keys and values as attention reads them: the first two turned where the family turns them.
pub fn inputs<'a, E>(cx: &Context<'_>, qkv: &'a [E], qk: &'a [E]) -> [ArrayView4<'a, E>; 3] {
    let config = cx.config;
    let (wide, both, width) = (config.q_width(), config.qk_width(), config.qkv_width());
    let (h, hkv) = (config.n_head, config.kv_heads());
    let v = heads(cx, qkv, width, both, hkv);
    match config.turns_queries() {
        true => [heads(cx, qk, both, 0, h), heads(cx, qk, both, wide, hkv), v],
        false => [heads(cx, qkv, width, 0, h), heads(cx, qkv, width, wide, hkv), v],
    }
}

/// What attention does in this block beside the plain formula.
pub fn options<'a>(cx: &Context<'a>) -> Options<'a> {
    Options {
        scale: cx.config.attention_scale(),
        window: cx.config.window(cx.layer),
        starts: cx.documents.map(Documents::starts),
        softcap: cx.config.attn_softcap,
        dropout: cx.dropout.map(|masks| masks.at(Place::Probabilities(cx.layer))),
    }
}

/// Operations of some products of attention for the last `t` positions of each of the sequences.
fn flop(cx: &Context<'_>, t: usize, keys: usize, products: usize) -> f64 {
    let (rows, width) = ((cx.b * t) as f64, cx.config.q_width() as f64);
    let seen = cx.documents.map_or_else(|| keys as f64 - (t as f64 - 1.0) / 2.0, Documents::seen);
    let seen = cx.config.window(cx.layer).map_or(seen, |window| seen.min(window as f64));
    products as f64 * 2.0 * rows * width * seen
}

fn work(cx: &Context<'_>, t: usize, keys: usize, products: usize) -> Work {
    Work::Product { flop: flop(cx, t, keys, products) }
}

/// New positions of a sequence from which its heads are worth sharing among the threads.
const MANY: usize = 16;

/// Attention of sequences whose newest positions lie one after the other in `q`, `k`, `v` (1, H, N, D). Where they have
/// few, as while decoding, each sequence is a task; their bits are those that they have alone.
fn attend<E: Scalar>(
    cx: &Context<'_>,
    caches: Vec<LayerCache<'_, E>>,
    [q, k, v]: [ArrayView4<'_, E>; 3],
    att: ArrayViewMut4<'_, E>,
    lse: ArrayViewMut3<'_, f32>,
) -> Result<()> {
    let (mut first, mut att, mut lse, mut small) = (0, att, lse, Vec::new());
    let one = |(cache, rows, att, lse): (LayerCache<'_, E>, Range<usize>, _, _)| {
        let [q, k, v] = [&q, &k, &v].map(|x| x.slice(s![.., .., rows.clone(), ..]));
        attention_cached(q, k, v, cache.kept, &options(cx), att, lse)
    };
    let alone = caches.len() == 1;
    for cache in caches {
        let t = cache.t;
        let (our_att, rest_att) = att.split_at(Axis(2), t);
        let (our_lse, rest_lse) = lse.split_at(Axis(2), t);
        let (keys, task) = (cache.positions(), (cache, first..first + t, our_att, our_lse));
        match alone || t >= MANY {
            true => measure("attention", work(cx, t, keys, 2), || one(task))?,
            false => small.push((keys, task)),
        }
        (first, att, lse) = (first + t, rest_att, rest_lse);
    }
    if small.is_empty() {
        return Ok(());
    }
    let flop = small.iter().map(|(keys, (_, rows, ..))| flop(cx, rows.len(), *keys, 2)).sum();
    measure("attention", Work::Product { flop }, || parallel::map(small, |(_, task)| one(task)).into_iter().collect())
}

/// From the block's input `x` (N, C) to the stream after attention `middle` (N, C).
///
/// With `caches` the rows are the newest of a sequence each: their keys and values are kept there, and the queries see all
/// that it holds.
pub fn forward<E: Scalar>(
    cx: Context<'_>,
    x: &[f32],
    saved: &mut Saved<'_, E>,
    scratch: &mut Scratch<'_, E>,
    caches: Vec<LayerCache<'_, E>>,
    middle: &mut [f32],
) -> Result<()> {
    let (n, block, config, params) = (cx.n(), cx.block, cx.config, cx.weights.params);
    let [low_qkv, low_out, ..] = &mut saved.low;
    norm_forward(&block.norm_1, config, params, n, x, &mut saved.norm_1, scratch.normed)?; // (N, C)
    let room = Room { u: low_qkv, dropped: scratch.dropped };
    block.qkv.forward("qkv", cx.weights, n, scratch.normed, room, saved.qkv, None)?; // (N, H D + 2 KV)
    turn::forward(&cx, saved.qkv, scratch.qk, &mut saved.qk_rstd)?;
    let lse = ArrayViewMut3::from_shape((cx.b, config.n_head, cx.t), &mut *saved.lse).expect("(B, H, T) floats");
    let [q, k, v] = inputs(&cx, saved.qkv, scratch.qk); // (B, H, T, D)
    let att = heads_mut(&cx, saved.att, config.q_width(), config.n_head);
    match caches.is_empty() {
        true => measure("attention", work(&cx, cx.t, cx.t, 2), || attention(q, k, v, &options(&cx), att, lse))?,
        false => attend(&cx, caches, [q, k, v], att, lse)?,
    }
    let room = Room { u: low_out, dropped: scratch.dropped };
    let (branch, stats) = (&mut *saved.branch_1, &mut saved.post_1);
    add_branch(
        &cx,
        Place::Attention(cx.layer),
        &block.out,
        saved.att,
        room,
        block.post_1.as_ref(),
        branch,
        stats,
        x,
        middle,
    )
}

/// Turns `scratch.dx` from the gradient of `middle` into the gradient of `x`, if that `goes_on` to anything that is
/// trained; adds this half's weight gradients.
pub fn backward<E: Scalar>(
    cx: Context<'_>,
    grads: &mut Gradients<'_>,
    x: &[f32],
    saved: &mut Saved<'_, E>,
    scratch: &mut Scratch<'_, E>,
    goes_on: bool,
) -> Result<()> {
    let (n, block, config, params) = (cx.n(), cx.block, cx.config, cx.weights.params);
    let (c, h, hkv) = (config.n_embd, config.n_head, config.kv_heads());
    let (wide, width) = (config.q_width(), config.qkv_width());
    let (place, post) = (Place::Attention(cx.layer), block.post_1.as_ref());
    let (branch, stats, dx) = (&*saved.branch_1, &saved.post_1, &*scratch.dx);
    let (dropped, d_branch, room) = (&mut *scratch.d_normed, &mut *scratch.d_branch, &mut *scratch.d_out);
    let d_branch = branch_backward(&cx, grads, place, &block.out, post, branch, stats, dx, dropped, d_branch, room)?;
    let d_branch = view(d_branch, n, c);
    block.out.low_gradient(cx.weights, d_branch, scratch.d_low)?;
    let extension = block.out.low_extension(cx.weights, n, scratch.d_low);
    let output = sums(scratch.d_att, n, wide, None, None);
    block.out.backward_input("attention out, dX", cx.weights, d_branch, extension, output)?;
    block.out.backward_weights("attention out, dW", grads, saved.att, d_branch)?;
    let room = RoomBackward { u: saved.low[1], du: scratch.d_low, dropped: scratch.dropped };
    block.out.backward_adapter(cx.weights, grads, saved.att, d_branch, Some(scratch.d_att), room)?;
    turn::forward(&cx, saved.qkv, scratch.qk, &mut saved.qk_rstd)?; // recomputed
    let [q, k, v] = inputs(&cx, saved.qkv, scratch.qk);
    let lse = ArrayView3::from_shape((cx.b, h, cx.t), &*saved.lse).expect("(B, H, T) floats");
    let (att, d_att) = (heads(&cx, saved.att, wide, 0, h), heads(&cx, scratch.d_att, wide, 0, h));
    let all = heads_mut(&cx, scratch.d_qkv, width, h + 2 * hkv);
    let (dq, rest) = all.split_at(Axis(1), h);
    let (dk, dv) = rest.split_at(Axis(1), hkv);
    measure("attention, backward", work(&cx, cx.t, cx.t, 5), || {
        attention_backward(q, k, v, att, lse, d_att, &options(&cx), dq, dk, dv)
    })?;
    turn::backward(&cx, grads, saved.qkv, &saved.qk_rstd, scratch.d_qkv)?;
    block.qkv.backward_scale(cx.weights, grads, n, saved.qkv, scratch.d_qkv)?;
    let d_qkv = view(scratch.d_qkv, n, width);
    norm_forward(&block.norm_1, config, params, n, x, &mut saved.norm_1, scratch.normed)?; // recomputed
    block.qkv.backward_weights("qkv, dW", grads, scratch.normed, d_qkv)?;
    block.qkv.low_gradient(cx.weights, d_qkv, scratch.d_low)?;
    let extension = block.qkv.low_extension(cx.weights, n, scratch.d_low);
    let room = RoomBackward { u: saved.low[0], du: scratch.d_low, dropped: scratch.dropped };
    if !goes_on {
        return block.qkv.backward_adapter::<E, f32>(cx.weights, grads, scratch.normed, d_qkv, None, room);
    }
    let output = sums(scratch.d_normed, n, c, None, None);
    block.qkv.backward_input("qkv, dX", cx.weights, d_qkv, extension, output)?;
    let d_normed = Some(&mut *scratch.d_normed);
    block.qkv.backward_adapter(cx.weights, grads, scratch.normed, d_qkv, d_normed, room)?;
    let (stats, dy, dx) = (&saved.norm_1, &*scratch.d_normed, &mut *scratch.dx);
    norm_backward(&block.norm_1, config, params, grads, n, x, stats, dy, dx, Beta::Accumulate)
}
