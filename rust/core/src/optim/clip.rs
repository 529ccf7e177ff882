//! The global norm of all gradients, and scaling them down to a largest norm.
//!
//! `g = g * min(1, max_norm / (||g|| + 1e-6))`, as `torch.nn.utils.clip_grad_norm_` (Pascanu et al. 2013).

use crate::parallel;
use crate::simd::{Kernel, LANES, Simd, dispatch, isa};

/// Floats whose squares are added up in single precision before the sum goes on in double.
const BLOCK: usize = 1024;

struct SumSquares<'a>(&'a [f32]);

impl Kernel for SumSquares<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let mut total = 0.0;
        for block in self.0.chunks(BLOCK) {
            let (chunks, tail) = block.as_chunks::<LANES>();
            let mut sum = s.splat(0.0);
            for chunk in chunks {
                let x = s.load(chunk);
                sum = s.fma(x, x, sum);
            }
            let x = s.load_tail(tail, 0.0);
            total += f64::from(s.reduce_add(s.fma(x, x, sum)));
        }
        total
    }
}

/// The L2 norm of `grads`; the same bits for any number of threads.
pub fn norm(grads: &[f32]) -> f64 {
    let isa = isa::current();
    parallel::sum_blocks(grads.len(), super::CHUNK, |range| dispatch(isa, SumSquares(&grads[range]))).sqrt()
}

/// Scales `grads` down to norm `max_norm` where they are longer; the norm before.
pub fn clip(grads: &mut [f32], max_norm: f64) -> f64 {
    let norm = norm(grads);
    let factor = max_norm / (norm + 1e-6);
    if factor < 1.0 {
        let factor = factor as f32;
        parallel::for_each_chunk(grads, super::CHUNK, |_, chunk| chunk.iter_mut().for_each(|g| *g *= factor));
    }
    norm
}
