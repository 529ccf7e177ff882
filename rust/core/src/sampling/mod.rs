//! Logits to the next id: rules for single tokens (`processors`), then for the distribution (`warpers`), then the draw.
//!
//! Each rule is one pure function. `select` finds the largest of many without sorting them, `logprobs` is what the model
//! thought before all rules.

pub mod logprobs;
mod options;
pub mod processors;
pub mod select;
pub mod warpers;

use crate::error::{Error, Result};
pub use options::Options;
use warpers::{Candidate, softmax};

/// What was before the next token.
#[derive(Clone, Copy, Debug, Default)]
pub struct History<'a> {
    /// The tokens so far.
    pub ids: &'a [u32],
    /// How many of them were drawn.
    pub drawn: usize,
}

/// The distribution (vocab_size,) from which the next token is drawn, after all rules.
///
/// Rules run in Hugging Face's order, which vLLM shares: logit_bias on what the model gave; frequency and presence
/// penalty, repetition penalty; then what rules tokens out and so does not mind the order among itself, no-repeat n-gram,
/// bad words, min_new_tokens; then temperature, top-k, top-p, min-p, typical-p. Temperature 0 puts all probability on the
/// largest logit (the first of equals).
///
/// An error if the logits are damaged, or the rules together leave no token.
pub fn probabilities(logits: &[f32], history: History<'_>, options: &Options) -> Result<Vec<f64>> {
    let candidates = candidates(logits, history, options, None)?;
    let mut dense = vec![0.0; logits.len()];
    for (one, prob) in candidates.iter().zip(softmax(&candidates)) {
        dense[one.id as usize] = prob;
    }
    Ok(dense)
}

/// Draws the next token at `u` in `[0, 1)`, by all rules and, if there is one, among those that a `mask` of bits lets.
pub fn sample(logits: &[f32], history: History<'_>, options: &Options, mask: Option<&[u8]>, u: f64) -> Result<u32> {
    let candidates = candidates(logits, history, options, mask)?;
    Ok(candidates[draw(&softmax(&candidates), u)].id)
}

/// The `n` tokens with the largest log probabilities after the rules for single tokens, the best first: how a beam goes on.
/// None where the rules leave none: other beams may go on.
pub fn best(logits: &[f32], history: History<'_>, options: &Options, n: usize) -> Result<Vec<(u32, f64)>> {
    check(logits)?;
    let mut scores = logprobs::log_softmax(logits)?;
    rewrite(&mut scores, history, options)?;
    Ok(select::top(&scores, n))
}

/// The tokens that are possible after all rules.
fn candidates(logits: &[f32], history: History<'_>, options: &Options, mask: Option<&[u8]>) -> Result<Vec<Candidate>> {
    check(logits)?;
    if !options.changes_scores() && mask.is_none() {
        return Ok(narrow(logits, options));
    }
    let mut scores: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
    rewrite(&mut scores, history, options)?;
    if let Some(mask) = mask {
        processors::mask(&mut scores, mask);
    }
    if scores.iter().all(|&x| x == f64::NEG_INFINITY) {
        let mut rules = options.ruling_out();
        rules.extend(mask.map(|_| "what the grammar lets"));
        let remedy = format!("loosen {}, so that at least one token stays possible", rules.join(" or "));
        return Err(Error::value("sampling", "the vocabulary", "ruled out as a whole", remedy));
    }
    Ok(narrow(&scores, options))
}

/// Refuses logits of which nothing can be drawn.
fn check(logits: &[f32]) -> Result<()> {
    // Without an early end, so that many are compared at once.
    if logits.iter().fold(false, |bad, &x| bad | x.is_nan() | (x == f32::INFINITY)) {
        return Err(Error::value("sampling", "logits", "NaN or infinite", "the model's weights are damaged"));
    }
    if logits.iter().all(|&x| x == f32::NEG_INFINITY) {
        return Err(Error::value("sampling", "logits", "-inf everywhere", "at least one token must be possible"));
    }
    Ok(())
}

/// The rules for single tokens.
fn rewrite(scores: &mut [f64], history: History<'_>, options: &Options) -> Result<()> {
    if let Some(id) = options.logit_bias.keys().find(|&&id| id as usize >= scores.len()) {
        let expected = format!("the vocabulary has ids 0 to {}", scores.len() - 1);
        return Err(Error::value("sampling", "logit_bias", format!("for id {id}"), expected));
    }
    processors::logit_bias(scores, &options.logit_bias);
    processors::frequency_and_presence(scores, history.ids, options.frequency_penalty, options.presence_penalty);
    processors::repetition_penalty(scores, history.ids, options.repetition_penalty);
    processors::no_repeat_ngram(scores, history.ids, options.no_repeat_ngram_size);
    processors::bad_words(scores, history.ids, &options.bad_words_ids);
    if history.drawn < options.min_new_tokens {
        processors::no_end(scores, &options.eos_token_id);
    }
    Ok(())
}

/// The rules for the distribution as a whole.
fn narrow<T: Copy + PartialOrd + Into<f64>>(scores: &[T], options: &Options) -> Vec<Candidate> {
    if options.temperature == 0.0 {
        let id = select::largest(scores);
        return vec![Candidate { id: id as u32, score: scores[id].into() }];
    }
    // A temperature keeps the order of tokens, so what top-k drops need not be divided by it.
    let mut candidates = warpers::top_k(scores, options.top_k);
    warpers::temperature(&mut candidates, options.temperature);
    warpers::top_p(&mut candidates, options.top_p);
    warpers::min_p(&mut candidates, options.min_p);
    warpers::typical_p(&mut candidates, options.typical_p);
    candidates
}

