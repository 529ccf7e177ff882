//! Rotary position embedding.
//!
//! ```text
//! (a, b) -> (a cos f - b sin f, a sin f + b cos f)        f = position * inverse_frequency[i],  pair i of a head
//! inverse_frequency[i] = theta^(-2 i / dim), or what a [`Scaling`] makes of it
//! ```
//!
//! The two conventions differ in which numbers of a head make a pair ([`Pairing`]). `x` is `(rows, heads * dim)`, rotated in
//! place; row `r` stands at `positions[r % positions.len()]`, so that a batch of sequences shares one table. The backward
//! pass is the rotation by the negative angle, applied to the gradient.
//!
//! Angles are computed in f64: at position 100,000 an angle in f32 is off by 0.004. [`Rope::shared`] keeps the tables of
//! the last few shapes, so that a step does not compute them again.
//!
//! Su et al.: "RoFormer", 2021; `apply_rotary_pos_emb` of Hugging Face (half), llama2.c (interleaved).

use super::check;
use super::rows::{self, check_rows};
use crate::error::{Error, Result};
use crate::simd::{Element, Kernel, LANES, Simd, dispatch, isa};
use arc_swap::ArcSwapOption;
use ndarray::ArrayViewMut2;
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;
use std::ops::Range;
use std::sync::Arc;

/// Which numbers of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// `i` and `i + dim / 2` (Hugging Face).
    Half,
    /// `2 i` and `2 i + 1` (the paper, llama2.c, GGUF's "norm").
    Interleaved,
}

/// Which way the rotation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// By the angle.
    Forward,
    /// By the negative angle: the gradient's way.
    Backward,
}

impl Direction {
    /// What the angle is multiplied with.
    #[inline(always)]
    pub(super) fn sign(self) -> f32 {
        if self == Direction::Forward { 1.0 } else { -1.0 }
    }
}

/// Cosines and sines of a list of positions.
#[derive(Clone, Debug)]
pub struct Rope {
    pairing: Pairing,
    dim: usize,
    positions: usize,
    /// For each position `dim / 2` numbers, or `dim` where neighbours are paired: every one twice then.
    cos: Vec<f32>,
    /// As `cos`; of a pair of neighbours the first has the negative sine, which is what it multiplies the second by.
    sin: Vec<f32>,
}

/// How waves are stretched, so that a model sees further than the lengths it was first trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Scaling {
    /// All by the same factor (Chen et al.: "Extending context window by positional interpolation", 2023).
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Long ones by the factor, short ones not, those between by something between (Llama 3.1).
    Llama3 {
        /// The factor.
        factor: f64,
        /// Waves longer than the original length over this are long.
        low_freq_factor: f64,
        /// Waves shorter than the original length over this are short.
        high_freq_factor: f64,
        /// The length that the model was first trained on.
        original_max_position_embeddings: f64,
    },
}

impl Scaling {
    /// What becomes of an inverse frequency.
    fn apply(self, inverse: f64) -> f64 {
        match self {
            Scaling::Linear { factor } => inverse / factor,
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let times = original_max_position_embeddings * inverse / TAU; // that the wave fits into that length
                let short = (times - low_freq_factor) / (high_freq_factor - low_freq_factor);
                let short = short.clamp(0.0, 1.0);
                short * inverse + (1.0 - short) * inverse / factor
            }
        }
    }

    /// Whether all factors are numbers that stretch.
    pub fn is_valid(self) -> bool {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        match self {
            Scaling::Linear { factor } => positive(factor),
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let all = [factor, low_freq_factor, high_freq_factor, original_max_position_embeddings];
                all.into_iter().all(positive) && low_freq_factor < high_freq_factor
            }
        }
    }
}

/// The waves of a head: how fast each pair turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Waves {
    /// Numbers of a head.
    pub dim: usize,
    /// The longest wave, over `2 pi`.
    pub theta: f64,
    /// How they are stretched, if they are.
    pub scaling: Option<Scaling>,
}

impl Waves {
    /// Those of the paper, which are not stretched.
    pub fn new(dim: usize, theta: f64) -> Self {
        Waves { dim, theta, scaling: None }
    }

    /// The inverse frequency of every pair of a head.
    fn inverse_frequencies(self) -> Result<Vec<f64>> {
        let Waves { dim, theta, scaling } = self;
        if dim == 0 || !dim.is_multiple_of(2) {
            return Err(Error::value("rope", "dim", dim, "the head size must be even and not 0"));
        }
        if !(theta > 0.0 && theta.is_finite()) {
            return Err(Error::value("rope", "theta", theta, "theta must be finite and above 0"));
        }
        if let Some(scaling) = scaling.filter(|scaling| !scaling.is_valid()) {
            return Err(Error::value(
                "rope",
                "scaling",
                format!("{scaling:?}"),
                "factors must be positive, low below high",
            ));
        }
        let plain = |i| theta.powf(-2.0 * i as f64 / dim as f64);
        Ok((0..dim / 2).map(plain).map(|inverse| scaling.map_or(inverse, |scaling| scaling.apply(inverse))).collect())
    }
}

