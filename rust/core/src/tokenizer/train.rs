//! Training a vocabulary, at any of the three levels.
//!
//! A [`Trainer`] is fed files or documents, counts their pieces, and [`Trainer::finish`] makes the vocabulary. Special
//! tokens get the last ids, in the order given; `<unk>` is added to them at the levels that need it.

use super::bpe::count::{Counter, LeftOut};
use super::bpe::train::{BYTES, Limits};
use super::bpe::words::Words;
use super::bpe::{Bpe, pair, train};
use super::corpus::{self, OnInvalid};
use super::pretokenize::Pretokenizer;
use super::pretokenize::patterns::Pattern;
use super::special::{Matcher, Specials};
use super::template::Template;
use super::vocab::Vocab;
use super::{Level, Model, Parts, Tokenizer, UNKNOWN, char, word};
use crate::error::{Error, Result};
use crate::progress::Listener;
use rustc_hash::FxHashSet;
use std::path::Path;

/// The size of a vocabulary of words or subwords when none is asked for.
pub const DEFAULT_VOCAB_SIZE: usize = 8192;

/// Less memory than this is of no use.
const LEAST_MEMORY: usize = 16 << 20;

/// What to train.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// What an entry is.
    pub level: Level,
    /// Entries with special tokens, of each tokenizer to be made: the merges of a large one begin with those of a small
    /// one. None at all: one of [`DEFAULT_VOCAB_SIZE`], or all characters.
    pub vocab_sizes: Vec<usize>,
    /// The split pattern of subwords: a name or a regular expression.
    pub pattern: String,
    /// Special tokens, in the order of their ids.
    pub special_tokens: Vec<String>,
    /// Characters, words or pairs seen less often are left out.
    pub min_frequency: u64,
    /// Longest subword in bytes.
    pub max_token_length: usize,
    /// At levels char and word: that many of the most frequent characters are known, and no words with others.
    pub limit_alphabet: Option<usize>,
    /// Bytes of memory to keep to, about.
    pub max_memory: Option<usize>,
}

/// What training made.
pub struct Trained {
    /// A tokenizer for each size that was asked for, in that order.
    pub tokenizers: Vec<Tokenizer>,
    /// What there was no memory for.
    pub left_out: LeftOut,
}

/// A vocabulary in the making.
pub struct Trainer {
    options: TrainOptions,
    counter: Counter,
}

impl Trainer {
    /// Checks the options.
    pub fn new(mut options: TrainOptions) -> Result<Self> {
        if options.level != Level::Subword && !options.special_tokens.iter().any(|s| s == UNKNOWN) {
            options.special_tokens.push(UNKNOWN.to_string());
        }
        check_special_tokens(&options)?;
        check_size(&options)?;
        let split = match options.level {
            Level::Char => Pretokenizer::known(Pattern::Chars),
            Level::Word => Pretokenizer::known(Pattern::Words),
            Level::Subword => Pretokenizer::from_argument(&options.pattern, "Tokenizer.train")?,
        };
        let specials = Matcher::new(options.special_tokens.iter().map(|name| (name.clone(), 0)));
        Ok(Trainer { counter: Counter::new(split, specials, options.max_memory), options })
    }

    /// Counts whole documents.
    pub fn add(&mut self, documents: &[&str]) -> Result<()> {
        self.counter.add(documents)
    }

    /// Bytes of text so far.
    pub fn bytes(&self) -> u64 {
        self.counter.bytes()
    }

    /// Counts a text file.
    pub fn add_file(&mut self, path: &Path, on_invalid: OnInvalid, listener: &mut Listener<'_>) -> Result<()> {
        corpus::count_file(&mut self.counter, path, on_invalid, listener)
    }

    /// The tokenizers that the counted text gives. A text that does not support a size gives a smaller one.
    pub fn finish(self, listener: &mut Listener<'_>) -> Result<Trained> {
        let Trainer { options, counter } = self;
        let (split, counts, left_out) = counter.finish()?;
        if counts.is_empty() {
            return Err(Error::Data {
                place: "corpus".into(),
                problem: "there is no text in it".into(),
                remedy: "give files or strings with text to learn from".into(),
            });
        }
        let reserved = options.special_tokens.len();
        let limited = options.limit_alphabet.map(|most| char::most_frequent(&counts, options.min_frequency, most));
        let known = |piece: &[u8]| limited.as_ref().is_none_or(|chars| char::all_in(piece, chars));
        let tokenizers = match options.level {
            Level::Subword => subwords(&counts, &split, &options, listener)?,
            Level::Char => {
                let counts = counts.iter().filter(|(piece, _)| known(piece)).collect();
                let cap = options.vocab_sizes.first().copied();
                let entries = char::alphabet(&counts, options.min_frequency, cap, reserved)?;
                vec![listed(entries, split, &options)?]
            }
            Level::Word => {
                let counts = counts.iter().filter(|(piece, _)| known(piece)).collect();
                let words = |size| {
                    let entries = word::most_frequent(&counts, options.min_frequency, size, reserved);
                    listed(entries, split.clone(), &options)
                };
                sizes(&options).into_iter().map(words).collect::<Result<_>>()?
            }
        };
        Ok(Trained { tokenizers, left_out })
    }
}

/// The sizes to make.
fn sizes(options: &TrainOptions) -> Vec<usize> {
    match options.vocab_sizes.as_slice() {
        [] => vec![DEFAULT_VOCAB_SIZE.max(least_size(options).0)],
        sizes => sizes.to_vec(),
    }
}

