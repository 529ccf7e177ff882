//! What a model is made of, under the field's names; every number is checked before a buffer is sized by it.

use crate::error::{Error, Result};
use crate::kernels::activation;
use serde::{Deserialize, Serialize};

/// The nonlinearity of the MLP, by Hugging Face's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// GELU with the error function.
    Gelu,
    /// GELU with the tanh approximation.
    GeluNew,
}

impl Activation {
    /// The kernel that computes it.
    pub fn kernel(self) -> activation::Activation {
        match self {
            Activation::Gelu => activation::Activation::Gelu,
            Activation::GeluNew => activation::Activation::GeluTanh,
        }
    }
}

/// The shape of a GPT-2 style decoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Longest sequence: the number of learned positions.
    pub block_size: usize,
    /// Blocks.
    pub n_layer: usize,
    /// Attention heads.
    pub n_head: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width inside the MLP; four times `n_embd` when absent.
    pub n_inner: Option<usize>,
    /// Whether linear layers and norms have biases.
    pub bias: bool,
    /// Probability that an element is dropped while training, in `[0, 1)`.
    pub dropout: f32,
    /// The MLP's nonlinearity.
    pub activation: Activation,
    /// Added to the variance in LayerNorm.
    pub norm_eps: f32,
    /// Whether the output projection is the token embedding.
    pub tie_embeddings: bool,
}

/// No dimension may exceed this: a larger one is a typing error, and products of two stay far from overflow.
const MAX_DIMENSION: usize = 1 << 28;

/// Nor may there be more blocks: each has a dozen tensors, whose names alone would fill the memory.
const MAX_LAYERS: usize = 1 << 16;

/// 64 TiB of weights: beyond any machine, and far below where sums of sizes would overflow.
const MAX_PARAMETERS: u128 = 1 << 44;

impl Config {
    /// Reads a configuration from JSON and checks it.
    pub fn from_json(json: &str) -> Result<Self> {
        let config: Config = serde_json::from_str(json)
            .map_err(|e| Error::config("json", "", format!("cannot be read: {e}"), "see GPTConfig for the fields"))?;
        config.validate()?;
        Ok(config)
    }

    /// The configuration as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Width of the MLP.
    pub fn inner(&self) -> usize {
        self.n_inner.unwrap_or(self.n_embd.saturating_mul(4))
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// That the matrices, whose sizes no fields in range can make overflow here, are not beyond all memory.
    pub fn check_size(&self) -> Result<()> {
        let [v, t, l, c, f] =
            [self.vocab_size, self.block_size, self.n_layer, self.n_embd, self.inner()].map(|n| n as u128);
        let tables = if self.tie_embeddings { v + t } else { 2 * v + t };
        let parameters = c * (tables + l * (4 * c + 2 * f));
        if parameters <= MAX_PARAMETERS {
            return Ok(());
        }
        let bytes = usize::try_from(4 * parameters).unwrap_or(usize::MAX);
        Err(Error::OutOfMemory { what: "parameters", bytes })
    }

    /// Every dimension is in range and they fit together.
    pub fn validate(&self) -> Result<()> {
        let dimensions = [
            ("vocab_size", self.vocab_size, MAX_DIMENSION),
            ("block_size", self.block_size, MAX_DIMENSION),
            ("n_layer", self.n_layer, MAX_LAYERS),
            ("n_head", self.n_head, MAX_DIMENSION),
            ("n_embd", self.n_embd, MAX_DIMENSION),
            ("n_inner", self.inner(), MAX_DIMENSION),
        ];
        for (field, value, most) in dimensions {
            if !(1..=most).contains(&value) {
                let remedy = format!("use a whole number between 1 and {most}");
                return Err(Error::config(field, value, "is out of range", remedy));
            }
        }
        if !self.n_embd.is_multiple_of(self.n_head) {
            let problem = format!("does not divide into n_head = {} heads", self.n_head);
            return Err(Error::config("n_embd", self.n_embd, problem, "make n_embd a multiple of n_head"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::config("dropout", self.dropout, "is no probability", "use a number in [0, 1)"));
        }
        if !(self.norm_eps.is_finite() && self.norm_eps > 0.0) {
            return Err(Error::config("norm_eps", self.norm_eps, "is not positive", "use a small number such as 1e-5"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nano() -> Config {
        Config {
            vocab_size: 7,
            block_size: 5,
            n_layer: 2,
            n_head: 2,
            n_embd: 8,
            n_inner: None,
            bias: true,
            dropout: 0.0,
            activation: Activation::GeluNew,
            norm_eps: 1e-5,
            tie_embeddings: true,
        }
    }

    #[test]
    fn json_is_read_back() {
        for config in [nano(), Config { n_inner: Some(3), dropout: 0.25, activation: Activation::Gelu, ..nano() }] {
            assert_eq!(Config::from_json(&config.to_json()).unwrap(), config);
        }
        assert!(Config::from_json("{").is_err());
        let unknown = nano().to_json().replace("n_layer", "n_layers");
        assert!(Config::from_json(&unknown).unwrap_err().to_string().contains("n_layers"));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let refused = |config: Config, words: &str| {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        };
        let huge = 1 << 28;
        refused(Config { vocab_size: 0, ..nano() }, "vocab_size = 0");
        refused(Config { n_embd: usize::MAX, ..nano() }, "n_embd");
        refused(Config { n_layer: huge, ..nano() }, "n_layer");
        refused(Config { n_inner: Some(0), ..nano() }, "n_inner = 0");
        refused(Config { n_head: 3, ..nano() }, "n_head = 3");
        refused(Config { dropout: 1.0, ..nano() }, "dropout = 1");
        refused(Config { dropout: f32::NAN, ..nano() }, "dropout");
        refused(Config { norm_eps: 0.0, ..nano() }, "norm_eps = 0");
        nano().validate().unwrap();
    }

    #[test]
    fn a_model_beyond_all_memory_is_one_before_it_is_laid_out() {
        let huge = 1 << 28;
        for config in [
            Config { n_embd: huge, n_inner: Some(huge), n_layer: 1 << 16, vocab_size: huge, ..nano() },
            Config { n_embd: 1 << 20, n_head: 1, vocab_size: huge, ..nano() },
        ] {
            config.validate().unwrap();
            assert!(matches!(crate::model::Gpt::new(config, 1), Err(Error::OutOfMemory { what: "parameters", .. })));
        }
        nano().check_size().unwrap();
    }
}
