//! Encoding: special tokens, pieces, ids; long texts on all threads.

use super::added::Found;
use super::bpe::encode::Encoder;
use super::corpus::OnInvalid;
use super::pipeline::{Part, Pipeline};
use super::special::{Matcher, Rules, Which};
use super::tasks::{Task, Tasks};
use super::{Model, Tokenizer};
use crate::error::{Error, Result};
use crate::pages::prefer_huge;
use crate::parallel;
use crate::progress::{self, Listener};

/// Bytes that one thread encodes before the next hand-out.
pub(super) const TASK: usize = 1 << 17;

/// Tasks between two looks at the listener.
pub(super) const WAVE: usize = 128;

/// What a call says about special tokens and unknown text.
#[derive(Clone, Copy, Debug)]
pub struct EncodeOptions<'a> {
    /// Special tokens to recognise.
    pub allowed: Which<'a>,
    /// Special tokens that are an error.
    pub disallowed: Which<'a>,
    /// What happens to characters or words without an entry.
    pub unknown: OnInvalid,
}

impl EncodeOptions<'_> {
    /// No special tokens: all text is ordinary.
    pub const ORDINARY: EncodeOptions<'static> =
        EncodeOptions { allowed: Which::Only(&[]), disallowed: Which::Only(&[]), unknown: OnInvalid::Replace };
}

impl Tokenizer {
    /// The ids of `text`, which is taken as ordinary text throughout.
    pub fn encode_ordinary(&self, text: &str) -> Result<Vec<u32>> {
        self.encode(text, EncodeOptions::ORDINARY, &mut progress::ignore)
    }

    /// The ids of `text`. `listener` hears the bytes done while a long text is encoded.
    pub fn encode(&self, text: &str, options: EncodeOptions<'_>, listener: &mut Listener<'_>) -> Result<Vec<u32>> {
        let rules = self.rules(options)?;
        rules.admit(text)?;
        let mut ids = room_for(text.len());
        if text.len() <= 2 * TASK {
            Job::new(self, options.unknown, &mut ids).task(&Task::whole(text), &rules)?;
            return Ok(ids);
        }
        let tasks = self.tasks(text, rules.found());
        if let [whole] = tasks.as_slice() {
            // Nothing is handed out, so that the listener can be asked on the way.
            let watch = Watch { listener, done: 0, asked: 0, total: text.len() as u64 };
            Job { watch: Some(watch), ..Job::new(self, options.unknown, &mut ids) }.task(whole, &rules)?;
            ids.shrink_to_fit();
            return Ok(ids);
        }
        let mut done = 0;
        for wave in tasks.chunks(WAVE) {
            progress::report(listener, done, text.len() as u64)?;
            let encoded = parallel::concat(&mut ids, wave.len(), |i, ids| {
                Job::new(self, options.unknown, ids).task(&wave[i], &rules)
            });
            encoded.into_iter().collect::<Result<()>>()?;
            done += wave.iter().map(|t| t.text.len() as u64).sum::<u64>();
        }
        ids.shrink_to_fit();
        Ok(ids)
    }

    /// The first ids of `text`, at least `least` of them where it has so many; little more of it is encoded, or all of it
    /// where the text cannot be cut.
    pub fn encode_front(&self, text: &str, options: EncodeOptions<'_>, least: usize) -> Result<Vec<u32>> {
        let rules = self.rules(options)?;
        let mut ids = Vec::new();
        let mut tasks = Tasks::new(self, text, rules.admit(text)?);
        while ids.len() < least {
            // A little more than it should take, so that one round is enough.
            let Some(task) = tasks.next((least - ids.len()).saturating_mul(8).clamp(256, TASK)) else { break };
            Job::new(self, options.unknown, &mut ids).task(&task, &rules)?;
        }
        Ok(ids)
    }

