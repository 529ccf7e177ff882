//! `Optimizer`: a newtype around the core object.

use crate::door;
use crate::model::Model;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::MutexGuard;
use subgpt_core::Result;
use subgpt_core::fork::Lock;
use subgpt_core::optim::{Config, Optimizer as Core};

/// SGD, AdamW, Lion or Muon over a model's flat buffers.
#[pyclass(frozen)]
pub struct Optimizer {
    core: Lock<Core>,
}

impl Optimizer {
    fn lock(&self) -> Result<MutexGuard<'_, Core>> {
        self.core.lock()
    }
}

#[pymethods]
impl Optimizer {
    #[new]
    fn new(py: Python<'_>, model: &Model, config: &str) -> PyResult<Self> {
        let shared = &model.shared;
        let core = door::enter(py, || Core::new(&*shared.read()?, Config::from_json(config)?))?;
        Ok(Optimizer { core: Lock::new("optimizer", core) })
    }

    #[getter]
    fn config(&self, py: Python<'_>) -> PyResult<String> {
        door::enter(py, || Ok(self.lock()?.config.to_json()))
    }

    #[getter]
    fn steps(&self, py: Python<'_>) -> PyResult<u64> {
        door::enter(py, || Ok(self.lock()?.steps))
    }

    fn step(&self, py: Python<'_>, model: &Model, learning_rate: f64) -> PyResult<()> {
        let shared = &model.shared;
        door::enter(py, || self.lock()?.step(&mut *shared.write()?, learning_rate))
    }

    fn save_safetensors(&self, py: Python<'_>, path: PathBuf, model: &Model) -> PyResult<()> {
        let shared = &model.shared;
        door::enter(py, || self.lock()?.save(&path, &*shared.read()?))
    }

    fn load_safetensors(&self, py: Python<'_>, path: PathBuf, model: &Model) -> PyResult<()> {
        let shared = &model.shared;
        door::enter(py, || self.lock()?.load(&path, &*shared.read()?))
    }
}

/// Adds this file's names to the module.
pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Optimizer>()
}
