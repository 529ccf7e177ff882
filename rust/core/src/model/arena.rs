//! Where activations live: one buffer, sized before the pass, reused by every step.
//!
//! A training pass keeps for each block what its backward cannot cheaply recompute: the input of both halves, the fused
//! q/k/v rows, attention's output with its log-sum-exp, and the MLP's pre-activation. Normed inputs, turned queries and
//! keys, and the activated MLP rows are recomputed. With gradient checkpointing a pass keeps the blocks' inputs alone, and
//! the backward pass computes each block once more (Chen et al., "Training deep nets with sublinear memory cost", 2016).
//! An inference pass keeps nothing: one slot that all blocks share, and two rows of the residual stream.
//!
//! The residual stream, its gradient, statistics and logits are float32; rows that products read are of type `E`.

use super::adapter::apply::Widths;
use super::config::{Config, Mlp};
use crate::buffer::{Buffer, Carver, padded};
use crate::error::Result;
use crate::simd::Element;

/// Rows of logits in one chunk of the loss: enough for the products to run at full speed, few enough for memory.
pub const LOSS_ROWS: usize = 512;

/// What a pass keeps for a backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// No backward pass follows.
    Nothing,
    /// The inputs of the blocks, which are computed again on the way back.
    Inputs,
    /// All that the backward pass reads.
    Everything,
}

/// The sizes of one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Sequences.
    pub b: usize,
    /// Positions of each.
    pub t: usize,
    /// What is kept.
    pub keep: Keep,
    /// What an adapter needs.
    pub adapter: Widths,
}

impl Shape {
    /// Rows: every position of every sequence.
    pub fn n(&self) -> usize {
        self.b * self.t
    }

    /// Whether a backward pass follows.
    pub fn is_training(&self) -> bool {
        self.keep != Keep::Nothing
    }

    /// Place of the input of block `layer` in the stream; that of block `n_layer` is the last state.
    pub fn input(&self, layer: usize) -> usize {
        match self.keep {
            Keep::Nothing => 0,
            Keep::Inputs => layer + 1,
            Keep::Everything => 2 * layer,
        }
    }

    /// Place in the stream of what lies between the halves of block `layer`.
    pub fn middle(&self, layer: usize) -> usize {
        match self.keep {
            Keep::Nothing => 1,
            Keep::Inputs => 0,
            Keep::Everything => 2 * layer + 1,
        }
    }

    /// Which slot holds what block `layer` keeps.
    pub fn slot(&self, layer: usize) -> usize {
        if self.keep == Keep::Everything { layer } else { 0 }
    }
}

