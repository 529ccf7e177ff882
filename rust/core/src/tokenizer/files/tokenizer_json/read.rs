//! Reading: every component is implemented or refused by name.

use super::AddedToken;
use crate::error::{Error, Result};
use crate::tokenizer::files::read;
use crate::tokenizer::files::vocab_merges::{Listed, bad_merge, build, parse_merge};
use crate::tokenizer::pretokenize::general::General;
use crate::tokenizer::pretokenize::patterns::{GPT2, Pattern};
use crate::tokenizer::pretokenize::{Pretokenizer, Step};
use crate::tokenizer::special::Specials;
use crate::tokenizer::vocab::Vocab;
use crate::tokenizer::{Level, Model, Parts, Tokenizer};
use rustc_hash::FxHashSet;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::path::Path;

/// `{"token": id, …}`, with every token once and no order lost.
pub struct Entries(pub Vec<(String, u32)>);

/// A vocabulary of any model; that of `Unigram` is a list, which is only looked at to name it.
enum AnyVocab {
    Entries(Vec<(String, u32)>),
    List,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "version")]
    _version: IgnoredAny,
    #[serde(default, rename = "truncation")]
    _truncation: IgnoredAny,
    #[serde(default, rename = "padding")]
    _padding: IgnoredAny,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    model: ModelFile,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelFile {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    vocab: AnyVocab,
    merges: Option<Vec<MergeLine>>,
    dropout: Option<f64>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    // Fields of models that are refused by their type.
    #[serde(default, rename = "unk_id")]
    _unk_id: IgnoredAny,
    #[serde(default, rename = "max_input_chars_per_word")]
    _max_input_chars_per_word: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum MergeLine {
    Line(String),
    Pair((String, String)),
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match AnyVocab::deserialize(deserializer)? {
            AnyVocab::Entries(entries) => Ok(Entries(entries)),
            AnyVocab::List => Err(serde::de::Error::custom("expected an object of tokens and ids, found a list")),
        }
    }
}

impl<'de> Deserialize<'de> for AnyVocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = AnyVocab;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tokens and ids")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<AnyVocab, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(AnyVocab::Entries(entries))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<AnyVocab, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(AnyVocab::List)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// Loads a file.
pub fn load(path: &Path) -> Result<Tokenizer> {
    parse(&read(path)?, &path.display().to_string())
}

/// Reads the text of a `tokenizer.json`; `place` names it in errors.
pub fn parse(json: &[u8], place: &str) -> Result<Tokenizer> {
    let file: File = serde_json::from_slice(json).map_err(|e| {
        let e = e.to_string();
        Error::tokenizer(
            place,
            format!("is not a tokenizer.json that can be read: {e}"),
            "save it again, or correct it",
        )
    })?;
    if !file.normalizer.is_null() {
        return Err(refuse(place, "normalizer", &file.normalizer));
    }
    check_post_processor(&file.post_processor, place)?;
    let (specials, added) = split_added(file.added_tokens, place)?;
    match file.model.kind.as_deref() {
        Some("BPE") => subwords(file.model, file.pre_tokenizer, &file.decoder, specials, added, place),
        None if file.model.merges.is_some() => {
            subwords(file.model, file.pre_tokenizer, &file.decoder, specials, added, place)
        }
        Some("WordLevel") => words(file.model, file.pre_tokenizer, &file.decoder, specials, added, place),
        kind => Err(unsupported(place, format!("model {:?}", kind.unwrap_or("without a type")))),
    }
}

fn unsupported(place: &str, what: impl std::fmt::Display) -> Error {
    Error::tokenizer(
        place,
        format!("{what} is not implemented"),
        "convert the tokenizer, or train one with Tokenizer.train",
    )
}

fn refuse(place: &str, role: &str, component: &Value) -> Error {
    let kind = component.get("type").and_then(Value::as_str).map_or_else(
        || component.to_string().chars().take(80).collect(),
        |kind| format!("{kind:?} ({})", component.to_string().chars().take(160).collect::<String>()),
    );
    unsupported(place, format!("{role} {kind}"))
}

type Tokens = Vec<(String, u32)>;

