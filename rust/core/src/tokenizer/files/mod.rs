//! Tokenizer files: our own and those of others.
//!
//! A file is total or refused: what it says that is not implemented is named in the error, never passed over. All
//! formats of byte-level BPE write bytes as printable characters; that alphabet is here.

pub mod llama2c;
pub mod sentencepiece;
pub mod tiktoken_ranks;
pub mod tokenizer_json;
pub mod vocab_merges;

use super::bpe::Bpe;
use super::pretokenize::Pretokenizer;
use super::{Model, Tokenizer};
use crate::error::{Error, Result};
use crate::io::atomic;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Larger files are taken for a mistake.
const MAX_BYTES: u64 = 1 << 30;

/// Special tokens as a caller gives them: names, with ids or numbered after the vocabulary.
pub type GivenSpecials = Vec<(String, Option<u32>)>;

/// Loads a tokenizer from a file or a directory that holds one. `pattern` and `special_tokens` are for formats that do
/// not carry them.
pub fn load(path: &Path, pattern: Option<&str>, special_tokens: Option<GivenSpecials>) -> Result<Tokenizer> {
    let pattern = pattern.map(|name| Pretokenizer::from_argument(name, "Tokenizer.load")).transpose()?;
    let path = &if path.is_dir() { in_directory(path)? } else { path.to_path_buf() };
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    match name.rsplit('.').next() {
        Some("tiktoken") => tiktoken_ranks::load(path, pattern, special_tokens),
        Some("bpe" | "txt") => vocab_merges::load(&partner(path, VOCABS)?, path, pattern, special_tokens),
        Some("json") if VOCABS.contains(&name.as_str()) => {
            vocab_merges::load(path, &partner(path, MERGES)?, pattern, special_tokens)
        }
        Some(format @ ("json" | "model" | "bin")) => {
            if pattern.is_some() || special_tokens.is_some() {
                return Err(Error::tokenizer(
                    path.display().to_string(),
                    "carries its own pattern and special tokens",
                    "leave pattern and special_tokens out",
                ));
            }
            match format {
                "model" => sentencepiece::load(path),
                "bin" => llama2c::load(path),
                _ => tokenizer_json::load(path),
            }
        }
        _ => {
            read(path)?;
            Err(Error::tokenizer(
                path.display().to_string(),
                "is no tokenizer file by its name",
                format!("name {EXPECTED}"),
            ))
        }
    }
}

/// A file that holds all of a tokenizer, by name and content: a `tokenizer.json` if that can.
pub fn portable(tokenizer: &Tokenizer) -> Result<(&'static str, Vec<u8>)> {
    match tokenizer.original() {
        Some((name, bytes)) => Ok((name, bytes.to_vec())),
        None => Ok(("tokenizer.json", tokenizer.to_json(false)?.into_bytes())),
    }
}

/// Reads a file that [`portable`] gave.
pub fn restore(name: &str, bytes: &[u8]) -> Result<Tokenizer> {
    match name {
        sentencepiece::NAME => sentencepiece::parse(bytes, name),
        llama2c::NAME => llama2c::parse(bytes, name),
        _ => tokenizer_json::parse(bytes, name),
    }
}

/// A format that tokenizers are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Hugging Face's `tokenizer.json` with `tokenizer_config.json`.
    TokenizerJson,
    /// tiktoken's ranks.
    Tiktoken,
    /// GPT-2's `vocab.json` and `merges.txt`.
    VocabMerges,
}

impl Format {
    /// The format of a public name.
    pub fn from_name(name: &str) -> Option<Format> {
        match name {
            "tokenizer.json" => Some(Format::TokenizerJson),
            "tiktoken" => Some(Format::Tiktoken),
            "vocab-merges" => Some(Format::VocabMerges),
            _ => None,
        }
    }
}

/// Whether a path that is no directory has this ending.
fn is_file_of(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending)) && !path.is_dir()
}

/// Refuses what [`save`] would refuse, of this tokenizer and for what lies at `path`; nothing is written.
pub fn check_target(tokenizer: &Tokenizer, path: &Path, format: Format) -> Result<()> {
    contents(tokenizer, path, format).map(drop)
}

