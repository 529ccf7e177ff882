//! Adam with decoupled weight decay (Kingma and Ba 2015; Loshchilov and Hutter 2019), in PyTorch's order of operations:
//!
//! ```text
//! w = w - lr * weight_decay * w
//! m = beta1 m + (1 - beta1) g            v = beta2 v + (1 - beta2) g^2
//! w = w - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
//! ```

use super::config::Adam;
use super::pass;
use crate::simd::Simd;

/// The numbers of one step of one tensor.
#[derive(Clone, Copy)]
pub struct Rule {
    /// `1 - lr * weight_decay`
    keep: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    /// `-lr / (1 - beta1^t)`
    rate: f32,
    /// `1 / sqrt(1 - beta2^t)`
    root: f32,
}

impl Rule {
    /// The numbers of step `t`, counted from 1.
    pub fn new(adam: Adam, learning_rate: f64, weight_decay: f64, t: u64) -> Self {
        let t = t.min(i32::MAX as u64) as i32;
        Rule {
            keep: (1.0 - learning_rate * weight_decay) as f32,
            beta1: adam.beta1 as f32,
            beta2: adam.beta2 as f32,
            eps: adam.eps as f32,
            rate: (-learning_rate / (1.0 - adam.beta1.powi(t))) as f32,
            root: (1.0 / (1.0 - adam.beta2.powi(t)).sqrt()) as f32,
        }
    }
}

impl pass::Rule<2> for Rule {
    #[inline(always)]
    fn update<S: Simd>(self, s: S, w: S::V, g: S::V, [m, v]: [S::V; 2]) -> (S::V, [S::V; 2]) {
        let m = s.fma(s.splat(1.0 - self.beta1), g, s.mul(s.splat(self.beta1), m));
        let v = s.fma(s.mul(s.splat(1.0 - self.beta2), g), g, s.mul(s.splat(self.beta2), v));
        let step = s.div(m, s.fma(s.sqrt(v), s.splat(self.root), s.splat(self.eps)));
        (s.fma(s.splat(self.rate), step, s.mul(w, s.splat(self.keep))), [m, v])
    }
}
