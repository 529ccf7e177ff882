//! A linear layer with its share of an adapter, forward beside backward.
//!
//! ```text
//! forward   u  = s drop(x) A^T                    (N, r)
//!           y  = (x W + u B^T) g + b              g = 1 but for DoRA
//! backward  dm += sum_n dy (y - b) / m            dy = dy g, then:
//!           du = s dy B                           dB += dy^T u
//!           dx = dy W^T + drop(du A)              dA += du^T drop(x)
//! ```

use super::magnitude::Factors;
use super::{Adapter, Layer};
use crate::error::Result;
use crate::kernels::Beta;
use crate::kernels::columns::{add_column_products, scale_columns};
use crate::kernels::dropout::{Dropout, dropout};
use crate::kernels::matmul::{Output, Scalar, product};
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
    /// The factors of its columns, with DoRA.
    pub factors: Option<&'a Factors>,
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
}

impl Masks {
    /// The mask of one layer; its numbers are none of those of the network's own dropout.
    pub(crate) fn at(&self, linear: &Linear) -> Dropout {
        const APART: u64 = 1 << 63;
        let substream = self.pass.wrapping_mul(self.layers).wrapping_add(linear.index as u64);
        Dropout { p: self.p, seed: self.seed, substream: substream | APART }
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
        widths.d_act = down;
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
    /// `(N, r)`
    pub du: &'a mut [E],
    /// `(N, in)`
    pub dropped: &'a mut [E],
}

/// The share of an adapter in `linear`, if there is one.
fn share<'a>(weights: Weights<'a>, linear: &Linear) -> Option<(Adapted<'a>, &'a Layer)> {
    let adapted = weights.adapted?;
    adapted.adapter.layer(linear).map(|layer| (adapted, layer))
}

impl Adapted<'_> {
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

    fn work(&self, linear: &Linear, n: usize, products: usize) -> Work {
        Work::Product { flop: 2.0 * (products * n * self.rank * (linear.n_in + linear.n_out)) as f64 }
    }
}

impl Linear {
    /// Whether an adapter changes its output.
    pub fn is_adapted(&self, weights: Weights<'_>) -> bool {
        share(weights, self).is_some()
    }

    /// Whether an adapter scales its output.
    pub fn is_scaled(&self, weights: Weights<'_>) -> bool {
        share(weights, self).is_some_and(|(adapted, _)| adapted.factors.is_some())
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
        let bias = self.bias(weights.params);
        let Some((adapted, layer)) = share(weights, self) else {
            return self.product(name, weights, n, x, sums(y, n, self.n_out, bias, residual));
        };
        let factors = adapted.factors.and_then(|factors| factors.of(self));
        let epilogue = if factors.is_some() { None } else { bias };
        self.product(name, weights, n, x, sums(y, n, self.n_out, epilogue, residual))?;
        measure("adapter", layer.work(self, n, 1), || {
            let left = adapted.left(self, x, n, room.dropped)?;
            let (a, params) = (layer.a(adapted.adapter, self), adapted.adapter.params());
            let u = &mut room.u[..n * layer.rank];
            product(E::PRECISION, E::matrix(view(left, n, self.n_in)), a.reversed_axes(), sums(u, n, layer.rank, None, None))?;
            scale_columns(view_mut(u, n, layer.rank), &layer.scales, None)?;
            let (u, mut y) = (view(u, n, layer.rank), view_mut(y, n, self.n_out));
            for part in &layer.parts {
                let b = view(&params[part.b.clone()], part.columns.len(), part.ranks.len());
                let c = Y::matrix_mut(y.slice_mut(s![.., part.columns.clone()]));
                let output = Output::Sums { c, beta: Beta::Accumulate, bias: None, residual: None };
                product(E::PRECISION, E::matrix(u.slice(s![.., part.ranks.clone()])), b.reversed_axes(), output)?;
            }
            match factors {
                Some(factors) => scale_columns(y, factors, bias),
                None => Ok(()),
            }
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
        let Some(factors) = adapted.factors.and_then(|factors| factors.of(self)) else { return Ok(()) };
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

    /// An adapter's share of the way back, from the gradient `dy` (N, out) of the sums: the gradients of A and B, and
    /// what is added to `dx` (N, in), where that is asked for.
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
        let (n, rank, params) = (dy.nrows(), layer.rank, adapted.adapter.params());
        measure("adapter, backward", layer.work(self, n, 2), || {
            let (u, du) = (view(room.u, n, rank), &mut room.du[..n * rank]);
            for part in &layer.parts {
                let (dy, ranks) = (dy.slice(s![.., part.columns.clone()]), s![.., part.ranks.clone()]);
                let (out, r) = (part.columns.len(), part.ranks.len());
                let db = view_mut(grads.of_adapter(&part.b), out, r).into();
                let added = Output::Sums { c: db, beta: Beta::Accumulate, bias: None, residual: None };
                product(E::PRECISION, E::matrix(dy.reversed_axes()), E::matrix(u.slice(ranks)), added)?;
                let b = view(&params[part.b.clone()], out, r);
                let c = E::matrix_mut(view_mut(du, n, rank).slice_move(ranks));
                let output = Output::Sums { c, beta: Beta::Overwrite, bias: None, residual: None };
                product(E::PRECISION, E::matrix(dy), b, output)?;
            }
            scale_columns(view_mut(du, n, rank), &layer.scales, None)?;
            let (du, a) = (view(du, n, rank), layer.a(adapted.adapter, self));
            let left = adapted.left(self, x, n, room.dropped)?;
            let da = view_mut(grads.of_adapter(&layer.a), rank, self.n_in).into();
            let added = Output::Sums { c: da, beta: Beta::Accumulate, bias: None, residual: None };
            product(E::PRECISION, E::matrix(du.reversed_axes()), E::matrix(view(left, n, self.n_in)), added)?;
            let Some(dx) = dx else { return Ok(()) };
            let Some(masks) = adapted.dropout else {
                let c = X::matrix_mut(view_mut(dx, n, self.n_in));
                let added = Output::Sums { c, beta: Beta::Accumulate, bias: None, residual: None };
                return product(E::PRECISION, E::matrix(du), a, added);
            };
            let through = &mut room.dropped[..n * self.n_in];
            product(E::PRECISION, E::matrix(du), a, sums(through, n, self.n_in, None, None))?;
            dropout(through, masks.at(self))?;
            add_assign(&mut dx[..n * self.n_in], through)
        })
    }
}

