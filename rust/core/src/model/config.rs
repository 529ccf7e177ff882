//! What a model is made of, under the field's names; every number is checked before a buffer is sized by it.

use crate::error::{Error, Result};
use crate::kernels::activation::Activation as Kernel;
use serde::{Deserialize, Serialize};

/// The nonlinearity of the MLP, by Hugging Face's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// GELU with the error function.
    Gelu,
    /// GELU with the tanh approximation.
    GeluNew,
    /// The square of the positive part (So et al., "Primer", 2021).
    Relu2,
    /// `x sigmoid(x)`, the gate of SwiGLU.
    Silu,
}

impl Activation {
    /// The kernel that computes it.
    pub fn kernel(self) -> Kernel {
        match self {
            Activation::Gelu => Kernel::Gelu,
            Activation::GeluNew => Kernel::GeluTanh,
            Activation::Relu2 => Kernel::Relu2,
            Activation::Silu => Kernel::Silu,
        }
    }
}

/// How rows are normalised before attention, MLP and head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Mean 0 and variance 1.
    #[default]
    LayerNorm,
    /// Mean square 1.
    RmsNorm,
}

/// How a token learns where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// A learned vector for each position, added to the token's.
    #[default]
    Learned,
    /// Queries and keys are rotated by their position (Su et al., "RoFormer", 2021).
    Rotary,
}

/// The shape of the MLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mlp {
    /// `down(f(up(x)))`
    #[default]
    Plain,
    /// `down(f(gate(x)) * up(x))` (Shazeer, "GLU variants improve Transformer", 2020).
    Gated,
}

/// The shape of a decoder: GPT-2's block, or a later one with other norms, positions and MLP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Longest sequence.
    pub block_size: usize,
    /// Blocks.
    pub n_layer: usize,
    /// Attention heads.
    pub n_head: usize,
    /// Heads of keys and values, each shared by `n_head / n_kv_head` query heads; `n_head` when absent.
    #[serde(default)]
    pub n_kv_head: Option<usize>,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width inside the MLP; four times `n_embd` when absent.
    pub n_inner: Option<usize>,
    /// Whether linear layers and layer norms have biases.
    pub bias: bool,
    /// Probability that an element is dropped while training, in `[0, 1)`.
    pub dropout: f32,
    /// The MLP's nonlinearity.
    pub activation: Activation,
    /// The MLP's shape.
    #[serde(default)]
    pub mlp: Mlp,
    /// How rows are normalised.
    #[serde(default)]
    pub norm: Norm,
    /// Whether norms have gains.
    #[serde(default = "yes")]
    pub norm_gain: bool,
    /// Added to the variance, or to the mean square.
    pub norm_eps: f32,
    /// How a token learns where it is.
    #[serde(default)]
    pub position: Position,
    /// The longest period of rotary positions, over `2 pi`.
    #[serde(default = "theta")]
    pub rope_theta: f64,
    /// Whether the rows of each query and key head are normalised (RMS) before attention.
    #[serde(default)]
    pub qk_norm: bool,
    /// Whether the output projection is the token embedding.
    pub tie_embeddings: bool,
}

fn yes() -> bool {
    true
}

fn theta() -> f64 {
    10_000.0
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

    /// Heads of keys and values.
    pub fn kv_heads(&self) -> usize {
        self.n_kv_head.unwrap_or(self.n_head)
    }

    /// Columns of the keys, and of the values.
    pub fn kv_width(&self) -> usize {
        self.kv_heads() * self.head_dim()
    }

    /// Columns of queries, keys and values side by side.
    pub fn qkv_width(&self) -> usize {
        self.n_embd + 2 * self.kv_width()
    }

    /// Columns of the MLP's rows before the activation: gate and up side by side where it is gated.
    pub fn up_width(&self) -> usize {
        match self.mlp {
            Mlp::Plain => self.inner(),
            Mlp::Gated => 2 * self.inner(),
        }
    }

    /// Whether queries and keys are changed between their projection and the scores.
    pub fn turns_queries(&self) -> bool {
        self.qk_norm || self.position == Position::Rotary
    }

    /// Whether this is GPT-2's block, whose tensors have GPT-2's names and orientation.
    pub fn is_gpt2(&self) -> bool {
        self.norm == Norm::LayerNorm
            && self.norm_gain
            && self.position == Position::Learned
            && self.mlp == Mlp::Plain
            && !self.qk_norm
            && self.kv_heads() == self.n_head
    }

    /// That the matrices, whose sizes no fields in range can make overflow here, are not beyond all memory.
    pub fn check_size(&self) -> Result<()> {
        let [v, t, l, c, f] =
            [self.vocab_size, self.block_size, self.n_layer, self.n_embd, self.inner()].map(|n| n as u128);
        let tables = if self.tie_embeddings { v + t } else { 2 * v + t };
        let parameters = c * (tables + l * (4 * c + 3 * f));
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
        if self.kv_heads() == 0 || !self.n_head.is_multiple_of(self.kv_heads()) {
            let problem = format!("does not divide n_head = {}", self.n_head);
            return Err(Error::config("n_kv_head", self.kv_heads(), problem, "use a divisor of n_head"));
        }
        if self.position == Position::Rotary && !self.head_dim().is_multiple_of(2) {
            let problem = "leaves heads of an odd width, which cannot be rotated";
            return Err(Error::config("n_head", self.n_head, problem, "make n_embd / n_head even"));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta >= 1.0) {
            return Err(Error::config("rope_theta", self.rope_theta, "is below 1", "use a number such as 10000"));
        }
        if (self.mlp == Mlp::Gated) != (self.activation == Activation::Silu) {
            let problem = "does not go with this MLP";
            let remedy = "a gated MLP has the activation silu, a plain one gelu, gelu_new or relu2";
            return Err(Error::config("activation", format!("{:?}", self.activation), problem, remedy));
        }
        if self.norm == Norm::LayerNorm && !self.norm_gain {
            return Err(Error::config("norm_gain", false, "does not go with layer_norm", "use norm = rms_norm"));
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
            n_kv_head: None,
            n_embd: 8,
            n_inner: None,
            bias: true,
            dropout: 0.0,
            activation: Activation::GeluNew,
            mlp: Mlp::Plain,
            norm: Norm::LayerNorm,
            norm_gain: true,
            norm_eps: 1e-5,
            position: Position::Learned,
            rope_theta: 1e4,
            qk_norm: false,
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
        refused(Config { n_kv_head: Some(0), ..nano() }, "n_kv_head = 0");
        refused(Config { n_head: 4, n_kv_head: Some(3), ..nano() }, "n_kv_head = 3");
        refused(Config { n_head: 8, position: Position::Rotary, ..nano() }, "n_head = 8");
        refused(Config { rope_theta: f64::NAN, ..nano() }, "rope_theta");
        refused(Config { mlp: Mlp::Gated, ..nano() }, "activation");
        refused(Config { activation: Activation::Silu, ..nano() }, "activation");
        refused(Config { norm_gain: false, ..nano() }, "norm_gain");
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
