//! Encoding: special tokens, pieces, ids; long texts and batches on all threads.

use super::bpe::encode::Encoder;
use super::corpus::OnInvalid;
use super::special::{Matcher, Which};
use super::{Model, Tokenizer};
use crate::error::{Error, Result};
use crate::pages::prefer_huge;
use crate::parallel;
use crate::progress::{self, Listener};
use std::borrow::Cow;

/// Bytes that one thread encodes before the next hand-out.
const TASK: usize = 1 << 17;

/// Tasks between two looks at the listener.
const WAVE: usize = 64;

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
        let matcher = self.matcher(text, options)?;
        let mut ids = room_for(text);
        if text.len() <= 2 * TASK || parallel::num_threads() == 1 {
            let mut job = Job::new(self, options.unknown, &mut ids);
            matcher.split(text, &mut job, |job, part| job.segment(part, 0), |job, id| job.ids.push(id))?;
            return Ok(ids);
        }
        let tasks = self.tasks(text, &matcher)?;
        let mut done = 0;
        for wave in tasks.chunks(WAVE) {
            progress::report(listener, done, text.len() as u64)?;
            for part in parallel::collect(wave.len(), |i| self.run(&wave[i], options.unknown)) {
                ids.append(&mut part?);
            }
            done += wave.iter().map(|t| t.text.len() as u64).sum::<u64>();
        }
        Ok(ids)
    }

    /// The ids of every text, one after the other, and where each begins: text `i` has `ids[offsets[i]..offsets[i + 1]]`.
    pub fn encode_batch(
        &self,
        texts: &[&str],
        options: EncodeOptions<'_>,
        listener: &mut Listener<'_>,
    ) -> Result<(Vec<u32>, Vec<u64>)> {
        let total: u64 = texts.iter().map(|t| t.len() as u64).sum();
        let groups = group(texts);
        let (mut ids, mut offsets, mut done) = (Vec::new(), Vec::with_capacity(texts.len() + 1), 0);
        offsets.push(0);
        for wave in groups.chunks(WAVE) {
            progress::report(listener, done, total)?;
            let encoded = parallel::collect(wave.len(), |i| -> Result<Vec<Vec<u32>>> {
                let texts = &texts[wave[i].clone()];
                texts.iter().map(|text| self.encode(text, options, &mut progress::ignore)).collect()
            });
            for (group, encoded) in wave.iter().zip(encoded) {
                for (text, mut row) in group.clone().zip(encoded.map_err(|e| in_text(e, group.clone()))?) {
                    ids.append(&mut row);
                    offsets.push(ids.len() as u64);
                    done += texts[text].len() as u64;
                }
            }
        }
        Ok((ids, offsets))
    }

    /// Special tokens to look for in `text`: those allowed, and those that are found in every text.
    fn matcher(&self, text: &str, options: EncodeOptions<'_>) -> Result<Cow<'_, Matcher>> {
        let admitted = self.specials.admit(text, options.allowed, options.disallowed)?;
        if self.added.is_empty() {
            return Ok(admitted);
        }
        Ok(Cow::Owned(admitted.into_owned().with(&self.added)))
    }

    /// A long text as parts that can be encoded each on its own.
    fn tasks<'t>(&self, text: &'t str, matcher: &Matcher) -> Result<Vec<Task<'t>>> {
        let mut tasks = Vec::new();
        matcher.split(
            text,
            &mut tasks,
            |tasks, part| {
                let mut rest = part;
                while !rest.is_empty() {
                    let cut = self.cut(rest);
                    tasks.push(Task {
                        text: &rest[..cut],
                        first: rest.len() == part.len(),
                        special: None,
                        at: offset(text, rest),
                    });
                    rest = &rest[cut..];
                }
                Ok(())
            },
            |tasks, id| tasks.push(Task { text: "", first: false, special: Some(id), at: 0 }),
        )?;
        Ok(tasks)
    }

    /// Where to cut `text` for a task: a place that changes no piece.
    fn cut(&self, text: &str) -> usize {
        let Some(pattern) = self.cuttable() else { return text.len() };
        let mut limit = TASK;
        while limit < text.len() {
            if let Some(cut) = pattern.safe_cut(text, limit) {
                return cut;
            }
            limit *= 2;
        }
        text.len()
    }

    fn run(&self, task: &Task<'_>, unknown: OnInvalid) -> Result<Vec<u32>> {
        if let Some(id) = task.special {
            return Ok(vec![id]);
        }
        let mut ids = room_for(task.text);
        let mut job = Job::new(self, unknown, &mut ids);
        if task.first {
            job.segment(task.text, task.at)?
        } else {
            job.pieces(task.text, task.at)?
        }
        Ok(ids)
    }
}