/// Tables that [`Rope::shared`] keeps: those of two models in turns, each with its training and evaluation length and two
/// kinds of layers.
const KEPT: usize = 8;

/// What a shared table is for: pairing, waves, and the number of positions.
type Key = (Pairing, Waves, usize);

/// Without a lock: a child that is forked while another thread holds one would wait for it for ever.
static SHARED: ArcSwapOption<Vec<(Key, Arc<Rope>)>> = ArcSwapOption::const_empty();

impl Rope {
    /// The table of the positions `0..t`, computed only where it is none of the last few that were asked for.
    pub fn shared(pairing: Pairing, waves: Waves, t: usize) -> Result<Arc<Self>> {
        let key = (pairing, waves, t);
        let kept = SHARED.load_full().unwrap_or_default();
        let rope = match kept.iter().position(|(k, _)| *k == key) {
            Some(0) => return Ok(kept[0].1.clone()),
            Some(at) => kept[at].1.clone(),
            None => Arc::new(Self::new(pairing, waves, &(0..t).collect::<Vec<_>>())?),
        };
        // Of two threads that do this at once one is not kept: what is missing is computed again.
        let others = kept.iter().filter(|(k, _)| *k != key).take(KEPT - 1).cloned();
        SHARED.store(Some(Arc::new(std::iter::once((key, rope.clone())).chain(others).collect())));
        Ok(rope)
    }

    /// The table of `positions`.
    pub fn new(pairing: Pairing, waves: Waves, positions: &[usize]) -> Result<Self> {
        let inverse_frequencies = waves.inverse_frequencies()?;
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for &position in positions {
            for frequency in &inverse_frequencies {
                let (s, c) = (position as f64 * frequency).sin_cos();
                match pairing {
                    Pairing::Half => {
                        cos.push(c as f32);
                        sin.push(s as f32);
                    }
                    Pairing::Interleaved => {
                        cos.extend([c as f32; 2]);
                        sin.extend([-s as f32, s as f32]);
                    }
                }
            }
        }
        Ok(Rope { pairing, dim: waves.dim, positions: positions.len(), cos, sin })
    }

    /// Rotates every head of every row of `x`.
    pub fn apply<E: Element>(&self, direction: Direction, x: ArrayViewMut2<E>) -> Result<()> {
        const OP: &str = "rope";
        let (n, width) = x.dim();
        check_rows!(OP, [n, width], x);
        self.check(OP, n, width, None)?;
        let (isa, size) = (isa::current(), rows::task_rows(width));
        rows::each(n * width, rows::blocks_mut(x, size), |i, x| {
            dispatch(isa, Rotate { rope: self, direction, first: i * size, x });
        });
        Ok(())
    }

    /// Rows must be whole heads, and whole sequences of the table's positions or at `positions` that it has.
    pub(super) fn check(&self, op: &'static str, n: usize, width: usize, positions: Option<&[u32]>) -> Result<()> {
        check::shape(op, "heads", &[width], &[width.next_multiple_of(self.dim)])?;
        if let Some(positions) = positions {
            check::len(op, "positions", positions.len(), n)?;
            return match positions.iter().find(|&&position| position as usize >= self.positions) {
                None => Ok(()),
                Some(position) => Err(Error::value(
                    op,
                    "positions",
                    position,
                    format!("must be below {}, as many as the table has", self.positions),
                )),
            };
        }
        if n > 0 && (self.positions == 0 || !n.is_multiple_of(self.positions)) {
            let expected = format!("rows must be whole sequences of {} positions", self.positions);
            return Err(Error::value(op, "rows", n, expected));
        }
        Ok(())
    }

    /// Which numbers of a head make a pair.
    pub fn pairing(&self) -> Pairing {
        self.pairing
    }

    /// The numbers of a head.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Cosines and sines of the position of row `r`.
    #[inline(always)]
    pub(super) fn of_row(&self, r: usize) -> Table<'_> {
        let width = self.cos.len() / self.positions;
        let at = r % self.positions * width;
        Table { cos: &self.cos[at..at + width], sin: &self.sin[at..at + width] }
    }
}

/// Cosines and sines of one position.
#[derive(Clone, Copy, Default)]
pub(super) struct Table<'a> {
    cos: &'a [f32],
    sin: &'a [f32],
}

/// How a head is cut into pairs of vectors that turn together: two from its halves, or two neighbours each of which turns
/// within itself.
pub(super) trait Turn: Copy + Send + Sync {
    /// The steps of a head.
    fn steps(dim: usize) -> usize;
    /// Where the two vectors of step `k` lie in a head of `dim` numbers.
    fn places(dim: usize, k: usize) -> [Range<usize>; 2];
    /// The two vectors of step `k` by the angle times `sign`, which is 1 or -1.
    fn turn<S: Simd>(s: S, table: Table, k: usize, v: [S::V; 2], sign: S::V) -> [S::V; 2];
}

/// [`Pairing::Half`]
#[derive(Clone, Copy)]
pub(super) struct Halves;

