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
        let follow = c.follows(c.load(block)) & high;
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
        let classes = c.load(&classes);
        self.upper |= characters(c.is(classes, UPPER), follow) & inside;
        self.lower |= characters(c.is(classes, LOWER), follow) & inside;
        self.caseless |= characters(c.is(classes, CASELESS), follow) & inside;
        self.mark |= characters(c.is(classes, MARK), follow) & inside;
        self.other |= characters(c.is(classes, OTHER), follow) & inside;
        self.wide_number = characters(c.is(classes, NUMBER), follow) & inside;
        self.wide_space = characters(c.is(classes, SPACE), follow) & inside;
        self.number |= self.wide_number;
        self.space |= self.wide_space;
        known
    }
}

/// All bytes of the characters that begin at the bits of `first`; `follow` marks the bytes that continue one.
#[inline(always)]
fn characters(first: u64, follow: u64) -> u64 {
    let two = first | first << 1 & follow;
    two | two << 1 & follow | two << 2 & follow & follow << 1
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

/// Questions to all bytes of a block at once: one way to ask for each instruction set.
pub trait Classify: Copy {
    /// A block in registers.
    type Block: Copy;

    /// Loads a block.
    fn load(self, block: &[u8; WINDOW]) -> Self::Block;

    /// The bytes that are `count` values from `first` on, both below 128 together.
    fn within(self, block: Self::Block, first: u8, count: u8) -> u64;

    /// The bytes that are `byte`, below 128.
    #[inline(always)]
    fn is(self, block: Self::Block, byte: u8) -> u64 {
        self.within(block, byte, 1)
    }

    /// The bytes beyond ASCII.
    fn high(self, block: Self::Block) -> u64;

    /// The bytes that continue a character.
    fn follows(self, block: Self::Block) -> u64;

    /// The ASCII classes of a block.
    #[inline(always)]
    fn ascii(self, block: &[u8; WINDOW]) -> Ascii {
        let block = self.load(block);
        let blank = self.is(block, b' ');
        Ascii {
            upper: self.within(block, b'A', 26),
            lower: self.within(block, b'a', 26),
            number: self.within(block, b'0', 10),
            space: blank | self.within(block, 9, 5),
            newline: self.is(block, b'\n') | self.is(block, b'\r'),
            blank,
            apostrophe: self.is(block, b'\''),
            slash: self.is(block, b'/'),
            high: self.high(block),
        }
    }

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

/// Eight bytes in a register.
#[derive(Clone, Copy)]
pub struct Portable;

/// A byte in all eight places.
const fn eight(byte: u8) -> u64 {
    byte as u64 * 0x0101_0101_0101_0101
}

/// The bits of the words' highest bits, byte after byte.
#[inline(always)]
fn gather(block: [u64; WINDOW / 8], high_bits: impl Fn(u64) -> u64) -> u64 {
    // A product moves the eight bits next to each other into the highest byte.
    let byte = |word: u64| ((high_bits(word) & eight(0x80)) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    block.iter().enumerate().fold(0, |bits, (i, &word)| bits | byte(word) << (8 * i))
}

impl Classify for Portable {
    type Block = [u64; WINDOW / 8];

    #[inline(always)]
    fn load(self, block: &[u8; WINDOW]) -> Self::Block {
        let (words, _) = block.as_chunks::<8>();
        std::array::from_fn(|i| u64::from_le_bytes(words[i]))
    }

    #[inline(always)]
    fn within(self, block: Self::Block, first: u8, count: u8) -> u64 {
        // Sums of seven bits carry into the eighth from a value on, and never into the next byte.
        let from = |word: u64, least: u8| (word & eight(0x7f)) + eight(0x80 - least);
        gather(block, |word| from(word, first) & !from(word, first + count) & !word)
    }

    #[inline(always)]
    fn high(self, block: Self::Block) -> u64 {
        gather(block, |word| word)
    }

    #[inline(always)]
    fn follows(self, block: Self::Block) -> u64 {
        gather(block, |word| word & !(word << 1))
    }
}
