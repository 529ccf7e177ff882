//! BPE over characters, as SentencePiece has it: what a piece begins with, and what becomes of unknown characters.
//!
//! `tokenizers` settles unknown characters before it merges: they become the tokens of their bytes or the unknown token,
//! which may merge like others. SentencePiece merges first, whether or not the single characters are tokens, and settles
//! what is left.

use rustc_hash::FxHashMap;

/// "No token"; within a piece, a character that is not settled yet.
const NONE: u32 = u32::MAX;
const UNSETTLED: u32 = u32::MAX - 1;

/// When unknown characters are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// Before merging.
    Before,
    /// After it.
    After,
}

/// How characters become symbols.
#[derive(Debug)]
pub struct Chars {
    known: FxHashMap<char, u32>,
    /// The token of each byte (`<0x0A>`), for characters that are not known; [`NONE`] where there is none.
    bytes: Option<Box<[u32; 256]>>,
    /// The token of what is unknown even so. Without one it is left out.
    unk: Option<u32>,
    /// Whether neighbouring unknown characters are one token.
    fuse: bool,
    settle: Settle,
    /// A character that no token has behind another one: long pieces are cut there.
    mark: Option<char>,
}

/// What an unknown character becomes.
enum Unknown {
    Bytes,
    Token(u32),
    Nothing,
}

impl Chars {
    /// Characters that are tokens, in the way of `tokenizers`; see the other methods for what is unknown.
    pub fn new(known: FxHashMap<char, u32>, settle: Settle) -> Self {
        Chars { known, bytes: None, unk: None, fuse: false, settle, mark: None }
    }

    /// With the tokens of bytes.
    pub fn with_bytes(self, token: impl Fn(&str) -> Option<u32>) -> Self {
        let of = |byte: usize| token(&format!("<0x{byte:02X}>")).unwrap_or(NONE);
        Chars { bytes: Some(Box::new(std::array::from_fn(of))), ..self }
    }

    /// With a token for what is unknown, one for each character or for all that are side by side.
    pub fn with_unknown(self, unk: Option<u32>, fuse: bool) -> Self {
        Chars { unk, fuse, ..self }
    }

    /// Cuts long pieces before `mark` where that changes nothing: if none of `tokens` has it behind another character.
    pub fn cut_at<'a>(self, mark: char, mut tokens: impl Iterator<Item = &'a [u8]>) -> Self {
        let inside = |token: &[u8]| std::str::from_utf8(token).is_ok_and(|token| next_part(token, mark) < token.len());
        let safe = self.known.contains_key(&mark) && !tokens.any(inside);
        Chars { mark: safe.then_some(mark), ..self }
    }

    /// Whether a character becomes something else than the unknown token.
    pub fn knows(&self, c: char) -> bool {
        self.known.contains_key(&c) || matches!(self.unknown(c), Unknown::Bytes)
    }

    /// The token of what is unknown.
    pub fn unknown_token(&self) -> Option<u32> {
        self.unk
    }

    /// Whether every character becomes something else than the unknown token.
    pub fn is_total(&self) -> bool {
        self.bytes.as_ref().is_some_and(|bytes| bytes.iter().all(|&id| id != NONE))
    }

    /// Calls `emit` with the parts that a piece can be cut into.
    pub fn for_each_part<E>(&self, piece: &str, mut emit: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
        let Some(mark) = self.mark else { return emit(piece) };
        let mut rest = piece;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(next_part(rest, mark));
            emit(part)?;
            rest = after;
        }
        Ok(())
    }

    /// Pushes what a piece begins with: tokens and where they begin.
    pub fn begin(&self, piece: &str, mut push: impl FnMut(u32, usize)) {
        // Where an unknown token begins that more characters may join.
        let mut open: Option<(u32, usize)> = None;
        for (at, c) in piece.char_indices() {
            let known = self.known.get(&c).copied();
            if let Some(id) = known.or(Some(UNSETTLED).filter(|_| self.settle == Settle::After)) {
                if let Some((unk, start)) = open.take() {
                    push(unk, start);
                }
                push(id, at);
                continue;
            }
            match (self.unknown(c), open) {
                // As in `tokenizers` an open unknown token stays open, and comes after the bytes.
                (Unknown::Bytes, _) => self.push_bytes(c, at, &mut push),
                (Unknown::Token(_), Some(_)) if self.fuse => {}
                (Unknown::Token(unk), _) => {
                    if let Some((unk, start)) = open {
                        push(unk, start);
                    }
                    open = Some((unk, at));
                }
                (Unknown::Nothing, _) => {}
            }
        }
        if let Some((unk, start)) = open {
            push(unk, start);
        }
    }

    /// Settles what is left of a piece after merging; `emit` gets the tokens and where they begin.
    pub fn finish(&self, piece: &str, symbols: impl Iterator<Item = (u32, usize)>, mut emit: impl FnMut(u32, usize)) {
        let mut was_unknown = false;
        for (id, at) in symbols {
            if id != UNSETTLED {
                emit(id, at);
                was_unknown = false;
                continue;
            }
            let Some(c) = piece[at..].chars().next() else { continue };
            match self.unknown(c) {
                Unknown::Bytes => {
                    self.push_bytes(c, at, &mut emit);
                    was_unknown = false;
                }
                Unknown::Token(unk) => {
                    if !(was_unknown && self.fuse) {
                        emit(unk, at);
                    }
                    was_unknown = true;
                }
                Unknown::Nothing => {}
            }
        }
    }

    fn push_bytes(&self, c: char, at: usize, push: &mut impl FnMut(u32, usize)) {
        let Some(bytes) = &self.bytes else { return };
        for (i, byte) in c.encode_utf8(&mut [0; 4]).bytes().enumerate() {
            push(bytes[usize::from(byte)], at + i);
        }
    }

    fn unknown(&self, c: char) -> Unknown {
        let complete = |bytes: &[u32; 256]| c.encode_utf8(&mut [0; 4]).bytes().all(|b| bytes[usize::from(b)] != NONE);
        match (self.bytes.as_deref(), self.unk) {
            (Some(bytes), _) if complete(bytes) => Unknown::Bytes,
            (_, Some(unk)) => Unknown::Token(unk),
            _ => Unknown::Nothing,
        }
    }
}