fn check_special_tokens(options: &TrainOptions) -> Result<()> {
    let names = &options.special_tokens;
    let mut seen = FxHashSet::default();
    for name in names {
        let problem = match name {
            _ if name.is_empty() => "is empty",
            _ if !seen.insert(name) => "is there twice",
            _ if options.level == Level::Subword && name.len() == 1 => {
                "is a single byte, which is an entry already; use a longer name, such as \"<|nl|>\""
            }
            _ => continue,
        };
        return Err(Error::value(
            "Tokenizer.train",
            "special_tokens",
            format!("{names:?}"),
            format!("{name:?} {problem}"),
        ));
    }
    Ok(())
}

/// The smallest vocabulary that can be, and what it has to hold.
fn least_size(options: &TrainOptions) -> (usize, String) {
    let specials = options.special_tokens.len();
    match options.level {
        Level::Subword => (BYTES as usize + specials, format!("256 single bytes and {specials} special tokens")),
        Level::Char | Level::Word => (1 + specials, format!("one entry and {specials} special tokens")),
    }
}

fn check_size(options: &TrainOptions) -> Result<()> {
    let refuse = |what, value, expected| Err(Error::value("Tokenizer.train", what, value, expected));
    let (least, of_what) = least_size(options);
    if options.level == Level::Char && options.vocab_sizes.len() > 1 {
        let given = format!("{:?}", options.vocab_sizes);
        return refuse("vocab_size", given, "at level \"char\" there is one vocabulary, of all characters".into());
    }
    for &size in &options.vocab_sizes {
        if size < least {
            return refuse("vocab_size", size.to_string(), format!("{of_what} need {least} or more"));
        }
        if u32::try_from(size).is_err() {
            return refuse("vocab_size", size.to_string(), "ids have 32 bits".into());
        }
    }
    match (options.limit_alphabet, options.max_memory) {
        (Some(_), _) if options.level == Level::Subword => refuse(
            "limit_alphabet",
            "set".into(),
            "subwords are made of bytes, which are all known: leave it out".into(),
        ),
        (Some(0), _) => refuse("limit_alphabet", "0".into(), "at least one character".into()),
        (_, Some(most)) if most < LEAST_MEMORY => {
            refuse("max_memory", most.to_string(), format!("at least {LEAST_MEMORY} bytes (16 MiB)"))
        }
        _ => Ok(()),
    }
}

/// A tokenizer that looks its pieces up.
fn listed(entries: Vec<Vec<u8>>, split: Pretokenizer, options: &TrainOptions) -> Result<Tokenizer> {
    let first_special = entries.len() as u32;
    let specials = number(&options.special_tokens, first_special);
    let entries: Vec<_> = entries.into_iter().zip(0..).collect();
    let vocab = Vocab::new(&entries, &specials, "corpus")?;
    let specials = Specials::new(specials, Vec::new());
    let model = Model::Entries { unk: specials.id(UNKNOWN) };
    let (pipeline, template) = (None, Template::default());
    Ok(Tokenizer::new(Parts { level: options.level, split, vocab, model, specials, pipeline, template }))
}

fn subwords(
    counts: &Words,
    split: &Pretokenizer,
    options: &TrainOptions,
    listener: &mut Listener<'_>,
) -> Result<Vec<Tokenizer>> {
    let sizes = sizes(options);
    let merges_of = |size: usize| size - BYTES as usize - options.special_tokens.len();
    let limits = Limits {
        merges: sizes.iter().copied().max().map_or(0, merges_of),
        min_frequency: options.min_frequency,
        max_token_length: options.max_token_length,
    };
    let merges = train::train(counts, limits, listener)?;
    sizes.into_iter().map(|size| merged(&merges[..merges_of(size).min(merges.len())], split.clone(), options)).collect()
}

/// The tokenizer of these merges.
fn merged(merges: &[(u32, u32)], split: Pretokenizer, options: &TrainOptions) -> Result<Tokenizer> {
    let mut entries: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
    for &(left, right) in merges {
        entries.push([entries[left as usize].as_slice(), &entries[right as usize]].concat());
    }
    let specials = number(&options.special_tokens, entries.len() as u32);
    let entries: Vec<_> = entries.into_iter().zip(0..).collect();
    let vocab = Vocab::new(&entries, &specials, "corpus")?;
    let listed: Vec<_> = merges.iter().zip(BYTES..).map(|(&(left, right), made)| (pair(left, right), made)).collect();
    let bpe = Bpe::new(&listed, &vocab, false);
    Ok(Tokenizer::new(Parts {
        level: Level::Subword,
        split,
        vocab,
        model: Model::Bpe(Box::new(bpe)),
        specials: Specials::new(specials, Vec::new()),
        pipeline: None,
        template: Template::default(),
    }))
}

fn number(names: &[String], first: u32) -> Vec<(String, u32)> {
    names.iter().cloned().zip(first..).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::progress;

    /// Subwords of `text`, and the special token `<|end|>`.
    pub fn trained(pattern: &str, text: &str) -> Tokenizer {
        let mut trainer = Trainer::new(TrainOptions {
            level: Level::Subword,
            vocab_sizes: Vec::new(),
            pattern: pattern.into(),
            special_tokens: vec!["<|end|>".into()],
            min_frequency: 1,
            max_token_length: usize::MAX,
            limit_alphabet: None,
            max_memory: None,
        })
        .unwrap();
        trainer.add(&[text]).unwrap();
        trainer.finish(&mut progress::ignore).unwrap().tokenizers.remove(0)
    }
}