/// A part of a long text.
struct Task<'t> {
    text: &'t str,
    /// Whether it begins a stretch between special tokens.
    first: bool,
    special: Option<u32>,
    /// Where it begins in the whole text.
    at: usize,
}

/// One thread's work.
struct Job<'a> {
    tokenizer: &'a Tokenizer,
    ids: &'a mut Vec<u32>,
    encoder: Option<Encoder<'a>>,
    unknown: OnInvalid,
}

impl<'a> Job<'a> {
    fn new(tokenizer: &'a Tokenizer, unknown: OnInvalid, ids: &'a mut Vec<u32>) -> Self {
        let encoder = match &tokenizer.model {
            Model::Bpe(bpe) => Some(Encoder::new(bpe, &tokenizer.vocab)),
            Model::Entries { .. } => None,
        };
        Job { tokenizer, ids, encoder, unknown }
    }

    /// Encodes a stretch between special tokens.
    fn segment(&mut self, text: &str, at: usize) -> Result<()> {
        if self.tokenizer.split.prefix_space && !text.starts_with(' ') {
            return self.pieces(&format!(" {text}"), at);
        }
        self.pieces(text, at)
    }

    fn pieces(&mut self, text: &str, at: usize) -> Result<()> {
        match &self.tokenizer.model {
            Model::Bpe(bpe) => {
                if self.unknown == OnInvalid::Strict && bpe.missing_byte().is_some() {
                    self.refuse_missing(text, at)?;
                }
                let Some(encoder) = &mut self.encoder else { return Ok(()) };
                match self.tokenizer.split.scanner() {
                    Some(scanner) => encoder.text(scanner, text, self.ids),
                    None => self.tokenizer.split.for_each(text, |piece| encoder.piece(piece.as_bytes(), self.ids)),
                }
            }
            Model::Entries { unk } => self.tokenizer.split.for_each(text, |piece| {
                let unknown = unk.filter(|_| self.unknown == OnInvalid::Replace);
                let id = self.tokenizer.vocab.ordinary(piece.as_bytes()).or(unknown);
                self.ids.push(id.ok_or_else(|| unknown_piece(piece, at + offset(text, piece)))?);
                Ok(())
            }),
        }
    }

    fn refuse_missing(&self, text: &str, at: usize) -> Result<()> {
        let Model::Bpe(bpe) = &self.tokenizer.model else { return Ok(()) };
        match text.char_indices().find(|(_, c)| c.encode_utf8(&mut [0; 4]).bytes().any(|b| !bpe.has_byte(b))) {
            Some((index, c)) => Err(unknown_piece(c.encode_utf8(&mut [0; 4]), at + index)),
            None => Ok(()),
        }
    }
}

/// Room for the ids that a text usually has. Much of it is in large pages: clearing small ones would take a fifth of the
/// time that encoding takes.
fn room_for(text: &str) -> Vec<u32> {
    let mut ids = Vec::with_capacity(text.len() / 2 + 8);
    prefer_huge(ids.spare_capacity_mut());
    ids
}

fn unknown_piece(piece: &str, at: usize) -> Error {
    Error::tokenizer(
        format!("text, byte {at}"),
        format!("{piece:?} is not in the vocabulary"),
        "train on text that contains it, use level=\"subword\", or pass errors=\"replace\"",
    )
}

/// Adds to an error which texts of a batch it came from.
fn in_text(error: Error, group: std::ops::Range<usize>) -> Error {
    match error {
        Error::Tokenizer { place, problem, remedy } => {
            let which = if group.len() == 1 {
                format!("texts[{}]", group.start)
            } else {
                format!("texts[{}..{}]", group.start, group.end)
            };
            Error::Tokenizer { place: format!("{which}, {place}"), problem, remedy }
        }
        other => other,
    }
}

/// Ranges of texts of about [`TASK`] bytes.
fn group(texts: &[&str]) -> Vec<std::ops::Range<usize>> {
    let mut groups = Vec::new();
    let (mut start, mut size) = (0, 0);
    for (i, text) in texts.iter().enumerate() {
        size += text.len() + 64;
        if size >= TASK {
            groups.push(start..i + 1);
            (start, size) = (i + 1, 0);
        }
    }
    if start < texts.len() {
        groups.push(start..texts.len());
    }
    groups
}

/// Where `part`, a slice of `text`, begins in it.
fn offset(text: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}
