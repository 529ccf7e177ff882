//! Cutting text 64 bytes at a time: the known patterns at a few instructions a piece.
//!
//! A window of 64 bytes is laid where a piece begins. [`masks`] tells the classes of its bytes, [`rules`] where pieces
//! begin in it, and all but the last of them are done: the next window begins at that one. What a window does not tell
//! (a piece longer than it, rare characters) is left to the pattern's scanner, which is also what all this is tested
//! equal to.

mod masks;
mod rules;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::patterns::Pattern;
use super::scanner::Text;
use crate::simd::isa::{self, Isa};
pub use masks::WINDOW;
use masks::{Classify, Masks, Portable};
use rules::{Gpt2, Gpt4, O200k, Rule, View};

/// Pieces that are found at a time.
pub const BATCH: usize = 64;

/// Where pieces end, relative to where the first one begins.
pub struct Ends {
    places: Box<[u32; BATCH + WINDOW]>,
    count: usize,
}

impl Ends {
    /// Room for [`BATCH`] pieces.
    pub fn new() -> Self {
        Ends { places: Box::new([0; BATCH + WINDOW]), count: 0 }
    }

    /// The ends that were found.
    #[inline]
    pub fn found(&self) -> &[u32] {
        &self.places[..self.count]
    }
}

impl Default for Ends {
    fn default() -> Self {
        Ends::new()
    }
}

/// A known pattern with a rule for windows, on an instruction set that the processor has.
#[derive(Clone, Copy, Debug)]
pub struct Scanner {
    pattern: Pattern,
    isa: Isa,
}

impl Scanner {
    /// A scanner for `pattern`, if it has a rule.
    pub fn new(pattern: Pattern) -> Option<Self> {
        let known = match pattern {
            Pattern::Gpt2 { .. } | Pattern::O200k => true,
            // Those that a spelling has.
            Pattern::Gpt4 { digits, trailing } => matches!((digits, trailing), (1..=3, false) | (3, true)),
            Pattern::Chars | Pattern::Words => false,
        };
        known.then(|| Scanner::on(pattern, isa::current()))
    }

    /// The same on `isa`, or without vectors where the processor lacks what it takes.
    fn on(pattern: Pattern, isa: Isa) -> Self {
        Scanner { pattern, isa: if isa.is_available() && has_bit_instructions() { isa } else { Isa::Portable } }
    }

    /// Finds the next pieces of `text` from `at` on, where a piece begins: about [`BATCH`], fewer at the end, and few
    /// where they are so long that their ends would not fit. Gives where they end.
    pub fn find(self, text: &str, at: usize, ends: &mut Ends) -> usize {
        match self.pattern {
            Pattern::Gpt2 { digits: false } => self.with(Gpt2::<false>, text, at, ends),
            Pattern::Gpt2 { digits: true } => self.with(Gpt2::<true>, text, at, ends),
            Pattern::Gpt4 { trailing: true, .. } => self.with(Gpt4::<3, true>, text, at, ends),
            Pattern::Gpt4 { digits: 1, .. } => self.with(Gpt4::<1, false>, text, at, ends),
            Pattern::Gpt4 { digits: 2, .. } => self.with(Gpt4::<2, false>, text, at, ends),
            Pattern::Gpt4 { .. } => self.with(Gpt4::<3, false>, text, at, ends),
            Pattern::O200k | Pattern::Chars | Pattern::Words => self.with(O200k, text, at, ends),
        }
    }

    #[inline]
    fn with<R: Rule>(self, rule: R, text: &str, at: usize, ends: &mut Ends) -> usize {
        let job = Job { rule, pattern: self.pattern, text, ends };
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
            fn on_avx2<R: Rule>(job: Job<'_, R>, at: usize) -> usize {
                job.run(x86::Avx2(()), at)
            }
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
            fn on_avx512<R: Rule>(job: Job<'_, R>, at: usize) -> usize {
                job.run(x86::Avx512(()), at)
            }
            match self.isa {
                // SAFETY: `Scanner::on` has asked the processor for these features.
                Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => return unsafe { on_avx512(job, at) },
                // SAFETY: `Scanner::on` has asked the processor for these features.
                Isa::Avx2 => return unsafe { on_avx2(job, at) },
                Isa::Portable => {}
            }
        }
        job.run(Portable, at)
    }
}

/// Whether the processor has the instructions on bits that come with AVX2.
fn has_bit_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

struct Job<'a, R> {
    rule: R,
    pattern: Pattern,
    text: &'a str,
    ends: &'a mut Ends,
}

impl<R: Rule> Job<'_, R> {
    #[inline(always)]
    fn run<C: Classify>(self, classify: C, first: usize) -> usize {
        let Job { rule, pattern, text, ends } = self;
        let bytes = text.as_bytes();
        ends.count = 0;
        let mut at = first;
        // Relative ends have 32 bits; a longer piece comes alone and is refused by who encodes it.
        while at < bytes.len() && ends.count < BATCH && at - first < u32::MAX as usize / 2 {
            let base = (at - first) as u32;
            let rest = &bytes[at..];
            let mut tail = [0; WINDOW];
            let block = rest.first_chunk().unwrap_or_else(|| {
                tail[..rest.len()].copy_from_slice(rest);
                &tail
            });
            let (bits, done) = cut(rule, classify, block, rest.len());
            if done == 0 {
                let end = pattern.end_of_piece(&Text::new(text), at);
                ends.places[ends.count] = (end - first).min(u32::MAX as usize) as u32;
                ends.count += 1;
                at = end;
                continue;
            }
            let room = ends.places[ends.count..].first_chunk_mut().expect("a batch has room for one more window");
            ends.count += classify.positions(bits, base, room);
            at += done;
        }
        at
    }
}

/// The ends of pieces in a block that begins with a piece, of a text that has `rest` bytes from there on; and the last
/// of them, 0 if there is none. An end at 64 has no bit, so that the end of a text is a bit only if `rest` is below.
#[inline(always)]
fn cut<R: Rule, C: Classify>(rule: R, classify: C, block: &[u8; WINDOW], rest: usize) -> (u64, usize) {
    let at_end = rest < WINDOW;
    let mut known = rest.min(WINDOW);
    let ascii = classify.ascii(block);
    let mut masks = Masks::of_ascii(ascii, u64::MAX >> (WINDOW - known));
    if ascii.high != 0 {
        known = masks.add_wide(classify, block, ascii.high, known);
    }
    let found = rule.starts(&View { masks, block, known, at_end });
    let starts = if at_end { found.bits & ((1 << known) - 1) | 1 << known } else { found.bits };
    let ends = starts & !1 & (2u64 << found.limit.min(WINDOW - 1)).wrapping_sub(1);
    (ends, WINDOW - 1 - (ends | 1).leading_zeros() as usize)
}

#[cfg(test)]
mod tests;
