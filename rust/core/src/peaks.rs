//! What this machine can do at most, measured: arithmetic in registers, and streams through memory.

use crate::buffer::Buffer;
use crate::error::Result;
use crate::parallel;
#[cfg(target_arch = "x86_64")]
use crate::simd::amx;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch, isa};
use std::time::{Duration, Instant};

/// Chains of one vector each: enough to hide the latency of an addition, and no more than there are registers for.
const CHAINS: usize = 12;
/// The same where a vector takes two registers or more.
const NARROW_CHAINS: usize = 6;
const STEPS: usize = 1 << 16;

/// Floats of each stream: far beyond the caches.
const STREAM: usize = 32 << 20;
/// Floats of a task.
const CHUNK: usize = 1 << 18;

/// The machine's limits with all threads.
#[derive(Clone, Copy, Debug)]
pub struct Peaks {
    /// Operations a second on float32 numbers, two for each multiply-add.
    pub float32: f64,
    /// Operations a second of bfloat16 dot products, of whole tiles where there are tiles.
    pub bfloat16: f64,
    /// Bytes a second read from memory.
    pub read: f64,
    /// Bytes a second read and written by a copy.
    pub copy: f64,
}

impl Peaks {
    /// Measures for some `seconds`; of each limit the best that was seen.
    pub fn measure(seconds: f64) -> Result<Peaks> {
        let mut from = Buffer::zeros(STREAM, "memory to be measured")?;
        let mut to = Buffer::zeros(STREAM, "memory to be measured")?;
        let mut best = Peaks { float32: 0.0, bfloat16: 0.0, read: 0.0, copy: 0.0 };
        let seconds = if seconds > 0.0 { seconds.min(3600.0) } else { 0.0 }; // what is no number is none
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        parallel::install(|| {
            // Memory that was never written is one page of zeros, which a cache holds.
            for stream in [&mut from, &mut to] {
                parallel::for_each_chunk(stream, CHUNK, |_, x| x.fill(1.0));
            }
            loop {
                best.float32 = best.float32.max(rate(products::<Floats>));
                best.bfloat16 = best.bfloat16.max(rate(products::<Halves>));
                best.read = best.read.max(rate(|| read(&from)));
                best.copy = best.copy.max(rate(|| copy(&from, &mut to)));
                if Instant::now() >= end {
                    break;
                }
            }
        });
        Ok(best)
    }
}

/// What `work` says it did, for each second that it took.
fn rate(work: impl FnOnce() -> f64) -> f64 {
    let begin = Instant::now();
    let done = work();
    done / begin.elapsed().as_secs_f64()
}

/// Chains of multiply-adds of one kind on every thread; their number of operations.
pub fn products<K: Chains>() -> f64 {
    let (isa, threads) = (isa::current(), parallel::num_threads());
    let sums = parallel::collect(threads, |i| K::run(isa, 0.25 + i as f32 * 1e-3));
    std::hint::black_box(sums);
    (threads * 2 * K::products(isa)) as f64
}

/// A kind of multiply-add.
pub trait Chains {
    /// Multiply-adds of all chains of a thread.
    fn products(isa: Isa) -> usize;
    /// The sum of all chains, so that none is left out.
    fn run(isa: Isa, factor: f32) -> f32;
}

/// Fused multiply-adds of float32 numbers.
pub struct Floats;

impl Chains for Floats {
    fn products(isa: Isa) -> usize {
        LANES * chains(isa) * STEPS
    }
    fn run(isa: Isa, factor: f32) -> f32 {
        dispatch(isa, FloatChains(factor))
    }
}

/// Dot products of pairs of bfloat16 numbers, in tiles where there are tiles.
pub struct Halves;

impl Chains for Halves {
    fn products(isa: Isa) -> usize {
        #[cfg(target_arch = "x86_64")]
        if isa == Isa::Amx {
            return 4 * STEPS * amx::PRODUCTS;
        }
        2 * LANES * chains(isa) * STEPS
    }
    fn run(isa: Isa, factor: f32) -> f32 {
        #[cfg(target_arch = "x86_64")]
        if isa == Isa::Amx {
            return amx::chains(factor, STEPS);
        }
        dispatch(isa, HalfChains(factor))
    }
}

fn chains(isa: Isa) -> usize {
    if matches!(isa, Isa::Portable | Isa::Avx2) { NARROW_CHAINS } else { CHAINS }
}

struct FloatChains(f32);

impl Kernel for FloatChains {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        if S::WIDE { self.chains::<S, CHAINS>(s) } else { self.chains::<S, NARROW_CHAINS>(s) }
    }
}

impl FloatChains {
    #[inline(always)]
    fn chains<S: Simd, const N: usize>(self, s: S) -> f32 {
        let (factor, mut sums) = (s.splat(self.0), [s.splat(0.5); N]);
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = s.fma(*sum, factor, factor);
            }
        }
        sums.iter().map(|&sum| s.reduce_add(sum)).sum()
    }
}

struct HalfChains(f32);

impl Kernel for HalfChains {
    type Output = f32;
    const BF16: bool = true;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        if S::WIDE { self.chains::<S, CHAINS>(s) } else { self.chains::<S, NARROW_CHAINS>(s) }
    }
}

impl HalfChains {
    #[inline(always)]
    fn chains<S: Simd, const N: usize>(self, s: S) -> f32 {
        let factor = s.round_pairs(s.splat(self.0), s.splat(-self.0));
        let mut sums = [s.splat(0.5); N];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = s.dot(factor, factor, *sum);
            }
        }
        sums.iter().map(|&sum| s.reduce_add(sum)).sum()
    }
}

/// Reads a stream; its bytes.
fn read(from: &[f32]) -> f64 {
    let bytes = size_of_val(from) as f64;
    let isa = isa::current();
    let sums = parallel::collect(from.len() / CHUNK, |i| dispatch(isa, Sum(&from[i * CHUNK..(i + 1) * CHUNK])));
    std::hint::black_box(sums);
    bytes
}

struct Sum<'a>(&'a [f32]);

impl Kernel for Sum<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut sums = [s.splat(0.0); 4];
        for lines in self.0.as_chunks::<{ 4 * LANES }>().0 {
            for (sum, line) in sums.iter_mut().zip(lines.as_chunks::<LANES>().0) {
                *sum = s.add(*sum, s.load(line));
            }
        }
        sums.iter().map(|&sum| s.reduce_add(sum)).sum()
    }
}

/// Copies a stream; the bytes read and written.
fn copy(from: &[f32], to: &mut [f32]) -> f64 {
    let bytes = 2 * size_of_val(from);
    parallel::for_each_chunk(to, CHUNK, |i, to| to.copy_from_slice(&from[i * CHUNK..i * CHUNK + to.len()]));
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_found() {
        let peaks = Peaks::measure(0.0).unwrap();
        assert!([peaks.float32, peaks.bfloat16, peaks.read, peaks.copy].iter().all(|&x| x > 1e6 && x.is_finite()));
    }
}
