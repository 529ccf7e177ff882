//! A tokenizer under test, with all that must hold of it.

use crate::reference::{Reference, Rule};
use subgpt_core::progress;
use subgpt_core::tokenizer::encode::EncodeOptions;
use subgpt_core::tokenizer::special::Which;
use subgpt_core::tokenizer::{Level, Tokenizer, Undecodable};

/// A tokenizer and, where there can be one, its slow twin.
pub struct Subject {
    pub tokenizer: Tokenizer,
    reference: Option<Reference>,
}

const SPECIAL: EncodeOptions<'static> = EncodeOptions { allowed: Which::All, ..EncodeOptions::ORDINARY };

impl Subject {
    /// A tokenizer whose merges are found by `rule`.
    pub fn new(tokenizer: Tokenizer, rule: Rule) -> Subject {
        Subject { reference: Reference::new(&tokenizer, rule), tokenizer }
    }

    /// Checks everything about a text.
    pub fn text(&self, text: &str) {
        for options in [EncodeOptions::ORDINARY, SPECIAL] {
            let Some(ids) = self.encoded(text, options) else { continue };
            self.decodes(text, &ids);
            self.front(text, &ids, options);
            self.batch(text, &ids, options);
            self.located(text, &ids, options);
        }
    }

    /// Checks what encoding gives for a text that is so long that threads share it; alone, in a batch, and in parts.
    pub fn long_text(&self, text: &str) {
        for options in [EncodeOptions::ORDINARY, SPECIAL] {
            let Some(ids) = self.encoded(text, options) else { continue };
            let parts = self.tokenizer.encode_front(text, options, usize::MAX).expect("the whole could be encoded");
            assert!(parts == ids, "parts and the whole differ");
            self.batch(text, &ids, options);
        }
    }

    /// The ids of a text, which are those of the slow twin; `None` where it cannot be encoded.
    fn encoded(&self, text: &str, options: EncodeOptions<'_>) -> Option<Vec<u32>> {
        let encode = || self.tokenizer.encode(text, options, &mut progress::ignore);
        let ids = match encode() {
            Ok(ids) => ids,
            Err(error) => {
                assert!(!self.is_exact(), "{error}");
                assert!(!error.to_string().is_empty() && encode().is_err());
                return None;
            }
        };
        // Pieces were new, and are remembered now.
        assert!(encode().is_ok_and(|again| again == ids), "a second call gives other ids for {text:?}");
        if let Some(reference) = &self.reference {
            let special = matches!(options.allowed, Which::All);
            if let Some(expected) = reference.encode(text, special) {
                assert_eq!(ids, expected, "other ids than the slow way for {text:?}");
            }
        }
        Some(ids)
    }

    fn is_exact(&self) -> bool {
        self.reference.as_ref().is_some_and(Reference::is_exact)
    }

    /// Ids decode, at once and one by one, and to the text where nothing can be lost.
    pub fn decodes(&self, text: &str, ids: &[u32]) {
        let replaced = self.tokenizer.decode(ids, Undecodable::Replace).expect("decoding is total");
        let mut stream = self.tokenizer.decode_stream();
        let mut streamed = String::new();
        for id in ids {
            streamed += &self.tokenizer.decode_next(&mut stream, &[*id]).expect("ids are of the vocabulary");
        }
        streamed += &self.tokenizer.decode_rest(&mut stream).expect("the rest is text");
        assert_eq!(streamed, replaced);
        if self.reference.is_some() {
            let bytes = self.tokenizer.decode_bytes(ids).expect("ids are of the vocabulary");
            assert_eq!(replaced, String::from_utf8_lossy(&bytes));
        }
        if self.is_exact() {
            assert_eq!(self.tokenizer.decode(ids, Undecodable::Strict).ok().as_deref(), Some(text));
        }
    }

    /// Any numbers decode, or the one that is no id is the error.
    pub fn numbers(&self, numbers: &[u32]) {
        let beyond = numbers.iter().any(|id| *id as usize >= self.tokenizer.vocab_size());
        match self.tokenizer.decode_bytes(numbers) {
            Ok(bytes) => {
                assert!(!beyond);
                let each = numbers.iter().flat_map(|id| self.tokenizer.decode_bytes(&[*id]).unwrap_or_default());
                assert!(bytes.into_iter().eq(each));
                self.tokenizer.decode(numbers, Undecodable::Ignore).expect("decoding is total");
            }
            Err(error) => assert!(beyond, "{error}"),
        }
    }

    /// The first ids are those that the whole begins with, as many as were asked for.
    fn front(&self, text: &str, ids: &[u32], options: EncodeOptions<'_>) {
        for least in [0, 1, 2, ids.len() / 2, ids.len(), ids.len() + 1] {
            let front = self.tokenizer.encode_front(text, options, least).expect("the whole could be encoded");
            assert!(ids.starts_with(&front), "the first {least} ids of {text:?} are not its first");
            assert!(front.len() >= least.min(ids.len()), "{} ids instead of {least} of {text:?}", front.len());
        }
    }

    /// A text in a batch has the ids that it has alone.
    fn batch(&self, text: &str, ids: &[u32], options: EncodeOptions<'_>) {
        let texts = [text, "", "a", text];
        let a = self.tokenizer.encode("a", options, &mut progress::ignore).expect("it has no place to give up at");
        let expected = [ids, &[], &a, ids];
        let (all, offsets) =
            self.tokenizer.encode_batch(&texts, options, &mut progress::ignore).expect("so could each");
        let rows = offsets.windows(2).map(|ends| &all[ends[0] as usize..ends[1] as usize]);
        assert!(rows.eq(expected), "a batch of {text:?} and others differs from each alone");
        assert_eq!((offsets[0], offsets[4]), (0, all.len() as u64));
    }

    /// Places are in order, next to each other, cover the text, and hold the bytes of their tokens; at least in order where
    /// bytes without a token are left out, or a space that is put in front shares the place of what follows.
    fn located(&self, text: &str, ids: &[u32], options: EncodeOptions<'_>) {
        let located = match self.tokenizer.encode_located(text, options, &mut progress::ignore) {
            Ok(located) => located,
            // What leaves out bytes has no places.
            Err(error) => {
                assert!(!self.is_exact() && self.tokenizer.level() == Level::Subword, "{error}");
                return;
            }
        };
        assert_eq!(located.ids, ids);
        let whole = self.is_exact() || self.tokenizer.level() != Level::Subword;
        let mut at = 0;
        for ((id, span), chars) in ids.iter().zip(&located.bytes).zip(&located.chars) {
            let [start, end] = span.map(|place| place as usize);
            let follows = if whole { start == at } else { start >= at && end <= text.len() };
            assert!(start <= end && follows, "{start}..{end} after {at} in {text:?}");
            at = if whole { end } else { start };
            if self.is_exact() {
                let bytes = self.tokenizer.decode_bytes(&[*id]).expect("ids are of the vocabulary");
                assert_eq!(bytes, text.as_bytes()[start..end]);
            }
            // Characters that the token has a byte of.
            let begins = text.char_indices().filter(|(from, c)| *from < end && from + c.len_utf8() > start).count();
            assert_eq!((chars[1] - chars[0]) as usize, begins, "characters {chars:?} of {span:?} in {text:?}");
        }
        assert!(at == text.len() || !whole, "the places end before {text:?} does");
        assert_eq!((located.bytes.len(), located.chars.len()), (ids.len(), ids.len()));
    }
}
