//! A text that is being rewritten, and where in the original each of its bytes comes from.
//!
//! The rules are those of `tokenizers`: a character that takes the place of another comes from where that one came from,
//! an inserted one from where the one before it did, and what is removed leaves no trace. Bytes that stay as they are
//! keep their own places, so that offsets of an unchanged text are exact to the byte.

use std::ops::Range;

/// Start and end in bytes of the original, the end exclusive.
pub type Origin = [u32; 2];

/// A text with the origins of its bytes, where they are asked for.
#[derive(Clone, Debug, Default)]
pub struct Aligned {
    text: String,
    /// An origin for each byte; `None` where nobody asks.
    origins: Option<Vec<Origin>>,
    /// Where the part of the original that this was made of begins.
    at: u32,
}

impl Aligned {
    /// A text as it stands at byte `at` of the original. Origins are kept if `tracked`.
    pub fn new(text: &str, at: usize, tracked: bool) -> Self {
        let at = at as u32;
        let origins = tracked.then(|| (0..text.len() as u32).map(|i| [at + i, at + i + 1]).collect());
        Aligned { text: text.to_string(), origins, at }
    }

    /// The text as it is now.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The origins of a part; empty where they are not kept.
    pub fn origins(&self, range: Range<usize>) -> &[Origin] {
        self.origins.as_ref().map_or(&[], |origins| &origins[range])
    }

    /// Where a part comes from.
    pub fn origin(&self, range: Range<usize>) -> Origin {
        match self.origins(range) {
            [first, .., last] => [first[0], last[1]],
            [only] => *only,
            [] => [self.at, self.at],
        }
    }

    /// Where a part begins in what it comes from; nearly, where origins are not kept.
    pub fn begins(&self, range: Range<usize>) -> usize {
        self.origins(range.clone()).first().map_or(self.at as usize + range.start, |first| first[0] as usize)
    }

    /// A part for itself.
    pub fn slice(&self, range: Range<usize>) -> Aligned {
        let origins = self.origins.as_ref().map(|origins| origins[range.clone()].to_vec());
        Aligned { text: self.text[range].to_string(), origins, at: self.at }
    }

    /// Writes the text anew.
    pub fn rewrite<T>(&mut self, write: impl FnOnce(&str, &mut Writer<'_>) -> T) -> T {
        let old = std::mem::take(self);
        let new = Aligned {
            text: String::with_capacity(old.text.len()),
            origins: old.origins.as_ref().map(|origins| Vec::with_capacity(origins.len())),
            at: old.at,
        };
        let mut writer = Writer { old: &old, new };
        let result = write(&old.text, &mut writer);
        *self = writer.new;
        result
    }

    /// Writes the text anew as characters with what they change: 0 for one that takes the place of the next, 1 for one
    /// that is inserted, -n for one that takes the place of the next and of n more.
    pub fn transform(&mut self, changed: Vec<(char, isize)>) {
        self.rewrite(|old, writer| {
            let mut at = 0;
            for (c, change) in changed {
                if change > 0 {
                    writer.put(c, at..at);
                    continue;
                }
                let mut replaced = old[at..].chars();
                let next = replaced.next();
                let end = at + next.map_or(0, char::len_utf8);
                if next == Some(c) {
                    writer.keep(at..end);
                } else {
                    writer.put(c, at..end);
                }
                at = end + replaced.take(change.unsigned_abs()).map(char::len_utf8).sum::<usize>();
            }
        });
    }
}

/// Writes a text anew from an old one.
pub struct Writer<'a> {
    old: &'a Aligned,
    new: Aligned,
}

impl Writer<'_> {
    /// Bytes written so far.
    pub fn written(&self) -> usize {
        self.new.text.len()
    }

    /// Takes a part over as it is.
    pub fn keep(&mut self, range: Range<usize>) {
        self.new.text.push_str(&self.old.text[range.clone()]);
        if let Some(origins) = &mut self.new.origins {
            origins.extend_from_slice(self.old.origins(range));
        }
    }

    /// Puts a character in the place of a part; an empty part means an insertion, which comes from where the character
    /// before that place came from.
    pub fn put(&mut self, c: char, source: Range<usize>) {
        self.new.text.push(c);
        if let Some(origins) = &mut self.new.origins {
            let source = if source.is_empty() { before(&self.old.text, source.start) } else { source };
            origins.extend(std::iter::repeat_n(self.old.origin(source), c.len_utf8()));
        }
    }
}

/// The character that ends at `at`; nothing at the beginning.
fn before(text: &str, at: usize) -> Range<usize> {
    let len = text[..at].chars().next_back().map_or(0, char::len_utf8);
    at - len..at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_follow_what_is_rewritten() {
        let mut text = Aligned::new("éab", 10, true);
        text.transform(vec![('e', 0), ('\u{301}', 1), ('x', -1)]);
        assert_eq!(text.text(), "e\u{301}x");
        assert_eq!(text.origins(0..4), [[10, 12], [10, 12], [10, 12], [12, 13]]);
        assert_eq!(text.origin(0..3), [10, 12]);
        assert_eq!((text.begins(1..4), text.begins(3..4), Aligned::new("éab", 10, false).begins(2..3)), (10, 12, 12));
        let part = text.slice(3..4);
        assert_eq!((part.text(), part.origin(0..1)), ("x", [12, 13]));
    }

    #[test]
    fn what_stays_keeps_its_bytes_and_insertions_at_the_front_have_none() {
        let mut text = Aligned::new("é", 3, true);
        text.rewrite(|_, writer| {
            writer.put('>', 0..0);
            writer.keep(0..2);
            writer.put('<', 2..2);
        });
        assert_eq!(text.origins(0..4), [[3, 3], [3, 4], [4, 5], [3, 5]]);
        let untracked = Aligned::new("a", 0, false);
        assert!(untracked.origins(0..1).is_empty());
    }
}
