//! Stochastic gradient descent: `d = g + weight_decay * w`, then `w = w - alpha * d`, or with momentum
//! `b = mu * b + d`, `w = w - alpha * b` (PyTorch's SGD with zero dampening; Sutskever et al. 2013).

use crate::parallel;

/// The numbers of one step.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// alpha
    pub learning_rate: f64,
    /// mu
    pub momentum: f64,
    /// Added to the gradient, times the weight.
    pub weight_decay: f64,
}

/// Plain: no state.
pub fn step(rule: Sgd, w: &mut [f32], g: &[f32]) {
    let (alpha, decay) = (rule.learning_rate as f32, rule.weight_decay as f32);
    let chunks = w.chunks_mut(super::CHUNK).zip(g.chunks(super::CHUNK));
    parallel::for_each(chunks, |_, (w, g)| {
        for (w, g) in w.iter_mut().zip(g) {
            *w -= alpha * (g + decay * *w);
        }
    });
}

/// With momentum: `b` is the running step.
pub fn step_momentum(rule: Sgd, w: &mut [f32], g: &[f32], b: &mut [f32]) {
    let (alpha, mu, decay) = (rule.learning_rate as f32, rule.momentum as f32, rule.weight_decay as f32);
    let chunks = w.chunks_mut(super::CHUNK).zip(g.chunks(super::CHUNK)).zip(b.chunks_mut(super::CHUNK));
    parallel::for_each(chunks, |_, ((w, g), b)| {
        for ((w, g), b) in w.iter_mut().zip(g).zip(b) {
            *b = mu * *b + (g + decay * *w);
            *w -= alpha * *b;
        }
    });
}
