//! What happens to queries and keys between their projection and the scores: norm of each head, rotation by position.

use super::Context;
use crate::error::Result;
use crate::kernels::matmul::Scalar;
use crate::kernels::qk_norm::{HeadNorm, Order, QkNorm, Saved, qk_norm, qk_norm_backward};
use crate::model::documents::Documents;
use crate::model::gradients::Gradients;
use crate::model::linear::{view, view_mut};
use crate::profile::{Work, measure};
use ndarray::{Axis, s};

/// What is done to the heads of part 0 (queries) or 1 (keys), if anything is.
fn how<'a>(cx: &Context<'a>, part: usize) -> QkNorm<'a> {
    let (config, gains) = (cx.config, cx.block.qk_gains.clone());
    let gain = gains.map(|gains| &cx.weights.params[gains[part].clone()]);
    let norm = config.qk_norm.then_some(HeadNorm {
        eps: config.norm_eps,
        gain,
        offset: config.gain_offset(),
        order: Order::NormRope,
    });
    QkNorm { head_dim: config.head_dim(), norm, rope: cx.rope, positions: cx.documents.map(Documents::positions) }
}

/// From the projected rows `qkv` (N, H D + 2 KV) to turned queries and keys `qk` (N, H D + KV); keeps `rstd` of the heads.
pub fn forward<E: Scalar>(cx: &Context<'_>, qkv: &[E], qk: &mut [E], rstd: &mut [&mut [f32]; 2]) -> Result<()> {
    let (config, n) = (cx.config, cx.n());
    if !config.turns_queries() {
        return Ok(());
    }
    let (wide, width) = (config.q_width(), config.qk_width());
    let rows = view(qkv, n, config.qkv_width());
    let (q, k) = view_mut(qk, n, width).split_at(Axis(1), wide);
    let [q_rstd, k_rstd] = rstd;
    measure("turn queries and keys", Work::bytes(2 * n * width * size_of::<E>()), || {
        qk_norm(how(cx, 0), rows.slice(s![.., ..wide]), q, q_rstd)?;
        qk_norm(how(cx, 1), rows.slice(s![.., wide..width]), k, k_rstd)
    })
}

/// Turns the gradients of turned queries and keys, in `d_qkv` (N, H D + 2 KV), into those of the projected rows.
pub fn backward<E: Scalar>(
    cx: &Context<'_>,
    grads: &mut Gradients<'_>,
    qkv: &[E],
    rstd: &[&mut [f32]; 2],
    d_qkv: &mut [E],
) -> Result<()> {
    let (config, n) = (cx.config, cx.n());
    if !config.turns_queries() {
        return Ok(());
    }
    let (wide, width) = (config.q_width(), config.qk_width());
    let rows = view(qkv, n, config.qkv_width());
    let (dq, rest) = view_mut(d_qkv, n, config.qkv_width()).split_at(Axis(1), wide);
    let (dk, _) = rest.split_at(Axis(1), width - wide);
    let parts = [(0, rows.slice(s![.., ..wide]), dq), (1, rows.slice(s![.., wide..width]), dk)];
    measure("turn, backward", Work::bytes(3 * n * width * size_of::<E>()), || {
        for (part, x, d) in parts {
            let gains = cx.block.qk_gains.clone();
            let d_gain = gains.and_then(|gains| grads.of(&gains[part]));
            qk_norm_backward(how(cx, part), Saved::Input(x), rstd[part], d, d_gain)?;
        }
        Ok(())
    })
}