/// Writes a tokenizer, into the directory `path` or, for the formats of one file, into a file of that ending. Each file
/// is there whole or not at all. None is put into a directory beside one that loading the directory would take instead.
pub fn save(tokenizer: &Tokenizer, path: &Path, format: Format) -> Result<()> {
    let files = contents(tokenizer, path, format)?;
    if files.iter().any(|(file, _)| file != path) {
        std::fs::create_dir_all(path).map_err(Error::io("write", path))?;
    }
    files.iter().try_for_each(|(file, bytes)| atomic::write(file, bytes))
}

/// The files of a tokenizer that is saved at `path`, in the order in which they are written.
fn contents<'a>(tokenizer: &'a Tokenizer, path: &Path, format: Format) -> Result<Vec<(PathBuf, Cow<'a, [u8]>)>> {
    let is_file = |ending| is_file_of(path, ending);
    match format {
        Format::TokenizerJson => {
            if let (Some((name, bytes)), false) = (tokenizer.original(), is_file("json")) {
                refuse_before(path, name)?;
                return Ok(vec![(path.join(name), bytes.into())]);
            }
            let json = tokenizer.to_json(true)?.into_bytes().into();
            if is_file("json") {
                return Ok(vec![(path.to_owned(), json)]);
            }
            let config = tokenizer_json::config(tokenizer).into_bytes().into();
            Ok(vec![(path.join("tokenizer_config.json"), config), (path.join("tokenizer.json"), json)])
        }
        Format::Tiktoken => {
            let file = if is_file("tiktoken") { path.to_owned() } else { path.join(RANKS) };
            if file != path {
                refuse_before(path, RANKS)?;
            }
            Ok(vec![(file, tiktoken_ranks::write(tokenizer)?.into())])
        }
        Format::VocabMerges => {
            refuse_before(path, "vocab.json")?;
            let (vocab, merges) = vocab_merges::write(tokenizer)?;
            let (vocab, merges) = (vocab.into_bytes().into(), merges.into_bytes().into());
            Ok(vec![(path.join("merges.txt"), merges), (path.join("vocab.json"), vocab)])
        }
    }
}

const VOCABS: &[&str] = &["vocab.json", "encoder.json"];
const MERGES: &[&str] = &["merges.txt", "vocab.bpe"];
/// Ranks may have any name of their ending; a directory is asked for them last.
const RANKS: &str = "tokenizer.tiktoken";
const EXPECTED: &str = "a tokenizer.json, a *.tiktoken rank file, vocab.json (encoder.json) with merges.txt (vocab.bpe), a SentencePiece *.model, or a tokenizer.bin of llama2.c";

/// The files of a name that are looked for in a directory, in this order.
fn names() -> impl Iterator<Item = &'static str> {
    ["tokenizer.json"].into_iter().chain(VOCABS.iter().copied()).chain([sentencepiece::NAME, llama2c::NAME])
}

/// Refuses a directory in which a file would be found before `name`.
fn refuse_before(directory: &Path, name: &str) -> Result<()> {
    match names().take_while(|before| *before != name).find(|before| directory.join(before).is_file()) {
        None => Ok(()),
        Some(before) => Err(Error::tokenizer(
            directory.display().to_string(),
            format!("holds a {before}, which would be loaded instead of the {name}"),
            "remove it, or save into another directory",
        )),
    }
}

/// The tokenizer file in a directory.
fn in_directory(directory: &Path) -> Result<PathBuf> {
    if let Some(path) = names().map(|name| directory.join(name)).find(|path| path.is_file()) {
        return Ok(path);
    }
    let mut others = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(Error::io("read", directory))? {
        others.push(entry.map_err(Error::io("read", directory))?.path());
    }
    others.sort();
    let with = |suffix: &str| others.iter().filter(|p| p.extension().is_some_and(|e| e == suffix)).collect::<Vec<_>>();
    match with("tiktoken").as_slice() {
        [one] => Ok((*one).clone()),
        found => Err(Error::tokenizer(
            directory.display().to_string(),
            if found.is_empty() { "holds no tokenizer" } else { "holds several rank files" },
            format!("name {EXPECTED}"),
        )),
    }
}

