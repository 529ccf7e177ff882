//! Text to ids and back, at three levels: characters, words, and byte-level BPE.
//!
//! One [`Tokenizer`] serves all three. It is immutable: encoding takes `&self` and may run on many threads. Text goes
//! through special tokens ([`special`]), is cut into pieces ([`pretokenize`]), and each piece becomes one entry of the
//! vocabulary or is merged from bytes ([`bpe`]). Training is in [`train`], other people's files in [`files`].

pub mod added;
mod automaton;
mod batch;
mod blocks;
pub mod bpe;
mod char;
pub mod corpus;
mod cutting;
mod decode;
pub mod decoders;
pub mod encode;
pub mod files;
mod fingerprint;
pub mod normalize;
pub mod pipeline;
pub mod pretokenize;
mod records;
pub mod shards;
pub mod spans;
pub mod special;
pub mod stream;
mod tasks;
pub mod template;
pub mod train;
pub mod vocab;
mod word;

use crate::error::{Error, Result};
use added::Found;
use bpe::Bpe;
use pipeline::Pipeline;
use pretokenize::Pretokenizer;
use pretokenize::patterns::Pattern;
use special::{Rules, Specials};
use std::sync::OnceLock;
use template::Template;
use vocab::Vocab;

pub use corpus::OnInvalid;
pub use decode::DecodeStream;

/// The name of the token that ends a document.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// The name of the token that unknown characters and words become.
pub const UNKNOWN: &str = "<unk>";

/// What an entry of the vocabulary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A character.
    Char,
    /// A word, a space or a punctuation mark.
    Word,
    /// A sequence of bytes, built by BPE merges.
    Subword,
}

impl Level {
    /// The public name.
    pub fn name(self) -> &'static str {
        match self {
            Level::Char => "char",
            Level::Word => "word",
            Level::Subword => "subword",
        }
    }

    /// The level of a public name.
    pub fn from_name(name: &str) -> Option<Level> {
        [Level::Char, Level::Word, Level::Subword].into_iter().find(|level| level.name() == name)
    }
}

/// What decoding does about bytes that are no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecodable {
    /// Put U+FFFD in their place.
    Replace,
    /// Leave them out.
    Ignore,
    /// Raise an error that names the byte.
    Strict,
}

/// How a piece becomes ids.
#[derive(Debug)]
enum Model {
    /// By merging bytes.
    Bpe(Box<Bpe>),
    /// By looking it up; what is not there becomes `unk`.
    Entries { unk: Option<u32> },
}

/// What a tokenizer is made of; see [`Tokenizer::new`].
struct Parts {
    level: Level,
    split: Pretokenizer,
    vocab: Vocab,
    model: Model,
    specials: Specials,
    /// What is done to text before it is cut, if anything.
    pipeline: Option<Box<Pipeline>>,
    /// What belongs around a text.
    template: Template,
}

/// A vocabulary with everything needed to encode and decode.
#[derive(Debug)]
pub struct Tokenizer {
    level: Level,
    split: Pretokenizer,
    vocab: Vocab,
    model: Model,
    specials: Specials,
    pipeline: Option<Box<Pipeline>>,
    template: Template,
    fingerprint: OnceLock<String>,
}

impl Tokenizer {
    fn new(parts: Parts) -> Self {
        let Parts { level, split, vocab, model, specials, pipeline, template } = parts;
        Tokenizer { level, split, vocab, model, specials, pipeline, template, fingerprint: OnceLock::new() }
    }

    /// What an entry of the vocabulary is.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The split pattern's name ("gpt2", "gpt4", "o200k") or its regular expression; `None` when there are several.
    pub fn pattern(&self) -> Option<&str> {
        self.split.describe()
    }

    /// One more than the largest id: the rows that an embedding needs.
    pub fn vocab_size(&self) -> usize {
        self.vocab.size()
    }

    /// Special tokens with their ids, in the order of ids.
    pub fn special_tokens(&self) -> &[(String, u32)] {
        self.specials.names()
    }

    /// The id of `<|endoftext|>`, if there is one.
    pub fn eot_id(&self) -> Option<u32> {
        self.specials.id(END_OF_TEXT)
    }

