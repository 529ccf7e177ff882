//! dropout

use crate::rng::{Philox, Stream};

/// Which elements are dropped: a pure function of seed, substream and flat index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The share of elements that become zero, in `[0, 1)`.
    pub p: f32,
    /// The run's seed.
    pub seed: u64,
    /// Step, layer and place, packed by the caller.
    pub substream: u64,
}

impl Dropout {
    /// 0 or `1 / (1 - p)` for the flat indices `start..start + out.len()`.
    pub fn fill_factors(&self, start: u64, out: &mut [f32]) {
        let rng = Philox::new(self.seed, Stream::Dropout, self.substream);
        let keep = 1.0 / (1.0 - self.p);
        for (i, x) in out.iter_mut().enumerate() {
            let uniform = rng.bits(start + i as u64) as f32 * (1.0 / 4_294_967_296.0);
            *x = if uniform < self.p { 0.0 } else { keep };
        }
    }
}