/// What one block keeps.
pub struct Saved<'a, E> {
    /// Mean and reciprocal deviation of each row before attention `(N,)`.
    pub norm_1: [&'a mut [f32]; 2],
    /// Queries, keys and values side by side `(N, H D + 2 KV)`.
    pub qkv: &'a mut [E],
    /// Reciprocal roots of the mean squares of query and key heads `(N, H)`, `(N, KVH)`; empty where they are not normed.
    pub qk_rstd: [&'a mut [f32]; 2],
    /// Log-sum-exp of the scores `(B, H, T)`.
    pub lse: &'a mut [f32],
    /// Attention's output before its projection `(N, H D)`.
    pub att: &'a mut [E],
    /// What attention adds to the stream before its norm `(N, C)`; empty where it is neither normed nor scaled.
    pub branch_1: &'a mut [f32],
    /// Mean and reciprocal deviation of each of its rows `(N,)`.
    pub post_1: [&'a mut [f32]; 2],
    /// Mean and reciprocal deviation of each row before the MLP `(N,)`.
    pub norm_2: [&'a mut [f32]; 2],
    /// The MLP's rows before the activation `(N, F)`, gate and up side by side where it is gated `(N, 2F)`.
    pub up: &'a mut [E],
    /// What the MLP adds to the stream before its norm `(N, C)`; empty where it is neither normed nor scaled.
    pub branch_2: &'a mut [f32],
    /// Mean and reciprocal deviation of each of its rows `(N,)`.
    pub post_2: [&'a mut [f32]; 2],
    /// What an adapter makes of the inputs of each linear layer `(N, r)`; empty where it has no share in it.
    pub low: [&'a mut [E]; 4],
}

/// What a pass writes on the way and needs no more after each block.
pub struct Scratch<'a, E> {
    /// A normed input `(N, C)`.
    pub normed: &'a mut [E],
    /// Queries and keys, normed and rotated `(N, H D + KV)`; empty where they are neither.
    pub qk: &'a mut [E],
    /// The activated MLP rows `(N, F)`.
    pub act: &'a mut [E],
    /// What is left of a layer's input for its adapter `(N, in)`; empty where nothing falls out.
    pub dropped: &'a mut [E],
    /// Gradient of the residual stream `(N, C)`.
    pub dx: &'a mut [f32],
    /// The same as an operand of products, and dropped where there is dropout `(N, C)`.
    pub d_out: &'a mut [E],
    /// Gradient of a normed input `(N, C)`.
    pub d_normed: &'a mut [f32],
    /// Gradient of what a half of a block adds before its norm `(N, C)`; empty where it is not normed.
    pub d_branch: &'a mut [f32],
    /// Gradient of `Saved::low` `(N, r)`.
    pub d_low: &'a mut [E],
    /// Gradient of attention's output `(N, H D)`.
    pub d_att: &'a mut [E],
    /// Gradient of the activated MLP rows `(N, F)`, where they do not become those of the rows before at once.
    pub d_act: &'a mut [E],
    /// Gradient of the MLP's rows before the activation, as `Saved::up`.
    pub d_up: &'a mut [E],
    /// Gradient of queries, keys and values `(N, H D + 2 KV)`.
    pub d_qkv: &'a mut [E],
    /// One chunk of logits, then of their gradient `(LOSS_ROWS, V)`.
    pub logits: &'a mut [f32],
    /// Loss of each position `(N,)`.
    pub losses: &'a mut [f32],
}

/// The pieces of one pass.
pub struct Activations<'a, E> {
    /// The residual stream, at the places that [`Shape`] names `(N, C)`.
    pub stream: Vec<&'a mut [f32]>,
    /// What blocks keep, at the places that [`Shape`] names.
    pub saved: Vec<Saved<'a, E>>,
    /// Mean and reciprocal deviation of each row before the head `(N,)`.
    pub last_norm: [&'a mut [f32]; 2],
    /// The rest.
    pub scratch: Scratch<'a, E>,
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
    pub fn plan<E: Element>(&mut self, config: &Config, shape: Shape) -> Result<Activations<'_, E>> {
        let sizes = Sizes::new::<E>(config, shape);
        self.buffer.ensure(sizes.floats::<E>(), "activations")?;
        Ok(sizes.carve(&mut self.buffer))
    }
}

impl Default for Arena {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes of activations of a pass of this shape, with rows of type `E`.
pub fn bytes<E: Element>(config: &Config, shape: Shape) -> usize {
    4 * Sizes::new::<E>(config, shape).floats::<E>()
}

/// The lengths of all pieces.
struct Sizes {
    /// States of the stream.
    states: usize,
    /// Slots for what blocks keep.
    slots: usize,
    /// Rows.
    n: usize,
    /// Rows times columns of the stream.
    nc: usize,
    lse: usize,
    qk_rstd: [usize; 2],
    qkv: usize,
    att: usize,
    up: usize,
    /// Rows times columns of what each half of a block adds, where that is kept.
    branch: [usize; 2],
    /// Rows of its norm's statistics.
    post: usize,
    low: [usize; 4],
    dropped: usize,
    d_low: usize,
    act: usize,
    qk: usize,
    d_stream: usize,
    d_branch: usize,
    d_att: usize,
    d_out: usize,
    d_act: usize,
    d_up: usize,
    d_qkv: usize,
    logits: usize,
}

impl Sizes {
    fn new<E: Element>(config: &Config, shape: Shape) -> Self {
        let (n, c, l) = (shape.n(), config.n_embd, config.n_layer);
        let logits = n.min(LOSS_ROWS) * config.vocab_size;
        // The backward pass has buffers of its own; inference gives them no room.
        let back = |needed: bool, len: usize| if shape.is_training() && needed { len } else { 0 };
        let (states, slots) = match shape.keep {
            Keep::Nothing => (2, 1),
            Keep::Inputs => (l + 2, 1),
            Keep::Everything => (2 * l + 1, l),
        };
        let (qkv, att) = (n * config.qkv_width(), n * config.q_width());
        let (up, act) = (n * config.up_width(), n * config.inner());
        Sizes {
            states,
            slots,
            n,
            nc: n * c,
            lse: n * config.n_head,
            qk_rstd: [config.n_head, config.kv_heads()].map(|heads| if config.qk_norm { n * heads } else { 0 }),
            qkv,
            att,
            up,
            branch: shape.adapter.branch.map(|kept| if kept || config.post_norm { n * c } else { 0 }),
            post: if config.post_norm { n } else { 0 },
            low: shape.adapter.rank.map(|rank| n * rank),
            dropped: if shape.is_training() { n * shape.adapter.dropped } else { 0 },
            d_low: back(true, n * shape.adapter.rank.into_iter().max().unwrap_or(0)),
            act,
            qk: if config.turns_queries() { n * config.qk_width() } else { 0 },
            d_stream: back(true, n * c),
            d_branch: back(config.post_norm, n * c),
            d_att: back(true, att),
            d_out: back(E::HALF || config.dropout > 0.0 || shape.adapter.scaled, n * c),
            d_act: back(config.mlp == Mlp::Gated || shape.adapter.d_act, act),
            d_up: back(true, up),
            d_qkv: back(true, qkv),
            logits,
        }
    }

    /// Floats of everything that [`Sizes::carve`] takes.
    fn floats<E: Element>(&self) -> usize {
        let rows = |len: usize| padded((len * size_of::<E>()).div_ceil(size_of::<f32>()));
        let rstd = padded(self.qk_rstd[0]) + padded(self.qk_rstd[1]);
        let branches = padded(self.branch[0]) + padded(self.branch[1]) + 4 * padded(self.post);
        let low: usize = self.low.map(rows).iter().sum();
        let saved =
            4 * padded(self.n) + rstd + rows(self.qkv) + padded(self.lse) + rows(self.att) + rows(self.up) + low;
        let forward = [self.nc, self.qk, self.act, self.dropped];
        let back = [self.d_out, self.d_low, self.d_att, self.d_act, self.d_up, self.d_qkv];
        self.states * padded(self.nc)
            + self.slots * (saved + branches)
            + 3 * padded(self.n)
            + forward.map(rows).iter().sum::<usize>()
            + back.map(rows).iter().sum::<usize>()
            + 2 * padded(self.d_stream)
            + padded(self.d_branch)
            + padded(self.logits)
    }

    fn carve<'a, E: Element>(&self, buffer: &'a mut [f32]) -> Activations<'a, E> {
        let mut carver = Carver::new(buffer);
        let stream = (0..self.states).map(|_| carver.take(self.nc)).collect();
        let saved = (0..self.slots)
            .map(|_| Saved {
                norm_1: [carver.take(self.n), carver.take(self.n)],
                qkv: carver.take_as(self.qkv),
                qk_rstd: self.qk_rstd.map(|len| carver.take(len)),
                lse: carver.take(self.lse),
                att: carver.take_as(self.att),
                branch_1: carver.take(self.branch[0]),
                post_1: [carver.take(self.post), carver.take(self.post)],
                norm_2: [carver.take(self.n), carver.take(self.n)],
                up: carver.take_as(self.up),
                branch_2: carver.take(self.branch[1]),
                post_2: [carver.take(self.post), carver.take(self.post)],
                low: self.low.map(|len| carver.take_as(len)),
            })
            .collect();
        let last_norm = [carver.take(self.n), carver.take(self.n)];
        let scratch = Scratch {
            normed: carver.take_as(self.nc),
            qk: carver.take_as(self.qk),
            act: carver.take_as(self.act),
            dropped: carver.take_as(self.dropped),
            dx: carver.take(self.d_stream),
            d_out: carver.take_as(self.d_out),
            d_normed: carver.take(self.d_stream),
            d_branch: carver.take(self.d_branch),
            d_low: carver.take_as(self.d_low),
            d_att: carver.take_as(self.d_att),
            d_act: carver.take_as(self.d_act),
            d_up: carver.take_as(self.d_up),
            d_qkv: carver.take_as(self.d_qkv),
            logits: carver.take(self.logits),
            losses: carver.take(self.n),
        };
        Activations { stream, saved, last_norm, scratch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::bf16;

    #[test]
    fn the_plan_takes_what_it_asked_for() {
        for (mlp, dropout) in [(Mlp::Plain, 0.0), (Mlp::Gated, 0.1)] {
            let config = Config { mlp, dropout, n_head: 2, n_kv_head: Some(1), ..crate::model::tests::tiny() };
            let adapted = Widths { rank: [3, 0, 2, 5], dropped: 6, branch: [true, false], d_act: true, scaled: true };
            for keep in [Keep::Nothing, Keep::Inputs, Keep::Everything] {
                for adapter in [Widths::default(), adapted] {
                    let shape = Shape { b: 3, t: 5, keep, adapter };
                    check::<f32>(&config, shape);
                    check::<bf16>(&config, shape);
                }
            }
        }
    }

    fn check<E: Element>(config: &Config, shape: Shape) {
        let sizes = Sizes::new::<E>(config, shape);
        let mut buffer = Buffer::zeros(sizes.floats::<E>(), "test").unwrap();
        let end = buffer.as_ptr_range().end as usize;
        let pieces = sizes.carve::<E>(&mut buffer);
        // The last piece, padded to a cache line, ends where the buffer does.
        let last = pieces.scratch.losses.as_ptr() as usize + 4 * padded(shape.n());
        assert_eq!(last, end);
        assert_eq!(bytes::<E>(config, shape), 4 * sizes.floats::<E>());
        let middle = shape.middle(1);
        assert!(middle < pieces.stream.len() && middle != shape.input(1) && middle != shape.input(2));
    }
}