    /// The id that unknown characters or words become, if there is one.
    pub fn unk_id(&self) -> Option<u32> {
        match self.model {
            Model::Bpe(ref bpe) => bpe.chars().and_then(|chars| chars.unknown_token()),
            Model::Entries { unk } => unk,
        }
    }

    /// The ids that the file's `post_processor` puts before and after a single text. Encoding leaves them out.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// The file that this tokenizer was loaded from, by name and content, where no `tokenizer.json` can hold it.
    pub fn original(&self) -> Option<(&'static str, &[u8])> {
        let original = self.pipeline.as_ref()?.source.original.as_ref()?;
        Some((original.name, &original.bytes))
    }

    /// The merges in the order of their ranks, as pairs of ids; none where pieces are looked up.
    pub fn merges(&self) -> Vec<(u32, u32)> {
        match &self.model {
            Model::Bpe(bpe) => bpe.merges(&self.vocab),
            Model::Entries { .. } => Vec::new(),
        }
    }

    /// The id of an entry, given as [`Tokenizer::id_to_token`] gives it.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.vocab.id(token.as_bytes()).or_else(|| self.vocab.id(&vocab::unshow(token)?))
    }

    /// The text of an entry; entries that are not UTF-8 by themselves are given as `<0xE2><0x82>`. `None` for an id in
    /// a gap of the vocabulary; an id beyond the vocabulary is an error.
    pub fn id_to_token(&self, id: u32) -> Result<Option<String>> {
        if id as usize >= self.vocab.size() {
            let expected = format!("the vocabulary has ids 0 to {}", self.vocab.size().saturating_sub(1));
            return Err(Error::value("id_to_token", "id", id, expected));
        }
        Ok(self.vocab.bytes(id).map(vocab::show))
    }

    /// The pipeline for a text that it changes, with the tokens it looks for.
    fn staged<'a>(&'a self, text: &str, rules: &'a Rules<'_>) -> Option<(&'a Pipeline, &'a Found)> {
        let pipeline = self.pipeline.as_deref().filter(|pipeline| !pipeline.leaves(text))?;
        Some((pipeline, rules.stages()?))
    }

    /// A hash of everything that decides about ids: equal for tokenizers that encode and decode equally, and the same
    /// after saving and loading. 64 hexadecimal digits.
    pub fn fingerprint(&self) -> &str {
        self.fingerprint.get_or_init(|| fingerprint::sha256(&self.identity()))
    }

    /// Everything that decides about ids, as bytes.
    fn identity(&self) -> Vec<u8> {
        let mut bytes = format!("subgpt tokenizer 1 {} {:?}\n", self.level.name(), self.unk_id()).into_bytes();
        bytes.extend_from_slice(files::tokenizer_json::split_to_json(&self.split, self.level).to_string().as_bytes());
        if let Some(pipeline) = &self.pipeline {
            pipeline.describe(&mut bytes);
        }
        let mut section = |name: &str| bytes.extend_from_slice(format!("\n{name}\n").as_bytes());
        section("entries");
        for (id, entry) in self.vocab.entries() {
            bytes.extend_from_slice(&id.to_le_bytes());
            bytes.extend_from_slice(&(entry.len() as u32).to_le_bytes());
            bytes.extend_from_slice(entry);
        }
        for (name, tokens) in [("special", self.specials.names()), ("added", self.specials.added())] {
            bytes.extend_from_slice(format!("\n{name}\n").as_bytes());
            tokens.iter().for_each(|(_, id)| bytes.extend_from_slice(&id.to_le_bytes()));
        }
        if let Model::Bpe(bpe) = &self.model {
            bytes.extend_from_slice(format!("\nmerges {}\n", bpe.ignores_merges()).as_bytes());
            for (left, right) in bpe.merges(&self.vocab) {
                bytes.extend_from_slice(&left.to_le_bytes());
                bytes.extend_from_slice(&right.to_le_bytes());
            }
        }
        bytes
    }

    /// The pattern whose texts can be cut for several threads; `None` where only the whole text will do.
    fn cuttable(&self) -> Option<Pattern> {
        self.split.as_pattern()
    }
}
