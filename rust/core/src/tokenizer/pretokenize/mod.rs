//! Cutting text into the pieces that a vocabulary is applied to, one by one.
//!
//! A [`Pretokenizer`] is a list of steps, each cutting the pieces of the one before, as in a `tokenizer.json`. Known
//! patterns have hand-written scanners ([`patterns`]); others go through a regular expression ([`general`]).

pub mod delimiters;
pub mod general;
pub mod patterns;
pub mod rewrite;
pub mod scanner;
pub mod unicode;
pub mod window;

use crate::error::{Error, Result};
use general::General;
use patterns::{GPT2, Pattern};
use scanner::floor_boundary;
use std::ops::RangeInclusive;
use unicode::{Classes, NUMBER};
use window::Scanner;

/// One step of cutting.
#[derive(Clone, Debug)]
pub enum Step {
    /// A known pattern, with the spelling it came in (`None`: as `ByteLevel`'s own).
    Known(Pattern, Option<String>),
    /// Any other regular expression.
    General(General),
    /// Digits apart from the rest (`Digits`): each for itself, or runs of them.
    Digits {
        /// Each digit for itself.
        individual: bool,
    },
}

/// The steps of cutting, and what is done to the text before.
#[derive(Clone, Debug, Default)]
pub struct Pretokenizer {
    /// The steps, in order; none leaves the text whole.
    pub steps: Vec<Step>,
    /// Whether a text that does not start with a space gets one (`add_prefix_space`).
    pub prefix_space: bool,
}

impl Pretokenizer {
    /// One known pattern.
    pub fn known(pattern: Pattern) -> Self {
        let spelling = (pattern != GPT2).then(|| pattern.regex().to_string());
        Pretokenizer { steps: vec![Step::Known(pattern, spelling)], prefix_space: false }
    }

    /// What a caller's `pattern` names: a known pattern, or a regular expression. A plain word that is no known name is
    /// an error of `op`, not an expression.
    pub fn from_argument(pattern: &str, op: &'static str) -> Result<Self> {
        if let Some(known) = Pattern::from_name(pattern) {
            return Ok(Pretokenizer::known(known));
        }
        if !pattern.contains(|c| r"\[](){}|+*?.^$".contains(c)) {
            let expected = "known are \"gpt2\", \"gpt4\" (also \"cl100k\") and \"o200k\", or pass a regular expression";
            return Err(Error::value(op, "pattern", format!("{pattern:?}"), expected));
        }
        let step = match Pattern::from_regex(pattern) {
            Some(known) => Step::Known(known, Some(pattern.to_string())),
            None => Step::General(General::new(pattern, "pattern")?),
        };
        Ok(Pretokenizer { steps: vec![step], prefix_space: false })
    }

    /// The last of some places where `text` may be cut in two without changing any piece; see [`Pattern::safe_cut`].
    /// Other regular expressions tell no such place: there it is after a line end, by decree.
    pub fn cut(&self, text: &str, places: RangeInclusive<usize>) -> Option<usize> {
        match self.as_pattern() {
            Some(pattern) => pattern.safe_cut(text, places),
            None => {
                let end = floor_boundary(text, *places.end());
                let first = floor_boundary(text, places.start().saturating_sub(1)).min(end);
                text[first..end].rfind('\n').map(|at| first + at + 1).filter(|cut| places.contains(cut))
            }
        }
    }

    /// The pattern, when it is a known one and the only step.
    pub fn pattern(&self) -> Option<Pattern> {
        match self.steps.as_slice() {
            [Step::Known(pattern, _)] => Some(*pattern),
            _ => None,
        }
    }

    /// The known pattern that does all steps at once, if there is one: where text can be cut, and what scans it.
    pub(super) fn as_pattern(&self) -> Option<Pattern> {
        match self.steps.as_slice() {
            [Step::Known(pattern, _)] => Some(*pattern),
            [Step::Digits { individual: true }, Step::Known(GPT2, _)] => Some(Pattern::Gpt2 { digits: true }),
            _ => None,
        }
    }

