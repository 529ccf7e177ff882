//! What modern blocks do to every head of queries and keys before attention: RMS normalisation over the head, and the
//! rotation by its position, in one pass.
//!
//! ```text
//! n = x * rstd,  rstd = 1 / sqrt(mean(x^2) + eps) over a head; R the rotation by the position
//! NormRope (Qwen 3):   y = R (gain * n)
//! RopeNorm:            y = gain * R n
//! ```
//!
//! Gains may be stored as differences to an `offset` of 1 (Gemma 3).
//!
//! `x`, `y` `(rows, heads * head_dim)`, `gain` `(head_dim)` for all heads, `rstd` `(rows, heads)`: saved for the backward
//! pass. A rotation keeps the length of a head, so `norm(R x) = R norm(x)`: the two orders differ only in where the gain
//! is applied, and without one (nanochat) they are the same. Backward, from the outside in, with `R^-1` the rotation by
//! the negative angle:
//!
//! ```text
//! NormRope:  m = R^-1 dy,  dgain += m * n,       dn = gain * m
//! RopeNorm:                dgain += dy * (R n),  dn = R^-1 (gain * dy)
//! dx = rstd * (dn - n * mean(dn * n))            the sums of dgain over rows and heads
//! ```
//!
//! `n` comes from the input, or without a gain from the output, `n = R^-1 y`: then forward may overwrite its input.
//!
//! Henry et al.: "Query-key normalization for transformers", 2020; `Qwen3Attention` of Hugging Face, nanochat's `gpt.py`.

use super::check;
use super::rope::{self, Direction, Halves, Neighbours, Pairing, Rope, Still, Table, Turn};
use super::rows::{self, BLOCK, check_rows};
use crate::error::{Error, Result};
use crate::simd::{Element, Kernel, LANES, Simd, dispatch, isa, math};
use ndarray::{ArrayView2, ArrayViewMut2};

/// What is done to every head.
#[derive(Clone, Copy, Debug)]
pub struct QkNorm<'a> {
    /// Numbers of a head.
    pub head_dim: usize,
    /// The normalisation, where there is one.
    pub norm: Option<HeadNorm<'a>>,
    /// The rotation, where there is one; row `r` stands at its position `r % positions`, if `positions` do not say.
    pub rope: Option<&'a Rope>,
    /// For each row which of the rotation's positions it stands at.
    pub positions: Option<&'a [u32]>,
}

/// The normalisation of a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadNorm<'a> {
    /// Added to the mean of the squares.
    pub eps: f32,
    /// What each number of a head is multiplied with, beside `offset`, the same for all heads.
    pub gain: Option<&'a [f32]>,
    /// Added to every gain: 1 where they are stored as differences to it (Gemma 3), else 0.
    pub offset: f32,
    /// Whether the gain comes before the rotation.
    pub order: Order,
}

/// Whether the gain is applied before the rotation or behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Normalised, then rotated (Qwen 3).
    NormRope,
    /// Rotated, then normalised (nanochat).
    RopeNorm,
}

