//! What a configuration cannot be: every number is looked at by itself and beside the others.

use super::{Activation, Config, LayerType, Mlp, Norm, Position};
use crate::error::{Error, Result};

/// No dimension may exceed this: a larger one is a typing error, and products of two stay far from overflow.
const MAX_DIMENSION: usize = 1 << 28;

/// Nor may there be more blocks: each has a dozen tensors, whose names alone would fill the memory.
const MAX_LAYERS: usize = 1 << 16;

/// 64 TiB of weights: beyond any machine, and far below where sums of sizes would overflow.
const MAX_PARAMETERS: u128 = 1 << 44;

impl Config {
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
            ("head_dim", self.head_dim.unwrap_or(1), MAX_DIMENSION),
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
            return Err(match self.head_dim {
                Some(width) => Error::config("head_dim", width, problem, "make it even"),
                None => Error::config("n_head", self.n_head, problem, "make n_embd / n_head even"),
            });
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
    use crate::kernels::rope::Scaling;
    use crate::model::tests::tiny;

    fn nano() -> Config {
        Config { n_embd: 8, n_inner: None, ..tiny() }
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
        refused(Config { n_head: 0, ..nano() }, "n_head = 0");
        refused(Config { n_head: 3, ..nano() }, "n_head = 3");
        refused(Config { n_head: 16, ..nano() }, "n_head = 16");
        refused(Config { dropout: 1.0, ..nano() }, "dropout = 1");
        refused(Config { dropout: f32::NAN, ..nano() }, "dropout");
        refused(Config { norm_eps: 0.0, ..nano() }, "norm_eps = 0");
        refused(Config { n_kv_head: Some(0), ..nano() }, "n_kv_head = 0");
        refused(Config { n_head: 4, n_kv_head: Some(3), ..nano() }, "n_kv_head = 3");
        refused(Config { n_head: 8, position: Position::Rotary, ..nano() }, "n_head = 8");
        refused(Config { rope_theta: f64::NAN, ..nano() }, "rope_theta");
        refused(Config { mlp: Mlp::Gated, activation: Activation::Relu2, ..nano() }, "activation");
        refused(Config { head_dim: Some(0), ..nano() }, "head_dim = 0");
        refused(Config { head_dim: Some(3), position: Position::Rotary, ..nano() }, "head_dim = 3");
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
