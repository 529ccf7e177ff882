//! Numbers for tests: the same for the same seed, on every machine.

/// A generator of numbers for tests (SplitMix64).
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// The generator of that seed.
    pub fn new(seed: u64) -> Self {
        Noise(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    /// A number in `[0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A whole number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// `n` numbers of mean 0 and standard deviation `std`, nearly normal (the sum of four uniform ones).
    pub fn normal(&mut self, n: usize, std: f64) -> Vec<f32> {
        let one = |noise: &mut Self| (0..4).map(|_| noise.uniform() - 0.5).sum::<f64>() * 3f64.sqrt() * std;
        (0..n).map(|_| one(self) as f32).collect()
    }
}
