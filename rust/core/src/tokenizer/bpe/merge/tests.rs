//! Work in proportion to the piece, counted instead of timed.

use super::super::pair;
use super::*;
use std::cell::Cell;

/// Counts how often it is asked whether two neighbours merge, which is where all the time goes.
struct Counted<'a> {
    pairs: &'a Pairs,
    asked: Cell<usize>,
}

impl Merges for Counted<'_> {
    fn merge(&self, pair: Neighbours) -> Merge {
        self.asked.set(self.asked.get() + 1);
        Listed(self.pairs).merge(pair)
    }
}

/// What symbols merge into in one heap.
fn in_one_heap(pairs: &Pairs, symbols: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut scratch = Scratch::default();
    symbols.enumerate().for_each(|(at, id)| scratch.push(id, at));
    let end = scratch.pushed.len();
    scratch.merge_range(&Listed(pairs), 0..end, end);
    scratch.symbols.iter().map(|symbol| (symbol.id, symbol.start)).collect()
}

/// Merges of tokens 0 to 3, of which each makes the next token from 4 on.
fn pairs(merges: &[(u32, u32)]) -> Pairs {
    Pairs::new(&merges.iter().zip(4..).map(|(&(left, right), made)| (pair(left, right), made)).collect::<Vec<_>>())
}

fn asked(pairs: &Pairs, symbols: impl Iterator<Item = u32> + Clone) -> (usize, usize) {
    let mut scratch = Scratch::default();
    symbols.clone().enumerate().for_each(|(at, id)| scratch.push(id, at));
    let before = scratch.pushed.len();
    let counted = Counted { pairs, asked: Cell::new(0) };
    scratch.merge_by(&counted, before);
    let merged: Vec<(u32, u32)> = scratch.symbols.iter().map(|symbol| (symbol.id, symbol.start)).collect();
    assert!(merged == in_one_heap(pairs, symbols), "chunks give other tokens");
    (counted.asked.get(), scratch.symbols.len())
}

#[test]
fn every_piece_takes_a_few_questions_a_symbol() {
    let doubling: Vec<(u32, u32)> = std::iter::once((0, 0)).chain((4..30).map(|id| (id, id))).collect();
    // Tokens that begin one another, and tokens that end one another.
    let left: Vec<(u32, u32)> = std::iter::once((0, 1)).chain((4..200).map(|id| (id, id % 2))).collect();
    let right: Vec<(u32, u32)> = std::iter::once((1, 0)).chain((4..200).map(|id| (id % 2, id))).collect();
    // The most frequent merge undoes what the others look for.
    let torn: Vec<(u32, u32)> = vec![(1, 2), (0, 1), (2, 3), (4, 3), (0, 4), (5, 6)];
    for merges in [doubling, left, right, torn, vec![]] {
        let pairs = pairs(&merges);
        let texts: [&dyn Fn(usize) -> u32; 5] =
            [&|_| 0, &|at| at as u32 % 2, &|at| at as u32 % 4, &|at| at.trailing_zeros() % 4, &|at| {
                (at as u32).wrapping_mul(2_654_435_761) >> 30
            }];
        for text in texts {
            for n in [2, SHORT, SHORT + 1, 1000, 2049, 4096, 100_000] {
                let (asked, left) = asked(&pairs, (0..n).map(text));
                assert!(asked <= 16 * n, "{asked} questions about {n} symbols, of which {left} are left");
                assert!(left <= n);
            }
        }
    }
}

#[test]
fn chunks_give_the_tokens_of_one_heap_for_random_merges() {
    let mut state = 1u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    for _ in 0..60 {
        let count = 2 + next(60);
        let mut merges: Vec<(u32, u32)> = Vec::new();
        while merges.len() < count {
            let pair = (next(4 + merges.len()) as u32, next(4 + merges.len()) as u32);
            if !merges.contains(&pair) {
                merges.push(pair);
            }
        }
        // As in files, where a pair may come before what makes its tokens.
        for _ in 0..next(20) {
            let (a, b) = (next(count), next(count));
            merges.swap(a, b);
        }
        let (pairs, letters) = (pairs(&merges), 1 + next(4));
        let symbols: Vec<u32> = (0..2000 + next(9000)).map(|_| next(letters) as u32).collect();
        asked(&pairs, symbols.into_iter());
    }
}
