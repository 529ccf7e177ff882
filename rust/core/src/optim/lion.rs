//! Lion: the sign of a momentum (Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023).
//!
//! ```text
//! w = w - lr * weight_decay * w
//! w = w - lr * sign(beta1 m + (1 - beta1) g)
//! m = beta2 m + (1 - beta2) g
//! ```

use super::pass;
use crate::simd::Simd;

/// The numbers of one step of one tensor.
#[derive(Clone, Copy)]
pub struct Rule {
    /// `1 - lr * weight_decay`
    keep: f32,
    /// Share of the momentum in the step.
    beta1: f32,
    /// Share of the momentum that is kept.
    beta2: f32,
    /// `-lr`
    rate: f32,
}

impl Rule {
    /// The numbers of a step.
    pub fn new([beta1, beta2]: [f64; 2], learning_rate: f64, weight_decay: f64) -> Self {
        Rule {
            keep: (1.0 - learning_rate * weight_decay) as f32,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            rate: -learning_rate as f32,
        }
    }
}

impl pass::Rule<1> for Rule {
    #[inline(always)]
    fn update<S: Simd>(self, s: S, w: S::V, g: S::V, [m]: [S::V; 1]) -> (S::V, [S::V; 1]) {
        let c = s.fma(s.splat(1.0 - self.beta1), g, s.mul(s.splat(self.beta1), m));
        let m = s.fma(s.splat(1.0 - self.beta2), g, s.mul(s.splat(self.beta2), m));
        let zero = s.splat(0.0);
        // Where c is neither above nor below 0 it is its own sign: 0, or NaN.
        let sign = s.select(s.lt(c, zero), s.splat(-1.0), s.select(s.lt(zero, c), s.splat(1.0), c));
        (s.fma(s.splat(self.rate), sign, s.mul(w, s.splat(self.keep))), [m])
    }
}
