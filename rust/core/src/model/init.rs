//! nanoGPT's initialisation: N(0, 0.02) for matrices, smaller for the projections that add to the residual stream.
//!
//! Radford et al. 2019 scale those by `1 / sqrt(2 n_layer)`, so that the stream's variance does not grow with depth.
//! Gains are 1, biases 0.

use super::config::Config;
use super::params::{Layout, Tensor};
use crate::rng::{Philox, Stream};

/// Standard deviation of every matrix.
const STD: f64 = 0.02;

fn is_gain(tensor: &Tensor) -> bool {
    tensor.shape.len() == 1 && tensor.name.ends_with(".weight")
}

/// Fills `params` with fresh weights; each tensor has its own stream, so adding one does not change the others.
pub fn initialise(params: &mut [f32], layout: &Layout, config: &Config, seed: u64) {
    let residual = STD / ((2 * config.n_layer) as f64).sqrt();
    for (i, tensor) in layout.tensors.iter().enumerate() {
        let values = &mut params[tensor.range.clone()];
        if tensor.is_matrix() {
            let std = if tensor.name.ends_with("c_proj.weight") { residual } else { STD };
            Philox::new(seed, Stream::Init, i as u64).fill_normal(values, std);
        } else {
            values.fill(if is_gain(tensor) { 1.0 } else { 0.0 });
        }
    }
}
