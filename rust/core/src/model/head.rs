//! The output projection and the loss, a chunk of rows at a time, so that logits of a whole batch are never in memory.
//!
//! Logits of a chunk, their loss, their gradient and its two products are made one after the other while the chunk is
//! in the cache (the chunked form of Liger-Kernel's fused linear cross-entropy).

use super::Gpt;
use super::arena::LOSS_ROWS;
use super::linear::{view, view_mut};
use crate::error::{Error, Result};
use crate::kernels::Beta;
use crate::kernels::cross_entropy::{cross_entropy, cross_entropy_inplace};
use crate::kernels::matmul::{Epilogue, matmul};

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
    pub fn new(ids: &'a [i64], ignore_index: i64) -> Result<Self> {
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

/// `logits` (N, V) of `normed` (N, C).
pub fn logits(model: &Gpt, n: usize, normed: &[f32], logits: &mut [f32]) -> Result<()> {
    let (c, v) = (model.config.n_embd, model.config.vocab_size);
    let head = view(&model.params[model.layout.lm_head.clone()], v, c);
    matmul(view(normed, n, c), head.reversed_axes(), view_mut(logits, n, v), Beta::Overwrite, Epilogue::default())
}

/// The loss of each row, in nats; 0 where ignored.
pub fn losses(
    model: &Gpt,
    n: usize,
    normed: &[f32],
    targets: Targets<'_>,
    chunk: &mut [f32],
    losses: &mut [f32],
) -> Result<()> {
    let (c, v) = (model.config.n_embd, model.config.vocab_size);
    for first in (0..n).step_by(LOSS_ROWS) {
        let rows = LOSS_ROWS.min(n - first);
        logits(model, rows, &normed[first * c..], chunk)?;
        let ids = targets.chunk(first, rows);
        cross_entropy(view(chunk, rows, v), ids, targets.ignore_index, 0.0, &mut losses[first..first + rows])?;
    }
    Ok(())
}

/// The loss of each row; adds `scale` x the gradient of the mean loss to the projection's gradient and writes it for
/// `normed`.
pub fn losses_and_gradients(
    model: &Gpt,
    grads: &mut [f32],
    n: usize,
    normed: &[f32],
    targets: Targets<'_>,
    scale: f32,
    chunk: &mut [f32],
    losses: &mut [f32],
    d_normed: &mut [f32],
) -> Result<()> {
    let (c, v) = (model.config.n_embd, model.config.vocab_size);
    let head = view(&model.params[model.layout.lm_head.clone()], v, c);
    let d_head = &mut grads[model.layout.lm_head.clone()];
    let scale = (f64::from(scale) / targets.kept as f64) as f32;
    for first in (0..n).step_by(LOSS_ROWS) {
        let rows = LOSS_ROWS.min(n - first);
        let hidden = &normed[first * c..];
        logits(model, rows, hidden, chunk)?;
        let losses = &mut losses[first..first + rows];
        let ids = targets.chunk(first, rows);
        cross_entropy_inplace(view_mut(chunk, rows, v), ids, targets.ignore_index, 0.0, scale, losses)?;
        let d_logits = view(chunk, rows, v); // (rows, V)
        let d_hidden = view_mut(&mut d_normed[first * c..], rows, c);
        matmul(d_logits, head, d_hidden, Beta::Overwrite, Epilogue::default())?;
        let d_head = view_mut(d_head, v, c);
        matmul(d_logits.reversed_axes(), view(hidden, rows, c), d_head, Beta::Accumulate, Epilogue::default())?;
    }
    Ok(())
}

/// The mean over the rows that count, added up in f64 in row order.
pub fn mean(losses: &[f32], targets: Targets<'_>) -> f64 {
    losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / targets.kept as f64
}
