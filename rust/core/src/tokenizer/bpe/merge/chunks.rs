//! Long pieces by chunks that stay in a near cache, one after the other.
//!
//! **Why that is exact.** Tokens in a row are what their symbols merge into if and only if each two neighbours are what
//! the symbols of those two merge into. For let them not be, and look at the first merge across the border of two of
//! them: until then every token's symbols merged among themselves, in the order in which they do alone, so the two
//! neighbours alone would come to the same merge. The other way round, a merge across the border that the two alone
//! come to is one that the whole comes to as well, unless an earlier one crosses another border. All it takes is that a
//! merge depends on its two symbols alone, and that equal ranks merge from left to right.
//!
//! So a chunk is merged together with the last tokens of what is before it, and stays if its first token and the one
//! before that are such neighbours; else more of what is before is taken back.

use super::{Merge, Merges, Scratch, Symbol};
use std::ops::Range;

/// Symbols of a chunk.
const CHUNK: usize = 512;

/// How often a symbol may be merged, on the average, before the piece is merged as a whole.
const MOST: usize = 3;

/// Tokens that are merged again with the next chunk, before one looks whether that is enough.
const AGAIN: usize = 2;

/// A merged token: where it begins in the piece, and which of the symbols is its first.
#[derive(Clone, Copy)]
struct Token {
    id: u32,
    start: u32,
    first: u32,
}

impl Scratch {
    /// Whether a piece is cut into chunks.
    pub(super) fn is_long(&self) -> bool {
        self.pushed.len() > 4 * CHUNK
    }

    /// Merges a long piece, which ends at `end`. Where chunks reach too far back too often, the piece is merged as a
    /// whole: no input costs more than a few times n log n.
    pub(super) fn chunks(&mut self, merges: &impl Merges, end: usize) {
        let count = self.pushed.len();
        let mut done: Vec<Token> = Vec::new();
        let mut work = 0;
        for to in (CHUNK..count).step_by(CHUNK).chain([count]) {
            let mut back = AGAIN;
            loop {
                let keep = done.len().saturating_sub(back);
                let from = done.get(keep).map_or(0, |token| token.first as usize);
                work += to - from;
                if work > MOST * count {
                    return self.merge_range(merges, 0..count, end);
                }
                let window = self.window(merges, from..to, end);
                let fits = keep == 0 || {
                    let before = done[keep - 1].first as usize;
                    let second = window.get(1).map_or(to, |token| token.first as usize);
                    work += second - before;
                    let two = self.window(merges, before..second, end);
                    two.len() == 2 && two[1].first as usize == from
                };
                if fits {
                    done.truncate(keep);
                    done.extend(window);
                    break;
                }
                back *= 4;
            }
        }
        self.symbols.clear();
        self.symbols.extend(done.iter().map(|token| Symbol { id: token.id, start: token.start, merge: Merge::NONE }));
    }

    /// What some of the symbols merge into.
    fn window(&mut self, merges: &impl Merges, range: Range<usize>, end: usize) -> Vec<Token> {
        self.merge_range(merges, range.clone(), end);
        let (mut at, pushed) = (range.start, &self.pushed[..range.end]);
        let token = |symbol: &Symbol| {
            at += pushed[at..].iter().take_while(|(_, start)| *start != symbol.start).count();
            Token { id: symbol.id, start: symbol.start, first: at as u32 }
        };
        self.symbols.iter().map(token).collect()
    }
}
