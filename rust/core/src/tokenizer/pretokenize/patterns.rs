//! The published split patterns, scanned by hand: one function for each that says where the piece at a position ends.
//!
//! Every function is written from the regular expression in its comment and tested equal to it. A piece never depends on
//! the text before it, and looks no further than the run of one class that follows it, so scanning is linear.

use super::scanner::{Text, floor_boundary};
use super::unicode::{CASELESS, LETTER, LOWER, MARK, NUMBER, OTHER, SPACE, UPPER};
use std::ops::RangeInclusive;

/// A pattern with a scanner of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// GPT-2, GPT-3 (`r50k`, `p50k`) and everything `ByteLevel` with `use_regex`.
    Gpt2 {
        /// Whether every digit is cut out before (`Digits` with `individual_digits`), as in SmolLM and StarCoder.
        digits: bool,
    },
    /// GPT-4 (`cl100k`) and its many children.
    Gpt4 {
        /// How many digits a piece may have: 3 in GPT-4 and Llama 3, 1 in Qwen, 2 in nanochat.
        digits: u8,
        /// Whether white space at the very end is one piece (tiktoken's `\s++$`) or ends after its last newline first.
        trailing: bool,
    },
    /// GPT-4o (`o200k`).
    O200k,
    /// Every character for itself.
    Chars,
    /// Words, and every other character for itself.
    Words,
}

/// GPT-2's own.
pub const GPT2: Pattern = Pattern::Gpt2 { digits: false };
/// cl100k as tiktoken has it.
pub const GPT4: Pattern = Pattern::Gpt4 { digits: 3, trailing: true };

/// GPT-2's pattern as published, which is `ByteLevel`'s as well.
pub const GPT2_REGEX: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// tiktoken's cl100k without possessive quantifiers, and with `\z` for `$`: equal in every engine.
pub const GPT4_REGEX: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]+|\s+(?!\S)|\s+";
/// o200k as published.
pub const O200K_REGEX: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The character level's pattern.
pub const CHARS_REGEX: &str = r"[\s\S]";
/// The word level's pattern.
pub const WORDS_REGEX: &str = r"[\p{L}\p{M}\p{N}_]+|[\s\S]";

