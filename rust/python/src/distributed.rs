//! What processes that share an update need of a model: gradients and weights in pieces, and sums of what they send.

use crate::arrays::{self, Floats};
use crate::door;
use crate::errors::DtypeError;
use crate::model::{Model, batch, beside};
use numpy::{IntoPyArray, PyArray1, PyArrayDyn, PyArrayMethods};
use pyo3::prelude::*;
use std::ops::Range;
use subgpt_core::Result;
use subgpt_core::kernels::exchange;
use subgpt_core::model::buckets::Finished;
use subgpt_core::model::rows::Labels;
use subgpt_core::optim::clip;
use subgpt_core::simd::bf16;

/// A piece of the gradients, as Python gives it.
pub fn range((start, stop): (usize, usize)) -> Range<usize> {
    start..stop
}

/// Pieces of about `floats` that a backward pass finishes one after the other, from the end to the beginning.
#[pyfunction]
fn gradient_buckets(py: Python<'_>, model: &Model, floats: usize) -> PyResult<Vec<(usize, usize)>> {
    let shared = &model.shared;
    let buckets = door::enter(py, || Ok(shared.read()?.gradient_buckets(floats)))?;
    Ok(buckets.into_iter().map(|bucket| (bucket.start, bucket.end)).collect())
}

/// Where the gradients of each tensor that is trained begin.
#[pyfunction]
fn gradient_starts(py: Python<'_>, model: &Model) -> PyResult<Vec<usize>> {
    let shared = &model.shared;
    door::enter(py, || Ok(shared.read()?.gradient_starts()))
}

/// `Model.backward`, which calls `tell(number, gradients)` with a copy of each bucket that it is done with.
#[pyfunction]
fn backward_in_buckets(
    py: Python<'_>,
    model: &Model,
    ids: &Bound<'_, PyAny>,
    targets: &Bound<'_, PyAny>,
    ignore_index: i64,
    scale: f32,
    documents: Option<&Bound<'_, PyAny>>,
    buckets: Vec<(usize, usize)>,
    tell: Py<PyAny>,
) -> PyResult<f64> {
    arrays::ready(py)?;
    let batch = batch(ids)?;
    let (targets, documents) = beside(&batch, targets, documents)?;
    let (rows, labels) = (batch.rows(documents.as_ref()), Labels::new(&targets, ignore_index));
    let buckets: Vec<_> = buckets.into_iter().map(range).collect();
    let mut raised: Option<PyErr> = None;
    let outcome = door::enter(py, || {
        let raised = &mut raised;
        let mut tell = |number: usize, grads: &[f32]| {
            if raised.is_none() {
                let grads = grads.to_vec();
                let told = Python::attach(|py| tell.call1(py, (number, grads.into_pyarray(py))).map(drop));
                *raised = told.err();
            }
        };
        let finished = Finished { buckets: &buckets, tell: &mut tell };
        let mut gpt = model.shared.write()?;
        gpt.check_buckets(&buckets)?;
        gpt.backward_watched(rows, labels, scale, Some(finished))
    });
    raised.map_or(outcome, Err)
}

/// A copy of the gradients from `start` to `stop`.
#[pyfunction]
fn gradients<'py>(py: Python<'py>, model: &Model, start: usize, stop: usize) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let shared = &model.shared;
    let values = door::enter(py, || shared.write()?.gradients_in(start..stop))?;
    arrays::to_numpy_flat(py, values)
}

#[pyfunction]
fn set_gradients(py: Python<'_>, model: &Model, start: usize, values: &Bound<'_, PyAny>) -> PyResult<()> {
    let values = Floats::new(values, "values")?;
    let (shared, values) = (&model.shared, values.slice()?);
    door::enter(py, || shared.write()?.set_gradients(start, values))
}

/// A copy of the numbers that are trained, those whose gradients are from `start` to `stop`.
#[pyfunction]
fn trained<'py>(py: Python<'py>, model: &Model, start: usize, stop: usize) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let shared = &model.shared;
    let values = door::enter(py, || shared.read()?.trained_in(start..stop))?;
    arrays::to_numpy_flat(py, values)
}

