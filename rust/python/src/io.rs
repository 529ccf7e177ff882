//! Files for Python: atomic writes of small ones, and float tensors by name.

use crate::arrays::{self, Floats};
use crate::door;
use numpy::PyArrayDyn;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use subgpt_core::io::atomic;
use subgpt_core::io::safetensors::{Output, Reader, write};

/// Writes `data` to `path`, which then holds all of it or what it held before.
#[pyfunction]
fn write_atomic(py: Python<'_>, path: PathBuf, data: &[u8]) -> PyResult<()> {
    door::enter(py, || atomic::write(&path, data))
}

/// Gives a finished directory its final name, replacing what was there.
#[pyfunction]
fn publish_directory(py: Python<'_>, temporary: PathBuf, r#final: PathBuf) -> PyResult<()> {
    door::enter(py, || atomic::publish_directory(&temporary, &r#final))
}

/// Every tensor of a safetensors file, as float32.
#[pyfunction]
fn read_safetensors<'py>(py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyDict>> {
    let tensors = door::enter(py, || Reader::open(&path)?.tensors(|_| true))?;
    let named = PyDict::new(py);
    for (name, tensor) in tensors {
        named.set_item(name, arrays::to_numpy(py, tensor.data, &tensor.shape)?)?;
    }
    Ok(named)
}

/// Writes float32 tensors to a safetensors file, whole or not at all.
#[pyfunction]
fn write_safetensors(
    py: Python<'_>,
    path: PathBuf,
    tensors: Vec<(String, Bound<'_, PyArrayDyn<f32>>)>,
    metadata: HashMap<String, String>,
) -> PyResult<()> {
    let floats = tensors.iter().map(|(name, array)| Floats::new(array.as_any(), name)).collect::<PyResult<Vec<_>>>()?;
    let mut outputs = Vec::with_capacity(tensors.len());
    for ((name, _), floats) in tensors.iter().zip(&floats) {
        let (shape, data) = (floats.shape().to_vec(), Cow::Borrowed(floats.slice()?));
        outputs.push(Output { name: name.clone(), shape, data });
    }
    door::enter(py, || write(&path, &outputs, metadata))
}

/// Adds this file's names to the module.
pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(write_atomic, m)?)?;
    m.add_function(wrap_pyfunction!(publish_directory, m)?)?;
    m.add_function(wrap_pyfunction!(read_safetensors, m)?)?;
    m.add_function(wrap_pyfunction!(write_safetensors, m)?)
}
