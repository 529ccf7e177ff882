//! A piece of bytes to ids: of all neighbouring pairs that can merge, the one of lowest rank does, the leftmost first,
//! until none can.
//!
//! Ranks say what a format means: the line in a merge list, or the rank of the merged token in tiktoken's files (there
//! every pair whose bytes make up a token can merge, and a piece that is a token is that token whatever merges say).
//! Most pieces are tokens and are looked up whole; short ones are merged by scanning for the lowest rank, long ones with
//! a heap over a linked list, so that no text costs more than n log n.

use super::{pair, unpair};
use crate::error::{Error, Result};
use crate::tokenizer::vocab::Vocab;
use rustc_hash::{FxHashMap, FxHashSet};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Pieces up to this length are scanned: the quadratic scan in a few cache lines beats the heap there.
const SHORT: usize = 48;

/// "No merge", "no neighbour", "no token".
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Merge {
    rank: u32,
    id: u32,
}

/// Merges and what is needed to apply them.
#[derive(Debug)]
pub struct Bpe {
    merges: FxHashMap<u64, Merge>,
    /// The token of each single byte; [`NONE`] where there is none.
    bytes: [u32; 256],
    /// Pieces that are one token.
    whole: FxHashMap<Box<[u8]>, u32>,
    ignore_merges: bool,
}

/// Buffers that encoding reuses from piece to piece.
#[derive(Default)]
pub struct Scratch {
    ids: Vec<u32>,
    ranks: Vec<Merge>,
    prev: Vec<u32>,
    next: Vec<u32>,
    heap: BinaryHeap<Reverse<(u32, u32, u64)>>,
}

impl Bpe {
    /// Merges as pairs in rank order with the token each makes. `ordinary` are the tokens that text may become;
    /// with `ignore_merges` a piece that is one of them is looked up whole whether or not merges lead there.
    pub fn new<'a>(
        merges: impl IntoIterator<Item = (u64, u32)>,
        ordinary: impl Iterator<Item = (u32, &'a [u8])>,
        ignore_merges: bool,
    ) -> Self {
        let ranked = merges.into_iter().enumerate().map(|(rank, (pair, id))| (pair, Merge { rank: rank as u32, id }));
        Bpe::with_ranks(ranked.collect(), ordinary, ignore_merges)
    }

    /// tiktoken's rule: the rank of a token is its id, and any two tokens whose bytes make up a token can merge.
    pub fn from_ranks(vocab: &Vocab, special: impl Fn(u32) -> bool) -> Self {
        let mut merges = FxHashMap::default();
        // A cut is tried only where tokens of both lengths exist: one long token costs a few look-ups, not its square.
        let lengths: FxHashSet<usize> = vocab.entries().map(|(_, bytes)| bytes.len()).collect();
        let mut ordered: Vec<usize> = lengths.iter().copied().collect();
        ordered.sort_unstable();
        for (id, bytes) in vocab.entries().filter(|(id, _)| !special(*id)) {
            let cuts = ordered.iter().copied().take_while(|&cut| cut < bytes.len());
            for cut in cuts.filter(|cut| *cut > 0 && lengths.contains(&(bytes.len() - cut))) {
                let parts = (vocab.id(&bytes[..cut]), vocab.id(&bytes[cut..]));
                if let (Some(left), Some(right)) = parts
                    && !special(left)
                    && !special(right)
                {
                    merges.insert(pair(left, right), Merge { rank: id, id });
                }
            }
        }
        Bpe::with_ranks(merges, vocab.entries().filter(|(id, _)| !special(*id)), true)
    }

    fn with_ranks<'a>(
        merges: FxHashMap<u64, Merge>,
        ordinary: impl Iterator<Item = (u32, &'a [u8])>,
        ignore_merges: bool,
    ) -> Self {
        let mut bpe = Bpe { merges, bytes: [NONE; 256], whole: FxHashMap::default(), ignore_merges };
        let ordinary: Vec<_> = ordinary.collect();
        for (id, bytes) in &ordinary {
            if let [byte] = bytes {
                bpe.bytes[usize::from(*byte)] = *id;
            }
        }
        // A shortcut may only say what merging would: some vocabularies hold tokens that no merges lead to.
        let (mut scratch, mut merged) = (Scratch::default(), Vec::new());
        for (id, bytes) in ordinary {
            merged.clear();
            if ignore_merges || (bpe.merge(bytes, &mut scratch, &mut merged).is_ok() && merged == [id]) {
                bpe.whole.insert(bytes.into(), id);
            }
        }
        bpe
    }

