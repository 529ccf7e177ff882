//! A linear layer with its share of an adapter, forward beside backward.
//!
//! ```text
//! forward   u  = s drop(x) A^T                    (N, r)
//!           y  = (x W + u B^T) g + b              g = 1 but for DoRA
//! backward  dm += sum_n dy (y - b) / m            dy = dy g, then:
//!           du = s dy B                           dB += dy^T u
//!           dx = dy W^T + drop(du A)              dA += du^T drop(x)
//! ```
//!
//! `u B^T` and `du A` are more depth of the products beside them ([`Extension`]): they cost no pass of their own, and what
//! is done to those products' sums as they end is done to all. (Not `du A` where inputs fall out.)

use super::prepared::Prepared;
use super::{Adapter, Layer};
use crate::error::Result;
use crate::kernels::columns::{add_column_products, scale_columns};
use crate::kernels::dropout::{Dropout, dropout};
use crate::kernels::matmul::{Extension, Scalar, product};
use crate::kernels::narrow::{add_narrow_gradient, narrow_product};
use crate::kernels::residual::add_assign;
use crate::model::gradients::Gradients;
use crate::model::linear::{Weights, sums, view, view_mut};
use crate::model::params::{Layout, Linear};
use crate::profile::{Work, measure};
use ndarray::{ArrayView2, s};

/// The adapter of a pass.
#[derive(Clone, Copy)]
pub struct Adapted<'a> {
    /// The adapter.
    pub adapter: &'a Adapter,
    /// What is read beside its numbers.
    pub prepared: &'a Prepared,
    /// What falls out of the inputs of A, in training.
    pub dropout: Option<Masks>,
}

/// The masks of the inputs of A of all layers, in one pass.
#[derive(Clone, Copy)]
pub struct Masks {
    /// Probability of dropping.
    pub p: f32,
    /// Seed of the run.
    pub seed: u64,
    /// Number of the pass.
    pub pass: u64,
    /// Linear layers of the model.
    pub layers: u64,
    /// Tokens in the rows of the batch that others compute before these.
    pub before: u64,
}

impl Masks {
    /// The mask of one layer; its numbers are none of those of the network's own dropout.
    pub(crate) fn at(&self, linear: &Linear) -> Dropout {
        const APART: u64 = 1 << 63;
        let substream = self.pass.wrapping_mul(self.layers).wrapping_add(linear.index as u64);
        let first = self.before.wrapping_mul(linear.n_in as u64);
        Dropout { p: self.p, seed: self.seed, substream: substream | APART, first }
    }
}

/// What an adapter adds to the sizes of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Widths {
    /// Columns of u, for each linear layer of a block: the most of all blocks.
    pub rank: [usize; 4],
    /// Columns of the widest input that falls out in part.
    pub dropped: usize,
    /// Whether the outputs of both halves of a block must be kept.
    pub branch: [bool; 2],
    /// Whether the gradient of the MLP's activated rows needs a place of its own.
    pub d_act: bool,
    /// Whether outputs are scaled, so that their gradients need places of their own.
    pub scaled: bool,
}

impl Adapter {
    /// What it adds to the sizes of a pass.
    pub fn widths(&self, layout: &Layout) -> Widths {
        let mut widths = Widths { scaled: self.spec.dora, ..Widths::default() };
        for block in &layout.blocks {
            for (i, linear) in block.linears().into_iter().enumerate() {
                let Some(layer) = self.layer(linear) else { continue };
                widths.rank[i] = widths.rank[i].max(layer.rank);
                if self.spec.dropout > 0.0 {
                    widths.dropped = widths.dropped.max(linear.n_in);
                }
            }
        }
        let [_, out, _, down] = widths.rank.map(|rank| rank > 0);
        widths.branch = [out && self.spec.dora, down && self.spec.dora];
        widths.d_act = down && self.spec.dropout > 0.0;
        widths
    }
}

/// Where a layer's share of an adapter works.
pub struct Room<'a, E> {
    /// `(N, r)`, kept for the backward pass.
    pub u: &'a mut [E],
    /// The inputs that are left `(N, in)`; empty where none fall out.
    pub dropped: &'a mut [E],
}

/// The same on the way back.
pub struct RoomBackward<'a, E> {
    /// `u` of the forward pass `(N, r)`.
    pub u: &'a [E],
    /// That of [`Linear::low_gradient`] `(N, r)`.
    pub du: &'a [E],
    /// `(N, in)`
    pub dropped: &'a mut [E],
}

