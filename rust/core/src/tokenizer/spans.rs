//! Where in the text each token comes from.

use super::added::Found;
use super::bpe::encode::Encoder;
use super::corpus::OnInvalid;
use super::encode::EncodeOptions;
use super::normalize::aligned::Origin;
use super::pipeline::{Part, Pipeline};
use super::{Model, Tokenizer};
use crate::error::{Error, Result};
use crate::progress::Listener;
use std::ops::Range;

/// The ids of a text with the part of it that each stands for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// The ids.
    pub ids: Vec<u32>,
    /// Start and end in bytes, the end exclusive.
    pub bytes: Vec<[u64; 2]>,
    /// The same in characters: all of those that the token has a byte of. A character that is split over several tokens
    /// is in the span of each.
    pub chars: Vec<[u64; 2]>,
}

impl Located {
    fn new(text: &str, ids: Vec<u32>, spans: Vec<Range<usize>>) -> Self {
        let chars = in_chars(text, &spans);
        let bytes = spans.into_iter().map(|span| [span.start as u64, span.end as u64]).collect();
        Located { ids, bytes, chars }
    }
}

impl Tokenizer {
    /// The ids of `text` with their places.
    pub fn encode_located(
        &self,
        text: &str,
        options: EncodeOptions<'_>,
        listener: &mut Listener<'_>,
    ) -> Result<Located> {
        let rules = self.rules(options)?;
        if let Some((pipeline, found)) = self.staged(text, &rules) {
            rules.admit(text)?;
            let (ids, spans) = self.spans_of_parts(text, pipeline, found, options.unknown)?;
            return Ok(Located::new(text, ids, spans));
        }
        let ids = self.encode(text, options, listener)?;
        let spans = match &self.model {
            Model::Bpe(_) => self.spans_of_bytes(text, &ids)?,
            Model::Entries { .. } => self.spans_of_pieces(text, options)?,
        };
        Ok(Located::new(text, ids, spans))
    }

    /// Tokens stand for parts of what a pipeline made of the text, which knows where they come from.
    fn spans_of_parts(
        &self,
        text: &str,
        pipeline: &Pipeline,
        found: &Found,
        unknown: OnInvalid,
    ) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
        let (mut ids, mut spans) = (Vec::new(), Vec::new());
        let mut add = |id: u32, origin: Origin| {
            ids.push(id);
            spans.push(origin[0] as usize..origin[1] as usize);
        };
        let mut encoder = match &self.model {
            Model::Bpe(bpe) => Some(Encoder::new(bpe, &self.vocab)),
            Model::Entries { .. } => None,
        };
        pipeline.for_each_part(text, found, true, &mut |part| {
            let (text, place) = match part {
                Part::Token(id, origin) => {
                    add(id, origin);
                    return Ok(());
                }
                Part::Piece(text, place) => (text, place),
            };
            let piece = &text.text()[place.clone()];
            self.refuse_missing(piece, unknown, |index| text.begins(place.start + index..place.end))?;
            // A space that was put before the text is no part of it.
            let prefixed = self.split.prefix_space && !piece.starts_with(' ');
            let whole = if prefixed { format!(" {piece}") } else { piece.to_string() };
            let mut at = 0;
            self.split.for_each(&whole, |part| {
                let origin = |range: Range<usize>| {
                    let own = |end: usize| place.start + (at + end).saturating_sub(usize::from(prefixed));
                    let own = own(range.start)..own(range.end);
                    match own.is_empty() {
                        true => [text.origin(own.start..place.end)[0]; 2],
                        false => text.origin(own),
                    }
                };
                match (&mut encoder, &self.model) {
                    (Some(encoder), _) => {
                        encoder.located(part)?.into_iter().for_each(|(id, range)| add(id, origin(range)));
                    }
                    (None, Model::Entries { unk }) => {
                        let origin = origin(0..part.len());
                        add(self.entry(part, *unk, unknown, || origin[0] as usize)?, origin);
                    }
                    (None, Model::Bpe(_)) => {}
                }
                at += part.len();
                Ok(())
            })
        })?;
        Ok((ids, spans))
    }

    /// Every token stands for its own bytes, one after the other.
    fn spans_of_bytes(&self, text: &str, ids: &[u32]) -> Result<Vec<Range<usize>>> {
        let mut spans = Vec::with_capacity(ids.len());
        let mut at = 0;
        for &id in ids {
            let token = self.vocab.bytes(id).unwrap_or_default();
            let rest = &text.as_bytes()[at..];
            // A space that was put before the text is no part of it.
            let own = token.strip_prefix(b" ").filter(|_| self.split.prefix_space);
            let len = [Some(token), own].into_iter().flatten().find(|bytes| rest.starts_with(bytes)).map(<[u8]>::len);
            let Some(len) = len else { return Err(left_out(at)) };
            spans.push(at..at + len);
            at += len;
        }
        if at == text.len() { Ok(spans) } else { Err(left_out(at)) }
    }

    /// Every piece is one token.
    fn spans_of_pieces(&self, text: &str, options: EncodeOptions<'_>) -> Result<Vec<Range<usize>>> {
        let rules = self.rules(options)?;
        let mut lengths = Vec::new();
        rules.admit(text)?.split(
            text,
            &mut lengths,
            |lengths, part| {
                self.split.for_each(part, |piece| {
                    lengths.push(piece.len());
                    Ok(())
                })
            },
            |lengths, id| lengths.push(self.vocab.bytes(id).map_or(0, <[u8]>::len)),
        )?;
        let mut from = 0;
        Ok(lengths
            .into_iter()
            .map(|len| {
                from += len;
                from - len..from
            })
            .collect())
    }
}

