//! Special tokens: entries that text may only become where the caller allows it.
//!
//! The rules are tiktoken's. `allowed` are the special tokens that are recognised; a text that contains a disallowed one
//! is an error (by default every one is: user data must not be able to end a document); one that is neither is ordinary
//! text. Where two begin at the same place the longer one is meant.

use super::added::Found;
use super::automaton::leftmost_longest;
use crate::error::{Error, Result};
use aho_corasick::{AhoCorasick, Input, StartKind};
use std::borrow::Cow;

/// Special tokens by name, and the tokens that are found in every text.
#[derive(Debug, Default, Clone)]
pub struct Specials {
    names: Vec<(String, u32)>,
    added: Vec<(String, u32)>,
    /// The special ones.
    all: Matcher,
    /// What is found where all special tokens are allowed, and where none is.
    found_all: Matcher,
    found_none: Matcher,
}

/// Which special tokens a call speaks of.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// All of them (for `disallowed`: all that are not allowed).
    All,
    /// These.
    Only(&'a [String]),
}

impl Specials {
    /// These tokens, and `added` ones, which are not special.
    pub fn new(mut names: Vec<(String, u32)>, added: Vec<(String, u32)>) -> Self {
        names.sort_by_key(|(_, id)| *id);
        let all = Matcher::new(names.iter().cloned());
        let (found_all, found_none) = (all.clone().with(&added), Matcher::new(added.iter().cloned()));
        Specials { names, added, all, found_all, found_none }
    }

    /// Names and ids in the order of ids.
    pub fn names(&self) -> &[(String, u32)] {
        &self.names
    }

    /// Tokens that are not special, with their ids: found in every text.
    pub fn added(&self) -> &[(String, u32)] {
        &self.added
    }

    /// The id of the special token `name`.
    pub fn id(&self, name: &str) -> Option<u32> {
        self.names.iter().find(|(known, _)| known == name).map(|(_, id)| *id)
    }

    /// What a call says about special tokens, ready to be applied to many texts.
    pub fn rules(&self, allowed: Which<'_>, disallowed: Which<'_>) -> Rules<'_> {
        let refused = match (allowed, disallowed) {
            (Which::All, Which::All) => Cow::Owned(Matcher::default()),
            (Which::Only([]), Which::All) => Cow::Borrowed(&self.all),
            (Which::Only(names), Which::All) => Cow::Owned(self.matcher(|name| !names.contains(name))),
            // As in tiktoken any string may be disallowed, special or not.
            (_, Which::Only(names)) => Cow::Owned(Matcher::new(names.iter().map(|name| (name.clone(), 0)))),
        };
        let found = match allowed {
            Which::All => Cow::Borrowed(&self.found_all),
            Which::Only([]) => Cow::Borrowed(&self.found_none),
            Which::Only(names) => Cow::Owned(self.matcher(|name| names.contains(name)).with(&self.added)),
        };
        Rules { refused, found, stages: None }
    }

    fn matcher(&self, wanted: impl Fn(&String) -> bool) -> Matcher {
        Matcher::new(self.names.iter().filter(|(name, _)| wanted(name)).cloned())
    }
}

/// Special tokens of one call.
#[derive(Debug)]
pub struct Rules<'a> {
    refused: Cow<'a, Matcher>,
    found: Cow<'a, Matcher>,
    stages: Option<Cow<'a, Found>>,
}

impl<'a> Rules<'a> {
    /// The same for a pipeline, which looks for tokens twice.
    pub fn with_stages(self, stages: Cow<'a, Found>) -> Self {
        Rules { stages: Some(stages), ..self }
    }

    /// What a pipeline looks for.
    pub fn stages(&self) -> Option<&Found> {
        self.stages.as_deref()
    }

    /// Finds the tokens that are recognised.
    pub fn found(&self) -> &Matcher {
        &self.found
    }

    /// Finds what is refused.
    pub fn refused(&self) -> &Matcher {
        &self.refused
    }

    /// Finds the tokens that are recognised, after making sure that `text` contains no disallowed one.
    pub fn admit(&self, text: &str) -> Result<&Matcher> {
        match self.refused.find(text, 0) {
            None => Ok(&self.found),
            Some((at, found, _)) => Err(Error::tokenizer(
                format!("text, byte {at}"),
                format!("contains the special token {found:?}"),
                format!(
                    "pass allowed_special={{{found:?}}} to encode it as that token, \
                     or disallowed_special=() to encode it as ordinary text"
                ),
            )),
        }
    }
}

/// Finds the leftmost, then longest, of a set of strings.
#[derive(Debug, Default, Clone)]
pub struct Matcher {
    names: Vec<(String, u32)>,
    /// `None` where there is nothing to find.
    automaton: Option<AhoCorasick>,
    longest: usize,
}

