//! Cutting at what a pattern matches, in the ways that a `tokenizer.json` knows.

use super::general::General;
use super::patterns::Pattern;
use crate::error::Result;
use std::ops::Range;

/// What is looked for.
#[derive(Clone, Debug)]
pub enum Delimiter {
    /// A string, which is not empty.
    Literal(String),
    /// Each character of a class.
    Class(Class),
    /// A known pattern, which matches all of any text.
    Known(Pattern),
    /// A regular expression.
    Regex(General),
}

/// A class of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// White space.
    Space,
    /// Numbers.
    Number,
    /// ASCII punctuation and symbols, and Unicode's punctuation.
    Punctuation,
    /// One character.
    Only(char),
}

impl Class {
    fn contains(self, c: char) -> bool {
        use unicode_categories::UnicodeCategories;
        match self {
            Class::Space => c.is_whitespace(),
            Class::Number => c.is_numeric(),
            Class::Punctuation => c.is_ascii_punctuation() || c.is_punctuation(),
            Class::Only(only) => c == only,
        }
    }
}

impl Delimiter {
    /// Calls `emit` with the place of every match, in order, until it fails. Places may be empty.
    pub fn for_each_match(&self, text: &str, mut emit: impl FnMut(Range<usize>) -> Result<()>) -> Result<()> {
        match self {
            Delimiter::Literal(literal) => {
                text.match_indices(literal.as_str()).try_for_each(|(at, found)| emit(at..at + found.len()))
            }
            Delimiter::Class(class) => {
                let mut found = text.char_indices().filter(|(_, c)| class.contains(*c));
                found.try_for_each(|(at, c)| emit(at..at + c.len_utf8()))
            }
            Delimiter::Known(pattern) => {
                let mut at = 0;
                pattern.for_each(text, |piece| {
                    at += piece.len();
                    emit(at - piece.len()..at)
                })
            }
            Delimiter::Regex(regex) => regex.for_each_match(text, emit),
        }
    }
}

/// What becomes of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behavior {
    /// It is a piece of its own.
    Isolated,
    /// It is left out.
    Removed,
    /// It ends the piece before it.
    MergedWithPrevious,
    /// It begins the piece after it.
    MergedWithNext,
    /// It is one piece with the matches beside it.
    Contiguous,
}

impl Behavior {
    /// The behaviour of a name in a `tokenizer.json`.
    pub fn from_name(name: &str) -> Option<Behavior> {
        match name {
            "Isolated" => Some(Behavior::Isolated),
            "Removed" => Some(Behavior::Removed),
            "MergedWithPrevious" => Some(Behavior::MergedWithPrevious),
            "MergedWithNext" => Some(Behavior::MergedWithNext),
            "Contiguous" => Some(Behavior::Contiguous),
            _ => None,
        }
    }
}

/// One way to cut a text.
#[derive(Clone, Debug)]
pub struct Cut {
    /// What is looked for.
    pub delimiter: Delimiter,
    /// What becomes of it.
    pub behavior: Behavior,
    /// Whether the stretches between matches count as matches, and the other way round.
    pub invert: bool,
}

impl Cut {
    /// Cuts at every match.
    pub fn new(delimiter: Delimiter, behavior: Behavior) -> Self {
        Cut { delimiter, behavior, invert: false }
    }

    /// Calls `emit` with the place of every piece of `text`, none of them empty.
    pub fn for_each(&self, text: &str, mut emit: impl FnMut(Range<usize>)) -> Result<()> {
        let mut stretches = Vec::new();
        let mut done = 0;
        self.delimiter.for_each_match(text, |found| {
            if found.start > done {
                stretches.push((done..found.start, self.invert));
            }
            done = found.end;
            stretches.push((found, !self.invert));
            Ok(())
        })?;
        if done < text.len() {
            stretches.push((done..text.len(), self.invert));
        }
        let pieces = match self.behavior {
            Behavior::Isolated => stretches,
            Behavior::Removed => stretches.into_iter().filter(|(_, matched)| !matched).collect(),
            Behavior::Contiguous => joined(stretches.into_iter(), |matched, before| matched == before),
            Behavior::MergedWithPrevious => joined(stretches.into_iter(), |matched, before| matched && !before),
            Behavior::MergedWithNext => {
                let mut pieces = joined(stretches.into_iter().rev(), |matched, before| matched && !before);
                pieces.reverse();
                pieces
            }
        };
        pieces.into_iter().map(|(place, _)| place).filter(|place| !place.is_empty()).for_each(&mut emit);
        Ok(())
    }
}

/// Stretches of which each is joined with the one before where `joins` says so of the two.
fn joined(
    stretches: impl Iterator<Item = (Range<usize>, bool)>,
    joins: impl Fn(bool, bool) -> bool,
) -> Vec<(Range<usize>, bool)> {
    let mut pieces: Vec<(Range<usize>, bool)> = Vec::new();
    let mut before = false;
    for (place, matched) in stretches {
        match pieces.last_mut().filter(|_| joins(matched, before)) {
            Some((piece, _)) => *piece = piece.start.min(place.start)..piece.end.max(place.end),
            None => pieces.push((place, matched)),
        }
        before = matched;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(delimiter: Delimiter, behavior: Behavior, invert: bool, text: &str) -> Vec<&str> {
        let mut pieces = Vec::new();
        Cut { delimiter, behavior, invert }.for_each(text, |place| pieces.push(&text[place])).unwrap();
        pieces
    }

    #[test]
    fn every_behaviour() {
        let dash = || Delimiter::Literal("-".into());
        let cases: [(Behavior, &[&str]); 5] = [
            (Behavior::Isolated, &["the", "-", "final", "-", "-", "countdown"]),
            (Behavior::Removed, &["the", "final", "countdown"]),
            (Behavior::MergedWithPrevious, &["the-", "final-", "-", "countdown"]),
            (Behavior::MergedWithNext, &["the", "-final", "-", "-countdown"]),
            (Behavior::Contiguous, &["the", "-", "final", "--", "countdown"]),
        ];
        for (behavior, expected) in cases {
            assert_eq!(cut(dash(), behavior, false, "the-final--countdown"), expected, "{behavior:?}");
        }
        assert_eq!(cut(dash(), Behavior::Removed, true, "a-b"), ["-"]);
        assert!(cut(dash(), Behavior::Isolated, false, "").is_empty());
    }

    #[test]
    fn classes_and_expressions() {
        let class = |class| cut(Delimiter::Class(class), Behavior::Isolated, false, "a1² ，!");
        assert_eq!(class(Class::Number), ["a", "1", "²", " ，!"]);
        assert_eq!(class(Class::Punctuation), ["a1² ", "，", "!"]);
        assert_eq!(class(Class::Space), ["a1²", " ", "，!"]);
        assert_eq!(class(Class::Only('a')), ["a", "1² ，!"]);
        let regex = Delimiter::Regex(General::new("x*", "test").unwrap());
        assert_eq!(cut(regex, Behavior::Isolated, false, "axxb"), ["a", "xx", "b"]);
    }
}
