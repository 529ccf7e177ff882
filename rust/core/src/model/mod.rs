//! The model: configuration, flat parameters, and the network forwards and backwards, in reading order.
//!
//! `config` -> `params` (names to offsets) -> `init` -> `arena` -> `forward` (`block`, `head`) -> `backward` -> `buckets`,
//! both ways together in `training`;
//! `documents` are those that share a row; `packs` keeps weights in the order of products, `quantized` in few bits;
//! `adapter` and `adapting` are what is laid over the weights, `trained` what of it all is trained; `kv_cache`, `session` and
//! `speculation` for generation, `scoring` for the log probability of each token of a text; `inside` shows what a pass makes
//! on the way; `source` is where weights come from, `weights` and `gguf` are to and from files.

pub mod adapter;
pub mod adapting;
pub mod arena;
pub mod backward;
pub mod block;
pub mod buckets;
pub mod config;
pub mod documents;
pub mod forward;
pub mod gguf;
pub mod gradients;
pub mod head;
pub mod init;
pub mod inside;
pub mod kv_cache;
pub mod linear;
pub mod packs;
pub mod params;
pub mod quantized;
pub mod rows;
pub mod scoring;
pub mod session;
pub mod source;
pub mod speculation;
#[cfg(test)]
mod tests;
pub mod trained;
pub mod training;
pub mod weights;

use crate::buffer::{self, Buffer};
use crate::error::{Error, Result};
use crate::kernels::check;
use crate::kernels::matmul::{Precision, Scalar};
use crate::parallel;
use crate::simd::bf16;
use adapter::apply::Widths;
use adapter::apply::{self, Adapted};
use adapter::prepared::Prepared;
use adapting::Adapters;
use arena::{Activations, Arena, Keep, Shape};
use config::Config;
use forward::{Pass, Ropes};
use gradients::GradientBuffer;
use head::Targets;
use linear::Weights;
use packs::Packs;
use params::{Extent, Layout};
use quantized::Quantized;
use rows::{Labels, Rows};
use std::sync::Arc;
use trained::Trained;

/// A decoder with its weights and, once it has been trained, its gradients.
pub struct Gpt {
    /// Its shape.
    pub config: Config,
    /// Where each tensor lies.
    pub layout: Layout,
    /// What the products of training and evaluation multiply.
    precision: Precision,
    /// Whether the backward pass computes each block once more instead of keeping its activations.
    pub gradient_checkpointing: bool,
    /// All weights but those in `quantized`; changed through [`Gpt::params_mut`] or [`Gpt::update_parts`], which see to
    /// the packed copies.
    pub(crate) params: Buffer,
    /// The weights of the blocks' linear layers, where they are kept in few bits.
    quantized: Option<Quantized>,
    /// Counts the changes of the weights.
    version: u64,
    /// Counts all that changes what a pass computes, be it weights or adapters: what was computed before is then stale.
    changes: u64,
    /// Weights packed for the products of training, where they are kept.
    packs: Option<Packs>,
    /// What changes the weights without being part of them.
    adapters: Adapters,
    /// Which tensors are not frozen.
    unfrozen: Vec<bool>,
    /// What is trained: these, or the adapter in use.
    trained: Trained,
    /// The gradients of what is trained; absent until the first backward pass.
    grads: Option<GradientBuffer>,
    /// Activations of training passes.
    arena: Arena,
    /// Seed of the dropout masks.
    pub dropout_seed: u64,
    /// Training passes so far: the counter of the dropout masks.
    pub passes: u64,
    /// Rows of the batch that other processes compute before those of the next training pass: its masks are those that
    /// they have in the whole batch.
    pub rows_before: u64,
}

/// Bytes that a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Weights.
    pub parameters: usize,
    /// Gradients.
    pub gradients: usize,
    /// Weights packed for products, or the room where those in few bits are decoded for them.
    pub packed: usize,
    /// Activations.
    pub activations: usize,
}

impl Gpt {
    /// A model with fresh weights, whose products are float32.
    pub fn new(config: Config, seed: u64) -> Result<Self> {
        let mut model = Gpt { dropout_seed: seed, ..Self::blank(config)? };
        init::initialise(&mut model.params, &model.layout, &model.config, seed);
        Ok(model)
    }

    /// A model whose weights are zeros, to be read from somewhere: memory that nobody writes takes neither time nor room.
    pub fn blank(config: Config) -> Result<Self> {
        config.validate()?;
        config.check_size()?;
        let layout = Layout::new(&config);
        let params = Buffer::zeros(layout.total, "parameters")?;
        let unfrozen = vec![true; layout.tensors.len()];
        let trained = Trained::new(&layout, unfrozen.clone(), 0);
        Ok(Gpt {
            config,
            layout,
            adapters: Adapters::default(),
            unfrozen,
            trained,
            precision: Precision::Float32,
            gradient_checkpointing: false,
            params,
            quantized: None,
            version: 0,
            changes: 0,
            packs: None,
            grads: None,
            arena: Arena::new(),
            dropout_seed: 0,
            passes: 0,
            rows_before: 0,
        })
    }

