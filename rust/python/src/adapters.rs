//! What of a model is trained: adapters over it, and frozen weights.

use crate::arrays::{self, Floats};
use crate::door;
use crate::model::Model;
use numpy::PyArrayDyn;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use subgpt_core::Error;
use subgpt_core::model::adapter::spec::Spec;

/// The names of the projections that an adapter may change.
#[pyfunction]
fn linear_modules(py: Python<'_>, model: &Model) -> PyResult<Vec<String>> {
    let shared = &model.shared;
    door::enter(py, || Ok(shared.read()?.linear_modules().map(str::to_string).collect()))
}

/// Makes an adapter that changes nothing yet, by a specification in JSON.
#[pyfunction]
fn add_adapter(py: Python<'_>, model: &Model, name: &str, spec: &str, seed: u64) -> PyResult<()> {
    let shared = &model.shared;
    door::enter(py, || shared.write()?.add_adapter(name, Spec::from_json(spec)?, seed))
}

#[pyfunction]
fn delete_adapter(py: Python<'_>, model: &Model, name: &str) -> PyResult<()> {
    let shared = &model.shared;
    door::enter(py, || shared.write()?.delete_adapter(name))
}

/// Uses an adapter, or none.
#[pyfunction]
#[pyo3(signature = (model, name))]
fn set_adapter(py: Python<'_>, model: &Model, name: Option<&str>) -> PyResult<()> {
    let shared = &model.shared;
    door::enter(py, || shared.write()?.set_adapter(name))
}

#[pyfunction]
fn active_adapter(py: Python<'_>, model: &Model) -> PyResult<Option<String>> {
    let shared = &model.shared;
    door::enter(py, || Ok(shared.read()?.active_adapter().map(str::to_string)))
}

/// Every tensor of an adapter, by PEFT's name.
#[pyfunction]
fn adapter_tensors<'py>(py: Python<'py>, model: &Model, name: &str) -> PyResult<Bound<'py, PyDict>> {
    let shared = &model.shared;
    let tensors = door::enter(py, || {
        let gpt = shared.read()?;
        let adapter = gpt.adapter(name)?;
        let copy = |tensor: &subgpt_core::model::params::Tensor| {
            (tensor.name.clone(), tensor.shape.clone(), adapter.params()[tensor.range.clone()].to_vec())
        };
        Ok(adapter.tensors.iter().map(copy).collect::<Vec<_>>())
    })?;
    let named = PyDict::new(py);
    for (name, shape, data) in tensors {
        named.set_item(name, arrays::to_numpy(py, data, &shape)?)?;
    }
    Ok(named)
}

/// Sets a tensor of an adapter.
#[pyfunction]
fn set_adapter_tensor(
    py: Python<'_>,
    model: &Model,
    name: &str,
    tensor: &str,
    value: &Bound<'_, PyArrayDyn<f32>>,
) -> PyResult<()> {
    let value = Floats::new(value.as_any(), tensor)?;
    let (data, shape, shared) = (value.slice()?, value.shape().to_vec(), &model.shared);
    door::enter(py, || {
        let mut gpt = shared.write()?;
        let (tensors, params) = gpt.adapter_mut(name)?.parts_mut();
        let Some(place) = tensors.iter().find(|known| known.name == tensor) else {
            return Err(Error::value(
                "adapter",
                "tensor",
                format!("{tensor:?}"),
                "see adapter_tensors() for the names",
            ));
        };
        if shape != place.shape {
            return Err(Error::shape("adapter", "value", &shape, format!("{:?} for {tensor}", place.shape)));
        }
        params[place.range.clone()].copy_from_slice(data);
        Ok(())
    })
}

#[pyfunction]
fn save_adapter(
    py: Python<'_>,
    model: &Model,
    name: &str,
    path: PathBuf,
    metadata: HashMap<String, String>,
) -> PyResult<()> {
    let shared = &model.shared;
    door::enter(py, || shared.read()?.adapter(name)?.save(&path, metadata))
}

#[pyfunction]
fn load_adapter(py: Python<'_>, model: &Model, name: &str, path: PathBuf) -> PyResult<()> {
    let shared = &model.shared;
    door::enter(py, || shared.write()?.adapter_mut(name)?.load(&path))
}

/// Some numbers of a tensor, evenly spread.
#[pyfunction]
fn tensor_sample<'py>(
    py: Python<'py>,
    model: &Model,
    name: &str,
    count: usize,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let shared = &model.shared;
    let sample = door::enter(py, || shared.read()?.sample(name, count))?;
    arrays::to_numpy_flat(py, sample)
}

/// Freezes all weights but those of these names.
#[pyfunction]
fn train_only(py: Python<'_>, model: &Model, names: HashSet<String>) -> PyResult<()> {
    let shared = &model.shared;
    door::enter(py, || {
        shared.write()?.freeze(|name| names.contains(name));
        Ok(())
    })
}

/// The names of the tensors that are trained: of the weights that are not frozen, or of the adapter in use.
#[pyfunction]
fn trained_names(py: Python<'_>, model: &Model) -> PyResult<Vec<String>> {
    let shared = &model.shared;
    door::enter(py, || Ok(shared.read()?.trained_tensors().into_iter().map(|tensor| tensor.name.clone()).collect()))
}

/// Numbers that are trained.
#[pyfunction]
fn num_trained(py: Python<'_>, model: &Model) -> PyResult<usize> {
    let shared = &model.shared;
    door::enter(py, || Ok(shared.read()?.num_trained()))
}

/// Adds this file's names to the module.
pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(linear_modules, m)?)?;
    m.add_function(wrap_pyfunction!(add_adapter, m)?)?;
    m.add_function(wrap_pyfunction!(delete_adapter, m)?)?;
    m.add_function(wrap_pyfunction!(set_adapter, m)?)?;
    m.add_function(wrap_pyfunction!(active_adapter, m)?)?;
    m.add_function(wrap_pyfunction!(adapter_tensors, m)?)?;
    m.add_function(wrap_pyfunction!(set_adapter_tensor, m)?)?;
    m.add_function(wrap_pyfunction!(save_adapter, m)?)?;
    m.add_function(wrap_pyfunction!(load_adapter, m)?)?;
    m.add_function(wrap_pyfunction!(tensor_sample, m)?)?;
    m.add_function(wrap_pyfunction!(train_only, m)?)?;
    m.add_function(wrap_pyfunction!(trained_names, m)?)?;
    m.add_function(wrap_pyfunction!(num_trained, m)?)
}
