//! Learning merges: the most frequent pair of neighbours becomes a token, again and again.
//!
//! **The rule.** Of all pairs the one with the highest count is merged; of equal counts the one with the smallest ids
//! (left, then right). The new token gets the next id. A pair whose bytes are a token already (by another way of merging
//! them) is passed over, so that entries are distinct. This is total, so the result depends on nothing but the counts of
//! the words: not on threads, hash order or the order of the corpus.
//!
//! **The structure.** All words lie in one arena of symbols, linked to their neighbours. Each pair knows its count and
//! where it has been seen, so a merge touches its own occurrences and nothing else: one long word costs no more than
//! many short ones. A heap holds candidates with the count they had; one that is stale when popped goes back with its
//! present count (counts of old pairs only fall, so the top is right once it is fresh).

use super::{pair, unpair};
use crate::error::{Error, Result};
use crate::progress::{self, Listener};
use rustc_hash::{FxHashMap, FxHashSet};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A symbol that was merged into its left neighbour; a neighbour that is not there.
const NONE: u32 = u32::MAX;

/// Single bytes are tokens 0 to 255 from the start.
pub const BYTES: u32 = 256;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Merges at most.
    pub merges: usize,
    /// Pairs seen less often are not merged.
    pub min_frequency: u64,
    /// Longest token, in bytes.
    pub max_token_length: usize,
}

/// What is known about a pair.
#[derive(Default)]
struct Seen {
    count: u64,
    /// Where its left symbols are, or were.
    places: Vec<u32>,
}

struct Trainer {
    symbols: Vec<u32>,
    prev: Vec<u32>,
    next: Vec<u32>,
    /// Which word a symbol belongs to.
    word: Vec<u32>,
    counts: Vec<u64>,
    pairs: FxHashMap<u64, Seen>,
    heap: BinaryHeap<(u64, Reverse<u64>)>,
    /// The bytes of every token.
    tokens: Vec<Box<[u8]>>,
    /// The same as a set, with what must not become a token.
    taken: FxHashSet<Box<[u8]>>,
}

/// The merges that `words` (bytes and how often) support, at most `limits.merges`; merge `i` makes token `256 + i`.
/// None makes one of `reserved`.
pub fn train(
    words: &[(Box<[u8]>, u64)],
    reserved: &[String],
    limits: Limits,
    listener: &mut Listener<'_>,
) -> Result<Vec<(u32, u32)>> {
    let mut trainer = Trainer::new(words, reserved)?;
    let total = limits.merges as u64;
    let mut merges = Vec::new();
    progress::report(listener, 0, total)?;
    while merges.len() < limits.merges {
        let Some(best) = trainer.pop_best(&limits) else { break };
        let (left, right) = unpair(best);
        trainer.merge(left, right, BYTES + merges.len() as u32);
        merges.push((left, right));
        // The end is told below, once and for sure.
        if (merges.len() as u64) < total {
            progress::report(listener, merges.len() as u64, total)?;
        }
    }
    progress::report(listener, merges.len() as u64, merges.len() as u64)?;
    Ok(merges)
}

impl Trainer {
    fn new(words: &[(Box<[u8]>, u64)], reserved: &[String]) -> Result<Self> {
        let symbols: usize = words.iter().map(|(bytes, _)| bytes.len()).sum();
        if symbols >= NONE as usize {
            return Err(Error::Data {
                place: "corpus".into(),
                problem: format!("its distinct words have {symbols} bytes, more than 4294967294"),
                remedy: "train on a part of it".into(),
            });
        }
        let mut trainer = Trainer {
            symbols: Vec::with_capacity(symbols),
            prev: Vec::with_capacity(symbols),
            next: Vec::with_capacity(symbols),
            word: Vec::with_capacity(symbols),
            counts: words.iter().map(|(_, count)| *count).collect(),
            pairs: FxHashMap::default(),
            heap: BinaryHeap::new(),
            tokens: (0..=255u8).map(|byte| [byte].into()).collect(),
            taken: reserved.iter().map(|name| name.as_bytes().into()).collect(),
        };
        for (word, (bytes, count)) in words.iter().enumerate() {
            trainer.add_word(word as u32, bytes, *count);
        }
        trainer.heap = trainer.pairs.iter().map(|(&pair, seen)| (seen.count, Reverse(pair))).collect();
        Ok(trainer)
    }

    fn add_word(&mut self, word: u32, bytes: &[u8], count: u64) {
        let first = self.symbols.len() as u32;
        let last = first + bytes.len() as u32;
        for (at, &byte) in (first..).zip(bytes) {
            self.symbols.push(u32::from(byte));
            self.prev.push(if at == first { NONE } else { at - 1 });
            self.next.push(if at + 1 == last { NONE } else { at + 1 });
            self.word.push(word);
        }
        for (at, two) in (first..).zip(bytes.windows(2)) {
            let seen = self.pairs.entry(pair(u32::from(two[0]), u32::from(two[1]))).or_default();
            seen.count = seen.count.saturating_add(count);
            seen.places.push(at);
        }
    }

    /// The next pair to merge, by the rule above.
    fn pop_best(&mut self, limits: &Limits) -> Option<u64> {
        while let Some((count, Reverse(pair))) = self.heap.pop() {
            let now = self.pairs.get(&pair).map_or(0, |seen| seen.count);
            if now != count {
                if now >= limits.min_frequency.max(1) {
                    self.heap.push((now, Reverse(pair)));
                }
                continue;
            }
            if count < limits.min_frequency.max(1) {
                return None;
            }
            let token = self.joined(pair);
            if token.len() <= limits.max_token_length && !self.taken.contains(&token) {
                return Some(pair);
            }
        }
        None
    }