    /// Special tokens to look for: those allowed, and those that are found in every text.
    pub(super) fn rules(&self, options: EncodeOptions<'_>) -> Result<Rules<'_>> {
        let rules = self.specials.rules(options.allowed, options.disallowed);
        match &self.pipeline {
            None => Ok(rules),
            Some(pipeline) => Ok(rules.with_stages(pipeline.found(options.allowed, &self.specials)?)),
        }
    }

    /// Refuses a text for a character that has no token, if a call says so. `at` tells where a byte of it comes from.
    pub(super) fn refuse_missing(&self, text: &str, unknown: OnInvalid, at: impl FnOnce(usize) -> usize) -> Result<()> {
        match &self.model {
            Model::Bpe(bpe) if unknown == OnInvalid::Strict && !bpe.is_total() => match bpe.missing(text) {
                Some((index, c)) => Err(unknown_piece(c.encode_utf8(&mut [0; 4]), at(index))),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The entry that a piece is, or else `unk` if a call says so. `at` tells where the piece begins.
    pub(super) fn entry(
        &self,
        piece: &str,
        unk: Option<u32>,
        unknown: OnInvalid,
        at: impl FnOnce() -> usize,
    ) -> Result<u32> {
        let known = self.vocab.ordinary(piece.as_bytes());
        known.or(unk.filter(|_| unknown == OnInvalid::Replace)).ok_or_else(|| unknown_piece(piece, at()))
    }

    /// A long text as parts that can be encoded each on its own.
    pub(super) fn tasks<'t>(&self, text: &'t str, matcher: &Matcher) -> Vec<Task<'t>> {
        let mut tasks = Tasks::new(self, text, matcher);
        std::iter::from_fn(|| tasks.next(TASK)).collect()
    }
}

/// One thread's work.
pub(super) struct Job<'a> {
    tokenizer: &'a Tokenizer,
    pub ids: &'a mut Vec<u32>,
    encoder: Option<Encoder<'a>>,
    unknown: OnInvalid,
    watch: Option<Watch<'a>>,
}

/// Who hears how far a text is that nobody could cut.
struct Watch<'a> {
    listener: &'a mut Listener<'a>,
    done: u64,
    /// What was done when the listener was asked last.
    asked: u64,
    total: u64,
}

impl Watch<'_> {
    /// Hears of so many bytes more.
    fn bytes(&mut self, more: usize) -> Result<()> {
        self.done += more as u64;
        if self.done - self.asked < TASK as u64 {
            return Ok(());
        }
        self.asked = self.done;
        // Pieces may be longer than the text they come from: a space or a normalizer's characters are added.
        progress::report(self.listener, self.done.min(self.total), self.total)
    }
}

impl<'a> Job<'a> {
    pub fn new(tokenizer: &'a Tokenizer, unknown: OnInvalid, ids: &'a mut Vec<u32>) -> Self {
        let encoder = match &tokenizer.model {
            Model::Bpe(bpe) => Some(Encoder::new(bpe, &tokenizer.vocab)),
            Model::Entries { .. } => None,
        };
        Job { tokenizer, ids, encoder, unknown, watch: None }
    }

    /// Encodes a part of a text with the special tokens that `rules` recognise.
    pub fn task(&mut self, task: &Task<'_>, rules: &Rules<'_>) -> Result<()> {
        if let Some((pipeline, found)) = self.tokenizer.staged(task.text, rules) {
            return self.staged(pipeline, found, task.text);
        }
        let at = |part: &str| task.at + offset(task.text, part);
        // What stands at the front may go on a stretch that began before.
        let goes_on = |part: &str| !task.first && offset(task.text, part) == 0;
        rules.found().split(
            task.text,
            self,
            |job, part| {
                let start = at(part);
                let origin = |index| start + index;
                if goes_on(part) { job.pieces(part, 0, origin) } else { job.segment(part, origin) }
            },
            |job, id| job.ids.push(id),
        )
    }

    /// Encodes a text that a pipeline prepares.
    fn staged(&mut self, pipeline: &Pipeline, found: &Found, text: &str) -> Result<()> {
        // Where a piece comes from is said in errors only.
        let strict = self.unknown == OnInvalid::Strict;
        pipeline.for_each_part(text, found, strict, &mut |part| match part {
            Part::Token(id, _) => {
                self.ids.push(id);
                Ok(())
            }
            Part::Piece(text, place) => {
                self.segment(&text.text()[place.clone()], |index| text.begins(place.start + index..place.end))
            }
        })
    }

    /// Encodes a stretch between special tokens. `origin` tells where a byte of it comes from.
    fn segment(&mut self, text: &str, origin: impl Fn(usize) -> usize) -> Result<()> {
        if self.tokenizer.split.prefix_space && !text.starts_with(' ') {
            return self.pieces(&format!(" {text}"), 1, origin);
        }
        self.pieces(text, 0, origin)
    }

