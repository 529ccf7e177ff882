//! `y = x W + b` on ranges of the flat buffer, or on weights in few bits, forward beside backward. What an adapter adds is
//! in `adapter/apply.rs`.
//!
//! ```text
//! forward   y  = x W + b        (N, out) = (N, in) (in, out)
//! backward  dW = or += x^T dy   (in, out)
//!           db += sum_n dy      (out,)
//!           dx  = dy W^T        (N, in)
//! ```
//!
//! Activations are float32 or bfloat16 ([`Scalar`]), which decides what the products multiply; weights and their
//! gradients are float32 always, those in few bits once they are decoded.

use super::adapter::apply::Adapted;
use super::gradients::Gradients;
use super::packs::{Direction, Packs};
use super::params::Linear;
use super::quantized::Quantized;
use crate::error::Result;
use crate::kernels::Beta;
use crate::kernels::column_sum::add_column_sums;
use crate::kernels::matmul::{Extension, Matrix, Output, Precision, Right, Scalar, extended_product, product};
use crate::profile;
use ndarray::{ArrayView2, ArrayViewMut2, s};

/// A row-major matrix over a slice; lengths come from the model's own plan, so a mismatch is a defect.
pub fn view<E>(data: &[E], rows: usize, cols: usize) -> ArrayView2<'_, E> {
    ArrayView2::from_shape((rows, cols), &data[..rows * cols]).expect("a slice of rows * cols numbers")
}

/// The same for writing.
pub fn view_mut<E>(data: &mut [E], rows: usize, cols: usize) -> ArrayViewMut2<'_, E> {
    ArrayViewMut2::from_shape((rows, cols), &mut data[..rows * cols]).expect("a slice of rows * cols numbers")
}

/// All weights, with the packed copies that products read instead of them where there are any, and the adapter in use:
/// what reads those of a linear layer asks [`Linear::with_matrix`].
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    /// The flat buffer.
    pub params: &'a [f32],
    /// Those of linear layers, where they are kept in few bits.
    pub quantized: Option<&'a Quantized>,
    /// Packed copies, if they are kept and fresh.
    pub packs: Option<&'a Packs>,
    /// What adapts them.
    pub adapted: Option<Adapted<'a>>,
    /// Whether products read those in few bits as they are; if not, they are decoded, for passes that go back.
    pub direct: bool,
}

