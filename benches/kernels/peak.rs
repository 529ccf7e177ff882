//! The processor's peaks in float32 and bfloat16: independent multiply-adds in registers and nothing else.

use subgpt_core::parallel;
use subgpt_core::simd::{Kernel, LANES, Simd, dispatch, isa};

/// Chains of one vector each: enough to hide the latency of an addition on every instruction set.
const CHAINS: usize = 12;
const STEPS: usize = 1 << 16;

/// Floating-point operations of a thread of [`multiply_adds`].
pub const FLOPS: usize = 2 * LANES * CHAINS * STEPS;

/// Floating-point operations of a thread of [`dot_products`].
pub const DOT_FLOPS: usize = 2 * FLOPS;

struct Chains(f32);

impl Kernel for Chains {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (factor, mut sums) = (s.splat(self.0), [s.splat(0.5); CHAINS]);
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = s.fma(*sum, factor, factor);
            }
        }
        sums.iter().map(|&sum| s.reduce_add(sum)).sum()
    }
}

/// Runs [`FLOPS`] operations on each of `threads` threads.
pub fn multiply_adds(threads: usize) -> f32 {
    let isa = isa::current();
    parallel::collect(threads, |i| dispatch(isa, Chains(0.25 + i as f32 * 1e-3))).iter().sum()
}

struct Dots(u32);

impl Kernel for Dots {
    type Output = f32;
    const BF16: bool = true;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (pair, mut sums) = (s.splat_pair(self.0), [s.splat(0.5); CHAINS]);
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = s.dot(pair, pair, *sum);
            }
        }
        sums.iter().map(|&sum| s.reduce_add(sum)).sum()
    }
}

/// Runs [`DOT_FLOPS`] operations on pairs of bfloat16 numbers on each of `threads` threads.
pub fn dot_products(threads: usize) -> f32 {
    let isa = isa::current();
    parallel::collect(threads, |i| dispatch(isa, Dots(0x3E80_3E80 + i as u32))).iter().sum()
}
