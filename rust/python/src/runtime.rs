//! Threads, instruction set and build: what `subgpt info` prints.

use crate::door;
use crate::errors::InvalidValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use subgpt_core::parallel;
use subgpt_core::peaks::Peaks;
use subgpt_core::profile;
use subgpt_core::simd::{Isa, isa};

/// Sets the number of threads of every later call.
#[pyfunction]
fn set_num_threads(py: Python<'_>, n: i64) -> PyResult<()> {
    match usize::try_from(n) {
        Ok(n) if (1..=parallel::MAX_THREADS).contains(&n) => door::enter(py, || {
            parallel::set_num_threads(n);
            Ok(())
        }),
        _ => Err(InvalidValueError::new_err(format!(
            "set_num_threads: n is {n}; it must be between 1 and {}",
            parallel::MAX_THREADS
        ))),
    }
}

/// The number of threads that calls use.
#[pyfunction]
fn get_num_threads(py: Python<'_>) -> PyResult<usize> {
    door::enter(py, || Ok(parallel::num_threads()))
}

/// The instruction set in use.
#[pyfunction(name = "isa")]
fn isa_name() -> &'static str {
    isa::current().name()
}

/// The instruction sets of this processor, the widest last.
#[pyfunction]
fn available_isas() -> Vec<&'static str> {
    isa::available().into_iter().map(Isa::name).collect()
}

/// Chooses the instruction set of every later call.
#[pyfunction]
fn set_isa(name: &str) -> PyResult<()> {
    if Isa::from_name(name).is_some_and(isa::set) {
        return Ok(());
    }
    Err(InvalidValueError::new_err(format!(
        "set_isa: name is {name:?}; this processor has {}",
        available_isas().join(", ")
    )))
}

/// Whether products of bfloat16 numbers are instructions here.
#[pyfunction]
fn has_bf16() -> bool {
    isa::current().has_bf16()
}

/// Whether they are faster than products of float32 numbers.
#[pyfunction]
fn prefers_bf16() -> bool {
    isa::current().prefers_bf16()
}

/// Measures operations from here on.
#[pyfunction]
fn profile_start() {
    profile::start();
}

/// Ends measuring: (operation, calls, seconds, floating-point operations, bytes) for each operation.
#[pyfunction]
fn profile_stop() -> Vec<(&'static str, u64, f64, f64, f64)> {
    let records = profile::stop().into_iter();
    records.map(|r| (r.operation, r.calls, r.time.as_secs_f64(), r.flop, r.bytes)).collect()
}

/// What this machine can do at most, in GFLOP/s and GB/s.
#[pyfunction]
fn peaks(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyDict>> {
    let found = door::enter(py, || Peaks::measure(seconds))?;
    let peaks = PyDict::new(py);
    peaks.set_item("float32", found.float32 / 1e9)?;
    peaks.set_item("bfloat16", found.bfloat16 / 1e9)?;
    peaks.set_item("read", found.read / 1e9)?;
    peaks.set_item("copy", found.copy / 1e9)?;
    Ok(peaks)
}

/// Version, target and profile of the native module.
#[pyfunction]
fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let info = PyDict::new(py);
    info.set_item("version", env!("CARGO_PKG_VERSION"))?;
    info.set_item("profile", if cfg!(debug_assertions) { "debug" } else { "release" })?;
    info.set_item("target", format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS))?;
    Ok(info)
}

/// Adds this file's names to the module.
pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(set_num_threads, m)?)?;
    m.add_function(wrap_pyfunction!(get_num_threads, m)?)?;
    m.add_function(wrap_pyfunction!(isa_name, m)?)?;
    m.add_function(wrap_pyfunction!(available_isas, m)?)?;
    m.add_function(wrap_pyfunction!(set_isa, m)?)?;
    m.add_function(wrap_pyfunction!(has_bf16, m)?)?;
    m.add_function(wrap_pyfunction!(prefers_bf16, m)?)?;
    m.add_function(wrap_pyfunction!(profile_start, m)?)?;
    m.add_function(wrap_pyfunction!(profile_stop, m)?)?;
    m.add_function(wrap_pyfunction!(peaks, m)?)?;
    m.add_function(wrap_pyfunction!(build_info, m)?)
}
