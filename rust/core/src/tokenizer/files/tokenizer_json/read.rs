//! Reading: every component is implemented or refused by name.

use super::AddedToken;
use super::component::unsupported;
use super::pretokenizers::PreTokenizer;
use super::{decoders, normalizers, template};
use crate::error::{Error, Result};
use crate::tokenizer::added::Flags;
use crate::tokenizer::bpe::Bpe;
use crate::tokenizer::bpe::symbols::{Chars, Settle};
use crate::tokenizer::decoders::Decoder;
use crate::tokenizer::files::vocab_merges::{Listed, bad_merge, build, parse_merge, resolve};
use crate::tokenizer::files::{ByteAlphabet, only, read};
use crate::tokenizer::normalize::sentencepiece::SPACE;
use crate::tokenizer::pipeline::{Pipeline, Source};
use crate::tokenizer::pretokenize::Pretokenizer;
use crate::tokenizer::pretokenize::patterns::Pattern;
use crate::tokenizer::pretokenize::rewrite::Stage;
use crate::tokenizer::special::Specials;
use crate::tokenizer::template::Template;
use crate::tokenizer::vocab::Vocab;
use crate::tokenizer::{Level, Model, Parts, Tokenizer};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
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
    let reading = Reading::new(file, place)?;
    match reading.model.kind.as_deref() {
        Some("BPE") => reading.subwords(),
        None if reading.model.merges.is_some() => reading.subwords(),
        Some("WordLevel") => reading.words(),
        kind => Err(unsupported(place, format!("model {:?}", kind.unwrap_or("without a type")))),
    }
}

type Tokens = Vec<(String, u32)>;

/// A file whose parts have been looked at.
struct Reading<'f> {
    place: &'f str,
    model: ModelFile,
    vocab: Tokens,
    specials: Tokens,
    added: Tokens,
    flags: FxHashMap<u32, Flags>,
    source: Source,
    template: Template,
}

impl<'f> Reading<'f> {
    fn new(file: File, place: &'f str) -> Result<Self> {
        let mut model = file.model;
        let AnyVocab::Entries(vocab) = std::mem::replace(&mut model.vocab, AnyVocab::List) else {
            return Err(unsupported(place, "a vocabulary that is a list, as of the model \"Unigram\","));
        };
        let template = template::read(&file.post_processor, place)?;
        let (specials, added, flags) = split_added(file.added_tokens, place)?;
        let source = Source {
            normalizer: file.normalizer,
            pre_tokenizer: file.pre_tokenizer,
            decoder: file.decoder,
            model: json!({
                "unk_token": model.unk_token,
                "fuse_unk": model.fuse_unk,
                "byte_fallback": model.byte_fallback,
            }),
            original: None,
        };
        Ok(Reading { place, model, vocab, specials, added, flags, source, template })
    }

    fn subwords(mut self) -> Result<Tokenizer> {
        let model = &self.model;
        for (set, what) in [
            (model.dropout.is_some_and(|p| p != 0.0), "BPE dropout"),
            (model.continuing_subword_prefix.as_ref().is_some_and(|s| !s.is_empty()), "BPE continuing_subword_prefix"),
            (model.end_of_word_suffix.as_ref().is_some_and(|s| !s.is_empty()), "BPE end_of_word_suffix"),
        ] {
            if set {
                return Err(unsupported(self.place, what));
            }
        }
        let unk = self.unk()?;
        let merges = read_merges(self.model.merges.take().unwrap_or_default(), self.place)?;
        let (pre_tokenizer, place) = (self.source.pre_tokenizer.clone(), self.place);
        let pre_tokenizer = PreTokenizer::new(&pre_tokenizer, place)?;
        let by_bytes = pre_tokenizer.is_byte_level() && decoders::is_only(&self.source.decoder, "ByteLevel", place);
        if by_bytes && ((unk.is_none() && !self.model.byte_fallback) || self.has_all_bytes()) {
            let (split, stages) = match pre_tokenizer.steps()? {
                Some(split) => (split, Vec::new()),
                None => (Pretokenizer::default(), pre_tokenizer.stages(false)?),
            };
            let pipeline = self.pipeline(stages, None)?;
            let mut tokenizer = build(Listed {
                place: place.to_string(),
                vocab: self.vocab,
                merges,
                specials: self.specials,
                added: self.added,
                split,
                ignore_merges: self.model.ignore_merges,
            })?;
            tokenizer.pipeline = pipeline;
            tokenizer.template = self.template;
            return Ok(tokenizer);
        }
        let pipeline =
            self.pipeline(pre_tokenizer.stages(true)?, Some(decoders::read(&self.source.decoder, place)?))?;
        self.symbols(unk, &merges, pipeline)
    }

    /// The id of `unk_token`.
    fn unk(&self) -> Result<Option<u32>> {
        match self.model.unk_token.as_deref() {
            None | Some("") => Ok(None),
            Some(name) => {
                self.vocab.iter().find(|(token, _)| token == name).map(|(_, id)| Some(*id)).ok_or_else(|| {
                    Error::tokenizer(self.place, format!("unk_token {name:?} has no id"), "add it to the vocabulary")
                })
            }
        }
    }

    /// Whether the vocabulary has the whole byte alphabet, so that nothing is unknown.
    fn has_all_bytes(&self) -> bool {
        let alphabet = ByteAlphabet::get();
        let tokens: FxHashSet<&str> = self.vocab.iter().map(|(token, _)| token.as_str()).collect();
        (0..=255u8).all(|byte| tokens.contains(alphabet.write(&[byte]).as_str()))
    }