/// Spellings of known patterns: ours first, then tiktoken's and those found in published `tokenizer.json` files.
const SPELLINGS: &[(&str, Pattern)] = &[
    (GPT2_REGEX, GPT2),
    (GPT4_REGEX, GPT4),
    (O200K_REGEX, Pattern::O200k),
    (CHARS_REGEX, Pattern::Chars),
    (WORDS_REGEX, Pattern::Words),
    (r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", GPT2),
    (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", GPT2),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Pattern::Gpt4 { digits: 3, trailing: false },
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Pattern::Gpt4 { digits: 2, trailing: false },
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Pattern::Gpt4 { digits: 1, trailing: false },
    ),
];

impl Pattern {
    /// The pattern that a regular expression spells, if it is a known one.
    pub fn from_regex(regex: &str) -> Option<Pattern> {
        SPELLINGS.iter().find(|(spelling, _)| *spelling == regex).map(|(_, pattern)| *pattern)
    }

    /// The pattern of a name: "gpt2" (also "r50k", "p50k"), "gpt4" (also "cl100k"), "o200k" (also "gpt4o"), with or
    /// without tiktoken's "_base".
    pub fn from_name(name: &str) -> Option<Pattern> {
        match name.trim_end_matches("_base") {
            "gpt2" | "r50k" | "p50k" => Some(GPT2),
            "gpt4" | "cl100k" => Some(GPT4),
            "o200k" | "gpt4o" => Some(Pattern::O200k),
            _ => None,
        }
    }

    /// The regular expression, as written into files.
    pub fn regex(self) -> &'static str {
        SPELLINGS.iter().find(|(_, pattern)| *pattern == self).map_or(GPT4_REGEX, |(spelling, _)| spelling)
    }

    /// The public name, for patterns that have one.
    pub fn name(self) -> Option<&'static str> {
        match self {
            GPT2 => Some("gpt2"),
            GPT4 => Some("gpt4"),
            Pattern::O200k => Some("o200k"),
            _ => None,
        }
    }

    /// Calls `emit` with every piece of `text`, in order, until it fails.
    pub fn for_each<'t, E>(self, text: &'t str, emit: impl FnMut(&'t str) -> Result<(), E>) -> Result<(), E> {
        // One loop for each pattern, so that its function is inlined.
        match self {
            Pattern::Gpt2 { digits } => scan(text, |t, at| gpt2(t, at, digits), emit),
            Pattern::Gpt4 { digits, trailing } => scan(text, |t, at| gpt4(t, at, digits, trailing), emit),
            Pattern::O200k => scan(text, o200k, emit),
            Pattern::Chars => scan(text, |t, at| at + t.look(at).1, emit),
            Pattern::Words => scan(text, words, emit),
        }
    }

    /// Where the piece that begins at `at` ends.
    pub fn end_of_piece(self, text: &Text<'_>, at: usize) -> usize {
        match self {
            Pattern::Gpt2 { digits } => gpt2(text, at, digits),
            Pattern::Gpt4 { digits, trailing } => gpt4(text, at, digits, trailing),
            Pattern::O200k => o200k(text, at),
            Pattern::Chars => at + text.look(at).1,
            Pattern::Words => words(text, at),
        }
    }

    /// The last of some places where `text` may be cut in two without changing any piece, if there is one.
    ///
    /// Such a place is before white space or punctuation that follows a letter or number, or before a space that follows
    /// any other visible character: no pattern has a piece across it, and what is on its left ends there in any case. (An
    /// apostrophe may continue a word, and so does `_` where pieces are words.) A text of characters can be cut anywhere.
    pub fn safe_cut(self, text: &str, places: RangeInclusive<usize>) -> Option<usize> {
        let first = (*places.start()).max(1);
        let mut right = floor_boundary(text, *places.end());
        if self == Pattern::Chars {
            return (right >= first).then_some(right);
        }
        let scan = Text::new(text);
        while right >= first {
            let left = floor_boundary(text, right - 1);
            let ((before, _), (after, _), byte) = (scan.look(left), scan.look(right), scan.byte(right));
            let ended = before & (LETTER | NUMBER) != 0
                && (after & SPACE != 0 || (after & OTHER != 0 && byte != b'\'' && byte != b'_'));
            if right < text.len() && (ended || (before & SPACE == 0 && byte == b' ')) {
                return Some(right);
            }
            right = left;
        }
        None
    }
}

