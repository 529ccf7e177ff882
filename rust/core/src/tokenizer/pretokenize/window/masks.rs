//! The classes of 64 bytes as bit masks: bit `i` of a mask speaks of byte `i`.
//!
//! ASCII is classified by comparing all bytes at once, in the widest registers there are. Characters beyond ASCII are
//! looked up one by one afterwards ([`Masks::add_wide`]); all bytes of a character get its class, so that runs of a
//! class are runs of bits.

use super::super::unicode::{CASELESS, Classes, LOWER, MARK, NUMBER, OTHER, SPACE, UPPER};

/// Bytes that one step looks at.
pub const WINDOW: usize = 64;

/// Which of 64 bytes belong to which class. Classes are disjoint; [`Masks::newline`] and [`Masks::blank`] are parts of
/// `space`, [`Masks::apostrophe`] and [`Masks::slash`] of `other`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    /// Upper and title case letters.
    pub upper: u64,
    /// Lower case letters.
    pub lower: u64,
    /// Letters without case.
    pub caseless: u64,
    /// Combining marks.
    pub mark: u64,
    /// Numbers.
    pub number: u64,
    /// White space.
    pub space: u64,
    /// Everything else.
    pub other: u64,
    /// `\r` and `\n`.
    pub newline: u64,
    /// The space character.
    pub blank: u64,
    /// `'`.
    pub apostrophe: u64,
    /// `/`.
    pub slash: u64,
    /// Bytes of numbers and of white space beyond ASCII.
    pub wide_number: u64,
    /// See `wide_number`.
    pub wide_space: u64,
    /// All but the first byte of characters beyond ASCII.
    pub follow: u64,
}

impl Masks {
    /// Masks of the ASCII classes; `other` is what they leave of `known`.
    #[inline(always)]
    pub(super) fn of_ascii(ascii: Ascii, known: u64) -> Masks {
        let Ascii { upper, lower, number, space, newline, blank, apostrophe, slash, high } = ascii;
        Masks {
            upper: upper & known,
            lower: lower & known,
            number: number & known,
            space: space & known,
            newline: newline & known,
            blank: blank & known,
            apostrophe: apostrophe & known,
            slash: slash & known,
            other: known & !(upper | lower | number | space | high),
            ..Masks::default()
        }
    }

    /// Adds the characters beyond ASCII: `high` marks their bytes. Gives the number of bytes that are known now: fewer
    /// than before where the last character does not end within the block.
    #[inline(always)]
    pub(super) fn add_wide<C: Classify>(&mut self, c: C, block: &[u8; WINDOW], high: u64, known: usize) -> usize {
        let table = Classes::get();
        let mut padded = [0; WINDOW + 4];
        padded[..WINDOW].copy_from_slice(block);
        let high = high & (u64::MAX >> (WINDOW - known));
        let follow = c.followers(block) & high;
        // The class of each character, where it begins.
        let mut classes = [0; WINDOW];
        let mut rest = high & !follow;
        while rest != 0 {
            let at = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            classes[at] = table.of(decode(&padded, at));
        }
        let last = WINDOW - 1 - (high & !follow | 1).leading_zeros() as usize;
        let len = match padded[last] {
            0..=0xbf => 1,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            _ => 4,
        };
        let known = if last + len > known { last } else { known };
        let inside = u64::MAX.checked_shl(known as u32).map_or(u64::MAX, |beyond| !beyond);
        self.follow = follow & inside;
        let of = |class: u8| {
            let first = c.equal(&classes, class) & inside;
            let two = first | first << 1 & follow;
            (two | two << 1 & follow | two << 2 & follow & follow << 1) & inside
        };
        self.upper |= of(UPPER);
        self.lower |= of(LOWER);
        self.caseless |= of(CASELESS);
        self.mark |= of(MARK);
        self.other |= of(OTHER);
        self.wide_number = of(NUMBER);
        self.wide_space = of(SPACE);
        self.number |= self.wide_number;
        self.space |= self.wide_space;
        known
    }
}

