//! Writing: our tokenizers in the words of the format.

use super::AddedToken;
use crate::error::{Error, Result};
use crate::tokenizer::added::Flags;
use crate::tokenizer::files::ByteAlphabet;
use crate::tokenizer::pretokenize::{Pretokenizer, Step};
use crate::tokenizer::{Level, Model, Tokenizer};
use rustc_hash::FxHashSet;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// The `pre_tokenizer` that describes `split`.
pub fn split_to_json(split: &Pretokenizer, level: Level) -> Value {
    let isolated =
        |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    let byte_level = |prefix: bool, regex: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": regex});
    let mut steps: Vec<Value> = Vec::new();
    let mut own_regex = false;
    for step in &split.steps {
        match step {
            Step::Known(_, None) => own_regex = true,
            Step::Known(_, Some(regex)) => steps.push(isolated(regex)),
            Step::General(general) => steps.push(isolated(general.source())),
            Step::Digits { individual } => steps.push(json!({"type": "Digits", "individual_digits": individual})),
        }
    }
    if level == Level::Subword {
        steps.push(byte_level(split.prefix_space, own_regex));
    }
    match steps.len() {
        0 => Value::Null,
        1 => steps.remove(0),
        _ => json!({"type": "Sequence", "pretokenizers": steps}),
    }
}

#[derive(Serialize)]
struct Written<'a> {
    version: &'static str,
    truncation: Value,
    padding: Value,
    added_tokens: Vec<AddedToken>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: WrittenModel<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum WrittenModel<'a> {
    #[serde(rename = "BPE")]
    Bpe {
        dropout: Value,
        unk_token: Value,
        continuing_subword_prefix: Value,
        end_of_word_suffix: Value,
        fuse_unk: bool,
        byte_fallback: bool,
        ignore_merges: bool,
        vocab: InOrder<'a>,
        merges: Vec<(&'a str, &'a str)>,
    },
    WordLevel {
        vocab: InOrder<'a>,
        unk_token: String,
    },
}

/// Tokens in the order of their ids.
pub struct InOrder<'a>(pub Vec<(&'a str, u32)>);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (token, id) in &self.0 {
            map.serialize_entry(token, id)?;
        }
        map.end()
    }
}

impl Tokenizer {
    /// The text of a `tokenizer.json`, on many lines if `pretty`.
    pub fn to_json(&self, pretty: bool) -> Result<String> {
        let source = self.pipeline.as_ref().map(|pipeline| &pipeline.source);
        if let Some(original) = source.and_then(|source| source.original.as_ref()) {
            return Err(Error::tokenizer(
                "tokenizer.json",
                format!("cannot hold this tokenizer: {}", original.problem),
                format!("save it into a directory, which gets the {} that it was loaded from", original.name),
            ));
        }
        let option = |name: &str| source.and_then(|source| source.model.get(name)).cloned();
        let names = self.written_names()?;
        let vocab = self.vocab.entries().map(|(id, _)| (names[id as usize].as_str(), id)).collect();
        let (model, decoder) = match &self.model {
            Model::Bpe(bpe) => {
                let name = |id: u32| names[id as usize].as_str();
                let model = WrittenModel::Bpe {
                    dropout: Value::Null,
                    unk_token: option("unk_token").unwrap_or_default(),
                    continuing_subword_prefix: Value::Null,
                    end_of_word_suffix: Value::Null,
                    fuse_unk: option("fuse_unk") == Some(Value::Bool(true)),
                    byte_fallback: option("byte_fallback") == Some(Value::Bool(true)),
                    ignore_merges: bpe.ignores_merges(),
                    vocab: InOrder(vocab),
                    merges: bpe
                        .merges(&self.vocab)
                        .into_iter()
                        .map(|(left, right)| (name(left), name(right)))
                        .collect(),
                };
                (model, json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}))
            }
            Model::Entries { unk } => {
                let unk_token = unk.map_or(String::new(), |id| names[id as usize].clone());
                (WrittenModel::WordLevel { vocab: InOrder(vocab), unk_token }, json!({"type": "Fuse"}))
            }
        };
        let written = Written {
            version: "1.0",
            truncation: Value::Null,
            padding: Value::Null,
            added_tokens: self.written_added(),
            normalizer: source.map_or(Value::Null, |source| source.normalizer.clone()),
            pre_tokenizer: source
                .map_or_else(|| split_to_json(&self.split, self.level), |source| source.pre_tokenizer.clone()),
            post_processor: self.template.source.clone(),
            decoder: source.map_or(decoder, |source| source.decoder.clone()),
            model,
        };
        let json = if pretty { serde_json::to_string_pretty(&written) } else { serde_json::to_string(&written) };
        json.map_err(|e| Error::Internal(e.to_string()))
    }

    /// The name of every id in the file; empty for gaps.
    pub(in super::super) fn written_names(&self) -> Result<Vec<String>> {
        let alphabet = ByteAlphabet::get();
        let mut names = vec![String::new(); self.vocab.size()];
        for (id, bytes) in self.vocab.entries() {
            names[id as usize] = match self.model {
                Model::Bpe(ref bpe) if bpe.chars().is_none() => alphabet.write(bytes),
                _ => String::from_utf8_lossy(bytes).into_owned(),
            };
        }
        let spelt: FxHashSet<String> = names.iter().cloned().collect();
        for (name, id) in self.specials.names().iter().chain(self.specials.added()) {
            if names[*id as usize] != *name && spelt.contains(name) {
                return Err(Error::tokenizer(
                    format!("special token {name:?}"),
                    "is how a tokenizer.json spells another entry",
                    "give the special token another name",
                ));
            }
            names[*id as usize] = name.clone();
        }
        Ok(names)
    }

    fn written_added(&self) -> Vec<AddedToken> {
        let token = |(content, id): &(String, u32), special| {
            let flags = self.pipeline.as_ref().and_then(|pipeline| pipeline.flags.get(id));
            let Flags { single_word, lstrip, rstrip, normalized } = flags.copied().unwrap_or_default();
            AddedToken { id: *id, content: content.clone(), single_word, lstrip, rstrip, normalized, special }
        };
        let specials = self.specials.names().iter().map(|name| token(name, true));
        let mut all: Vec<_> = specials.chain(self.specials.added().iter().map(|name| token(name, false))).collect();
        all.sort_by_key(|token| token.id);
        all
    }
}

/// The text of a `tokenizer_config.json`, for `transformers`.
pub fn config(tokenizer: &Tokenizer) -> String {
    let end = tokenizer.eot_id().map(|_| crate::tokenizer::END_OF_TEXT);
    let unk = tokenizer.unk_id().and_then(|id| tokenizer.vocab.bytes(id)).map(String::from_utf8_lossy);
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": end,
        "eos_token": end,
        "unk_token": unk,
        "add_prefix_space": tokenizer.split.prefix_space,
        "clean_up_tokenization_spaces": false,
    });
    format!("{config:#}\n")
}
