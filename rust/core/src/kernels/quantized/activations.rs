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
        let blocks = self.numbers.as_chunks_mut::<BLOCK>().0.iter_mut().zip(&mut *self.scales).zip(self.sums);
        // Nothing, but where a number is NaN or infinite: maxima and integers pass over that, a scale carries it on.
        let mut poison = s.splat(0.0);
        let zero = s.splat(0.0);
        let halves = self.x.as_chunks::<LANES>().0;
        for (b, ((numbers, scale), sum)) in blocks.enumerate() {
            let (low, high) = match halves.get(2 * b..2 * b + 2) {
                Some(both) => (E::load(s, &both[0]), E::load(s, &both[1])),
                None => {
                    let rest = &self.x[(b * BLOCK).min(self.x.len())..];
                    let (low, high) = rest.split_at(rest.len().min(LANES));
                    (E::load_at(s, low, 0, 0.0), E::load_at(s, high, 0, 0.0))
                }
            };
            poison = s.fma(low, zero, s.fma(high, zero, poison));
            let step = s.reduce_max(s.max(s.abs(low), s.abs(high))) / 127.0;
            // Numbers that vanish beside 2^-126 are zeros here too: their scale would have no inverse.
            let inverse = s.splat(if step >= f32::MIN_POSITIVE { 1.0 / step } else { 0.0 });
            let mut shifted = [0.0f32; BLOCK];
            let [first, second] = shifted.as_chunks_mut::<LANES>().0 else { unreachable!("a block is two vectors") };
            s.store(first, shift(s, low, inverse));
            s.store(second, shift(s, high, inverse));
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
        if let Some(scale) = self.scales.first_mut() {
            *scale += s.reduce_add(poison);
        }
    }
}

/// The quotients, with the integers that they are rounded to in their last bits. The bounds are for what is not a number,
/// which becomes one of them.
#[inline(always)]
fn shift<S: Simd>(s: S, x: S::V, inverse: S::V) -> S::V {
    let bounded = s.min(s.max(s.mul(x, inverse), s.splat(-127.0)), s.splat(127.0));
    s.add(bounded, s.splat(SHIFT))
}
