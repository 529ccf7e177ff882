//! The matrices that a product reads and writes: float32 or bfloat16, named at run time.

use crate::simd::{Element, bf16};
use ndarray::{ArrayView2, ArrayViewMut2};
use serde::{Deserialize, Serialize};

/// What the numbers are that a product multiplies; sums are float32 always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Operands as they are.
    Float32,
    /// Operands rounded to bfloat16, their products exact.
    Bfloat16,
}

impl Precision {
    /// Neighbouring `k` that share a unit of depth: four bytes of a packed panel.
    pub(super) fn per_unit(self) -> usize {
        match self {
            Precision::Float32 => 1,
            Precision::Bfloat16 => 2,
        }
    }

    /// Units in a depth of `k`.
    pub(super) fn units(self, k: usize) -> usize {
        k.div_ceil(self.per_unit())
    }
}

/// A matrix that is read; any strides.
#[derive(Clone, Copy, Debug)]
pub enum Matrix<'a> {
    /// Of float32.
    Float(ArrayView2<'a, f32>),
    /// Of bfloat16.
    Half(ArrayView2<'a, bf16>),
}

impl<'a> Matrix<'a> {
    /// Rows and columns.
    pub fn dim(&self) -> (usize, usize) {
        match self {
            Matrix::Float(x) => x.dim(),
            Matrix::Half(x) => x.dim(),
        }
    }

    /// The transposed view; nothing is moved.
    pub fn t(self) -> Matrix<'a> {
        match self {
            Matrix::Float(x) => Matrix::Float(x.reversed_axes()),
            Matrix::Half(x) => Matrix::Half(x.reversed_axes()),
        }
    }

    /// Elements from one column to the next.
    pub(super) fn column_stride(&self) -> isize {
        match self {
            Matrix::Float(x) => x.strides()[1],
            Matrix::Half(x) => x.strides()[1],
        }
    }
}

/// A matrix that is written; its rows must be contiguous, and may lie anywhere.
#[derive(Debug)]
pub enum MatrixMut<'a> {
    /// Of float32.
    Float(ArrayViewMut2<'a, f32>),
    /// Of bfloat16.
    Half(ArrayViewMut2<'a, bf16>),
}

impl MatrixMut<'_> {
    /// The same matrix, read.
    pub(super) fn as_matrix(&self) -> Matrix<'_> {
        match self {
            MatrixMut::Float(x) => Matrix::Float(x.view()),
            MatrixMut::Half(x) => Matrix::Half(x.view()),
        }
    }
}

impl<'a> From<ArrayView2<'a, f32>> for Matrix<'a> {
    fn from(x: ArrayView2<'a, f32>) -> Self {
        Matrix::Float(x)
    }
}

impl<'a> From<ArrayView2<'a, bf16>> for Matrix<'a> {
    fn from(x: ArrayView2<'a, bf16>) -> Self {
        Matrix::Half(x)
    }
}

impl<'a> From<ArrayViewMut2<'a, f32>> for MatrixMut<'a> {
    fn from(x: ArrayViewMut2<'a, f32>) -> Self {
        MatrixMut::Float(x)
    }
}

impl<'a> From<ArrayViewMut2<'a, bf16>> for MatrixMut<'a> {
    fn from(x: ArrayViewMut2<'a, bf16>) -> Self {
        MatrixMut::Half(x)
    }
}

/// A number that matrices are made of: lets callers be generic over the type of their activations.
pub trait Scalar: Element {
    /// The precision whose operands these numbers are.
    const PRECISION: Precision;
    /// The view as a matrix that is read.
    fn matrix(view: ArrayView2<'_, Self>) -> Matrix<'_>;
    /// The view as a matrix that is written.
    fn matrix_mut(view: ArrayViewMut2<'_, Self>) -> MatrixMut<'_>;
}

impl Scalar for f32 {
    const PRECISION: Precision = Precision::Float32;

    fn matrix(view: ArrayView2<'_, f32>) -> Matrix<'_> {
        view.into()
    }
    fn matrix_mut(view: ArrayViewMut2<'_, f32>) -> MatrixMut<'_> {
        view.into()
    }
}

impl Scalar for bf16 {
    const PRECISION: Precision = Precision::Bfloat16;

    fn matrix(view: ArrayView2<'_, bf16>) -> Matrix<'_> {
        view.into()
    }
    fn matrix_mut(view: ArrayViewMut2<'_, bf16>) -> MatrixMut<'_> {
        view.into()
    }
}
