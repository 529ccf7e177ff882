//! Added tokens with their conditions: where in a text one counts, and what it takes with it.

use super::special::Matcher;
use rustc_hash::FxHashMap;
use std::ops::Range;

/// What an added token says about its surroundings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// It counts only where no letter or digit is beside it.
    pub single_word: bool,
    /// It takes the white space before it.
    pub lstrip: bool,
    /// It takes the white space after it.
    pub rstrip: bool,
    /// It is looked for in the normalized text.
    pub normalized: bool,
}

impl Flags {
    /// Whether the token is just its text.
    pub fn is_plain(self) -> bool {
        !(self.single_word || self.lstrip || self.rstrip)
    }
}

/// Tokens that are looked for before and after the text is normalized.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// In the text as it is.
    pub raw: Matcher,
    /// In the normalized text.
    pub normalized: Matcher,
}

/// Calls `emit` with the parts of `text`: tokens that `matcher` finds, with their ids, and the stretches between.
pub fn split<E>(
    text: &str,
    matcher: &Matcher,
    flags: &FxHashMap<u32, Flags>,
    mut emit: impl FnMut(Option<u32>, Range<usize>) -> Result<(), E>,
) -> Result<(), E> {
    let (mut done, mut from) = (0, 0);
    while let Some((at, found, id)) = matcher.find(text, from) {
        from = at + found.len();
        let (mut start, mut end) = (at, from);
        let flags = flags.get(&id).copied().unwrap_or_default();
        if flags.single_word && !stands_alone(text, start..end) {
            continue;
        }
        if flags.lstrip {
            start = text[..start].trim_end().len().max(done);
        }
        if flags.rstrip {
            end = text.len() - text[end..].trim_start().len();
        }
        if start >= end {
            // All of it is white space that the token before has taken.
            continue;
        }
        if start > done {
            emit(None, done..start)?;
        }
        emit(Some(id), start..end)?;
        done = end;
    }
    if done < text.len() { emit(None, done..text.len()) } else { Ok(()) }
}

fn stands_alone(text: &str, place: Range<usize>) -> bool {
    let word = |c: Option<char>| c.is_some_and(|c| regex_syntax::try_is_word_character(c).unwrap_or(false));
    !word(text[..place.start].chars().next_back()) && !word(text[place.end..].chars().next())
}

/// Whether looking for `normalized` tokens and for others at once finds the same as looking for the others first: no
/// token of the first kind overlaps one of the second from the left, or hides it.
pub fn are_independent<'a>(normalized: &[&'a str], raw: &[&'a str]) -> bool {
    let hides = |one: &str, other: &str| {
        let (one, other) = (one.as_bytes(), other.as_bytes());
        (0..one.len()).any(|at| {
            let overlap = (one.len() - at).min(other.len());
            one[at..at + overlap] == other[..overlap] && (at > 0 || one.len() > other.len())
        })
    };
    !normalized.iter().any(|one| raw.iter().any(|other| hides(one, other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str, flags: Flags) -> Vec<(Option<u32>, String)> {
        parts_of(text, &[("<x>", flags)])
    }

    /// The parts of a text with tokens that have the ids 7, 8, ….
    fn parts_of(text: &str, tokens: &[(&str, Flags)]) -> Vec<(Option<u32>, String)> {
        let matcher = Matcher::new(tokens.iter().zip(7..).map(|((name, _), id)| (name.to_string(), id)));
        let mut parts = Vec::new();
        split(text, &matcher, &tokens.iter().zip(7..).map(|((_, flags), id)| (id, *flags)).collect(), |id, place| {
            parts.push((id, text[place].to_string()));
            Ok::<(), ()>(())
        })
        .unwrap();
        parts
    }

    #[test]
    fn white_space_is_taken_along() {
        let part = |id, text: &str| (id, text.to_string());
        let both = Flags { lstrip: true, rstrip: true, ..Flags::default() };
        assert_eq!(
            parts("a <x> <x>\nb", both),
            [part(None, "a"), part(Some(7), " <x> "), part(Some(7), "<x>\n"), part(None, "b")]
        );
        assert_eq!(parts("<x>", Flags::default()), [part(Some(7), "<x>")]);
    }

    #[test]
    fn white_space_that_was_taken_is_no_token_that_takes_white_space() {
        let flags = |lstrip, rstrip| Flags { lstrip, rstrip, ..Flags::default() };
        let tokens = |rstrip| [("<x>", flags(false, true)), (" ", flags(true, rstrip))];
        let part = |id, text: &str| (id, text.to_string());
        for rstrip in [false, true] {
            let parts = parts_of("<x>   y  <x> ", &tokens(rstrip));
            assert_eq!(parts[..2], [part(Some(7), "<x>   "), part(None, "y")]);
            assert_eq!(parts.last(), Some(&part(Some(7), "<x> ")));
        }
    }

    #[test]
    fn single_words_stand_alone() {
        let single = Flags { single_word: true, ..Flags::default() };
        assert_eq!(parts("a<x>", single), [(None, "a<x>".to_string())]);
        assert_eq!(parts("é <x>,", single)[1].0, Some(7));
    }

    #[test]
    fn tokens_that_hide_others_are_known() {
        assert!(are_independent(&["ab"], &["cd", "abc"]));
        assert!(!are_independent(&["ab"], &["bc"]));
        assert!(!are_independent(&["ab"], &["a"]));
    }
}