fn left_out(at: usize) -> Error {
    Error::tokenizer(
        format!("text, byte {at}"),
        "this tokenizer leaves out bytes that it has no token for, so its tokens have no places in the text",
        "use encode, or a tokenizer that has a token for every byte",
    )
}

/// Spans in bytes as spans in characters.
fn in_chars(text: &str, spans: &[Range<usize>]) -> Vec<[u64; 2]> {
    let bytes = text.as_bytes();
    let begins = |at: usize| at == bytes.len() || (bytes[at] & 0xc0) != 0x80;
    let (mut at, mut chars) = (0, 0u64);
    // How many characters begin before `place`.
    let mut count = |place: usize| {
        while at < place {
            chars += u64::from(begins(at));
            at += 1;
        }
        while place < at {
            at -= 1;
            chars -= u64::from(begins(at));
        }
        chars
    };
    spans
        .iter()
        .map(|span| {
            let before = count(span.start);
            let first = if begins(span.start) { before } else { before - 1 };
            [first, count(span.end).max(first)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress;
    use crate::tokenizer::files::tokenizer_json;
    use crate::tokenizer::train::tests::trained;
    use serde_json::json;

    #[test]
    fn a_space_that_is_put_before_a_text_has_no_place_in_it() {
        let file = json!({
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": true, "use_regex": true},
            "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": {"a": 0, "Ġ": 1, "Ġa": 2}, "merges": ["Ġ a"]},
        });
        let tokenizer = tokenizer_json::parse(file.to_string().as_bytes(), "test").unwrap();
        for (text, ids, spans) in [
            ("a a", vec![2, 2], vec![[0, 1], [1, 3]]),
            (" a", vec![2], vec![[0, 2]]),
            ("aa", vec![2, 0], vec![[0, 1], [1, 2]]),
        ] {
            let found = tokenizer.encode_located(text, EncodeOptions::ORDINARY, &mut progress::ignore).unwrap();
            assert_eq!((found.ids, found.chars), (ids, spans), "{text:?}");
        }
    }

    #[test]
    fn a_normalizer_that_changes_nothing_changes_no_place() {
        let mut file: serde_json::Value =
            serde_json::from_str(&trained("gpt2", "a text with words, and more words").to_json(false).unwrap())
                .unwrap();
        file["pre_tokenizer"]["add_prefix_space"] = json!(true);
        let plain = tokenizer_json::parse(file.to_string().as_bytes(), "test").unwrap();
        file["normalizer"] = json!({"type": "NFC"});
        let normalized = tokenizer_json::parse(file.to_string().as_bytes(), "test").unwrap();
        assert!(normalized.split.prefix_space && normalized.pipeline.is_some());
        // An accent alone, which NFC might join with what is before, so that the text is not taken as it is.
        for text in ["words", " words", "words, more", "a", "", "x\u{301}, words"] {
            let places = |tokenizer: &Tokenizer| {
                tokenizer.encode_located(text, EncodeOptions::ORDINARY, &mut progress::ignore).unwrap()
            };
            assert_eq!(places(&normalized), places(&plain), "{text:?}");
        }
    }

    #[test]
    fn a_split_character_is_in_the_span_of_each_of_its_tokens() {
        let spans = [0..1, 1..2, 2..3, 3..4, 4..7, 7..7];
        assert_eq!(in_chars("aé€b", &[0..1, 1..2, 2..3, 3..4, 4..7]), [[0, 1], [1, 2], [1, 2], [2, 3], [2, 4]]);
        assert_eq!(in_chars("aé€b", &spans).last(), Some(&[4, 4]));
        assert_eq!(
            in_chars("aé€b", &[3..7, 1..6, 2..3, 0..0, 6..7, 0..1]),
            [[2, 4], [1, 3], [1, 2], [0, 0], [3, 4], [0, 1]]
        );
        assert!(in_chars("", &[]).is_empty());
    }
}
