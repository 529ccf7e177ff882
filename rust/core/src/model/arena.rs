//! Where activations live: one buffer, sized before the pass, reused by every step.
//!
//! A training pass keeps for each block what its backward cannot cheaply recompute: the input of both halves, the fused
//! q/k/v rows, attention's output with its log-sum-exp, and the MLP's pre-activation. Normed inputs and the activated
//! MLP rows are recomputed. An inference pass has one slot that all blocks share, and two rows of the residual stream.

use super::config::Config;
use crate::buffer::{Buffer, Carver, padded};
use crate::error::Result;

/// Rows of logits in one chunk of the loss: enough for the products to run at full speed, few enough for the cache.
pub const LOSS_ROWS: usize = 256;

/// The sizes of one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Sequences.
    pub b: usize,
    /// Positions of each.
    pub t: usize,
    /// Whether the backward pass follows.
    pub training: bool,
}

impl Shape {
    /// Rows: every position of every sequence.
    pub fn n(&self) -> usize {
        self.b * self.t
    }
}

/// What one block keeps.
pub struct Saved<'a> {
    /// Mean and reciprocal deviation of each row before attention `(N,)`.
    pub ln_1: [&'a mut [f32]; 2],
    /// Queries, keys and values side by side `(N, 3C)`.
    pub qkv: &'a mut [f32],
    /// Log-sum-exp of the scores `(B, H, T)`.
    pub lse: &'a mut [f32],
    /// Attention's output before its projection `(N, C)`.
    pub att: &'a mut [f32],
    /// Mean and reciprocal deviation of each row before the MLP `(N,)`.
    pub ln_2: [&'a mut [f32]; 2],
    /// The MLP's rows before the activation `(N, F)`.
    pub fc: &'a mut [f32],
}

/// What a pass writes on the way and needs no more after each block.
pub struct Scratch<'a> {
    /// A normed input `(N, C)`.
    pub normed: &'a mut [f32],
    /// The activated MLP rows `(N, F)`.
    pub act: &'a mut [f32],
    /// Gradient of the residual stream `(N, C)`.
    pub dx: &'a mut [f32],
    /// Gradients of C columns `(N, C)`, two of them.
    pub d_c: [&'a mut [f32]; 2],
    /// Gradient of the MLP's inner rows `(N, F)`.
    pub d_f: &'a mut [f32],
    /// Gradient of q, k and v `(N, 3C)`.
    pub d_qkv: &'a mut [f32],
    /// One chunk of logits, which become their gradient `(LOSS_ROWS, V)`.
    pub logits: &'a mut [f32],
    /// Loss of each position `(N,)`.
    pub losses: &'a mut [f32],
}

/// The pieces of one pass.
pub struct Activations<'a> {
    /// The residual stream: before and inside each block and at the end (training), or two that take turns.
    pub stream: Vec<&'a mut [f32]>,
    /// What each block keeps; one shared slot at inference.
    pub saved: Vec<Saved<'a>>,
    /// Mean and reciprocal deviation of each row before the head `(N,)`.
    pub ln_f: [&'a mut [f32]; 2],
    /// The rest.
    pub scratch: Scratch<'a>,
}

/// The buffer behind a pass.
pub struct Arena {
    buffer: Buffer,
}

impl Arena {
    /// An empty arena; the first pass sizes it.
    pub fn new() -> Self {
        Arena { buffer: Buffer::zeros(0, "activations").expect("nothing is allocated for no floats") }
    }

    /// The pieces for a pass of this shape. Grows the buffer where the shape is the largest yet.
    pub fn plan(&mut self, config: &Config, shape: Shape) -> Result<Activations<'_>> {
        self.buffer.ensure(floats(config, shape), "activations")?;
        Ok(carve(&mut self.buffer, config, shape))
    }
}

impl Default for Arena {
    fn default() -> Self {
        Self::new()
    }
}

/// Number of residual-stream states that a pass keeps.
fn stream_len(config: &Config, shape: Shape) -> usize {
    if shape.training { 2 * config.n_layer + 1 } else { 2 }
}

/// Number of slots for what blocks keep.
fn slots(config: &Config, shape: Shape) -> usize {
    if shape.training { config.n_layer } else { 1 }
}

/// Rows of the logits chunk of this pass.
fn logits_rows(shape: Shape) -> usize {
    shape.n().min(LOSS_ROWS)
}

/// Floats that a pass of this shape needs: the sum of everything that [`carve`] takes.
pub fn floats(config: &Config, shape: Shape) -> usize {
    let (n, c, f) = (shape.n(), config.n_embd, config.inner());
    let saved = 4 * padded(n) + padded(n * 3 * c) + padded(n * config.n_head) + padded(n * c) + padded(n * f);
    let backward = 3 * padded(n * c) + padded(n * f) + padded(n * 3 * c);
    stream_len(config, shape) * padded(n * c)
        + slots(config, shape) * saved
        + 3 * padded(n)
        + padded(n * c)
        + padded(n * f)
        + if shape.training { backward } else { 0 }
        + padded(logits_rows(shape) * config.vocab_size)
}

fn carve<'a>(buffer: &'a mut [f32], config: &Config, shape: Shape) -> Activations<'a> {
    let (n, c, f) = (shape.n(), config.n_embd, config.inner());
    let mut carver = Carver::new(buffer);
    let stream = (0..stream_len(config, shape)).map(|_| carver.take(n * c)).collect();
    let saved = (0..slots(config, shape))
        .map(|_| Saved {
            ln_1: [carver.take(n), carver.take(n)],
            qkv: carver.take(n * 3 * c),
            lse: carver.take(n * config.n_head),
            att: carver.take(n * c),
            ln_2: [carver.take(n), carver.take(n)],
            fc: carver.take(n * f),
        })
        .collect();
    let ln_f = [carver.take(n), carver.take(n)];
    // The backward pass has buffers of its own; inference gives them no room.
    let grad = |carver: &mut Carver<'a>, len: usize| carver.take(if shape.training { len } else { 0 });
    let scratch = Scratch {
        normed: carver.take(n * c),
        act: carver.take(n * f),
        losses: carver.take(n),
        dx: grad(&mut carver, n * c),
        d_c: [grad(&mut carver, n * c), grad(&mut carver, n * c)],
        d_f: grad(&mut carver, n * f),
        d_qkv: grad(&mut carver, n * 3 * c),
        logits: carver.take(logits_rows(shape) * config.vocab_size),
    };
    Activations { stream, saved, ln_f, scratch }
}
