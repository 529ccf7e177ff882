//! A tokenizer spelled out, slowly: read anew from the text of its `tokenizer.json`, pieces from the scanners that go
//! character by character, and merges by looking for the lowest rank until there is none.

use rustc_hash::FxHashMap;
use serde_json::Value;
use std::cell::RefCell;
use subgpt_core::tokenizer::files::ByteAlphabet;
use subgpt_core::tokenizer::pretokenize::patterns::{CHARS_REGEX, GPT2, Pattern, WORDS_REGEX};
use subgpt_core::tokenizer::pretokenize::{Pretokenizer, Step};
use subgpt_core::tokenizer::{Level, Tokenizer};

/// Which neighbours merge.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Those that the file lists, in its order.
    Listed,
    /// tiktoken's: those whose bytes are a token, in the order of ids.
    Ranked,
}

/// Longer texts are left to the fast ways: the slow one takes their square.
const LONGEST: usize = 2000;

/// The slow twin of a tokenizer.
pub struct Reference {
    split: Pretokenizer,
    prefix_space: bool,
    whole_first: bool,
    /// What text may become.
    entries: FxHashMap<Vec<u8>, u32>,
    /// Rank and result of every pair that merges; nothing where pieces are looked up.
    merges: Option<FxHashMap<(u32, u32), (u32, u32)>>,
    unk: Option<u32>,
    /// Names, ids, and whether they are special: the others are found in every text.
    added: Vec<(String, u32, bool)>,
    /// Pieces that were met before.
    known: RefCell<FxHashMap<Vec<u8>, Vec<u32>>>,
}

impl Reference {
    /// The twin of `tokenizer`; `None` where the file says more than the slow way knows, has a regular expression that may
    /// give up, or merges special tokens.
    pub fn new(tokenizer: &Tokenizer, rule: Rule) -> Option<Reference> {
        let json: Value = serde_json::from_str(&tokenizer.to_json(false).ok()?).ok()?;
        if !is_plain(&json, tokenizer.level()) {
            return None;
        }
        let split = match tokenizer.level() {
            Level::Char => Pretokenizer::known(Pattern::Chars),
            Level::Word => Pretokenizer::known(Pattern::Words),
            Level::Subword => match tokenizer.pattern() {
                Some(pattern) => {
                    Pretokenizer::from_argument(pattern, "reference").ok().filter(|s| s.pattern().is_some())?
                }
                None => digits_apart(&json["pre_tokenizer"])?,
            },
        };
        let added: Vec<(String, u32, bool)> = list(&json["added_tokens"])
            .map(|token| (text(&token["content"]), id(&token["id"]), token["special"] == true))
            .collect();
        let model = &json["model"];
        let (alphabet, subword) = (ByteAlphabet::get(), tokenizer.level() == Level::Subword);
        let bytes = |name: &str| match subword {
            true => alphabet.read(name).expect("a written name is in the byte alphabet"),
            false => name.as_bytes().to_vec(),
        };
        let entries: FxHashMap<Vec<u8>, u32> = model["vocab"]
            .as_object()?
            .iter()
            .filter(|(_, value)| !added.iter().any(|(_, named, _)| *named == id(value)))
            .map(|(name, value)| (bytes(name), id(value)))
            .collect();
        let listed = || {
            let merge = |(pair, rank): (&Value, u32)| {
                let [left, right] = [0, 1].map(|side| alphabet.read(&text(&pair[side])).ok());
                let (left, right) = (left?, right?);
                let made = *entries.get(&[left.as_slice(), &right].concat())?;
                Some(((*entries.get(&left)?, *entries.get(&right)?), (rank, made)))
            };
            list(&model["merges"]).zip(0..).map(merge).collect::<Option<_>>()
        };
        let merges = match rule {
            _ if !subword => None,
            Rule::Ranked => Some(splits(&entries)),
            Rule::Listed => Some(listed()?),
        };
        Some(Reference {
            split,
            prefix_space: find(&json["pre_tokenizer"], "add_prefix_space"),
            whole_first: model["ignore_merges"] == true,
            entries,
            merges,
            unk: tokenizer.unk_id(),
            added,
            known: RefCell::default(),
        })
    }

    /// Whether any text comes back as it was.
    pub fn is_exact(&self) -> bool {
        let all_bytes = (0..=255u8).all(|byte| self.entries.contains_key([byte].as_slice()));
        self.merges.is_some() && !self.prefix_space && all_bytes
    }

