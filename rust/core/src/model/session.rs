//! Sequences being generated, alone or many in one pass: ids, cache and random numbers of each.
//!
//! Pick a token, append it, feed it back. While the sequence fits `block_size`, a new token costs one row of the network.
//! Past that the window slides: every kept token moves by one position and the window is computed anew,
//! exactly as when the last `block_size` tokens were fed in one piece.

use super::Gpt;
use super::arena::{Arena, Keep};
use super::forward::{Pass, Ropes};
use super::head;
use super::kv_cache::{Growing, KvCache};
use super::linear::Weights;
use super::speculation::{Ahead, Count, Speculation};
use crate::buffer;
use crate::error::{Error, Result};
use crate::kernels::check;
use crate::kernels::matmul::{Precision, Scalar};
use crate::parallel;
use crate::progress::{Listener, report};
use crate::rng::{Philox, Stream};
use crate::sampling::logprobs::{Logprobs, logprobs};
use crate::sampling::{self, History, Options};
use crate::simd::bf16;

/// The state of one generation.
pub struct Session {
    ids: Vec<u32>,
    cache: KvCache,
    arena: Arena,
    logits: Vec<f32>,
    drawn: u64,
    speculation: Option<Speculation>,
    /// What the cache holds beyond the sequence.
    ahead: Ahead,
    /// What the model was ([`Gpt::changes`]) when it computed all this.
    changes: u64,
}

impl Session {
    /// An empty sequence for `model`.
    pub fn new(model: &Gpt) -> Result<Self> {
        Ok(Self::at(Vec::new(), KvCache::new(&model.config, model.generation_precision())?, model.changes()))
    }

    /// A sequence whose keys and values are there.
    fn at(ids: Vec<u32>, cache: KvCache, changes: u64) -> Self {
        let (arena, ahead) = (Arena::new(), Ahead::new());
        Session { ids, cache, arena, logits: Vec::new(), drawn: 0, speculation: None, ahead, changes }
    }

    /// A session that goes on from where this one is, on its own: the same tokens, cache and draws to come.
    pub fn fork(&self) -> Result<Self> {
        let speculation = self.speculation.as_ref().map(Speculation::fork).transpose()?;
        let cache = self.cache.prefix(self.cache.len() - self.ahead.len())?.expect("no window slides over guesses");
        let (logits, drawn) = (self.logits.clone(), self.drawn);
        Ok(Session { logits, drawn, speculation, ..Self::at(self.ids.clone(), cache, self.changes) })
    }

    /// A session that has read the first `len` tokens of this one and has no logits yet: what it computes next has the bits
    /// that it has in a session of its own. Nothing where the block, or the window of a layer, has slid away from them.
    pub fn prefix(&self, len: usize) -> Result<Option<Self>> {
        if len > self.ids.len() || self.cache.len() - self.ahead.len() != self.ids.len() {
            return Ok(None);
        }
        Ok(self.cache.prefix(len)?.map(|cache| Self::at(self.ids[..len].to_vec(), cache, self.changes)))
    }

    /// Guesses ahead from here on, or no longer.
    pub fn speculate(&mut self, speculation: Option<Speculation>) {
        self.forget_ahead();
        self.speculation = speculation;
    }

    /// What became of the guesses.
    pub fn guesses(&self) -> Count {
        self.speculation.as_ref().map_or(Count::default(), |speculation| speculation.count)
    }

    /// Becomes the sequence `ids`; what it has read of their beginning is kept.
    pub fn follow(&mut self, model: &Gpt, ids: &[u32]) -> Result<()> {
        self.forget_ahead();
        let same = self.ids.iter().zip(ids).take_while(|(a, b)| a == b).count();
        // The last one is read again, for its logits, unless it is the last of both.
        let is_there = same == ids.len() && same == self.ids.len() && self.changes == model.changes();
        let kept = if is_there { same } else { same.min(ids.len().saturating_sub(1)) };
        if kept < self.ids.len() {
            if self.cache.len() == self.ids.len() {
                self.cache.truncate(kept);
            } else {
                self.cache.clear();
            }
            self.ids.truncate(kept);
        }
        self.append(model, &ids[kept..])
    }

