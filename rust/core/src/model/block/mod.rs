//! One block: attention, then the MLP, each with its norm before it and a residual connection round it.
//!
//! ```text
//! mid = x   + proj(attention(c_attn(ln_1(x))))
//! out = mid + proj(gelu(c_fc(ln_2(mid))))
//! ```

pub mod attn;
pub mod mlp;

use super::config::Config;
use super::params::{Block, Norm};
use crate::error::Result;
use crate::kernels::Beta;
use crate::kernels::dropout::Dropout;
use crate::kernels::layer_norm::{layer_norm, layer_norm_backward};
use crate::model::linear::{view, view_mut};

/// What both halves of a block look at and neither changes.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The model's shape.
    pub config: &'a Config,
    /// All weights.
    pub params: &'a [f32],
    /// Where this block's weights lie.
    pub block: &'a Block,
    /// Sequences.
    pub b: usize,
    /// Positions of each.
    pub t: usize,
    /// This pass's dropout, if any.
    pub dropout: Option<Masks>,
    /// The block's number, for its dropout streams.
    pub layer: usize,
}

impl Context<'_> {
    /// Rows of the residual stream.
    pub fn n(&self) -> usize {
        self.b * self.t
    }
}

/// The dropout masks of one pass: each place in the network has a stream of its own, replayed in the backward pass.
#[derive(Clone, Copy, Debug)]
pub struct Masks {
    /// Probability of dropping.
    pub p: f32,
    /// Seed of the run.
    pub seed: u64,
    /// Number of the pass.
    pub pass: u64,
    /// Places in the network.
    pub places: u64,
}

/// A place where elements are dropped.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// The sum of the embeddings.
    Embedding,
    /// The probabilities of a block's attention.
    Probabilities(usize),
    /// What a block's attention adds to the stream.
    Attention(usize),
    /// What a block's MLP adds to the stream.
    Mlp(usize),
}

impl Masks {
    /// The mask of one place in this pass.
    pub fn at(&self, place: Place) -> Dropout {
        let index = match place {
            Place::Embedding => 0,
            Place::Probabilities(layer) => 1 + 3 * layer as u64,
            Place::Attention(layer) => 2 + 3 * layer as u64,
            Place::Mlp(layer) => 3 + 3 * layer as u64,
        };
        Dropout { p: self.p, seed: self.seed, substream: self.pass.wrapping_mul(self.places).wrapping_add(index) }
    }
}

/// `y = norm(x)` for the first `n` rows of `x`; keeps their mean and reciprocal deviation.
pub fn norm_forward(
    norm: &Norm,
    config: &Config,
    params: &[f32],
    n: usize,
    x: &[f32],
    stats: &mut [&mut [f32]; 2],
    y: &mut [f32],
) -> Result<()> {
    let c = config.n_embd;
    let bias = norm.bias.clone().map(|range| &params[range]);
    let [mean, rstd] = stats;
    let (mean, rstd) = (&mut mean[..n], &mut rstd[..n]);
    layer_norm(view(x, n, c), &params[norm.weight.clone()], bias, config.norm_eps, view_mut(y, n, c), mean, rstd)
}

/// Adds the gradients of gain and offset, and the norm's share to `dx`.
pub fn norm_backward(
    norm: &Norm,
    params: &[f32],
    grads: &mut [f32],
    n: usize,
    x: &[f32],
    stats: &[&mut [f32]; 2],
    dy: &[f32],
    dx: &mut [f32],
    beta: Beta,
) -> Result<()> {
    let c = norm.weight.len();
    let (dweight, dbias) = match norm.bias.clone() {
        None => (&mut grads[norm.weight.clone()], None),
        Some(bias) => {
            // The offset lies behind the gain in the flat buffer.
            let (before, after) = grads.split_at_mut(bias.start);
            (&mut before[norm.weight.clone()], Some(&mut after[..c]))
        }
    };
    let weight = &params[norm.weight.clone()];
    layer_norm_backward(
        view(x, n, c),
        weight,
        stats[0],
        stats[1],
        view(dy, n, c),
        view_mut(dx, n, c),
        beta,
        dweight,
        dbias,
    )
}
