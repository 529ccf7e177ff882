//! Atomic writes, for Python's own small files.

use crate::door;
use pyo3::prelude::*;
use std::path::PathBuf;
use subgpt_core::io::atomic;

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

/// Adds this file's names to the module.
pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(write_atomic, m)?)?;
    m.add_function(wrap_pyfunction!(publish_directory, m)?)
}
