//! One pure function for each sampling rule, on scores in f64. A token is ruled out by a score of -inf.
//!
//! The rules are those of Hugging Face's logits processors; at least one token always stays.

/// Divides the positive scores of tokens in `context` by `penalty`, multiplies the negative ones (Keskar et al. 2019).
pub fn repetition_penalty(scores: &mut [f64], context: &[u32], penalty: f64) {
    if penalty == 1.0 {
        return;
    }
    let mut seen = vec![false; scores.len()];
    for &id in context {
        let id = id as usize;
        if id < scores.len() && !std::mem::replace(&mut seen[id], true) {
            let score = if scores[id] < 0.0 { scores[id] * penalty } else { scores[id] / penalty };
            // An extreme penalty must not make infinities: the rules that follow take differences.
            scores[id] = if scores[id].is_finite() { score.clamp(f64::MIN, f64::MAX) } else { score };
        }
    }
}

/// Divides by the temperature: below 1 the distribution sharpens, above 1 it flattens.
///
/// The largest score is moved to 0 first, so that a tiny temperature cannot overflow.
pub fn temperature(scores: &mut [f64], temperature: f64) {
    let top = largest(scores);
    scores.iter_mut().for_each(|x| *x = (*x - top) / temperature);
}

/// Keeps the `k` largest scores, and those equal to the smallest of them; `k` = 0 keeps all (Fan et al. 2018).
pub fn top_k(scores: &mut [f64], k: usize) {
    if k == 0 || k >= scores.len() {
        return;
    }
    let mut sorted = scores.to_vec();
    let (_, kth, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let kth = *kth;
    rule_out(scores, |x| x < kth);
}

/// Keeps the smallest set of most probable tokens whose probability reaches `p` (nucleus sampling, Holtzman et al.
/// 2020). Among equals the smaller id stays.
pub fn top_p(scores: &mut [f64], p: f64) {
    if p >= 1.0 {
        return;
    }
    let probs = softmax(scores);
    let mut order: Vec<usize> = (0..scores.len()).filter(|&i| probs[i] > 0.0).collect();
    order.sort_by(|&a, &b| probs[b].total_cmp(&probs[a]));
    let mut reached = 0.0;
    for id in order {
        if reached >= p {
            scores[id] = f64::NEG_INFINITY;
        }
        reached += probs[id];
    }
}

/// Keeps tokens with at least `p` times the probability of the most probable one (Nguyen et al. 2024).
pub fn min_p(scores: &mut [f64], p: f64) {
    if p > 0.0 {
        let least = largest(scores) + p.ln();
        rule_out(scores, |x| x < least);
    }
}

/// The probabilities of the scores; they add up to 1.
pub fn softmax(scores: &[f64]) -> Vec<f64> {
    let top = largest(scores);
    let mut probs: Vec<f64> = scores.iter().map(|x| (x - top).exp()).collect();
    let sum: f64 = probs.iter().sum();
    probs.iter_mut().for_each(|x| *x /= sum);
    probs
}

fn largest(scores: &[f64]) -> f64 {
    scores.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn rule_out(scores: &mut [f64], out: impl Fn(f64) -> bool) {
    scores.iter_mut().filter(|x| out(**x)).for_each(|x| *x = f64::NEG_INFINITY);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(scores: &[f64]) -> Vec<usize> {
        (0..scores.len()).filter(|&i| scores[i] > f64::NEG_INFINITY).collect()
    }

    fn logs(probs: &[f64]) -> Vec<f64> {
        probs.iter().map(|p| p.ln()).collect()
    }

    #[test]
    fn top_k_keeps_the_largest_and_its_equals() {
        let mut scores = vec![1.0, 5.0, 3.0, 3.0, 0.0];
        top_k(&mut scores, 2);
        assert_eq!(kept(&scores), [1, 2, 3]);
    }

    #[test]
    fn top_p_keeps_the_smallest_set_that_reaches_p() {
        for (p, expected) in [(0.4, vec![1]), (0.5, vec![1]), (0.6, vec![1, 2]), (0.95, vec![0, 1, 2])] {
            let mut scores = logs(&[0.2, 0.5, 0.3]);
            top_p(&mut scores, p);
            assert_eq!(kept(&scores), expected, "p = {p}");
        }
    }

    #[test]
    fn min_p_is_relative_to_the_most_probable() {
        let mut scores = logs(&[0.6, 0.25, 0.1, 0.05]);
        min_p(&mut scores, 0.2);
        assert_eq!(kept(&scores), [0, 1]);
    }

    #[test]
    fn a_repeated_token_is_penalised_once_whatever_its_sign() {
        let mut scores = vec![2.0, -2.0, 1.0];
        repetition_penalty(&mut scores, &[0, 1, 0, 1, 99], 2.0);
        assert_eq!(scores, [1.0, -4.0, 1.0]);
    }

    #[test]
    fn an_extreme_penalty_leaves_a_distribution() {
        for penalty in [1e-320, 1e308] {
            let mut scores = vec![3.0, -20.0, f64::NEG_INFINITY, 0.0];
            repetition_penalty(&mut scores, &[0, 1, 2, 3], penalty);
            temperature(&mut scores, 0.5);
            let probs = softmax(&scores);
            assert!(probs.iter().all(|p| (0.0..=1.0).contains(p)) && probs[2] == 0.0, "{penalty}: {probs:?}");
        }
    }

    #[test]
    fn a_tiny_temperature_does_not_overflow() {
        let mut scores = vec![300.0, 299.0, f64::NEG_INFINITY];
        temperature(&mut scores, 1e-38);
        assert_eq!(softmax(&scores), [1.0, 0.0, 0.0]);
    }
}
