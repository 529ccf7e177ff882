//! tokenizer

use pyo3::prelude::*;

/// Adds this file's names to the module.
pub fn init(_m: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
