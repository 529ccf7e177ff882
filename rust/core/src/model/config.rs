//! What a model is made of, under the field's names; every number is checked before a buffer is sized by it.

use crate::error::{Error, Result};
use crate::kernels::activation::Activation as Kernel;
use crate::kernels::rope::{Scaling, Waves};
use serde::{Deserialize, Serialize};

mod validate;

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

/// What the attention of a block sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerType {
    /// All tokens before.
    FullAttention,
    /// The last `sliding_window` tokens, its own included.
    SlidingAttention,
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
    /// Width of a head; `n_embd / n_head` when absent.
    #[serde(default)]
    pub head_dim: Option<usize>,
    /// Width inside the MLP; four times `n_embd` when absent.
    pub n_inner: Option<usize>,
    /// Whether linear layers and layer norms have biases.
    pub bias: bool,
    /// Whether the projections of queries, keys and values have biases; as `bias` when absent.
    #[serde(default)]
    pub qkv_bias: Option<bool>,
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
    /// Whether gains are stored as differences to 1 (Gemma).
    #[serde(default)]
    pub norm_unit_offset: bool,
    /// Whether what attention and MLP add to the stream is normalised first (Gemma 2).
    #[serde(default)]
    pub post_norm: bool,
    /// Added to the variance, or to the mean square.
    pub norm_eps: f32,
    /// How a token learns where it is.
    #[serde(default)]
    pub position: Position,
    /// The longest period of rotary positions, over `2 pi`.
    #[serde(default = "theta")]
    pub rope_theta: f64,
    /// How the waves of rotary positions are stretched.
    #[serde(default)]
    pub rope_scaling: Option<Scaling>,
    /// The longest period in blocks with a sliding window, whose waves are then not stretched; as in others when absent
    /// (Gemma 3).
    #[serde(default)]
    pub rope_local_theta: Option<f64>,
    /// For each block whether it rotates queries and keys; all do when absent (SmolLM 3 leaves out every fourth).
    #[serde(default)]
    pub rope_layers: Option<Vec<bool>>,
    /// Whether the rows of each query and key head are normalised (RMS) before attention.
    #[serde(default)]
    pub qk_norm: bool,
    /// Scores are divided by its root; `head_dim` when absent.
    #[serde(default)]
    pub query_pre_attn_scalar: Option<f64>,
    /// Bound of the scores (Gemma 2).
    #[serde(default)]
    pub attn_softcap: Option<f32>,
    /// Bound of the logits (Gemma 2).
    #[serde(default)]
    pub logit_softcap: Option<f32>,
    /// How many tokens a block of sliding attention sees.
    #[serde(default)]
    pub sliding_window: Option<usize>,
    /// What each block sees; with a `sliding_window` all slide when absent, else none.
    #[serde(default)]
    pub layer_types: Option<Vec<LayerType>>,
    /// Whether embeddings are multiplied by the root of `n_embd` (Gemma).
    #[serde(default)]
    pub scale_embeddings: bool,
    /// Whether the output projection is the token embedding.
    pub tie_embeddings: bool,
}

fn yes() -> bool {
    true
}

fn theta() -> f64 {
    10_000.0
}

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
        // Also asked before the number of heads is known to be one.
        self.head_dim.unwrap_or(self.n_embd.checked_div(self.n_head).unwrap_or(0))
    }

    /// Columns of the queries, and of attention's output before its projection.
    pub fn q_width(&self) -> usize {
        self.n_head * self.head_dim()
    }

    /// Columns of queries and keys side by side.
    pub fn qk_width(&self) -> usize {
        self.q_width() + self.kv_width()
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
        self.q_width() + 2 * self.kv_width()
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

    /// Whether the projections of queries, keys and values have biases.
    pub fn has_qkv_bias(&self) -> bool {
        self.qkv_bias.unwrap_or(self.bias)
    }

    /// What is added to the stored gains of norms.
    pub fn gain_offset(&self) -> f32 {
        if self.norm_unit_offset { 1.0 } else { 0.0 }
    }

    /// The factor of the scores; `None` for the root of the head's width.
    pub fn attention_scale(&self) -> Option<f32> {
        self.query_pre_attn_scalar.map(|scalar| (1.0 / scalar.sqrt()) as f32)
    }

    /// The factor of the embeddings.
    pub fn embedding_scale(&self) -> Option<f32> {
        self.scale_embeddings.then(|| (self.n_embd as f32).sqrt())
    }

    /// How many tokens block `layer` sees, where not all.
    pub fn window(&self, layer: usize) -> Option<usize> {
        match &self.layer_types {
            Some(types) if types[layer] == LayerType::FullAttention => None,
            _ => self.sliding_window,
        }
    }

    /// The waves by which block `layer` rotates queries and keys, if it does.
    pub fn waves(&self, layer: usize) -> Option<Waves> {
        let rotates = self.rope_layers.as_ref().is_none_or(|layers| layers[layer]);
        if self.position != Position::Rotary || !rotates {
            return None;
        }
        let dim = self.head_dim();
        Some(match self.rope_local_theta.filter(|_| self.window(layer).is_some()) {
            Some(theta) => Waves::new(dim, theta),
            None => Waves { dim, theta: self.rope_theta, scaling: self.rope_scaling },
        })
    }

    /// Whether this is GPT-2's block, whose tensors have GPT-2's names and orientation.
    pub fn is_gpt2(&self) -> bool {
        self.norm == Norm::LayerNorm
            && self.norm_gain
            && self.position == Position::Learned
            && self.mlp == Mlp::Plain
            && !self.qk_norm
            && !self.post_norm
            && self.kv_heads() == self.n_head
            && self.q_width() == self.n_embd
            && self.has_qkv_bias() == self.bias
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::tiny;

    fn nano() -> Config {
        Config { n_embd: 8, n_inner: None, ..tiny() }
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
}
