//! The portable path: arrays of sixteen floats that LLVM vectorises for the target's baseline.

use super::element::{pair_of, round_to_bf16};
use super::lane::{LANES, Simd};
use half::bf16;

/// The portable path; it needs nothing of the processor.
#[derive(Clone, Copy)]
pub struct Portable(pub(super) ());

/// `1.5 * 2^23`: adding and subtracting it rounds to a whole number, ties to even.
const ROUND: f32 = 12_582_912.0;

/// The second number of a pair, whose bits are those of the float.
const HIGH: u32 = 0xFFFF_0000;

/// The lower half of a 64-bit lane.
const LOW: u64 = 0xFFFF_FFFF;

/// The first number of a pair.
#[inline(always)]
fn low(pair: u32) -> f32 {
    f32::from_bits(pair << 16)
}

/// The second number of a pair.
#[inline(always)]
fn high(pair: u32) -> f32 {
    f32::from_bits(pair & HIGH)
}

/// `f` of each number. A loop: what `array::map` and `from_fn` are made of may stay a call, several times slower.
#[inline(always)]
fn each<T: Copy, U: Copy + Default, const N: usize>(a: [T; N], f: impl Fn(T) -> U) -> [U; N] {
    let mut out = [U::default(); N];
    for i in 0..N {
        out[i] = f(a[i]);
    }
    out
}

/// `f` of each pair of numbers.
#[inline(always)]
fn zip<T: Copy, U: Copy + Default, const N: usize>(a: [T; N], b: [T; N], f: impl Fn(T, T) -> U) -> [U; N] {
    let mut out = [U::default(); N];
    for i in 0..N {
        out[i] = f(a[i], b[i]);
    }
    out
}

/// `f` of each place.
#[inline(always)]
fn places<U: Copy + Default, const N: usize>(f: impl Fn(usize) -> U) -> [U; N] {
    let mut out = [U::default(); N];
    for i in 0..N {
        out[i] = f(i);
    }
    out
}

impl Simd for Portable {
    type V = [f32; LANES];
    type M = [bool; LANES];
    type P = [u32; LANES];
    type W = [u64; LANES / 2];

    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::V {
        *x
    }
    #[inline(always)]
    fn store(self, out: &mut [f32; LANES], v: Self::V) {
        *out = v;
    }
    #[inline(always)]
    fn load_half(self, x: &[bf16; LANES]) -> Self::V {
        each(*x, |x| f32::from_bits(u32::from(x.to_bits()) << 16))
    }
    #[inline(always)]
    fn store_half(self, out: &mut [bf16; LANES], v: Self::V) {
        *out = each(v, round_to_bf16);
    }
    #[inline(always)]
    fn load_pairs(self, x: &[u32; LANES]) -> Self::P {
        *x
    }
    #[inline(always)]
    fn store_pairs(self, out: &mut [u32; LANES], p: Self::P) {
        *out = p;
    }
    #[inline(always)]
    fn splat_pair(self, x: u32) -> Self::P {
        [x; LANES]
    }
    #[inline(always)]
    fn round_pairs(self, first: Self::V, second: Self::V) -> Self::P {
        zip(first, second, |first, second| pair_of(round_to_bf16(first), round_to_bf16(second)))
    }
    #[inline(always)]
    fn halves(self, p: Self::P) -> [Self::V; 2] {
        [each(p, low), each(p, high)]
    }
    #[inline(always)]
    fn dot(self, a: Self::P, b: Self::P, acc: Self::V) -> Self::V {
        self.fma(each(a, low), each(b, low), self.fma(each(a, high), each(b, high), acc))
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        places(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        each(a, f32::sqrt)
    }
    #[inline(always)]
    fn abs(self, a: Self::V) -> Self::V {
        each(a, f32::abs)
    }
    #[inline(always)]
    fn copysign(self, magnitude: Self::V, sign: Self::V) -> Self::V {
        zip(magnitude, sign, f32::copysign)
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        each(a, |x| (x + ROUND) - ROUND)
    }
    #[inline(always)]
    fn exp2i(self, n: Self::V) -> Self::V {
        self.add_exponent([1.0; LANES], n)
    }
    #[inline(always)]
    fn add_exponent(self, a: Self::V, n: Self::V) -> Self::V {
        // `n + ROUND` holds `n` in its low bits: no conversion, whose saturation would keep LLVM from vectorising.
        zip(a, n, |a, n| f32::from_bits(a.to_bits().wrapping_add((n + ROUND).to_bits() << 23)))
    }
    #[inline(always)]
    fn lt(self, a: Self::V, b: Self::V) -> Self::M {
        zip(a, b, |a, b| a < b)
    }
    #[inline(always)]
    fn select(self, m: Self::M, a: Self::V, b: Self::V) -> Self::V {
        places(|i| if m[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn wide_splat(self, x: u64) -> Self::W {
        [x; LANES / 2]
    }
    #[inline(always)]
    fn wide_count(self, x: u64) -> Self::W {
        places(|i| x.wrapping_add(i as u64))
    }
    #[inline(always)]
    fn wide_mul(self, a: Self::W, b: Self::W) -> Self::W {
        zip(a, b, |a, b| (a & LOW) * (b & LOW))
    }
    #[inline(always)]
    fn wide_xor(self, a: Self::W, b: Self::W) -> Self::W {
        zip(a, b, |a, b| a ^ b)
    }
    #[inline(always)]
    fn wide_high(self, a: Self::W) -> Self::W {
        each(a, |a| a >> 32)
    }
    #[inline(always)]
    fn wide_join(self, a: Self::W, b: Self::W) -> Self::W {
        zip(a, b, |a, b| (a & LOW) | b << 32)
    }
    #[inline(always)]
    fn wide_interleave(self, a: Self::W, b: Self::W) -> [Self::W; 2] {
        let half = |from| places(|i| if i % 2 == 0 { a[from + i / 2] } else { b[from + i / 2] });
        [half(0), half(LANES / 4)]
    }
    #[inline(always)]
    fn wide_at_least(self, a: Self::W, threshold: u32) -> Self::M {
        places(|i| (a[i / 2] >> (32 * (i % 2))) as u32 >= threshold)
    }
}