#[inline]
fn scan<'t, E>(
    text: &'t str,
    end_of_piece: impl Fn(&Text<'t>, usize) -> usize,
    mut emit: impl FnMut(&'t str) -> Result<(), E>,
) -> Result<(), E> {
    let scanner = Text::new(text);
    let mut at = 0;
    while at < text.len() {
        let end = end_of_piece(&scanner, at);
        emit(&text[at..end])?;
        at = end;
    }
    Ok(())
}

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
///
/// With `digits`, numbers are cut out one by one before: each is a piece, and a text ends where one begins.
#[inline]
fn gpt2(t: &Text<'_>, at: usize, digits: bool) -> usize {
    let byte = t.byte(at);
    if byte == b'\''
        && let Some(end) = t.contraction(at, false)
    {
        return end;
    }
    let start = if byte == b' ' { at + 1 } else { at };
    let (class, len) = t.look(start);
    if class & LETTER != 0 {
        t.run(start + len, LETTER)
    } else if class & NUMBER != 0 && digits {
        if start > at { start } else { start + len }
    } else if class & NUMBER != 0 {
        t.run(start + len, NUMBER)
    } else if class & (MARK | OTHER) != 0 {
        t.run(start + len, MARK | OTHER)
    } else {
        // All of it at the end of the text; else all but the last, which may belong to what follows.
        let spaces = t.spaces(at);
        let at_end = spaces.end == t.end() || (digits && t.look(spaces.end).0 & NUMBER != 0);
        if at_end || spaces.last == at { spaces.end } else { spaces.last }
    }
}

/// `(?i:'s|…)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+$|\s*[\r\n]+|\s+(?!\S)|\s+`
#[inline]
fn gpt4(t: &Text<'_>, at: usize, digits: u8, trailing: bool) -> usize {
    let byte = t.byte(at);
    if byte == b'\''
        && let Some(end) = t.contraction(at, true)
    {
        return end;
    }
    let (class, len) = t.look(at);
    if class & LETTER != 0 {
        return t.run(at + len, LETTER);
    }
    if class & NUMBER != 0 {
        return t.run_at_most(at + len, NUMBER, usize::from(digits) - 1);
    }
    if byte != b'\r' && byte != b'\n' {
        let (next, next_len) = t.look(at + len);
        if next & LETTER != 0 {
            return t.run(at + len + next_len, LETTER);
        }
    }
    let start = if byte == b' ' { at + 1 } else { at };
    if t.look(start).0 & (MARK | OTHER) != 0 {
        return run_of_bytes(t, t.run(start, MARK | OTHER), b"\r\n");
    }
    white_space(t, at, trailing)
}

/// The two cased alternatives (see [`cased_with_lower`]), then as in [`gpt4`] with `[\r\n/]*` and without `\s+$`.
#[inline]
fn o200k(t: &Text<'_>, at: usize) -> usize {
    let byte = t.byte(at);
    let (class, len) = t.look(at);
    if class & NUMBER != 0 {
        return t.run_at_most(at + len, NUMBER, 2);
    }
    let cased = if class & LETTER != 0 {
        cased_with_lower(t, at).or_else(|| cased_upper(t, at))
    } else if byte != b'\r' && byte != b'\n' {
        // `[^\r\n\p{L}\p{N}]?` is tried first and given back last; only a mark can be the word's first itself.
        cased_with_lower(t, at + len)
            .or_else(|| if class & MARK != 0 { cased_with_lower(t, at) } else { None })
            .or_else(|| cased_upper(t, at + len))
    } else {
        None
    };
    if let Some(end) = cased {
        return if t.byte(end) == b'\'' { t.contraction(end, true).unwrap_or(end) } else { end };
    }
    let start = if byte == b' ' { at + 1 } else { at };
    if t.look(start).0 & (MARK | OTHER) != 0 {
        return run_of_bytes(t, t.run(start, MARK | OTHER), b"\r\n/");
    }
    white_space(t, at, false)
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+` at `at`.
///
/// The star takes the whole run; then a lower-case letter follows, or the star gives back down to the last character
/// that is in both sets, which is all that the plus then gets.
#[inline]
fn cased_with_lower(t: &Text<'_>, at: usize) -> Option<usize> {
    let (mut end, mut after_both) = (at, None);
    loop {
        let (class, len) = t.look(end);
        if class & (UPPER | CASELESS | MARK) == 0 {
            let lower = class & LOWER != 0;
            return if lower { Some(t.run(end + len, LOWER | CASELESS | MARK)) } else { after_both };
        }
        end += len;
        if class & (CASELESS | MARK) != 0 {
            after_both = Some(end);
        }
    }
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*` where [`cased_with_lower`] has failed: the run alone.
#[inline]
fn cased_upper(t: &Text<'_>, at: usize) -> Option<usize> {
    let end = t.run(at, UPPER | CASELESS | MARK);
    (end > at).then_some(end)
}

/// `[\p{L}\p{M}\p{N}_]+|[\s\S]`
#[inline]
fn words(t: &Text<'_>, at: usize) -> usize {
    let mut end = at;
    loop {
        let (class, len) = t.look(end);
        if class & (LETTER | MARK | NUMBER) == 0 && t.byte(end) != b'_' {
            return if end > at { end } else { at + len };
        }
        end += len;
    }
}

/// `\s+$` (with `trailing`), `\s*[\r\n]+|\s+(?!\S)|\s+`
#[inline]
fn white_space(t: &Text<'_>, at: usize, trailing: bool) -> usize {
    let spaces = t.spaces(at);
    let at_end = spaces.end == t.end();
    if trailing && at_end {
        spaces.end
    } else if spaces.after_newline > at {
        spaces.after_newline
    } else if at_end || spaces.last == at {
        spaces.end
    } else {
        spaces.last
    }
}

#[inline]
fn run_of_bytes(t: &Text<'_>, mut at: usize, bytes: &[u8]) -> usize {
    while at < t.end() && bytes.contains(&t.byte(at)) {
        at += 1;
    }
    at
}

#[cfg(test)]
pub(super) mod tests;
