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

use super::{Merges, Scratch, Symbol};

/// Symbols of a chunk.
const CHUNK: usize = 512;

/// How often a symbol may be merged, on the average, before the piece is merged as a whole.
const MOST: usize = 3;

/// Tokens that are merged again with the next chunk, before one looks whether that is enough.
const AGAIN: usize = 2;

impl Scratch {
    /// Whether a piece is cut into chunks.
    pub(super) fn is_long(&self) -> bool {
        self.symbols.len() > 4 * CHUNK
    }

    /// Merges a long piece, which ends at `end`. Where chunks reach too far back too often, the piece is merged as a
    /// whole: no input costs more than a few times n log n.
    pub(super) fn chunks(&mut self, merges: &impl Merges, end: usize) {
        let all = std::mem::take(&mut self.symbols);
        // Merged tokens, each at the place of its first symbol in `all`.
        let mut done: Vec<(Symbol, usize)> = Vec::new();
        let mut work = 0;
        for to in (CHUNK..all.len()).step_by(CHUNK).chain([all.len()]) {
            let mut back = AGAIN;
            loop {
                let keep = done.len().saturating_sub(back);
                let from = done.get(keep).map_or(0, |token| token.1);
                work += to - from;
                if work > MOST * all.len() {
                    self.symbols = all;
                    return self.heap(merges, end);
                }
                let window = self.window(merges, &all, from, to, end);
                let fits = keep == 0 || {
                    let second = window.get(1).map_or(to, |token| token.1);
                    work += second - done[keep - 1].1;
                    let two = self.window(merges, &all, done[keep - 1].1, second, end);
                    two.len() == 2 && two[1].1 == from
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
        self.symbols.extend(done.into_iter().map(|(token, _)| token));
    }

    /// What the symbols `from..to` of `all` merge into, each at its place there.
    fn window(
        &mut self,
        merges: &impl Merges,
        all: &[Symbol],
        from: usize,
        to: usize,
        end: usize,
    ) -> Vec<(Symbol, usize)> {
        self.symbols.clear();
        self.symbols.extend_from_slice(&all[from..to]);
        self.whole(merges, all.get(to).map_or(end, |next| next.start as usize));
        let mut at = from;
        let place = |token: &Symbol| {
            at += all[at..to].iter().take_while(|symbol| symbol.start != token.start).count();
            (*token, at)
        };
        self.symbols.iter().map(place).collect()
    }
}
