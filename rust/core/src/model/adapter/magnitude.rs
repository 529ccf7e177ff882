//! DoRA's factors: the learned magnitude of each row of `V = W^T + s B A` over its length.
//!
//! ```text
//! |V_o|^2 = |W_o|^2 + 2 <(W A^T s)_o, B_o> + B_o (s A A^T s) B_o^T
//! ```
//!
//! The products with W read it once, which is all that an update costs here; V itself is never made. `|W_o|^2` and the
//! sums are in double precision.

use super::{Adapter, Layer, Part};
use crate::error::Result;
use crate::kernels::Beta;
use crate::kernels::matmul::{Output, Precision, product};
use crate::model::linear::{Weights, view, view_mut};
use crate::model::params::{Layout, Linear};
use crate::parallel;
use crate::profile::{Work, measure};
use ndarray::{ArrayView2, s};

/// The factors of the columns of every layer, 1 for columns that are not adapted.
pub struct Factors {
    /// By the layer's number.
    layers: Vec<Option<LayerFactors>>,
}

struct LayerFactors {
    factors: Vec<f32>,
    /// `|W_o|^2`, which only other weights change.
    squares: Vec<f64>,
}

impl Factors {
    /// Those of a layer's columns, if it is adapted.
    pub fn of(&self, linear: &Linear) -> Option<&[f32]> {
        self.layers[linear.index].as_ref().map(|layer| &layer.factors[..])
    }
}

impl Adapter {
    /// The factors with these weights, of which `kept` were made too, if there are such.
    pub(super) fn factors(&self, layout: &Layout, weights: Weights<'_>, kept: Option<&Factors>) -> Result<Factors> {
        let of = |linear: &Linear| {
            let Some(layer) = self.layer(linear) else { return Ok(None) };
            let squares = kept.and_then(|kept| kept.layers[linear.index].as_ref());
            linear.with_matrix(weights, |w| {
                measure("magnitudes", Work::bytes(size_of::<f32>() * w.len()), || {
                    let squares = squares.map_or_else(|| squares_of(w), |layer| layer.squares.clone());
                    let factors = self.layer_factors(layer, w, &squares)?;
                    Ok(Some(LayerFactors { factors, squares }))
                })
            })
        };
        Ok(Factors { layers: layout.linears().map(of).collect::<Result<Vec<_>>>()? })
    }

    /// Sets every magnitude to the length that its row has now, so that all factors are 1.
    pub(super) fn begin_magnitudes(&mut self, layout: &Layout, weights: Weights<'_>) -> Result<()> {
        if !self.spec.dora {
            return Ok(());
        }
        for linear in layout.linears() {
            let Some(layer) = self.layers[linear.index].clone() else { continue };
            let lengths = linear.with_matrix(weights, |w| {
                let squares = squares_of(w);
                layer.parts.iter().map(|part| self.lengths(&layer, part, w, &squares)).collect::<Result<Vec<_>>>()
            })?;
            for (part, lengths) in layer.parts.iter().zip(lengths) {
                let Some(magnitude) = part.magnitude.clone() else { continue };
                self.params_mut()[magnitude].iter_mut().zip(lengths).for_each(|(m, length)| *m = length as f32);
            }
        }
        Ok(())
    }

    /// `w` (in, out) are the weights of the layer.
    fn layer_factors(&self, layer: &Layer, w: ArrayView2<'_, f32>, squares: &[f64]) -> Result<Vec<f32>> {
        let mut factors = vec![1.0; w.ncols()];
        for part in &layer.parts {
            let Some(magnitude) = part.magnitude.clone() else { continue };
            let lengths = self.lengths(layer, part, w, squares)?;
            let magnitudes = &self.params()[magnitude];
            let columns = factors[part.columns.clone()].iter_mut();
            for (factor, (m, length)) in columns.zip(magnitudes.iter().zip(lengths)) {
                // A row of zeros has no direction that a magnitude could stretch.
                *factor = if length > 0.0 { (f64::from(*m) / length) as f32 } else { 0.0 };
            }
        }
        Ok(factors)
    }

    /// The length of every row of V of a projection; `w` (in, out) are the weights of the whole layer, `squares` are its
    /// `|W_o|^2`.
    fn lengths(&self, layer: &Layer, part: &Part, w: ArrayView2<'_, f32>, squares: &[f64]) -> Result<Vec<f64>> {
        let (out, r, scale) = (part.columns.len(), part.ranks.len(), f64::from(layer.scales[part.ranks.start]));
        let w = w.slice_move(s![.., part.columns.clone()]).reversed_axes(); // (out, in)
        let a = view(&self.params()[layer.a.clone()], layer.rank, w.ncols()).slice_move(s![part.ranks.clone(), ..]);
        let b = view(&self.params()[part.b.clone()], out, r);
        let (mut across, mut inside) = (vec![0.0; out * r], vec![0.0; r * r]);
        let times = |left: ArrayView2<'_, f32>, to: &mut [f32]| {
            let c = view_mut(to, left.nrows(), r).into();
            let output = Output::Sums { c, beta: Beta::Overwrite, bias: None, residual: None };
            product(Precision::Float32, left.into(), a.reversed_axes(), output)
        };
        times(w, &mut across)?; // W A^T (out, r)
        times(a, &mut inside)?; // A A^T (r, r)
        let length = |(o, &square): (usize, &f64)| {
            let b: Vec<f64> = b.row(o).iter().map(|&b| scale * f64::from(b)).collect();
            let mut sum = square;
            for (j, bj) in b.iter().enumerate() {
                let turned: f64 = b.iter().zip(&inside[j * r..]).map(|(bk, &x)| bk * f64::from(x)).sum();
                sum += bj * (2.0 * f64::from(across[o * r + j]) + turned);
            }
            sum.max(0.0).sqrt()
        };
        Ok(squares[part.columns.clone()].iter().enumerate().map(length).collect())
    }
}

/// `|W_o|^2` of every column of `w` (in, out).
fn squares_of(w: ArrayView2<'_, f32>) -> Vec<f64> {
    let mut squares = vec![0.0; w.ncols()];
    parallel::for_each(squares.chunks_mut(COLUMNS), |task, squares| {
        let columns = task * COLUMNS..task * COLUMNS + squares.len();
        // In the order in which they lie.
        if w.t().is_standard_layout() {
            for (o, square) in columns.zip(squares) {
                *square = w.column(o).iter().map(|&w| f64::from(w) * f64::from(w)).sum();
            }
        } else {
            for row in w.rows() {
                let row = row.slice_move(s![columns.clone()]);
                row.iter().zip(&mut *squares).for_each(|(&w, square)| *square += f64::from(w) * f64::from(w));
            }
        }
    });
    squares
}

/// Columns of a task.
const COLUMNS: usize = 64;
