//! Stochastic gradient descent: `d = g + weight_decay * w`, then `w = w - alpha * d`, or with momentum
//! `b = mu * b + d`, `w = w - alpha * b` (PyTorch's SGD with zero dampening; Sutskever et al. 2013).
//!
//! Products and sums are rounded one by one, so that a step without decay is `w - alpha * g` to the last bit.

use super::pass;
use crate::simd::Simd;

/// The numbers of one step.
#[derive(Clone, Copy)]
pub struct Rule {
    alpha: f32,
    mu: f32,
    weight_decay: f32,
}

impl Rule {
    /// The numbers of a step; `momentum` is not looked at where there is no state.
    pub fn new(learning_rate: f64, momentum: f64, weight_decay: f64) -> Self {
        Rule { alpha: learning_rate as f32, mu: momentum as f32, weight_decay: weight_decay as f32 }
    }

    #[inline(always)]
    fn direction<S: Simd>(self, s: S, w: S::V, g: S::V) -> S::V {
        s.add(g, s.mul(s.splat(self.weight_decay), w))
    }
}

/// Plain.
impl pass::Rule<0> for Rule {
    #[inline(always)]
    fn update<S: Simd>(self, s: S, w: S::V, g: S::V, _: [S::V; 0]) -> (S::V, [S::V; 0]) {
        (s.sub(w, s.mul(s.splat(self.alpha), self.direction(s, w, g))), [])
    }
}

/// With momentum.
impl pass::Rule<1> for Rule {
    #[inline(always)]
    fn update<S: Simd>(self, s: S, w: S::V, g: S::V, [b]: [S::V; 1]) -> (S::V, [S::V; 1]) {
        let b = s.add(s.mul(s.splat(self.mu), b), self.direction(s, w, g));
        (s.sub(w, s.mul(s.splat(self.alpha), b)), [b])
    }
}
