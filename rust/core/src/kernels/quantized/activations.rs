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

/// A number so large that of what is added to it the integers are left, to nearest and ties to even, in the last bits.
const SHIFT: f32 = 1.5 * (1 << 23) as f32;

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
            let mut shifted = [0.0f32; BLOCK];
            for (x, shifted) in x.into_iter().zip(shifted.as_chunks_mut().0) {
                // The bounds are for what is not a number, which becomes one of them.
                let bounded = s.min(s.max(s.mul(x, s.splat(inverse)), s.splat(-127.0)), s.splat(127.0));
                s.store(shifted, s.add(bounded, s.splat(SHIFT)));
            }
            *scale = step;
            // Plain loops, which the compiler turns into vectors: a conversion that minds NaN is none.
            let mut integers = [0i32; BLOCK];
            for (integer, x) in integers.iter_mut().zip(shifted) {
                *integer = x.to_bits().wrapping_sub(SHIFT.to_bits()) as i32;
            }
            *sum = integers.iter().sum();
            for (number, integer) in numbers.iter_mut().zip(integers) {
                *number = integer as i8;
            }
        }
    }
}
