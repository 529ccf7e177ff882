//! The network in reading order: embeddings, blocks, last norm. The head is in `head.rs`.

use super::Gpt;
use super::arena::{Activations, Saved, Shape};
use super::block::{Context, Masks, Place, attn, mlp, norm_forward};
use super::config::Config;
use super::documents::Documents;
use super::kv_cache::{Growing, LayerCache};
use super::linear::{Weights, view, view_mut};
use crate::error::Result;
use crate::kernels::dropout::dropout;
use crate::kernels::embedding::{add_embedding, add_positions, embedding};
use crate::kernels::matmul::Scalar;
use crate::kernels::residual::scale_assign;
use crate::kernels::rope::{Pairing, Rope, Waves};
use crate::profile::{Work, measure};
use std::sync::Arc;

/// Two different states of the residual stream: one to read, one to write.
pub fn pair<'s>(stream: &'s mut [&mut [f32]], read: usize, write: usize) -> (&'s [f32], &'s mut [f32]) {
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
    /// Its weights, packed where they are.
    pub weights: Weights<'a>,
    /// Sizes of the batch.
    pub shape: Shape,
    /// Positions of the tokens, where they are not `0..t` in each sequence or those of its documents.
    pub positions: Option<&'a [u32]>,
    /// The documents in the sequences, where they hold several; positions are theirs then.
    pub documents: Option<&'a Documents>,
    /// Angles of the positions of a sequence.
    pub ropes: &'a Ropes,
    /// Dropout, while training.
    pub masks: Option<Masks>,
}

/// The angles of a pass's positions, for each kind of waves that the model's blocks have: none, one or two.
pub struct Ropes {
    tables: Vec<(Waves, Arc<Rope>)>,
}

impl Ropes {
    /// The angles of the positions `0..t`.
    pub fn new(config: &Config, t: usize) -> Result<Self> {
        Self::of_all(config, |waves| Rope::shared(Pairing::Half, waves, t))
    }

    /// The angles of `positions`.
    pub fn at(config: &Config, positions: &[u32]) -> Result<Self> {
        let positions: Vec<usize> = positions.iter().map(|&position| position as usize).collect();
        Self::of_all(config, |waves| Ok(Arc::new(Rope::new(Pairing::Half, waves, &positions)?)))
    }

    fn of_all(config: &Config, table: impl Fn(Waves) -> Result<Arc<Rope>>) -> Result<Self> {
        let mut tables: Vec<(Waves, Arc<Rope>)> = Vec::new();
        for waves in (0..config.n_layer).filter_map(|layer| config.waves(layer)) {
            if tables.iter().all(|(known, _)| *known != waves) {
                tables.push((waves, table(waves)?));
            }
        }
        Ok(Ropes { tables })
    }

    /// Those of block `layer`, where it rotates queries and keys.
    fn of(&self, config: &Config, layer: usize) -> Option<&Rope> {
        let waves = config.waves(layer)?;
        self.tables.iter().find(|(known, _)| *known == waves).map(|(_, rope)| &**rope)
    }
}