    /// What the products of training and evaluation multiply.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Chooses what the products of training and evaluation multiply; weights stay float32.
    pub fn set_precision(&mut self, precision: Precision) {
        if self.precision != precision {
            (self.precision, self.packs) = (precision, None);
        }
    }

    /// What rows, keys and values are while text is written: float32, but beside weights that are all in few bits.
    pub fn generation_precision(&self) -> Precision {
        if self.layout.quantized == Extent::Everything { Precision::Bfloat16 } else { Precision::Float32 }
    }

    /// What rows are in a pass without gradients.
    fn inference_precision(&self) -> Precision {
        if self.layout.quantized == Extent::Everything { Precision::Bfloat16 } else { self.precision }
    }

    /// All weights that are kept as float32 numbers.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// The same, to be changed.
    pub fn params_mut(&mut self) -> &mut [f32] {
        self.weights_change();
        &mut self.params
    }

    /// Weights are about to change.
    fn weights_change(&mut self) {
        self.version += 1;
        self.changes += 1;
    }

    /// Grows with each change of weights or adapters.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The weights as products of type `E` read them: packed where fresh copies are kept.
    fn weights<'a, E: Scalar>(&'a self, prepared: Option<&'a Prepared>) -> Weights<'a> {
        let fresh = self.packs.as_ref().filter(|packs| packs.are_of(self.version));
        let packs = fresh.filter(|_| self.precision == E::PRECISION);
        Weights { packs, adapted: self.adapted(prepared, None), ..self.bare() }
    }