fn split_added(tokens: Vec<AddedToken>, place: &str) -> Result<(Tokens, Tokens)> {
    let (mut specials, mut added) = (Vec::new(), Vec::new());
    for token in tokens {
        for (set, what) in [(token.single_word, "single_word"), (token.lstrip, "lstrip"), (token.rstrip, "rstrip")] {
            if set {
                return Err(unsupported(place, format!("added token {:?} with {what}", token.content)));
            }
        }
        if token.content.is_empty() {
            return Err(Error::tokenizer(place, "an added token is empty", "remove it"));
        }
        (if token.special { &mut specials } else { &mut added }).push((token.content, token.id));
    }
    let mut names: Vec<_> = specials.iter().chain(&added).map(|(name, _)| name).collect();
    names.sort_unstable();
    match names.windows(2).find(|two| two[0] == two[1]) {
        Some(two) => Err(Error::tokenizer(place, format!("the added token {:?} is there twice", two[0]), "keep one")),
        None => Ok((specials, added)),
    }
}

/// A post-processor that adds no tokens is of no concern; `ByteLevel` only moves offsets.
fn check_post_processor(value: &Value, place: &str) -> Result<()> {
    match value.get("type").and_then(Value::as_str) {
        None if value.is_null() => Ok(()),
        Some("ByteLevel") => Ok(()),
        Some("Sequence") => match value.get("processors").and_then(Value::as_array) {
            Some(list) => list.iter().try_for_each(|inner| check_post_processor(inner, place)),
            None => Err(refuse(place, "post_processor", value)),
        },
        _ => Err(refuse(place, "post_processor", value)),
    }
}

fn subwords(
    model: ModelFile,
    pre_tokenizer: Value,
    decoder: &Value,
    specials: Tokens,
    added: Tokens,
    place: &str,
) -> Result<Tokenizer> {
    let AnyVocab::Entries(vocab) = model.vocab else {
        return Err(unsupported(place, "a BPE vocabulary that is a list"));
    };
    for (set, what) in [
        (model.dropout.is_some_and(|p| p != 0.0), "BPE dropout"),
        (model.unk_token.is_some(), "BPE unk_token"),
        (model.continuing_subword_prefix.is_some_and(|s| !s.is_empty()), "BPE continuing_subword_prefix"),
        (model.end_of_word_suffix.is_some_and(|s| !s.is_empty()), "BPE end_of_word_suffix"),
        (model.fuse_unk, "BPE fuse_unk"),
        (model.byte_fallback, "BPE byte_fallback"),
    ] {
        if set {
            return Err(unsupported(place, what));
        }
    }
    let mut merges = Vec::new();
    for line in model.merges.unwrap_or_default() {
        merges.push(match line {
            MergeLine::Pair((left, right)) if left.is_empty() || right.is_empty() => {
                return Err(bad_merge(place, &format!("{left} {right}")));
            }
            MergeLine::Pair(pair) => pair,
            MergeLine::Line(line) => parse_merge(&line).ok_or_else(|| bad_merge(place, &line))?,
        });
    }
    check_decoder(decoder, "ByteLevel", place)?;
    let (split, byte_level) = read_split(&pre_tokenizer, place)?;
    if !byte_level {
        return Err(unsupported(place, "BPE without a ByteLevel pre_tokenizer"));
    }
    let ignore_merges = model.ignore_merges;
    build(Listed { place: place.to_string(), vocab, merges, specials, added, split, ignore_merges })
}

fn words(
    model: ModelFile,
    pre_tokenizer: Value,
    decoder: &Value,
    specials: Tokens,
    added: Tokens,
    place: &str,
) -> Result<Tokenizer> {
    let AnyVocab::Entries(listed) = model.vocab else {
        return Err(unsupported(place, "a WordLevel vocabulary that is a list"));
    };
    check_decoder(decoder, "Fuse", place)?;
    let (split, byte_level) = read_split(&pre_tokenizer, place)?;
    if byte_level {
        return Err(unsupported(place, "WordLevel with a ByteLevel pre_tokenizer"));
    }
    let unk = match &model.unk_token {
        None => None,
        Some(name) if name.is_empty() => None,
        Some(name) => Some(listed.iter().find(|(token, _)| token == name).map(|(_, id)| *id).ok_or_else(|| {
            Error::tokenizer(place, format!("unk_token {name:?} has no id"), "add it to the vocabulary")
        })?),
    };
    let named: Vec<_> = specials.iter().chain(&added).cloned().collect();
    let known: FxHashSet<&(String, u32)> = named.iter().collect();
    let listed: Vec<_> = listed.into_iter().filter(|token| !known.contains(token)).collect();
    let vocab = Vocab::new(&listed, &named, place)?;
    let level = if split.pattern() == Some(Pattern::Chars) { Level::Char } else { Level::Word };
    let (model, specials) = (Model::Entries { unk }, Specials::new(specials));
    Ok(Tokenizer::new(Parts { level, split, vocab, model, specials, added }))
}