impl<'a> Pass<'a> {
    /// What block `layer` looks at.
    pub fn context(&self, layer: usize) -> Context<'a> {
        Context {
            config: &self.model.config,
            weights: self.weights,
            block: &self.model.layout.blocks[layer],
            rope: self.ropes.of(&self.model.config, layer),
            b: self.shape.b,
            t: self.shape.t,
            documents: self.documents,
            dropout: self.masks,
            layer,
        }
    }

    /// Place of the last state of the residual stream.
    pub fn last_state(&self) -> usize {
        self.shape.input(self.model.config.n_layer)
    }

    /// The first state of the stream: `wte[ids] (* scale) (+ wpe[first..])`, (N, C).
    pub fn embed<E: Scalar>(&self, ids: &[u32], acts: &mut Activations<'_, E>) -> Result<()> {
        let Gpt { config, layout, params, .. } = self.model;
        let (n, c) = (self.shape.n(), config.n_embd);
        let x = &mut *acts.stream[self.shape.input(0)];
        measure("embedding", Work::bytes(n * c * 8), || {
            match self.weights.quantized.and_then(|quantized| quantized.layer(&layout.head)) {
                Some(table) if config.tie_embeddings => {
                    for (&id, x) in ids.iter().zip(x.chunks_exact_mut(c)) {
                        table.decode(id as usize..id as usize + 1, x)?;
                    }
                }
                _ => embedding(view(&params[layout.wte.clone()], config.vocab_size, c), ids, view_mut(x, n, c))?,
            }
            if let Some(scale) = config.embedding_scale() {
                scale_assign(x, scale);
            }
            if let Some(wpe) = layout.wpe.clone() {
                let (table, x) = (view(&params[wpe], config.block_size, c), view_mut(x, n, c));
                match self.positions.or(self.documents.map(Documents::positions)) {
                    None => add_positions(table, 0, self.shape.t, x)?,
                    Some(positions) => add_embedding(table, positions, x)?,
                }
            }
            match self.masks {
                Some(masks) => dropout(x, masks.at(Place::Embedding)),
                None => Ok(()),
            }
        })
    }

    /// Embeddings and blocks. Where sequences are `growing`, the tokens are the newest of each of them, one after the
    /// other: rows of one sequence for all that looks at rows alone, with positions of their own.
    pub fn blocks<E: Scalar>(
        &self,
        ids: &[u32],
        growing: &mut [Growing<'_>],
        acts: &mut Activations<'_, E>,
    ) -> Result<()> {
        self.embed(ids, acts)?;
        for layer in 0..self.model.config.n_layer {
            let kept = growing.iter_mut().map(|one| one.layer(layer)).collect();
            self.block(layer, kept, acts)?;
        }
        growing.iter_mut().for_each(Growing::advance);
        Ok(())
    }

    /// Block `layer`, from its input in the stream to that of the next.
    pub fn block<E: Scalar>(
        &self,
        layer: usize,
        caches: Vec<LayerCache<'_, E>>,
        acts: &mut Activations<'_, E>,
    ) -> Result<()> {
        let (cx, shape) = (self.context(layer), self.shape);
        let saved = &mut acts.saved[shape.slot(layer)];
        let (x, middle) = pair(&mut acts.stream, shape.input(layer), shape.middle(layer));
        attn::forward(cx, x, saved, &mut acts.scratch, caches, middle)?;
        let (middle, out) = pair(&mut acts.stream, shape.middle(layer), shape.input(layer + 1));
        mlp::up(cx, middle, saved, &mut acts.scratch)?;
        mlp::down(cx, middle, saved, &mut acts.scratch, out)
    }

    /// The last norm over all rows, into `scratch.normed` (N, C).
    pub fn last_norm<E: Scalar>(&self, acts: &mut Activations<'_, E>) -> Result<()> {
        let Gpt { config, layout, params, .. } = self.model;
        let x = &*acts.stream[self.last_state()];
        norm_forward(&layout.last_norm, config, params, self.shape.n(), x, &mut acts.last_norm, acts.scratch.normed)
    }

    /// The last norm over some `rows` alone, into the first rows of `scratch.normed`.
    pub fn last_norm_of<E: Scalar>(&self, rows: &[usize], acts: &mut Activations<'_, E>) -> Result<()> {
        let Gpt { config, layout, params, .. } = self.model;
        let c = config.n_embd;
        for (&row, y) in rows.iter().zip(acts.scratch.normed.chunks_exact_mut(c)) {
            let x = &acts.stream[self.last_state()][row * c..];
            norm_forward(&layout.last_norm, config, params, 1, x, &mut acts.last_norm, y)?;
        }
        Ok(())
    }

    /// Block `layer` once more from its input: what gradient checkpointing did not keep. It ends with the activated rows,
    /// but where the last layer is normed or adapted.
    pub fn recompute<E: Scalar>(&self, layer: usize, acts: &mut Activations<'_, E>) -> Result<()> {
        let (cx, shape) = (self.context(layer), self.shape);
        let saved: &mut Saved<'_, E> = &mut acts.saved[shape.slot(layer)];
        let (x, middle) = pair(&mut acts.stream, shape.input(layer), shape.middle(layer));
        attn::forward(cx, x, saved, &mut acts.scratch, Vec::new(), middle)?;
        mlp::up(cx, middle, saved, &mut acts.scratch)?;
        if cx.block.post_2.is_none() && !cx.block.down.is_adapted(cx.weights) {
            return Ok(());
        }
        // The way back reads what the MLP's last layer left; the output is written over with itself.
        let (middle, out) = pair(&mut acts.stream, shape.middle(layer), shape.input(layer + 1));
        mlp::down(cx, middle, saved, &mut acts.scratch, out)
    }
}
