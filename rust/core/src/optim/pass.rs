//! One pass over weights, gradients and state: each is read once and written once, in one parallel region for all tensors.
//!
//! What happens to one weight is a [`Rule`]; the pass brings it to all of them. Tasks are pieces of the concatenated
//! tensors, so that a model of many small tensors costs no more than one of few large ones.

use crate::buffer::front_mut;
use crate::parallel;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// Weights of one task: large enough to hide the hand-out, small enough to balance.
const TASK: usize = 1 << 15;

/// An update that looks at each weight alone, with `N` numbers of state for each.
pub trait Rule<const N: usize>: Copy + Send + Sync {
    /// New weights and states from old ones and gradients. Mark it `#[inline(always)]`.
    fn update<S: Simd>(self, s: S, w: S::V, g: S::V, state: [S::V; N]) -> (S::V, [S::V; N]);
}

/// Weights that share a rule, with what belongs to them; all slices have one length.
pub struct Piece<'a, R, const N: usize> {
    /// What happens to them.
    pub rule: R,
    /// Weights.
    pub w: &'a mut [f32],
    /// Gradients, but for the pass's factor.
    pub g: &'a [f32],
    /// State.
    pub state: [&'a mut [f32]; N],
}

impl<'a, R: Copy, const N: usize> Piece<'a, R, N> {
    /// The first `n` weights (or as many as there are); the rest stays.
    fn split_off(&mut self, n: usize) -> Self {
        let n = n.min(self.w.len());
        Piece {
            rule: self.rule,
            w: front_mut(&mut self.w, n),
            g: self.g.split_off(..n).unwrap_or_default(),
            state: self.state.each_mut().map(|state| front_mut(state, n)),
        }
    }
}

/// Updates all weights of all pieces; `factor` is multiplied into every gradient.
pub fn run<'a, R: Rule<N>, const N: usize>(isa: Isa, pieces: impl Iterator<Item = Piece<'a, R, N>>, factor: f32) {
    let mut cut = Vec::new();
    for mut piece in pieces {
        while !piece.w.is_empty() {
            cut.push(piece.split_off(TASK));
        }
    }
    parallel::for_each(groups(&mut cut), |_, group| {
        for piece in group {
            dispatch(isa, Update { piece, factor });
        }
    });
}

/// Neighbouring pieces together: as few as make up a task.
fn groups<'p, 'a, R, const N: usize>(mut rest: &'p mut [Piece<'a, R, N>]) -> Vec<&'p mut [Piece<'a, R, N>]> {
    let mut groups = Vec::new();
    while !rest.is_empty() {
        let mut weights = 0;
        let more = |piece: &Piece<'a, R, N>| {
            let room = weights < TASK;
            weights += piece.w.len();
            room
        };
        let count = rest.iter().map(more).take_while(|&room| room).count();
        groups.extend(rest.split_off_mut(..count));
    }
    groups
}

struct Update<'p, 'a, R, const N: usize> {
    piece: &'p mut Piece<'a, R, N>,
    factor: f32,
}

impl<R: Rule<N>, const N: usize> Kernel for Update<'_, '_, R, N> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Piece { rule, w, g, state } = self.piece;
        let (rule, factor) = (*rule, s.splat(self.factor));
        let (w, w_tail) = w.as_chunks_mut::<LANES>();
        let (g, g_tail) = g.as_chunks::<LANES>();
        // Cut to one length, so that the compiler sees that every index is within all of them.
        let (n, g) = (w.len(), &g[..w.len()]);
        let state = state.each_mut().map(|state| {
            let (chunks, tail) = state.as_chunks_mut::<LANES>();
            (&mut chunks[..n], tail)
        });
        // No closures and no iterators over vectors: they would be functions of their own, without the instructions.
        let mut old = [factor; N];
        for i in 0..n {
            for j in 0..N {
                old[j] = s.load(&state[j].0[i]);
            }
            let (new, states) = rule.update(s, s.load(&w[i]), s.mul(s.load(&g[i]), factor), old);
            s.store(&mut w[i], new);
            for j in 0..N {
                s.store(&mut state[j].0[i], states[j]);
            }
        }
        if !w_tail.is_empty() {
            for j in 0..N {
                old[j] = s.load_tail(state[j].1, 0.0);
            }
            let g = s.mul(s.load_tail(g_tail, 0.0), factor);
            let (new, states) = rule.update(s, s.load_tail(w_tail, 0.0), g, old);
            s.store_tail(w_tail, new);
            for j in 0..N {
                s.store_tail(state[j].1, states[j]);
            }
        }
    }
}
