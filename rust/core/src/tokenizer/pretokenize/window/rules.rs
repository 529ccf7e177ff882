//! Where pieces begin within a window, for each pattern, by arithmetic on masks.
//!
//! A window begins where a piece begins, so nothing before it matters. `x << 1` are the places after those of `x`,
//! `x >> 1` those before. Adding a bit to the start of a run of ones carries to the place after the run, which is how a
//! run is followed in one instruction.
//!
//! What masks cannot tell ends the part of the window that is known (`limit`), never gives a wrong start: such a piece is
//! left to the pattern's scanner.

use super::masks::Masks;

/// A window under a rule.
pub struct View<'a> {
    /// Classes of its bytes.
    pub masks: Masks,
    /// The bytes, for the few questions that masks do not answer.
    pub block: &'a [u8; 64],
    /// How many of them are known, 64 or fewer.
    pub known: usize,
    /// Whether the text ends with them.
    pub at_end: bool,
}

/// What a rule finds.
#[derive(Debug)]
pub struct Starts {
    /// A bit where a piece begins.
    pub bits: u64,
    /// Bits beyond this place are not to be trusted.
    pub limit: usize,
}

/// How far ahead of a start a rule looks, at most: a contraction of two letters.
const AHEAD: usize = 4;

/// A pattern's rule. See [`super::super::patterns`] for what each stands for.
pub trait Rule: Copy {
    /// Where pieces begin.
    fn starts(self, view: &View<'_>) -> Starts;
}

/// GPT-2's pattern, or with `digits` the same after `Digits { individual: true }`.
#[derive(Clone, Copy)]
pub struct Gpt2<const DIGITS: bool>;

/// cl100k and its children: numbers of at most `DIGITS` digits; with `TRAILING` white space at the end is one piece.
#[derive(Clone, Copy)]
pub struct Gpt4<const DIGITS: u8, const TRAILING: bool>;

/// o200k.
#[derive(Clone, Copy)]
pub struct O200k;

/// The first place of every run.
#[inline(always)]
fn firsts(runs: u64) -> u64 {
    runs & !(runs << 1)
}

/// The parts of `runs` from a bit of `seeds` to the end of the run.
#[inline(always)]
fn flood(seeds: u64, runs: u64) -> u64 {
    (runs & !runs.wrapping_add(seeds)) | seeds
}

/// The part of a window that is known, by what its end looks like and by the first place (if any) of `unclear`.
#[inline(always)]
fn limit(view: &View<'_>, unclear: u64) -> usize {
    let space = view.masks.space;
    let end = if view.at_end {
        view.known
    } else {
        // White space at the end may go on, and what it becomes depends on what follows.
        let run = (!(space << (64 - view.known))).leading_zeros() as usize;
        (view.known - run).min(view.known.saturating_sub(AHEAD))
    };
    if unclear == 0 {
        return end;
    }
    let at = unclear.trailing_zeros() as usize;
    // The same for white space that leads to what is unclear.
    let before = !space & (1u64 << at).wrapping_sub(1);
    end.min(64 - before.leading_zeros() as usize)
}

/// A contraction at the apostrophe at `at` (`'s 't 'm 'd 'll 've 're`): its length, 0 if there is none.
#[inline(always)]
fn contraction(block: &[u8; 64], at: usize, any_case: bool) -> usize {
    let fold = |i: usize| {
        let byte = block[(at + i) & 63];
        if any_case { byte.to_ascii_lowercase() } else { byte }
    };
    match (fold(1), fold(2)) {
        (b's' | b'd' | b'm' | b't', _) => 2,
        (b'l', b'l') | (b'v', b'e') | (b'r', b'e') => 3,
        (0xc5, 0xbf) if any_case => 3,
        _ => 0,
    }
}

/// Bit `at`, or none beyond the window.
#[inline(always)]
fn bit(at: usize) -> u64 {
    if at < 64 { 1 << at } else { 0 }
}

impl<const DIGITS: bool> Rule for Gpt2<DIGITS> {
    #[inline(always)]
    fn starts(self, view: &View<'_>) -> Starts {
        let m = &view.masks;
        let letter = m.upper | m.lower | m.caseless;
        let other = m.other | m.mark;
        let number = if DIGITS { 0 } else { m.number };
        // What a space before it belongs to.
        let taking = letter | other | number;
        let after_space = taking & m.space << 1;
        let runs = firsts(letter) | firsts(other) | firsts(m.space);
        // Each number for itself begins a piece with every first byte; those beyond ASCII are left to the scanner.
        let numbers = if DIGITS { m.number } else { firsts(number) };
        let mut bits = (runs | numbers) & !(after_space & m.blank << 1) | after_space >> 1;
        let mut apostrophes = m.apostrophe & bits & letter >> 1;
        while apostrophes != 0 {
            let at = apostrophes.trailing_zeros() as usize;
            apostrophes &= apostrophes - 1;
            let len = contraction(view.block, at, false);
            if len > 0 {
                bits = bits & !bit(at + 1) | bit(at + len);
            }
        }
        let unclear = m.wide_space | if DIGITS { m.wide_number } else { 0 };
        Starts { bits, limit: limit(view, unclear) }
    }
}

/// White space as GPT-4's patterns cut it: up to its last newline, then all but the last character.
///
/// `space` is what no piece before has taken. Gives where pieces begin in it, without the last character.
#[inline(always)]
fn space_starts(space: u64, newline: u64, view: &View<'_>, trailing: bool) -> u64 {
    let newline = newline & space;
    let plain = space & !newline;
    // A run of plain white space after a newline begins a piece, unless another newline follows it.
    let after = plain & newline << 1;
    let mut starts = firsts(space) | after;
    let mut ends = plain.wrapping_add(after) & !plain & newline;
    while ends != 0 {
        let end = ends.trailing_zeros();
        ends &= ends - 1;
        let before = !plain & ((1u64 << end) - 1);
        starts &= !(bit(64 - before.leading_zeros() as usize) & after);
    }
    if trailing && view.at_end && view.known > 0 && space >> (view.known - 1) & 1 != 0 {
        let before = !space & (u64::MAX >> (64 - view.known));
        let first = 64 - before.leading_zeros() as usize;
        starts &= !(u64::MAX.checked_shl(first as u32 + 1).unwrap_or(0));
    }
    starts
}

/// Numbers of at most `digits` digits.
#[inline(always)]
fn number_starts(number: u64, digits: u8) -> u64 {
    if digits == 1 {
        return number;
    }
    let step = u32::from(digits);
    // Where as many numbers precede without a gap.
    let mut full = number;
    for i in 1..=step {
        full &= number << i;
    }
    let mut starts = firsts(number);
    let mut next = starts << step & full;
    while next != 0 {
        starts |= next;
        next = next << step & full;
    }
    starts
}

impl<const DIGITS: u8, const TRAILING: bool> Rule for Gpt4<DIGITS, TRAILING> {
    #[inline(always)]
    fn starts(self, view: &View<'_>) -> Starts {
        let m = &view.masks;
        let letter = m.upper | m.lower | m.caseless;
        let other = m.other | m.mark;
        let taken = flood(m.newline & other << 1, m.newline);
        let space = m.space & !taken;
        let plain = space & !m.newline;
        // A space before other characters belongs to them, and one other character before letters to those.
        let other_starts = firsts(other) & !(m.blank << 1);
        let joined = plain << 1 | after_first(other_starts, other & m.follow);
        let mut bits = other_starts
            | firsts(letter) & !joined
            | number_starts(m.number, DIGITS)
            | space_starts(space, m.newline, view, TRAILING)
            | (letter | other | m.number) >> 1 & plain;
        let mut apostrophes = m.apostrophe & other_starts & letter >> 1;
        while apostrophes != 0 {
            let at = apostrophes.trailing_zeros() as usize;
            apostrophes &= apostrophes - 1;
            bits |= match contraction(view.block, at, true) {
                0 => 0,
                len => bit(at + len),
            };
        }
        Starts { bits, limit: limit(view, m.wide_space | m.wide_number) }
    }
}

/// The places after the characters that begin at `starts`; `follow` are all but the first bytes of characters.
#[inline(always)]
fn after_first(starts: u64, follow: u64) -> u64 {
    let second = starts << 1;
    second & !follow | follow.wrapping_add(second & follow) & !follow
}

impl Rule for O200k {
    #[inline(always)]
    fn starts(self, view: &View<'_>) -> Starts {
        let m = &view.masks;
        let letter = m.upper | m.lower | m.caseless;
        // Marks within words are letters of both cases; elsewhere they are left to the scanner.
        let word_mark = flood(m.mark & letter << 1, m.mark);
        let word = letter | word_mark;
        // Contractions end a word; what follows begins a piece, whatever it is.
        let (mut contracted, mut forced) = (0, 0);
        let mut apostrophes = m.apostrophe & word << 1 & letter >> 1;
        while apostrophes != 0 {
            let at = apostrophes.trailing_zeros() as usize;
            apostrophes &= apostrophes - 1;
            let len = contraction(view.block, at, true);
            if len > 0 && forced & bit(at) == 0 {
                contracted |= ((1 << len) - 1) << at;
                forced |= bit(at + len);
            }
        }
        let other = m.other & !contracted;
        let taken = flood(m.newline & other << 1, m.newline | m.slash & other);
        let other = other & !taken;
        let space = m.space & !taken;
        let plain = space & !m.newline;
        let other_starts = firsts(other) & !(m.blank << 1);
        let joined = plain << 1 | after_first(other_starts, other & m.follow);
        let bits = other_starts
            | firsts(word) & !joined
            | m.upper & m.lower << 1
            | number_starts(m.number, 3)
            | space_starts(space, m.newline, view, false)
            | (letter | other | m.number) >> 1 & plain;
        // An upper case letter after one without case: whether the word goes on depends on what follows.
        let both = m.caseless | word_mark;
        let unclear = m.upper & both << 1 | m.mark & (!word_mark | forced) | m.wide_space | m.wide_number;
        Starts { bits: bits & !contracted | forced, limit: limit(view, unclear) }
    }
}
