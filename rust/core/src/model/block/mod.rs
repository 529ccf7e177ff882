//! One block for every family: attention, then the MLP, each with its norm before it and a residual connection round it.
//!
//! ```text
//! middle = x      + post_1(out(attention(qkv(norm_1(x)))))
//! output = middle + post_2(down(f(up(norm_2(middle)))))
//! ```
//!
//! Families differ in data: which norm, whether what is added is normed as well (`post_1`, `post_2`, most have none),
//! whether queries and keys are normed and rotated, how far attention sees, whether the MLP is gated.
//! Rows that products read are of type `E`, float32 or bfloat16; the residual stream is float32.

pub mod attn;
pub mod mlp;
mod turn;

use super::adapter::apply::Room;
use super::config::{Config, Norm as NormKind};
use super::documents::Documents;
use super::gradients::Gradients;
use super::linear::{Weights, view, view_mut};
use super::params::{Block, Linear, Norm};
use crate::error::Result;
use crate::kernels::Beta;
use crate::kernels::convert::convert;
use crate::kernels::dropout::{Dropout, dropout};
use crate::kernels::layer_norm::{layer_norm, layer_norm_backward};
use crate::kernels::matmul::Scalar;
use crate::kernels::residual::add_assign;
use crate::kernels::rms_norm::{rms_norm, rms_norm_backward};
use crate::kernels::rope::Rope;
use crate::profile::{Work, measure};
use crate::simd::Element;

/// What both halves of a block look at and neither changes.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The model's shape.
    pub config: &'a Config,
    /// All weights.
    pub weights: Weights<'a>,
    /// Where this block's weights lie.
    pub block: &'a Block,
    /// Sequences.
    pub b: usize,
    /// Positions of each.
    pub t: usize,
    /// Angles of the sequences' positions, where this block rotates queries and keys.
    pub rope: Option<&'a Rope>,
    /// The documents in the sequences, where they hold several.
    pub documents: Option<&'a Documents>,
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
    /// Elements of the stream, and of the probabilities of a block's attention, in the rows of the batch that others
    /// compute before these.
    pub before: [u64; 2],
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
        let first = self.before[usize::from(matches!(place, Place::Probabilities(_)))];
        let index = match place {
            Place::Embedding => 0,
            Place::Probabilities(layer) => 1 + 3 * layer as u64,
            Place::Attention(layer) => 2 + 3 * layer as u64,
            Place::Mlp(layer) => 3 + 3 * layer as u64,
        };
        let substream = self.pass.wrapping_mul(self.places).wrapping_add(index);
        Dropout { p: self.p, seed: self.seed, substream, first }
    }
}

/// `y = norm(x)` for the first `n` rows of `x`; keeps their mean (for a layer norm) and reciprocal deviation.
pub fn norm_forward<E: Element>(
    norm: &Norm,
    config: &Config,
    params: &[f32],
    n: usize,
    x: &[f32],
    stats: &mut [&mut [f32]; 2],
    y: &mut [E],
) -> Result<()> {
    let c = config.n_embd;
    let [weight, bias] = [&norm.weight, &norm.bias].map(|range| range.clone().map(|range| &params[range]));
    let [mean, rstd] = stats;
    let (mean, rstd) = (&mut mean[..n], &mut rstd[..n]);
    let (x, y) = (view(x, n, c), view_mut(y, n, c));
    measure("norm", Work::bytes(n * c * (4 + size_of::<E>())), || match (config.norm, weight) {
        (NormKind::LayerNorm, Some(weight)) => layer_norm(x, weight, bias, config.norm_eps, y, mean, rstd),
        (_, weight) => rms_norm(x, weight, config.gain_offset(), config.norm_eps, y, rstd),
    })
}

