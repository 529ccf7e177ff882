//! `Model`: a newtype around the core object, a short wrapper for each call.

use crate::arrays::{self, Floats};
use crate::door;
use crate::errors::{InvalidValueError, ShapeError, to_python};
use crate::session::{Session, TokenLogprob, plain};
use numpy::PyArrayDyn;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, RwLockReadGuard, RwLockWriteGuard};
use subgpt_core::fork::{Lock, SharedLock};
use subgpt_core::kernels::matmul::Precision;
use subgpt_core::model::Gpt;
use subgpt_core::model::arena::Arena;
use subgpt_core::model::config::Config;
use subgpt_core::model::documents::Documents;
use subgpt_core::model::params::Extent;
use subgpt_core::model::quantized::Kind;
use subgpt_core::model::rows::{Labels, Rows};
use subgpt_core::optim::clip;
use subgpt_core::sampling::{History, Options, probabilities};
use subgpt_core::{Error, Result};

/// A model that several Python threads may hold: calls that change it take turns.
///
/// Locks are taken without the GIL. A poisoned one is taken all the same: a panic is an [`Error::Internal`] and leaves
/// buffers of the right size. One that another thread held when the process was forked is an error in the child.
pub struct Shared {
    gpt: SharedLock<Gpt>,
    arena: Lock<Arena>, // of inference passes
}

impl Shared {
    pub fn read(&self) -> Result<RwLockReadGuard<'_, Gpt>> {
        self.gpt.read()
    }

    pub fn try_read(&self) -> Result<Option<RwLockReadGuard<'_, Gpt>>> {
        self.gpt.try_read()
    }

    pub fn write(&self) -> Result<RwLockWriteGuard<'_, Gpt>> {
        self.gpt.write()
    }

    pub fn arena(&self) -> Result<MutexGuard<'_, Arena>> {
        self.arena.lock()
    }
}

/// A decoder with its weights, gradients and arena.
#[pyclass(frozen)]
pub struct Model {
    pub shared: Arc<Shared>,
}

/// Ids (B, T) or (T,).
pub struct IdRows {
    pub ids: Vec<u32>,
    /// As they came.
    pub shape: Vec<usize>,
    pub b: usize,
    pub t: usize,
}

impl IdRows {
    /// What the model reads of it.
    pub fn rows<'a>(&'a self, documents: Option<&'a Documents>) -> Rows<'a> {
        Rows::new(&self.ids, self.b, self.t).within(documents)
    }
}

pub fn batch(ids: &Bound<'_, PyAny>) -> PyResult<IdRows> {
    let ids = arrays::ids(ids, "ids")?;
    let (b, t) = rows(ids.shape(), "ids")?;
    Ok(IdRows { shape: ids.shape().to_vec(), ids: ids.into_iter().collect(), b, t })
}

/// Integers, one for each id.
fn beside_ids(value: &Bound<'_, PyAny>, name: &str, b: usize, t: usize) -> PyResult<Vec<i64>> {
    let value = arrays::integers(value, name)?;
    if rows(value.shape(), name)? != (b, t) {
        return Err(ShapeError::new_err(format!("{name} has shape {:?}, ids ({b}, {t})", value.shape())));
    }
    Ok(value.iter().copied().collect())
}

/// The targets of a batch, and the documents in it.
pub fn beside(
    batch: &IdRows,
    targets: &Bound<'_, PyAny>,
    documents: Option<&Bound<'_, PyAny>>,
) -> PyResult<(Vec<i64>, Option<Documents>)> {
    let IdRows { b, t, .. } = *batch;
    Ok((beside_ids(targets, "targets", b, t)?, self::documents(documents, b, t)?))
}

/// The number of each id's document in its row.
pub fn documents(numbers: Option<&Bound<'_, PyAny>>, b: usize, t: usize) -> PyResult<Option<Documents>> {
    let Some(numbers) = numbers else { return Ok(None) };
    let numbers = beside_ids(numbers, "documents", b, t)?;
    Documents::numbered(&numbers, b, t).map(Some).map_err(to_python)
}

fn rows(shape: &[usize], name: &str) -> PyResult<(usize, usize)> {
    match *shape {
        [t] => Ok((1, t)),
        [b, t] => Ok((b, t)),
        _ => Err(ShapeError::new_err(format!("{name} has shape {shape:?}, expected (T,) or (B, T)"))),
    }
}

