//! What a forward pass makes on its way: the residual stream, its logit lens, attention maps.

use crate::arrays;
use crate::door;
use crate::model::{Model, batch};
use numpy::PyArrayDyn;
use pyo3::prelude::*;

/// `first`, the shape of the ids, `last`.
fn shape(first: &[usize], ids: &[usize], last: &[usize]) -> Vec<usize> {
    [first, ids, last].concat()
}

/// The residual stream before each block and after the last: (n_layer + 1, *ids.shape, n_embd).
#[pyfunction]
fn hidden_states<'py>(
    py: Python<'py>,
    model: &Model,
    ids: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let batch = batch(ids)?;
    let (states, config) = door::enter(py, || {
        let gpt = model.shared.read()?;
        Ok((
            gpt.hidden_states(&mut *model.shared.arena()?, batch.rows(None))?,
            [gpt.config.n_layer + 1, gpt.config.n_embd],
        ))
    })?;
    arrays::to_numpy(py, states, &shape(&config[..1], &batch.shape, &config[1..]))
}

/// The logits that the last norm and the head make of each: (n_layer + 1, *ids.shape, vocab_size).
#[pyfunction]
fn logit_lens<'py>(py: Python<'py>, model: &Model, ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let batch = batch(ids)?;
    let (logits, config) = door::enter(py, || {
        let gpt = model.shared.read()?;
        Ok((
            gpt.logit_lens(&mut *model.shared.arena()?, batch.rows(None))?,
            [gpt.config.n_layer + 1, gpt.config.vocab_size],
        ))
    })?;
    arrays::to_numpy(py, logits, &shape(&config[..1], &batch.shape, &config[1..]))
}

/// Ids and probabilities of their `k` most probable tokens: (n_layer + 1, *ids.shape, k).
#[pyfunction]
fn logit_lens_top<'py>(
    py: Python<'py>,
    model: &Model,
    ids: &Bound<'py, PyAny>,
    k: usize,
) -> PyResult<(Bound<'py, PyArrayDyn<u32>>, Bound<'py, PyArrayDyn<f32>>)> {
    let batch = batch(ids)?;
    let (top, states) = door::enter(py, || {
        let gpt = model.shared.read()?;
        Ok((gpt.logit_lens_top(&mut *model.shared.arena()?, batch.rows(None), k)?, gpt.config.n_layer + 1))
    })?;
    let shape = shape(&[states], &batch.shape, &[k]);
    Ok((arrays::to_numpy(py, top.ids, &shape)?, arrays::to_numpy(py, top.probs, &shape)?))
}

/// Where each position looks: (n_layer, n_head, T, T), behind n_layer the batch where there is one.
#[pyfunction]
fn attention_maps<'py>(
    py: Python<'py>,
    model: &Model,
    ids: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let batch = batch(ids)?;
    let (maps, config) = door::enter(py, || {
        let gpt = model.shared.read()?;
        Ok((
            gpt.attention_maps(&mut *model.shared.arena()?, batch.rows(None))?,
            [gpt.config.n_layer, gpt.config.n_head],
        ))
    })?;
    arrays::to_numpy(
        py,
        maps,
        &shape(&config[..1], &batch.shape[..batch.shape.len() - 1], &[config[1], batch.t, batch.t]),
    )
}

/// Adds this file's names to the module.
pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(hidden_states, m)?)?;
    m.add_function(wrap_pyfunction!(logit_lens, m)?)?;
    m.add_function(wrap_pyfunction!(logit_lens_top, m)?)?;
    m.add_function(wrap_pyfunction!(attention_maps, m)?)
}
