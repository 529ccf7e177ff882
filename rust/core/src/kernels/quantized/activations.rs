//! Rows of activations in 8 bits: what meets weights that are integers.
//!
//! Every 32 numbers have a scale, which takes the largest of them to 127; quotients are rounded to nearest, ties to even.
//! Products of integers are exact, so it is here that a product with weights in few bits rounds.

use super::layout::BLOCK;
use crate::simd::{Element, Kernel, LANES, Simd};

/// Rows of a matrix in 8 bits.
#[derive(Clone, Copy)]
pub struct Activations<'a> {
    /// The integers, 32 a block, those of a row one after the other.
    pub numbers: &'a [i8],
    /// The scale of each block.
    pub scales: &'a [f32],
    /// The sum of the integers of each block.
    pub sums: &'a [i32],
    /// Blocks of a row.
    pub blocks: usize,
}

/// Makes the [`Activations`] of one row, whose last block is filled up with zeros.
pub struct Quantize<'a, E> {
    /// The row.
    pub x: &'a [E],
    /// Its integers.
    pub numbers: &'a mut [i8],
    /// Its scales.
    pub scales: &'a mut [f32],
    /// Its sums.
    pub sums: &'a mut [i32],
}

impl<E: Element> Kernel for Quantize<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let blocks = self.numbers.as_chunks_mut::<BLOCK>().0.iter_mut().zip(self.scales).zip(self.sums);
        for (b, ((numbers, scale), sum)) in blocks.enumerate() {
            let x: [S::V; BLOCK / LANES] = std::array::from_fn(|i| {
                let at = b * BLOCK + i * LANES;
                if at < self.x.len() { E::load_at(s, self.x, at, 0.0) } else { s.splat(0.0) }
            });
            let largest = s.reduce_max(s.max(s.abs(x[0]), s.abs(x[1])));
            // Nothing, but where a number is NaN or infinite: maxima and integers pass over that, the scale carries it on.
            let zero = s.splat(0.0);
            let poison = s.reduce_add(s.fma(x[0], zero, s.mul(x[1], zero)));
            let step = largest / 127.0 + poison;
            // Numbers that vanish beside 2^-126 are zeros here too: their scale would have no inverse.
            let inverse = if step >= f32::MIN_POSITIVE { 1.0 / step } else { 0.0 };
            let mut rounded = [0.0f32; BLOCK];
            for (x, rounded) in x.into_iter().zip(rounded.as_chunks_mut().0) {
                s.store(rounded, s.round(s.mul(x, s.splat(inverse))));
            }
            *scale = step;
            *sum = 0;
            for (number, x) in numbers.iter_mut().zip(rounded) {
                let integer = x as i32;
                *number = integer as i8;
                *sum += integer;
            }
        }
    }
}
