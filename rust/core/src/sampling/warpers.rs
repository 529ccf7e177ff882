//! Rules that narrow or bend the distribution as a whole: one pure function each, on the tokens that are still possible.
//!
//! They are Hugging Face's logits warpers; at least one token always stays.

use super::select::{Ranked, kth_largest, last_to_reach};

/// A token that is possible, with its score: a logarithm of its probability, but for a constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its score, never -inf.
    pub score: f64,
}

/// The tokens with the `k` largest scores, and those equal to the smallest of them, in the order of ids; `k` = 0 takes all
/// that are possible (Fan et al. 2018).
pub fn top_k<T: Copy + Into<f64>>(scores: &[T], k: usize) -> Vec<Candidate> {
    let least = if k == 0 || k >= scores.len() { f64::NEG_INFINITY } else { kth_largest(scores, k) };
    let all = scores.iter().enumerate().map(|(id, &score)| Candidate { id: id as u32, score: score.into() });
    all.filter(|one| one.score >= least && one.score > f64::NEG_INFINITY).collect()
}

/// Divides by the temperature: below 1 the distribution sharpens, above 1 it flattens.
///
/// The largest score is moved to 0 first, so that a tiny temperature cannot overflow.
pub fn temperature(candidates: &mut Vec<Candidate>, temperature: f64) {
    if temperature == 1.0 {
        return;
    }
    let top = largest(candidates);
    candidates.iter_mut().for_each(|one| one.score = (one.score - top) / temperature);
    candidates.retain(|one| one.score > f64::NEG_INFINITY);
}

/// Keeps the smallest set of most probable tokens whose probability reaches `p` (nucleus sampling, Holtzman et al.
/// 2020). Among equals the smaller id stays.
pub fn top_p(candidates: &mut Vec<Candidate>, p: f64) {
    if p >= 1.0 {
        return;
    }
    let probs = softmax(candidates);
    let all = probs.iter().enumerate().map(|(place, &prob)| Ranked { key: -prob, prob, place });
    let last = last_to_reach(all.clone(), p);
    keep(candidates, all.map(|one| one.order(&last).is_le()));
}

/// Keeps tokens with at least `p` times the probability of the most probable one (Nguyen et al. 2024).
pub fn min_p(candidates: &mut Vec<Candidate>, p: f64) {
    if p > 0.0 {
        let least = largest(candidates) + p.ln();
        candidates.retain(|one| one.score >= least);
    }
}

/// Keeps the smallest set of tokens whose probability reaches `p`, those first whose surprise is nearest to the expected
/// one, the entropy; of equals all (locally typical sampling, Meister et al. 2023).
pub fn typical_p(candidates: &mut Vec<Candidate>, p: f64) {
    if p >= 1.0 {
        return;
    }
    let probs = softmax(candidates);
    // The surprise of a token is a constant less its score; in what it has over the entropy, its mean, the constant is gone.
    // What has no probability left has no part in the mean, however low its score is.
    let parts = candidates.iter().zip(&probs).filter(|(_, prob)| **prob > 0.0);
    let mean: f64 = parts.map(|(one, prob)| prob * one.score).sum();
    let keys: Vec<f64> = candidates.iter().map(|one| (mean - one.score).abs()).collect();
    let all = keys.iter().zip(&probs).enumerate().map(|(place, (&key, &prob))| Ranked { key, prob, place });
    let last = last_to_reach(all, p);
    keep(candidates, keys.into_iter().map(|key| key <= last.key));
}

/// The probabilities of the candidates; they add up to 1.
pub fn softmax(candidates: &[Candidate]) -> Vec<f64> {
    let top = largest(candidates);
    let mut probs: Vec<f64> = candidates.iter().map(|one| (one.score - top).exp()).collect();
    let sum: f64 = probs.iter().sum();
    probs.iter_mut().for_each(|x| *x /= sum);
    probs
}

fn largest(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|one| one.score).fold(f64::NEG_INFINITY, f64::max)
}

fn keep(candidates: &mut Vec<Candidate>, mut kept: impl Iterator<Item = bool>) {
    candidates.retain(|_| kept.next().unwrap_or(false));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(candidates: &[Candidate]) -> Vec<u32> {
        candidates.iter().map(|one| one.id).collect()
    }

    fn logs(probs: &[f64]) -> Vec<Candidate> {
        top_k(&probs.iter().map(|p| p.ln()).collect::<Vec<_>>(), 0)
    }

    #[test]
    fn top_k_keeps_the_largest_and_its_equals() {
        let scores = [1.0, 5.0, 3.0, 3.0, f64::NEG_INFINITY];
        assert_eq!(ids(&top_k(&scores, 2)), [1, 2, 3]);
        assert_eq!(ids(&top_k(&scores, 0)), [0, 1, 2, 3]);
        assert_eq!(ids(&top_k(&scores.map(|x| x as f32), 99)), [0, 1, 2, 3]);
    }

    #[test]
    fn top_p_keeps_the_smallest_set_that_reaches_p() {
        for (p, expected) in [(0.4, vec![1]), (0.5, vec![1]), (0.6, vec![1, 2]), (0.95, vec![0, 1, 2])] {
            let mut candidates = logs(&[0.2, 0.5, 0.3]);
            top_p(&mut candidates, p);
            assert_eq!(ids(&candidates), expected, "p = {p}");
        }
        let mut equals = logs(&[0.25; 4]);
        top_p(&mut equals, 0.4);
        assert_eq!(ids(&equals), [0, 1]);
    }

    #[test]
    fn min_p_is_relative_to_the_most_probable() {
        let mut candidates = logs(&[0.6, 0.25, 0.1, 0.05]);
        min_p(&mut candidates, 0.2);
        assert_eq!(ids(&candidates), [0, 1]);
    }

    #[test]
    fn typical_p_begins_with_what_surprises_as_expected() {
        // The entropy is 1.28 nats: the tokens of probability 0.25 (1.39) are nearest, then 0.4 (0.92), then 0.1 (2.30).
        for (p, expected) in [(0.2, vec![1, 2]), (0.6, vec![0, 1, 2]), (0.95, vec![0, 1, 2, 3])] {
            let mut candidates = logs(&[0.4, 0.25, 0.25, 0.1]);
            typical_p(&mut candidates, p);
            assert_eq!(ids(&candidates), expected, "p = {p}");
        }
    }

    #[test]
    fn what_cannot_be_is_no_part_of_what_is_expected() {
        let mut candidates = logs(&[0.4, 0.25, 0.25, 0.1]);
        candidates.push(Candidate { id: 9, score: f64::NEG_INFINITY });
        typical_p(&mut candidates, 0.6);
        assert_eq!(ids(&candidates), [0, 1, 2]);
    }

    #[test]
    fn a_tiny_temperature_does_not_overflow() {
        let mut candidates = top_k(&[300.0, 299.0, f64::NEG_INFINITY], 0);
        temperature(&mut candidates, 1e-38);
        assert_eq!(softmax(&candidates), [1.0, 0.0]);
        let mut candidates = top_k(&[f64::MAX, 0.0, f64::MIN], 0);
        temperature(&mut candidates, 0.5);
        assert_eq!(softmax(&candidates), [1.0, 0.0][..candidates.len()]);
    }
}
