//! Guessing ahead: tokens that may follow go through the network together with one that does, for the weights are read once
//! for all of them.
//!
//! Nothing changes but the speed. A row of a pass has the bits that it has alone, so the logits behind a guess are those that
//! the token itself would get; they wait until the sampler, which knows nothing of guesses, has drawn. If it drew the
//! guess, the pass for it is saved; if not, what was read of the guesses is forgotten. So every text is the one without
//! guesses, token for token, for any rule of sampling and any seed, which is more than the same distribution.
//!
//! Sources: Leviathan et al., "Fast inference from transformers via speculative decoding", 2023, whose rule of acceptance a
//! draw by the same random numbers replaces; Saxena, "Prompt lookup decoding", 2023.

use super::Gpt;
use super::session::Session;
use crate::error::{Error, Result};
use std::collections::VecDeque;

/// Says what may follow a sequence.
pub trait Guess: Send {
    /// Up to `most` tokens that may come after `ids`.
    fn guess(&mut self, ids: &[u32], most: usize) -> Result<Vec<u32>>;

    /// One that goes on by itself.
    fn fork(&self) -> Result<Box<dyn Guess>>;
}

/// Looks for what came last in the text before, and guesses what followed it there.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    /// The most tokens that are looked for together.
    pub longest: usize,
}

impl Guess for Lookup {
    fn guess(&mut self, ids: &[u32], most: usize) -> Result<Vec<u32>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        for n in (1..=self.longest.min(ids.len().saturating_sub(1))).rev() {
            let (before, last) = ids.split_at(ids.len() - n);
            // The newest place with something behind it; it may overlap the end.
            let found = (0..before.len()).rev().find(|&at| &ids[at..at + n] == last);
            if let Some(at) = found {
                let follows = &ids[at + n..];
                return Ok(follows[..most.min(follows.len())].to_vec());
            }
        }
        Ok(Vec::new())
    }

    fn fork(&self) -> Result<Box<dyn Guess>> {
        Ok(Box::new(*self))
    }
}

/// Up to `most` tokens after `ids`, the most probable ones of another model, whose `session` follows the text.
pub fn draft(model: &Gpt, session: &mut Session, ids: &[u32], most: usize) -> Result<Vec<u32>> {
    let most = most.min(model.config.block_size.saturating_sub(ids.len() + 1));
    if most == 0 {
        return Ok(Vec::new());
    }
    session.follow(model, ids)?;
    let mut guesses = Vec::with_capacity(most);
    loop {
        let best = session.logits().iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
        guesses.push(best.map_or(0, |(id, _)| id as u32));
        if guesses.len() == most {
            return Ok(guesses);
        }
        session.append(model, &guesses[guesses.len() - 1..])?;
    }
}

/// How a session guesses.
pub struct Speculation {
    guess: Box<dyn Guess>,
    /// The most tokens that are guessed at a time.
    tokens: usize,
    /// How many were guessed, and how many of these were drawn.
    pub count: Count,
}

/// What became of guesses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Tokens that were guessed.
    pub made: u64,
    /// Those that were drawn.
    pub right: u64,
}

/// More tokens than this make a pass dearer than they save.
pub const MOST: usize = 64;

impl Speculation {
    /// Guesses of up to `tokens` tokens.
    pub fn new(guess: Box<dyn Guess>, tokens: usize) -> Result<Self> {
        if tokens == 0 || tokens > MOST {
            return Err(Error::value("speculate", "tokens", tokens, format!("guess 1 to {MOST} at a time")));
        }
        Ok(Speculation { guess, tokens, count: Count::default() })
    }

    /// The same for a copy of the session.
    pub fn fork(&self) -> Result<Self> {
        Ok(Speculation { guess: self.guess.fork()?, tokens: self.tokens, count: Count::default() })
    }

    /// What may come after `ids`, of which there may be `room` more.
    pub fn guesses(&mut self, ids: &[u32], room: usize) -> Result<Vec<u32>> {
        let guesses = self.guess.guess(ids, self.tokens.min(room))?;
        self.count.made += guesses.len() as u64;
        Ok(guesses)
    }
}

/// Guesses that were read, each with the logits behind it.
pub type Ahead = VecDeque<(u32, Vec<f32>)>;
