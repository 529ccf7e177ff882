//! One sequence being generated: its ids, its cache and its random numbers.
//!
//! Pick a token, append it, feed it back. While the sequence fits `block_size`, a new token costs one row of the network.
//! Past that the window slides: every kept token moves by one position and the window is computed anew,
//! exactly as when the last `block_size` tokens were fed in one piece.

use super::Gpt;
use super::arena::{Arena, Keep};
use super::forward::{Pass, Ropes};
use super::head;
use super::kv_cache::KvCache;
use super::linear::Weights;
use crate::buffer;
use crate::error::{Error, Result};
use crate::kernels::check;
use crate::parallel;
use crate::progress::{Listener, report};
use crate::rng::{Philox, Stream};
use crate::sampling::logprobs::{Logprobs, logprobs};
use crate::sampling::{self, History, Options};

/// The state of one generation.
pub struct Session {
    ids: Vec<u32>,
    cache: KvCache<f32>,
    arena: Arena,
    logits: Vec<f32>,
    drawn: u64,
}

impl Session {
    /// An empty sequence for `model`.
    pub fn new(model: &Gpt) -> Result<Self> {
        let cache = KvCache::new(&model.config)?;
        Ok(Session { ids: Vec::new(), cache, arena: Arena::new(), logits: Vec::new(), drawn: 0 })
    }

    /// A session that goes on from where this one is, on its own: the same tokens, cache and draws to come.
    pub fn fork(&self) -> Result<Self> {
        let (ids, logits, cache) = (self.ids.clone(), self.logits.clone(), self.cache.fork()?);
        Ok(Session { ids, cache, arena: Arena::new(), logits, drawn: self.drawn })
    }

    /// The sequence so far.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The logits after the last token; empty before the first.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Appends tokens and computes the logits after the last of them. After an error the sequence is what it was.
    pub fn append(&mut self, model: &Gpt, new: &[u32]) -> Result<()> {
        check::ids("generate", new, model.config.vocab_size)?;
        if new.is_empty() {
            return Ok(());
        }
        let block_size = model.config.block_size;
        let before = self.ids.len();
        self.ids.extend_from_slice(new);
        let mut start = before;
        if self.ids.len() > block_size || self.cache.len() != before {
            self.cache.clear();
            start = self.ids.len().saturating_sub(block_size);
        }
        match compute(model, &mut self.arena, &mut self.cache, &self.ids[start..]) {
            Ok(logits) => self.logits = logits,
            Err(error) => {
                self.ids.truncate(before);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Draws the next token by `options`, of those alone whose bits are set in `mask`, without appending it.
    pub fn sample(&mut self, options: &Options, mask: Option<&[u8]>) -> Result<u32> {
        self.check_begun()?;
        let u = Philox::new(options.seed, Stream::Sample, 0).uniform(self.drawn);
        let id = sampling::sample(&self.logits, self.history(), options, mask, u)?;
        self.drawn += 1;
        Ok(id)
    }

    /// The `n` tokens that a beam goes on with, and their log probabilities; counts as a draw.
    pub fn best(&mut self, options: &Options, n: usize) -> Result<Vec<(u32, f64)>> {
        self.check_begun()?;
        let best = sampling::best(&self.logits, self.history(), options, n)?;
        self.drawn += 1;
        Ok(best)
    }

    /// The log probability of `id` as the next token before all rules, and those of the `n` most probable ones.
    pub fn logprobs(&self, id: u32, n: usize) -> Result<Logprobs> {
        self.check_begun()?;
        check::ids("logprobs", &[id], self.logits.len())?;
        logprobs(&self.logits, id, n)
    }

    fn history(&self) -> History<'_> {
        History { ids: &self.ids, drawn: self.drawn as usize }
    }

    fn check_begun(&self) -> Result<()> {
        if self.logits.is_empty() {
            return Err(Error::value("generate", "ids", "empty", "append at least one token before sampling"));
        }
        Ok(())
    }

    /// Samples and appends up to `max_new_tokens`, ending after a token of `stop_ids` is drawn (it is not appended).
    /// Returns the new tokens.
    pub fn run(
        &mut self,
        model: &Gpt,
        max_new_tokens: usize,
        options: &Options,
        stop_ids: &[u32],
        listener: &mut Listener<'_>,
    ) -> Result<Vec<u32>> {
        let start = self.ids.len();
        for done in 0..max_new_tokens {
            let id = self.sample(options, None)?;
            if stop_ids.contains(&id) {
                break;
            }
            self.append(model, &[id])?;
            report(listener, done as u64 + 1, max_new_tokens as u64)?;
        }
        Ok(self.ids[start..].to_vec())
    }
}

/// Runs `new` tokens behind those in the cache; the logits after the last.
fn compute(model: &Gpt, arena: &mut Arena, cache: &mut KvCache<f32>, new: &[u32]) -> Result<Vec<f32>> {
    parallel::install(|| {
        let (shape, prepared) = (model.shape(1, new.len(), Keep::Nothing), model.prepared()?);
        let ropes = &Ropes::new(&model.config, cache.len(), new.len())?;
        let adapted = model.adapted(prepared.as_deref(), None);
        let weights = Weights { adapted, direct: true, ..model.bare() };
        let pass = Pass { model, weights, shape, first: cache.len(), documents: None, ropes, masks: None };
        cache.reserve(cache.len() + new.len())?;
        let mut acts = arena.plan(&model.config, shape)?;
        pass.blocks(new, Some(cache), &mut acts)?;
        pass.last_row_norm(&mut acts)?;
        let mut logits = buffer::zeros(model.config.vocab_size, "logits")?;
        head::logits(model, pass.weights, 1, acts.scratch.normed, &mut logits)?;
        Ok(logits)
    })
}
