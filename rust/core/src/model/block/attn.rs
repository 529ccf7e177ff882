//! The first half of a block: `mid = x + proj(attention(c_attn(ln_1(x))))`, forward beside backward, and with a cache.

use super::{Context, Place, norm_backward, norm_forward};
use crate::error::Result;
use crate::kernels::Beta;
use crate::kernels::attention::{Options, attention, attention_backward};
use crate::kernels::dropout::dropout;
use crate::kernels::residual::add_assign;
use crate::model::arena::{Saved, Scratch};
use crate::model::kv_cache::LayerCache;
use ndarray::{ArrayView3, ArrayView4, ArrayViewMut3, ArrayViewMut4, Axis, s};

/// The heads of `part` (0 queries, 1 keys, 2 values) in fused rows (N, 3C), as (B, H, T, D) without a copy.
fn heads<'a>(cx: &Context<'_>, qkv: &'a [f32], part: usize) -> ArrayView4<'a, f32> {
    let shape = (cx.b, cx.t, 3, cx.config.n_head, cx.config.head_dim());
    let all = ndarray::ArrayView5::from_shape(shape, qkv).expect("(N, 3C) floats");
    all.index_axis_move(Axis(2), part).permuted_axes([0, 2, 1, 3])
}

/// Rows (N, C) as (B, H, T, D) without a copy.
fn rows<'a>(cx: &Context<'_>, x: &'a [f32]) -> ArrayView4<'a, f32> {
    let shape = (cx.b, cx.t, cx.config.n_head, cx.config.head_dim());
    ArrayView4::from_shape(shape, x).expect("(N, C) floats").permuted_axes([0, 2, 1, 3])
}

fn rows_mut<'a>(cx: &Context<'_>, x: &'a mut [f32]) -> ArrayViewMut4<'a, f32> {
    let shape = (cx.b, cx.t, cx.config.n_head, cx.config.head_dim());
    ArrayViewMut4::from_shape(shape, x).expect("(N, C) floats").permuted_axes([0, 2, 1, 3])
}

fn options(cx: &Context<'_>) -> Options {
    Options { dropout: cx.dropout.map(|masks| masks.at(Place::Probabilities(cx.layer))), ..Options::default() }
}

/// From the block's input `x` (N, C) to the stream after attention `mid` (N, C).
///
/// With a `cache` the rows are the newest of one sequence: their keys and values are kept there, and the queries see
/// all that it holds.
pub fn forward(
    cx: Context<'_>,
    x: &[f32],
    saved: &mut Saved<'_>,
    scratch: &mut Scratch<'_>,
    cache: Option<LayerCache<'_>>,
    mid: &mut [f32],
) -> Result<()> {
    let (n, block) = (cx.n(), cx.block);
    norm_forward(&block.ln_1, cx.config, cx.params, n, x, &mut saved.ln_1, scratch.normed)?; // (N, C)
    block.c_attn.forward(cx.params, n, scratch.normed, None, saved.qkv)?; // (N, 3C)
    let lse = ArrayViewMut3::from_shape((cx.b, cx.config.n_head, cx.t), &mut *saved.lse).expect("(B, H, T) floats");
    let [q, k, v] = [0, 1, 2].map(|part| heads(&cx, saved.qkv, part)); // (B, H, T, D)
    match cache {
        None => attention(q, k, v, &options(&cx), rows_mut(&cx, saved.att), lse)?,
        Some(mut cache) => {
            cache.append(k, v);
            attention(q, cache.keys(), cache.values(), &options(&cx), rows_mut(&cx, saved.att), lse)?;
        }
    }
    match cx.dropout {
        None => block.attn_proj.forward(cx.params, n, saved.att, Some(x), mid),
        Some(masks) => {
            block.attn_proj.forward(cx.params, n, saved.att, None, mid)?;
            dropout(mid, masks.at(Place::Attention(cx.layer)))?;
            add_assign(mid, x)
        }
    }
}

/// Turns `scratch.dx` from the gradient of `mid` into the gradient of `x`; adds this half's weight gradients.
pub fn backward(
    cx: Context<'_>,
    grads: &mut [f32],
    x: &[f32],
    saved: &mut Saved<'_>,
    scratch: &mut Scratch<'_>,
) -> Result<()> {
    let (n, block) = (cx.n(), cx.block);
    let [d_mid, d_rows] = &mut scratch.d_c;
    let d_mid: &[f32] = match cx.dropout {
        None => scratch.dx,
        Some(masks) => {
            d_mid.copy_from_slice(scratch.dx);
            dropout(d_mid, masks.at(Place::Attention(cx.layer)))?;
            d_mid
        }
    };
    block.attn_proj.backward(cx.params, grads, n, saved.att, d_mid, d_rows)?;
    let [q, k, v] = [0, 1, 2].map(|part| heads(&cx, saved.qkv, part));
    let lse = ArrayView3::from_shape((cx.b, cx.config.n_head, cx.t), &*saved.lse).expect("(B, H, T) floats");
    {
        let shape = (cx.b, cx.t, 3, cx.config.n_head, cx.config.head_dim());
        let mut d_qkv = ndarray::ArrayViewMut5::from_shape(shape, &mut *scratch.d_qkv).expect("(N, 3C) floats");
        let (dq, dk, dv) = d_qkv.multi_slice_mut((s![.., .., 0, .., ..], s![.., .., 1, .., ..], s![.., .., 2, .., ..]));
        let [dq, dk, dv] = [dq, dk, dv].map(|d| d.permuted_axes([0, 2, 1, 3]));
        attention_backward(q, k, v, rows(&cx, saved.att), lse, rows(&cx, d_rows), &options(&cx), dq, dk, dv)?;
    }
    norm_forward(&block.ln_1, cx.config, cx.params, n, x, &mut saved.ln_1, scratch.normed)?; // recomputed
    block.c_attn.backward(cx.params, grads, n, scratch.normed, scratch.d_qkv, d_rows)?;
    norm_backward(&block.ln_1, cx.params, grads, n, x, &saved.ln_1, d_rows, scratch.dx, Beta::Accumulate)
}
