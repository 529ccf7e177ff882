//! What shapes the distribution of the next token.

use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The rules of sampling, by Hugging Face's names. Every rule has a value that leaves the logits alone.
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
    /// Keep the smallest set of most typical tokens that holds this much probability; 1 keeps all.
    pub typical_p: f64,
    /// Logits of tokens already in the sequence are divided by it (multiplied where negative); 1 leaves them.
    pub repetition_penalty: f64,
    /// Taken from a token's logit for each time it is in the sequence; 0 leaves them.
    pub frequency_penalty: f64,
    /// Taken from the logits of tokens already in the sequence; 0 leaves them.
    pub presence_penalty: f64,
    /// No run of so many tokens comes a second time; 0 lets all.
    pub no_repeat_ngram_size: usize,
    /// Added to the logits of these ids.
    pub logit_bias: BTreeMap<u32, f64>,
    /// Sequences of ids that are never completed.
    pub bad_words_ids: Vec<Vec<u32>>,
    /// Tokens to draw before one of `eos_token_id` becomes possible.
    pub min_new_tokens: usize,
    /// Ids that end a text.
    pub eos_token_id: Vec<u32>,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            no_repeat_ngram_size: 0,
            logit_bias: BTreeMap::new(),
            bad_words_ids: Vec::new(),
            min_new_tokens: 0,
            eos_token_id: Vec::new(),
            seed: 0,
        }
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
        for (field, p) in [("top_p", self.top_p), ("typical_p", self.typical_p)] {
            if !(p > 0.0 && p <= 1.0) {
                return refuse(field, p, "use a number in (0, 1]; 1 keeps all tokens");
            }
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return refuse("min_p", self.min_p, "use a number in [0, 1]; 0 keeps all tokens");
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return refuse("repetition_penalty", self.repetition_penalty, "use a positive number; 1 leaves the logits");
        }
        for (field, penalty) in
            [("frequency_penalty", self.frequency_penalty), ("presence_penalty", self.presence_penalty)]
        {
            if !penalty.is_finite() {
                return refuse(field, penalty, "use a finite number; 0 leaves the logits");
            }
        }
        if let Some(bias) = self.logit_bias.values().find(|bias| !bias.is_finite()) {
            return refuse("logit_bias", *bias, "use finite numbers; -100 all but bans a token");
        }
        Ok(())
    }

    /// Whether a rule changes single logits, before the distribution as a whole is narrowed.
    pub(super) fn changes_scores(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.frequency_penalty != 0.0
            || self.presence_penalty != 0.0
            || !self.logit_bias.is_empty()
            || !self.ruling_out().is_empty()
    }

    /// The names of the rules in use that can make tokens impossible whatever their logits are.
    pub(super) fn ruling_out(&self) -> Vec<&'static str> {
        let rules = [
            ("no_repeat_ngram_size", self.no_repeat_ngram_size > 0),
            ("bad_words", !self.bad_words_ids.is_empty()),
            ("min_new_tokens", self.min_new_tokens > 0 && !self.eos_token_id.is_empty()),
        ];
        rules.into_iter().filter_map(|(name, used)| used.then_some(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for json in [
            r#"{"temperature": -1}"#,
            r#"{"top_p": 0}"#,
            r#"{"typical_p": 1.5}"#,
            r#"{"min_p": 2}"#,
            r#"{"repetition_penalty": 0}"#,
            r#"{"logit_bias": {"-1": 2}}"#,
            r#"{"bad_words_ids": [3]}"#,
            r#"{"tmperature": 1}"#,
        ] {
            assert!(Options::from_json(json).is_err(), "{json}");
        }
        assert_eq!(Options::from_json(r#"{"logit_bias": {"7": -2}}"#).unwrap().logit_bias[&7], -2.0);
    }
}