impl Matcher {
    /// A matcher of these strings and their ids; empty strings match nothing.
    pub fn new(names: impl IntoIterator<Item = (String, u32)>) -> Self {
        let names: Vec<_> = names.into_iter().filter(|(name, _)| !name.is_empty()).collect();
        let texts: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        let automaton = (!texts.is_empty()).then(|| leftmost_longest(&texts, StartKind::Unanchored));
        Matcher { names, automaton, longest }
    }

    /// The same with more strings.
    pub fn with(self, more: &[(String, u32)]) -> Matcher {
        if more.is_empty() { self } else { Matcher::new(self.names.into_iter().chain(more.iter().cloned())) }
    }

    /// The length of the longest string.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The first match at or after `from`: its start, text and id.
    pub fn find<'t>(&self, text: &'t str, from: usize) -> Option<(usize, &'t str, u32)> {
        let found = self.automaton.as_ref()?.find(Input::new(text).range(from..))?;
        Some((found.start(), &text[found.range()], self.names[found.pattern().as_usize()].1))
    }

    /// Cuts `text` at every match: calls `ordinary` for the stretches between and `special` for the matches.
    pub fn split<'t, S>(
        &self,
        text: &'t str,
        state: &mut S,
        mut ordinary: impl FnMut(&mut S, &'t str) -> Result<()>,
        mut special: impl FnMut(&mut S, u32),
    ) -> Result<()> {
        let mut done = 0;
        while let Some((at, found, id)) = self.find(text, done) {
            if at > done {
                ordinary(state, &text[done..at])?;
            }
            special(state, id);
            done = at + found.len();
        }
        if done < text.len() { ordinary(state, &text[done..]) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specials() -> Specials {
        Specials::new(vec![("<|a|>".into(), 1), ("<|a|><b>".into(), 2), ("é!".into(), 3)], Vec::new())
    }

    fn cut(matcher: &Matcher, text: &str) -> Vec<String> {
        let mut parts = Vec::new();
        matcher
            .split(
                text,
                &mut parts,
                |parts, piece| {
                    parts.push(piece.to_string());
                    Ok(())
                },
                |parts, id| parts.push(id.to_string()),
            )
            .unwrap();
        parts
    }

    #[test]
    fn the_leftmost_and_then_longest_is_found() {
        let specials = specials();
        let rules = specials.rules(Which::All, Which::All);
        let all = rules.admit("").unwrap();
        assert_eq!(cut(all, "x<|a|><b>y<|a|><c>é!"), ["x", "2", "y", "1", "<c>", "3"]);
        assert_eq!(cut(all, "<|a|"), ["<|a|"]);
        assert!(cut(all, "").is_empty());
    }

    #[test]
    fn a_long_token_is_found() {
        let long: String = (0..1usize << 20).map(|i| char::from(b'!' + (i * i % 89) as u8)).collect();
        let matcher = Matcher::new([(long.clone(), 1), ("<b>".into(), 2)]);
        assert_eq!(cut(&matcher, &format!("x{long}y<b>{}", &long[1..])), ["x", "1", "y", "2", &long[1..]]);
    }

    #[test]
    fn tiktokens_rules() {
        let s = specials();
        let some = ["<|a|>".to_string()];
        let rules = s.rules(Which::Only(&some), Which::All);
        let error = rules.admit("say é!").unwrap_err().to_string();
        assert!(error.contains("é!") && error.contains("allowed_special") && error.contains("byte 4"), "{error}");
        assert_eq!(cut(rules.admit("<|a|>").unwrap(), "<|a|>é"), ["1", "é"]);
        let none = s.rules(Which::Only(&[]), Which::Only(&[]));
        assert_eq!(cut(none.admit("<|a|>").unwrap(), "<|a|>"), ["<|a|>"]);
        let plain = ["plain".to_string()];
        assert!(s.rules(Which::Only(&[]), Which::Only(&plain)).admit("plain").is_err());
    }

    #[test]
    fn added_tokens_are_found_in_every_text_and_never_refused() {
        let s = Specials::new(vec![("<|a|>".into(), 1), ("<b>".into(), 2)], vec![("x".into(), 9)]);
        let some = ["<b>".to_string()];
        for (allowed, expected) in [
            (Which::All, ["1", "9", "2"]),
            (Which::Only(&[]), ["<|a|>", "9", "<b>"]),
            (Which::Only(&some), ["<|a|>", "9", "2"]),
        ] {
            assert_eq!(cut(s.rules(allowed, Which::Only(&[])).admit("").unwrap(), "<|a|>x<b>"), expected);
        }
        assert!(s.rules(Which::Only(&[]), Which::All).admit("x").is_ok());
    }
}
