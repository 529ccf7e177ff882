//! `subgpt._core`: the door between Python and the core. Convert, check, detach, map errors; no arithmetic.
#![forbid(unsafe_code)]

mod adapters;
mod arrays;
mod distributed;
mod door;
mod errors;
mod gguf;
mod inside;
mod io;
mod model;
mod ops;
mod optim;
mod runtime;
mod session;
mod tokenizer;

use pyo3::prelude::*;

/// The native half of subgpt; its public face is the package `subgpt`.
#[pymodule(gil_used = true)]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    runtime::init(m)?;
    ops::init(m)?;
    model::init(m)?;
    session::init(m)?;
    inside::init(m)?;
    adapters::init(m)?;
    optim::init(m)?;
    distributed::init(m)?;
    io::init(m)?;
    gguf::init(m)?;
    tokenizer::init(m)
}
