//! The way SentencePiece prepares a text: its character map, and what it does about spaces.

use super::aligned::Aligned;
use super::charsmap::Charsmap;

/// The character that SentencePiece writes for a space.
pub const SPACE: char = '\u{2581}';

/// The options of a model.
#[derive(Clone, Debug)]
pub struct SentencePiece {
    /// What characters become, if anything else than themselves.
    pub charsmap: Option<Charsmap>,
    /// Pieces that stay as they are.
    pub kept: Vec<String>,
    /// Whether a space is put in front.
    pub dummy_prefix: bool,
    /// Whether spaces at the ends are removed, and all but one of those side by side.
    pub remove_extra: bool,
    /// Whether spaces are written as [`SPACE`].
    pub escape: bool,
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
        let kept = self.kept.iter().filter(|piece| text.starts_with(piece.as_str())).max_by_key(|piece| piece.len());
        if let Some(piece) = kept {
            return (piece, piece.len());
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
        let mut options =
            SentencePiece { charsmap: None, kept: Vec::new(), dummy_prefix: true, remove_extra: true, escape: true };
        assert_eq!(prepared(&options, "  a  b "), "▁a▁b");
        assert_eq!(prepared(&options, "   "), "");
        options.remove_extra = false;
        assert_eq!(prepared(&options, " a  "), "▁▁a▁▁");
        options.escape = false;
        assert_eq!(prepared(&options, "a b"), " a b");
        options.dummy_prefix = false;
        options.kept = vec!["a b".into()];
        options.escape = true;
        assert_eq!(prepared(&options, "x a b"), "x▁a▁b");
    }
}
