//! Rows of activations in few bits: what meets weights that are integers.
//!
//! Every 32 numbers have a scale, a power of two, which takes the largest of them to 127 or more and at most 254; quotients
//! are rounded to nearest, ties to even. Such a number is one of bfloat16 too ([`RoundBlocks`]), so the products of a block
//! with integers, and their sum, are exact whether integers are multiplied ([`Quantize`]) or bfloat16: it is here alone that a
//! product with weights in few bits rounds. Bytes hold no number of 9 bits, but two do whose sum it is ([`Form`]).

use super::layout::BLOCK;
use crate::simd::{Element, Kernel, LANES, Simd, bf16};

/// How integers of 9 bits lie in two planes of as many bytes as there are numbers. Four numbers that meet four columns of
/// weights are four bytes of both planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A byte of each plane, whose sum it is: where the processor adds up products of four bytes.
    Bytes,
    /// Sixteen bits, the first and third of four in one plane, the second and fourth in the other: where it adds up products
    /// of two such numbers. Weights are spread by a mask and a shift, without a move between lanes.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // only AVX2 asks for it
    Words,
}

/// Rows of a matrix in few bits.
#[derive(Clone, Copy)]
pub struct Activations<'a> {
    /// The integers, in the [`Form`] that they were made for: 32 bytes a block, those of a row one after the other.
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

/// What a mantissa of more than 254 / 128 lacks to the next exponent.
const LACKING: u32 = (1 << (MANTISSA_BITS - 6)) - 1;

/// The step of a block whose largest magnitude is given, and its inverse; none (0, 0) where the step would be subnormal.
#[inline(always)]
fn step(largest: f32) -> (f32, f32) {
    let exponent = (largest.to_bits() + LACKING) & EXPONENT;
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

/// The quotients, with the integers that they are rounded to in their last bits. The bounds are for what is not a number,
/// which becomes one of them.
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
    /// What its integers are to look like.
    pub form: Form,
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
            match self.form {
                Form::Bytes => {
                    for ((first, second), integer) in first.iter_mut().zip(second).zip(integers) {
                        // Half of it, towards zero, and the rest.
                        let half = (integer - (integer >> 31)) >> 1;
                        *first = half as i8;
                        *second = (integer - half) as i8;
                    }
                }
                Form::Words => {
                    let fours = first.as_chunks_mut::<4>().0.iter_mut().zip(second.as_chunks_mut::<4>().0);
                    for ((first, second), integers) in fours.zip(integers.as_chunks::<4>().0) {
                        *first = words(integers[0], integers[2]);
                        *second = words(integers[1], integers[3]);
                    }
                }
            }
        }
        if let Some(scale) = self.scales.first_mut() {
            *scale += s.reduce_add(poison);
        }
    }
}

/// Two integers as numbers of 16 bits, one after the other.
#[inline(always)]
fn words(first: i32, second: i32) -> [i8; 4] {
    bytemuck::must_cast([first as i16, second as i16])
}

/// Rounds a row to the same numbers, as bfloat16.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // what multiplies them is of that processor
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::rows::testing::on_each_isa;
    use crate::simd::{dispatch, isa};
    use subgpt_testkit::noise::Noise;

    /// The row as integers times scales, and as bfloat16.
    fn rounded(x: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<i32>) {
        let blocks = x.len().div_ceil(BLOCK);
        let mut planes = [vec![0i8; blocks * BLOCK], vec![0i8; blocks * BLOCK]];
        let (mut scales, mut sums, mut out) = (vec![0.0; blocks], vec![0; blocks], vec![bf16::ZERO; blocks * BLOCK]);
        let [first, second] = &mut planes;
        let form = Form::Bytes;
        let kernel = Quantize { x, form, planes: [first, second], scales: &mut scales, sums: &mut sums };
        dispatch(isa::current(), kernel);
        dispatch(isa::current(), RoundBlocks { x, out: &mut out });
        let integers: Vec<i32> = planes[0].iter().zip(&planes[1]).map(|(&a, &b)| i32::from(a) + i32::from(b)).collect();
        let [first, second] = &mut planes;
        let kernel = Quantize { x, form: Form::Words, planes: [first, second], scales: &mut scales, sums: &mut sums };
        dispatch(isa::current(), kernel);
        let mut spread = Vec::new();
        for (even, odd) in planes[0].chunks(2).zip(planes[1].chunks(2)) {
            spread.extend([even, odd].map(|word| i32::from(i16::from_le_bytes([word[0] as u8, word[1] as u8]))));
        }
        // Of four the first and third lie in one plane, so that taking turns gives their order back.
        assert_eq!(spread, integers);
        let floats = integers.iter().enumerate().map(|(i, &n)| n as f32 * scales[i / BLOCK]).collect();
        assert!(integers.chunks(BLOCK).zip(&sums).all(|(block, &sum)| block.iter().sum::<i32>() == sum));
        (floats, out.iter().map(|x| x.to_f32()).collect(), integers)
    }

    #[test]
    fn both_ways_give_the_same_numbers_within_half_a_step() {
        let mut noise = Noise::new(8);
        for len in [1, 15, 16, 17, 31, 32, 33, 100, 3200] {
            let mut x = noise.normal(len, 3.0);
            x[0] = [255.6, 254.0, 254.1, -127.5, 1e-3][len % 5];
            on_each_isa(|| {
                let (floats, halves, integers) = rounded(&x);
                assert_eq!(floats, halves);
                assert!(floats[len..].iter().all(|&x| x == 0.0));
                for ((x, y), integers) in x.chunks(BLOCK).zip(floats.chunks(BLOCK)).zip(integers.chunks(BLOCK)) {
                    let largest = x.iter().fold(0f32, |most, x| most.max(x.abs()));
                    let most = integers.iter().map(|n| n.abs()).max();
                    assert!((127..=254).contains(&most.unwrap()), "{most:?}");
                    assert!(x.iter().zip(y).all(|(x, y)| (x - y).abs() <= largest / 127.0 / 2.0 * 1.0001));
                }
            });
        }
    }

    #[test]
    fn what_has_no_step_is_nothing_and_what_is_no_number_stays_none() {
        on_each_isa(|| {
            let (floats, halves, _) = rounded(&[1e-37; 40]);
            assert!(floats.iter().chain(&halves).all(|&x| x == 0.0));
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = [1.0; 70];
                x[45] = bad;
                let (floats, halves, _) = rounded(&x);
                assert!(floats.iter().any(|x| x.is_nan()) && halves.iter().any(|x| x.is_nan()));
            }
        });
    }
}
