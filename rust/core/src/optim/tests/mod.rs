//! Every rule against an f64 twin, on every instruction set and number of threads; state in files, and in shares.

mod files;
mod matrices;
mod rules;
mod shares;

use super::config::{AdjustLr, Decay};
use super::*;
use crate::model::config::Config as Shape;
use crate::model::rows::{Labels, Rows};
use subgpt_testkit::noise::Noise;

const SGD: Config = Config::Sgd { momentum: 0.0, weight_decay: 0.0 };
const ADAMW: Config = Config::Adamw { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, decay: Decay::Matrices };
const LION: Config = Config::Lion { beta1: 0.9, beta2: 0.99, weight_decay: 0.1, decay: Decay::Matrices };
const MUON: Config = Config::Muon {
    momentum: 0.95,
    adjust_lr: AdjustLr::Original,
    adam_rate: 0.5,
    beta1: 0.9,
    beta2: 0.95,
    eps: 1e-8,
    weight_decay: 0.1,
    decay: Decay::Matrices,
};

fn shape() -> Shape {
    Shape::from_json(
        r#"{"vocab_size": 11, "block_size": 7, "n_layer": 1, "n_head": 2, "n_embd": 6, "n_inner": null, "bias": true,
            "dropout": 0.0, "activation": "gelu_new", "norm_eps": 1e-5, "tie_embeddings": true}"#,
    )
    .unwrap()
}

fn model_of(shape: Shape) -> Gpt {
    let mut model = Gpt::new(shape, 1).unwrap();
    // Allocates the gradients.
    model.backward(Rows::new(&[1, 2], 1, 2), Labels::new(&[2, 3], -100), 1.0).unwrap();
    model
}

fn model() -> Gpt {
    model_of(shape())
}

/// Gives the model the gradients of step `t`.
fn set_gradients(model: &mut Gpt, t: u64) {
    let layout = model.layout.clone();
    let grads = model.gradients_mut().unwrap().settle();
    for tensor in &layout.tensors {
        let values = Noise::new(t * 1000 + tensor.range.start as u64).normal(tensor.range.len(), 0.3);
        grads[tensor.range.clone()].copy_from_slice(&values);
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
