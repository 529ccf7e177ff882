//! Training passes: forwards with dropout, and backwards into the gradient buffer.

use super::Gpt;
use super::adapter::apply;
use super::block::Masks;
use super::buckets::Finished;
use super::forward::{Pass, Ropes};
use super::gradients::{GradientBuffer, Gradients};
use super::head::Targets;
use super::linear::Weights;
use super::packs::Packs;
use super::rows::{Labels, Rows};
use crate::error::{Error, Result};
use crate::kernels::Beta;
use crate::kernels::attention::dropout_len;
use crate::kernels::matmul::{Precision, Scalar};
use crate::parallel;
use crate::simd::bf16;

impl Gpt {
    /// The mean loss, with dropout; adds `scale` x its gradient to the gradient buffer.
    ///
    /// A panic on the way, which the door reports, leaves no gradients rather than half-made ones: the next update then
    /// asks for a backward pass.
    pub fn backward(&mut self, rows: Rows<'_>, labels: Labels<'_>, scale: f32) -> Result<f64> {
        self.backward_watched(rows, labels, scale, None)
    }

    /// The same; `finished` hears of pieces of the gradients that are done.
    pub fn backward_watched(
        &mut self,
        rows: Rows<'_>,
        labels: Labels<'_>,
        scale: f32,
        finished: Option<Finished<'_>>,
    ) -> Result<f64> {
        self.check_rows("backward", rows)?;
        self.check_labels("backward", rows, labels)?;
        if self.trained.is_empty() {
            let remedy = match self.quantized {
                None => "leave some of them unfrozen",
                Some(_) => "those of a quantized model's linear layers stay as they are; train an adapter over them",
            };
            return Err(Error::value("backward", "trained weights", "none", remedy));
        }
        let targets = Targets::new(labels)?;
        match self.precision {
            Precision::Float32 => self.backward_as::<f32>(rows, targets, scale, finished),
            Precision::Bfloat16 => self.backward_as::<bf16>(rows, targets, scale, finished),
        }
    }

    fn backward_as<E: Scalar>(
        &mut self,
        rows: Rows<'_>,
        targets: Targets<'_>,
        scale: f32,
        mut finished: Option<Finished<'_>>,
    ) -> Result<f64> {
        let Rows { ids, b, t, documents } = rows;
        if self.packs.is_none() && Packs::are_worth_keeping(&self.layout, E::PRECISION) {
            self.packs = Some(Packs::new(&self.layout, E::PRECISION)?);
        }
        let mut grads = match self.grads.take() {
            Some(grads) => grads,
            None => GradientBuffer::new(self.trained.total())?,
        };
        let (mut arena, mut packs) = (std::mem::take(&mut self.arena), self.packs.take());
        let loss = parallel::install(|| {
            if let Some(packs) = &mut packs {
                packs.refresh(&self.layout, &self.params, self.version)?;
            }
            let prepared = self.prepared()?;
            let adapted = self.adapted(prepared.as_deref(), self.adapter_masks(t));
            let weights = Weights { packs: packs.as_ref(), adapted, direct: false, ..self.bare() };
            let shape = self.shape(b, t, self.keep());
            let ropes = &Ropes::new(&self.config, t)?;
            let pass = Pass { model: self, weights, shape, positions: None, documents, ropes, masks: self.masks(t) };
            let mut acts = arena.plan::<E>(&self.config, shape)?;
            pass.blocks(ids, &mut [], &mut acts)?;
            let (data, fresh) = grads.begin();
            let beta = if fresh { Beta::Overwrite } else { Beta::Accumulate };
            let watch = finished.as_mut().map(|finished| (finished.again(), 0));
            let mut added = Gradients { data, trained: &self.trained, beta, watch };
            let loss = pass.backward(&mut added, ids, targets, scale, &mut acts);
            if loss.is_err() {
                grads.zero(); // none rather than half-made ones
            }
            loss
        });
        (self.arena, self.packs) = (arena, packs);
        self.grads = Some(grads);
        self.passes = self.passes.wrapping_add(u64::from(loss.is_ok()));
        loss
    }

    pub(super) fn masks(&self, t: usize) -> Option<Masks> {
        let places = 1 + 3 * self.config.n_layer as u64;
        let (p, seed, pass) = (self.config.dropout, self.dropout_seed, self.passes);
        let (stream, scores) = (t * self.config.n_embd, dropout_len(self.config.n_head, t, t));
        let before = [stream as u64, scores].map(|row| self.rows_before.wrapping_mul(row));
        (p > 0.0).then_some(Masks { p, seed, pass, places, before })
    }

    fn adapter_masks(&self, t: usize) -> Option<apply::Masks> {
        let p = self.adapters.active().map_or(0.0, |adapter| adapter.spec.dropout);
        let layers = 4 * self.config.n_layer as u64;
        let before = self.rows_before.wrapping_mul(t as u64);
        (p > 0.0).then_some(apply::Masks { p, seed: self.dropout_seed, pass: self.passes, layers, before })
    }

    /// The gradients of all that is trained, or `None` before the first backward pass.
    pub fn grads(&mut self) -> Option<&[f32]> {
        self.grads.as_mut().map(|grads| &*grads.settle())
    }

    /// Sets every gradient to 0.
    pub fn zero_grad(&mut self) {
        if let Some(grads) = &mut self.grads {
            grads.zero();
        }
    }
}