    /// Forgets what another state of the model has computed: its weights or its adapter have changed since.
    fn refresh(&mut self, model: &Gpt) -> Result<()> {
        if self.changes == model.changes() {
            return Ok(());
        }
        self.ahead.clear();
        match self.cache.precision() == model.generation_precision() {
            true => self.cache.clear(),
            false => self.cache = KvCache::new(&model.config, model.generation_precision())?,
        }
        self.changes = model.changes();
        Ok(())
    }

    fn forget_ahead(&mut self) {
        self.cache.truncate(self.cache.len() - self.ahead.len());
        self.ahead.clear();
    }

    /// Takes `id` as what was guessed, if it was: there is nothing to compute then.
    fn take_guess(&mut self, id: u32) -> bool {
        match self.ahead.pop_front() {
            Some((guess, logits)) if guess == id => {
                self.ids.push(id);
                self.logits = logits;
                if let Some(speculation) = &mut self.speculation {
                    speculation.count.right += 1;
                }
                true
            }
            Some(_) => {
                self.cache.truncate(self.cache.len() - self.ahead.len() - 1);
                self.ahead.clear();
                false
            }
            None => false,
        }
    }

    /// Bytes of the keys and values that it holds.
    pub fn cache_bytes(&self) -> usize {
        self.cache.bytes()
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
        let mut arena = std::mem::take(&mut self.arena);
        let outcome = append_all(model, &mut arena, &mut [Part { session: self, new }]);
        self.arena = arena;
        outcome
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
        // On the caller's thread, though each token is computed in the pool: signals come to no other.
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

/// A session and what it is to read.
pub struct Part<'a> {
    /// The session.
    pub session: &'a mut Session,
    /// Its new tokens.
    pub new: &'a [u32],
}

/// Appends to each session its new tokens, all in one pass over the weights, and computes the logits after the last of
/// each. What a session gets has the bits that it has alone. After an error all sequences are what they were, but
/// for those whose one token had been guessed: they have it, for nothing was left to fail.
pub fn append_all(model: &Gpt, arena: &mut Arena, parts: &mut [Part<'_>]) -> Result<()> {
    for part in &mut *parts {
        check::ids("generate", part.new, model.config.vocab_size)?;
        part.session.refresh(model)?;
    }
    let mut parts: Vec<&mut Part<'_>> = parts.iter_mut().filter(|part| !part.new.is_empty()).collect();
    parts.retain_mut(|part| match part.new {
        [id] => !part.session.take_guess(*id),
        _ => {
            part.session.forget_ahead();
            true
        }
    });
    if parts.is_empty() {
        return Ok(());
    }
    let before: Vec<usize> = parts.iter().map(|part| part.session.ids.len()).collect();
    let computed = compute_all(model, arena, &mut parts);
    if computed.is_err() {
        parts.iter_mut().zip(before).for_each(|(part, before)| part.session.ids.truncate(before));
    }
    computed
}

/// The same for tokens that are to be computed; after an error sequences may have become longer.
fn compute_all(model: &Gpt, arena: &mut Arena, parts: &mut [&mut Part<'_>]) -> Result<()> {
    let mut fresh = Vec::new(); // ids to compute, of all sessions
    let planned = parts.iter_mut().map(|part| plan(model, part, &mut fresh)).collect::<Result<Vec<_>>>()?;
    let growing = parts
        .iter_mut()
        .zip(&planned)
        .map(|(part, rows)| Growing { cache: &mut part.session.cache, t: rows.own + rows.guesses });
    // The rows whose logits are wanted: the last one of each session and its guesses.
    let mut wanted = Vec::new();
    let mut first = 0;
    for Planned { own, guesses } in &planned {
        wanted.extend(first + own - 1..first + own + guesses);
        first += own + guesses;
    }
    let logits = match model.generation_precision() {
        Precision::Float32 => compute::<f32>(model, arena, growing.collect(), &fresh, &wanted),
        Precision::Bfloat16 => compute::<bf16>(model, arena, growing.collect(), &fresh, &wanted),
    }?;
    let mut logits = logits.chunks_exact(model.config.vocab_size).map(<[f32]>::to_vec);
    let mut fresh = fresh.as_slice();
    for (part, Planned { own, guesses }) in parts.iter_mut().zip(planned) {
        part.session.logits = logits.next().expect("logits of each session");
        let (ours, others) = fresh.split_at(own + guesses);
        part.session.ahead = ours[own..].iter().copied().zip(logits.by_ref().take(guesses)).collect();
        fresh = others;
    }
    Ok(())
}

/// Rows of a session in a pass.
struct Planned {
    /// Tokens that it has and that are to be computed.
    own: usize,
    /// Guesses behind them.
    guesses: usize,
}

/// Lengthens a session by its new tokens, and adds to `fresh` the ids that have to be computed: these alone where the cache
/// holds what is before them, all that the block has room for where it does not; and what is guessed.
fn plan(model: &Gpt, part: &mut Part<'_>, fresh: &mut Vec<u32>) -> Result<Planned> {
    let block_size = model.config.block_size;
    let Session { ids, cache, speculation, .. } = &mut *part.session;
    let mut start = ids.len();
    ids.extend_from_slice(part.new);
    if ids.len() > block_size || cache.len() != start {
        cache.clear();
        start = ids.len().saturating_sub(block_size);
    }
    fresh.extend_from_slice(&ids[start..]);
    let mut guesses = Vec::new();
    if let (Some(speculation), [_]) = (speculation, part.new) {
        guesses = speculation.guesses(ids, block_size.saturating_sub(ids.len()))?;
        guesses.retain(|&id| (id as usize) < model.config.vocab_size);
    }
    fresh.extend_from_slice(&guesses);
    Ok(Planned { own: ids.len() - start, guesses: guesses.len() })
}

/// Runs `new` tokens, those of all sequences one after the other, behind those in the caches; the logits after those in
/// places `wanted`, row by row.
fn compute<E: Scalar>(
    model: &Gpt,
    arena: &mut Arena,
    mut growing: Vec<Growing<'_>>,
    new: &[u32],
    wanted: &[usize],
) -> Result<Vec<f32>> {
    parallel::install(|| {
        let (shape, prepared) = (model.shape(1, new.len(), Keep::Nothing), model.prepared()?);
        let mut positions = Vec::with_capacity(new.len());
        for Growing { cache, t } in &mut growing {
            cache.reserve(cache.len() + *t)?;
            positions.extend((cache.len()..cache.len() + *t).map(|position| position as u32));
        }
        let ropes = &Ropes::at(&model.config, &positions)?;
        let adapted = model.adapted(prepared.as_deref(), None);
        let weights = Weights { adapted, direct: true, ..model.bare() };
        let pass = Pass { model, weights, shape, positions: Some(&positions), documents: None, ropes, masks: None };
        let mut acts = arena.plan::<E>(&model.config, shape)?;
        pass.blocks(new, &mut growing, &mut acts)?;
        pass.last_norm_of(wanted, &mut acts)?;
        let mut logits = buffer::zeros(wanted.len() * model.config.vocab_size, "logits")?;
        head::logits(model, pass.weights, wanted.len(), acts.scratch.normed, &mut logits)?;
        Ok(logits)
    })
}

/// Draws the next token of each session by its options and mask, as [`Session::sample`] does, on all threads.
pub fn sample_all(draws: Vec<(&mut Session, &Options, Option<&[u8]>)>) -> Vec<Result<u32>> {
    parallel::map(draws, |(session, options, mask)| session.sample(options, mask))
}
