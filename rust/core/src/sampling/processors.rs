//! Rules that change the scores of single tokens: one pure function each, on scores in f64.
//!
//! They are Hugging Face's logits processors, and OpenAI's penalties and bias. A token is ruled out by a score of -inf.
//! Each touches only the tokens that it speaks of, so that a large vocabulary costs no more than a small one.

use std::collections::{BTreeMap, HashMap};

/// Adds to the scores of single tokens (OpenAI's `logit_bias`, Hugging Face's `sequence_bias` for one token).
pub fn logit_bias(scores: &mut [f64], bias: &BTreeMap<u32, f64>) {
    for (&id, bias) in bias {
        change(scores, id, |score| score + bias);
    }
}

/// Takes `frequency` for each time that a token is in `context`, and `presence` once if it is (OpenAI's formula).
pub fn frequency_and_presence(scores: &mut [f64], context: &[u32], frequency: f64, presence: f64) {
    if frequency == 0.0 && presence == 0.0 {
        return;
    }
    let mut counts: HashMap<u32, u32> = HashMap::new();
    for &id in context {
        *counts.entry(id).or_default() += 1;
    }
    for (id, count) in counts {
        change(scores, id, |score| score - (frequency * f64::from(count) + presence));
    }
}

/// Divides the positive scores of tokens in `context` by `penalty`, multiplies the negative ones (Keskar et al. 2019).
pub fn repetition_penalty(scores: &mut [f64], context: &[u32], penalty: f64) {
    if penalty == 1.0 {
        return;
    }
    let mut seen = context.to_vec();
    seen.sort_unstable();
    seen.dedup();
    for id in seen {
        change(scores, id, |score| if score < 0.0 { score * penalty } else { score / penalty });
    }
}

/// Rules out what would make a run of `n` tokens come a second time in `context` (Paulus et al. 2017); 0 lets all.
pub fn no_repeat_ngram(scores: &mut [f64], context: &[u32], n: usize) {
    if n == 0 || context.len() < n {
        return;
    }
    let last = &context[context.len() - (n - 1)..];
    for run in context.windows(n).filter(|run| &run[..n - 1] == last) {
        rule_out(scores, run[n - 1]);
    }
}

/// Rules out the last token of every sequence of `words` whose other tokens `context` ends with.
pub fn bad_words(scores: &mut [f64], context: &[u32], words: &[Vec<u32>]) {
    for word in words {
        if let Some((&last, before)) = word.split_last()
            && context.ends_with(before)
        {
            rule_out(scores, last);
        }
    }
}

/// Rules out the ids that end a text.
pub fn no_end(scores: &mut [f64], ends: &[u32]) {
    ends.iter().for_each(|&id| rule_out(scores, id));
}

/// Rules out every token whose bit is not set: bit `id % 8` of byte `id / 8`. Tokens beyond the mask are ruled out too.
pub fn mask(scores: &mut [f64], mask: &[u8]) {
    for (id, score) in scores.iter_mut().enumerate() {
        if mask.get(id / 8).is_none_or(|byte| byte >> (id % 8) & 1 == 0) {
            *score = f64::NEG_INFINITY;
        }
    }
}

/// Changes a score that is not ruled out. Extreme options must not make infinities: the rules that follow take differences.
fn change(scores: &mut [f64], id: u32, rule: impl FnOnce(f64) -> f64) {
    if let Some(score) = scores.get_mut(id as usize).filter(|score| score.is_finite()) {
        *score = rule(*score).clamp(f64::MIN, f64::MAX);
    }
}

fn rule_out(scores: &mut [f64], id: u32) {
    if let Some(score) = scores.get_mut(id as usize) {
        *score = f64::NEG_INFINITY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: f64 = f64::NEG_INFINITY;

    #[test]
    fn a_bias_is_added_and_revives_nothing() {
        let mut scores = vec![1.0, OUT, 3.0];
        logit_bias(&mut scores, &BTreeMap::from([(0, 2.5), (1, 9.0), (7, 1.0)]));
        assert_eq!(scores, [3.5, OUT, 3.0]);
    }

    #[test]
    fn frequency_counts_and_presence_does_not() {
        let mut scores = vec![0.0; 4];
        frequency_and_presence(&mut scores, &[1, 1, 1, 2, 99], 0.5, 0.25);
        assert_eq!(scores, [0.0, -1.75, -0.75, 0.0]);
    }

    #[test]
    fn a_repeated_token_is_penalised_once_whatever_its_sign() {
        let mut scores = vec![2.0, -2.0, 1.0];
        repetition_penalty(&mut scores, &[0, 1, 0, 1, 99], 2.0);
        assert_eq!(scores, [1.0, -4.0, 1.0]);
    }

    #[test]
    fn extreme_penalties_make_no_infinities() {
        for penalty in [1e-320, 1e308] {
            let mut scores = vec![3.0, -20.0, OUT, 0.0];
            repetition_penalty(&mut scores, &[0, 1, 2, 3], penalty);
            frequency_and_presence(&mut scores, &[0, 0, 0, 1, 2], penalty, penalty);
            assert!(scores.iter().enumerate().all(|(id, x)| x.is_finite() == (id != 2)), "{penalty}: {scores:?}");
        }
    }

    #[test]
    fn no_run_comes_twice() {
        let ruled_out = |n, context: &[u32]| {
            let mut scores = vec![0.0; 5];
            no_repeat_ngram(&mut scores, context, n);
            (0..5).filter(|&id| scores[id] == OUT).collect::<Vec<_>>()
        };
        assert_eq!(ruled_out(3, &[1, 2, 3, 1, 2, 4, 1, 2]), [3, 4]);
        assert_eq!(ruled_out(2, &[1, 2, 1, 1]), [1, 2]);
        assert_eq!(ruled_out(1, &[4, 0]), [0, 4]);
        assert_eq!(ruled_out(0, &[1, 1]), [0; 0]);
        assert_eq!(ruled_out(3, &[1, 2]), [0; 0]);
    }

    #[test]
    fn a_bad_word_is_not_completed() {
        let words = [vec![4], vec![1, 2, 3], vec![2, 2], vec![]];
        for (context, expected) in [(&[1, 2][..], vec![2, 3, 4]), (&[2, 1], vec![4]), (&[], vec![4])] {
            let mut scores = vec![0.0; 5];
            bad_words(&mut scores, context, &words);
            assert_eq!((0..5).filter(|&id| scores[id] == OUT).collect::<Vec<_>>(), expected, "{context:?}");
        }
    }

    #[test]
    fn a_mask_lets_what_it_names() {
        let mut scores = vec![0.0; 18];
        mask(&mut scores, &[0b1000_0001, 0b10]);
        assert_eq!((0..18).filter(|&id| scores[id] == 0.0).collect::<Vec<_>>(), [0, 7, 9]);
    }
}