fn check_decoder(value: &Value, wanted: &str, place: &str) -> Result<()> {
    match value.get("type").and_then(Value::as_str) {
        Some(kind) if kind == wanted => Ok(()),
        Some("Sequence") => match value.get("decoders").and_then(Value::as_array).map(Vec::as_slice) {
            Some([only]) => check_decoder(only, wanted, place),
            _ => Err(refuse(place, "decoder", value)),
        },
        _ => Err(refuse(place, "decoder", value)),
    }
}

/// The steps that a `pre_tokenizer` describes, and whether they end in `ByteLevel`.
fn read_split(value: &Value, place: &str) -> Result<(Pretokenizer, bool)> {
    let mut flat = Vec::new();
    flatten(value, place, &mut flat)?;
    let mut split = Pretokenizer::default();
    let mut byte_level = false;
    for component in flat {
        if byte_level {
            // From there on the text is in the byte alphabet.
            return Err(refuse(place, "pre_tokenizer after ByteLevel:", component));
        }
        match component.get("type").and_then(Value::as_str) {
            Some("ByteLevel") => {
                let flag = |name: &str, default| component.get(name).map_or(Some(default), Value::as_bool);
                let (Some(prefix), Some(regex)) = (flag("add_prefix_space", true), flag("use_regex", true)) else {
                    return Err(refuse(place, "pre_tokenizer", component));
                };
                if prefix && !split.steps.is_empty() {
                    return Err(refuse(place, "add_prefix_space after other steps:", component));
                }
                split.prefix_space = prefix;
                if regex {
                    split.steps.push(Step::Known(GPT2, None));
                }
                byte_level = true;
            }
            Some("Digits") => {
                let individual = component.get("individual_digits").and_then(Value::as_bool).unwrap_or(false);
                split.steps.push(Step::Digits { individual });
            }
            Some("Split") => split.steps.push(read_split_step(component, place)?),
            _ => return Err(refuse(place, "pre_tokenizer", component)),
        }
    }
    Ok((split, byte_level))
}

/// Sequences are taken apart. Their depth is bounded by the JSON reader's.
fn flatten<'v>(value: &'v Value, place: &str, flat: &mut Vec<&'v Value>) -> Result<()> {
    if value.get("type").and_then(Value::as_str) == Some("Sequence") {
        let list = value.get("pretokenizers").and_then(Value::as_array);
        let list = list.ok_or_else(|| refuse(place, "pre_tokenizer", value))?;
        return list.iter().try_for_each(|inner| flatten(inner, place, flat));
    }
    if !value.is_null() {
        flat.push(value);
    }
    Ok(())
}

fn read_split_step(component: &Value, place: &str) -> Result<Step> {
    let pattern = component.get("pattern");
    let regex = match (pattern.and_then(|p| p.get("Regex")), pattern.and_then(|p| p.get("String"))) {
        (Some(Value::String(regex)), None) => regex.clone(),
        (None, Some(Value::String(literal))) => fancy_regex::escape(literal).into_owned(),
        _ => return Err(refuse(place, "pre_tokenizer", component)),
    };
    let known = Pattern::from_regex(&regex);
    let invert = component.get("invert").and_then(Value::as_bool).unwrap_or(false);
    match component.get("behavior").and_then(Value::as_str) {
        Some("Isolated") => {}
        // "Remove what does not match": nothing, for patterns that match everything.
        Some("Removed") if invert && known.is_some() => {}
        _ => return Err(refuse(place, "pre_tokenizer", component)),
    }
    match known {
        Some(pattern) => Ok(Step::Known(pattern, Some(regex))),
        None => General::new(&regex, place).map(Step::General),
    }
}
