//! Cutting and rewriting in one: the stages of a `pre_tokenizer` that put characters into the text as they cut it.

use super::delimiters::{Behavior, Class, Cut, Delimiter};
use crate::error::Result;
use crate::tokenizer::files::ByteAlphabet;
use crate::tokenizer::normalize::aligned::Aligned;
use std::ops::Range;

/// Which pieces get Metaspace's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepend {
    /// Every one.
    Always,
    /// The one at the beginning of the text.
    First,
    /// None.
    Never,
}

/// One stage.
#[derive(Clone, Debug)]
pub enum Stage {
    /// Cuts.
    Cut(Cut),
    /// Writes spaces as another character, and cuts before each.
    Metaspace {
        /// The character.
        replacement: char,
        /// Where one is put in front.
        prepend: Prepend,
        /// Whether it cuts.
        split: bool,
    },
    /// Puts a space before pieces that do not begin with one.
    PrefixSpace,
    /// Writes bytes as GPT-2's printable characters.
    Alphabet,
}

/// Pieces of a text, in order.
#[derive(Debug)]
pub struct Pieces {
    /// The text.
    pub text: Aligned,
    /// Where the pieces are; none is empty.
    pub places: Vec<Range<usize>>,
}

impl Pieces {
    /// A text as one piece.
    pub fn whole(text: Aligned) -> Self {
        let len = text.text().len();
        Pieces { text, places: if len == 0 { Vec::new() } else { std::iter::once(0..len).collect() } }
    }

    fn cut(&mut self, cut: &Cut) -> Result<()> {
        let mut finer = Vec::with_capacity(self.places.len());
        for place in &self.places {
            let at = place.start;
            cut.for_each(&self.text.text()[place.clone()], |part| finer.push(at + part.start..at + part.end))?;
        }
        self.places = finer;
        Ok(())
    }
}

impl Stage {
    /// Whether it has to know where pieces come from.
    pub fn needs_origins(&self) -> bool {
        matches!(self, Stage::Metaspace { prepend: Prepend::First, .. })
    }

    /// Goes over all pieces.
    pub fn apply(&self, pieces: &mut Pieces) -> Result<()> {
        let Pieces { text, places } = pieces;
        match self {
            Stage::Cut(cut) => return pieces.cut(cut),
            Stage::Metaspace { replacement, prepend, split } => {
                let prefixed: Vec<bool> = places
                    .iter()
                    .map(|place| {
                        let wanted = match prepend {
                            Prepend::Always => true,
                            Prepend::First => text.origin(place.clone())[0] == 0,
                            Prepend::Never => false,
                        };
                        wanted && !text.text()[place.clone()].starts_with([' ', *replacement])
                    })
                    .collect();
                text.rewrite(|old, writer| {
                    for (place, prefixed) in places.iter_mut().zip(prefixed) {
                        let start = writer.written();
                        let part = &old[place.clone()];
                        if prefixed {
                            let first = part.chars().next().map_or(0, char::len_utf8);
                            writer.put(*replacement, place.start..place.start + first);
                        }
                        let mut done = place.start;
                        for (at, _) in part.match_indices(' ') {
                            let at = place.start + at;
                            writer.keep(done..at);
                            writer.put(*replacement, at..at + 1);
                            done = at + 1;
                        }
                        writer.keep(done..place.end);
                        *place = start..writer.written();
                    }
                });
                if *split {
                    let before_each = Delimiter::Class(Class::Only(*replacement));
                    return pieces.cut(&Cut::new(before_each, Behavior::MergedWithNext));
                }
            }
            Stage::PrefixSpace => text.rewrite(|old, writer| {
                for place in places {
                    let start = writer.written();
                    let part = &old[place.clone()];
                    if !part.starts_with(' ') {
                        let first = part.chars().next().map_or(0, char::len_utf8);
                        writer.put(' ', place.start..place.start + first);
                    }
                    writer.keep(place.clone());
                    *place = start..writer.written();
                }
            }),
            Stage::Alphabet => {
                let alphabet = ByteAlphabet::get();
                text.rewrite(|old, writer| {
                    for place in places {
                        let start = writer.written();
                        for at in place.clone() {
                            writer.put(alphabet.char(old.as_bytes()[at]), at..at + 1);
                        }
                        *place = start..writer.written();
                    }
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(stages: &[Stage], text: &str) -> Vec<(String, [u32; 2])> {
        let mut pieces = Pieces::whole(Aligned::new(text, 0, true));
        stages.iter().for_each(|stage| stage.apply(&mut pieces).unwrap());
        let Pieces { text, places } = pieces;
        places.into_iter().map(|place| (text.text()[place.clone()].to_string(), text.origin(place))).collect()
    }

    fn owned(pieces: &[(&str, [u32; 2])]) -> Vec<(String, [u32; 2])> {
        pieces.iter().map(|(text, origin)| (text.to_string(), *origin)).collect()
    }

    #[test]
    fn metaspace_replaces_prepends_and_cuts() {
        let metaspace = |prepend, split| Stage::Metaspace { replacement: '▁', prepend, split };
        let always = apply(&[metaspace(Prepend::Always, true)], "Hey  you");
        assert_eq!(always, owned(&[("▁Hey", [0, 3]), ("▁", [3, 4]), ("▁you", [4, 8])]));
        assert_eq!(apply(&[metaspace(Prepend::Never, false)], "a b"), owned(&[("a▁b", [0, 3])]));
        assert_eq!(apply(&[metaspace(Prepend::Always, true)], " a"), owned(&[("▁a", [0, 2])]));
        let dashes = Stage::Cut(Cut::new(Delimiter::Literal("-".into()), Behavior::Removed));
        let first = apply(&[dashes, metaspace(Prepend::First, true)], "a-b");
        assert_eq!(first, owned(&[("▁a", [0, 1]), ("b", [2, 3])]));
        assert!(apply(&[metaspace(Prepend::Always, true)], "").is_empty());
    }

    #[test]
    fn bytes_become_characters() {
        let level = [Stage::PrefixSpace, Stage::Alphabet];
        assert_eq!(apply(&level, "é"), owned(&[("ĠÃ©", [0, 2])]));
        assert_eq!(apply(&level, " a"), owned(&[("Ġa", [0, 2])]));
    }
}
