//! A model whose blocks have weights in few bits.

use crate::door;
use crate::errors::InvalidValueError;
use crate::model::Model;
use pyo3::prelude::*;
use subgpt_core::model::quantized::Kind;

/// "int8" or "int4".
fn kind(name: &str) -> PyResult<Kind> {
    match name {
        "int8" => Ok(Kind::Int8),
        "int4" => Ok(Kind::Int4),
        _ => Err(InvalidValueError::new_err(format!("kind is {name:?}; it must be \"int8\" or \"int4\""))),
    }
}

/// Keeps the weights of the blocks' linear layers in few bits from now on.
#[pyfunction]
fn quantize(py: Python<'_>, model: &Model, kind: &str) -> PyResult<()> {
    let (kind, shared) = (self::kind(kind)?, &model.shared);
    door::enter(py, || shared.write().quantize(kind))
}

/// Which bits they have, if they are so kept.
#[pyfunction]
fn quantization(py: Python<'_>, model: &Model) -> PyResult<Option<&'static str>> {
    let shared = &model.shared;
    door::enter(py, || {
        Ok(shared.read().quantization().map(|kind| match kind {
            Kind::Int8 => "int8",
            Kind::Int4 => "int4",
        }))
    })
}

/// Adds this file's names to the module.
pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(quantize, m)?)?;
    m.add_function(wrap_pyfunction!(quantization, m)?)
}
