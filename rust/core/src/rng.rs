//! A counter-based generator: `(seed, stream, index) -> bits`, with no state to save.
//!
//! Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Any number can be had without
//! those before it, in any order and on any thread, so weights, dropout and sampling are replayed from their counters
//! alone: resuming a run needs `(seed, step)` and nothing else.

use crate::simd::Simd;

/// What a random number is for; equal counters in different streams are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stream {
    /// Weight initialisation.
    Init = 1,
    /// Dropout masks.
    Dropout = 3,
    /// Drawing the next token.
    Sample = 4,
    /// Fresh adapters.
    Adapter = 5,
    /// Data made in tests and benches.
    Test = 6,
}

/// A generator for one `(seed, stream, substream)`; `substream` is a step, a tensor or a request.
#[derive(Clone, Copy, Debug)]
pub struct Philox {
    key: [u32; 2],
    stream: u32,
    substream: u32,
}

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

impl Philox {
    /// The generator of `seed` for one use; the substream keeps its low 32 bits here and its high ones in the key.
    pub fn new(seed: u64, stream: Stream, substream: u64) -> Self {
        let mixed = seed ^ (substream >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Philox { key: [mixed as u32, (mixed >> 32) as u32], stream: stream as u32, substream: substream as u32 }
    }

    /// Four independent 32-bit numbers at `counter`.
    #[inline(always)]
    pub fn block(&self, counter: u64) -> [u32; 4] {
        let mut c = [counter as u32, (counter >> 32) as u32, self.substream, self.stream];
        let mut k = self.key;
        for _ in 0..10 {
            let a = u64::from(c[0]) * u64::from(MULTIPLIERS[0]);
            let b = u64::from(c[2]) * u64::from(MULTIPLIERS[1]);
            c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
            k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
        }
        c
    }

    /// The blocks at the eight counters from `first` on: 32 numbers in order, in the 32-bit lanes of two registers.
    ///
    /// Lanes are 64 bits wide with a number in the lower half and anything in the upper one, which `wide_mul` ignores: a
    /// round is two products, two shifts and four exclusive ors.
    #[inline(always)]
    pub(crate) fn blocks<S: Simd>(&self, s: S, first: u64) -> [S::W; 2] {
        let [m0, m1] = [s.wide_splat(u64::from(MULTIPLIERS[0])), s.wide_splat(u64::from(MULTIPLIERS[1]))];
        let counters = s.wide_count(first);
        let (substream, stream) = (s.wide_splat(u64::from(self.substream)), s.wide_splat(u64::from(self.stream)));
        let mut c = [counters, s.wide_high(counters), substream, stream];
        let mut k = self.key;
        for _ in 0..10 {
            let (a, b) = (s.wide_mul(c[0], m0), s.wide_mul(c[2], m1));
            let [k0, k1] = [s.wide_splat(u64::from(k[0])), s.wide_splat(u64::from(k[1]))];
            c[0] = s.wide_xor(s.wide_xor(s.wide_high(b), c[1]), k0);
            c[2] = s.wide_xor(s.wide_xor(s.wide_high(a), c[3]), k1);
            (c[1], c[3]) = (b, a);
            k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
        }
        s.wide_interleave(s.wide_join(c[0], c[1]), s.wide_join(c[2], c[3]))
    }

    /// The 32-bit number at `index`, which counts numbers: four to a block. Against it the vectors are held.
    #[cfg(test)]
    pub fn bits(&self, index: u64) -> u32 {
        self.block(index / 4)[(index % 4) as usize]
    }

    /// A number in `[0, 1)` with 53 random bits, of the block at `index`.
    pub fn uniform(&self, index: u64) -> f64 {
        let block = self.block(index);
        let bits = u64::from(block[0]) << 32 | u64::from(block[1]);
        (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Fills `out` with normal numbers of mean 0 and standard deviation `std` (Box-Muller; numbers 2i and 2i + 1
    /// are from block i).
    pub fn fill_normal(&self, out: &mut [f32], std: f64) {
        crate::parallel::for_each_chunk(out, 4096, |chunk, out| {
            for (i, pair) in out.chunks_mut(2).enumerate() {
                let block = self.block((chunk * 2048 + i) as u64);
                // (0, 1]: the logarithm needs a number above zero.
                let u = (f64::from(block[0]) + 1.0) * (1.0 / 4_294_967_296.0);
                let angle = f64::from(block[1]) * (std::f64::consts::TAU / 4_294_967_296.0);
                let radius = (-2.0 * u.ln()).sqrt() * std;
                let values = [radius * angle.cos(), radius * angle.sin()];
                pair.iter_mut().zip(values).for_each(|(x, v)| *x = v as f32);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_vectors() {
        // Random123's known-answer tests for philox4x32-10.
        let zero = Philox { key: [0, 0], stream: 0, substream: 0 };
        assert_eq!(zero.block(0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = Philox { key: [!0, !0], stream: !0, substream: !0 };
        assert_eq!(ones.block(!0), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = Philox { key: [0xa409_3822, 0x299f_31d0], stream: 0x0370_7344, substream: 0x1319_8a2e };
        assert_eq!(pi.block(0x85a3_08d3_243f_6a88), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn normal_numbers_have_the_moments_of_a_normal() {
        let mut x = vec![0f32; 1 << 18];
        Philox::new(7, Stream::Test, 0).fill_normal(&mut x, 2.0);
        let n = x.len() as f64;
        let moment = |p: i32| x.iter().map(|&v| (f64::from(v) / 2.0).powi(p)).sum::<f64>() / n;
        assert!(moment(1).abs() < 0.01 && (moment(2) - 1.0).abs() < 0.02);
        assert!(moment(3).abs() < 0.05 && (moment(4) - 3.0).abs() < 0.1);
    }

    #[test]
    fn uniform_numbers_fill_the_unit_interval() {
        let rng = Philox::new(1, Stream::Test, 3);
        let x: Vec<f64> = (0..10_000).map(|i| rng.uniform(i)).collect();
        assert!(x.iter().all(|v| (0.0..1.0).contains(v)));
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        assert!((mean - 0.5).abs() < 0.01);
    }
}
