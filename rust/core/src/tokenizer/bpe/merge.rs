//! A piece of bytes to ids: of all neighbouring pairs that can merge, the one of lowest rank does, the leftmost first,
//! until none can.
//!
//! Which pairs merge is a [`Rule`]: a merge list names them; in tiktoken's files any two neighbours whose bytes make up
//! a token can merge, and its rank is theirs. Short pieces are merged by scanning for the lowest rank, longer ones with a
//! heap over a linked list, the longest by [`chunks`]: no text costs more than n log n, nearly none more than n.

mod chunks;

use super::key::Key;
use super::pairs::{Merge, Pairs};
use super::tokens::Tokens;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

/// Pieces of up to this many symbols are scanned: the quadratic scan in a few cache lines beats the heap there.
const SHORT: usize = 48;

/// No neighbour, no token.
const NONE: u32 = u32::MAX;

/// Which neighbours merge.
#[derive(Debug)]
pub enum Rule {
    /// Those that a list names.
    Pairs(Pairs),
    /// Those whose bytes are a token. Its rank is its id, or what the list says for it.
    Ranks(Option<Box<[u32]>>),
}

/// Two neighbours: their tokens, and where their bytes begin and end in the piece.
struct Neighbours {
    left: u32,
    right: u32,
    start: usize,
    end: usize,
}

trait Merges {
    fn merge(&self, pair: Neighbours) -> Merge;
}

struct Listed<'a>(&'a Pairs);

impl Merges for Listed<'_> {
    #[inline(always)]
    fn merge(&self, pair: Neighbours) -> Merge {
        self.0.get(pair.left, pair.right)
    }
}

struct Ranked<'a> {
    tokens: &'a Tokens,
    ranks: Option<&'a [u32]>,
    piece: &'a [u8],
}

impl Merges for Ranked<'_> {
    #[inline(always)]
    fn merge(&self, pair: Neighbours) -> Merge {
        let (rest, len) = (&self.piece[pair.start..], pair.end - pair.start);
        let token = match rest.first_chunk() {
            Some(chunk) if len <= Key::MOST => self.tokens.short(Key::front(chunk, len)),
            _ => self.tokens.get(&rest[..len]),
        };
        match token {
            Some(id) => Merge { rank: self.ranks.map_or(id, |ranks| ranks[id as usize]), id },
            None => Merge::NONE,
        }
    }
}

/// The same for all but the piece itself, to see what it is made of.
struct ShortOfWhole<'a>(Ranked<'a>);

impl Merges for ShortOfWhole<'_> {
    fn merge(&self, pair: Neighbours) -> Merge {
        let whole = pair.end - pair.start == self.0.piece.len();
        if whole { Merge::NONE } else { self.0.merge(pair) }
    }
}

/// A token with what it makes with the next one.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    /// Where it begins in the piece.
    start: u32,
    merge: Merge,
}

/// Buffers that are reused from piece to piece.
#[derive(Default)]
pub struct Scratch {
    /// The symbols that a piece begins with, and where each begins: all that there is of a long piece as a whole.
    pushed: Vec<(u32, u32)>,
    /// Those that are being merged, and in the end what is left.
    symbols: Vec<Symbol>,
    prev: Vec<u32>,
    next: Vec<u32>,
    heap: BinaryHeap<Reverse<(u32, u32, u64)>>,
}

impl Scratch {
    /// Begins a piece.
    pub fn clear(&mut self) {
        self.pushed.clear();
    }

    /// Adds a symbol of the piece, which begins at `start`.
    #[inline]
    pub fn push(&mut self, id: u32, start: usize) {
        self.pushed.push((id, start as u32));
    }

    /// Merges what was pushed.
    pub fn merge(&mut self, rule: &Rule, tokens: &Tokens, piece: &[u8]) {
        match rule {
            Rule::Pairs(pairs) => self.merge_by(&Listed(pairs), piece.len()),
            Rule::Ranks(ranks) => self.merge_by(&Ranked { tokens, ranks: ranks.as_deref(), piece }, piece.len()),
        }
    }

    /// Merges what was pushed by ranks, but never into the whole piece.
    pub fn merge_short_of_whole(&mut self, ranks: Option<&[u32]>, tokens: &Tokens, piece: &[u8]) {
        self.merge_by(&ShortOfWhole(Ranked { tokens, ranks, piece }), piece.len());
    }

    /// The tokens that are left, and where each begins in the piece.
    pub fn symbols(&self) -> impl Iterator<Item = (u32, usize)> {
        self.symbols.iter().map(|symbol| (symbol.id, symbol.start as usize))
    }

    fn merge_by(&mut self, merges: &impl Merges, end: usize) {
        let all = 0..self.pushed.len();
        if self.is_long() { self.chunks(merges, end) } else { self.merge_range(merges, all, end) }
    }

    /// Merges some of the symbols that were pushed; `end` is where the piece ends.
    fn merge_range(&mut self, merges: &impl Merges, range: Range<usize>, end: usize) {
        let end = self.pushed.get(range.end).map_or(end, |(_, start)| *start as usize);
        self.symbols.clear();
        let begun = |&(id, start): &(u32, u32)| Symbol { id, start, merge: Merge::NONE };
        self.symbols.extend(self.pushed[range].iter().map(begun));
        if self.symbols.len() <= SHORT { self.scan(merges, end) } else { self.heap(merges, end) }
    }