    /// Encodes `text`, of which `put` bytes were put before the rest. `origin` tells where a byte of the rest comes from.
    fn pieces(&mut self, text: &str, put: usize, origin: impl Fn(usize) -> usize) -> Result<()> {
        let place = |index: usize| origin(index.saturating_sub(put));
        let watch = &mut self.watch;
        let mut done = |bytes: usize| watch.as_mut().map_or(Ok(()), |watch| watch.bytes(bytes));
        match &self.tokenizer.model {
            Model::Bpe(_) => {
                self.tokenizer.refuse_missing(text, self.unknown, place)?;
                let Some(encoder) = &mut self.encoder else { return Ok(()) };
                match self.tokenizer.split.scanner() {
                    Some(scanner) => encoder.text(scanner, text, self.ids, done),
                    None => self.tokenizer.split.for_each(text, |piece| {
                        done(piece.len())?;
                        encoder.stretch(piece, self.ids)
                    }),
                }
            }
            Model::Entries { unk } => self.tokenizer.split.for_each(text, |piece| {
                done(piece.len())?;
                self.ids.push(self.tokenizer.entry(piece, *unk, self.unknown, || place(offset(text, piece)))?);
                Ok(())
            }),
        }
    }
}

/// Room for the ids of a text of that many bytes: for each byte one, where threads write to places that cannot move, else
/// what there usually is. Memory that is not used is not taken. It is in large pages: clearing small ones would take a
/// fifth of the time that encoding takes.
pub(super) fn room_for(bytes: usize) -> Vec<u32> {
    let mut ids = Vec::new();
    let wanted = if bytes > 2 * TASK && parallel::num_threads() > 1 { bytes } else { bytes / 2 };
    if ids.try_reserve_exact(wanted + 8).is_ok() {
        prefer_huge(ids.spare_capacity_mut());
    }
    ids
}

fn unknown_piece(piece: &str, at: usize) -> Error {
    Error::tokenizer(
        format!("text, byte {at}"),
        format!("{piece:?} is not in the vocabulary"),
        "train on text that contains it, use level=\"subword\", or pass errors=\"replace\"",
    )
}

/// Where `part`, a slice of `text`, begins in it.
fn offset(text: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::files::tokenizer_json;
    use serde_json::json;

    const STRICT: EncodeOptions<'_> = EncodeOptions { unknown: OnInvalid::Strict, ..EncodeOptions::ORDINARY };

    /// One that knows `a` and a space.
    fn of_two_characters(prefix: bool) -> Tokenizer {
        let file = json!({
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": prefix, "use_regex": true},
            "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": {"a": 0, "Ġ": 1}, "merges": []},
        });
        tokenizer_json::parse(file.to_string().as_bytes(), "test").unwrap()
    }

    #[test]
    fn a_place_in_a_part_of_a_text_is_said_as_one_in_the_whole() {
        let tokenizer = of_two_characters(false);
        let text = "a ".repeat(3 * TASK / 2) + "az";
        assert!(tokenizer.tasks(&text, &Matcher::default()).len() > 1);
        let said = tokenizer.encode(&text, STRICT, &mut progress::ignore).unwrap_err().to_string();
        assert!(said.contains(&format!("text, byte {}:", 3 * TASK + 1)), "{said}");
    }

    #[test]
    fn a_place_is_one_of_the_text_before_it_was_normalized() {
        let file = json!({
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
            "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": {"Ġ": 0, "Ã": 1, "©": 2}, "merges": []},
        });
        let tokenizer = tokenizer_json::parse(file.to_string().as_bytes(), "test").unwrap();
        let (text, listener) = ("e\u{301} z", &mut progress::ignore);
        let errors =
            [tokenizer.encode(text, STRICT, listener).err(), tokenizer.encode_located(text, STRICT, listener).err()];
        for said in errors.map(|error| error.unwrap().to_string()) {
            assert!(said.contains("text, byte 4:"), "{said}");
        }
    }

    #[test]
    fn a_space_put_before_a_text_is_no_byte_of_it() {
        for prefix in [false, true] {
            let tokenizer = of_two_characters(prefix);
            for (text, at) in [("a az", 3), ("z", 0), (" z", 1)] {
                let errors = [
                    tokenizer.encode(text, STRICT, &mut progress::ignore).unwrap_err(),
                    tokenizer.encode_located(text, STRICT, &mut progress::ignore).unwrap_err(),
                ];
                for error in errors {
                    assert!(error.to_string().contains(&format!("text, byte {at}:")), "{error}");
                }
            }
        }
    }
}
