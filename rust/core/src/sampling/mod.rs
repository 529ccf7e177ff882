//! Logits to the next id: one pure function a rule (`processors`), then the draw.

pub mod processors;

use crate::error::{Error, Result};
use serde::Deserialize;

/// What shapes the distribution, by Hugging Face's names. Every rule has a value that leaves the logits alone.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Logits are divided by it; 0 takes the most probable token.
    pub temperature: f64,
    /// Keep the `k` most probable; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set of most probable tokens that holds this much probability; 1 keeps all.
    pub top_p: f64,
    /// Keep what is at least this share of the most probable token's probability; 0 keeps all.
    pub min_p: f64,
    /// Logits of tokens already in the sequence are divided by it (multiplied where negative); 1 leaves them.
    pub repetition_penalty: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 0 }
    }
}

impl Options {
    /// Reads options from JSON and checks them.
    pub fn from_json(json: &str) -> Result<Self> {
        let options: Options = serde_json::from_str(json)
            .map_err(|e| Error::config("generation", json, format!("cannot be read: {e}"), "see GenerationConfig"))?;
        options.validate()?;
        Ok(options)
    }

    /// Every value is in its range.
    pub fn validate(&self) -> Result<()> {
        let refuse =
            |field: &str, value: f64, remedy: &str| Err(Error::config(field, value, "is out of range", remedy));
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return refuse("temperature", self.temperature, "use 0 for greedy, or a positive number");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top_p", self.top_p, "use a number in (0, 1]; 1 keeps all tokens");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return refuse("min_p", self.min_p, "use a number in [0, 1]; 0 keeps all tokens");
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return refuse("repetition_penalty", self.repetition_penalty, "use a positive number; 1 leaves the logits");
        }
        Ok(())
    }
}

/// The distribution (vocab_size,) from which the next token is drawn, after all rules.
///
/// `context` are the tokens so far. Rules run in Hugging Face's order: repetition penalty, temperature, top-k, top-p,
/// min-p. Temperature 0 puts all probability on the largest logit (the first of equals).
pub fn probabilities(logits: &[f32], context: &[u32], options: &Options) -> Result<Vec<f64>> {
    let mut scores: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
    if scores.iter().any(|x| x.is_nan() || *x == f64::INFINITY) {
        return Err(Error::value("sampling", "logits", "NaN or infinite", "the model's weights are damaged"));
    }
    if scores.iter().all(|x| *x == f64::NEG_INFINITY) {
        return Err(Error::value("sampling", "logits", "-inf everywhere", "at least one token must be possible"));
    }
    processors::repetition_penalty(&mut scores, context, options.repetition_penalty);
    if options.temperature == 0.0 {
        return Ok(one_hot(&scores));
    }
    processors::temperature(&mut scores, options.temperature);
    processors::top_k(&mut scores, options.top_k);
    processors::top_p(&mut scores, options.top_p);
    processors::min_p(&mut scores, options.min_p);
    Ok(processors::softmax(&scores))
}

/// All probability on the largest score, the first of equals.
fn one_hot(scores: &[f64]) -> Vec<f64> {
    let mut best = 0;
    for (i, x) in scores.iter().enumerate() {
        if *x > scores[best] {
            best = i;
        }
    }
    let mut probs = vec![0.0; scores.len()];
    probs[best] = 1.0;
    probs
}

/// The token at `u` in `[0, 1)` along the cumulative distribution, in the order of ids.
pub fn draw(probs: &[f64], u: f64) -> u32 {
    let mut left = u * probs.iter().sum::<f64>();
    let mut last = 0;
    for (id, &p) in probs.iter().enumerate() {
        if p > 0.0 {
            last = id;
            if left < p {
                break;
            }
            left -= p;
        }
    }
    last as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_distribution() {
        let probs = [0.2, 0.0, 0.5, 0.3];
        let picks = [(0.0, 0), (0.199, 0), (0.2, 2), (0.699, 2), (0.701, 3), (0.999_999, 3)];
        assert!(picks.iter().all(|&(u, id)| draw(&probs, u) == id));
    }

    #[test]
    fn temperature_zero_is_greedy_and_takes_the_first_of_equals() {
        let options = Options { temperature: 0.0, ..Options::default() };
        assert_eq!(probabilities(&[1.0, 3.0, 3.0], &[], &options).unwrap(), [0.0, 1.0, 0.0]);
    }

    #[test]
    fn impossible_logits_and_options_are_errors() {
        for logits in [[f32::NAN, 0.0], [f32::INFINITY, 0.0], [f32::NEG_INFINITY; 2]] {
            assert!(probabilities(&logits, &[], &Options::default()).is_err());
        }
        for json in [r#"{"temperature": -1}"#, r#"{"top_p": 0}"#, r#"{"min_p": 2}"#, r#"{"tmperature": 1}"#] {
            assert!(Options::from_json(json).is_err(), "{json}");
        }
    }
}