/// Adds the gradients of gain and offset, and writes (or adds) the norm's share of `dx`.
pub fn norm_backward(
    norm: &Norm,
    config: &Config,
    params: &[f32],
    grads: &mut Gradients<'_>,
    n: usize,
    x: &[f32],
    stats: &[&mut [f32]; 2],
    dy: &[f32],
    dx: &mut [f32],
    beta: Beta,
) -> Result<()> {
    let c = config.n_embd;
    let [mean, rstd] = stats;
    let (mean, rstd) = (&mean[..n], &rstd[..n]);
    let (x, dy, dx) = (view(x, n, c), view(dy, n, c), view_mut(dx, n, c));
    let [dweight, dbias] = grads.of_both(norm.weight.as_ref(), norm.bias.as_ref());
    let weight = norm.weight.clone().map(|range| &params[range]);
    measure("norm, backward", Work::bytes(n * c * 16), || match (config.norm, weight) {
        (NormKind::LayerNorm, Some(weight)) => layer_norm_backward(x, weight, mean, rstd, dy, dx, beta, dweight, dbias),
        (_, weight) => rms_norm_backward(x, weight, config.gain_offset(), rstd, dy, dx, beta, dweight),
    })
}

/// The last layer of a half of a block, added to the stream `x` that the half read:
/// `out = x + dropped(post(linear(rows)))`. The half's `branch` and the `stats` of its norm `post` are saved where the way
/// back reads them.
pub fn add_branch<E: Scalar>(
    cx: &Context<'_>,
    place: Place,
    linear: &Linear,
    rows: &[E],
    room: Room<'_, E>,
    post: Option<&Norm>,
    branch: &mut [f32],
    stats: &mut [&mut [f32]; 2],
    x: &[f32],
    out: &mut [f32],
) -> Result<()> {
    let (n, weights) = (cx.n(), cx.weights);
    let name = if let Place::Attention(_) = place { "attention out" } else { "mlp down" };
    match post {
        Some(post) => {
            linear.forward(name, weights, n, rows, room, branch, None)?;
            norm_forward(post, cx.config, weights.params, n, branch, stats, out)?;
        }
        None if linear.is_scaled(weights) => {
            linear.forward(name, weights, n, rows, room, branch, None)?;
            out.copy_from_slice(branch);
        }
        None if cx.dropout.is_none() => return linear.forward(name, weights, n, rows, room, out, Some(x)),
        None => linear.forward(name, weights, n, rows, room, out, None)?,
    }
    measure("add", Work::bytes(out.len() * 20), || {
        cx.dropout.map_or(Ok(()), |masks| dropout(out, masks.at(place)))?;
        add_assign(out, x)
    })
}

/// The gradient of what a half of a block adds to the stream, from that of the stream `dx`, as an operand of products:
/// through its dropout, its norm `post`, whose gain's gradient it adds, and the factors that an adapter has for the
/// columns of the half's last layer `linear`. The half's rows `branch` and their statistics were saved.
pub fn branch_backward<'a, E: Scalar>(
    cx: &Context<'_>,
    grads: &mut Gradients<'_>,
    place: Place,
    linear: &Linear,
    post: Option<&Norm>,
    branch: &[f32],
    stats: &[&mut [f32]; 2],
    dx: &'a [f32],
    dropped: &mut [f32],
    d_branch: &'a mut [f32],
    room: &'a mut [E],
) -> Result<&'a [E]> {
    let mask = cx.dropout.map(|masks| masks.at(place));
    let (dy, mask) = match post {
        None => (dx, mask),
        Some(post) => {
            let dy = match mask {
                None => dx,
                Some(mask) => {
                    dropped.copy_from_slice(dx);
                    dropout(dropped, mask)?;
                    &*dropped
                }
            };
            let params = cx.weights.params;
            norm_backward(post, cx.config, params, grads, cx.n(), branch, stats, dy, d_branch, Beta::Overwrite)?;
            (&*d_branch, None)
        }
    };
    if !E::HALF && mask.is_none() && !linear.is_scaled(cx.weights) {
        return Ok(bytemuck::cast_slice(dy));
    }
    measure("narrow dx", Work::bytes(dx.len() * (4 + size_of::<E>())), || {
        convert(dy, room)?;
        mask.map_or(Ok(()), |mask| dropout(room, mask))
    })?;
    linear.backward_scale(cx.weights, grads, cx.n(), branch, room)?;
    Ok(room)
}