    /// Repeatedly merges the lowest-ranked pair, found by a scan.
    fn scan(&mut self, merges: &impl Merges, end: usize) {
        let symbols = &mut self.symbols;
        let merge_at = |symbols: &[Symbol], at: usize| match symbols.get(at + 1) {
            None => Merge::NONE,
            Some(right) => merges.merge(Neighbours {
                left: symbols[at].id,
                right: right.id,
                start: symbols[at].start as usize,
                end: symbols.get(at + 2).map_or(end, |s| s.start as usize),
            }),
        };
        for at in 0..symbols.len() {
            symbols[at].merge = merge_at(symbols, at);
        }
        loop {
            let mut best = (NONE, 0);
            for (at, symbol) in symbols.iter().enumerate() {
                if symbol.merge.rank < best.0 {
                    best = (symbol.merge.rank, at);
                }
            }
            let (rank, at) = best;
            if rank == NONE {
                return;
            }
            symbols[at].id = symbols[at].merge.id;
            symbols.remove(at + 1);
            symbols[at].merge = merge_at(symbols, at);
            if at > 0 {
                symbols[at - 1].merge = merge_at(symbols, at - 1);
            }
        }
    }

    /// The same with a heap of candidates over a doubly linked list. A candidate whose two tokens have changed since is
    /// passed over. A token that was merged away becomes [`NONE`].
    fn heap(&mut self, merges: &impl Merges, end: usize) {
        let Scratch { symbols, prev, next, heap, .. } = self;
        let n = symbols.len() as u32;
        prev.clear();
        prev.extend((0..n).map(|i| i.wrapping_sub(1)));
        next.clear();
        next.extend((1..n).chain([NONE]));
        heap.clear();
        let candidate = |symbols: &[Symbol], next: &[u32], at: usize| {
            let right = next[at] as usize;
            let after = next[right];
            let (left, right) = (symbols[at].id, symbols[right].id);
            let end = if after == NONE { end } else { symbols[after as usize].start as usize };
            let merge = merges.merge(Neighbours { left, right, start: symbols[at].start as usize, end });
            (merge.rank != NONE).then(|| Reverse((merge.rank, at as u32, super::pair(left, right))))
        };
        let first = (0..n as usize - 1).filter_map(|at| candidate(symbols, next, at));
        heap.extend(first);
        while let Some(Reverse((_, at, was))) = heap.pop() {
            let at = at as usize;
            let right = next[at];
            if right == NONE || symbols[at].id == NONE || super::pair(symbols[at].id, symbols[right as usize].id) != was
            {
                continue;
            }
            let after = next[right as usize];
            let after_start = if after == NONE { end } else { symbols[after as usize].start as usize };
            symbols[at].id = merges
                .merge(Neighbours {
                    left: symbols[at].id,
                    right: symbols[right as usize].id,
                    start: symbols[at].start as usize,
                    end: after_start,
                })
                .id;
            symbols[right as usize].id = NONE;
            next[at] = after;
            if after != NONE {
                prev[after as usize] = at as u32;
                heap.extend(candidate(symbols, next, at));
            }
            if prev[at] != NONE {
                heap.extend(candidate(symbols, next, prev[at] as usize));
            }
        }
        symbols.retain(|symbol| symbol.id != NONE);
    }
}

/// Merges a piece of `len` bytes, up to [`Key::MOST`], whose single bytes are `bytes`, by ranks that are ids: what
/// [`Scratch`] does, within registers and two cache lines.
///
/// A symbol is known by where it begins: a bit of `alive`, and its place in `ids` and `ranks`.
pub fn merge_key(key: Key, len: usize, tokens: &Tokens, bytes: &[u32; 256], out: &mut Vec<u32>) {
    let mut ids = [NONE; 16];
    let mut ranks = [NONE; 16];
    for at in 0..len {
        let two = key.two(at);
        ids[at & 15] = bytes[usize::from(two as u8)];
        ranks[at & 15] = tokens.two(two).unwrap_or(NONE);
    }
    ranks[(len - 1) & 15] = NONE;
    let mut alive = (1u32 << len) - 1;
    // The end of the symbol that begins at `at`.
    let end = |alive: u32, at: usize| ((alive | 1 << len) & (!1 << at)).trailing_zeros() as usize;
    loop {
        let mut best = (NONE, 0);
        let mut rest = alive;
        while rest != 0 {
            let at = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            if ranks[at & 15] < best.0 {
                best = (ranks[at & 15], at);
            }
        }
        let (id, at) = best;
        if id == NONE {
            break;
        }
        let right = end(alive, at);
        alive &= !(1 << right);
        ids[at & 15] = id;
        let next = end(alive, at);
        ranks[at & 15] = match next < len {
            true => tokens.short(key.part(at, end(alive, next))).unwrap_or(NONE),
            false => NONE,
        };
        let before = alive & ((1 << at) - 1);
        if before != 0 {
            let left = 31 - before.leading_zeros() as usize;
            ranks[left & 15] = tokens.short(key.part(left, next)).unwrap_or(NONE);
        }
    }
    while alive != 0 {
        out.push(ids[alive.trailing_zeros() as usize & 15]);
        alive &= alive - 1;
    }
}

#[cfg(test)]
mod tests;
