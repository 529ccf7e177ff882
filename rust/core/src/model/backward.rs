//! The network backwards: head, last norm, blocks in reverse, embeddings. The mirror of `forward.rs`.

use super::arena::Activations;
use super::block::{Place, attn, mlp, norm_backward};
use super::forward::Pass;
use super::head::{self, Targets};
use super::linear::{view, view_mut};
use crate::error::Result;
use crate::kernels::Beta;
use crate::kernels::dropout::dropout;
use crate::kernels::embedding::{add_positions_backward, embedding_backward};

impl Pass<'_> {
    /// Adds `scale` x the gradient of the mean loss to `grads`, after [`Pass::blocks`]; the mean loss.
    pub fn backward(
        &self,
        grads: &mut [f32],
        ids: &[u32],
        targets: Targets<'_>,
        scale: f32,
        acts: &mut Activations<'_>,
    ) -> Result<f64> {
        let (model, n) = (self.model, self.shape.n());
        self.last_norm(acts)?;
        let scratch = &mut acts.scratch;
        let [d_normed, _] = &mut scratch.d_c;
        let (chunk, losses) = (&mut *scratch.logits, &mut *scratch.losses);
        head::losses_and_gradients(model, grads, n, scratch.normed, targets, scale, chunk, losses, d_normed)?;
        let x = &*acts.stream[self.last_state()];
        norm_backward(
            &model.layout.ln_f,
            &model.params,
            grads,
            n,
            x,
            &acts.ln_f,
            d_normed,
            scratch.dx,
            Beta::Overwrite,
        )?;
        for layer in (0..model.config.n_layer).rev() {
            let (cx, saved) = (self.context(layer), &mut acts.saved[layer]);
            mlp::backward(cx, grads, &*acts.stream[2 * layer + 1], saved, &mut acts.scratch)?;
            attn::backward(cx, grads, &*acts.stream[2 * layer], saved, &mut acts.scratch)?;
        }
        self.embed_backward(grads, ids, acts.scratch.dx)?;
        Ok(head::mean(acts.scratch.losses, targets))
    }

    /// Adds the gradients of both embeddings, `dx` (N, C) being that of their sum.
    fn embed_backward(&self, grads: &mut [f32], ids: &[u32], dx: &mut [f32]) -> Result<()> {
        let (config, layout) = (&self.model.config, &self.model.layout);
        let (n, c) = (self.shape.n(), config.n_embd);
        if let Some(masks) = self.masks {
            dropout(dx, masks.at(Place::Embedding))?;
        }
        let dx = view(dx, n, c);
        add_positions_backward(dx, self.shape.t, 0, view_mut(&mut grads[layout.wpe.clone()], config.block_size, c))?;
        embedding_backward(ids, dx, view_mut(&mut grads[layout.wte.clone()], config.vocab_size, c))
    }
}
