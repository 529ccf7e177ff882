//! The kernels on arrays. Python (`python/subgpt/ops.py`) flattens leading dimensions and fills in defaults; here shapes
//! become views and results become arrays.

mod attention;
mod elementwise;
mod products;
mod rows;
mod tokens;

use crate::arrays::{Floats, to_numpy};
use crate::errors::ShapeError;
use ndarray::{Array, ArrayView, Dimension};
use numpy::PyArrayDyn;
use pyo3::prelude::*;

type Out<'py> = Bound<'py, PyArrayDyn<f32>>;

/// `value` as a view with `D`'s number of dimensions.
fn view<'a, D: Dimension>(value: &'a Floats<'_>, name: &str) -> PyResult<ArrayView<'a, f32, D>> {
    let shape = value.shape().to_vec();
    value.view().into_dimensionality::<D>().map_err(|_| {
        let expected = D::NDIM.unwrap_or_default();
        ShapeError::new_err(format!("{name} has shape {shape:?}, expected {expected} dimensions"))
    })
}

fn array<'py, D: Dimension>(py: Python<'py>, value: Array<f32, D>) -> PyResult<Out<'py>> {
    let shape = value.shape().to_vec();
    to_numpy(py, value.into_raw_vec_and_offset().0, &shape)
}

fn vector<'py>(py: Python<'py>, value: Vec<f32>) -> PyResult<Out<'py>> {
    let len = value.len();
    to_numpy(py, value, &[len])
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
