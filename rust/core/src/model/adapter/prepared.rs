//! What passes read beside an adapter's own numbers, made anew where these or the weights have changed.

use super::magnitude::Factors;
use super::{Adapter, Layer};
use crate::buffer::Buffer;
use crate::error::Result;
use crate::model::linear::{Weights, view, view_mut};
use crate::model::params::{Layout, Linear};
use crate::parallel;
use ndarray::{ArrayView2, s};
use std::sync::Arc;

/// The B of every layer as products read them, and DoRA's factors.
pub struct Prepared {
    /// By the layer's number: B^T of its projections, each in rows and columns of its own, with zeros around
    /// `(rank, out)`.
    turned: Vec<Option<Buffer>>,
    /// The factors of the columns, where magnitudes are learnt.
    pub factors: Option<Factors>,
    /// Versions of the weights and of the adapter.
    made_of: (u64, u64),
}

impl Prepared {
    /// B^T of a layer `(rank, out)`.
    pub fn turned(&self, linear: &Linear, layer: &Layer) -> ArrayView2<'_, f32> {
        view(self.turned[linear.index].as_deref().unwrap_or_default(), layer.rank, linear.n_out)
    }
}

impl Adapter {
    /// What a pass with these weights, whose version is `version`, reads of this adapter.
    pub fn prepared(&self, layout: &Layout, weights: Weights<'_>, version: u64) -> Result<Arc<Prepared>> {
        // Not locked while the threads work: one of them may come to ask as well. And not waited for: in a forked child
        // nobody may be left to give it back.
        let kept = self.prepared.try_lock().ok().and_then(|kept| kept.clone());
        let made_of = (version, self.version);
        if let Some(prepared) = kept.as_ref().filter(|prepared| prepared.made_of == made_of) {
            return Ok(prepared.clone());
        }
        let same_weights = kept.as_ref().filter(|kept| kept.made_of.0 == version);
        let factors = match self.spec.dora {
            true => Some(self.factors(layout, weights, same_weights.and_then(|kept| kept.factors.as_ref()))?),
            false => None,
        };
        let mut turned = Vec::new();
        for linear in layout.linears() {
            let layer = self.layer(linear);
            turned.push(layer.map(|layer| Buffer::zeros(layer.rank * linear.n_out, "adapter")).transpose()?);
        }
        let linears: Vec<_> = layout.linears().collect();
        parallel::for_each(linears.into_iter().zip(&mut turned), |_, (linear, turned)| self.turn(linear, turned));
        let prepared = Arc::new(Prepared { turned, factors, made_of });
        if let Ok(mut kept) = self.prepared.try_lock() {
            *kept = Some(prepared.clone());
        }
        Ok(prepared)
    }

    fn turn(&self, linear: &Linear, turned: &mut Option<Buffer>) {
        let (Some(layer), Some(turned)) = (self.layer(linear), turned) else { return };
        let mut turned = view_mut(turned, layer.rank, linear.n_out);
        for part in &layer.parts {
            let b = view(&self.params[part.b.clone()], part.columns.len(), part.ranks.len());
            turned.slice_mut(s![part.ranks.clone(), part.columns.clone()]).assign(&b.t());
        }
    }
}