    /// Whether a piece that is a token is looked up whole whatever the merges say.
    pub fn ignores_merges(&self) -> bool {
        self.ignore_merges
    }

    /// The pairs that merge, in rank order; pairs of equal rank (they make the same token) by their tokens.
    pub fn merges(&self) -> Vec<(u32, u32)> {
        let mut ranked: Vec<_> = self.merges.iter().map(|(pair, merge)| (merge.rank, *pair)).collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, pair)| unpair(pair)).collect()
    }

    /// A byte that has no token, if there is one.
    pub fn missing_byte(&self) -> Option<u8> {
        (0..=255).find(|&byte| self.bytes[usize::from(byte)] == NONE)
    }

    /// Whether `byte` has a token.
    pub fn has_byte(&self, byte: u8) -> bool {
        self.bytes[usize::from(byte)] != NONE
    }

    /// Appends the ids of `piece`. Bytes without a token are left out, as in `tokenizers`.
    #[inline]
    pub fn encode(&self, piece: &[u8], scratch: &mut Scratch, out: &mut Vec<u32>) -> Result<()> {
        match self.whole.get(piece) {
            Some(&id) => {
                out.push(id);
                Ok(())
            }
            None => self.merge(piece, scratch, out),
        }
    }

    fn merge(&self, piece: &[u8], scratch: &mut Scratch, out: &mut Vec<u32>) -> Result<()> {
        scratch.ids.clear();
        scratch.ids.extend(piece.iter().map(|&b| self.bytes[usize::from(b)]).filter(|&id| id != NONE));
        if scratch.ids.len() <= SHORT {
            self.merge_short(scratch);
        } else if u32::try_from(piece.len()).is_ok_and(|len| len < i32::MAX as u32) {
            self.merge_long(scratch);
        } else {
            return Err(Error::tokenizer(
                "text",
                format!("a single piece of {} bytes, without a place to cut it", piece.len()),
                "split the text into documents of less than 2 GB",
            ));
        }
        out.extend_from_slice(&scratch.ids);
        Ok(())
    }

    #[inline]
    fn rank(&self, left: u32, right: u32) -> Merge {
        self.merges.get(&pair(left, right)).copied().unwrap_or(Merge { rank: NONE, id: NONE })
    }

    /// Repeatedly merges the lowest-ranked pair, found by a scan.
    fn merge_short(&self, scratch: &mut Scratch) {
        let Scratch { ids, ranks, .. } = scratch;
        ranks.clear();
        ranks.extend(ids.windows(2).map(|w| self.rank(w[0], w[1])));
        loop {
            let mut best = (NONE, 0);
            for (at, merge) in ranks.iter().enumerate() {
                if merge.rank < best.0 {
                    best = (merge.rank, at);
                }
            }
            let (rank, at) = best;
            if rank == NONE {
                return;
            }
            ids[at] = ranks[at].id;
            ids.remove(at + 1);
            ranks.remove(at);
            if at < ranks.len() {
                ranks[at] = self.rank(ids[at], ids[at + 1]);
            }
            if at > 0 {
                ranks[at - 1] = self.rank(ids[at - 1], ids[at]);
            }
        }
    }

    /// The same with a heap of candidates over a doubly linked list. A candidate whose two tokens have changed since is
    /// passed over. A token that was merged away becomes [`NONE`].
    fn merge_long(&self, scratch: &mut Scratch) {
        let Scratch { ids, prev, next, heap, .. } = scratch;
        let n = ids.len() as u32;
        prev.clear();
        prev.extend((0..n).map(|i| i.wrapping_sub(1)));
        next.clear();
        next.extend((1..n).chain([NONE]));
        heap.clear();
        for at in 0..n as usize - 1 {
            self.push_candidate(heap, at, ids[at], ids[at + 1]);
        }
        while let Some(Reverse((_, at, was))) = heap.pop() {
            let at = at as usize;
            let right = next[at];
            if right == NONE || ids[at] == NONE || pair(ids[at], ids[right as usize]) != was {
                continue;
            }
            ids[at] = self.rank(ids[at], ids[right as usize]).id;
            ids[right as usize] = NONE;
            next[at] = next[right as usize];
            if next[at] != NONE {
                prev[next[at] as usize] = at as u32;
                self.push_candidate(heap, at, ids[at], ids[next[at] as usize]);
            }
            if prev[at] != NONE {
                let left = prev[at] as usize;
                self.push_candidate(heap, left, ids[left], ids[at]);
            }
        }
        ids.retain(|&id| id != NONE);
    }

    #[inline]
    fn push_candidate(&self, heap: &mut BinaryHeap<Reverse<(u32, u32, u64)>>, at: usize, left: u32, right: u32) {
        let merge = self.rank(left, right);
        if merge.rank != NONE {
            heap.push(Reverse((merge.rank, at as u32, pair(left, right))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes a to d as tokens 0 to 3, and merges that make 4, 5, ….
    fn toy(merges: &[(u32, u32)], ignore_merges: bool) -> Bpe {
        let mut tokens: Vec<Vec<u8>> = b"abcd".iter().map(|&b| vec![b]).collect();
        for &(l, r) in merges {
            tokens.push([tokens[l as usize].clone(), tokens[r as usize].clone()].concat());
        }
        let listed = merges.iter().enumerate().map(|(i, &(l, r))| (pair(l, r), 4 + i as u32));
        Bpe::new(listed, tokens.iter().enumerate().map(|(i, t)| (i as u32, t.as_slice())), ignore_merges)
    }

    fn encode(bpe: &Bpe, piece: &[u8]) -> Vec<u32> {
        let mut out = Vec::new();
        bpe.encode(piece, &mut Scratch::default(), &mut out).unwrap();
        out
    }

    #[test]
    fn lowest_rank_first_then_leftmost() {
        let bpe = toy(&[(1, 2), (0, 1), (5, 2)], false);
        // "abc": b+c has the lower rank, so "ab"+"c" is never reached, and the token "abc" neither.
        assert_eq!(encode(&bpe, b"abc"), [0, 4]);
        assert_eq!(encode(&bpe, b"abab"), [5, 5]);
        assert_eq!(encode(&toy(&[(0, 0)], false), b"aaa"), [4, 0]);
        assert_eq!(encode(&bpe, b""), Vec::<u32>::new());
        // Looked up whole, the token is reached.
        assert_eq!(encode(&toy(&[(1, 2), (0, 1), (5, 2)], true), b"abc"), [6]);
    }

    #[test]
    fn a_byte_without_a_token_is_left_out() {
        assert_eq!(encode(&toy(&[(0, 1)], false), b"a\xffb"), [4]);
    }

    #[test]
    fn a_long_token_among_ranks_is_no_square() {
        let mut entries: Vec<_> = (0..=255u8).map(|b| (vec![b], u32::from(b))).collect();
        entries.push((b"ab".to_vec(), 256));
        entries.push((b"abc".to_vec(), 257));
        entries.push((vec![b'x'; 4 << 20], 258));
        let vocab = Vocab::new(entries, "test").unwrap();
        let bpe = Bpe::from_ranks(&vocab, |_| false);
        assert_eq!(bpe.merges(), [(97, 98), (256, 99)]);
        assert_eq!(encode(&bpe, b"abcab"), [257, 256]);
    }

    #[test]
    fn merges_are_given_back_in_rank_order() {
        let merges = [(1, 2), (0, 1), (5, 2)];
        assert_eq!(toy(&merges, false).merges(), merges);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn heap_and_scan_agree(
            merges in prop::collection::hash_set((0u32..10, 0u32..10), 0..14),
            piece in prop::collection::vec(prop::sample::select(b"abcd".to_vec()), 2..120),
        ) {
            let merges: Vec<_> = merges.into_iter().collect();
            let valid: Vec<_> = merges
                .iter()
                .scan(4u32, |made, &(l, r)| Some((l < *made && r < *made).then(|| { *made += 1; (l, r) })))
                .flatten()
                .collect();
            let bpe = toy(&valid, false);
            let ids: Vec<u32> = piece.iter().map(|b| u32::from(b - b'a')).collect();
            let mut scan = Scratch { ids: ids.clone(), ..Scratch::default() };
            let mut heap = Scratch { ids, ..Scratch::default() };
            bpe.merge_short(&mut scan);
            bpe.merge_long(&mut heap);
            prop_assert_eq!(scan.ids, heap.ids);
        }
    }
}