/// The share of an adapter in `linear`, if there is one.
fn share<'a>(weights: Weights<'a>, linear: &Linear) -> Option<(Adapted<'a>, &'a Layer)> {
    let adapted = weights.adapted?;
    adapted.adapter.layer(linear).map(|layer| (adapted, layer))
}

impl<'a> Adapted<'a> {
    fn factors(&self, linear: &Linear) -> Option<&'a [f32]> {
        self.prepared.factors.as_ref().and_then(|factors| factors.of(linear))
    }

    /// `x`, or what is left of it in `room`.
    fn left<'x, E: Scalar>(&self, linear: &Linear, x: &'x [E], n: usize, room: &'x mut [E]) -> Result<&'x [E]> {
        let Some(masks) = self.dropout else { return Ok(x) };
        let (x, room) = (&x[..n * linear.n_in], &mut room[..n * linear.n_in]);
        room.copy_from_slice(x);
        dropout(room, masks.at(linear))?;
        Ok(room)
    }
}

impl Layer {
    fn a<'a>(&self, adapter: &'a Adapter, linear: &Linear) -> ArrayView2<'a, f32> {
        view(&adapter.params()[self.a.clone()], self.rank, linear.n_in)
    }

    fn work(&self, n: usize, width: usize) -> Work {
        Work::Product { flop: 2.0 * (n * self.rank * width) as f64 }
    }
}

impl Linear {
    /// Whether an adapter changes its output.
    pub fn is_adapted(&self, weights: Weights<'_>) -> bool {
        share(weights, self).is_some()
    }

    /// Whether an adapter scales its output.
    pub fn is_scaled(&self, weights: Weights<'_>) -> bool {
        share(weights, self).is_some_and(|(adapted, _)| adapted.factors(self).is_some())
    }

    /// Whether an adapter sees but a part of its input.
    pub fn is_dropped(&self, weights: Weights<'_>) -> bool {
        share(weights, self).is_some_and(|(adapted, _)| adapted.dropout.is_some())
    }

