//! `Optimizer`: a newtype around the core object.

use crate::arrays::{self, Floats};
use crate::distributed::range;
use crate::door;
use crate::model::Model;
use numpy::PyArrayDyn;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::MutexGuard;
use subgpt_core::Result;
use subgpt_core::fork::Lock;
use subgpt_core::optim::share::Share;
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
    /// `share`: which pieces of the gradients it makes updates from, and keeps moments for; none: all.
    #[new]
    #[pyo3(signature = (model, config, share=None))]
    fn new(py: Python<'_>, model: &Model, config: &str, share: Option<Vec<(usize, usize)>>) -> PyResult<Self> {
        let shared = &model.shared;
        let core = door::enter(py, || {
            let share = share.map_or(Ok(Share::ALL), |pieces| Share::new(pieces.into_iter().map(range).collect()))?;
            Core::of_share(&*shared.read()?, Config::from_json(config)?, share)
        })?;
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

    #[setter]
    fn set_steps(&self, py: Python<'_>, steps: u64) -> PyResult<()> {
        door::enter(py, || {
            self.lock()?.steps = steps;
            Ok(())
        })
    }

    fn moment_names(&self, py: Python<'_>) -> PyResult<Vec<&'static str>> {
        door::enter(py, || Ok(self.lock()?.moments().collect()))
    }

    /// What it remembers of the weights whose gradients are those from `start` to `stop`.
    fn moment<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        start: usize,
        stop: usize,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let values = door::enter(py, || self.lock()?.moment(name, start..stop))?;
        arrays::to_numpy_flat(py, values)
    }

    fn set_moment(&self, py: Python<'_>, name: &str, start: usize, values: &Bound<'_, PyAny>) -> PyResult<()> {
        let values = Floats::new(values, "values")?;
        let values = values.slice()?;
        door::enter(py, || self.lock()?.set_moment(name, start, values))
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
