//! The output projection and the loss, a chunk of rows at a time, so that logits of a whole batch are never in memory.
//!
//! Logits of a chunk, their loss, their gradient and its two products are made one after the other while the chunk is
//! in the cache (the chunked form of Liger-Kernel's fused linear cross-entropy).

use super::Gpt;
use super::arena::{LOSS_ROWS, Scratch};
use super::gradients::Gradients;
use super::linear::{Weights, sums, view, view_mut};
use super::rows::Labels;
use crate::error::{Error, Result};
use crate::kernels::Beta;
use crate::kernels::cross_entropy::{cross_entropy, cross_entropy_inplace};
use crate::kernels::matmul::Scalar;
use crate::kernels::softcap::softcap;
use crate::profile::{Work, measure};
use ndarray::{ArrayView2, ShapeBuilder};

/// Targets of a pass, with how many of them count.
#[derive(Clone, Copy)]
pub struct Targets<'a> {
    /// One for each row.
    pub ids: &'a [i64],
    /// Rows with this target do not count.
    pub ignore_index: i64,
    /// How many count; never 0.
    pub kept: usize,
}

impl<'a> Targets<'a> {
    /// Counts the targets that are not ignored; refuses a batch without any, whose mean loss does not exist.
    pub fn new(labels: Labels<'a>) -> Result<Self> {
        let Labels { ids, ignore_index } = labels;
        let kept = ids.iter().filter(|&&t| t != ignore_index).count();
        if kept == 0 {
            let remedy = format!("at least one must differ from ignore_index = {ignore_index}");
            return Err(Error::value("loss", "targets", "ignored everywhere", remedy));
        }
        Ok(Targets { ids, ignore_index, kept })
    }

    fn chunk(&self, first: usize, rows: usize) -> &'a [i64] {
        &self.ids[first..first + rows]
    }
}

/// `logits` (N, V) of `normed` (N, C), capped where the family caps them.
pub fn logits<E: Scalar>(model: &Gpt, weights: Weights<'_>, n: usize, normed: &[E], logits: &mut [f32]) -> Result<()> {
    let v = model.config.vocab_size;
    model.layout.head.product("head", weights, n, normed, None, sums(logits, n, v, None, None))?;
    match model.config.logit_softcap {
        Some(cap) => measure("cap logits", Work::bytes(n * v * 8), || softcap(cap, view_mut(logits, n, v))),
        None => Ok(()),
    }
}

/// The loss of each row of `scratch.normed`, in nats; 0 where ignored.
pub fn losses<E: Scalar>(
    model: &Gpt,
    weights: Weights<'_>,
    n: usize,
    targets: Targets<'_>,
    scratch: &mut Scratch<'_, E>,
) -> Result<()> {
    let (c, v) = (model.config.n_embd, model.config.vocab_size);
    for first in (0..n).step_by(LOSS_ROWS) {
        let rows = LOSS_ROWS.min(n - first);
        logits(model, weights, rows, &scratch.normed[first * c..], scratch.logits)?;
        let (ids, chunk) = (targets.chunk(first, rows), view(scratch.logits, rows, v));
        let losses = &mut scratch.losses[first..first + rows];
        measure("loss", Work::bytes(rows * v * 4), || cross_entropy(chunk, ids, targets.ignore_index, 0.0, losses))?;
    }
    Ok(())
}

/// The loss of each row of `scratch.normed`; adds (or writes) `scale` x the gradient of the mean loss to the projection's
/// gradient and writes it for the normed rows, into `scratch.d_normed`.
pub fn losses_and_gradients<E: Scalar>(
    model: &Gpt,
    weights: Weights<'_>,
    grads: &mut Gradients<'_>,
    n: usize,
    targets: Targets<'_>,
    scale: f32,
    scratch: &mut Scratch<'_, E>,
) -> Result<()> {
    let (c, v, head) = (model.config.n_embd, model.config.vocab_size, &model.layout.head);
    let scale = (f64::from(scale) / targets.kept as f64) as f32;
    let mut grads = Gradients { data: grads.data, trained: grads.trained, beta: grads.beta, watch: None };
    for first in (0..n).step_by(LOSS_ROWS) {
        let rows = LOSS_ROWS.min(n - first);
        let hidden = &scratch.normed[first * c..];
        logits(model, weights, rows, hidden, scratch.logits)?;
        let losses = &mut scratch.losses[first..first + rows];
        let (ids, ignore) = (targets.chunk(first, rows), targets.ignore_index);
        let chunk = view_mut(scratch.logits, rows, v);
        measure("loss", Work::bytes(rows * v * (4 + size_of::<E>())), || {
            cross_entropy_inplace::<E>(chunk, ids, ignore, 0.0, model.config.logit_softcap, scale, losses)
        })?;
        let d_logits = narrowed(&scratch.logits[..rows * v], rows, v);
        let d_hidden = sums(&mut scratch.d_normed[first * c..], rows, c, None, None);
        head.backward_input("head, dX", weights, d_logits, None, d_hidden)?;
        head.backward_weights("head, dW", &mut grads, hidden, d_logits)?;
        grads.beta = Beta::Accumulate; // of the chunks that follow
    }
    Ok(())
}

/// The gradient `(rows, V)` that lies over `logits`: each row begins where its logits did.
fn narrowed<E: Scalar>(logits: &[f32], rows: usize, v: usize) -> ArrayView2<'_, E> {
    let stride = v * (size_of::<f32>() / size_of::<E>());
    ArrayView2::from_shape((rows, v).strides((stride, 1)), bytemuck::cast_slice(logits)).expect("rows of the logits")
}

/// The mean over the rows that count, added up in f64 in row order.
pub fn mean(losses: &[f32], targets: Targets<'_>) -> f64 {
    losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / targets.kept as f64
}