/// "param" or "grad".
fn is_gradient(which: &str) -> PyResult<bool> {
    match which {
        "param" => Ok(false),
        "grad" => Ok(true),
        _ => Err(InvalidValueError::new_err(format!("which is {which:?}; it must be \"param\" or \"grad\""))),
    }
}

/// "float32" or "bfloat16".
fn precision(dtype: &str) -> PyResult<Precision> {
    match dtype {
        "float32" => Ok(Precision::Float32),
        "bfloat16" => Ok(Precision::Bfloat16),
        _ => Err(InvalidValueError::new_err(format!("dtype is {dtype:?}; it must be \"float32\" or \"bfloat16\""))),
    }
}

/// "bfloat16", "int8" or "int4".
pub fn kind(quantization: &str) -> PyResult<Kind> {
    let kinds = [Kind::Bfloat16, Kind::Int8, Kind::Int4];
    kinds.into_iter().find(|kind| kind.name() == quantization).ok_or_else(|| {
        let message = format!("kind is {quantization:?}; it must be \"bfloat16\", \"int8\" or \"int4\"");
        InvalidValueError::new_err(message)
    })
}

#[pymethods]
impl Model {
    #[new]
    #[pyo3(signature = (config, seed, dtype="float32"))]
    fn new(py: Python<'_>, config: &str, seed: Option<u64>, dtype: &str) -> PyResult<Self> {
        let precision = precision(dtype)?;
        let gpt = door::enter(py, || {
            let config = Config::from_json(config)?;
            let mut gpt = seed.map_or_else(|| Gpt::blank(config.clone()), |seed| Gpt::new(config.clone(), seed))?;
            gpt.set_precision(precision);
            Ok(gpt)
        })?;
        let (gpt, arena) = (SharedLock::new("model", gpt), Lock::new("model", Arena::new()));
        Ok(Model { shared: Arc::new(Shared { gpt, arena }) })
    }