impl Linear {
    /// W as (in, out), in whatever order it lies in the flat buffer.
    pub fn matrix<'a>(&self, params: &'a [f32]) -> ArrayView2<'a, f32> {
        let weight = &params[self.weight.clone()];
        match self.transposed {
            true => view(weight, self.n_out, self.n_in).reversed_axes(),
            false => view(weight, self.n_in, self.n_out),
        }
    }

    /// Calls `f` with W as (in, out), however it is kept.
    pub fn with_matrix<R>(&self, weights: Weights<'_>, f: impl FnOnce(ArrayView2<'_, f32>) -> Result<R>) -> Result<R> {
        match weights.quantized.and_then(|quantized| Some((quantized, quantized.layer(self)?))) {
            Some((quantized, matrix)) => quantized.with_decoded(matrix, |w| f(w.reversed_axes())),
            None => f(self.matrix(weights.params)),
        }
    }

    /// `output` from the product of `left` with W, packed where it is, or with W^T for the way back. What extends the
    /// product is not in the packed copies, so they are of no use then.
    fn multiply(
        &self,
        name: &'static str,
        weights: Weights<'_>,
        direction: Direction,
        precision: Precision,
        left: Matrix<'_>,
        extension: Option<Extension<'_>>,
        output: Output<'_>,
    ) -> Result<()> {
        let more = extension.as_ref().map_or(0, |more| more.left.dim().1 * more.right.dim().1);
        let work = profile::Work::Product { flop: 2.0 * (left.dim().0 * (self.n_in * self.n_out + more)) as f64 };
        if let (Some(packs), None) = (weights.packs, &extension) {
            let right: Right<'_> = packs.get(self.index, direction).into();
            return profile::measure(name, work, || product(precision, left, right, output));
        }
        let kept = weights.quantized.filter(|_| weights.direct).and_then(|quantized| quantized.layer(self));
        if let (Some(matrix), Direction::Forward) = (kept, direction) {
            return profile::measure(name, work, || {
                extended_product(precision, left, matrix.into(), extension, output)
            });
        }
        self.with_matrix(weights, |w| {
            let right = if let Direction::Forward = direction { w } else { w.reversed_axes() };
            profile::measure(name, work, || extended_product(precision, left, right.into(), extension, output))
        })
    }

    /// b `(out,)`, if there is one.
    pub fn bias<'a>(&self, params: &'a [f32]) -> Option<&'a [f32]> {
        self.bias.clone().map(|range| &params[range])
    }

    /// `output` from the sums `x W` for the `n` rows of `x` (N, in), and what extends them.
    pub fn product<E: Scalar>(
        &self,
        name: &'static str,
        weights: Weights<'_>,
        n: usize,
        x: &[E],
        extension: Option<Extension<'_>>,
        output: Output<'_>,
    ) -> Result<()> {
        let x = E::matrix(view(x, n, self.n_in));
        self.multiply(name, weights, Direction::Forward, E::PRECISION, x, extension, output)
    }

    /// `output` from the sums `dy W^T` for the `n` rows of `dy` (N, out), and what extends them.
    pub fn backward_input<E: Scalar>(
        &self,
        name: &'static str,
        weights: Weights<'_>,
        dy: ArrayView2<'_, E>,
        extension: Option<Extension<'_>>,
        output: Output<'_>,
    ) -> Result<()> {
        self.multiply(name, weights, Direction::Backward, E::PRECISION, E::matrix(dy), extension, output)
    }

    /// The gradients of W (as `grads` says) and of b (added); none of columns that are frozen.
    pub fn backward_weights<E: Scalar>(
        &self,
        name: &'static str,
        grads: &mut Gradients<'_>,
        x: &[E],
        dy: ArrayView2<'_, E>,
    ) -> Result<()> {
        let n = dy.nrows();
        let x = view(x, n, self.n_in);
        for run in grads.trained.weights(self) {
            let (dy, width) = (dy.slice(s![.., run.columns.clone()]), run.columns.len());
            let dw = &mut grads.data[run.place];
            let (left, right, dw) = match self.transposed {
                true => (dy, x, view_mut(dw, width, self.n_in)),
                false => (x, dy, view_mut(dw, self.n_in, width)),
            };
            let left: Matrix<'_> = E::matrix(left.reversed_axes());
            let output = Output::Sums { c: dw.into(), beta: grads.beta, bias: None, residual: None };
            let work = profile::Work::Product { flop: 2.0 * (n * self.n_in * width) as f64 };
            profile::measure(name, work, || product(E::PRECISION, left, E::matrix(right), output))?;
        }
        for run in grads.trained.biases(self) {
            let (dy, db) = (dy.slice(s![.., run.columns]), &mut grads.data[run.place]);
            profile::measure("bias gradients", profile::Work::bytes(dy.len() * size_of::<E>()), || {
                add_column_sums(dy, db)
            })?;
        }
        Ok(())
    }
}

/// `c = x W (+ b) (+ residual)`, as an [`Output`].
pub fn sums<'a, E: Scalar>(
    c: &'a mut [E],
    n: usize,
    width: usize,
    bias: Option<&'a [f32]>,
    residual: Option<&'a [f32]>,
) -> Output<'a> {
    let residual = residual.map(|r| view(r, n, width));
    Output::Sums { c: E::matrix_mut(view_mut(c, n, width)), beta: Beta::Overwrite, bias, residual }
}
