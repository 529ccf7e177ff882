//! What a product writes, and what is done to the finished sums before.

use super::matrix::{Matrix, MatrixMut};
use crate::error::{Error, Result};
use crate::kernels::activation::Activation;
use crate::kernels::{Beta, check};
use ndarray::ArrayView2;

/// What becomes of the sums of a product `(M, N)`. Every matrix here has that shape and contiguous rows.
#[derive(Debug)]
pub enum Output<'a> {
    /// `c = or += sums (+ bias) (+ residual)`
    Sums {
        /// float32, or bfloat16, to which it is rounded at the end.
        c: MatrixMut<'a>,
        /// What happens to what `c` holds.
        beta: Beta,
        /// `(N,)`, added to every row.
        bias: Option<&'a [f32]>,
        /// `(M, N)`, added element by element.
        residual: Option<ArrayView2<'a, f32>>,
    },
    /// `pre = sums (+ bias)` and `act = f(pre)`, before `pre` is rounded; both of one type.
    Activated {
        /// What goes into the activation.
        pre: MatrixMut<'a>,
        /// What comes out of it.
        act: MatrixMut<'a>,
        /// `f`
        activation: Activation,
        /// `(N,)`, added to every row.
        bias: Option<&'a [f32]>,
    },
    /// `d_pre = sums * f'(pre)` and `act = f(pre)`, the activation once more; all three of one type.
    ActivatedBackward {
        /// What went into the activation.
        pre: Matrix<'a>,
        /// The gradient of `pre`.
        d_pre: MatrixMut<'a>,
        /// What came out of the activation.
        act: MatrixMut<'a>,
        /// `f`
        activation: Activation,
    },
}

impl Output<'_> {
    /// Everything must fit a product of `m` rows and `n` columns.
    pub(super) fn check(&self, m: usize, n: usize) -> Result<()> {
        match self {
            Output::Sums { c, bias, residual, .. } => {
                check_matrix("c", &c.as_matrix(), (m, n))?;
                check_bias(*bias, n)?;
                residual.map_or(Ok(()), |r| check_matrix("residual", &Matrix::Float(r), (m, n)))
            }
            Output::Activated { pre, act, bias, .. } => {
                let (pre, act) = (pre.as_matrix(), act.as_matrix());
                check_matrix("pre", &pre, (m, n))?;
                check_matrix("act", &act, (m, n))?;
                check_bias(*bias, n)?;
                check_types("act", &act, &pre)
            }
            Output::ActivatedBackward { pre, d_pre, act, .. } => {
                let (d_pre, act) = (d_pre.as_matrix(), act.as_matrix());
                check_matrix("pre", pre, (m, n))?;
                check_matrix("d_pre", &d_pre, (m, n))?;
                check_matrix("act", &act, (m, n))?;
                check_types("d_pre", &d_pre, pre)?;
                check_types("act", &act, pre)
            }
        }
    }
}

fn check_bias(bias: Option<&[f32]>, n: usize) -> Result<()> {
    bias.map_or(Ok(()), |bias| check::len("matmul", "bias", bias.len(), n))
}

fn check_matrix(what: &'static str, matrix: &Matrix<'_>, (rows, columns): (usize, usize)) -> Result<()> {
    let (got_rows, got_columns) = matrix.dim();
    check::shape("matmul", what, &[got_rows, got_columns], &[rows, columns])?;
    let stride = matrix.column_stride();
    if stride == 1 || columns <= 1 || rows == 0 {
        return Ok(());
    }
    Err(Error::Shape {
        op: "matmul",
        what,
        got: format!("rows with {stride} elements from one column to the next"),
        expected: "contiguous rows (a column stride of 1)".into(),
    })
}

/// `matrix` must hold numbers of the type that `pre` holds.
fn check_types(what: &'static str, matrix: &Matrix<'_>, pre: &Matrix<'_>) -> Result<()> {
    let name = |m: &Matrix<'_>| if matches!(m, Matrix::Float(_)) { "float32" } else { "bfloat16" };
    if name(matrix) == name(pre) {
        return Ok(());
    }
    Err(Error::value("matmul", what, name(matrix), format!("it must be {} as pre is", name(pre))))
}