    /// The weights as they are kept, without an adapter.
    fn bare(&self) -> Weights<'_> {
        let direct = self.layout.quantized == Extent::Everything;
        Weights { params: &self.params, quantized: self.quantized.as_ref(), packs: None, adapted: None, direct }
    }

    /// The adapter in use, for a pass.
    fn adapted<'a>(&'a self, prepared: Option<&'a Prepared>, dropout: Option<apply::Masks>) -> Option<Adapted<'a>> {
        let (adapter, prepared) = self.adapters.active().zip(prepared)?;
        Some(Adapted { adapter, prepared, dropout })
    }

    /// What that reads of it, if there is one.
    fn prepared(&self) -> Result<Option<Arc<Prepared>>> {
        let active = self.adapters.active();
        active.map(|adapter| adapter.prepared(&self.layout, self.bare(), self.version)).transpose()
    }

    /// The sizes of a pass over `b` sequences of `t` tokens.
    fn shape(&self, b: usize, t: usize, keep: Keep) -> Shape {
        Shape { b, t, keep, adapter: self.adapters.active().map_or_else(Widths::default, |a| a.widths(&self.layout)) }
    }

    /// Bytes that passes over `b` sequences of `t` tokens take, at most: a model that is quantized as a whole decodes nothing
    /// without gradients.
    pub fn memory(&self, b: usize, t: usize, training: bool) -> Memory {
        let shape = self.shape(b, t, if training { self.keep() } else { Keep::Nothing });
        let activations = match if training { self.precision } else { self.inference_precision() } {
            Precision::Float32 => arena::bytes::<f32>(&self.config, shape),
            Precision::Bfloat16 => arena::bytes::<bf16>(&self.config, shape),
        };
        let floats = self.layout.total + self.adapters.active().map_or(0, |a| a.params().len());
        let quantized = self.quantized.as_ref();
        let parameters = 4 * floats + quantized.map_or(0, Quantized::bytes);
        let room = quantized.map_or(0, Quantized::room_bytes);
        let (gradients, packed) = match training {
            true => (4 * self.trained.total(), Packs::bytes(&self.layout, self.precision) + room),
            false => (0, room),
        };
        Memory { parameters, gradients, packed, activations }
    }

    fn keep(&self) -> Keep {
        if self.gradient_checkpointing { Keep::Inputs } else { Keep::Everything }
    }

    /// Rows of `ids` (b, t): not empty, at most `block_size` long, inside the vocabulary, with documents of their own.
    fn check_rows(&self, op: &'static str, rows: Rows<'_>) -> Result<()> {
        let Rows { ids, b, t, documents } = rows;
        check::len(op, "ids", ids.len(), b * t)?;
        if b == 0 || t == 0 {
            return Err(Error::value(op, "ids", "empty", "give at least one token"));
        }
        if t > self.config.block_size {
            let remedy = format!("at most block_size = {} fit; cut the sequence", self.config.block_size);
            return Err(Error::value(op, "ids", format!("{t} tokens long"), remedy));
        }
        check::ids(op, ids, self.config.vocab_size)?;
        documents.map_or(Ok(()), |documents| documents.check(op, b, t))
    }

    fn check_labels(&self, op: &'static str, rows: Rows<'_>, labels: Labels<'_>) -> Result<()> {
        check::len(op, "targets", labels.ids.len(), rows.ids.len())?;
        check::targets(op, labels.ids, self.config.vocab_size, labels.ignore_index)
    }

    /// Makes room for a pass without dropout; `run` makes it, inside the pool.
    fn pass<E: Scalar, R: Send>(
        &self,
        arena: &mut Arena,
        rows: Rows<'_>,
        run: impl FnOnce(Pass<'_>, Activations<'_, E>) -> Result<R> + Send,
    ) -> Result<R> {
        let Rows { b, t, documents, .. } = rows;
        parallel::install(|| {
            let (shape, prepared) = (self.shape(b, t, Keep::Nothing), self.prepared()?);
            let (weights, ropes) = (self.weights::<E>(prepared.as_deref()), &Ropes::new(&self.config, t)?);
            let pass = Pass { model: self, weights, shape, positions: None, documents, ropes, masks: None };
            run(pass, arena.plan(&self.config, shape)?)
        })
    }

    /// Runs the network up to the last block, without dropout, inside the pool; `finish` makes the result of what it left.
    fn infer<E: Scalar, R: Send>(
        &self,
        arena: &mut Arena,
        rows: Rows<'_>,
        finish: impl FnOnce(Pass<'_>, Activations<'_, E>) -> Result<R> + Send,
    ) -> Result<R> {
        self.pass(arena, rows, |pass, mut acts| {
            pass.blocks(rows.ids, &mut [], &mut acts)?;
            finish(pass, acts)
        })
    }

    /// Logits (b, t, vocab_size), without dropout.
    pub fn forward(&self, arena: &mut Arena, rows: Rows<'_>) -> Result<Vec<f32>> {
        self.check_rows("forward", rows)?;
        match self.inference_precision() {
            Precision::Float32 => self.forward_as::<f32>(arena, rows),
            Precision::Bfloat16 => self.forward_as::<bf16>(arena, rows),
        }
    }

    fn forward_as<E: Scalar>(&self, arena: &mut Arena, rows: Rows<'_>) -> Result<Vec<f32>> {
        self.infer::<E, _>(arena, rows, |pass, mut acts| {
            pass.last_norm(&mut acts)?;
            let mut logits = buffer::zeros(rows.n() * self.config.vocab_size, "logits")?;
            head::logits(self, pass.weights, rows.n(), acts.scratch.normed, &mut logits)?;
            Ok(logits)
        })
    }

    /// Logits (vocab_size,) after the last of `ids`, with the rows of generation; a longer sequence is cut to its last
    /// `block_size` tokens.
    pub fn last_logits(&self, arena: &mut Arena, ids: &[u32]) -> Result<Vec<f32>> {
        let row = Rows::one(&ids[ids.len().saturating_sub(self.config.block_size)..]);
        self.check_rows("last_logits", row)?;
        match self.generation_precision() {
            Precision::Float32 => self.last_logits_as::<f32>(arena, row),
            Precision::Bfloat16 => self.last_logits_as::<bf16>(arena, row),
        }
    }

    fn last_logits_as<E: Scalar>(&self, arena: &mut Arena, row: Rows<'_>) -> Result<Vec<f32>> {
        self.infer::<E, _>(arena, row, |pass, mut acts| {
            pass.last_norm_of(&[row.t - 1], &mut acts)?;
            let mut logits = buffer::zeros(self.config.vocab_size, "logits")?;
            head::logits(self, pass.weights, 1, acts.scratch.normed, &mut logits)?;
            Ok(logits)
        })
    }

    /// The loss of each position in nats, 0 where its label does not count, without dropout.
    pub fn token_losses(&self, arena: &mut Arena, rows: Rows<'_>, labels: Labels<'_>) -> Result<Vec<f32>> {
        self.check_rows("loss", rows)?;
        self.check_labels("loss", rows, labels)?;
        let targets = Targets { ids: labels.ids, ignore_index: labels.ignore_index, kept: 1 };
        match self.inference_precision() {
            Precision::Float32 => self.token_losses_as::<f32>(arena, rows, targets),
            Precision::Bfloat16 => self.token_losses_as::<bf16>(arena, rows, targets),
        }
    }

    fn token_losses_as<E: Scalar>(&self, arena: &mut Arena, rows: Rows<'_>, targets: Targets<'_>) -> Result<Vec<f32>> {
        self.infer::<E, _>(arena, rows, |pass, mut acts| {
            pass.last_norm(&mut acts)?;
            head::losses(self, pass.weights, rows.n(), targets, &mut acts.scratch)?;
            Ok(acts.scratch.losses.to_vec())
        })
    }

    /// The mean loss in nats over the labels that count, without dropout.
    pub fn loss(&self, arena: &mut Arena, rows: Rows<'_>, labels: Labels<'_>) -> Result<f64> {
        let kept = Targets::new(labels)?;
        Ok(head::mean(&self.token_losses(arena, rows, labels)?, kept))
    }
}
