//! The second half of a block: `out = mid + proj(gelu(c_fc(ln_2(mid))))`, forward beside backward.

use super::{Context, Place, norm_backward, norm_forward};
use crate::error::Result;
use crate::kernels::Beta;
use crate::kernels::activation::{activation, activation_backward_inplace};
use crate::kernels::dropout::dropout;
use crate::kernels::residual::add_assign;
use crate::model::arena::{Saved, Scratch};

/// From the stream after attention `mid` (N, C) to the block's output `out` (N, C).
pub fn forward(
    cx: Context<'_>,
    mid: &[f32],
    saved: &mut Saved<'_>,
    scratch: &mut Scratch<'_>,
    out: &mut [f32],
) -> Result<()> {
    let (n, block) = (cx.n(), cx.block);
    norm_forward(&block.ln_2, cx.config, cx.params, n, mid, &mut saved.ln_2, scratch.normed)?; // (N, C)
    block.c_fc.forward(cx.params, n, scratch.normed, None, saved.fc)?; // (N, F)
    activation(cx.config.activation.kernel(), saved.fc, scratch.act)?;
    match cx.dropout {
        None => block.mlp_proj.forward(cx.params, n, scratch.act, Some(mid), out),
        Some(masks) => {
            block.mlp_proj.forward(cx.params, n, scratch.act, None, out)?;
            dropout(out, masks.at(Place::Mlp(cx.layer)))?;
            add_assign(out, mid)
        }
    }
}

/// Turns `scratch.dx` from the gradient of `out` into the gradient of `mid`; adds this half's weight gradients.
pub fn backward(
    cx: Context<'_>,
    grads: &mut [f32],
    mid: &[f32],
    saved: &mut Saved<'_>,
    scratch: &mut Scratch<'_>,
) -> Result<()> {
    let (n, block, kind) = (cx.n(), cx.block, cx.config.activation.kernel());
    let [d_out, d_normed] = &mut scratch.d_c;
    let d_out: &[f32] = match cx.dropout {
        None => scratch.dx,
        Some(masks) => {
            d_out.copy_from_slice(scratch.dx);
            dropout(d_out, masks.at(Place::Mlp(cx.layer)))?;
            d_out
        }
    };
    activation(kind, saved.fc, scratch.act)?; // recomputed: cheaper than keeping (N, F) for every block
    block.mlp_proj.backward(cx.params, grads, n, scratch.act, d_out, scratch.d_f)?;
    activation_backward_inplace(kind, saved.fc, scratch.d_f)?;
    norm_forward(&block.ln_2, cx.config, cx.params, n, mid, &mut saved.ln_2, scratch.normed)?; // recomputed
    block.c_fc.backward(cx.params, grads, n, scratch.normed, scratch.d_f, d_normed)?;
    norm_backward(&block.ln_2, cx.params, grads, n, mid, &saved.ln_2, d_normed, scratch.dx, Beta::Accumulate)
}
