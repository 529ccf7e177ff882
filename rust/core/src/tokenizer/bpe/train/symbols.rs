//! Words as symbols that merge in place.
//!
//! Every byte has a slot, and between words is a slot of its own. A token has its id in the slots of its first and its
//! last byte, so both its neighbours are found by its length alone, and so are theirs.

use crate::error::{Error, Result};
use crate::simd::prefetch_line;
use crate::tokenizer::bpe::words::Words;
use rustc_hash::FxHashMap;

/// Between words.
const BREAK: u32 = u32::MAX;
/// Within a token.
const INSIDE: u32 = u32::MAX - 1;
/// In place of a weight: it is among the heavy ones.
const HEAVY: u32 = u32::MAX;

/// All words of a corpus.
pub struct Symbols {
    slots: Vec<u32>,
    /// How often the word of a slot occurs.
    weights: Vec<u32>,
    /// What does not fit there.
    heavy: FxHashMap<u32, u64>,
    /// The bytes of each token.
    lengths: Vec<u32>,
}

/// What a merge has changed.
pub struct Merged {
    /// The symbol before, and where it begins.
    pub before: Option<(u32, u32)>,
    /// The symbol behind.
    pub beyond: Option<u32>,
    /// How often the word occurs.
    pub weight: u64,
}

impl Symbols {
    /// The bytes of `words`, each a token.
    pub fn new(words: &Words) -> Result<Self> {
        let slots = words.bytes() + words.len() + 1;
        if slots >= INSIDE as usize {
            return Err(Error::Data {
                place: "corpus".into(),
                problem: format!("its distinct words have {} bytes, more than 4 GB", words.bytes()),
                remedy: "train on a part of it, or set max_memory".into(),
            });
        }
        let mut symbols = Symbols {
            slots: Vec::with_capacity(slots),
            weights: Vec::with_capacity(slots),
            heavy: FxHashMap::default(),
            lengths: vec![1; 256],
        };
        symbols.push(BREAK, 0);
        for (word, count) in words.iter() {
            word.iter().for_each(|&byte| symbols.push(u32::from(byte), count));
            symbols.push(BREAK, 0);
        }
        Ok(symbols)
    }

    fn push(&mut self, slot: u32, weight: u64) {
        let small = u32::try_from(weight).ok().filter(|&weight| weight != HEAVY).unwrap_or(HEAVY);
        if small == HEAVY {
            self.heavy.insert(self.slots.len() as u32, weight);
        }
        self.slots.push(slot);
        self.weights.push(small);
    }

    /// Gives the next token its length.
    pub fn add_token(&mut self, len: usize) {
        self.lengths.push(len as u32);
    }

    /// Calls `each` with place, left and right symbol and weight of every pair. All symbols must still be bytes.
    pub fn pairs(&self, mut each: impl FnMut(u32, u32, u32, u64)) {
        for (at, two) in (0u32..).zip(self.slots.windows(2)) {
            if two[0] != BREAK && two[1] != BREAK {
                each(at, two[0], two[1], self.weight(at));
            }
        }
    }

    #[inline(always)]
    fn weight(&self, at: u32) -> u64 {
        match self.weights[at as usize] {
            HEAVY => self.heavy.get(&at).copied().unwrap_or_default(),
            weight => u64::from(weight),
        }
    }

    /// Fetches what is at a place.
    #[inline(always)]
    pub fn prefetch(&self, at: u32) {
        prefetch_line(self.slots.as_ptr().wrapping_add(at as usize));
        prefetch_line(self.weights.as_ptr().wrapping_add(at as usize));
    }

    /// Makes `left` at `at` and `right` behind it one symbol, if they are there.
    #[inline]
    pub fn merge(&mut self, at: u32, left: u32, right: u32, new: u32) -> Option<Merged> {
        let slots = &mut self.slots;
        let first = at as usize;
        if slots[first] != left {
            return None;
        }
        let second = first + self.lengths[left as usize] as usize;
        if slots[second] != right {
            return None;
        }
        let end = second + self.lengths[right as usize] as usize;
        let (before, beyond) = (slots[first - 1], slots[end]);
        slots[second - 1] = INSIDE;
        slots[second] = INSIDE;
        slots[first] = new;
        slots[end - 1] = new;
        Some(Merged {
            before: (before != BREAK).then(|| (before, at - self.lengths[before as usize])),
            beyond: (beyond != BREAK).then_some(beyond),
            weight: self.weight(at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_tells_its_neighbours() {
        let mut symbols = Symbols::new(&[("abcd", 3), ("ab", 1 << 33)].into_iter().collect()).unwrap();
        let mut pairs = Vec::new();
        symbols.pairs(|at, left, right, weight| pairs.push((at, left as u8, right as u8, weight)));
        assert_eq!(pairs, [(1, b'a', b'b', 3), (2, b'b', b'c', 3), (3, b'c', b'd', 3), (6, b'a', b'b', 1 << 33)]);
        symbols.add_token(2);
        let merged = symbols.merge(2, 98, 99, 256).unwrap();
        assert_eq!((merged.before, merged.beyond, merged.weight), (Some((97, 1)), Some(100), 3));
        symbols.add_token(3);
        let merged = symbols.merge(1, 97, 256, 257).unwrap();
        assert_eq!((merged.before, merged.beyond), (None, Some(100)));
        assert!(symbols.merge(2, 98, 99, 258).is_none());
        symbols.add_token(2);
        assert_eq!(symbols.merge(6, 97, 98, 258).unwrap().weight, 1 << 33);
    }
}