    /// The ids of `text`, with special tokens recognised or taken as ordinary text; `None` where it is too long.
    pub fn encode(&self, text: &str, special: bool) -> Option<Vec<u32>> {
        if text.len() > LONGEST {
            return None;
        }
        let mut ids = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let named = self.added.iter().filter(|(name, _, is_special)| !name.is_empty() && (special || !is_special));
            // The leftmost, and of several there the longest.
            let found = named
                .filter_map(|(name, id, _)| Some((rest.find(name.as_str())?, std::cmp::Reverse(name.len()), *id)))
                .min();
            let end = found.map_or(rest.len(), |(at, ..)| at);
            self.stretch(&rest[..end], &mut ids);
            rest = &rest[end..];
            if let Some((_, len, id)) = found {
                ids.push(id);
                rest = &rest[len.0..];
            }
        }
        Some(ids)
    }

    /// Appends the ids of what is between special tokens.
    fn stretch(&self, text: &str, ids: &mut Vec<u32>) {
        let spaced = format!(" {text}");
        let text = if self.prefix_space && !text.is_empty() && !text.starts_with(' ') { &spaced } else { text };
        let pieces = self.split.for_each(text, |piece| {
            let mut known = self.known.borrow_mut();
            if !known.contains_key(piece.as_bytes()) {
                known.insert(piece.as_bytes().to_vec(), self.piece(piece.as_bytes()));
            }
            ids.extend(&known[piece.as_bytes()]);
            Ok(())
        });
        pieces.expect("a scanner never fails");
    }

    fn piece(&self, piece: &[u8]) -> Vec<u32> {
        let Some(merges) = &self.merges else {
            return self.entries.get(piece).copied().or(self.unk).into_iter().collect();
        };
        if self.whole_first
            && let Some(id) = self.entries.get(piece)
        {
            return vec![*id];
        }
        // A byte without a token is left out.
        let mut ids: Vec<u32> = piece.iter().filter_map(|byte| self.entries.get([*byte].as_slice()).copied()).collect();
        let lowest = |ids: &[u32]| {
            let ranked = ids.windows(2).enumerate().filter_map(|(at, pair)| {
                let (rank, made) = merges.get(&(pair[0], pair[1]))?;
                Some((*rank, at, *made))
            });
            ranked.min()
        };
        while let Some((_, at, made)) = lowest(&ids) {
            ids[at] = made;
            ids.remove(at + 1);
        }
        ids
    }
}

/// Whether a file says nothing that the slow way does not know: no normalizer, no unusual added token, no characters in
/// place of bytes, at levels char and word no split of its own.
fn is_plain(json: &Value, level: Level) -> bool {
    let regex = json["pre_tokenizer"]["pattern"]["Regex"].as_str();
    let usual = match level {
        Level::Char => regex == Some(CHARS_REGEX),
        Level::Word => regex == Some(WORDS_REGEX),
        Level::Subword => json["model"]["byte_fallback"] != true && json["decoder"]["type"] == "ByteLevel",
    };
    let flags = ["lstrip", "rstrip", "single_word"];
    let added = |token: &Value| flags.iter().all(|flag| token[*flag] != true);
    usual && json["normalizer"].is_null() && list(&json["added_tokens"]).all(added)
}

/// A split that cuts out every digit and then goes by a known pattern.
fn digits_apart(pre_tokenizer: &Value) -> Option<Pretokenizer> {
    let steps: Vec<&Value> = list(&pre_tokenizer["pretokenizers"]).collect();
    let [digits, split @ .., bytes] = steps.as_slice() else { return None };
    if digits["individual_digits"] != true || bytes["type"] != "ByteLevel" || bytes["add_prefix_space"] != false {
        return None;
    }
    let pattern = match (split, bytes["use_regex"] == true) {
        ([], true) => GPT2,
        ([split], false) if split["behavior"] == "Isolated" => {
            Pattern::from_regex(split["pattern"]["Regex"].as_str()?)?
        }
        _ => return None,
    };
    let mut pieces = Pretokenizer::known(pattern);
    pieces.steps.insert(0, Step::Digits { individual: true });
    Some(pieces)
}

/// Every way to make a token of two, by the token that it makes.
fn splits(entries: &FxHashMap<Vec<u8>, u32>) -> FxHashMap<(u32, u32), (u32, u32)> {
    let mut merges = FxHashMap::default();
    for (bytes, made) in entries {
        for cut in 1..bytes.len() {
            if let (Some(left), Some(right)) = (entries.get(&bytes[..cut]), entries.get(&bytes[cut..])) {
                merges.insert((*left, *right), (*made, *made));
            }
        }
    }
    merges
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string was written").to_string()
}

fn id(value: &Value) -> u32 {
    value.as_u64().and_then(|id| u32::try_from(id).ok()).expect("an id was written")
}

/// Whether a flag is set anywhere in a value.
fn find(value: &Value, flag: &str) -> bool {
    match value {
        Value::Object(fields) => {
            fields.iter().any(|(name, inner)| (name == flag && inner == true) || find(inner, flag))
        }
        Value::Array(values) => values.iter().any(|inner| find(inner, flag)),
        _ => false,
    }
}
