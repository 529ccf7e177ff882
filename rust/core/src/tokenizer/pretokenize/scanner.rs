//! A text with a way to ask for the class of the character at a byte position: what hand-written patterns stand on.

use super::unicode::{Classes, SPACE, Set};

/// The last character boundary at or before `at`.
pub fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A text under a scanner. Positions are byte offsets at character boundaries.
#[derive(Clone, Copy)]
pub struct Text<'t> {
    text: &'t str,
    classes: &'static Classes,
}

impl<'t> Text<'t> {
    /// A scanner's view of `text`.
    pub fn new(text: &'t str) -> Self {
        Text { text, classes: Classes::get() }
    }

    /// Where the text ends, in bytes.
    #[inline]
    pub fn end(&self) -> usize {
        self.text.len()
    }

    /// The byte at `at`, or 0 at the end.
    #[inline]
    pub fn byte(&self, at: usize) -> u8 {
        self.text.as_bytes().get(at).copied().unwrap_or(0)
    }

    /// Class and length in bytes of the character at `at`; `(0, 0)` at the end, a class that no set contains.
    #[inline]
    pub fn look(&self, at: usize) -> (Set, usize) {
        match self.text.as_bytes().get(at) {
            None => (0, 0),
            Some(&byte) if byte < 128 => (self.classes.of_ascii(byte), 1),
            Some(_) => self.look_wide(at),
        }
    }

    fn look_wide(&self, at: usize) -> (Set, usize) {
        self.text[at..].chars().next().map_or((0, 0), |c| (self.classes.of(c), c.len_utf8()))
    }

    /// The end of the run of characters of `set` that starts at `at`.
    #[inline]
    pub fn run(&self, mut at: usize, set: Set) -> usize {
        loop {
            let (class, len) = self.look(at);
            if class & set == 0 {
                return at;
            }
            at += len;
        }
    }

    /// Like [`Text::run`] for at most `most` characters.
    #[inline]
    pub fn run_at_most(&self, mut at: usize, set: Set, most: usize) -> usize {
        for _ in 0..most {
            let (class, len) = self.look(at);
            if class & set == 0 {
                break;
            }
            at += len;
        }
        at
    }

    /// The run of white space at `at`.
    pub fn spaces(&self, at: usize) -> Spaces {
        let mut found = Spaces { end: at, last: at, after_newline: at };
        loop {
            let (class, len) = self.look(found.end);
            if class & SPACE == 0 {
                return found;
            }
            found.last = found.end;
            found.end += len;
            if matches!(self.byte(found.last), b'\r' | b'\n') {
                found.after_newline = found.end;
            }
        }
    }

    /// The end of the English contraction at the apostrophe at `at` (`'s 't 'm 'd 'll 've 're`), if there is one.
    /// With `any_case` as `(?i:…)` has it: `ſ` is an `s`, then.
    #[inline]
    pub fn contraction(&self, at: usize, any_case: bool) -> Option<usize> {
        let fold = |byte: u8| if any_case { byte.to_ascii_lowercase() } else { byte };
        match (fold(self.byte(at + 1)), fold(self.byte(at + 2))) {
            (b's' | b'd' | b'm' | b't', _) => Some(at + 2),
            (b'l', b'l') | (b'v', b'e') | (b'r', b'e') => Some(at + 3),
            (0xc5, 0xbf) if any_case => Some(at + 3),
            _ => None,
        }
    }
}

/// Where a run of white space ends, and the two places within it that patterns ask for.
pub struct Spaces {
    /// The end of the run.
    pub end: usize,
    /// The start of its last character.
    pub last: usize,
    /// The end of its last `\r` or `\n`; the start of the run when it has none.
    pub after_newline: usize,
}