    fn joined(&self, pair: u64) -> Box<[u8]> {
        let (left, right) = unpair(pair);
        [&*self.tokens[left as usize], &*self.tokens[right as usize]].concat().into()
    }

    /// Replaces every `left right` by `new`, word by word from the left.
    fn merge(&mut self, left: u32, right: u32, new: u32) {
        let token = self.joined(pair(left, right));
        self.taken.insert(token.clone());
        self.tokens.push(token);
        let mut places = self.pairs.remove(&pair(left, right)).unwrap_or_default().places;
        places.sort_unstable();
        let mut born = FxHashSet::default();
        for at in places {
            let after = self.next[at as usize];
            // The place may have changed since it was noted, or just now: "aaa" has the pair "aa" twice, merged once.
            if after == NONE || self.symbols[at as usize] != left || self.symbols[after as usize] != right {
                continue;
            }
            let count = self.counts[self.word[at as usize] as usize];
            let (before, beyond) = (self.prev[at as usize], self.next[after as usize]);
            self.symbols[at as usize] = new;
            self.symbols[after as usize] = NONE;
            self.next[at as usize] = beyond;
            if before != NONE {
                let neighbour = self.symbols[before as usize];
                self.forget(pair(neighbour, left), count);
                born.insert(self.note(pair(neighbour, new), before, count));
            }
            if beyond != NONE {
                self.prev[beyond as usize] = at;
                let neighbour = self.symbols[beyond as usize];
                self.forget(pair(right, neighbour), count);
                born.insert(self.note(pair(new, neighbour), at, count));
            }
        }
        self.heap.extend(born.into_iter().map(|pair| (self.pairs[&pair].count, Reverse(pair))));
    }

    fn forget(&mut self, pair: u64, count: u64) {
        if let Some(seen) = self.pairs.get_mut(&pair) {
            seen.count = seen.count.saturating_sub(count);
            if seen.count == 0 {
                seen.places = Vec::new();
            }
        }
    }

    fn note(&mut self, pair: u64, place: u32, count: u64) -> u64 {
        let seen = self.pairs.entry(pair).or_default();
        seen.count = seen.count.saturating_add(count);
        seen.places.push(place);
        pair
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// The rule, word for word, without any cleverness.
    fn naive(words: &[(Vec<u8>, u64)], merges: usize) -> Vec<(u32, u32)> {
        let mut words: Vec<(Vec<u32>, u64)> =
            words.iter().map(|(w, c)| (w.iter().map(|&b| u32::from(b)).collect(), *c)).collect();
        let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|b| vec![b]).collect();
        let mut made: Vec<(u32, u32)> = Vec::new();
        while made.len() < merges {
            let mut counts = BTreeMap::new();
            for (word, count) in &words {
                word.windows(2).for_each(|w| *counts.entry((w[0], w[1])).or_insert(0) += count);
            }
            let joined = |(l, r): (u32, u32)| [tokens[l as usize].clone(), tokens[r as usize].clone()].concat();
            counts.retain(|&pair, _| !tokens.contains(&joined(pair)));
            let Some((&best, _)) = counts.iter().max_by_key(|&(&pair, &count)| (count, Reverse(pair))) else { break };
            let token = joined(best);
            tokens.push(token);
            for (word, _) in &mut words {
                let mut merged = Vec::new();
                let mut at = 0;
                while at < word.len() {
                    if at + 1 < word.len() && (word[at], word[at + 1]) == best {
                        merged.push(BYTES + made.len() as u32);
                        at += 2;
                    } else {
                        merged.push(word[at]);
                        at += 1;
                    }
                }
                *word = merged;
            }
            made.push(best);
        }
        made
    }

    fn quick(words: &[(Vec<u8>, u64)], limits: Limits) -> Vec<(u32, u32)> {
        let words: Vec<_> = words.iter().map(|(w, c)| (w.clone().into_boxed_slice(), *c)).collect();
        train(&words, &[], limits, &mut progress::ignore).unwrap()
    }

    const FREE: Limits = Limits { merges: 30, min_frequency: 1, max_token_length: usize::MAX };

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn the_heap_follows_the_rule(words in prop::collection::vec(
            (prop::collection::vec(prop::sample::select(b"aabc".to_vec()), 0..20), 1u64..5), 0..8,
        )) {
            prop_assert_eq!(quick(&words, FREE), naive(&words, 30));
        }
    }

    #[test]
    fn limits_are_kept() {
        let words = [(b"abcabc".to_vec(), 10), (b"xy".to_vec(), 1)];
        assert_eq!(quick(&words, Limits { merges: 2, ..FREE }).len(), 2);
        assert_eq!(quick(&words, Limits { min_frequency: 2, ..FREE }), naive(&words[..1], 30));
        let short = quick(&words, Limits { max_token_length: 2, ..FREE });
        assert!(short.iter().all(|&(l, r)| l < BYTES && r < BYTES), "{short:?}");
        assert!(quick(&[], FREE).is_empty());
    }

    #[test]
    fn counts_beyond_four_billion() {
        let words = [(b"ab".to_vec(), u64::from(u32::MAX) + 2), (b"cd".to_vec(), 3)];
        assert_eq!(quick(&words, FREE), [(97, 98), (99, 100)]);
    }

    #[test]
    fn a_long_run_of_one_letter_is_no_worse_than_others() {
        let made = quick(&[(vec![b'a'; 1 << 20], 1)], Limits { merges: 20, ..FREE });
        assert_eq!(made.len(), 20);
    }
}
