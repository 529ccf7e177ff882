//! A piece of bytes to ids: of all neighbouring pairs that can merge, the one of lowest rank does, the leftmost first,
//! until none can.
//!
//! Which pairs merge is a [`Rule`]: a merge list names them; in tiktoken's files any two neighbours whose bytes make up
//! a token can merge, and its rank is theirs. Short pieces are merged by scanning for the lowest rank, long ones with a
//! heap over a linked list, so that no text costs more than n log n.

use super::key::Key;
use super::pairs::{Merge, Pairs};
use super::tokens::Tokens;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

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
        match self.tokens.get(&self.piece[pair.start..pair.end]) {
            Some(id) => Merge { rank: self.ranks.map_or(id, |ranks| ranks[id as usize]), id },
            None => Merge::NONE,
        }
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
    symbols: Vec<Symbol>,
    prev: Vec<u32>,
    next: Vec<u32>,
    heap: BinaryHeap<Reverse<(u32, u32, u64)>>,
}

impl Scratch {
    /// Begins a piece.
    pub fn clear(&mut self) {
        self.symbols.clear();
    }

    /// Adds a symbol of the piece, which begins at `start`.
    #[inline]
    pub fn push(&mut self, id: u32, start: usize) {
        self.symbols.push(Symbol { id, start: start as u32, merge: Merge::NONE });
    }

    /// Merges what was pushed and appends the ids that are left.
    pub fn merge(&mut self, rule: &Rule, tokens: &Tokens, piece: &[u8], out: &mut Vec<u32>) {
        match rule {
            Rule::Pairs(pairs) => self.merge_by(&Listed(pairs), piece.len()),
            Rule::Ranks(ranks) => self.merge_by(&Ranked { tokens, ranks: ranks.as_deref(), piece }, piece.len()),
        }
        out.extend(self.symbols.iter().map(|symbol| symbol.id));
    }

    fn merge_by(&mut self, merges: &impl Merges, end: usize) {
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
        let Scratch { symbols, prev, next, heap } = self;
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
            if right == NONE || symbols[at].id == NONE || super::pair(symbols[at].id, symbols[right as usize].id) != was {
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

/// Merges a piece of up to [`Key::MOST`] bytes whose single bytes are `bytes`, by ranks that are ids: what [`Scratch`]
/// does, within registers and two cache lines.
pub fn merge_key(key: Key, len: usize, tokens: &Tokens, bytes: &[u32; 256], out: &mut Vec<u32>) {
    let mut starts = [0u8; 17];
    let mut ids = [0u32; 16];
    let mut ranks = [NONE; 16];
    for at in 0..len {
        let byte = if at < 8 { key.low >> (8 * at) } else { key.high >> (8 * (at - 8)) } as u8;
        ids[at] = bytes[usize::from(byte)];
        starts[at + 1] = at as u8 + 1;
    }
    let rank = |starts: &[u8; 17], at: usize| {
        tokens.short(key.part(usize::from(starts[at]), usize::from(starts[at + 2]))).unwrap_or(NONE)
    };
    let mut count = len;
    for at in 0..len.saturating_sub(1) {
        ranks[at] = rank(&starts, at);
    }
    while count > 1 {
        let mut best = (NONE, 0);
        for (at, &rank) in ranks[..count - 1].iter().enumerate() {
            if rank < best.0 {
                best = (rank, at);
            }
        }
        let (id, at) = best;
        if id == NONE {
            break;
        }
        ids[at] = id;
        for i in at + 1..count - 1 {
            ids[i] = ids[i + 1];
            ranks[i] = ranks[i + 1];
            starts[i] = starts[i + 1];
        }
        starts[count - 1] = starts[count];
        count -= 1;
        ranks[count - 1] = NONE;
        if at + 1 < count {
            ranks[at] = rank(&starts, at);
        }
        if at > 0 {
            ranks[at - 1] = rank(&starts, at - 1);
        }
    }
    out.extend_from_slice(&ids[..count]);
}