impl Turn for Halves {
    #[inline(always)]
    fn steps(dim: usize) -> usize {
        (dim / 2).div_ceil(LANES)
    }
    #[inline(always)]
    fn places(dim: usize, k: usize) -> [Range<usize>; 2] {
        let (half, at) = (dim / 2, k * LANES);
        let end = half.min(at + LANES);
        [at..end, half + at..half + end]
    }
    #[inline(always)]
    fn turn<S: Simd>(s: S, table: Table, k: usize, [a, b]: [S::V; 2], sign: S::V) -> [S::V; 2] {
        let cos = s.load_at(table.cos, k * LANES, 0.0);
        let sin = s.mul(s.load_at(table.sin, k * LANES, 0.0), sign);
        [s.sub(s.mul(a, cos), s.mul(b, sin)), s.add(s.mul(b, cos), s.mul(a, sin))]
    }
}

/// [`Pairing::Interleaved`]
#[derive(Clone, Copy)]
pub(super) struct Neighbours;

impl Turn for Neighbours {
    #[inline(always)]
    fn steps(dim: usize) -> usize {
        dim.div_ceil(2 * LANES)
    }
    #[inline(always)]
    fn places(dim: usize, k: usize) -> [Range<usize>; 2] {
        neighbours(dim, k)
    }
    #[inline(always)]
    fn turn<S: Simd>(s: S, table: Table, k: usize, [a, b]: [S::V; 2], sign: S::V) -> [S::V; 2] {
        let at = [2 * k * LANES, ((2 * k + 1) * LANES).min(table.cos.len())];
        [turn_neighbours(s, table, at[0], a, sign), turn_neighbours(s, table, at[1], b, sign)]
    }
}

#[inline(always)]
fn turn_neighbours<S: Simd>(s: S, table: Table, at: usize, v: S::V, sign: S::V) -> S::V {
    let (cos, sin) = (s.load_at(table.cos, at, 0.0), s.mul(s.load_at(table.sin, at, 0.0), sign));
    s.add(s.mul(v, cos), s.mul(swap_neighbours(s, v), sin))
}

/// `v1 v0 v3 v2 ..`; the compiler makes one shuffle of it.
#[inline(always)]
fn swap_neighbours<S: Simd>(s: S, v: S::V) -> S::V {
    let (x, mut y) = (s.to_array(v), [0.0; LANES]);
    for i in 0..LANES {
        y[i] = x[i ^ 1];
    }
    s.load(&y)
}

/// Heads that do not turn.
#[derive(Clone, Copy)]
pub(super) struct Still;

impl Turn for Still {
    #[inline(always)]
    fn steps(dim: usize) -> usize {
        dim.div_ceil(2 * LANES)
    }
    #[inline(always)]
    fn places(dim: usize, k: usize) -> [Range<usize>; 2] {
        neighbours(dim, k)
    }
    #[inline(always)]
    fn turn<S: Simd>(_: S, _: Table, _: usize, v: [S::V; 2], _: S::V) -> [S::V; 2] {
        v
    }
}

/// Two vectors one behind the other; what there is of them at the end of a head.
#[inline(always)]
fn neighbours(dim: usize, k: usize) -> [Range<usize>; 2] {
    let [from, middle, end] = [2 * k, 2 * k + 1, 2 * k + 2].map(|i| dim.min(i * LANES));
    [from..middle, middle..end]
}

/// The two vectors of step `k` of a head, or of a gain, which has its shape.
#[inline(always)]
pub(super) fn load<S: Simd, T: Turn, E: Element>(s: S, head: &[E], k: usize) -> [S::V; 2] {
    let [a, b] = T::places(head.len(), k);
    [E::load_at(s, &head[a], 0, 0.0), E::load_at(s, &head[b], 0, 0.0)]
}

/// Writes the two vectors of step `k`.
#[inline(always)]
pub(super) fn store<S: Simd, T: Turn, E: Element>(s: S, head: &mut [E], k: usize, v: [S::V; 2]) {
    let [a, b] = T::places(head.len(), k);
    E::store_at(s, &mut head[a], 0, v[0]);
    E::store_at(s, &mut head[b], 0, v[1]);
}

struct Rotate<'a, E> {
    rope: &'a Rope,
    direction: Direction,
    first: usize,
    x: ArrayViewMut2<'a, E>,
}

impl<E: Element> Kernel for Rotate<'_, E> {
    type Output = ();
    const BF16: bool = E::HALF;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.rope.pairing {
            Pairing::Half => self.rotate::<S, Halves>(s),
            Pairing::Interleaved => self.rotate::<S, Neighbours>(s),
        }
    }
}

impl<E: Element> Rotate<'_, E> {
    #[inline(always)]
    fn rotate<S: Simd, T: Turn>(mut self, s: S) {
        let sign = s.splat(self.direction.sign());
        for i in 0..self.x.nrows() {
            let table = self.rope.of_row(self.first + i);
            for head in rows::row_mut(&mut self.x, i).chunks_exact_mut(self.rope.dim) {
                for k in 0..T::steps(self.rope.dim) {
                    let v = T::turn(s, table, k, load::<S, T, E>(s, head, k), sign);
                    store::<S, T, E>(s, head, k, v);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
