//! Where ids meet vectors: embedding in, cross-entropy out.

use super::{Out, array, floats, view, zeros};
use crate::arrays::{self, Floats, to_numpy_flat};
use crate::door;
use ndarray::Ix2;
use pyo3::prelude::*;
use subgpt_core::kernels;

/// Rows of weight (V, C) by ids (N,).
#[pyfunction]
fn embedding<'py>(py: Python<'py>, weight: &Bound<'py, PyAny>, ids: &Bound<'py, PyAny>) -> PyResult<Out<'py>> {
    let (weight, ids) = (Floats::new(weight, "weight")?, arrays::ids_1d(ids, "ids")?);
    let weight = view::<Ix2>(&weight, "weight")?;
    let mut out = zeros((ids.len(), weight.ncols()))?;
    door::enter(py, || kernels::embedding::embedding(weight, &ids, out.view_mut()))?;
    array(py, out)
}

/// Gradient (V, C) of the weight.
#[pyfunction]
fn embedding_backward<'py>(
    py: Python<'py>,
    ids: &Bound<'py, PyAny>,
    dout: &Bound<'py, PyAny>,
    vocab_size: usize,
) -> PyResult<Out<'py>> {
    let (ids, dout) = (arrays::ids_1d(ids, "ids")?, Floats::new(dout, "dout")?);
    let dout = view::<Ix2>(&dout, "dout")?;
    let mut dweight = zeros((vocab_size, dout.ncols()))?;
    door::enter(py, || kernels::embedding::embedding_backward(&ids, dout, dweight.view_mut()))?;
    array(py, dweight)
}

/// Loss (N,) of each row of logits (N, V).
#[pyfunction]
fn cross_entropy<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    targets: &Bound<'py, PyAny>,
    ignore_index: i64,
    label_smoothing: f32,
) -> PyResult<Out<'py>> {
    let logits = Floats::new(logits, "logits")?;
    let targets: Vec<i64> = arrays::integers(targets, "targets")?.into_iter().collect();
    let logits = view::<Ix2>(&logits, "logits")?;
    let mut losses = floats(logits.nrows())?;
    door::enter(py, || {
        kernels::cross_entropy::cross_entropy(logits, &targets, ignore_index, label_smoothing, &mut losses)
    })?;
    to_numpy_flat(py, losses)
}

/// scale x the gradient (N, V) of the sum of losses.
#[pyfunction]
fn cross_entropy_backward<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    targets: &Bound<'py, PyAny>,
    ignore_index: i64,
    label_smoothing: f32,
    scale: f32,
) -> PyResult<Out<'py>> {
    let logits = Floats::new(logits, "logits")?;
    let targets: Vec<i64> = arrays::integers(targets, "targets")?.into_iter().collect();
    let logits = view::<Ix2>(&logits, "logits")?;
    let mut d = zeros(logits.raw_dim())?;
    door::enter(py, || {
        kernels::cross_entropy::cross_entropy_backward(
            logits,
            &targets,
            ignore_index,
            label_smoothing,
            scale,
            d.view_mut(),
        )
    })?;
    array(py, d)
}

/// Adds this file's names to `ops`.
pub fn init(ops: &Bound<'_, PyModule>) -> PyResult<()> {
    ops.add_function(wrap_pyfunction!(embedding, ops)?)?;
    ops.add_function(wrap_pyfunction!(embedding_backward, ops)?)?;
    ops.add_function(wrap_pyfunction!(cross_entropy, ops)?)?;
    ops.add_function(wrap_pyfunction!(cross_entropy_backward, ops)?)
}
