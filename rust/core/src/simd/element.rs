//! What numbers are in memory: float32, or bfloat16, which becomes float32 on its way into a register.

use super::lane::{LANES, Simd};
use bytemuck::Pod;
use half::bf16;
use std::fmt::Debug;

/// A number in memory. Kernels that read or write activations are generic over it.
pub trait Element: Pod + PartialEq + Debug + Send + Sync {
    /// Whether it is the narrow one.
    const HALF: bool;

    /// The number nearest to `x`.
    fn from_f32(x: f32) -> Self;
    /// The number, exactly.
    fn to_f32(self) -> f32;
    /// Sixteen of them.
    fn load<S: Simd>(s: S, x: &[Self; LANES]) -> S::V;
    /// Writes sixteen.
    fn store<S: Simd>(s: S, out: &mut [Self; LANES], v: S::V);

    /// Those of `x` (at most sixteen of them are read), the rest of the lanes `fill`.
    fn load_tail<S: Simd>(s: S, x: &[Self], fill: f32) -> S::V;
    /// Writes as many lanes as `out` has room for.
    fn store_tail<S: Simd>(s: S, out: &mut [Self], v: S::V);

    /// The sixteen from `x[at]` on; the lanes behind the end are `fill`. `at` must be within `x`.
    #[inline(always)]
    fn load_at<S: Simd>(s: S, x: &[Self], at: usize, fill: f32) -> S::V {
        match x[at..].first_chunk() {
            Some(chunk) => Self::load(s, chunk),
            None => Self::load_tail(s, &x[at..], fill),
        }
    }

    /// Writes the lanes to `out[at..]`, as many as there is room for. `at` must be within `out`.
    #[inline(always)]
    fn store_at<S: Simd>(s: S, out: &mut [Self], at: usize, v: S::V) {
        match out[at..].first_chunk_mut() {
            Some(chunk) => Self::store(s, chunk, v),
            None => Self::store_tail(s, &mut out[at..], v),
        }
    }
}

impl Element for f32 {
    const HALF: bool = false;

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        x
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[Self; LANES]) -> S::V {
        s.load(x)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, out: &mut [Self; LANES], v: S::V) {
        s.store(out, v);
    }
    #[inline(always)]
    fn load_tail<S: Simd>(s: S, x: &[Self], fill: f32) -> S::V {
        s.load_tail(x, fill)
    }
    #[inline(always)]
    fn store_tail<S: Simd>(s: S, out: &mut [Self], v: S::V) {
        s.store_tail(out, v);
    }
}

impl Element for bf16 {
    const HALF: bool = true;

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        round_to_bf16(x)
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[Self; LANES]) -> S::V {
        s.load_half(x)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, out: &mut [Self; LANES], v: S::V) {
        s.store_half(out, v);
    }
    #[inline(always)]
    fn load_tail<S: Simd>(s: S, x: &[Self], fill: f32) -> S::V {
        s.load_half_tail(x, round_to_bf16(fill))
    }
    #[inline(always)]
    fn store_tail<S: Simd>(s: S, out: &mut [Self], v: S::V) {
        s.store_half_tail(out, v);
    }
}

/// `x` rounded to bfloat16 as the instruction does: to nearest, ties to even, subnormals as zero, NaN as a quiet NaN.
#[inline(always)]
pub fn round_to_bf16(x: f32) -> bf16 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7FFF_FFFF;
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1));
    let kept = if magnitude > 0x7F80_0000 {
        bits | 0x0040_0000
    } else if magnitude < 0x0080_0000 {
        bits & 0x8000_0000
    } else {
        rounded
    };
    bf16::from_bits((kept >> 16) as u16)
}

