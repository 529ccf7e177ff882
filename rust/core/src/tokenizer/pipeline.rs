//! What happens to a text before its pieces become ids where that is more than cutting: added tokens with conditions,
//! normalizers, and stages that rewrite as they cut. Tokenizers that only cut do without.

use super::added::{self, Flags, Found};
use super::decoders::Decoder;
use super::normalize::Normalizer;
use super::normalize::aligned::{Aligned, Origin};
use super::pretokenize::rewrite::{Pieces, Stage};
use super::special::{Matcher, Specials, Which};
use crate::error::{Error, Result};
use rustc_hash::FxHashMap;
use serde_json::Value;
use std::borrow::Cow;
use std::ops::Range;

/// How the file that a tokenizer came from describes it, for writing it back.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// `normalizer`.
    pub normalizer: Value,
    /// `pre_tokenizer`.
    pub pre_tokenizer: Value,
    /// `decoder`.
    pub decoder: Value,
    /// Options of the model.
    pub model: Value,
    /// The file itself, where no `tokenizer.json` can hold the tokenizer.
    pub original: Option<Original>,
}

/// A file that is kept as it is.
#[derive(Clone, Debug)]
pub struct Original {
    /// What such a file is called.
    pub name: &'static str,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Why no `tokenizer.json` can hold the tokenizer.
    pub problem: String,
}

/// The steps before the model.
#[derive(Debug)]
pub struct Pipeline {
    /// Rewrites the text between added tokens that are not normalized.
    pub normalizers: Vec<Normalizer>,
    /// Cuts the text between added tokens.
    pub stages: Vec<Stage>,
    /// From tokens to text; `None` where tokens are bytes.
    pub decoder: Option<Decoder>,
    /// Conditions of added tokens, by id.
    pub flags: FxHashMap<u32, Flags>,
    /// What is written back.
    pub source: Source,
    /// How added tokens read that are normalized; of those that are not, their names say it.
    texts: FxHashMap<u32, String>,
    /// Tokens that are found where all special tokens are allowed, and where none is.
    all: Found,
    none: Found,
    /// Whether a text that the normalizers leave as it is may be cut as by a tokenizer without all this.
    plain: bool,
}

/// A part of a text.
pub enum Part<'p> {
    /// An added token.
    Token(u32, Origin),
    /// A piece for the model.
    Piece(&'p Aligned, Range<usize>),
}

impl Pipeline {
    /// A pipeline for a tokenizer with these special and added tokens.
    pub fn new(
        normalizers: Vec<Normalizer>,
        stages: Vec<Stage>,
        decoder: Option<Decoder>,
        flags: FxHashMap<u32, Flags>,
        source: Source,
        (specials, added): (&[(String, u32)], &[(String, u32)]),
    ) -> Result<Self> {
        let plain = stages.is_empty() && decoder.is_none() && can_do_without(&flags, specials.iter().chain(added));
        let mut pipeline = Pipeline {
            normalizers,
            stages,
            decoder,
            flags,
            source,
            texts: FxHashMap::default(),
            all: Found::default(),
            none: Found::default(),
            plain,
        };
        let normalized = specials.iter().chain(added).filter(|(_, id)| pipeline.is_normalized(*id));
        let texts = normalized.map(|(name, id)| Ok((*id, pipeline.normalized(name)?)));
        pipeline.texts = texts.collect::<Result<_>>()?;
        pipeline.all = pipeline.matchers(specials.iter().chain(added))?;
        pipeline.none = pipeline.matchers(added.iter())?;
        Ok(pipeline)
    }

    /// Appends everything about it that decides about ids.
    pub fn describe(&self, out: &mut Vec<u8>) {
        let Source { normalizer, pre_tokenizer, decoder, model, .. } = &self.source;
        out.extend_from_slice(format!("\npipeline\n{normalizer}\n{pre_tokenizer}\n{decoder}\n{model}").as_bytes());
        let mut flags: Vec<_> = self.flags.iter().collect();
        flags.sort_unstable_by_key(|(id, _)| **id);
        flags.iter().for_each(|flags| out.extend_from_slice(format!("\n{flags:?}").as_bytes()));
    }

    /// The character that is put before a text, which words begin with as a rule.
    pub fn mark(&self) -> Option<char> {
        self.normalizers.iter().find_map(|normalizer| match normalizer {
            Normalizer::Prepend(prefix) => prefix.chars().next(),
            _ => None,
        })
    }

    /// Whether nothing is done to any text.
    pub fn is_idle(&self) -> bool {
        self.plain && self.normalizers.is_empty()
    }

    /// Whether nothing is done to this text.
    pub fn leaves(&self, text: &str) -> bool {
        self.plain && self.normalizers.iter().all(|normalizer| normalizer.leaves(text))
    }

