//! Adam with decoupled weight decay (Kingma and Ba 2015; Loshchilov and Hutter 2019), in PyTorch's order of operations:
//!
//! ```text
//! w = w - lr * weight_decay * w
//! m = beta1 m + (1 - beta1) g            v = beta2 v + (1 - beta2) g^2
//! w = w - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
//! ```

use crate::parallel;
use crate::simd::{Kernel, LANES, Simd, dispatch, isa};

/// The numbers of one step.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// lr
    pub learning_rate: f64,
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    /// Share of the weight that is taken away, times `lr`.
    pub weight_decay: f64,
    /// t, counted from 1.
    pub step: u64,
}

struct Update<'a> {
    w: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    keep: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    rate: f32,
    root: f32, // 1 / sqrt(1 - beta2^t)
}

impl Kernel for Update<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Update { w, g, m, v, .. } = self;
        let [keep, eps, rate, root] = [self.keep, self.eps, -self.rate, self.root].map(|x| s.splat(x));
        let (b1, b2) = (s.splat(self.beta1), s.splat(self.beta2));
        let (c1, c2) = (s.splat(1.0 - self.beta1), s.splat(1.0 - self.beta2));
        let update = |wv: S::V, gv: S::V, mv: S::V, vv: S::V| {
            let mv = s.fma(c1, gv, s.mul(b1, mv));
            let vv = s.fma(s.mul(c2, gv), gv, s.mul(b2, vv));
            let step = s.div(mv, s.fma(s.sqrt(vv), root, eps));
            (s.fma(rate, step, s.mul(wv, keep)), mv, vv)
        };
        let (wc, wt) = w.as_chunks_mut::<LANES>();
        let (gc, gt) = g.as_chunks::<LANES>();
        let (mc, mt) = m.as_chunks_mut::<LANES>();
        let (vc, vt) = v.as_chunks_mut::<LANES>();
        for (((w, g), m), v) in wc.iter_mut().zip(gc).zip(mc).zip(vc) {
            let (nw, nm, nv) = update(s.load(w), s.load(g), s.load(m), s.load(v));
            s.store(w, nw);
            s.store(m, nm);
            s.store(v, nv);
        }
        let (nw, nm, nv) =
            update(s.load_tail(wt, 0.0), s.load_tail(gt, 0.0), s.load_tail(mt, 0.0), s.load_tail(vt, 0.0));
        s.store_tail(wt, nw);
        s.store_tail(mt, nm);
        s.store_tail(vt, nv);
    }
}

/// One step of one tensor; `m` and `v` are its moments.
pub fn step(rule: AdamW, decays: bool, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    let isa = isa::current();
    let t = rule.step.min(i32::MAX as u64) as i32;
    let keep = if decays { 1.0 - rule.learning_rate * rule.weight_decay } else { 1.0 };
    let rate = rule.learning_rate / (1.0 - rule.beta1.powi(t));
    let root = 1.0 / (1.0 - rule.beta2.powi(t)).sqrt();
    let update = |w, g, m, v| {
        let (beta1, beta2, eps) = (rule.beta1 as f32, rule.beta2 as f32, rule.eps as f32);
        let (keep, rate, root) = (keep as f32, rate as f32, root as f32);
        dispatch(isa, Update { w, g, m, v, keep, beta1, beta2, eps, rate, root });
    };
    if w.len() <= super::CHUNK {
        return update(w, g, m, v);
    }
    let n = super::CHUNK;
    let chunks = w.chunks_mut(n).zip(g.chunks(n)).zip(m.chunks_mut(n)).zip(v.chunks_mut(n));
    parallel::for_each(chunks, |_, (((w, g), m), v)| update(w, g, m, v));
}
