//! The model: configuration, flat parameters, and the network forwards and backwards, in reading order.
//!
//! `config` -> `params` (names to offsets) -> `init` -> `arena` -> `forward` (`block`, `head`) -> `backward`;
//! `kv_cache` and `session` for generation; `weights` to and from files.

pub mod arena;
pub mod backward;
pub mod block;
pub mod config;
pub mod forward;
pub mod gradients;
pub mod head;
pub mod init;
pub mod kv_cache;
pub mod linear;
pub mod params;
pub mod session;
#[cfg(test)]
mod tests;
pub mod weights;

use crate::buffer::{self, Buffer};
use crate::error::{Error, Result};
use crate::kernels::check;
use crate::parallel;
use arena::{Activations, Arena, Shape};
use block::Masks;
use config::Config;
use forward::Pass;
use gradients::GradientBuffer;
use head::Targets;
use params::Layout;

/// A decoder with its weights and, once it has been trained, its gradients.
pub struct Gpt {
    /// Its shape.
    pub config: Config,
    /// Where each tensor lies.
    pub layout: Layout,
    /// All weights.
    pub params: Buffer,
    /// All gradients; absent until the first backward pass.
    grads: Option<GradientBuffer>,
    /// Activations of training passes.
    arena: Arena,
    /// Seed of the dropout masks.
    pub dropout_seed: u64,
    /// Training passes so far: the counter of the dropout masks.
    pub passes: u64,
}

impl Gpt {
    /// A model with fresh weights.
    pub fn new(config: Config, seed: u64) -> Result<Self> {
        config.validate()?;
        config.check_size()?;
        let layout = Layout::new(&config);
        let mut params = Buffer::zeros(layout.total, "parameters")?;
        init::initialise(&mut params, &layout, &config, seed);
        Ok(Gpt { config, layout, params, grads: None, arena: Arena::new(), dropout_seed: seed, passes: 0 })
    }

    /// Sequences and positions of `ids` (b, t): not empty, at most `block_size` long, inside the vocabulary.
    fn check_ids(&self, op: &'static str, ids: &[u32], b: usize, t: usize) -> Result<()> {
        check::len(op, "ids", ids.len(), b * t)?;
        if b == 0 || t == 0 {
            return Err(Error::value(op, "ids", "empty", "give at least one token"));
        }
        if t > self.config.block_size {
            let remedy = format!("at most block_size = {} fit; cut the sequence", self.config.block_size);
            return Err(Error::value(op, "ids", format!("{t} tokens long"), remedy));
        }
        check::ids(op, ids, self.config.vocab_size)
    }

    fn check_targets(&self, op: &'static str, ids: &[u32], targets: &[i64], ignore_index: i64) -> Result<()> {
        check::len(op, "targets", targets.len(), ids.len())?;
        check::targets(op, targets, self.config.vocab_size, ignore_index)
    }

    /// Runs the network up to the last block, without dropout, inside the pool; `finish` makes the result of what it left.
    fn infer<R: Send>(
        &self,
        arena: &mut Arena,
        ids: &[u32],
        b: usize,
        t: usize,
        finish: impl FnOnce(Pass<'_>, Activations<'_>) -> Result<R> + Send,
    ) -> Result<R> {
        parallel::install(|| {
            let pass = Pass { model: self, shape: Shape { b, t, training: false }, masks: None };
            let mut acts = arena.plan(&self.config, pass.shape)?;
            pass.blocks(ids, 0, None, &mut acts)?;
            finish(pass, acts)
        })
    }

    /// Logits (b, t, vocab_size) of `ids` (b, t), without dropout.
    pub fn forward(&self, arena: &mut Arena, ids: &[u32], b: usize, t: usize) -> Result<Vec<f32>> {
        self.check_ids("forward", ids, b, t)?;
        self.infer(arena, ids, b, t, |pass, mut acts| {
            pass.last_norm(&mut acts)?;
            let mut logits = buffer::zeros(b * t * self.config.vocab_size, "logits")?;
            head::logits(self, b * t, acts.scratch.normed, &mut logits)?;
            Ok(logits)
        })
    }

    /// Logits (vocab_size,) after the last of `ids`; a longer sequence is cut to its last `block_size` tokens.
    pub fn last_logits(&self, arena: &mut Arena, ids: &[u32]) -> Result<Vec<f32>> {
        let ids = &ids[ids.len().saturating_sub(self.config.block_size)..];
        self.check_ids("last_logits", ids, 1, ids.len())?;
        self.infer(arena, ids, 1, ids.len(), |pass, mut acts| {
            pass.last_row_norm(&mut acts)?;
            let mut logits = buffer::zeros(self.config.vocab_size, "logits")?;
            head::logits(self, 1, acts.scratch.normed, &mut logits)?;
            Ok(logits)
        })
    }