/// What the backward pass finds of the forward pass.
#[derive(Clone, Copy, Debug)]
pub enum Saved<'a, E> {
    /// The input, whether or not there is a gain.
    Input(ArrayView2<'a, E>),
    /// The output; there must be no gain.
    Output(ArrayView2<'a, E>),
}

/// Normalises and rotates the heads of `x` into `y`; saves each head's `rstd` (which is empty without a normalisation).
pub fn qk_norm<X: Element, Y: Element>(
    how: QkNorm,
    x: ArrayView2<X>,
    y: ArrayViewMut2<Y>,
    rstd: &mut [f32],
) -> Result<()> {
    const OP: &str = "qk_norm";
    let (n, width) = x.dim();
    check_rows!(OP, [n, width], x, y);
    let heads = how.check(OP, [n, width], rstd.len())?;
    let (isa, size) = (isa::current(), rows::task_rows(width));
    let parts = rows::blocks_mut(y, size).into_iter().zip(rows::chunks_mut(rstd, size * heads));
    rows::each(n * width, parts, |i, (y, rstd)| {
        dispatch(isa, Forward { how, first: i * size, x: Some(x), y, rstd });
    });
    Ok(())
}

/// [`qk_norm`] whose output takes the place of its input.
pub fn qk_norm_inplace<E: Element>(how: QkNorm, x: ArrayViewMut2<E>, rstd: &mut [f32]) -> Result<()> {
    const OP: &str = "qk_norm_inplace";
    let (n, width) = x.dim();
    check_rows!(OP, [n, width], x);
    let heads = how.check(OP, [n, width], rstd.len())?;
    let (isa, size) = (isa::current(), rows::task_rows(width));
    let parts = rows::blocks_mut(x, size).into_iter().zip(rows::chunks_mut(rstd, size * heads));
    rows::each(n * width, parts, |i, (x, rstd)| {
        dispatch(isa, Forward::<E, E> { how, first: i * size, x: None, y: x, rstd });
    });
    Ok(())
}

/// The gradients of [`qk_norm`]: that of its input in the place of `d`, which holds that of its output, and `dgain` added
/// to.
pub fn qk_norm_backward<E: Element, D: Element>(
    how: QkNorm,
    saved: Saved<E>,
    rstd: &[f32],
    d: ArrayViewMut2<D>,
    dgain: Option<&mut [f32]>,
) -> Result<()> {
    const OP: &str = "qk_norm_backward";
    let (n, width) = d.dim();
    let (Saved::Input(view) | Saved::Output(view)) = saved;
    check_rows!(OP, [n, width], d, view);
    let heads = how.check(OP, [n, width], rstd.len())?;
    let gain = how.norm.and_then(|norm| norm.gain);
    if gain.is_some() && matches!(saved, Saved::Output(_)) {
        return Err(Error::value(OP, "saved", "Output", "a gain cannot be undone: save the input"));
    }
    if let Some(dgain) = &dgain {
        check::len(OP, "dgain", dgain.len(), gain.map_or(0, <[f32]>::len))?;
    }
    let isa = isa::current();
    let mut outs: Vec<&mut [f32]> = dgain.into_iter().collect();
    let parts = rows::blocks_mut(d, BLOCK);
    rows::fold_blocks([n, how.head_dim], n * width, &mut outs, parts, |rows, d, dgain| {
        let rstd = &rstd[rows.start * heads..rows.end * heads];
        dispatch(isa, Backward { how, saved, first: rows.start, rstd, d, dgain });
    });
    Ok(())
}

impl QkNorm<'_> {
    /// Checks everything but the views; gives the numbers of `rstd` in a row.
    fn check(&self, op: &'static str, [n, width]: [usize; 2], rstd: usize) -> Result<usize> {
        if self.head_dim == 0 {
            return Err(Error::value(op, "head_dim", 0, "a head must have numbers"));
        }
        check::shape(op, "heads", &[width], &[width.next_multiple_of(self.head_dim)])?;
        let heads = if self.norm.is_some() { width / self.head_dim } else { 0 };
        check::len(op, "rstd", rstd, n * heads)?;
        if let Some(gain) = self.norm.and_then(|norm| norm.gain) {
            check::len(op, "gain", gain.len(), self.head_dim)?;
        }
        if let Some(rope) = self.rope {
            check::len(op, "rope", rope.dim(), self.head_dim)?;
            rope.check(op, n, width, self.positions)?;
        }
        Ok(heads)
    }

    /// Gains by which numbers are multiplied before and behind the rotation.
    #[inline(always)]
    fn gains(&self) -> [Option<Gain<'_>>; 2] {
        let Some(HeadNorm { gain: Some(weight), offset, order, .. }) = self.norm else { return [None, None] };
        match order {
            Order::NormRope => [Some(Gain { weight, offset }), None],
            Order::RopeNorm => [None, Some(Gain { weight, offset })],
        }
    }

    /// The angles of row `r`; nothing, for [`Still`], where there are none.
    #[inline(always)]
    fn table(&self, r: usize) -> Table<'_> {
        let Some(rope) = self.rope else { return Table::default() };
        rope.of_row(self.positions.map_or(r, |positions| positions[r] as usize))
    }
}

/// What numbers of a head are multiplied with: `offset + weight`.
#[derive(Clone, Copy)]
struct Gain<'a> {
    weight: &'a [f32],
    offset: f32,
}

/// The two vectors times what a gain has there.
#[inline(always)]
fn times<S: Simd, T: Turn>(s: S, v: [S::V; 2], gain: Option<Gain<'_>>, k: usize) -> [S::V; 2] {
    match gain {
        None => v,
        Some(Gain { weight, offset }) => {
            let (weight, offset) = (rope::load::<S, T, f32>(s, weight, k), s.splat(offset));
            [s.mul(v[0], s.add(weight[0], offset)), s.mul(v[1], s.add(weight[1], offset))]
        }
    }
}

/// Room for the heads of a row in float32, beside the caller's rows, so that these may be written over: the two vectors
/// of each step one behind the other, and [`held_size`] numbers for a head.
fn held(how: &QkNorm, width: usize) -> Vec<f32> {
    vec![0.0; width / how.head_dim * held_size(how.head_dim)]
}

/// Whole steps, however the head is cut into them.
fn held_size(dim: usize) -> usize {
    2 * dim.div_ceil(2).next_multiple_of(LANES)
}