#[pyfunction]
fn set_trained(py: Python<'_>, model: &Model, start: usize, values: &Bound<'_, PyAny>) -> PyResult<()> {
    let values = Floats::new(values, "values")?;
    let (shared, values) = (&model.shared, values.slice()?);
    door::enter(py, || shared.write()?.set_trained(start, values))
}

/// The sum of the squares of the gradients from `start` to `stop`.
#[pyfunction]
fn gradient_squares(py: Python<'_>, model: &Model, start: usize, stop: usize) -> PyResult<f64> {
    let shared = &model.shared;
    door::enter(py, || {
        let mut gpt = shared.write()?;
        gpt.check_place("gradients", &(start..stop))?;
        Ok(gpt.gradients_mut().map_or(0.0, |grads| clip::squares(grads, start..stop)))
    })
}

/// Scales the gradients down to `max_norm`; `norm` is that of all, of which this process may have a part.
#[pyfunction]
fn clip_from_norm(py: Python<'_>, model: &Model, norm: f64, max_norm: f64) -> PyResult<()> {
    let shared = &model.shared;
    door::enter(py, || {
        if let Some(grads) = shared.write()?.gradients_mut() {
            clip::clip_from(grads, norm, max_norm);
        }
        Ok(())
    })
}

/// The sum of `count` parts that lie one behind the other, in their order: of float32 numbers, or of bfloat16 as uint16.
#[pyfunction]
fn sum_parts<'py>(py: Python<'py>, parts: &Bound<'py, PyAny>, count: usize) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    fn sum<E: subgpt_core::simd::Element>(parts: &[E], count: usize) -> Result<Vec<f32>> {
        let mut sum = vec![0.0; parts.len() / count.max(1)];
        exchange::sum_parts(parts, &mut sum)?;
        Ok(sum)
    }
    let sum = match parts.cast::<PyArray1<u16>>() {
        Ok(parts) => {
            let parts = parts.readonly();
            let parts: &[bf16] = bytemuck::cast_slice(parts.as_slice()?);
            door::enter(py, || sum(parts, count))?
        }
        Err(_) => {
            let parts = Floats::new(parts, "parts")?;
            let parts = parts.slice()?;
            door::enter(py, || sum(parts, count))?
        }
    };
    arrays::to_numpy_flat(py, sum)
}

/// `x` as bfloat16 in uint16, after what `residual` has of earlier calls was added; what rounding took is left in it.
#[pyfunction]
fn narrow_with_feedback<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    residual: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<u16>>> {
    let x = Floats::new(x, "x")?;
    let x = x.slice()?;
    let residual = residual.cast::<PyArray1<f32>>().map_err(|_| {
        DtypeError::new_err(format!("residual must be a row of float32, not {}", arrays::describe(residual)))
    })?;
    let mut residual = residual.try_readwrite().map_err(|error| DtypeError::new_err(error.to_string()))?;
    let residual = residual.as_slice_mut()?;
    let mut sent = vec![0u16; x.len()];
    door::enter(py, || exchange::narrow_with_feedback(x, residual, bytemuck::cast_slice_mut(&mut sent)))?;
    Ok(sent.into_pyarray(py))
}

/// bfloat16 numbers in uint16 as float32.
#[pyfunction]
fn widen<'py>(py: Python<'py>, x: &Bound<'py, PyArray1<u16>>) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    sum_parts(py, x.as_any(), 1)
}

/// Adds this file's names to the module.
pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(gradient_buckets, m)?)?;
    m.add_function(wrap_pyfunction!(gradient_starts, m)?)?;
    m.add_function(wrap_pyfunction!(backward_in_buckets, m)?)?;
    m.add_function(wrap_pyfunction!(gradients, m)?)?;
    m.add_function(wrap_pyfunction!(set_gradients, m)?)?;
    m.add_function(wrap_pyfunction!(trained, m)?)?;
    m.add_function(wrap_pyfunction!(set_trained, m)?)?;
    m.add_function(wrap_pyfunction!(gradient_squares, m)?)?;
    m.add_function(wrap_pyfunction!(clip_from_norm, m)?)?;
    m.add_function(wrap_pyfunction!(sum_parts, m)?)?;
    m.add_function(wrap_pyfunction!(narrow_with_feedback, m)?)?;
    m.add_function(wrap_pyfunction!(widen, m)?)
}
