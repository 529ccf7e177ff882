//! The network backwards: head, last norm, blocks in reverse, embeddings. The mirror of `forward.rs`.

use super::arena::{Activations, Keep};
use super::block::{Place, attn, mlp, norm_backward};
use super::forward::Pass;
use super::gradients::{Gradients, zero};
use super::head::{self, Targets};
use super::linear::{view, view_mut};
use super::params::{Layout, Norm};
use crate::error::Result;
use crate::kernels::Beta;
use crate::kernels::dropout::dropout;
use crate::kernels::embedding::{add_positions_backward, embedding_backward};
use crate::kernels::matmul::Scalar;
use crate::kernels::residual::scale_assign;
use crate::profile::{Work, measure};

/// Zeros the gradients that are only ever added to, before a pass whose products overwrite those of linear weights.
fn clear(layout: &Layout, grads: &mut Gradients<'_>) {
    let trained = grads.trained;
    let overwritten = layout.linears().flat_map(|linear| trained.weights(linear)).map(|run| run.place);
    let mut overwritten: Vec<_> = overwritten.collect();
    overwritten.sort_by_key(|range| range.start);
    let mut start = 0;
    for range in overwritten {
        zero(&mut grads.data[start..range.start]);
        start = range.end;
    }
    zero(&mut grads.data[start..]);
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
            clear(layout, grads);
        }
        self.last_norm(acts)?;
        head::losses_and_gradients(model, self.weights, grads, n, targets, scale, &mut acts.scratch)?;
        let x = &*acts.stream[self.last_state()];
        let (stats, scratch) = (&acts.last_norm, &mut acts.scratch);
        let (dy, dx) = (&*scratch.d_normed, &mut *scratch.dx);
        norm_backward(&layout.last_norm, config, &model.params, grads, n, x, stats, dy, dx, Beta::Overwrite)?;
        grads.finished(layout.blocks.last().map_or(0, |block| block.span.end));
        // Below the lowest weight that is trained nobody asks for gradients.
        let embeds = self.trains_embeddings(grads);
        let lowest = if embeds { Some(0) } else { (0..config.n_layer).find(|&layer| self.trains(grads, layer)) };
        for layer in (lowest.unwrap_or(config.n_layer)..config.n_layer).rev() {
            if shape.keep == Keep::Inputs {
                self.recompute(layer, acts)?;
            }
            let (cx, saved) = (self.context(layer), &mut acts.saved[shape.slot(layer)]);
            let norm = &cx.block.norm_1;
            let goes_on = embeds || lowest != Some(layer) || trains_norm(grads, norm);
            mlp::backward(cx, grads, &*acts.stream[shape.middle(layer)], saved, &mut acts.scratch)?;
            attn::backward(cx, grads, &*acts.stream[shape.input(layer)], saved, &mut acts.scratch, goes_on)?;
            grads.finished(cx.block.span.start);
        }
        if embeds {
            self.embed_backward(grads, ids, acts.scratch.dx)?;
        }
        grads.finished(0);
        Ok(head::mean(acts.scratch.losses, targets))
    }

    fn trains_embeddings(&self, grads: &Gradients<'_>) -> bool {
        let layout = &self.model.layout;
        [Some(&layout.wte), layout.wpe.as_ref()].into_iter().flatten().any(|table| grads.trained.place(table).is_some())
    }

    /// Whether something in block `layer` is trained: weights of its own, or an adapter.
    fn trains(&self, grads: &Gradients<'_>, layer: usize) -> bool {
        let block = &self.model.layout.blocks[layer];
        let adapted = block.linears().into_iter().any(|linear| linear.is_adapted(self.weights));
        adapted || grads.trained.any(&self.model.layout, &block.span)
    }

    /// Adds the gradients of the embeddings that are trained, `dx` (N, C) being that of their sum.
    fn embed_backward(&self, grads: &mut Gradients<'_>, ids: &[u32], dx: &mut [f32]) -> Result<()> {
        let (config, layout) = (&self.model.config, &self.model.layout);
        let (n, c) = (self.shape.n(), config.n_embd);
        measure("embedding, backward", Work::bytes(n * c * 12), || {
            if let Some(masks) = self.masks {
                dropout(dx, masks.at(Place::Embedding))?;
            }
            if let Some(d_wpe) = layout.wpe.as_ref().and_then(|wpe| grads.of(wpe)) {
                let (dx, d_table) = (view(dx, n, c), view_mut(d_wpe, config.block_size, c));
                match self.documents {
                    None => add_positions_backward(dx, 0, self.shape.t, d_table)?,
                    Some(documents) => embedding_backward(documents.positions(), dx, d_table)?,
                }
            }
            if let Some(scale) = config.embedding_scale() {
                scale_assign(dx, scale);
            }
            match grads.of(&layout.wte) {
                Some(d_wte) => embedding_backward(ids, view(dx, n, c), view_mut(d_wte, config.vocab_size, c)),
                None => Ok(()),
            }
        })
    }
}

fn trains_norm(grads: &Gradients<'_>, norm: &Norm) -> bool {
    [&norm.weight, &norm.bias].into_iter().flatten().any(|range| grads.trained.place(range).is_some())
}
