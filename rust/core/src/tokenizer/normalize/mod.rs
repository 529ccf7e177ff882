//! Rewriting text before it is cut into pieces: the `normalizer` of a `tokenizer.json`.

pub mod aligned;
pub mod charsmap;
pub mod sentencepiece;

use super::pretokenize::delimiters::Delimiter;
use crate::error::Result;
use aligned::Aligned;
use sentencepiece::SentencePiece;
use unicode_normalization_alignments::char::is_combining_mark;
use unicode_normalization_alignments::{IsNormalized, UnicodeNormalization};
use unicode_normalization_alignments::{is_nfc_quick, is_nfd_quick, is_nfkc_quick, is_nfkd_quick};

/// A form of Unicode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Composed.
    Nfc,
    /// Decomposed.
    Nfd,
    /// Composed, after compatibility characters were replaced.
    Nfkc,
    /// Decomposed likewise.
    Nfkd,
}

/// One step of rewriting.
#[derive(Clone, Debug)]
pub enum Normalizer {
    /// Brings text into a form.
    Form(Form),
    /// Every character in lower case.
    Lowercase,
    /// Removes white space at the ends.
    Strip {
        /// At the beginning.
        left: bool,
        /// At the end.
        right: bool,
    },
    /// Removes combining marks.
    StripAccents,
    /// Puts something before a text that is not empty.
    Prepend(String),
    /// Puts something in the place of every match.
    Replace {
        /// What is replaced.
        pattern: Delimiter,
        /// By what.
        content: String,
    },
    /// All that SentencePiece does.
    SentencePiece(Box<SentencePiece>),
}

impl Normalizer {
    /// Rewrites `text`.
    pub fn apply(&self, text: &mut Aligned) -> Result<()> {
        if self.leaves(text.text()) {
            return Ok(());
        }
        match self {
            Normalizer::Form(Form::Nfc) => text.transform(text.text().nfc().collect()),
            Normalizer::Form(Form::Nfd) => text.transform(text.text().nfd().collect()),
            Normalizer::Form(Form::Nfkc) => text.transform(text.text().nfkc().collect()),
            Normalizer::Form(Form::Nfkd) => text.transform(text.text().nfkd().collect()),
            Normalizer::Lowercase => text.rewrite(|old, writer| {
                for (at, c) in old.char_indices() {
                    let place = at..at + c.len_utf8();
                    match c.to_lowercase().eq([c]) {
                        true => writer.keep(place),
                        false => c.to_lowercase().for_each(|lower| writer.put(lower, place.clone())),
                    }
                }
            }),
            Normalizer::Strip { left, right } => text.rewrite(|old, writer| {
                let start = if *left { old.len() - old.trim_start().len() } else { 0 };
                let end = if *right { old.trim_end().len() } else { old.len() };
                writer.keep(start.min(end)..end);
            }),
            Normalizer::StripAccents => text.rewrite(|old, writer| {
                let kept = old.char_indices().filter(|(_, c)| !is_combining_mark(*c));
                kept.for_each(|(at, c)| writer.keep(at..at + c.len_utf8()));
            }),
            Normalizer::Prepend(prefix) => text.rewrite(|old, writer| {
                let first = old.chars().next().map_or(0, char::len_utf8);
                prefix.chars().for_each(|c| writer.put(c, 0..first));
                writer.keep(0..old.len());
            }),
            Normalizer::SentencePiece(options) => options.apply(text),
            Normalizer::Replace { pattern, content } => {
                return text.rewrite(|old, writer| {
                    let mut done = 0;
                    pattern.for_each_match(old, |found| {
                        writer.keep(done..found.start);
                        content.chars().for_each(|c| writer.put(c, found.end..found.end));
                        done = found.end;
                        Ok(())
                    })?;
                    writer.keep(done..old.len());
                    Ok(())
                });
            }
        }
        Ok(())
    }

    /// Whether `text` is known to stay as it is, as far as a quick look tells.
    pub fn leaves(&self, text: &str) -> bool {
        let quick = |check: IsNormalized| matches!(check, IsNormalized::Yes);
        match self {
            Normalizer::Form(_) if text.is_ascii() => true,
            Normalizer::Form(Form::Nfc) => quick(is_nfc_quick(text.chars())),
            Normalizer::Form(Form::Nfd) => quick(is_nfd_quick(text.chars())),
            Normalizer::Form(Form::Nfkc) => quick(is_nfkc_quick(text.chars())),
            Normalizer::Form(Form::Nfkd) => quick(is_nfkd_quick(text.chars())),
            Normalizer::StripAccents => text.is_ascii(),
            _ => text.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalized(normalizer: &Normalizer, text: &str) -> (String, Vec<[u32; 2]>) {
        let mut aligned = Aligned::new(text, 0, true);
        normalizer.apply(&mut aligned).unwrap();
        let origins = aligned.origins(0..aligned.text().len()).to_vec();
        (aligned.text().to_string(), origins)
    }

    #[test]
    fn forms_and_their_origins() {
        let (text, origins) = normalized(&Normalizer::Form(Form::Nfc), "xe\u{301}y");
        assert_eq!((text.as_str(), origins), ("xéy", vec![[0, 1], [1, 2], [1, 2], [4, 5]]));
        let (text, origins) = normalized(&Normalizer::Form(Form::Nfkd), "ﬁé");
        assert_eq!(text, "fie\u{301}");
        assert_eq!(origins, [[0, 3], [0, 3], [3, 5], [3, 5], [3, 5]]);
        assert_eq!(normalized(&Normalizer::Form(Form::Nfkc), "①").0, "1");
        assert_eq!(normalized(&Normalizer::Form(Form::Nfd), "ä").0, "a\u{308}");
    }

    #[test]
    fn other_steps() {
        assert_eq!(normalized(&Normalizer::Lowercase, "AİÉ").0, "ai\u{307}é");
        assert_eq!(normalized(&Normalizer::StripAccents, "e\u{301}a").0, "ea");
        let strip = |left, right| normalized(&Normalizer::Strip { left, right }, " \u{3000}a ").0;
        assert_eq!((strip(true, false), strip(false, true)), ("a ".into(), " \u{3000}a".into()));
        assert_eq!(normalized(&Normalizer::Strip { left: true, right: true }, "  ").0, "");
        assert_eq!(
            normalized(&Normalizer::Prepend("▁".into()), "é"),
            ("▁é".into(), vec![[0, 2], [0, 2], [0, 2], [0, 1], [1, 2]])
        );
        assert_eq!(normalized(&Normalizer::Prepend("▁".into()), "").0, "");
        let replace = Normalizer::Replace { pattern: Delimiter::Literal(" ".into()), content: "▁".into() };
        assert_eq!(normalized(&replace, "a b").1[1..4], [[1, 2]; 3]);
    }
}
