//! Rotary position embedding.
//!
//! ```text
//! (a, b) -> (a cos f - b sin f, a sin f + b cos f)        f = position * inverse_frequency[i],  pair i of a head
//! inverse_frequency[i] = theta^(-2 i / dim)
//! ```
//!
//! The two conventions differ in which numbers of a head make a pair ([`Pairing`]). `x` is `(rows, heads * dim)`, rotated in
//! place; row `r` stands at `positions[r % positions.len()]`, so that a batch of sequences shares one table. The backward
//! pass is the rotation by the negative angle, applied to the gradient.
//!
//! Angles are computed in f64: at position 100,000 an angle in f32 is off by 0.004.
//!
//! Su et al.: "RoFormer", 2021; `apply_rotary_pos_emb` of Hugging Face (half), llama2.c (interleaved).

use super::check;
use super::rows::{self, check_rows};
use crate::error::{Error, Result};
use crate::simd::{Kernel, LANES, Simd, dispatch, isa};
use ndarray::ArrayViewMut2;

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

/// Cosines and sines of a list of positions.
#[derive(Clone, Debug)]
pub struct Rope {
    pairing: Pairing,
    dim: usize,
    positions: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// `theta^(-2 i / dim)` for every pair of a head.
pub fn inverse_frequencies(dim: usize, theta: f64) -> Vec<f64> {
    (0..dim / 2).map(|i| theta.powf(-2.0 * i as f64 / dim as f64)).collect()
}

impl Rope {
    /// The table of `positions` for heads of `dim` numbers.
    pub fn new(pairing: Pairing, dim: usize, theta: f64, positions: &[usize]) -> Result<Self> {
        if dim == 0 || !dim.is_multiple_of(2) {
            return Err(Error::value("rope", "dim", dim, "the head size must be even and not 0"));
        }
        if !(theta > 0.0 && theta.is_finite()) {
            return Err(Error::value("rope", "theta", theta, "theta must be positive"));
        }
        Self::with_frequencies(pairing, &inverse_frequencies(dim, theta), positions)
    }

    /// The table for given inverse frequencies, one a pair (scaled ones of Llama 3, linear scaling).
    pub fn with_frequencies(pairing: Pairing, inverse_frequencies: &[f64], positions: &[usize]) -> Result<Self> {
        if inverse_frequencies.is_empty() {
            return Err(Error::value("rope", "inverse_frequencies", "empty", "a head must have a pair"));
        }
        let angles = || positions.iter().flat_map(|&p| inverse_frequencies.iter().map(move |f| p as f64 * f));
        Ok(Rope {
            pairing,
            dim: 2 * inverse_frequencies.len(),
            positions: positions.len(),
            cos: angles().map(|a| a.cos() as f32).collect(),
            sin: angles().map(|a| a.sin() as f32).collect(),
        })
    }

    /// Rotates every head of every row of `x`.
    pub fn apply(&self, direction: Direction, x: ArrayViewMut2<f32>) -> Result<()> {
        const OP: &str = "rope";
        let (n, width) = x.dim();
        check_rows!(OP, [n, width], x);
        check::shape(OP, "heads", &[width], &[width.next_multiple_of(self.dim)])?;
        if n > 0 && (self.positions == 0 || !n.is_multiple_of(self.positions)) {
            let expected = format!("rows must be whole sequences of {} positions", self.positions);
            return Err(Error::value(OP, "rows", n, expected));
        }
        let (isa, size) = (isa::current(), rows::task_rows(width));
        rows::each(n * width, rows::blocks_mut(x, size), |i, x| {
            dispatch(isa, Rotate { rope: self, direction, first: i * size, x });
        });
        Ok(())
    }
}

struct Rotate<'a> {
    rope: &'a Rope,
    direction: Direction,
    first: usize,
    x: ArrayViewMut2<'a, f32>,
}

impl Kernel for Rotate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let half = self.rope.dim / 2;
        let sign = if self.direction == Direction::Forward { 1.0 } else { -1.0 };
        for i in 0..self.x.nrows() {
            let at = (self.first + i) % self.rope.positions * half;
            let (cos, sin) = (&self.rope.cos[at..at + half], &self.rope.sin[at..at + half]);
            for head in rows::row_mut(&mut self.x, i).chunks_exact_mut(self.rope.dim) {
                match self.rope.pairing {
                    Pairing::Half => rotate_halves(s, head, cos, sin, sign),
                    Pairing::Interleaved => rotate_neighbours(head, cos, sin, sign),
                }
            }
        }
    }
}

#[inline(always)]
fn rotate_halves<S: Simd>(s: S, head: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
    let (low, high) = head.split_at_mut(cos.len());
    for at in (0..low.len()).step_by(LANES) {
        let (a, b) = (s.load_at(low, at, 0.0), s.load_at(high, at, 0.0));
        let (cos, sin) = (s.load_at(cos, at, 0.0), s.mul(s.load_at(sin, at, 0.0), s.splat(sign)));
        s.store_at(low, at, s.sub(s.mul(a, cos), s.mul(b, sin)));
        s.store_at(high, at, s.add(s.mul(a, sin), s.mul(b, cos)));
    }
}

/// The same products and sums as [`rotate_halves`]; the compiler makes the shuffles.
#[inline(always)]
fn rotate_neighbours(head: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
    for ((pair, &cos), &sin) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
        let sin = sin * sign;
        let [a, b] = *pair;
        *pair = [a * cos - b * sin, a * sin + b * cos];
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::testing::{assert_same_bits, inner, matrix, on_each_isa, within};
    use super::*;
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
            let rope = Rope::new(pairing, dim, theta, &positions).unwrap();
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
        let table = |pairing| Rope::new(pairing, dim, 500_000.0, &[7, 0, 1003]).unwrap();
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
    fn bits_do_not_depend_on_threads() {
        let x = matrix(&mut Noise::new(2), 600, 96, 1.0);
        for pairing in [Pairing::Half, Pairing::Interleaved] {
            let rope = Rope::new(pairing, 32, 10_000.0, &(0..200).collect::<Vec<_>>()).unwrap();
            assert_same_bits(|| rotated(&rope, Direction::Forward, &x));
        }
    }

    #[test]
    fn wrong_shapes_are_errors() {
        assert!(Rope::new(Pairing::Half, 5, 1e4, &[0]).is_err());
        assert!(Rope::new(Pairing::Half, 0, 1e4, &[0]).is_err());
        assert!(Rope::new(Pairing::Half, 4, f64::NAN, &[0]).is_err());
        assert!(Rope::with_frequencies(Pairing::Half, &[], &[0]).is_err());
        let rope = Rope::new(Pairing::Half, 4, 1e4, &[0, 1]).unwrap();
        for shape in [(2, 6), (3, 8), (2, 3)] {
            assert!(rope.apply(Direction::Forward, Array2::zeros(shape).view_mut()).is_err());
        }
        assert!(rope.apply(Direction::Forward, Array2::zeros((4, 4)).view_mut().reversed_axes()).is_err());
        rope.apply(Direction::Forward, Array2::zeros((0, 8)).view_mut()).unwrap();
    }
}