    /// The steps before the model; `None` where it needs none.
    fn pipeline(&mut self, stages: Vec<Stage>, decoder: Option<Decoder>) -> Result<Option<Box<Pipeline>>> {
        let normalizers = normalizers::read(&self.source.normalizer, self.place)?;
        let flags = std::mem::take(&mut self.flags);
        let names = (self.specials.as_slice(), self.added.as_slice());
        let pipeline = Pipeline::new(normalizers, stages, decoder, flags, self.source.clone(), names)?;
        Ok((!pipeline.is_idle()).then(|| Box::new(pipeline)))
    }

    /// BPE over characters.
    fn symbols(
        self,
        unk: Option<u32>,
        merges: &[(String, String)],
        pipeline: Option<Box<Pipeline>>,
    ) -> Result<Tokenizer> {
        let Reading { place, model, vocab: listed, specials, added, template, .. } = self;
        if listed.iter().any(|(token, _)| token.is_empty()) {
            return Err(Error::tokenizer(place, "the vocabulary has an empty token", "remove it from the vocabulary"));
        }
        let ids: FxHashMap<&str, u32> = listed.iter().map(|(token, id)| (token.as_str(), *id)).collect();
        let merges = resolve(merges, &ids, &specials, place)?;
        let special: FxHashSet<&str> = specials.iter().map(|(name, _)| name.as_str()).collect();
        let known = listed.iter().filter(|(token, _)| !special.contains(token.as_str()));
        let known = known.filter_map(|(token, id)| Some((only(token)?, *id)));
        let mut chars = Chars::new(known.collect(), Settle::Before).with_unknown(unk, model.fuse_unk);
        if model.byte_fallback {
            chars = chars.with_bytes(|name| ids.get(name).copied());
        }
        let vocab = vocabulary(&listed, &specials, &added, place)?;
        if !model.ignore_merges {
            // Without a pre-tokenizer a text is one piece.
            let mark = pipeline.as_ref().and_then(|pipeline| pipeline.mark()).unwrap_or(SPACE);
            chars = chars.cut_at(mark, vocab.ordinary_entries().map(|(_, token)| token));
        }
        let bpe = Bpe::new(&merges, &vocab, model.ignore_merges).over(chars);
        Ok(Tokenizer::new(Parts {
            level: Level::Subword,
            split: Pretokenizer::default(),
            vocab,
            model: Model::Bpe(Box::new(bpe)),
            specials: Specials::new(specials, added),
            pipeline,
            template,
        }))
    }

    fn words(mut self) -> Result<Tokenizer> {
        let place = self.place;
        let unk = self.unk()?;
        let pre_tokenizer = self.source.pre_tokenizer.clone();
        let pre_tokenizer = PreTokenizer::new(&pre_tokenizer, place)?;
        let simple = match pre_tokenizer.steps()? {
            Some(split) if !pre_tokenizer.is_byte_level() && decoders::is_only(&self.source.decoder, "Fuse", place) => {
                Some(split)
            }
            _ => None,
        };
        let (split, pipeline) = match simple {
            Some(split) => (split, self.pipeline(Vec::new(), None)?),
            None => {
                let decoder = decoders::read(&self.source.decoder, place)?;
                (Pretokenizer::default(), self.pipeline(pre_tokenizer.stages(true)?, Some(decoder))?)
            }
        };
        let Reading { vocab: listed, specials, added, template, .. } = self;
        let vocab = vocabulary(&listed, &specials, &added, place)?;
        let level = if split.pattern() == Some(Pattern::Chars) { Level::Char } else { Level::Word };
        let (model, specials) = (Model::Entries { unk }, Specials::new(specials, added));
        Ok(Tokenizer::new(Parts { level, split, vocab, model, specials, pipeline, template }))
    }
}

/// Entries that text becomes, and added tokens.
fn vocabulary(
    listed: &[(String, u32)],
    specials: &[(String, u32)],
    added: &[(String, u32)],
    place: &str,
) -> Result<Vocab> {
    let named: Vec<_> = specials.iter().chain(added).cloned().collect();
    let known: FxHashSet<&(String, u32)> = named.iter().collect();
    let ordinary: Vec<_> =
        listed.iter().filter(|token| !known.contains(token)).map(|(token, id)| (token, *id)).collect();
    Vocab::new(&ordinary, &named, place)
}

fn split_added(tokens: Vec<AddedToken>, place: &str) -> Result<(Tokens, Tokens, FxHashMap<u32, Flags>)> {
    let (mut specials, mut added, mut flags) = (Vec::new(), Vec::new(), FxHashMap::default());
    for token in tokens {
        if token.content.is_empty() {
            return Err(Error::tokenizer(place, "an added token is empty", "remove it"));
        }
        let AddedToken { single_word, lstrip, rstrip, normalized, .. } = token;
        flags.insert(token.id, Flags { single_word, lstrip, rstrip, normalized });
        (if token.special { &mut specials } else { &mut added }).push((token.content, token.id));
    }
    let mut names: Vec<_> = specials.iter().chain(&added).map(|(name, _)| name).collect();
    names.sort_unstable();
    match names.windows(2).find(|two| two[0] == two[1]) {
        Some(two) => Err(Error::tokenizer(place, format!("the added token {:?} is there twice", two[0]), "keep one")),
        None => Ok((specials, added, flags)),
    }
}

fn read_merges(lines: Vec<MergeLine>, place: &str) -> Result<Vec<(String, String)>> {
    let pair = |line| match line {
        MergeLine::Pair((left, right)) if left.is_empty() || right.is_empty() => {
            Err(bad_merge(place, &format!("{left} {right}")))
        }
        MergeLine::Pair(pair) => Ok(pair),
        MergeLine::Line(line) => parse_merge(&line).ok_or_else(|| bad_merge(place, &line)),
    };
    lines.into_iter().map(pair).collect()
}