/// Two numbers as a pair, the first in the lower half.
#[inline(always)]
pub fn pair_of(first: bf16, second: bf16) -> u32 {
    u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, Kernel, dispatch, isa};
    use subgpt_testkit::noise::Noise;

    struct Round<'a>(&'a [f32]);
    impl Kernel for Round<'_> {
        type Output = Vec<u32>;
        const BF16: bool = true;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Vec<u32> {
            let mut out = Vec::new();
            for x in self.0.as_chunks::<LANES>().0 {
                let mut half = [bf16::ZERO; LANES];
                s.store_half(&mut half, s.load(x));
                let mut pairs = [0; LANES];
                s.store_pairs(&mut pairs, s.round_pairs(s.load(x), s.load_half(&half)));
                let back = s.to_array(s.load_half(&half));
                for i in 0..LANES {
                    assert_eq!(back[i].to_bits() >> 16, u32::from(half[i].to_bits()));
                    assert_eq!(pairs[i] & 0xFFFF, u32::from(half[i].to_bits()), "{:x}", x[i].to_bits());
                    assert_eq!(pairs[i] >> 16, u32::from(half[i].to_bits()), "{:x}", x[i].to_bits());
                }
                out.extend(half.map(|x| u32::from(x.to_bits())));
            }
            out
        }
    }

    struct Dot<'a>(&'a [f32], &'a [f32], &'a [f32]);
    impl Kernel for Dot<'_> {
        type Output = Vec<f32>;
        const BF16: bool = true;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Vec<f32> {
            let (a, b, c) = (self.0.as_chunks::<LANES>().0, self.1.as_chunks::<LANES>().0, self.2.as_chunks().0);
            let mut out = Vec::new();
            for i in 0..c.len() {
                let pa = s.round_pairs(s.load(&a[2 * i]), s.load(&a[2 * i + 1]));
                let pb = s.round_pairs(s.load(&b[2 * i]), s.load(&b[2 * i + 1]));
                out.extend(s.to_array(s.dot(pa, pb, s.load(&c[i]))));
            }
            out
        }
    }

    #[test]
    fn rounding_has_the_same_bits_everywhere() {
        // Every pattern of the upper half with lower halves around the tie.
        let x: Vec<f32> = (0..=u16::MAX)
            .flat_map(|high| {
                [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF].map(|low| f32::from_bits(u32::from(high) << 16 | low))
            })
            .collect();
        let wanted: Vec<u32> = x.iter().map(|&x| u32::from(round_to_bf16(x).to_bits())).collect();
        for isa in isa::available() {
            let got = dispatch(isa, Round(&x));
            for i in 0..got.len() {
                assert_eq!(got[i], wanted[i], "{} of {:x}", isa.name(), x[i].to_bits());
            }
        }
        for &x in x.iter().filter(|x| x.is_normal()) {
            let (ours, half) = (round_to_bf16(x).to_bits(), bf16::from_f32(x).to_bits());
            assert_eq!(ours, half, "{:x}", x.to_bits());
        }
    }

    struct Tails<'a>(&'a [bf16; LANES], usize);
    impl Kernel for Tails<'_> {
        type Output = [bf16; LANES];
        const BF16: bool = true;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> [bf16; LANES] {
            let mut out = [bf16::NAN; LANES];
            bf16::store_tail(s, &mut out[..self.1], bf16::load_tail(s, &self.0[..self.1], 7.0));
            out
        }
    }

    #[test]
    fn tails_are_written_up_to_their_end() {
        let x: [bf16; LANES] = std::array::from_fn(|i| bf16::from_f32(i as f32 - 3.5));
        for isa in isa::available() {
            for n in 0..=LANES {
                let out = dispatch(isa, Tails(&x, n));
                assert!(out[..n] == x[..n] && out[n..].iter().all(|x| x.is_nan()), "{} of {n}", isa.name());
            }
        }
    }

    #[test]
    fn dot_products_are_within_two_roundings() {
        let mut noise = Noise::new(1);
        let n = 1 << 14;
        let (a, b, c) = (noise.normal(2 * n, 1.0), noise.normal(2 * n, 1.0), noise.normal(n, 1.0));
        let at = |x: &[f32], i: usize, odd: usize| {
            f64::from(round_to_bf16(x[(2 * (i / LANES) + odd) * LANES + i % LANES]).to_f32())
        };
        for isa in isa::available() {
            let got = dispatch(isa, Dot(&a, &b, &c));
            for i in 0..n {
                let parts = [f64::from(c[i]), at(&a, i, 0) * at(&b, i, 0), at(&a, i, 1) * at(&b, i, 1)];
                let size: f64 = parts.iter().map(|x| x.abs()).sum();
                let error = (f64::from(got[i]) - parts.iter().sum::<f64>()).abs();
                assert!(error <= 3e-7 * size, "{}: {error:e} of {parts:?}", isa.name());
            }
        }
    }

    #[test]
    fn avx2_and_avx512_give_the_same_dot_products() {
        if !Isa::Avx512.is_available() {
            return;
        }
        let mut noise = Noise::new(2);
        let (a, b, c) = (noise.normal(4096, 1.0), noise.normal(4096, 1.0), noise.normal(2048, 1.0));
        let [narrow, wide] = [Isa::Avx2, Isa::Avx512].map(|isa| dispatch(isa, Dot(&a, &b, &c)));
        assert_eq!(narrow, wide);
    }
}
