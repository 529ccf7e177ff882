//! What a model is made of, under the field's names; every number is checked before a buffer is sized by it.

use crate::error::{Error, Result};
use crate::kernels::gelu::Gelu;
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
    pub fn kernel(self) -> Gelu {
        match self {
            Activation::Gelu => Gelu::Erf,
            Activation::GeluNew => Gelu::Tanh,
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
        self.n_inner.unwrap_or(4 * self.n_embd)
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// Every dimension is in range and they fit together.
    pub fn validate(&self) -> Result<()> {
        let dimensions = [
            ("vocab_size", self.vocab_size),
            ("block_size", self.block_size),
            ("n_layer", self.n_layer),
            ("n_head", self.n_head),
            ("n_embd", self.n_embd),
            ("n_inner", self.inner()),
        ];
        for (field, value) in dimensions {
            if !(1..=MAX_DIMENSION).contains(&value) {
                let remedy = format!("use a whole number between 1 and {MAX_DIMENSION}");
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