/// The place at `u` in `[0, 1)` along the cumulative distribution.
fn draw(probs: &[f64], u: f64) -> usize {
    let mut left = u * probs.iter().sum::<f64>();
    let mut last = 0;
    for (place, &p) in probs.iter().enumerate() {
        if p > 0.0 {
            last = place;
            if left < p {
                break;
            }
            left -= p;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Stream};

    const NOTHING: History<'_> = History { ids: &[], drawn: 0 };

    #[test]
    fn a_draw_goes_along_the_distribution() {
        let probs = [0.2, 0.0, 0.5, 0.3];
        let picks = [(0.0, 0), (0.199, 0), (0.2, 2), (0.699, 2), (0.701, 3), (0.999_999, 3)];
        assert!(picks.iter().all(|&(u, place)| draw(&probs, u) == place));
        let tenfold = probs.map(|p| 10.0 * p);
        assert!(picks.iter().all(|&(u, place)| draw(&tenfold, u) == place), "whatever they add up to");
        assert_eq!([0.0, 0.5].map(|u| draw(&[0.0, 1.0, 0.0], u)), [1, 1]);
        // What is left after 0.1, 0.3 and 0.7 were taken from nearly their sum is more than nothing: rounding.
        assert_eq!(draw(&[0.1, 0.3, 0.7, 0.0], 1.0 - f64::EPSILON / 2.0), 2, "and never what cannot be");
    }

    #[test]
    fn draws_follow_the_distribution() {
        let logits: Vec<f32> = (0..40u16).map(|i| f32::from(i * 37 % 23) / 4.0).collect();
        let ids = [3, 3, 9, 21];
        let history = History { ids: &ids, drawn: 4 };
        let shaped = Options {
            temperature: 1.3,
            top_p: 0.97,
            frequency_penalty: 0.4,
            repetition_penalty: 1.2,
            ..Options::default()
        };
        for options in [Options::default(), Options { top_k: 12, typical_p: 0.9, ..Options::default() }, shaped] {
            let probs = probabilities(&logits, history, &options).unwrap();
            let (draws, philox) = (20_000, Philox::new(7, Stream::Test, 0));
            let mut seen = [0.0; 40];
            for i in 0..draws {
                seen[sample(&logits, history, &options, None, philox.uniform(i)).unwrap() as usize] += 1.0;
            }
            assert!(seen.iter().zip(&probs).all(|(n, p)| *p > 0.0 || *n == 0.0));
            let cells = seen.iter().zip(&probs).filter(|(_, p)| **p > 0.0);
            let parts: Vec<f64> = cells.map(|(n, p)| (n - p * draws as f64).powi(2) / (p * draws as f64)).collect();
            // Chi-square with f degrees of freedom has mean f and variance 2f: five deviations above are no accident.
            let free = (parts.len() - 1) as f64;
            assert!(parts.iter().sum::<f64>() < free + 5.0 * (2.0 * free).sqrt(), "{options:?}: {parts:?}");
        }
    }

    #[test]
    fn temperature_zero_is_greedy_and_takes_the_first_of_equals() {
        let options = Options { temperature: 0.0, ..Options::default() };
        assert_eq!(probabilities(&[1.0, 3.0, 3.0], NOTHING, &options).unwrap(), [0.0, 1.0, 0.0]);
        assert_eq!(sample(&[1.0, 3.0, 3.0], NOTHING, &options, Some(&[0b101]), 0.9).unwrap(), 2);
    }

    #[test]
    fn a_text_cannot_end_before_it_has_its_least_length() {
        let options = Options { min_new_tokens: 2, eos_token_id: vec![1], ..Options::default() };
        let probs = |drawn| probabilities(&[0.0, 50.0, 0.0], History { ids: &[0], drawn }, &options).unwrap();
        assert_eq!([probs(0)[1], probs(1)[1]], [0.0; 2]);
        assert!(probs(2)[1] > 0.99);
    }

    #[test]
    fn impossible_logits_are_errors() {
        for logits in [[f32::NAN, 0.0], [f32::INFINITY, 0.0], [f32::NEG_INFINITY; 2], [f32::NAN; 2], [f32::INFINITY; 2]]
        {
            assert!(probabilities(&logits, NOTHING, &Options::default()).is_err());
        }
    }

    #[test]
    fn rules_that_leave_nothing_are_named() {
        let options = Options { no_repeat_ngram_size: 1, bad_words_ids: vec![vec![1]], ..Options::default() };
        let history = History { ids: &[0], drawn: 0 };
        let said = probabilities(&[0.0, 1.0], history, &options).unwrap_err().to_string();
        assert!(said.contains("loosen no_repeat_ngram_size or bad_words,"), "{said}");
        let said = sample(&[0.0, 1.0], NOTHING, &Options::default(), Some(&[0]), 0.5).unwrap_err().to_string();
        assert!(said.contains("grammar"), "{said}");
        let biased = Options { logit_bias: [(2, 1.0)].into(), ..Options::default() };
        assert!(probabilities(&[0.0, 1.0], NOTHING, &biased).unwrap_err().to_string().contains("id 2"));
    }

    #[test]
    fn a_beam_goes_on_with_the_best_that_are_possible() {
        let options = Options { bad_words_ids: vec![vec![2]], ..Options::default() };
        let found = best(&[1.0, 0.0, 9.0, 1.0], NOTHING, &options, 3).unwrap();
        assert_eq!(found.iter().map(|one| one.0).collect::<Vec<_>>(), [0, 3, 1]);
        assert!((found[0].1 + 8.0).abs() < 0.01, "log probabilities are those before the rules");
        let options = Options { bad_words_ids: vec![vec![0], vec![1]], ..Options::default() };
        assert_eq!(best(&[1.0, 0.0], NOTHING, &options, 3).unwrap(), []);
    }
}
