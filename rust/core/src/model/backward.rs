//! The network backwards: head, last norm, blocks in reverse, embeddings. The mirror of `forward.rs`.

use super::arena::{Activations, Keep};
use super::block::{Place, attn, mlp, norm_backward};
use super::forward::Pass;
use super::head::{self, Targets};
use super::linear::{Gradients, view, view_mut};
use super::params::Layout;
use crate::error::Result;
use crate::kernels::Beta;
use crate::kernels::dropout::dropout;
use crate::kernels::embedding::{add_positions_backward, embedding_backward};
use crate::kernels::matmul::Scalar;
use crate::kernels::residual::scale_assign;
use crate::parallel;
use crate::profile::{Work, measure};

/// Zeros the gradients that are only ever added to, before a pass whose products overwrite those of linear weights.
fn clear(layout: &Layout, grads: &mut [f32]) {
    let mut overwritten: Vec<_> = layout.linears().map(|linear| linear.weight.clone()).collect();
    overwritten.sort_by_key(|range| range.start);
    let mut start = 0;
    for range in overwritten {
        parallel::for_each_chunk(&mut grads[start..range.start], 1 << 16, |_, chunk| chunk.fill(0.0));
        start = range.end;
    }
    parallel::for_each_chunk(&mut grads[start..], 1 << 16, |_, chunk| chunk.fill(0.0));
}

impl Pass<'_> {
    /// Adds `scale` x the gradient of the mean loss to `grads` (or writes it over, as `grads.beta` says), after
    /// [`Pass::blocks`]; the mean loss.
    pub fn backward<E: Scalar>(
        &self,
        grads: &mut Gradients<'_>,
        ids: &[u32],
        targets: Targets<'_>,
        scale: f32,
        acts: &mut Activations<'_, E>,
    ) -> Result<f64> {
        let (model, shape) = (self.model, self.shape);
        let (layout, config, n) = (&model.layout, &model.config, shape.n());
        if grads.beta == Beta::Overwrite {
            clear(layout, grads.data);
        }
        self.last_norm(acts)?;
        head::losses_and_gradients(model, self.weights, grads, n, targets, scale, &mut acts.scratch)?;
        let x = &*acts.stream[self.last_state()];
        let (stats, scratch) = (&acts.last_norm, &mut acts.scratch);
        let (dy, dx) = (&*scratch.d_normed, &mut *scratch.dx);
        norm_backward(&layout.last_norm, config, &model.params, grads, n, x, stats, dy, dx, Beta::Overwrite)?;
        for layer in (0..config.n_layer).rev() {
            if shape.keep == Keep::Inputs {
                self.recompute(layer, acts)?;
            }
            let (cx, saved) = (self.context(layer), &mut acts.saved[shape.slot(layer)]);
            mlp::backward(cx, grads, &*acts.stream[shape.middle(layer)], saved, &mut acts.scratch)?;
            attn::backward(cx, grads, &*acts.stream[shape.input(layer)], saved, &mut acts.scratch)?;
        }
        self.embed_backward(grads.data, ids, acts.scratch.dx)?;
        Ok(head::mean(acts.scratch.losses, targets))
    }

    /// Adds the gradients of both embeddings, `dx` (N, C) being that of their sum.
    fn embed_backward(&self, grads: &mut [f32], ids: &[u32], dx: &mut [f32]) -> Result<()> {
        let (config, layout) = (&self.model.config, &self.model.layout);
        let (n, c) = (self.shape.n(), config.n_embd);
        measure("embedding, backward", Work::bytes(n * c * 12), || {
            if let Some(masks) = self.masks {
                dropout(dx, masks.at(Place::Embedding))?;
            }
            if let Some(wpe) = layout.wpe.clone() {
                let (dx, d_table) = (view(dx, n, c), view_mut(&mut grads[wpe], config.block_size, c));
                match self.documents {
                    None => add_positions_backward(dx, self.shape.t, 0, d_table)?,
                    Some(documents) => embedding_backward(documents.positions(), dx, d_table)?,
                }
            }
            if let Some(scale) = config.embedding_scale() {
                scale_assign(dx, scale);
            }
            embedding_backward(ids, view(dx, n, c), view_mut(&mut grads[layout.wte.clone()], config.vocab_size, c))
        })
    }
}
