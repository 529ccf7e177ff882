//! Matrix products.

use super::{Out, empty, view};
use crate::arrays::Floats;
use crate::door;
use ndarray::Ix2;
use numpy::PyArrayMethods;
use pyo3::prelude::*;
use subgpt_core::kernels::{self, Beta};

/// a (M, K) b (K, N).
#[pyfunction]
fn matmul<'py>(py: Python<'py>, a: &Bound<'py, PyAny>, b: &Bound<'py, PyAny>) -> PyResult<Out<'py>> {
    let (a, b) = (Floats::strided(a, "a")?, Floats::strided(b, "b")?);
    let (a, b) = (view::<Ix2>(&a, "a")?, view::<Ix2>(&b, "b")?);
    let c = empty(py, (a.nrows(), b.ncols()))?;
    let mut written = c.try_readwrite()?;
    let view = written.as_array_mut();
    door::enter(py, || kernels::matmul::matmul(a, b, view, Beta::Overwrite))?;
    drop(written);
    Ok(c.to_dyn().clone())
}

/// Adds this file's names to `ops`.
pub fn init(ops: &Bound<'_, PyModule>) -> PyResult<()> {
    ops.add_function(wrap_pyfunction!(matmul, ops)?)
}
