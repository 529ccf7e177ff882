//! The global norm of all gradients, and scaling them down to a largest norm.
//!
//! `g = g * min(1, max_norm / (||g|| + 1e-6))`, as `torch.nn.utils.clip_grad_norm_` (Pascanu et al. 2013). Gradients are
//! read once and not written: the factor stays with them for the next update ([`GradientBuffer::scale`]).

use crate::model::gradients::GradientBuffer;
use crate::parallel;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch, isa};
use std::ops::Range;

/// Floats whose squares are added up in single precision before the sum goes on in double.
const BLOCK: usize = 4096;

/// Floats of one task.
const TASK: usize = 1 << 16;

/// Vectors of running sums: enough to hide the latency of an addition.
const SUMS: usize = 4;

struct SumSquares<'a>(&'a [f32]);

impl Kernel for SumSquares<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let mut total = 0.0;
        for block in self.0.chunks(BLOCK) {
            let mut sums = [s.splat(0.0); SUMS];
            let (rows, rest) = block.as_chunks::<{ SUMS * LANES }>();
            for row in rows {
                let (vectors, _) = row.as_chunks::<LANES>();
                for i in 0..SUMS {
                    let x = s.load(&vectors[i]);
                    sums[i] = s.fma(x, x, sums[i]);
                }
            }
            let [a, b, c, d] = sums;
            let mut sum = s.add(s.add(a, b), s.add(c, d));
            for at in (0..rest.len()).step_by(LANES) {
                let x = s.load_at(rest, at, 0.0);
                sum = s.fma(x, x, sum);
            }
            total += f64::from(s.reduce_add(sum));
        }
        total
    }
}

/// The L2 norm of `x`; the same bits for any number of threads.
pub fn norm(x: &[f32]) -> f64 {
    norm_on(isa::current(), x)
}

/// The same, for callers that have asked for the instruction set.
pub fn norm_on(isa: Isa, x: &[f32]) -> f64 {
    sum_squares(isa, x).sqrt()
}

/// The sum of the squares of the gradients in `place`.
pub fn squares(grads: &mut GradientBuffer, place: Range<usize>) -> f64 {
    sum_squares(isa::current(), &grads.settle()[place])
}

fn sum_squares(isa: Isa, x: &[f32]) -> f64 {
    parallel::sum_blocks(x.len(), TASK, |range| dispatch(isa, SumSquares(&x[range])))
}

/// Scales `grads` down to norm `max_norm`, `norm` being theirs.
pub fn clip_from(grads: &mut GradientBuffer, norm: f64, max_norm: f64) {
    let factor = max_norm / (norm + 1e-6);
    if factor < 1.0 {
        grads.scale(factor as f32);
    }
}

/// Scales `grads` down to norm `max_norm` where they are longer; the norm before.
pub fn clip(grads: &mut GradientBuffer, max_norm: f64) -> f64 {
    if grads.is_fresh() {
        return 0.0;
    }
    let norm = norm(grads.settle());
    clip_from(grads, norm, max_norm);
    norm
}