/// The other file of a pair, beside `path`.
fn partner(path: &Path, names: &[&str]) -> Result<PathBuf> {
    let found = names.iter().map(|name| path.with_file_name(name)).find(|p| p.is_file());
    found.ok_or_else(|| {
        Error::tokenizer(
            path.display().to_string(),
            format!("needs {} beside it", names.join(" or ")),
            "put both files into one directory",
        )
    })
}

/// The merges of a tokenizer that does nothing but cut text and merge its bytes; of any other, why `format` cannot hold it.
fn only_bytes<'t>(tokenizer: &'t Tokenizer, format: &str) -> Result<&'t Bpe> {
    let problem = match &tokenizer.model {
        Model::Entries { .. } => "its level is not \"subword\"",
        Model::Bpe(bpe) if bpe.chars().is_some() => "it merges characters, not bytes",
        Model::Bpe(_) if tokenizer.pipeline.is_some() => {
            "it changes text before cutting it, or has added tokens with conditions"
        }
        Model::Bpe(_) if tokenizer.split.prefix_space => "it puts a space before a text",
        Model::Bpe(_) if !tokenizer.specials.added().is_empty() => "it has added tokens that are not special",
        Model::Bpe(bpe) => return Ok(bpe),
    };
    Err(Error::tokenizer(format, format!("cannot hold this tokenizer: {problem}"), "save it as a tokenizer.json"))
}

/// The one character that a text is.
fn only(text: &str) -> Option<char> {
    let mut chars = text.chars();
    chars.next().filter(|_| chars.next().is_none())
}

/// A whole file.
fn read(path: &Path) -> Result<Vec<u8>> {
    let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        let problem = if metadata.is_file() { "is larger than 1 GB" } else { "is not a regular file" };
        return Err(Error::tokenizer(path.display().to_string(), problem, format!("name {EXPECTED}")));
    }
    std::fs::read(path).map_err(Error::io("read", path))
}

/// The printable characters that stand for bytes in GPT-2's files and their heirs: printable Latin-1 for itself, the
/// others from U+0100 on, in order.
pub struct ByteAlphabet {
    chars: [char; 256],
}

impl ByteAlphabet {
    /// The alphabet.
    pub fn get() -> &'static ByteAlphabet {
        static ALPHABET: LazyLock<ByteAlphabet> = LazyLock::new(ByteAlphabet::new);
        &ALPHABET
    }

    fn new() -> Self {
        let mut next = 0x100;
        let chars = std::array::from_fn(|byte| {
            if matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) {
                return char::from(byte as u8);
            }
            next += 1;
            char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
        });
        ByteAlphabet { chars }
    }

    /// Bytes as characters.
    pub fn write(&self, bytes: &[u8]) -> String {
        bytes.iter().map(|&byte| self.chars[usize::from(byte)]).collect()
    }

    /// The character of a byte.
    pub fn char(&self, byte: u8) -> char {
        self.chars[usize::from(byte)]
    }

    /// Characters as bytes; the character that stands for none, if there is one.
    pub fn read(&self, text: &str) -> std::result::Result<Vec<u8>, char> {
        text.chars().map(|c| self.byte(c).ok_or(c)).collect()
    }

    fn byte(&self, c: char) -> Option<u8> {
        let own = u8::try_from(u32::from(c)).ok().filter(|&b| self.chars[usize::from(b)] == c);
        own.or_else(|| match u32::from(c) {
            // The shifted ones are few and in order.
            0x100..=0x143 => (0..=255u8).find(|&b| self.chars[usize::from(b)] == c),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_gpt2s_and_reversible() {
        let alphabet = ByteAlphabet::get();
        assert_eq!(alphabet.write(b" a\n\xad\x00\xff"), "ĠaĊŃĀÿ");
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(alphabet.read(&alphabet.write(&all)), Ok(all));
        assert_eq!(alphabet.read("a b"), Err(' '));
        assert_eq!(alphabet.read("中"), Err('中'));
    }
}
