//! The way SentencePiece prepares a text: its character map, and what it does about spaces.

use super::aligned::Aligned;
use super::charsmap::Charsmap;
use crate::tokenizer::automaton::leftmost_longest;
use aho_corasick::{AhoCorasick, Anchored, Input, StartKind};
use std::fmt;

/// The character that SentencePiece writes for a space.
pub const SPACE: char = '\u{2581}';

/// The options of a model.
#[derive(Clone, Debug)]
pub struct SentencePiece {
    /// What characters become, if anything else than themselves.
    pub charsmap: Option<Charsmap>,
    /// Pieces that stay as they are.
    pub kept: Kept,
    /// Whether a space is put in front.
    pub dummy_prefix: bool,
    /// Whether spaces at the ends are removed, and all but one of those side by side.
    pub remove_extra: bool,
    /// Whether spaces are written as [`SPACE`].
    pub escape: bool,
}

/// Pieces that are found at the beginning of a text.
#[derive(Clone, Default)]
pub struct Kept {
    pieces: Vec<String>,
    /// `None` where there is none.
    automaton: Option<AhoCorasick>,
}

impl Kept {
    /// These pieces, of which none is empty.
    pub fn new(pieces: Vec<String>) -> Self {
        let automaton = (!pieces.is_empty()).then(|| leftmost_longest(&pieces, StartKind::Anchored));
        Kept { pieces, automaton }
    }

    /// The length of the longest that `text` begins with.
    fn longest(&self, text: &str) -> Option<usize> {
        let found = self.automaton.as_ref()?.find(Input::new(text).anchored(Anchored::Yes))?;
        Some(found.end()).filter(|len| *len > 0)
    }
}

/// As a list: this is in the fingerprint of a tokenizer.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.fmt(f)
    }
}

impl SentencePiece {
    /// Prepares `text`.
    pub fn apply(&self, text: &mut Aligned) {
        let space = if self.escape { SPACE } else { ' ' };
        text.rewrite(|old, writer| {
            let mut at = 0;
            while self.remove_extra && at < old.len() {
                match self.unit(&old[at..]) {
                    (" ", len) => at += len,
                    _ => break,
                }
            }
            if self.dummy_prefix && at < old.len() {
                writer.put(space, at..at + self.unit(&old[at..]).1);
            }
            let mut after_space = self.remove_extra;
            while at < old.len() {
                let (unit, len) = self.unit(&old[at..]);
                let place = at..at + len;
                at += len;
                let unit = if after_space { unit.trim_start_matches(' ') } else { unit };
                if unit == &old[place.clone()] && !unit.contains(' ') {
                    writer.keep(place);
                } else {
                    unit.chars().for_each(|c| writer.put(if c == ' ' { space } else { c }, place.clone()));
                }
                if !unit.is_empty() {
                    after_space = self.remove_extra && unit.ends_with(' ');
                }
            }
        });
        let kept = text.text().trim_end_matches(space).len();
        if self.remove_extra && kept < text.text().len() {
            text.rewrite(|_, writer| writer.keep(0..kept));
        }
    }

    /// What the beginning of a text that is not empty becomes, and how long that beginning is.
    fn unit<'t>(&'t self, text: &'t str) -> (&'t str, usize) {
        if let Some(len) = self.kept.longest(text) {
            return (&text[..len], len);
        }
        if let Some((len, becomes)) = self.charsmap.as_ref().and_then(|charsmap| charsmap.longest(text)) {
            return (becomes, len);
        }
        let len = text.chars().next().map_or(0, char::len_utf8);
        (&text[..len], len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(options: &SentencePiece, text: &str) -> String {
        let mut aligned = Aligned::new(text, 0, true);
        options.apply(&mut aligned);
        aligned.text().to_string()
    }

    #[test]
    fn spaces() {
        let mut options = SentencePiece {
            charsmap: None,
            kept: Kept::default(),
            dummy_prefix: true,
            remove_extra: true,
            escape: true,
        };
        assert_eq!(prepared(&options, "  a  b "), "▁a▁b");
        assert_eq!(prepared(&options, "   "), "");
        options.remove_extra = false;
        assert_eq!(prepared(&options, " a  "), "▁▁a▁▁");
        options.escape = false;
        assert_eq!(prepared(&options, "a b"), " a b");
        options.dummy_prefix = false;
        options.kept = Kept::new(vec!["a b".into()]);
        options.escape = true;
        assert_eq!(prepared(&options, "x a b"), "x▁a▁b");
    }

    #[test]
    fn the_longest_kept_piece_at_the_beginning() {
        let kept = Kept::new(["a", "é!", "a b", "b"].map(String::from).to_vec());
        assert_eq!(kept.longest("a bc"), Some(3));
        assert_eq!(kept.longest("a c"), Some(1));
        assert_eq!(kept.longest("é!"), Some(3));
        assert_eq!(kept.longest("x a b"), None);
        assert_eq!(kept.longest(""), None);
        assert_eq!(Kept::default().longest("a"), None);
        assert_eq!(format!("{kept:?}"), r#"["a", "é!", "a b", "b"]"#);
    }
}
