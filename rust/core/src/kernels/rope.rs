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
use ndarray::ArrayViewMut2;
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;
use std::ops::Range;
use std::sync::{Arc, Mutex};

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
            return Err(Error::value("rope", "theta", theta, "theta must be positive"));
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

static SHARED: Mutex<Vec<(Key, Arc<Rope>)>> = Mutex::new(Vec::new());

impl Rope {
    /// The table of the positions `0..t`, computed only where it is none of the last few that were asked for.
    pub fn shared(pairing: Pairing, waves: Waves, t: usize) -> Result<Arc<Self>> {
        let key = (pairing, waves, t);
        let mut kept = SHARED.lock().unwrap_or_else(|e| e.into_inner());
        let entry = match kept.iter().position(|(k, _)| *k == key) {
            Some(at) => kept.remove(at),
            None => (key, Arc::new(Self::new(pairing, waves, &(0..t).collect::<Vec<_>>())?)),
        };
        let rope = entry.1.clone();
        kept.insert(0, entry);
        kept.truncate(KEPT);
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
                Some(position) => {
                    Err(Error::value(op, "positions", position, format!("the table has {}", self.positions)))
                }
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
mod tests {
    use super::super::rows::testing::{assert_same_bits, full, half, inner, matrix, on_each_isa, within};
    use super::*;
    use crate::simd::round_to_bf16;
    use ndarray::{Array2, s};
    use proptest::prelude::*;
    use subgpt_testkit::gradcheck::{assert_close, gradient, weighted, wide};
    use subgpt_testkit::{noise::Noise, rows as naive};

    fn pairs(pairing: Pairing, dim: usize) -> Vec<(usize, usize)> {
        let pair = |i| if pairing == Pairing::Half { (i, i + dim / 2) } else { (2 * i, 2 * i + 1) };
        (0..dim / 2).map(pair).collect()
    }

    fn exact(pairing: Pairing, dim: usize, theta: f64, positions: &[usize], x: &[f64], width: usize) -> Vec<f64> {
        let row = |(r, row): (usize, &[f64])| {
            let position = positions[r % positions.len()] as f64;
            row.chunks(dim).flat_map(|h| naive::rope(h, position, theta, &pairs(pairing, dim))).collect::<Vec<_>>()
        };
        x.chunks(width).enumerate().flat_map(row).collect()
    }

    fn rotated(rope: &Rope, direction: Direction, x: &Array2<f32>) -> Vec<f32> {
        let mut wide = within(x);
        rope.apply(direction, wide.slice_mut(s![.., 2..x.ncols() + 2])).unwrap();
        inner(&wide).iter().copied().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn both_ways_are_the_formula_and_its_gradient(
            half in 1usize..40, heads in 1usize..4, b in 1usize..3, t in 1usize..4, seed: u64,
            pairing in prop_oneof![Just(Pairing::Half), Just(Pairing::Interleaved)],
        ) {
            let (dim, theta, mut noise) = (2 * half, 10_000.0, Noise::new(seed));
            let positions: Vec<usize> = (0..t).map(|_| noise.below(200_000)).collect();
            let (x, dy) = (matrix(&mut noise, b * t, heads * dim, 1.0), matrix(&mut noise, b * t, heads * dim, 1.0));
            let rope = Rope::new(pairing, Waves::new(dim, theta), &positions).unwrap();
            let twin = |x: &[f64]| exact(pairing, dim, theta, &positions, x, heads * dim);
            let wide_x = wide(x.as_slice().unwrap());
            let dx = gradient(&wide_x, |x| weighted(&twin(x), dy.as_slice().unwrap()));
            on_each_isa(|| {
                assert_close("y", &rotated(&rope, Direction::Forward, &x), &twin(&wide_x), 3e-7);
                assert_close("dx", &rotated(&rope, Direction::Backward, &dy), &dx, 3e-7);
            });
        }
    }

    #[test]
    fn the_conventions_are_one_under_a_permutation() {
        let (dim, x) = (38, matrix(&mut Noise::new(1), 3, 38, 1.0));
        let split: Vec<usize> = (0..dim).step_by(2).chain((1..dim).step_by(2)).collect();
        let halves = x.select(ndarray::Axis(1), &split);
        let table = |pairing| Rope::new(pairing, Waves::new(dim, 500_000.0), &[7, 0, 1003]).unwrap();
        on_each_isa(|| {
            let a = rotated(&table(Pairing::Interleaved), Direction::Forward, &x);
            let b = rotated(&table(Pairing::Half), Direction::Forward, &halves);
            for r in 0..3 {
                assert!((0..dim).all(|i| b[r * dim + i] == a[r * dim + split[i]]));
            }
            assert_eq!(a[dim..2 * dim], x.as_slice().unwrap()[dim..2 * dim], "position 0 does not turn");
        });
    }

    #[test]
    fn shared_tables_are_those_of_their_shape_and_bfloat16_is_the_rounded_output() {
        let x = half(&matrix(&mut Noise::new(4), 6, 40, 1.0));
        for (t, theta) in [(6, 1e4), (3, 1e4), (6, 5e5), (2, 1e4), (1, 1e4), (6, 1e4)] {
            for pairing in [Pairing::Half, Pairing::Interleaved] {
                let shared = Rope::shared(pairing, Waves::new(20, theta), t).unwrap();
                let own = Rope::new(pairing, Waves::new(20, theta), &(0..t).collect::<Vec<_>>()).unwrap();
                on_each_isa(|| {
                    let want = rotated(&own, Direction::Forward, &full(&x));
                    assert_eq!(rotated(&shared, Direction::Forward, &full(&x)), want);
                    let mut narrow = x.clone();
                    shared.apply(Direction::Forward, narrow.view_mut()).unwrap();
                    assert!(narrow.iter().zip(want).all(|(y, want)| *y == round_to_bf16(want)));
                });
            }
        }
        assert!(Rope::shared(Pairing::Half, Waves::new(5, 1e4), 2).is_err());
    }

    #[test]
    fn long_waves_are_stretched_and_short_ones_are_not() {
        let plain = Waves::new(64, 5e5);
        let llama3 = Scaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192.0,
        };
        let of = |scaling| Waves { scaling, ..plain }.inverse_frequencies().unwrap();
        let (from, linear, llama3) = (of(None), of(Some(Scaling::Linear { factor: 8.0 })), of(Some(llama3)));
        assert!(from.iter().zip(&linear).all(|(a, b)| a / 8.0 == *b));
        for (a, b) in from.iter().zip(&llama3) {
            let length = TAU / a;
            match length {
                _ if length < 2048.0 => assert_eq!(a, b),
                _ if length > 8192.0 => assert_eq!(a / 8.0, *b),
                _ => assert!(a / 8.0 < *b && b < a),
            }
        }
        assert!(llama3.iter().zip(&llama3[1..]).all(|(a, b)| a > b));
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let x = matrix(&mut Noise::new(2), 600, 96, 1.0);
        for pairing in [Pairing::Half, Pairing::Interleaved] {
            let rope = Rope::new(pairing, Waves::new(32, 10_000.0), &(0..200).collect::<Vec<_>>()).unwrap();
            assert_same_bits(|| rotated(&rope, Direction::Forward, &x));
        }
    }

    #[test]
    fn wrong_shapes_are_errors() {
        assert!(Rope::new(Pairing::Half, Waves::new(5, 1e4), &[0]).is_err());
        assert!(Rope::new(Pairing::Half, Waves::new(0, 1e4), &[0]).is_err());
        assert!(Rope::new(Pairing::Half, Waves::new(4, f64::NAN), &[0]).is_err());
        let linear = Waves { scaling: Some(Scaling::Linear { factor: 0.0 }), ..Waves::new(4, 1e4) };
        assert!(Rope::new(Pairing::Half, linear, &[0]).is_err());
        let rope = Rope::new(Pairing::Half, Waves::new(4, 1e4), &[0, 1]).unwrap();
        for shape in [(2, 6), (3, 8), (2, 3)] {
            assert!(rope.apply(Direction::Forward, Array2::<f32>::zeros(shape).view_mut()).is_err());
        }
        assert!(rope.apply(Direction::Forward, Array2::<f32>::zeros((4, 4)).view_mut().reversed_axes()).is_err());
        rope.apply(Direction::Forward, Array2::<f32>::zeros((0, 8)).view_mut()).unwrap();
    }
}