    #[getter]
    fn dtype(&self, py: Python<'_>) -> PyResult<&'static str> {
        door::enter(py, || {
            Ok(match self.shared.read()?.precision() {
                Precision::Float32 => "float32",
                Precision::Bfloat16 => "bfloat16",
            })
        })
    }

    fn set_dtype(&self, py: Python<'_>, dtype: &str) -> PyResult<()> {
        let precision = precision(dtype)?;
        door::enter(py, || {
            self.shared.write()?.set_precision(precision);
            Ok(())
        })
    }

    /// How many bits the weights of linear layers have, if few.
    #[getter]
    fn quantization(&self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        door::enter(py, || Ok(self.shared.read()?.quantization().map(Kind::name)))
    }

    fn quantize(&self, py: Python<'_>, kind: &str, everything: bool) -> PyResult<()> {
        let kind = self::kind(kind)?;
        door::enter(py, || self.shared.write()?.quantize(kind, everything))
    }

    #[getter]
    fn gradient_checkpointing(&self, py: Python<'_>) -> PyResult<bool> {
        door::enter(py, || Ok(self.shared.read()?.gradient_checkpointing))
    }

    fn set_gradient_checkpointing(&self, py: Python<'_>, on: bool) -> PyResult<()> {
        door::enter(py, || {
            self.shared.write()?.gradient_checkpointing = on;
            Ok(())
        })
    }

    /// Bytes that passes over `batch` sequences of `block` tokens take.
    fn memory<'py>(&self, py: Python<'py>, batch: usize, block: usize, training: bool) -> PyResult<Bound<'py, PyDict>> {
        let memory = door::enter(py, || Ok(self.shared.read()?.memory(batch, block, training)))?;
        let bytes = PyDict::new(py);
        bytes.set_item("parameters", memory.parameters)?;
        bytes.set_item("gradients", memory.gradients)?;
        bytes.set_item("packed", memory.packed)?;
        bytes.set_item("activations", memory.activations)?;
        Ok(bytes)
    }

    #[pyo3(signature = (ids, documents=None))]
    fn forward<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
        documents: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let batch = batch(ids)?;
        let documents = self::documents(documents, batch.b, batch.t)?;
        let rows = batch.rows(documents.as_ref());
        let logits = door::enter(py, || self.shared.read()?.forward(&mut *self.shared.arena()?, rows))?;
        let vocab_size = logits.len() / rows.n();
        arrays::to_numpy(py, logits, &[&batch.shape[..], &[vocab_size]].concat())
    }

    fn last_logits<'py>(&self, py: Python<'py>, ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let ids = arrays::ids_1d(ids, "ids")?;
        let logits = door::enter(py, || self.shared.read()?.last_logits(&mut *self.shared.arena()?, &ids))?;
        arrays::to_numpy_flat(py, logits)
    }

    fn next_token_probs<'py>(&self, py: Python<'py>, ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let ids = arrays::ids_1d(ids, "ids")?;
        let probs = door::enter(py, || {
            let logits = self.shared.read()?.last_logits(&mut *self.shared.arena()?, &ids)?;
            let probs = probabilities(&logits, History::default(), &Options::default())?;
            Ok(probs.into_iter().map(|p| p as f32).collect::<Vec<_>>())
        })?;
        arrays::to_numpy_flat(py, probs)
    }

    #[pyo3(signature = (ids, targets, ignore_index, documents=None))]
    fn loss(
        &self,
        py: Python<'_>,
        ids: &Bound<'_, PyAny>,
        targets: &Bound<'_, PyAny>,
        ignore_index: i64,
        documents: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<f64> {
        let batch = batch(ids)?;
        let (targets, documents) = beside(&batch, targets, documents)?;
        door::enter(py, || {
            let (model, mut arena) = (self.shared.read()?, self.shared.arena()?);
            model.loss(&mut arena, batch.rows(documents.as_ref()), Labels::new(&targets, ignore_index))
        })
    }

    #[pyo3(signature = (ids, targets, ignore_index, documents=None))]
    fn token_losses<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
        targets: &Bound<'py, PyAny>,
        ignore_index: i64,
        documents: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let batch = batch(ids)?;
        let (targets, documents) = beside(&batch, targets, documents)?;
        let losses = door::enter(py, || {
            let (model, mut arena) = (self.shared.read()?, self.shared.arena()?);
            model.token_losses(&mut arena, batch.rows(documents.as_ref()), Labels::new(&targets, ignore_index))
        })?;
        arrays::to_numpy(py, losses, &batch.shape)
    }

    fn token_logprobs(&self, py: Python<'_>, ids: &Bound<'_, PyAny>, n: usize) -> PyResult<Vec<TokenLogprob>> {
        let ids = arrays::ids_1d(ids, "ids")?;
        let found = door::enter(py, || self.shared.read()?.token_logprobs(&mut *self.shared.arena()?, &ids, n))?;
        Ok(found.into_iter().map(plain).collect())
    }

    #[pyo3(signature = (ids, targets, ignore_index, scale, documents=None))]
    fn backward(
        &self,
        py: Python<'_>,
        ids: &Bound<'_, PyAny>,
        targets: &Bound<'_, PyAny>,
        ignore_index: i64,
        scale: f32,
        documents: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<f64> {
        let batch = batch(ids)?;
        let (targets, documents) = beside(&batch, targets, documents)?;
        let (rows, labels) = (batch.rows(documents.as_ref()), Labels::new(&targets, ignore_index));
        door::enter(py, || self.shared.write()?.backward(rows, labels, scale))
    }

    fn zero_grad(&self, py: Python<'_>) -> PyResult<()> {
        door::enter(py, || {
            self.shared.write()?.zero_grad();
            Ok(())
        })
    }

    fn grad_norm(&self, py: Python<'_>) -> PyResult<f64> {
        door::enter(py, || Ok(self.shared.write()?.grads().map_or(0.0, clip::norm)))
    }

    fn clip_grad_norm(&self, py: Python<'_>, max_norm: f64) -> PyResult<f64> {
        if max_norm.is_nan() || max_norm <= 0.0 {
            return Err(InvalidValueError::new_err(format!("max_norm is {max_norm}; it must be positive")));
        }
        door::enter(py, || Ok(self.shared.write()?.gradients_mut().map_or(0.0, |grads| clip::clip(grads, max_norm))))
    }

    fn first_nonfinite(&self, py: Python<'_>, which: &str) -> PyResult<Option<String>> {
        let gradient = is_gradient(which)?;
        door::enter(py, || Ok(self.shared.read()?.first_nonfinite(gradient).map(str::to_string)))
    }

    fn tensor_names(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        door::enter(py, || Ok(self.shared.read()?.layout.tensors.iter().map(|t| t.name.clone()).collect()))
    }

    fn tensor_shapes(&self, py: Python<'_>) -> PyResult<Vec<(String, Vec<usize>)>> {
        let shapes = |gpt: &Gpt| gpt.layout.tensors.iter().map(|t| (t.name.clone(), t.shape.clone())).collect();
        door::enter(py, || Ok(shapes(&*self.shared.read()?)))
    }

    fn tensor<'py>(&self, py: Python<'py>, name: &str, which: &str) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let gradient = is_gradient(which)?;
        let (data, shape) = door::enter(py, || {
            if !gradient {
                let gpt = self.shared.read()?;
                let (tensor, numbers) = gpt.tensor(name)?;
                return Ok((numbers.into_owned(), tensor.shape.clone()));
            }
            let mut gpt = self.shared.write()?; // whose gradients may have to be settled first
            if let Some(found) = gpt.gradient(name).map(<[f32]>::to_vec) {
                return Ok((found, gpt.tensor(name)?.0.shape.clone()));
            }
            let shape = gpt.tensor(name)?.0.shape.clone();
            Ok((subgpt_core::buffer::zeros(shape.iter().product(), "a gradient")?, shape))
        })?;
        arrays::to_numpy(py, data, &shape)
    }

    fn set_tensor(&self, py: Python<'_>, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let value = Floats::new(value, name)?;
        let (data, shape) = (value.slice()?, value.shape().to_vec());
        door::enter(py, || {
            let mut gpt = self.shared.write()?;
            let (tensor, numbers) = gpt.tensor_mut(name)?;
            if shape != tensor.shape {
                return Err(Error::shape("set_tensor", "value", &shape, format!("{:?} for {name}", tensor.shape)));
            }
            numbers.copy_from_slice(data);
            Ok(())
        })
    }

    fn num_params(&self, py: Python<'_>, non_embedding: bool) -> PyResult<usize> {
        door::enter(py, || Ok(self.shared.read()?.layout.num_params(non_embedding)))
    }

    #[getter]
    fn dropout_state(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        door::enter(py, || {
            let gpt = self.shared.read()?;
            Ok((gpt.dropout_seed, gpt.passes))
        })
    }

    #[setter]
    fn set_dropout_state(&self, py: Python<'_>, state: (u64, u64)) -> PyResult<()> {
        door::enter(py, || {
            let mut gpt = self.shared.write()?;
            (gpt.dropout_seed, gpt.passes) = state;
            Ok(())
        })
    }

    /// Rows of the batch that other processes compute before those of the next training pass.
    #[getter]
    fn rows_before(&self, py: Python<'_>) -> PyResult<u64> {
        door::enter(py, || Ok(self.shared.read()?.rows_before))
    }

    #[setter]
    fn set_rows_before(&self, py: Python<'_>, rows: u64) -> PyResult<()> {
        door::enter(py, || {
            self.shared.write()?.rows_before = rows;
            Ok(())
        })
    }

    fn save_safetensors(&self, py: Python<'_>, path: PathBuf, metadata: HashMap<String, String>) -> PyResult<()> {
        door::enter(py, || self.shared.read()?.save(&path, metadata))
    }

    /// Reads all weights, into few bits if `quantize` says which; gives `sample` of the numbers of each tensor.
    #[pyo3(signature = (paths, quantize=None, sample=0))]
    fn load_safetensors<'py>(
        &self,
        py: Python<'py>,
        paths: Vec<PathBuf>,
        quantize: Option<&str>,
        sample: usize,
    ) -> PyResult<Vec<Bound<'py, PyArrayDyn<f32>>>> {
        let few = quantize.map(kind).transpose()?.map(|kind| (kind, Extent::Everything));
        let samples = door::enter(py, || self.shared.write()?.load(&paths, few, sample))?;
        samples.into_iter().map(|sample| arrays::to_numpy_flat(py, sample)).collect()
    }

    fn session(&self, py: Python<'_>) -> PyResult<Session> {
        Session::new(py, self.shared.clone())
    }
}

/// Checks a model configuration given as JSON, without its memory.
#[pyfunction]
fn check_config(py: Python<'_>, config: &str) -> PyResult<()> {
    door::enter(py, || Config::from_json(config).map(drop))
}

/// Adds this file's names to the module.
pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Model>()?;
    m.add_function(wrap_pyfunction!(check_config, m)?)
}
