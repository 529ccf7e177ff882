//! The whole network, without Python: against its f64 twin, with a cache, at the edges, and in files.

mod adapters;
mod batches;
mod buckets;
mod documents;
mod edges;
mod files;
mod generation;
mod gradients;
mod inside;
mod quantized;
mod speculation;

use super::Gpt;
use super::arena::Arena;
use super::config::{Activation, Config, LayerType, Mlp, Norm, Position};
use crate::kernels::matmul::Precision;
use crate::kernels::rope::Scaling;
use crate::model::rows::{Labels, Rows};
use subgpt_testkit::noise::Noise;

/// Small, with no two sizes alike.
pub(super) fn tiny() -> Config {
    Config {
        vocab_size: 11,
        block_size: 7,
        n_layer: 2,
        n_head: 2,
        n_kv_head: None,
        n_embd: 6,
        head_dim: None,
        n_inner: Some(10),
        bias: true,
        qkv_bias: None,
        dropout: 0.0,
        activation: Activation::GeluNew,
        mlp: Mlp::Plain,
        norm: Norm::LayerNorm,
        norm_gain: true,
        norm_unit_offset: false,
        post_norm: false,
        norm_eps: 1e-5,
        position: Position::Learned,
        rope_theta: 1e4,
        rope_scaling: None,
        rope_local_theta: None,
        rope_layers: None,
        qk_norm: false,
        query_pre_attn_scalar: None,
        attn_softcap: None,
        logit_softcap: None,
        sliding_window: None,
        layer_types: None,
        scale_embeddings: false,
        tie_embeddings: true,
    }
}

/// A later block: everything that GPT-2's has not.
fn modern() -> Config {
    Config {
        n_head: 4,
        n_kv_head: Some(2),
        n_embd: 16,
        bias: false,
        activation: Activation::Silu,
        mlp: Mlp::Gated,
        norm: Norm::RmsNorm,
        position: Position::Rotary,
        rope_theta: 100.0,
        qk_norm: true,
        tie_embeddings: false,
        ..tiny()
    }
}

/// Gemma's block, with what its versions have between them.
fn gemma() -> Config {
    Config {
        head_dim: Some(6),
        activation: Activation::GeluNew,
        norm_unit_offset: true,
        post_norm: true,
        rope_scaling: Some(Scaling::Linear { factor: 2.0 }),
        rope_local_theta: Some(30.0),
        query_pre_attn_scalar: Some(3.0),
        attn_softcap: Some(2.0),
        logit_softcap: Some(3.0),
        sliding_window: Some(3),
        layer_types: Some(vec![LayerType::SlidingAttention, LayerType::FullAttention]),
        scale_embeddings: true,
        tie_embeddings: true,
        ..modern()
    }
}

/// A model whose weights are large enough for every part to matter: fresh biases are 0, fresh matrices near it.
fn lively(config: Config) -> Gpt {
    let mut model = Gpt::new(config, 3).unwrap();
    let mut noise = Noise::new(5);
    for tensor in model.layout.tensors.clone() {
        let values = noise.normal(tensor.range.len(), 0.4);
        let offset = if tensor.name.ends_with(".weight") && !tensor.is_matrix() {
            1.0 - model.config.gain_offset()
        } else {
            0.0
        };
        model.params[tensor.range].iter_mut().zip(values).for_each(|(p, v)| *p = v + offset);
    }
    model
}

fn some_ids(n: usize, vocab_size: usize) -> Vec<u32> {
    let mut noise = Noise::new(9);
    (0..n).map(|_| noise.below(vocab_size) as u32).collect()
}

fn loss(model: &Gpt, ids: &[u32], targets: &[i64], b: usize, t: usize) -> f64 {
    model.loss(&mut Arena::new(), Rows::new(ids, b, t), Labels::new(targets, -100)).unwrap()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