/// The character whose first byte is at `at`; some character where it does not end within the block.
#[inline(always)]
fn decode(block: &[u8; WINDOW + 4], at: usize) -> char {
    let byte = |i: usize| u32::from(block[at + i]);
    let low = |i: usize| byte(i) & 0x3f;
    let first = byte(0);
    let code = match first {
        0..=0xdf => (first & 0x1f) << 6 | low(1),
        0xe0..=0xef => (first & 0x0f) << 12 | low(1) << 6 | low(2),
        _ => (first & 0x07) << 18 | low(1) << 12 | low(2) << 6 | low(3),
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// What comparing bytes tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ascii {
    pub(super) upper: u64,
    pub(super) lower: u64,
    pub(super) number: u64,
    pub(super) space: u64,
    pub(super) newline: u64,
    pub(super) blank: u64,
    pub(super) apostrophe: u64,
    pub(super) slash: u64,
    /// Bytes beyond ASCII.
    pub(super) high: u64,
}

/// A way to classify: one for each instruction set.
pub trait Classify: Copy {
    /// The ASCII classes of `block`.
    fn ascii(self, block: &[u8; WINDOW]) -> Ascii;

    /// The bytes that continue a character.
    fn followers(self, block: &[u8; WINDOW]) -> u64;

    /// The bytes that are `byte`.
    fn equal(self, block: &[u8; WINDOW], byte: u8) -> u64;

    /// Writes `base` plus the position of every bit of `bits` to the front of `out`, in order; gives their number.
    /// What lies behind them in `out` may be overwritten.
    #[inline(always)]
    fn positions(self, bits: u64, base: u32, out: &mut [u32; WINDOW]) -> usize {
        let count = bits.count_ones() as usize;
        let mut rest = bits;
        // Eight at a time whether they are there or not: one branch for eight, nearly always taken alike.
        let mut at = 0;
        while at < count {
            for slot in &mut out[at..at + 8] {
                *slot = base + rest.trailing_zeros();
                rest &= rest.wrapping_sub(1);
            }
            at += 8;
        }
        count
    }
}

/// Eight bytes in a register, a table for the class of each.
#[derive(Clone, Copy)]
pub struct Portable;

/// The bits of a byte's entry, in the order of [`Ascii`].
const TABLE: [u16; 256] = {
    let mut table = [0u16; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_uppercase() as u16
            | (b.is_ascii_lowercase() as u16) << 1
            | (b.is_ascii_digit() as u16) << 2
            | ((b == b' ' || (b >= 9 && b <= 13)) as u16) << 3
            | ((b == b'\r' || b == b'\n') as u16) << 4
            | ((b == b' ') as u16) << 5
            | ((b == b'\'') as u16) << 6
            | ((b == b'/') as u16) << 7
            | ((b >= 128) as u16) << 8;
        byte += 1;
    }
    table
};

impl Classify for Portable {
    #[inline(always)]
    fn ascii(self, block: &[u8; WINDOW]) -> Ascii {
        let mut planes = [0u64; 9];
        for (i, byte) in block.iter().enumerate() {
            let class = u64::from(TABLE[usize::from(*byte)]);
            for (bit, plane) in planes.iter_mut().enumerate() {
                *plane |= (class >> bit & 1) << i;
            }
        }
        let [upper, lower, number, space, newline, blank, apostrophe, slash, high] = planes;
        Ascii { upper, lower, number, space, newline, blank, apostrophe, slash, high }
    }

    #[inline(always)]
    fn followers(self, block: &[u8; WINDOW]) -> u64 {
        bits(block, |byte| byte & 0xc0 == 0x80)
    }

    #[inline(always)]
    fn equal(self, block: &[u8; WINDOW], byte: u8) -> u64 {
        bits(block, |other| other == byte)
    }
}

#[inline(always)]
fn bits(block: &[u8; WINDOW], is: impl Fn(u8) -> bool) -> u64 {
    block.iter().enumerate().fold(0, |bits, (i, &byte)| bits | u64::from(is(byte)) << i)
}
