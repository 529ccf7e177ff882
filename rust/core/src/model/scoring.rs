//! What a model thinks of every token of a text, in one pass over it.

use super::Gpt;
use super::arena::{Arena, LOSS_ROWS};
use super::head;
use super::rows::Rows;
use crate::error::Result;
use crate::kernels::matmul::{Precision, Scalar};
use crate::parallel;
use crate::sampling::logprobs::{Logprobs, logprobs};
use crate::simd::bf16;

impl Gpt {
    /// The log probability of each of `ids` but the first, which nothing is before, and of the `n` most probable tokens in
    /// its place. Logits are there for a chunk of rows at a time.
    pub fn token_logprobs(&self, arena: &mut Arena, ids: &[u32], n: usize) -> Result<Vec<Logprobs>> {
        self.check_rows("token_logprobs", Rows::one(ids))?;
        match self.generation_precision() {
            Precision::Float32 => self.token_logprobs_as::<f32>(arena, ids, n),
            Precision::Bfloat16 => self.token_logprobs_as::<bf16>(arena, ids, n),
        }
    }

    fn token_logprobs_as<E: Scalar>(&self, arena: &mut Arena, ids: &[u32], n: usize) -> Result<Vec<Logprobs>> {
        let (c, v, rows) = (self.config.n_embd, self.config.vocab_size, ids.len().saturating_sub(1));
        self.infer::<E, _>(arena, Rows::one(ids), |pass, mut acts| {
            pass.last_norm(&mut acts)?;
            let mut found = Vec::with_capacity(rows);
            for first in (0..rows).step_by(LOSS_ROWS) {
                let chunk = LOSS_ROWS.min(rows - first);
                let scratch = &mut acts.scratch;
                head::logits(self, pass.weights, chunk, &scratch.normed[first * c..], scratch.logits)?;
                let (logits, next) = (&*scratch.logits, &ids[first + 1..]);
                let rows = parallel::collect(chunk, |i| logprobs(&logits[i * v..][..v], next[i], n));
                found.extend(rows.into_iter().collect::<Result<Vec<_>>>()?);
            }
            Ok(found)
        })
    }
}
