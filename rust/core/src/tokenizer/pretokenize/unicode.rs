//! The Unicode classes that split patterns speak of, one byte for each character.
//!
//! The table is built once, on first use, from the tables of `regex-syntax`: the same that `fancy-regex` (and with it
//! tiktoken) matches with, so that a scanner and the regular expression it stands for can never disagree about a
//! character. A class is one bit, so that "letter or mark" is one test.

use regex_syntax::hir::{Class as HirClass, HirKind};
use std::sync::LazyLock;

/// A set of classes: one bit for each.
pub type Set = u8;

/// White space (`\s`).
pub const SPACE: Set = 1;
/// Upper and title case (`\p{Lu}\p{Lt}`).
pub const UPPER: Set = 2;
/// Lower case (`\p{Ll}`).
pub const LOWER: Set = 4;
/// Letters without case (`\p{Lm}\p{Lo}`).
pub const CASELESS: Set = 8;
/// Combining marks (`\p{M}`).
pub const MARK: Set = 16;
/// Numbers (`\p{N}`).
pub const NUMBER: Set = 32;
/// Everything else: punctuation, symbols, controls, unassigned.
pub const OTHER: Set = 64;
/// Letters (`\p{L}`).
pub const LETTER: Set = UPPER | LOWER | CASELESS;

const PAGE: usize = 256;
const PAGES: usize = 0x11_0000 / PAGE;

/// A two-level table: page of the character, then the class within the page. Equal pages are stored once.
pub struct Classes {
    index: Vec<u8>,
    pages: Vec<[Set; PAGE]>,
}

static CLASSES: LazyLock<Classes> = LazyLock::new(Classes::build);

impl Classes {
    /// The table of this process.
    pub fn get() -> &'static Classes {
        &CLASSES
    }

    /// The one class of `c`.
    #[inline]
    pub fn of(&self, c: char) -> Set {
        let c = c as usize;
        self.pages[usize::from(self.index[c / PAGE])][c % PAGE]
    }

    /// The one class of an ASCII byte.
    #[inline]
    pub fn of_ascii(&self, byte: u8) -> Set {
        self.pages[0][usize::from(byte)]
    }

    fn build() -> Classes {
        let mut flat = vec![OTHER; PAGES * PAGE];
        for (set, class) in [
            (r"[\p{Lu}\p{Lt}]", UPPER),
            (r"\p{Ll}", LOWER),
            (r"[\p{Lm}\p{Lo}]", CASELESS),
            (r"\p{M}", MARK),
            (r"\p{N}", NUMBER),
            (r"\s", SPACE),
        ] {
            for (first, last) in ranges(set) {
                flat[first..=last].fill(class);
            }
        }
        let mut table = Classes { index: Vec::with_capacity(PAGES), pages: Vec::new() };
        for page in flat.chunks_exact(PAGE) {
            let known = table.pages.iter().position(|p| p == page).unwrap_or(table.pages.len());
            if known == table.pages.len() {
                let mut new = [OTHER; PAGE];
                new.copy_from_slice(page);
                table.pages.push(new);
            }
            table.index.push(u8::try_from(known).expect("fewer than 256 distinct pages in Unicode"));
        }
        // The first page must be page 0, for `of_ascii`; it is the first to be stored.
        debug_assert_eq!(table.index[0], 0);
        table
    }
}

/// The code point ranges of a character class.
fn ranges(set: &str) -> Vec<(usize, usize)> {
    let hir = regex_syntax::parse(set).expect("the class is written above");
    match hir.kind() {
        HirKind::Class(HirClass::Unicode(class)) => {
            class.ranges().iter().map(|r| (r.start() as usize, r.end() as usize)).collect()
        }
        _ => unreachable!("a Unicode class is parsed as one"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_known_characters() {
        let classes = Classes::get();
        for (c, class) in [
            ('a', LOWER),
            ('Z', UPPER),
            ('ǅ', UPPER),
            ('ʰ', CASELESS),
            ('中', CASELESS),
            ('\u{301}', MARK),
            ('7', NUMBER),
            ('Ⅷ', NUMBER),
            (' ', SPACE),
            ('\n', SPACE),
            ('\u{85}', SPACE),
            ('\u{3000}', SPACE),
            ('\u{200b}', OTHER),
            ('!', OTHER),
            ('_', OTHER),
            ('😀', OTHER),
            ('\0', OTHER),
        ] {
            assert_eq!(classes.of(c), class, "{c:?}");
        }
    }

    #[test]
    fn spaces_agree_with_std() {
        // `char::is_whitespace` is the property White_Space, as `\s` is.
        let classes = Classes::get();
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            assert_eq!(classes.of(c) == SPACE, c.is_whitespace(), "{c:?}");
        }
    }
}