/// Where the first part of a piece ends: before the first `mark` that comes after something else.
fn next_part(piece: &str, mark: char) -> usize {
    let marks = piece.len() - piece.trim_start_matches(mark).len();
    piece[marks..].find(mark).map_or(piece.len(), |at| marks + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chars(settle: Settle) -> Chars {
        Chars::new([('a', 0), ('▁', 1)].into_iter().collect(), settle)
    }

    fn begun(chars: &Chars, piece: &str) -> Vec<(u32, usize)> {
        let mut pushed = Vec::new();
        chars.begin(piece, |id, at| pushed.push((id, at)));
        pushed
    }

    #[test]
    fn unknown_characters_before_merging() {
        assert_eq!(begun(&chars(Settle::Before), "axa"), [(0, 0), (0, 2)]);
        let unk = |fuse| chars(Settle::Before).with_unknown(Some(9), fuse);
        assert_eq!(begun(&unk(false), "xya"), [(9, 0), (9, 1), (0, 2)]);
        assert_eq!(begun(&unk(true), "xya"), [(9, 0), (0, 2)]);
        let bytes = unk(true).with_bytes(|name| match name {
            "<0xC3>" => Some(20),
            "<0xA9>" => Some(21),
            _ => None,
        });
        assert_eq!(begun(&bytes, "éx"), [(20, 0), (21, 1), (9, 2)]);
        assert!(bytes.knows('é') && !bytes.knows('x') && !bytes.is_total());
        assert_eq!((bytes.unknown_token(), chars(Settle::Before).unknown_token()), (Some(9), None));
    }

    #[test]
    fn who_has_all_bytes_knows_every_character() {
        let of = |least: u32| {
            let number = |name: &str| u32::from_str_radix(name.get(3..5)?, 16).ok();
            chars(Settle::After).with_bytes(|name| number(name).filter(|&byte| byte >= least).map(|byte| 2 + byte))
        };
        assert_eq!([of(0), of(1), chars(Settle::After)].map(|chars| chars.is_total()), [true, false, false]);
    }

    #[test]
    fn unknown_characters_after_merging() {
        let chars = chars(Settle::After).with_unknown(Some(9), true);
        let symbols = begun(&chars, "xya");
        assert_eq!(symbols, [(UNSETTLED, 0), (UNSETTLED, 1), (0, 2)]);
        let mut ids = Vec::new();
        chars.finish("xya", symbols.into_iter(), |id, at| ids.push((id, at)));
        assert_eq!(ids, [(9, 0), (0, 2)]);
    }

    #[test]
    fn pieces_are_cut_where_no_token_reaches_over() {
        let cut = |tokens: &[&str], piece: &str| {
            let chars = chars(Settle::Before).cut_at('▁', tokens.iter().map(|token| token.as_bytes()));
            let mut parts = Vec::new();
            chars
                .for_each_part(piece, |part| {
                    parts.push(part.to_string());
                    Ok::<(), ()>(())
                })
                .unwrap();
            parts
        };
        assert_eq!(cut(&["▁▁", "▁a"], "a▁▁a▁a"), ["a", "▁▁a", "▁a"]);
        assert_eq!(cut(&["a▁"], "a▁a"), ["a▁a"]);
    }
}
