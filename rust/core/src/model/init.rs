//! Fresh weights.
//!
//! GPT-2's block has nanoGPT's: N(0, 0.02) for matrices, smaller for the projections that add to the residual stream,
//! because Radford et al. 2019 scale those by `1 / sqrt(2 n_layer)`, so that the stream's variance does not grow with
//! depth. Other blocks have the same for embeddings and head; their linear layers are N(0, 1 / n_in), and the projections
//! that add to the stream are 0, so that every block begins as the identity (Zhang et al., "Fixup", 2019). Gains are 1
//! (0 where they are stored as differences to it), biases 0.

use super::config::Config;
use super::params::{Layout, Linear, Tensor};
use crate::rng::{Philox, Stream};

/// Standard deviation of embeddings, and of every matrix of GPT-2's block.
const STD: f64 = 0.02;

fn is_gain(tensor: &Tensor) -> bool {
    tensor.shape.len() == 1 && tensor.name.ends_with(".weight")
}

/// The standard deviation of a matrix.
fn deviation(tensor: &Tensor, layout: &Layout, config: &Config) -> f64 {
    let holds = |linear: &Linear| linear.weight.contains(&tensor.range.start);
    let adds_to_stream = layout.blocks.iter().any(|block| holds(&block.out) || holds(&block.down));
    if config.is_gpt2() {
        return if adds_to_stream { STD / ((2 * config.n_layer) as f64).sqrt() } else { STD };
    }
    match layout.linears().find(|linear| holds(linear)) {
        Some(_) if adds_to_stream => 0.0,
        Some(linear) if !holds(&layout.head) => 1.0 / (linear.n_in as f64).sqrt(),
        _ => STD,
    }
}

/// Fills `params` with fresh weights; each tensor has its own stream, so adding one does not change the others.
pub fn initialise(params: &mut [f32], layout: &Layout, config: &Config, seed: u64) {
    for (i, tensor) in layout.tensors.iter().enumerate() {
        let values = &mut params[tensor.range.clone()];
        if tensor.is_matrix() {
            let std = deviation(tensor, layout, config);
            Philox::new(seed, Stream::Init, i as u64).fill_normal(values, std);
        } else {
            values.fill(if is_gain(tensor) { 1.0 - config.gain_offset() } else { 0.0 });
        }
    }
}