    /// The scanner that does all steps at once, if there is one.
    pub fn scanner(&self) -> Option<Scanner> {
        Scanner::new(self.as_pattern()?)
    }

    /// The pattern's public name, or its regular expression, for the single step there is.
    pub fn describe(&self) -> Option<&str> {
        match self.steps.as_slice() {
            [Step::Known(pattern, spelling)] => pattern.name().or(spelling.as_deref()),
            [Step::General(general)] => Some(general.source()),
            _ => None,
        }
    }

    /// Calls `emit` with every piece of `text`, in order, until it fails.
    pub fn for_each<'t>(&self, text: &'t str, mut emit: impl FnMut(&'t str) -> Result<()>) -> Result<()> {
        match self.steps.as_slice() {
            [] if text.is_empty() => Ok(()),
            [] => emit(text),
            [step] => step.for_each(text, emit),
            [steps @ .., last] => {
                let mut pieces = vec![text];
                for step in steps {
                    let mut finer = Vec::with_capacity(pieces.len());
                    for piece in pieces {
                        step.for_each(piece, |p| {
                            finer.push(p);
                            Ok(())
                        })?;
                    }
                    pieces = finer;
                }
                pieces.into_iter().try_for_each(|piece| last.for_each(piece, &mut emit))
            }
        }
    }
}

impl Step {
    fn for_each<'t>(&self, text: &'t str, emit: impl FnMut(&'t str) -> Result<()>) -> Result<()> {
        match self {
            Step::Known(pattern, _) => pattern.for_each(text, emit),
            Step::General(general) => general.for_each(text, emit),
            Step::Digits { individual } => digits(text, *individual, emit),
        }
    }
}

fn digits<'t>(text: &'t str, individual: bool, mut emit: impl FnMut(&'t str) -> Result<()>) -> Result<()> {
    let classes = Classes::get();
    let (mut start, mut before) = (0, false);
    for (at, c) in text.char_indices() {
        let digit = classes.of(c) == NUMBER;
        if at > start && (digit != before || (digit && individual)) {
            emit(&text[start..at])?;
            start = at;
        }
        before = digit;
    }
    if start < text.len() { emit(&text[start..]) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces<'t>(splitter: &Pretokenizer, text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        splitter
            .for_each(text, |piece| {
                pieces.push(piece);
                Ok(())
            })
            .unwrap();
        pieces
    }

    #[test]
    fn steps_cut_the_pieces_of_the_steps_before() {
        let steps = vec![Step::Digits { individual: true }, Step::Known(GPT2, None)];
        let splitter = Pretokenizer { steps, prefix_space: false };
        assert_eq!(pieces(&splitter, "in 1984, I"), ["in", " ", "1", "9", "8", "4", ",", " I"]);
        assert_eq!(splitter.pattern(), None);
        assert_eq!(splitter.as_pattern(), Some(Pattern::Gpt2 { digits: true }));
    }

    #[test]
    fn digits_alone_or_in_runs() {
        let runs = Pretokenizer { steps: vec![Step::Digits { individual: false }], prefix_space: false };
        assert_eq!(pieces(&runs, "a12b3"), ["a", "12", "b", "3"]);
        assert_eq!(pieces(&runs, "12b"), ["12", "b"]);
        assert_eq!(pieces(&Pretokenizer::default(), "a b"), ["a b"]);
        assert!(pieces(&runs, "").is_empty() && pieces(&Pretokenizer::default(), "").is_empty());
    }

    #[test]
    fn what_no_known_pattern_cuts_is_cut_behind_line_ends() {
        let unknown = Pretokenizer::from_argument("[b]+", "test").unwrap();
        let cut = |places| unknown.cut("ab\ncd\nef", places);
        assert_eq!(
            [cut(0..=5), cut(4..=7), cut(4..=5), cut(0..=2), cut(3..=3)],
            [Some(3), Some(6), None, None, Some(3)]
        );
    }
}