#[inline(always)]
fn load_held<S: Simd>(s: S, held: &[f32], k: usize) -> [S::V; 2] {
    [s.load_at(held, 2 * LANES * k, 0.0), s.load_at(held, 2 * LANES * k + LANES, 0.0)]
}

#[inline(always)]
fn hold<S: Simd>(s: S, held: &mut [f32], k: usize, v: [S::V; 2]) {
    s.store_at(held, 2 * LANES * k, v[0]);
    s.store_at(held, 2 * LANES * k + LANES, v[1]);
}

/// Without an `x` the input is what `y` holds.
struct Forward<'a, X, Y> {
    how: QkNorm<'a>,
    first: usize,
    x: Option<ArrayView2<'a, X>>,
    y: ArrayViewMut2<'a, Y>,
    rstd: &'a mut [f32],
}

impl<X: Element, Y: Element> Kernel for Forward<'_, X, Y> {
    type Output = ();
    const BF16: bool = Y::HALF;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.how.rope.map(Rope::pairing) {
            Some(Pairing::Half) => self.heads::<S, Halves>(s),
            Some(Pairing::Interleaved) => self.heads::<S, Neighbours>(s),
            None => self.heads::<S, Still>(s),
        }
    }
}

impl<X: Element, Y: Element> Forward<'_, X, Y> {
    #[inline(always)]
    fn heads<S: Simd, T: Turn>(mut self, s: S) {
        let (how, dim, size) = (self.how, self.how.head_dim, held_size(self.how.head_dim));
        let mut held = held(&how, self.y.ncols());
        let heads = self.y.ncols() / dim;
        for i in 0..self.y.nrows() {
            let table = how.table(self.first + i);
            // Sums of all heads first: each waits for its own, and together they wait at the same time.
            for h in 0..heads {
                let (place, held) = (h * dim..(h + 1) * dim, &mut held[h * size..(h + 1) * size]);
                let squares = match &self.x {
                    Some(x) => hold_head::<S, T, X>(s, &rows::row(x, self.first + i)[place], held),
                    None => hold_head::<S, T, Y>(s, &rows::row_mut(&mut self.y, i)[place], held),
                };
                if how.norm.is_some() {
                    self.rstd[i * heads + h] = squares;
                }
            }
            if let Some(norm) = how.norm {
                let squares = &mut self.rstd[i * heads..(i + 1) * heads];
                for at in (0..heads).step_by(LANES) {
                    let mean = s.mul(s.load_at(squares, at, 0.0), s.splat(1.0 / dim as f32));
                    let rstd = math::rsqrt(s, s.add(mean, s.splat(norm.eps)));
                    s.store_at(squares, at, rstd);
                }
            }
            let y = rows::row_mut(&mut self.y, i);
            for h in 0..heads {
                let rstd = if how.norm.is_some() { self.rstd[i * heads + h] } else { 1.0 };
                let held = &held[h * size..(h + 1) * size];
                write::<S, T, Y>(s, held, rstd, how, table, &mut y[h * dim..(h + 1) * dim]);
            }
        }
    }
}

/// Holds a head; gives the sum of its squares.
#[inline(always)]
fn hold_head<S: Simd, T: Turn, E: Element>(s: S, head: &[E], held: &mut [f32]) -> f32 {
    let mut sums = [s.splat(0.0); 2];
    for k in 0..T::steps(head.len()) {
        let v = rope::load::<S, T, E>(s, head, k);
        hold(s, held, k, v);
        sums = [s.fma(v[0], v[0], sums[0]), s.fma(v[1], v[1], sums[1])];
    }
    s.reduce_add(s.add(sums[0], sums[1]))
}

/// Writes what becomes of the head that is held.
#[inline(always)]
fn write<S: Simd, T: Turn, E: Element>(s: S, held: &[f32], rstd: f32, how: QkNorm, table: Table, y: &mut [E]) {
    let ([before, behind], rstd, sign) = (how.gains(), s.splat(rstd), s.splat(Direction::Forward.sign()));
    for k in 0..T::steps(y.len()) {
        let [a, b] = load_held(s, held, k);
        let n = times::<S, T>(s, [s.mul(a, rstd), s.mul(b, rstd)], before, k);
        let turned = T::turn(s, table, k, n, sign);
        rope::store::<S, T, E>(s, y, k, times::<S, T>(s, turned, behind, k));
    }
}

/// `dgain` is empty where nobody asks for it.
struct Backward<'a, 's, E, D> {
    how: QkNorm<'a>,
    saved: Saved<'s, E>,
    first: usize,
    rstd: &'a [f32],
    d: ArrayViewMut2<'a, D>,
    dgain: &'a mut [f32],
}

