//! The kernels on arrays. Python (`python/subgpt/ops.py`) flattens leading dimensions and fills in defaults; here shapes
//! become views and results become arrays.

mod attention;
mod elementwise;
mod products;
mod rows;
mod tokens;

use crate::arrays::{Floats, to_numpy};
use crate::errors::{ShapeError, to_python};
use ndarray::{Array, ArrayView, Dimension, IntoDimension, Ix1};
use numpy::{PyArray, PyArrayDyn};
use pyo3::prelude::*;
use subgpt_core::buffer;

type Out<'py> = Bound<'py, PyArrayDyn<f32>>;

/// `value` as a view with `D`'s number of dimensions.
fn view<'a, D: Dimension>(value: &'a Floats<'_>, name: &str) -> PyResult<ArrayView<'a, f32, D>> {
    let shape = value.shape().to_vec();
    value.view().into_dimensionality::<D>().map_err(|_| {
        let expected = D::NDIM.unwrap_or_default();
        ShapeError::new_err(format!("{name} has shape {shape:?}, expected {expected} dimensions"))
    })
}

/// Zeros for a result of that shape. Arguments that take no memory (no columns) can ask for a result that takes more
/// than there is: that is an exception here, where `Array::zeros` would panic or end the process.
fn zeros<S: IntoDimension>(shape: S) -> PyResult<Array<f32, S::Dim>> {
    let shape = shape.into_dimension();
    buffer::room(shape.slice(), "the result").map_err(to_python)?;
    Ok(Array::zeros(shape))
}

/// As [`zeros`], of `len` numbers.
fn floats(len: usize) -> PyResult<Vec<f32>> {
    Ok(zeros::<Ix1>(Ix1(len))?.into_raw_vec_and_offset().0)
}

/// The numbers of `x`, to be changed.
fn copy(x: &Floats<'_>) -> PyResult<Vec<f32>> {
    let mut y = floats(x.slice()?.len())?;
    y.copy_from_slice(x.slice()?);
    Ok(y)
}

/// An array for a result that is written whole. Nobody has to clear it first, which takes a small product a quarter of its
/// time; what it holds until then is as arbitrary as in any `numpy.empty` that Python may hand to us.
fn empty<'py, S: IntoDimension>(py: Python<'py>, shape: S) -> PyResult<Bound<'py, PyArray<f32, S::Dim>>> {
    let shape = shape.into_dimension();
    buffer::room(shape.slice(), "the result").map_err(to_python)?;
    let array = py.import("numpy")?.call_method1("empty", (shape.slice(), "float32"))?;
    Ok(array.cast_into::<PyArray<f32, S::Dim>>()?)
}

fn array<'py, D: Dimension>(py: Python<'py>, value: Array<f32, D>) -> PyResult<Out<'py>> {
    let shape = value.shape().to_vec();
    to_numpy(py, value.into_raw_vec_and_offset().0, &shape)
}

/// Adds the submodule `ops`.
pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let ops = PyModule::new(m.py(), "ops")?;
    products::init(&ops)?;
    rows::init(&ops)?;
    elementwise::init(&ops)?;
    tokens::init(&ops)?;
    attention::init(&ops)?;
    m.add_submodule(&ops)
}
