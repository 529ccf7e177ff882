//! The second half of a block: `output = middle + post_2(down(f(up(norm_2(middle)))))`, forward beside backward.

use super::{Context, Place, add_to_stream, branch_backward, norm_backward, norm_forward};
use crate::error::Result;
use crate::kernels::Beta;
use crate::kernels::glu::{glu, glu_backward};
use crate::kernels::matmul::{Output, Scalar};
use crate::model::arena::{Saved, Scratch};
use crate::model::config::Mlp;
use crate::model::linear::{Gradients, sums, view, view_mut};
use crate::profile::{Work, measure};
use ndarray::s;

/// From the stream after attention `middle` (N, C) to the activated rows `scratch.act` (N, F).
pub fn up<E: Scalar>(
    cx: Context<'_>,
    middle: &[f32],
    saved: &mut Saved<'_, E>,
    scratch: &mut Scratch<'_, E>,
) -> Result<()> {
    let (n, block, params) = (cx.n(), cx.block, cx.weights.params);
    let (f, width) = (cx.config.inner(), cx.config.up_width());
    norm_forward(&block.norm_2, cx.config, params, n, middle, &mut saved.norm_2, scratch.normed)?; // (N, C)
    let bias = block.up.bias(params);
    match cx.config.mlp {
        Mlp::Plain => {
            let (pre, act) = (view_mut(saved.up, n, f), view_mut(scratch.act, n, f));
            let activation = cx.config.activation.kernel();
            let output = Output::Activated { pre: E::matrix_mut(pre), act: E::matrix_mut(act), activation, bias };
            block.up.forward("mlp up", cx.weights, n, scratch.normed, output)
        }
        Mlp::Gated => {
            block.up.forward("mlp up", cx.weights, n, scratch.normed, sums(saved.up, n, width, bias, None))?;
            let rows = view(saved.up, n, width);
            let act = view_mut(scratch.act, n, f);
            measure("gate", Work::bytes(3 * n * f * size_of::<E>()), || {
                glu(cx.config.activation.kernel(), rows.slice(s![.., ..f]), rows.slice(s![.., f..]), act)
            })
        }
    }
}

/// From the activated rows to the block's output `out` (N, C).
pub fn down<E: Scalar>(
    cx: Context<'_>,
    middle: &[f32],
    saved: &mut Saved<'_, E>,
    scratch: &Scratch<'_, E>,
    out: &mut [f32],
) -> Result<()> {
    let (n, block, c) = (cx.n(), cx.block, cx.config.n_embd);
    let (params, act) = (cx.weights.params, &*scratch.act);
    let bias = block.down.bias(params);
    match &block.post_2 {
        None if cx.dropout.is_none() => {
            return block.down.forward("mlp down", cx.weights, n, act, sums(out, n, c, bias, Some(middle)));
        }
        None => block.down.forward("mlp down", cx.weights, n, act, sums(out, n, c, bias, None))?,
        Some(post) => {
            block.down.forward("mlp down", cx.weights, n, act, sums(saved.branch_2, n, c, bias, None))?;
            norm_forward(post, cx.config, params, n, saved.branch_2, &mut saved.post_2, out)?;
        }
    }
    add_to_stream(&cx, Place::Mlp(cx.layer), middle, out)
}

/// Turns `scratch.dx` from the gradient of the output into the gradient of `middle`; adds this half's weight gradients.
pub fn backward<E: Scalar>(
    cx: Context<'_>,
    grads: &mut Gradients<'_>,
    middle: &[f32],
    saved: &mut Saved<'_, E>,
    scratch: &mut Scratch<'_, E>,
) -> Result<()> {
    let (n, block, config, params) = (cx.n(), cx.block, cx.config, cx.weights.params);
    let (c, f) = (config.n_embd, config.inner());
    let activation = config.activation.kernel();
    let (place, post) = (Place::Mlp(cx.layer), block.post_2.as_ref());
    let (branch, stats, dx) = (&*saved.branch_2, &saved.post_2, &*scratch.dx);
    let (dropped, d_branch, room) = (&mut *scratch.d_normed, &mut *scratch.d_branch, &mut *scratch.d_out);
    let d_out = branch_backward(&cx, grads, place, post, branch, stats, dx, dropped, d_branch, room)?;
    let d_out = view(d_out, n, c);
    match config.mlp {
        Mlp::Plain => {
            // Activated rows are recomputed with the slopes: cheaper than keeping (N, F) for every block.
            let output = Output::ActivatedBackward {
                pre: E::matrix(view(saved.up, n, f)),
                d_pre: E::matrix_mut(view_mut(scratch.d_up, n, f)),
                act: E::matrix_mut(view_mut(scratch.act, n, f)),
                activation,
            };
            block.down.backward_input("mlp down, dX", cx.weights, d_out, output)?;
        }
        Mlp::Gated => {
            let output = sums(scratch.d_act, n, f, None, None);
            block.down.backward_input("mlp down, dX", cx.weights, d_out, output)?;
            let rows = view(saved.up, n, 2 * f);
            let (gate, up) = (rows.slice(s![.., ..f]), rows.slice(s![.., f..]));
            let (d_gate, d_up) = view_mut(scratch.d_up, n, 2 * f).split_at(ndarray::Axis(1), f);
            measure("gate, backward", Work::bytes(7 * n * f * size_of::<E>()), || {
                glu(activation, gate, up, view_mut(scratch.act, n, f))?;
                glu_backward(activation, gate, up, view(scratch.d_act, n, f), d_gate, d_up)
            })?;
        }
    }
    block.down.backward_weights("mlp down, dW", grads, scratch.act, d_out)?;
    norm_forward(&block.norm_2, config, params, n, middle, &mut saved.norm_2, scratch.normed)?; // recomputed
    let d_up = view(scratch.d_up, n, config.up_width());
    block.up.backward_weights("mlp up, dW", grads, scratch.normed, d_up)?;
    let output = sums(scratch.d_normed, n, c, None, None);
    block.up.backward_input("mlp up, dX", cx.weights, d_up, output)?;
    let (stats, dy, dx) = (&saved.norm_2, &*scratch.d_normed, &mut *scratch.dx);
    norm_backward(&block.norm_2, config, params, grads, n, middle, stats, dy, dx, Beta::Accumulate)
}
