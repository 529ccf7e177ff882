//! Matrix products.

use super::{Out, array, view, zeros};
use crate::arrays::Floats;
use crate::door;
use ndarray::Ix2;
use pyo3::prelude::*;
use subgpt_core::kernels::matmul::Epilogue;
use subgpt_core::kernels::{self, Beta};

/// a (M, K) b (K, N).
#[pyfunction]
fn matmul<'py>(py: Python<'py>, a: &Bound<'py, PyAny>, b: &Bound<'py, PyAny>) -> PyResult<Out<'py>> {
    let (a, b) = (Floats::strided(a, "a")?, Floats::strided(b, "b")?);
    let (a, b) = (view::<Ix2>(&a, "a")?, view::<Ix2>(&b, "b")?);
    let mut c = zeros((a.nrows(), b.ncols()))?;
    door::enter(py, || kernels::matmul::matmul(a, b, c.view_mut(), Beta::Overwrite, Epilogue::default()))?;
    array(py, c)
}

/// Adds this file's names to `ops`.
pub fn init(ops: &Bound<'_, PyModule>) -> PyResult<()> {
    ops.add_function(wrap_pyfunction!(matmul, ops)?)
}
