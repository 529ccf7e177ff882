//! GPT-2's pair of files: `vocab.json` (or `encoder.json`), tokens with their ids, and `merges.txt` (or `vocab.bpe`), a
//! merge a line. Also what a `tokenizer.json` says in the same words.

use super::tiktoken_ranks::number_specials;
use super::tokenizer_json::{Entries, InOrder};
use super::{ByteAlphabet, GivenSpecials, only_bytes, read};
use crate::error::{Error, Result};
use crate::tokenizer::bpe::encode::Encoder;
use crate::tokenizer::bpe::{Bpe, pair};
use crate::tokenizer::pretokenize::Pretokenizer;
use crate::tokenizer::pretokenize::patterns::GPT2;
use crate::tokenizer::special::Specials;
use crate::tokenizer::template::Template;
use crate::tokenizer::vocab::{Vocab, show};
use crate::tokenizer::{END_OF_TEXT, Level, Model, Parts, Tokenizer};
use rustc_hash::{FxHashMap, FxHashSet};
use std::path::Path;

/// Byte-level BPE as files describe it: tokens in the byte alphabet.
pub(super) struct Listed {
    /// The file, for messages.
    pub place: String,
    /// Tokens and ids.
    pub vocab: Vec<(String, u32)>,
    /// Merges in rank order.
    pub merges: Vec<(String, String)>,
    /// Special tokens, as plain text.
    pub specials: Vec<(String, u32)>,
    /// Other added tokens, as plain text.
    pub added: Vec<(String, u32)>,
    /// How text is split.
    pub split: Pretokenizer,
    /// Whether a piece that is a token is looked up whole.
    pub ignore_merges: bool,
}

/// Loads the two files.
pub fn load(
    vocab: &Path,
    merges: &Path,
    split: Option<Pretokenizer>,
    special_tokens: Option<GivenSpecials>,
) -> Result<Tokenizer> {
    let place = vocab.display().to_string();
    let Entries(entries) = serde_json::from_slice(&read(vocab)?).map_err(|e| {
        Error::tokenizer(&place, format!("is not a vocabulary: {e}"), "it is a JSON object of tokens and their ids")
    })?;
    let merges = parse_merges(&read(merges)?, &merges.display().to_string())?;
    let given = special_tokens.unwrap_or_else(|| {
        entries.iter().filter(|(token, _)| token == END_OF_TEXT).map(|(token, id)| (token.clone(), Some(*id))).collect()
    });
    // A special token named without an id may be in the vocabulary already.
    let ids: FxHashMap<&str, u32> = entries.iter().map(|(token, id)| (token.as_str(), *id)).collect();
    let given = given.into_iter().map(|(name, id)| (id.or_else(|| ids.get(name.as_str()).copied()), name));
    let given = given.map(|(id, name)| (name, id)).collect();
    build(Listed {
        place,
        specials: number_specials(given, entries.iter().map(|(_, id)| *id)),
        vocab: entries,
        merges,
        added: Vec::new(),
        split: split.unwrap_or_else(|| Pretokenizer::known(GPT2)),
        ignore_merges: false,
    })
}

/// The texts of both files. Pattern and special tokens have no place in them; neither has the rule that a piece that is a
/// token is that token whatever merges say, so a tokenizer that needs it is refused.
pub fn write(tokenizer: &Tokenizer) -> Result<(String, String)> {
    let cannot = |problem: String| {
        Error::tokenizer("vocab.json", format!("cannot hold this tokenizer: {problem}"), "save it as a tokenizer.json")
    };
    let bpe = only_bytes(tokenizer, "vocab.json")?;
    let names = tokenizer.written_names()?;
    let merges = bpe.merges(&tokenizer.vocab);
    if bpe.ignores_merges() {
        let made = |&(left, right): &(u32, u32)| {
            let [left_bytes, right_bytes] = [left, right].map(|id| tokenizer.vocab.bytes(id).unwrap_or_default());
            Some((pair(left, right), tokenizer.vocab.ordinary(&[left_bytes, right_bytes].concat())?))
        };
        let by_merges = Bpe::new(&merges.iter().filter_map(made).collect::<Vec<_>>(), &tokenizer.vocab, false);
        let (mut encoder, mut ids) = (Encoder::new(&by_merges, &tokenizer.vocab), Vec::new());
        for (id, bytes) in tokenizer.vocab.ordinary_entries() {
            ids.clear();
            encoder.piece(bytes, &mut ids)?;
            if ids != [id] {
                return Err(cannot(format!("its merges do not lead to the token {:?}", show(bytes))));
            }
        }
    }
    let entries = tokenizer.vocab.entries().map(|(id, _)| (names[id as usize].as_str(), id));
    let vocab = serde_json::to_string(&InOrder(entries.collect())).map_err(|e| Error::Internal(e.to_string()))?;
    let mut lines = String::from("#version: 0.2\n");
    for (left, right) in merges {
        lines.extend([names[left as usize].as_str(), " ", names[right as usize].as_str(), "\n"]);
    }
    Ok((vocab, lines))
}

fn parse_merges(file: &[u8], place: &str) -> Result<Vec<(String, String)>> {
    let text = std::str::from_utf8(file).map_err(|e| {
        Error::tokenizer(place, format!("byte {} is not UTF-8", e.valid_up_to()), "name a text file of merges")
    })?;
    let mut merges = Vec::new();
    for (number, line) in text.split('\n').enumerate() {
        let line = line.trim_end_matches('\r');
        if line.is_empty() || (number == 0 && line.starts_with("#version")) {
            continue;
        }
        merges.push(parse_merge(line).ok_or_else(|| bad_merge(&format!("{place}, line {}", number + 1), line))?);
    }
    Ok(merges)
}

