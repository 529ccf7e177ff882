//! The network in reading order: embeddings, blocks, last norm. The head is in `head.rs`.

use super::Gpt;
use super::arena::{Activations, Shape};
use super::block::{Context, Masks, Place, attn, mlp, norm_forward};
use super::kv_cache::KvCache;
use super::linear::{view, view_mut};
use crate::error::Result;
use crate::kernels::dropout::dropout;
use crate::kernels::embedding::{add_positions, embedding};

/// Two different states of the residual stream: one to read, one to write.
fn pair<'s>(stream: &'s mut [&mut [f32]], read: usize, write: usize) -> (&'s [f32], &'s mut [f32]) {
    if read < write {
        let (before, after) = stream.split_at_mut(write);
        (before[read], after[0])
    } else {
        let (before, after) = stream.split_at_mut(read);
        (after[0], before[write])
    }
}

/// One pass over a batch: what is the same for all of its operations.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    /// The model.
    pub model: &'a Gpt,
    /// Sizes of the batch.
    pub shape: Shape,
    /// Dropout, while training.
    pub masks: Option<Masks>,
}

impl<'a> Pass<'a> {
    /// What block `layer` looks at.
    pub fn context(&self, layer: usize) -> Context<'a> {
        let model = self.model;
        Context {
            config: &model.config,
            params: &model.params,
            block: &model.layout.blocks[layer],
            b: self.shape.b,
            t: self.shape.t,
            dropout: self.masks,
            layer,
        }
    }

    /// Place of the `i`-th state of the residual stream: each has its own (training), or two take turns.
    fn state(&self, i: usize) -> usize {
        if self.shape.training { i } else { i % 2 }
    }

    /// Place of the last state of the residual stream.
    pub fn last_state(&self) -> usize {
        self.state(2 * self.model.config.n_layer)
    }

    /// `stream[0] = wte[ids] + wpe[first..]`, (N, C).
    fn embed(&self, ids: &[u32], first: usize, acts: &mut Activations<'_>) -> Result<()> {
        let Gpt { config, layout, params, .. } = self.model;
        let (n, c) = (self.shape.n(), config.n_embd);
        let x = &mut *acts.stream[0];
        embedding(view(&params[layout.wte.clone()], config.vocab_size, c), ids, view_mut(x, n, c))?;
        let positions = view(&params[layout.wpe.clone()], config.block_size, c);
        add_positions(positions, first, self.shape.t, view_mut(x, n, c))?;
        match self.masks {
            Some(masks) => dropout(x, masks.at(Place::Embedding)),
            None => Ok(()),
        }
    }

    /// Embeddings and blocks. `first` is the position of each sequence's first token; with a `cache` the tokens are the
    /// newest of the one sequence that it holds.
    pub fn blocks(
        &self,
        ids: &[u32],
        first: usize,
        mut cache: Option<&mut KvCache>,
        acts: &mut Activations<'_>,
    ) -> Result<()> {
        self.embed(ids, first, acts)?;
        for layer in 0..self.model.config.n_layer {
            let cx = self.context(layer);
            let saved = &mut acts.saved[if self.shape.training { layer } else { 0 }];
            let kept = cache.as_deref_mut().map(|cache| cache.layer(layer, self.shape.t));
            let (x, mid) = pair(&mut acts.stream, self.state(2 * layer), self.state(2 * layer + 1));
            attn::forward(cx, x, saved, &mut acts.scratch, kept, mid)?;
            let (mid, out) = pair(&mut acts.stream, self.state(2 * layer + 1), self.state(2 * layer + 2));
            mlp::forward(cx, mid, saved, &mut acts.scratch, out)?;
        }
        if let Some(cache) = cache {
            cache.advance(self.shape.t);
        }
        Ok(())
    }

    /// The last norm over all rows, into `scratch.normed` (N, C).
    pub fn last_norm(&self, acts: &mut Activations<'_>) -> Result<()> {
        let Gpt { config, layout, params, .. } = self.model;
        let x = &*acts.stream[self.last_state()];
        norm_forward(&layout.ln_f, config, params, self.shape.n(), x, &mut acts.ln_f, acts.scratch.normed)
    }

    /// The last norm over the last row alone, into the first row of `scratch.normed`.
    pub fn last_row_norm(&self, acts: &mut Activations<'_>) -> Result<()> {
        let Gpt { config, layout, params, .. } = self.model;
        let c = config.n_embd;
        let x = &acts.stream[self.last_state()][(self.shape.n() - 1) * c..];
        norm_forward(&layout.ln_f, config, params, 1, x, &mut acts.ln_f, acts.scratch.normed)
    }
}
