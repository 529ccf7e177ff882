//! Split patterns without a scanner of their own, through `fancy-regex`.
//!
//! A pattern comes from a file and may be hostile: its size and depth are limited by the engine, and matching that
//! backtracks too often ends in an error instead of running for ever.

use super::scanner::floor_boundary;
use crate::error::{Error, Result};
use fancy_regex::{Regex, RegexBuilder};
use std::ops::Range;

/// Steps of backtracking that one match may take.
const BACKTRACK_LIMIT: usize = 1_000_000;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct General {
    regex: Regex,
    source: String,
}

impl General {
    /// Compiles `source`; `place` names it in the error.
    pub fn new(source: &str, place: &str) -> Result<Self> {
        RegexBuilder::new(source)
            .backtrack_limit(BACKTRACK_LIMIT)
            .build()
            .map(|regex| General { regex, source: source.to_string() })
            .map_err(|e| {
                Error::tokenizer(
                    place,
                    format!("the split pattern {:?} cannot be used: {e}", shortened(source)),
                    "correct the regular expression",
                )
            })
    }

    /// The pattern as it came.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Calls `emit` with every match and every stretch between matches, in order. Empty matches cut nothing.
    pub fn for_each<'t>(&self, text: &'t str, mut emit: impl FnMut(&'t str) -> Result<()>) -> Result<()> {
        let mut done = 0;
        self.for_each_match(text, |found| {
            if found.is_empty() {
                return Ok(());
            }
            if found.start > done {
                emit(&text[done..found.start])?;
            }
            done = found.end;
            emit(&text[found])
        })?;
        if done < text.len() { emit(&text[done..]) } else { Ok(()) }
    }

    /// Calls `emit` with the place of every match, in order, empty ones and all. None begins before the end of another.
    pub fn for_each_match(&self, text: &str, mut emit: impl FnMut(Range<usize>) -> Result<()>) -> Result<()> {
        let mut done = 0;
        for found in self.regex.find_iter(text) {
            let found = found.map_err(|e| self.gave_up(&e))?.range();
            if found.start < done {
                return Err(self.overlaps()); // \K behind a look back lets a match begin before the one that it follows ends
            }
            done = found.end;
            emit(found)?;
        }
        Ok(())
    }

    fn overlaps(&self) -> Error {
        Error::tokenizer(
            format!("split pattern {:?}", shortened(&self.source)),
            "two of its matches overlap in this text".to_owned(),
            "use \\K outside of what looks ahead and back alone",
        )
    }

    fn gave_up(&self, error: &fancy_regex::Error) -> Error {
        Error::tokenizer(
            format!("split pattern {:?}", shortened(&self.source)),
            format!("matching this text was given up: {error}"),
            "use a pattern without nested quantifiers, or shorter texts",
        )
    }
}

fn shortened(source: &str) -> &str {
    &source[..floor_boundary(source, 100)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split<'t>(pattern: &str, text: &'t str) -> Result<Vec<&'t str>> {
        let mut pieces = Vec::new();
        General::new(pattern, "test")?.for_each(text, |piece| {
            pieces.push(piece);
            Ok(())
        })?;
        Ok(pieces)
    }

    #[test]
    fn matches_and_the_stretches_between() {
        assert_eq!(split(r"\d+", "ab12cd345").unwrap(), ["ab", "12", "cd", "345"]);
        assert_eq!(split(r"x*", "axxb").unwrap(), ["a", "xx", "b"]);
        assert_eq!(split(r"\d", "").unwrap(), Vec::<&str>::new());
    }

    #[test]
    fn hostile_patterns_end_in_errors() {
        let text = "a".repeat(60);
        let said = split(r"(?:(?=a)a|a)+b", &text).unwrap_err().to_string();
        assert!(said.contains(r#"split pattern "(?:(?=a)a|a)+b": matching this text was given up"#), "{said}");
        assert_eq!(shortened(&"é".repeat(80)), "é".repeat(50));
        assert!(matches!(split(&"(".repeat(10_000), "a"), Err(Error::Tokenizer { .. })));
        assert!(matches!(split("a{4294967295}", "a"), Err(Error::Tokenizer { .. })));
        assert!(matches!(split("[", "a"), Err(Error::Tokenizer { .. })));
    }

    #[test]
    fn matches_that_overlap_are_an_error() {
        assert_eq!(split(r"a\Kb", "abb").unwrap(), ["a", "b", "b"]);
        let said = split(r"(?<=\Kb)b", "bbb").unwrap_err().to_string();
        assert!(said.contains("two of its matches overlap in this text"), "{said}");
    }
}