    /// The loss of each position in nats, 0 where its target is `ignore_index`, without dropout.
    pub fn token_losses(
        &self,
        arena: &mut Arena,
        ids: &[u32],
        targets: &[i64],
        b: usize,
        t: usize,
        ignore_index: i64,
    ) -> Result<Vec<f32>> {
        self.check_ids("loss", ids, b, t)?;
        self.check_targets("loss", ids, targets, ignore_index)?;
        self.infer(arena, ids, b, t, |pass, mut acts| {
            pass.last_norm(&mut acts)?;
            let targets = Targets { ids: targets, ignore_index, kept: 1 };
            let scratch = acts.scratch;
            head::losses(self, b * t, scratch.normed, targets, scratch.logits, scratch.losses)?;
            Ok(scratch.losses.to_vec())
        })
    }

    /// The mean loss in nats over the targets that are not `ignore_index`, without dropout.
    pub fn loss(
        &self,
        arena: &mut Arena,
        ids: &[u32],
        targets: &[i64],
        b: usize,
        t: usize,
        ignore_index: i64,
    ) -> Result<f64> {
        let kept = Targets::new(targets, ignore_index)?;
        Ok(head::mean(&self.token_losses(arena, ids, targets, b, t, ignore_index)?, kept))
    }

    /// The mean loss, with dropout; adds `scale` x its gradient to the gradient buffer.
    ///
    /// A panic on the way, which the door reports, leaves no gradients rather than half-made ones: the next update then
    /// asks for a backward pass.
    pub fn backward(
        &mut self,
        ids: &[u32],
        targets: &[i64],
        b: usize,
        t: usize,
        ignore_index: i64,
        scale: f32,
    ) -> Result<f64> {
        self.check_ids("backward", ids, b, t)?;
        self.check_targets("backward", ids, targets, ignore_index)?;
        let targets = Targets::new(targets, ignore_index)?;
        let mut grads = match self.grads.take() {
            Some(grads) => grads,
            None => GradientBuffer::new(self.layout.total)?,
        };
        let mut arena = std::mem::take(&mut self.arena);
        let loss = parallel::install(|| {
            let pass = Pass { model: self, shape: Shape { b, t, training: true }, masks: self.masks() };
            let mut acts = arena.plan(&self.config, pass.shape)?;
            pass.blocks(ids, 0, None, &mut acts)?;
            let (data, fresh) = grads.begin();
            if fresh {
                gradients::zero(data);
            }
            pass.backward(data, ids, targets, scale, &mut acts)
        });
        self.arena = arena;
        self.grads = Some(grads);
        self.passes = self.passes.wrapping_add(u64::from(loss.is_ok()));
        loss
    }

    fn masks(&self) -> Option<Masks> {
        let places = 1 + 3 * self.config.n_layer as u64;
        let (p, seed, pass) = (self.config.dropout, self.dropout_seed, self.passes);
        (p > 0.0).then_some(Masks { p, seed, pass, places })
    }

    /// All gradients, or `None` before the first backward pass.
    pub fn grads(&mut self) -> Option<&[f32]> {
        self.grads.as_mut().map(|grads| &*grads.settle())
    }

    /// Weights to change, gradients (none before the first backward pass), and where tensors lie.
    pub fn update_parts(&mut self) -> (&mut [f32], Option<&mut GradientBuffer>, &Layout) {
        (&mut self.params, self.grads.as_mut(), &self.layout)
    }

    /// Sets every gradient to 0.
    pub fn zero_grad(&mut self) {
        if let Some(grads) = &mut self.grads {
            grads.zero();
        }
    }

    /// The first tensor in the order of the forward pass that holds a NaN or an infinity, among weights or gradients.
    pub fn first_nonfinite(&self, gradients: bool) -> Option<&str> {
        let bad = |range: &std::ops::Range<usize>| match gradients {
            false => !self.params[range.clone()].iter().all(|x| x.is_finite()),
            true => self.grads.as_ref().is_some_and(|grads| grads.has_nonfinite(range)),
        };
        self.layout.tensors.iter().find(|tensor| bad(&tensor.range)).map(|tensor| tensor.name.as_str())
    }
}