    /// What a call that allows these special tokens looks for.
    pub fn found(&self, allowed: Which<'_>, specials: &Specials) -> Result<Cow<'_, Found>> {
        Ok(match allowed {
            Which::All => Cow::Borrowed(&self.all),
            Which::Only([]) => Cow::Borrowed(&self.none),
            Which::Only(names) => {
                let allowed = specials.names().iter().filter(|(name, _)| names.contains(name));
                Cow::Owned(self.matchers(allowed.chain(specials.added()))?)
            }
        })
    }

    fn matchers<'n>(&self, names: impl Iterator<Item = &'n (String, u32)>) -> Result<Found> {
        let (mut raw, mut normalized) = (Vec::new(), Vec::new());
        for (name, id) in names {
            if self.is_normalized(*id) {
                normalized.push((self.normalized(name)?, *id));
            } else {
                raw.push((name.clone(), *id));
            }
        }
        Ok(Found { raw: Matcher::new(raw), normalized: Matcher::new(normalized) })
    }

    fn is_normalized(&self, id: u32) -> bool {
        self.flags.get(&id).is_some_and(|flags| flags.normalized)
    }

    /// The text of a token that is looked for in the normalized text, and decodes to it.
    fn normalized(&self, name: &str) -> Result<String> {
        if matches!(self.normalizers.as_slice(), [Normalizer::SentencePiece(_)]) {
            // It knows these pieces and keeps them as they are.
            return Ok(name.to_string());
        }
        let mut text = Aligned::new(name, 0, false);
        self.normalize(&mut text)?;
        Ok(text.text().to_string())
    }

    /// How an added token reads, where that is not its name.
    pub fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(&id).map(String::as_str)
    }

    fn normalize(&self, text: &mut Aligned) -> Result<()> {
        self.normalizers.iter().try_for_each(|normalizer| normalizer.apply(text))
    }

    /// Calls `emit` with the parts of `text`, in order. Where they come from is kept if `tracked`.
    pub fn for_each_part(
        &self,
        text: &str,
        found: &Found,
        tracked: bool,
        emit: &mut dyn FnMut(Part<'_>) -> Result<()>,
    ) -> Result<()> {
        if u32::try_from(text.len()).is_err() {
            return Err(Error::tokenizer(
                "text",
                format!("has {} bytes, more than 4 GB", text.len()),
                "split the text into documents",
            ));
        }
        let tracked = tracked || self.stages.iter().any(Stage::needs_origins);
        added::split(text, &found.raw, &self.flags, |id, place| match id {
            Some(id) => emit(Part::Token(id, [place.start as u32, place.end as u32])),
            None => self.stretch(Aligned::new(&text[place.clone()], place.start, tracked), found, emit),
        })
    }

    /// A stretch between tokens that are looked for in the text as it is.
    fn stretch(&self, mut text: Aligned, found: &Found, emit: &mut dyn FnMut(Part<'_>) -> Result<()>) -> Result<()> {
        self.normalize(&mut text)?;
        let mut whole = None;
        added::split(text.text(), &found.normalized, &self.flags, |id, place| match id {
            Some(id) => emit(Part::Token(id, text.origin(place))),
            None if place.len() == text.text().len() => {
                whole = Some(());
                Ok(())
            }
            None => self.pieces(text.slice(place), emit),
        })?;
        if whole.is_some() { self.pieces(text, emit) } else { Ok(()) }
    }

    fn pieces(&self, text: Aligned, emit: &mut dyn FnMut(Part<'_>) -> Result<()>) -> Result<()> {
        let mut pieces = Pieces::whole(text);
        self.stages.iter().try_for_each(|stage| stage.apply(&mut pieces))?;
        let Pieces { text, places } = pieces;
        places.into_iter().try_for_each(|place| emit(Part::Piece(&text, place)))
    }
}

/// Whether all tokens can be looked for at once, and are just their texts.
fn can_do_without<'n>(flags: &FxHashMap<u32, Flags>, names: impl Iterator<Item = &'n (String, u32)>) -> bool {
    let (mut raw, mut normalized) = (Vec::new(), Vec::new());
    for (name, id) in names {
        let flags = flags.get(id).copied().unwrap_or_default();
        if !flags.is_plain() {
            return false;
        }
        (if flags.normalized { &mut normalized } else { &mut raw }).push(name.as_str());
    }
    added::are_independent(&normalized, &raw)
}

#[cfg(test)]
mod tests {
    use crate::tokenizer::files::tokenizer_json;
    use serde_json::{Value, json};
    use std::collections::HashSet;

    #[test]
    fn all_that_decides_about_ids_is_in_the_fingerprint() {
        let fingerprint = |normalizer: Value, first: bool, lstrip: bool| {
            let file = json!({
                "added_tokens": [{"id": 2, "content": "<x>", "special": true, "lstrip": lstrip, "rstrip": false,
                                  "single_word": false, "normalized": false}],
                "normalizer": normalizer,
                "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": if first { "first" } else { "always" }},
                "decoder": {"type": "Fuse"},
                "model": {"type": "BPE", "vocab": {"a": 0, "▁": 1, "<x>": 2}, "merges": []},
            });
            tokenizer_json::parse(file.to_string().as_bytes(), "test").unwrap().fingerprint().to_string()
        };
        let nfc = json!({"type": "NFC"});
        let all = [
            fingerprint(nfc.clone(), false, false),
            fingerprint(json!({"type": "Lowercase"}), false, false),
            fingerprint(nfc.clone(), true, false),
            fingerprint(nfc, false, true),
        ];
        assert_eq!(HashSet::from(all).len(), 4);
    }
}