/// "left right".
pub(super) fn parse_merge(line: &str) -> Option<(String, String)> {
    let (left, right) = line.split_once(' ')?;
    let whole = !left.is_empty() && !right.is_empty() && !right.contains(' ');
    whole.then(|| (left.to_string(), right.to_string()))
}

pub(super) fn bad_merge(place: &str, line: &str) -> Error {
    let shown: String = line.chars().take(80).collect();
    Error::tokenizer(place, format!("{shown:?} is not a merge"), "a merge is two tokens with one space between")
}

/// Makes the tokenizer, after checking that everything named exists.
pub(super) fn build(listed: Listed) -> Result<Tokenizer> {
    let Listed { place, vocab, merges, specials, added, split, ignore_merges } = listed;
    let plain: FxHashMap<&str, u32> = specials.iter().chain(&added).map(|(name, id)| (name.as_str(), *id)).collect();
    let alphabet = ByteAlphabet::get();
    let mut ids: FxHashMap<&str, u32> = FxHashMap::default();
    let mut entries = Vec::with_capacity(vocab.len());
    for (token, id) in &vocab {
        match plain.get(token.as_str()) {
            Some(other) if other != id => return Err(two_ids(&place, token, *id, *other)),
            Some(_) => {}
            None => entries.push((bytes_of(alphabet, token, &place)?, *id)),
        }
        ids.insert(token, *id);
    }
    let named: Vec<_> = specials.iter().chain(&added).cloned().collect();
    let vocab = Vocab::new(&entries, &named, &place)?;
    let merges = resolve(&merges, &ids, &specials, &place)?;
    let bpe = Bpe::new(&merges, &vocab, ignore_merges);
    Ok(Tokenizer::new(Parts {
        level: Level::Subword,
        split,
        vocab,
        model: Model::Bpe(Box::new(bpe)),
        specials: Specials::new(specials, added),
        pipeline: None,
        template: Template::default(),
    }))
}

fn bytes_of(alphabet: &ByteAlphabet, token: &str, place: &str) -> Result<Vec<u8>> {
    match alphabet.read(token) {
        Ok(bytes) if bytes.is_empty() => {
            Err(Error::tokenizer(place, "the vocabulary has an empty token", "remove it from the vocabulary"))
        }
        Ok(bytes) => Ok(bytes),
        Err(c) => Err(Error::tokenizer(
            place,
            format!("the token {token:?} has {c:?}, which stands for no byte"),
            "byte-level vocabularies are supported; name such a token as special or added if it is one",
        )),
    }
}

fn two_ids(place: &str, token: &str, first: u32, second: u32) -> Error {
    let problem = format!("the token {token:?} has id {first} in the vocabulary and {second} as an added token");
    Error::tokenizer(place, problem, "give it one id")
}

/// Merges as ids: the pair and what it makes. One that makes a special token is left out: text must not become one. Who
/// trains on text that has special tokens in it gets such merges from `tokenizers`, which never comes to them, since it
/// always takes the name of a special token for that token.
pub(super) fn resolve(
    merges: &[(String, String)],
    ids: &FxHashMap<&str, u32>,
    specials: &[(String, u32)],
    place: &str,
) -> Result<Vec<(u64, u32)>> {
    let special: FxHashSet<u32> = specials.iter().map(|(_, id)| *id).collect();
    let mut resolved = Vec::with_capacity(merges.len());
    let mut joined = String::new();
    for (number, (left, right)) in merges.iter().enumerate() {
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let id = |token: &str| {
            ids.get(token).copied().ok_or_else(|| {
                Error::tokenizer(
                    place,
                    format!("merge {number}, {left:?} {right:?}, needs the token {token:?}, which has no id"),
                    "use the vocabulary that belongs to these merges",
                )
            })
        };
        let (parts, made) = (pair(id(left)?, id(right)?), id(&joined)?);
        if !special.contains(&made) {
            resolved.push((parts, made));
        }
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_lines_are_checked() {
        let merges = parse_merges("#version: 0.2\r\nĠ t\r\nh e\n\n".as_bytes(), "m").unwrap();
        assert_eq!(merges, [("Ġ".to_string(), "t".to_string()), ("h".into(), "e".into())]);
        for bad in ["a", "a  b", "a b c", " b", "a ", "x y\n#version z q"] {
            assert!(parse_merges(bad.as_bytes(), "m").is_err(), "{bad:?}");
        }
        assert!(parse_merges(b"\xff", "m").is_err());
    }

    #[test]
    fn no_merge_makes_a_special_token() {
        let ids = [("a", 0), ("b", 1), ("ab", 2), ("aba", 3)].into_iter().collect();
        let merges = [("a", "b"), ("ab", "a")].map(|(left, right)| (left.to_string(), right.to_string()));
        let made = |specials: &[(String, u32)]| resolve(&merges, &ids, specials, "m").unwrap();
        assert_eq!(made(&[]), [(pair(0, 1), 2), (pair(2, 0), 3)]);
        assert_eq!(made(&[("ab".into(), 2)]), [(pair(2, 0), 3)]);
        assert_eq!(made(&[("aba".into(), 3)]), [(pair(0, 1), 2)]);
    }
}