    /// Makes u of the `n` rows of `x` (N, in): what an adapter adds to their product with W, if it has a share in it.
    pub fn low<'a, E: Scalar>(
        &self,
        weights: Weights<'a>,
        n: usize,
        x: &[E],
        room: Room<'a, E>,
    ) -> Result<Option<Extension<'a>>> {
        let Some((adapted, layer)) = share(weights, self) else { return Ok(None) };
        let u = &mut room.u[..n * layer.rank];
        measure("adapter", layer.work(n, self.n_in), || {
            let left = adapted.left(self, x, n, room.dropped)?;
            let a = layer.a(adapted.adapter, self);
            narrow_product(view(left, n, self.n_in), a, &layer.scales, view_mut(u, n, layer.rank))
        })?;
        let right = adapted.prepared.turned(self, layer).into();
        Ok(Some(Extension { left: E::matrix(view(u, n, layer.rank)), right }))
    }

    /// `y = x W (+ b) (+ residual)` for the `n` rows of `x` (N, in), with what an adapter adds.
    pub fn forward<E: Scalar, Y: Scalar>(
        &self,
        name: &'static str,
        weights: Weights<'_>,
        n: usize,
        x: &[E],
        room: Room<'_, E>,
        y: &mut [Y],
        residual: Option<&[f32]>,
    ) -> Result<()> {
        let (bias, extension) = (self.bias(weights.params), self.low(weights, n, x, room)?);
        let Some(factors) = share(weights, self).and_then(|(adapted, _)| adapted.factors(self)) else {
            return self.product(name, weights, n, x, extension, sums(y, n, self.n_out, bias, residual));
        };
        self.product(name, weights, n, x, extension, sums(y, n, self.n_out, None, residual))?;
        measure("adapter, scales", Work::bytes(2 * n * self.n_out * size_of::<Y>()), || {
            scale_columns(view_mut(y, n, self.n_out), factors, bias)
        })
    }

    /// With DoRA: the gradients of the magnitudes, from the output `y` (N, out) and its gradient, which becomes that of
    /// the sums before they were scaled.
    pub fn backward_scale<E: Scalar, Y: Scalar>(
        &self,
        weights: Weights<'_>,
        grads: &mut Gradients<'_>,
        n: usize,
        y: &[Y],
        dy: &mut [E],
    ) -> Result<()> {
        let Some((adapted, layer)) = share(weights, self) else { return Ok(()) };
        let Some(factors) = adapted.factors(self) else { return Ok(()) };
        let (bias, mut dy) = (self.bias(weights.params), view_mut(dy, n, self.n_out));
        measure("adapter, scales", Work::bytes(3 * dy.len() * size_of::<E>()), || {
            let mut products = vec![0.0; self.n_out];
            add_column_products(dy.view(), view(y, n, self.n_out), bias, &mut products)?;
            for part in &layer.parts {
                let Some(magnitude) = &part.magnitude else { continue };
                let (m, products) = (&adapted.adapter.params()[magnitude.clone()], &products[part.columns.clone()]);
                let d_magnitude = grads.of_adapter(magnitude).iter_mut();
                for (d, (m, sum)) in d_magnitude.zip(m.iter().zip(products)) {
                    *d += if *m == 0.0 { 0.0 } else { sum / m }; // of a row of zeros nothing is known
                }
            }
            scale_columns(dy.view_mut(), factors, None)
        })
    }

    /// Makes du of the gradient `dy` (N, out) of the sums.
    pub fn low_gradient<E: Scalar>(&self, weights: Weights<'_>, dy: ArrayView2<'_, E>, du: &mut [E]) -> Result<()> {
        let Some((adapted, layer)) = share(weights, self) else { return Ok(()) };
        let (n, b_t) = (dy.nrows(), adapted.prepared.turned(self, layer));
        let du = &mut du[..n * layer.rank];
        measure("adapter, du", layer.work(n, self.n_out), || {
            for part in &layer.parts {
                let (columns, ranks) = (part.columns.clone(), part.ranks.clone());
                let b_t = b_t.slice(s![ranks.clone(), columns.clone()]);
                let du = view_mut(du, n, layer.rank).slice_move(s![.., ranks.clone()]);
                narrow_product(dy.slice(s![.., columns]), b_t, &layer.scales[ranks], du)?;
            }
            Ok(())
        })
    }

    /// What `du` (N, r) adds to the gradient of the input as that is made: nothing where inputs fell out, since
    /// [`Linear::backward_adapter`] adds it then.
    pub fn low_extension<'a, E: Scalar>(&self, weights: Weights<'a>, n: usize, du: &'a [E]) -> Option<Extension<'a>> {
        let (adapted, layer) = share(weights, self).filter(|(adapted, _)| adapted.dropout.is_none())?;
        Some(Extension { left: E::matrix(view(du, n, layer.rank)), right: layer.a(adapted.adapter, self).into() })
    }

    /// Adds the gradients of A and B, from the gradient `dy` (N, out) of the sums, and to `dx` (N, in) what comes back
    /// through the part of the input that did not fall out, where some fell out.
    pub fn backward_adapter<E: Scalar, X: Scalar>(
        &self,
        weights: Weights<'_>,
        grads: &mut Gradients<'_>,
        x: &[E],
        dy: ArrayView2<'_, E>,
        dx: Option<&mut [X]>,
        room: RoomBackward<'_, E>,
    ) -> Result<()> {
        let Some((adapted, layer)) = share(weights, self) else { return Ok(()) };
        let (n, rank) = (dy.nrows(), layer.rank);
        let (u, du) = (view(room.u, n, rank), view(room.du, n, rank));
        measure("adapter, dA and dB", layer.work(n, self.n_in + self.n_out), || {
            for part in &layer.parts {
                let db = view_mut(grads.of_adapter(&part.b), part.columns.len(), part.ranks.len());
                let (dy, u) = (dy.slice(s![.., part.columns.clone()]), u.slice(s![.., part.ranks.clone()]));
                add_narrow_gradient(u, dy, db.reversed_axes())?;
            }
            let left = adapted.left(self, x, n, room.dropped)?;
            add_narrow_gradient(du, view(left, n, self.n_in), view_mut(grads.of_adapter(&layer.a), rank, self.n_in))
        })?;
        let (Some(dx), Some(masks)) = (dx, adapted.dropout) else { return Ok(()) };
        let (a, through) = (layer.a(adapted.adapter, self), &mut room.dropped[..n * self.n_in]);
        measure("adapter, dX", layer.work(n, self.n_in), || {
            product(E::PRECISION, E::matrix(du), a, sums(through, n, self.n_in, None, None))?;
            dropout(through, masks.at(self))?;
            add_assign(&mut dx[..n * self.n_in], through)
        })
    }
}
