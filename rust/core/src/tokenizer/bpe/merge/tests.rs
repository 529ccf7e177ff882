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

/// Merges of tokens 0 to 3, of which each makes the next token from 4 on.
fn pairs(merges: &[(u32, u32)]) -> Pairs {
    Pairs::new(&merges.iter().zip(4..).map(|(&(left, right), made)| (pair(left, right), made)).collect::<Vec<_>>())
}

fn asked(pairs: &Pairs, symbols: impl Iterator<Item = u32>) -> (usize, usize) {
    let mut scratch = Scratch::default();
    symbols.enumerate().for_each(|(at, id)| scratch.push(id, at));
    let before = scratch.symbols.len();
    let counted = Counted { pairs, asked: Cell::new(0) };
    scratch.merge_by(&counted, before);
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
            for n in [2, SHORT, SHORT + 1, 1000, 100_000] {
                let (asked, left) = asked(&pairs, (0..n).map(text));
                assert!(asked <= 4 * n, "{asked} questions about {n} symbols, of which {left} are left");
                assert!(left <= n);
            }
        }
    }
}
