//! `y = x W + b` on ranges of the flat buffer, forward beside backward.
//!
//! ```text
//! forward   y  = x W + b        (N, out) = (N, in) (in, out)
//! backward  dW += x^T dy        (in, out)
//!           db += sum_n dy      (out,)
//!           dx  = dy W^T        (N, in)
//! ```

use super::params::Linear;
use crate::error::Result;
use crate::kernels::Beta;
use crate::kernels::column_sum::add_column_sums;
use crate::kernels::matmul::{Epilogue, matmul};
use ndarray::{ArrayView2, ArrayViewMut2};

/// A row-major matrix over a slice; lengths come from the model's own plan, so a mismatch is a defect.
pub fn view(data: &[f32], rows: usize, cols: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, cols), &data[..rows * cols]).expect("a slice of rows * cols floats")
}

/// The same for writing.
pub fn view_mut(data: &mut [f32], rows: usize, cols: usize) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((rows, cols), &mut data[..rows * cols]).expect("a slice of rows * cols floats")
}

impl Linear {
    fn weight_view<'a>(&self, params: &'a [f32]) -> ArrayView2<'a, f32> {
        view(&params[self.weight.clone()], self.n_in, self.n_out)
    }

    /// `y = x W + b (+ residual)` for `n` rows.
    pub fn forward(&self, params: &[f32], n: usize, x: &[f32], residual: Option<&[f32]>, y: &mut [f32]) -> Result<()> {
        let epilogue = Epilogue {
            bias: self.bias.clone().map(|range| &params[range]),
            residual: residual.map(|r| view(r, n, self.n_out)),
        };
        matmul(view(x, n, self.n_in), self.weight_view(params), view_mut(y, n, self.n_out), Beta::Overwrite, epilogue)
    }

    /// Adds the gradients of W and b, and writes that of x.
    pub fn backward(
        &self,
        params: &[f32],
        grads: &mut [f32],
        n: usize,
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
    ) -> Result<()> {
        let dy = view(dy, n, self.n_out);
        let dw = view_mut(&mut grads[self.weight.clone()], self.n_in, self.n_out);
        matmul(view(x, n, self.n_in).reversed_axes(), dy, dw, Beta::Accumulate, Epilogue::default())?;
        if let Some(bias) = self.bias.clone() {
            add_column_sums(dy, &mut grads[bias])?;
        }
        let dx = view_mut(dx, n, self.n_in);
        matmul(dy, self.weight_view(params).reversed_axes(), dx, Beta::Overwrite, Epilogue::default())
    }
}