impl<E: Element, D: Element> Kernel for Backward<'_, '_, E, D> {
    type Output = ();
    const BF16: bool = D::HALF;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.how.rope.map(Rope::pairing) {
            Some(Pairing::Half) => self.heads::<S, Halves>(s),
            Some(Pairing::Interleaved) => self.heads::<S, Neighbours>(s),
            None => self.heads::<S, Still>(s),
        }
    }
}

impl<E: Element, D: Element> Backward<'_, '_, E, D> {
    #[inline(always)]
    fn heads<S: Simd, T: Turn>(mut self, s: S) {
        let (how, dim, size) = (self.how, self.how.head_dim, held_size(self.how.head_dim));
        let (mut n, mut dn) = (held(&how, self.d.ncols()), held(&how, self.d.ncols()));
        let heads = self.d.ncols() / dim;
        let mut means = vec![0.0; heads];
        let back = s.splat(Direction::Backward.sign());
        for i in 0..self.d.nrows() {
            let table = how.table(self.first + i);
            let (Saved::Input(saved) | Saved::Output(saved)) = &self.saved;
            let (saved, d) = (rows::row(saved, self.first + i), rows::row_mut(&mut self.d, i));
            for h in 0..heads {
                let rstd = s.splat(if how.norm.is_some() { self.rstd[i * heads + h] } else { 1.0 });
                let (saved, n) = (&saved[h * dim..(h + 1) * dim], &mut n[h * size..(h + 1) * size]);
                for k in 0..T::steps(dim) {
                    let [a, b] = rope::load::<S, T, E>(s, saved, k);
                    let v = match self.saved {
                        Saved::Input(_) => [s.mul(a, rstd), s.mul(b, rstd)],
                        Saved::Output(_) => T::turn(s, table, k, [a, b], back),
                    };
                    hold(s, n, k, v);
                }
                let (dy, dn) = (&d[h * dim..(h + 1) * dim], &mut dn[h * size..(h + 1) * size]);
                means[h] = inwards::<S, T, D>(s, how, table, dy, n, dn, self.dgain) * (1.0 / dim as f32);
            }
            for h in 0..heads {
                let rstd = how.norm.map(|_| self.rstd[i * heads + h]);
                let (n, dn) = (&n[h * size..(h + 1) * size], &dn[h * size..(h + 1) * size]);
                finish::<S, T, D>(s, rstd, means[h], n, dn, &mut d[h * dim..(h + 1) * dim]);
            }
        }
    }
}

/// Takes the gradient of a head's output to `dn`, that of the normalised head; adds to `dgain`. Gives the sum of `dn * n`.
#[inline(always)]
fn inwards<S: Simd, T: Turn, D: Element>(
    s: S,
    how: QkNorm,
    table: Table,
    dy: &[D],
    n: &[f32],
    dn: &mut [f32],
    dgain: &mut [f32],
) -> f32 {
    let ([before, behind], mut sums) = (how.gains(), [s.splat(0.0); 2]);
    let (onwards, back) = (s.splat(Direction::Forward.sign()), s.splat(Direction::Backward.sign()));
    for k in 0..T::steps(dy.len()) {
        let (dy, n) = (rope::load::<S, T, D>(s, dy, k), load_held(s, n, k));
        let m = T::turn(s, table, k, times::<S, T>(s, dy, behind, k), back);
        if !dgain.is_empty() {
            let (d, v) = if behind.is_some() { (dy, T::turn(s, table, k, n, onwards)) } else { (m, n) };
            let sum = rope::load::<S, T, f32>(s, dgain, k);
            rope::store::<S, T, f32>(s, dgain, k, [s.fma(d[0], v[0], sum[0]), s.fma(d[1], v[1], sum[1])]);
        }
        let m = times::<S, T>(s, m, before, k);
        sums = [s.fma(m[0], n[0], sums[0]), s.fma(m[1], n[1], sums[1])];
        hold(s, dn, k, m);
    }
    s.reduce_add(s.add(sums[0], sums[1]))
}

/// `dx = rstd * (dn - n * mean(dn * n))` of a head, or `dn` where nothing was normalised.
#[inline(always)]
fn finish<S: Simd, T: Turn, D: Element>(s: S, rstd: Option<f32>, mean: f32, n: &[f32], dn: &[f32], dx: &mut [D]) {
    for k in 0..T::steps(dx.len()) {
        let mut d = load_held(s, dn, k);
        if let Some(rstd) = rstd {
            let (n, minus, rstd) = (load_held(s, n, k), s.splat(-mean), s.splat(rstd));
            d = [s.mul(s.fma(n[0], minus, d[0]), rstd), s.mul(s.fma(n[1], minus, d[1]), rstd)];
        }
        rope::store::<S, T, D>(s, dx, k, d);
    }
}

#[cfg(test)]
mod tests;
