//! Learning merges: the most frequent pair of neighbours becomes a token, again and again.
//!
//! **The rule.** Of all pairs the one with the highest count is merged; of equal counts the one with the smallest ids
//! (left, then right). The new token gets the next id. A pair whose bytes are a token already (by another way of merging
//! them) is passed over, so that entries are distinct. This is total, so the result depends on nothing but the counts of
//! the words: not on threads, hash order or the order of the corpus.
//!
//! **The structure.** All words lie in one arena of symbols ([`symbols`]). Each pair knows its count and where it has been
//! seen, so a merge touches its own occurrences and nothing else: one long word costs no more than many short ones. A
//! merge makes only pairs that are new, so their places are written once, together, into one list that all pairs share.
//! A heap holds candidates with the count they had; one that is stale when popped goes back with its present count
//! (counts of old pairs only fall, so the top is right once it is fresh).

mod neighbours;
mod symbols;

use super::words::Words;
use super::{pair, unpair};
use crate::error::Result;
use crate::progress::{self, Listener};
use neighbours::Neighbours;
use rustc_hash::{FxHashMap, FxHashSet};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use symbols::Symbols;

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

/// How many places ahead memory is asked for.
const AHEAD: usize = 12;

/// What is known about a pair: how often it occurs, and which of [`Trainer::places`] say where its left symbols are, or
/// were.
#[derive(Clone, Copy, Default)]
struct Seen {
    count: u64,
    first: usize,
    len: u32,
}

impl Seen {
    fn places(self) -> Range<usize> {
        self.first..self.first + self.len as usize
    }
}

struct Trainer {
    symbols: Symbols,
    pairs: FxHashMap<u64, Seen>,
    places: Vec<u32>,
    heap: BinaryHeap<(u64, Reverse<u64>)>,
    /// The bytes of every token.
    tokens: Vec<Box<[u8]>>,
    /// Those that merges made, as a set.
    taken: FxHashSet<Box<[u8]>>,
    least: u64,
    before: Neighbours,
    beyond: Neighbours,
}

/// The merges that `words` support, at most `limits.merges`; merge `i` makes token `256 + i`.
pub fn train(words: &Words, limits: Limits, listener: &mut Listener<'_>) -> Result<Vec<(u32, u32)>> {
    let mut trainer = Trainer::new(words, limits)?;
    let total = limits.merges as u64;
    let mut merges = Vec::new();
    progress::report(listener, 0, total)?;
    while merges.len() < limits.merges {
        let Some(best) = trainer.pop_best(&limits) else { break };
        let (left, right) = unpair(best);
        trainer.merge(left, right);
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
    fn new(words: &Words, limits: Limits) -> Result<Self> {
        let mut trainer = Trainer {
            symbols: Symbols::new(words)?,
            pairs: FxHashMap::default(),
            places: Vec::new(),
            heap: BinaryHeap::new(),
            tokens: (0..=255u8).map(|byte| [byte].into()).collect(),
            taken: FxHashSet::default(),
            least: limits.min_frequency.max(1),
            before: Neighbours::default(),
            beyond: Neighbours::default(),
        };
        trainer.note_bytes();
        Ok(trainer)
    }

    /// Notes every pair of bytes: there are few, so that their places are sorted by counting.
    fn note_bytes(&mut self) {
        let mut seen = vec![Seen::default(); (BYTES * BYTES) as usize];
        let index = |left: u32, right: u32| (left * BYTES + right) as usize;
        self.symbols.pairs(|_, left, right, weight| {
            let seen = &mut seen[index(left, right)];
            seen.count = seen.count.saturating_add(weight);
            seen.len += 1;
        });
        let mut all = 0;
        let mut next: Vec<usize> = Vec::with_capacity(seen.len());
        for seen in &mut seen {
            seen.first = all;
            next.push(all);
            all += seen.len as usize;
        }
        self.places = vec![0; all];
        let places = &mut self.places;
        self.symbols.pairs(|at, left, right, _| {
            let place = &mut next[index(left, right)];
            places[*place] = at;
            *place += 1;
        });
        for (pair_index, seen) in (0..).zip(seen).filter(|(_, seen)| seen.len > 0) {
            self.note(pair(pair_index / BYTES, pair_index % BYTES), seen);
        }
    }

    fn note(&mut self, pair: u64, seen: Seen) {
        self.pairs.insert(pair, seen);
        if seen.count >= self.least {
            self.heap.push((seen.count, Reverse(pair)));
        }
    }

    /// The next pair to merge, by the rule above.
    fn pop_best(&mut self, limits: &Limits) -> Option<u64> {
        while let Some((count, Reverse(pair))) = self.heap.pop() {
            let now = self.pairs.get(&pair).map_or(0, |seen| seen.count);
            if now != count {
                if now >= self.least {
                    self.heap.push((now, Reverse(pair)));
                }
                continue;
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

    /// Replaces every `left right` by a new token, word by word from the left.
    fn merge(&mut self, left: u32, right: u32) {
        let new = self.tokens.len() as u32;
        let token = self.joined(pair(left, right));
        self.taken.insert(token.clone());
        self.symbols.add_token(token.len());
        self.tokens.push(token);
        let places = self.pairs.remove(&pair(left, right)).unwrap_or_default().places();
        let Trainer { symbols, places: all, before, beyond, .. } = self;
        for i in places.clone() {
            symbols.prefetch(all[(i + AHEAD).min(places.end - 1)]);
            // The place may have changed since it was noted, or just now: "aaa" has the pair "aa" twice, merged once.
            let Some(merged) = symbols.merge(all[i], left, right, new) else { continue };
            if let Some((neighbour, place)) = merged.before {
                before.add(neighbour, place, merged.weight);
            }
            if let Some(neighbour) = merged.beyond {
                beyond.add(neighbour, all[i], merged.weight);
            }
        }
        self.renew((left, right), new);
    }

    /// Pairs of neighbours with what was merged become pairs with the `new` token. All of those are noted before any
    /// count falls: the new token may have become a neighbour of itself.
    fn renew(&mut self, (left, right): (u32, u32), new: u32) {
        let (mut before, mut beyond) = (std::mem::take(&mut self.before), std::mem::take(&mut self.beyond));
        before.list(&mut self.places);
        beyond.list(&mut self.places);
        before.each(|neighbour, seen| self.note(pair(neighbour, new), seen));
        beyond.each(|neighbour, seen| self.note(pair(new, neighbour), seen));
        before.each(|neighbour, seen| self.forget(pair(neighbour, left), seen.count));
        beyond.each(|neighbour, seen| self.forget(pair(right, neighbour), seen.count));
        before.clear();
        beyond.clear();
        (self.before, self.beyond) = (before, beyond);
    }

    fn forget(&mut self, pair: u64, count: u64) {
        if let Some(seen) = self.pairs.get_mut(&pair) {
            seen.count = seen.count.saturating_sub(count);
        }
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
        train(&words.iter().map(|(word, count)| (word, *count)).collect(), limits, &mut progress::ignore).unwrap()
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
