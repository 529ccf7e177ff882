//! What a model itself thinks of a token: log probabilities before all rules.

use super::select::{largest, top};
use crate::error::Result;
use crate::kernels::cross_entropy::cross_entropy;
use ndarray::ArrayView2;

/// The log probability of a token, and the most probable ones in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// Of the token, in nats.
    pub logprob: f64,
    /// Ids and log probabilities of the most probable tokens, the best first.
    pub top: Vec<(u32, f64)>,
}

/// The log probability of `id` under the softmax of `logits`, and those of the `n` most probable tokens.
pub fn logprobs(logits: &[f32], id: u32, n: usize) -> Result<Logprobs> {
    let offset = log_sum_exp(logits)?;
    let mut top = top(logits, n);
    top.iter_mut().for_each(|(_, logprob)| *logprob -= offset);
    Ok(Logprobs { logprob: f64::from(logits[id as usize]) - offset, top })
}

/// The log probabilities of all tokens.
pub fn log_softmax(logits: &[f32]) -> Result<Vec<f64>> {
    let offset = log_sum_exp(logits)?;
    Ok(logits.iter().map(|&x| f64::from(x) - offset).collect())
}

/// The logarithm of the sum of exponentials: the largest logit and its loss, which is small and so exact.
fn log_sum_exp(logits: &[f32]) -> Result<f64> {
    let (best, mut loss) = (largest(logits), [0.0]);
    let row = ArrayView2::from_shape((1, logits.len()), logits).expect("one row");
    cross_entropy(row, &[best as i64], -1, 0.0, &mut loss)?;
    Ok(f64::from(logits[best]) + f64::from(loss[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_logarithms_of_probabilities() {
        let logits = [1.0f32, 3.0, -2.0, 3.0, 0.5].map(|x| x + 1e4);
        let sum: f64 = logits.iter().map(|&x| (f64::from(x) - 1e4).exp()).sum();
        let expected = |id: usize| f64::from(logits[id]) - 1e4 - sum.ln();
        let found = logprobs(&logits, 4, 3).unwrap();
        let all: Vec<(u32, f64)> = [(4, found.logprob)].into_iter().chain(found.top).collect();
        assert_eq!(all.iter().map(|one| one.0).collect::<Vec<_>>(), [4, 1, 3, 0]);
        assert!(all.iter().all(|&(id, x)| (x - expected(id as usize)).abs() < 1e-6), "{all:?}");
        let total: f64 = log_softmax(&logits).unwrap().iter().map(|x| x.exp()).sum();
        assert!((total - 1.0).abs() < 1e-6);
    }
}
