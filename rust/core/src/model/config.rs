//! What a model is made of, under the field's names; every number is checked before a buffer is sized by it.

use crate::error::{Error, Result};
use crate::kernels::activation::Activation as Kernel;
use crate::kernels::rope::{Scaling, Waves};
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
        self.head_dim.unwrap_or(self.n_embd / self.n_head)
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

    /// That the matrices, whose sizes no fields in range can make overflow here, are not beyond all memory.
    pub fn check_size(&self) -> Result<()> {
        let [v, t, l, c, f, d, h] =
            [self.vocab_size, self.block_size, self.n_layer, self.n_embd, self.inner(), self.head_dim(), self.n_head]
                .map(|n| n as u128);
        let tables = if self.tie_embeddings { v } else { 2 * v };
        let positions = if self.position == Position::Learned { t } else { 0 };
        let parameters = c * (tables + positions + l * (4 * h * d + 3 * f));
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
            ("head_dim", self.head_dim(), MAX_DIMENSION),
            ("sliding_window", self.sliding_window.unwrap_or(1), MAX_DIMENSION),
        ];
        for (field, value, most) in dimensions {
            if !(1..=most).contains(&value) {
                let remedy = format!("use a whole number between 1 and {most}");
                return Err(Error::config(field, value, "is out of range", remedy));
            }
        }
        if self.head_dim.is_none() && !self.n_embd.is_multiple_of(self.n_head) {
            let problem = format!("does not divide into n_head = {} heads", self.n_head);
            return Err(Error::config("n_embd", self.n_embd, problem, "make n_embd a multiple of n_head"));
        }
        if self.kv_heads() == 0 || !self.n_head.is_multiple_of(self.kv_heads()) {
            let problem = format!("does not divide n_head = {}", self.n_head);
            return Err(Error::config("n_kv_head", self.kv_heads(), problem, "use a divisor of n_head"));
        }
        self.validate_positions()?;
        self.validate_layers()?;
        let gate = matches!(self.activation, Activation::Silu | Activation::Gelu | Activation::GeluNew);
        let plain = self.activation != Activation::Silu;
        if !(if self.mlp == Mlp::Gated { gate } else { plain }) {
            let problem = "does not go with this MLP";
            let remedy = "a gated MLP has silu, gelu or gelu_new, a plain one gelu, gelu_new or relu2";
            return Err(Error::config("activation", format!("{:?}", self.activation), problem, remedy));
        }
        for (field, value) in [("attn_softcap", self.attn_softcap), ("logit_softcap", self.logit_softcap)] {
            if let Some(value) = value.filter(|cap| !(cap.is_finite() && *cap > 0.0)) {
                return Err(Error::config(field, value, "is not positive", "use a number such as 50, or leave it out"));
            }
        }
        if self.norm == Norm::LayerNorm && !self.norm_gain {
            return Err(Error::config("norm_gain", false, "does not go with layer_norm", "use norm = rms_norm"));
        }
        if self.norm == Norm::LayerNorm && self.norm_unit_offset {
            return Err(Error::config("norm_unit_offset", true, "does not go with layer_norm", "use norm = rms_norm"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::config("dropout", self.dropout, "is no probability", "use a number in [0, 1)"));
        }
        if !(self.norm_eps.is_finite() && self.norm_eps > 0.0) {
            return Err(Error::config("norm_eps", self.norm_eps, "is not positive", "use a small number such as 1e-5"));
        }
        Ok(())
    }

    /// Rotary positions, and the scale of the scores.
    fn validate_positions(&self) -> Result<()> {
        if self.position == Position::Rotary && !self.head_dim().is_multiple_of(2) {
            let problem = "leaves heads of an odd width, which cannot be rotated";
            return Err(Error::config("n_head", self.n_head, problem, "make n_embd / n_head even"));
        }
        let thetas = [("rope_theta", Some(self.rope_theta)), ("rope_local_theta", self.rope_local_theta)];
        for (field, theta) in thetas {
            if let Some(theta) = theta.filter(|theta| !(theta.is_finite() && *theta >= 1.0)) {
                return Err(Error::config(field, theta, "is below 1", "use a number such as 10000"));
            }
        }
        if let Some(scaling) = self.rope_scaling.filter(|scaling| !scaling.is_valid()) {
            let remedy = "use positive factors, the low one below the high one";
            return Err(Error::config("rope_scaling", format!("{scaling:?}"), "stretches nothing", remedy));
        }
        match self.query_pre_attn_scalar {
            Some(scalar) if !(scalar.is_finite() && scalar > 0.0) => {
                Err(Error::config("query_pre_attn_scalar", scalar, "is not positive", "use the width of a head"))
            }
            _ => Ok(()),
        }
    }

    /// Lists with an entry for each block.
    fn validate_layers(&self) -> Result<()> {
        let lengths = [
            ("layer_types", self.layer_types.as_ref().map(Vec::len)),
            ("rope_layers", self.rope_layers.as_ref().map(Vec::len)),
        ];
        for (field, len) in lengths {
            if let Some(len) = len.filter(|&len| len != self.n_layer) {
                let problem = format!("is the number of its entries, but n_layer is {}", self.n_layer);
                return Err(Error::config(field, len, problem, "give one entry for each block"));
            }
        }
        let slides = self.layer_types.as_ref().is_some_and(|types| types.contains(&LayerType::SlidingAttention));
        if slides && self.sliding_window.is_none() {
            let problem = "has sliding attention without a width of the window";
            return Err(Error::config("layer_types", "sliding_attention", problem, "set sliding_window"));
        }
        Ok(())
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
        refused(Config { mlp: Mlp::Gated, activation: Activation::Relu2, ..nano() }, "activation");
        refused(Config { head_dim: Some(0), ..nano() }, "head_dim = 0");
        refused(Config { head_dim: Some(3), position: Position::Rotary, ..nano() }, "n_head = 2");
        refused(Config { logit_softcap: Some(0.0), ..nano() }, "logit_softcap = 0");
        refused(Config { attn_softcap: Some(f32::NAN), ..nano() }, "attn_softcap");
        refused(Config { sliding_window: Some(0), ..nano() }, "sliding_window = 0");
        refused(Config { layer_types: Some(vec![LayerType::FullAttention]), ..nano() }, "layer_types = 1");
        refused(Config { layer_types: Some(vec![LayerType::SlidingAttention; 2]), ..nano() }, "sliding_window");
        refused(Config { rope_layers: Some(Vec::new()), ..nano() }, "rope_layers = 0");
        refused(Config { rope_scaling: Some(Scaling::Linear { factor: -1.0 }), ..nano() }, "rope_scaling");
        refused(Config { rope_local_theta: Some(0.0), ..nano() }, "rope_local_theta = 0");
        refused(Config { query_pre_attn_scalar: Some(0.0), ..nano() }, "query_pre_attn_scalar = 0");
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
