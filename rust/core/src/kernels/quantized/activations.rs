//! Rows of activations in few bits: what meets weights that are integers.
//!
//! Every 32 numbers have a scale, a power of two, which takes the largest of them to 128 or more and at most 254; quotients
//! are rounded to nearest, ties to even. Such a number is one of bfloat16 too ([`RoundBlocks`]), so the products of a block
//! with integers, and their sum, are exact whether integers are multiplied ([`Quantize`]) or bfloat16: it is here alone that a
//! product with weights in few bits rounds. Bytes hold no number of 9 bits, but two do whose sum it is.

use super::layout::BLOCK;
use crate::simd::{Element, Kernel, LANES, Simd, bf16};

/// Rows of a matrix in few bits.
#[derive(Clone, Copy)]
pub struct Activations<'a> {
    /// Two integers for each number, whose sum it is: 32 a block, those of a row one after the other.
    pub planes: [&'a [i8]; 2],
    /// The scale of each block.
    pub scales: &'a [f32],
    /// The sum of the numbers of each block, in its steps.
    pub sums: &'a [i32],
    /// Blocks of a row.
    pub blocks: usize,
}

/// A number so large that of what is added to it the integers are left, to nearest and ties to even, in the last bits.
const SHIFT: f32 = 1.5 * (1 << 23) as f32;

/// The largest integer: two bytes make it, also with the other sign.
const LARGEST: f32 = 254.0;

/// Bits of a float's exponent, and where they begin.
const EXPONENT: u32 = 0x7F80_0000;
const MANTISSA_BITS: u32 = 23;

/// Bits of an integer that the largest number of a block has behind its first.
const BITS: u32 = 7;

/// The step of a block whose largest magnitude is given, and its inverse; none (0, 0) where the step would be subnormal.
#[inline(always)]
fn step(largest: f32) -> (f32, f32) {
    let exponent = largest.to_bits() & EXPONENT;
    if exponent <= BITS << MANTISSA_BITS {
        return (0.0, 0.0);
    }
    let step = exponent - (BITS << MANTISSA_BITS);
    (f32::from_bits(step), f32::from_bits((254 << MANTISSA_BITS) - step))
}

/// Both halves of block `b` of a row, filled up with zeros.
#[inline(always)]
fn load<E: Element, S: Simd>(s: S, x: &[E], b: usize) -> (S::V, S::V) {
    match x.as_chunks::<LANES>().0.get(2 * b..2 * b + 2) {
        Some(both) => (E::load(s, &both[0]), E::load(s, &both[1])),
        None => {
            let rest = &x[(b * BLOCK).min(x.len())..];
            let (low, high) = rest.split_at(rest.len().min(LANES));
            (E::load_at(s, low, 0, 0.0), E::load_at(s, high, 0, 0.0))
        }
    }
}

/// The largest magnitude of a block.
#[inline(always)]
fn largest<S: Simd>(s: S, low: S::V, high: S::V) -> f32 {
    s.reduce_max(s.max(s.abs(low), s.abs(high)))
}

/// The quotients, with the integers that they are rounded to in their last bits. The bounds are for the few that are nearer
/// to 255 or 256, and for what is not a number, which becomes one of them.
#[inline(always)]
fn shifted<S: Simd>(s: S, x: S::V, inverse: S::V) -> S::V {
    let bounded = s.min(s.max(s.mul(x, inverse), s.splat(-LARGEST)), s.splat(LARGEST));
    s.add(bounded, s.splat(SHIFT))
}

/// Adds nothing, but where a number is NaN or infinite: maxima and integers pass over that.
#[inline(always)]
fn poisoned<S: Simd>(s: S, low: S::V, high: S::V, poison: S::V) -> S::V {
    s.fma(low, s.splat(0.0), s.fma(high, s.splat(0.0), poison))
}

/// Makes the [`Activations`] of one row, whose last block is filled up with zeros.
pub struct Quantize<'a, E> {
    /// The row.
    pub x: &'a [E],
    /// Its integers.
    pub planes: [&'a mut [i8]; 2],
    /// Its scales.
    pub scales: &'a mut [f32],
    /// Its sums.
    pub sums: &'a mut [i32],
}

impl<E: Element> Kernel for Quantize<'_, E> {
    type Output = ();
    const BF16: bool = E::HALF;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [first, second] = self.planes;
        let planes = first.as_chunks_mut::<BLOCK>().0.iter_mut().zip(second.as_chunks_mut::<BLOCK>().0);
        let mut poison = s.splat(0.0);
        for (b, (((first, second), scale), sum)) in planes.zip(&mut *self.scales).zip(self.sums).enumerate() {
            let (low, high) = load(s, self.x, b);
            poison = poisoned(s, low, high, poison);
            let (step, inverse) = step(largest(s, low, high));
            let inverse = s.splat(inverse);
            let mut quotients = [0.0f32; BLOCK];
            let (low_half, high_half) = quotients.split_at_mut(LANES);
            s.store_at(low_half, 0, shifted(s, low, inverse));
            s.store_at(high_half, 0, shifted(s, high, inverse));
            *scale = step;
            // Plain loops, which the compiler turns into vectors: a conversion that minds NaN is none.
            let mut integers = [0i32; BLOCK];
            for (integer, x) in integers.iter_mut().zip(quotients) {
                *integer = x.to_bits().wrapping_sub(SHIFT.to_bits()) as i32;
            }
            *sum = integers.iter().sum();
            for ((first, second), integer) in first.iter_mut().zip(second).zip(integers) {
                // Half of it, towards zero, and the rest.
                let half = (integer - (integer >> 31)) >> 1;
                *first = half as i8;
                *second = (integer - half) as i8;
            }
        }
        if let Some(scale) = self.scales.first_mut() {
            *scale += s.reduce_add(poison);
        }
    }
}

/// Rounds a row to the same numbers, as bfloat16.
pub struct RoundBlocks<'a, E> {
    /// The row.
    pub x: &'a [E],
    /// Where it goes, in whole blocks.
    pub out: &'a mut [bf16],
}

impl<E: Element> Kernel for RoundBlocks<'_, E> {
    type Output = ();
    const BF16: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut poison = s.splat(0.0);
        for (b, out) in self.out.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            let (low, high) = load(s, self.x, b);
            poison = poisoned(s, low, high, poison);
            let (step, inverse) = step(largest(s, low, high));
            let (step, inverse, shift) = (s.splat(step), s.splat(inverse), s.splat(SHIFT));
            let (first, second) = out.split_at_mut(LANES);
            bf16::store_at(s, first, 0, s.mul(s.sub(shifted(s, low, inverse), shift), step));
            bf16::store_at(s, second, 0, s.mul(s.sub(shifted(s, high, inverse), shift), step));
        }
        if let (true, Some(first)) = (s.reduce_add(poison).is_nan(), self.out.first_mut()) {
            *first = bf16::NAN;
        }
    }
}
