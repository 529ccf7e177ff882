//! The second half of a block: `output = middle + post_2(down(f(up(norm_2(middle)))))`, forward beside backward.

use super::{Context, Place, add_branch, branch_backward, norm_backward, norm_forward};
use crate::error::Result;
use crate::kernels::Beta;
use crate::kernels::activation::{Activation, activation, activation_backward};
use crate::kernels::glu::{glu, glu_backward};
use crate::kernels::matmul::{Output, Scalar};
use crate::model::adapter::apply::{Room, RoomBackward};
use crate::model::arena::{Saved, Scratch};
use crate::model::config::Mlp;
use crate::model::gradients::Gradients;
use crate::model::linear::{sums, view, view_mut};
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
    let kind = cx.config.activation.kernel();
    let room = Room { u: saved.low[2], dropped: scratch.dropped };
    match cx.config.mlp {
        Mlp::Plain if !block.up.is_scaled(cx.weights) => {
            let extension = block.up.low(cx.weights, n, scratch.normed, room)?;
            let (pre, act) = (view_mut(saved.up, n, f), view_mut(scratch.act, n, f));
            let (pre, act, bias) = (E::matrix_mut(pre), E::matrix_mut(act), block.up.bias(params));
            let output = Output::Activated { pre, act, activation: kind, bias };
            block.up.product("mlp up", cx.weights, n, scratch.normed, extension, output)
        }
        Mlp::Plain => {
            block.up.forward("mlp up", cx.weights, n, scratch.normed, room, saved.up, None)?;
            activate(kind, saved.up, scratch.act)
        }
        Mlp::Gated => {
            block.up.forward("mlp up", cx.weights, n, scratch.normed, room, saved.up, None)?;
            let rows = view(saved.up, n, width);
            let act = view_mut(scratch.act, n, f);
            measure("gate", Work::bytes(3 * n * f * size_of::<E>()), || {
                glu(kind, rows.slice(s![.., ..f]), rows.slice(s![.., f..]), act)
            })
        }
    }
}

/// From the activated rows to the block's output `out` (N, C).
pub fn down<E: Scalar>(
    cx: Context<'_>,
    middle: &[f32],
    saved: &mut Saved<'_, E>,
    scratch: &mut Scratch<'_, E>,
    out: &mut [f32],
) -> Result<()> {
    let (block, place, post) = (cx.block, Place::Mlp(cx.layer), cx.block.post_2.as_ref());
    let room = Room { u: saved.low[3], dropped: scratch.dropped };
    let (branch, stats) = (&mut *saved.branch_2, &mut saved.post_2);
    add_branch(&cx, place, &block.down, scratch.act, room, post, branch, stats, middle, out)
}

/// The activated rows of an MLP that is not gated, where a product cannot make them as it ends.
fn activate<E: Scalar>(kind: Activation, pre: &[E], act: &mut [E]) -> Result<()> {
    measure("activation", Work::bytes(2 * pre.len() * size_of::<E>()), || activation(kind, pre, act))
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
    let kind = config.activation.kernel();
    let (place, post) = (Place::Mlp(cx.layer), block.post_2.as_ref());
    let (branch, stats, dx) = (&*saved.branch_2, &saved.post_2, &*scratch.dx);
    let (dropped, d_branch, room) = (&mut *scratch.d_normed, &mut *scratch.d_branch, &mut *scratch.d_out);
    let d_out = branch_backward(&cx, grads, place, &block.down, post, branch, stats, dx, dropped, d_branch, room)?;
    let d_out = view(d_out, n, c);
    block.down.low_gradient(cx.weights, d_out, scratch.d_low)?;
    let extension = block.down.low_extension(cx.weights, n, scratch.d_low);
    let room = RoomBackward { u: saved.low[3], du: scratch.d_low, dropped: scratch.dropped };
    match config.mlp {
        Mlp::Plain if !block.down.is_dropped(cx.weights) => {
            // Activated rows are recomputed with the slopes: cheaper than keeping (N, F) for every block.
            let output = Output::ActivatedBackward {
                pre: E::matrix(view(saved.up, n, f)),
                d_pre: E::matrix_mut(view_mut(scratch.d_up, n, f)),
                act: E::matrix_mut(view_mut(scratch.act, n, f)),
                activation: kind,
            };
            block.down.backward_input("mlp down, dX", cx.weights, d_out, extension, output)?;
            block.down.backward_adapter::<E, E>(cx.weights, grads, scratch.act, d_out, None, room)?;
        }
        Mlp::Plain => {
            let output = sums(scratch.d_act, n, f, None, None);
            block.down.backward_input("mlp down, dX", cx.weights, d_out, extension, output)?;
            activate(kind, saved.up, scratch.act)?; // recomputed
            block.down.backward_adapter(cx.weights, grads, scratch.act, d_out, Some(scratch.d_act), room)?;
            measure("activation, backward", Work::bytes(3 * n * f * size_of::<E>()), || {
                activation_backward(kind, saved.up, scratch.d_act, scratch.d_up)
            })?;
        }
        Mlp::Gated => {
            let output = sums(scratch.d_act, n, f, None, None);
            block.down.backward_input("mlp down, dX", cx.weights, d_out, extension, output)?;
            let rows = view(saved.up, n, 2 * f);
            let (gate, up) = (rows.slice(s![.., ..f]), rows.slice(s![.., f..]));
            let (d_gate, d_up) = view_mut(scratch.d_up, n, 2 * f).split_at(ndarray::Axis(1), f);
            measure("gate", Work::bytes(3 * n * f * size_of::<E>()), || {
                glu(kind, gate, up, view_mut(scratch.act, n, f)) // recomputed
            })?;
            block.down.backward_adapter(cx.weights, grads, scratch.act, d_out, Some(scratch.d_act), room)?;
            measure("gate, backward", Work::bytes(5 * n * f * size_of::<E>()), || {
                glu_backward(kind, gate, up, view(scratch.d_act, n, f), d_gate, d_up)
            })?;
        }
    }
    block.down.backward_weights("mlp down, dW", grads, scratch.act, d_out)?;
    norm_forward(&block.norm_2, config, params, n, middle, &mut saved.norm_2, scratch.normed)?; // recomputed
    block.up.backward_scale(cx.weights, grads, n, saved.up, scratch.d_up)?;
    let d_up = view(scratch.d_up, n, config.up_width());
    block.up.backward_weights("mlp up, dW", grads, scratch.normed, d_up)?;
    block.up.low_gradient(cx.weights, d_up, scratch.d_low)?;
    let extension = block.up.low_extension(cx.weights, n, scratch.d_low);
    let output = sums(scratch.d_normed, n, c, None, None);
    block.up.backward_input("mlp up, dX", cx.weights, d_up, extension, output)?;
    let room = RoomBackward { u: saved.low[2], du: scratch.d_low, dropped: scratch.dropped };
    let d_normed = Some(&mut *scratch.d_normed);
    block.up.backward_adapter(cx.weights, grads, scratch.normed, d_up, d_normed, room)?;
    let (stats, dy, dx) = (&saved.norm_2, &*scratch.d_normed, &mut *scratch.dx);
    norm_backward(&block.norm_2, config, params, grads, n, middle, stats, dy, dx, Beta::Accumulate)
}
