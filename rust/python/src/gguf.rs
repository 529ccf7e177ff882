//! GGUF files: what one says about itself, and models to and from them.

use crate::arrays;
use crate::door;
use crate::errors::InvalidValueError;
use crate::model::{self, Model};
use numpy::PyArrayDyn;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::path::PathBuf;
use subgpt_core::Error;
use subgpt_core::buffer;
use subgpt_core::io::gguf::{Array, Gguf, Value};
use subgpt_core::kernels::quantized::Format;
use subgpt_core::model::gguf::{Change, Extra, Part};
use subgpt_core::model::params::Extent;

/// A value with ggml's name of its type: `u32`, `f32`, `bool`, `str`, or a list of `i32`, `f32` or `str`.
#[derive(FromPyObject)]
struct Entry(String, String, Py<PyAny>);

impl Entry {
    fn read(&self, py: Python<'_>) -> PyResult<(String, Value)> {
        let Entry(key, kind, value) = self;
        let value = value.bind(py);
        let value = match kind.as_str() {
            "u32" => Value::U32(value.extract()?),
            "f32" => Value::F32(value.extract()?),
            "bool" => Value::Bool(value.extract()?),
            "str" => Value::String(value.extract()?),
            "[i32]" => Value::Array(Array::I32(value.extract()?)),
            "[f32]" => Value::Array(Array::F32(value.extract()?)),
            "[str]" => Value::Array(Array::String(value.extract()?)),
            other => return Err(InvalidValueError::new_err(format!("metadata {key} has the unknown type {other:?}"))),
        };
        Ok((key.clone(), value))
    }
}

/// Name in the file, name of ours, change (`""`, `transposed`, `plus_one`, or a number of heads), format.
#[derive(FromPyObject)]
struct Place(String, String, String, String);

impl Place {
    fn read(&self) -> PyResult<Part> {
        let Place(name, of, change, format) = self;
        let change = match change.as_str() {
            "" => Change::Nothing,
            "transposed" => Change::Transposed,
            "plus_one" => Change::PlusOne,
            heads => {
                let unknown = || InvalidValueError::new_err(format!("{name}: {heads:?} is no change of a tensor"));
                Change::Pairs { heads: heads.parse().map_err(|_| unknown())? }
            }
        };
        let format = match format.as_str() {
            "f32" => Format::F32,
            "f16" => Format::F16,
            "bf16" => Format::BF16,
            "q8_0" => Format::Q8_0,
            "q4_0" => Format::Q4_0,
            _ => return Err(InvalidValueError::new_err(format!("{name}: {format:?} is no format that is written"))),
        };
        Ok(Part { name: name.clone(), of: of.clone(), change, format })
    }
}

fn parts(places: &[Place]) -> PyResult<Vec<Part>> {
    places.iter().map(Place::read).collect()
}

/// Writes metadata alone.
#[pyfunction]
fn write_gguf(py: Python<'_>, path: PathBuf, metadata: Vec<Entry>) -> PyResult<()> {
    let metadata = metadata.iter().map(|entry| entry.read(py)).collect::<PyResult<Vec<_>>>()?;
    door::enter(py, || subgpt_core::io::gguf::write(&path, &metadata, &[]))
}

/// Writes a model.
#[pyfunction]
fn save_gguf(
    py: Python<'_>,
    model: PyRef<'_, Model>,
    path: PathBuf,
    metadata: Vec<Entry>,
    places: Vec<Place>,
    extras: Vec<(String, Vec<f32>)>,
) -> PyResult<()> {
    let metadata = metadata.iter().map(|entry| entry.read(py)).collect::<PyResult<Vec<_>>>()?;
    let (parts, extras) = (parts(&places)?, extras.into_iter().map(|(name, data)| Extra { name, data }));
    let extras: Vec<_> = extras.collect();
    let shared = model.shared.clone();
    door::enter(py, || shared.read()?.save_gguf(&path, &metadata, &parts, &extras))
}

/// Reads the weights of a model, as [`Model::load_safetensors`] does.
#[pyfunction]
#[pyo3(signature = (model, path, places, quantize=None, sample=0))]
fn load_gguf<'py>(
    py: Python<'py>,
    model: PyRef<'_, Model>,
    path: PathBuf,
    places: Vec<Place>,
    quantize: Option<&str>,
    sample: usize,
) -> PyResult<Vec<Bound<'py, PyArrayDyn<f32>>>> {
    let parts = parts(&places)?;
    let few = quantize.map(model::kind).transpose()?.map(|kind| (kind, Extent::Everything));
    let shared = model.shared.clone();
    let samples = door::enter(py, || shared.write()?.load_gguf(&path, &parts, few, sample))?;
    samples.into_iter().map(|sample| arrays::to_numpy_flat(py, sample)).collect()
}

/// Metadata by key, and name, shape and format of every tensor.
#[pyfunction]
fn read_gguf<'py>(
    py: Python<'py>,
    path: PathBuf,
) -> PyResult<(Bound<'py, PyDict>, Vec<(String, Vec<usize>, &'static str)>)> {
    let file = door::enter(py, || Gguf::open(&path))?;
    let metadata = PyDict::new(py);
    for (key, value) in file.entries() {
        metadata.set_item(key, to_python(py, value)?)?;
    }
    let tensors = file.tensors().iter().map(|info| (info.name.clone(), info.shape.clone(), info.kind.name));
    Ok((metadata, tensors.collect()))
}

/// The numbers of one tensor.
#[pyfunction]
fn gguf_tensor<'py>(py: Python<'py>, path: PathBuf, name: &str) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let (data, shape) = door::enter(py, || {
        let file = Gguf::open(&path)?;
        let missing = || Error::checkpoint(&path, format!("has no tensor {name}"), "convert the model again");
        let info = file.tensor(name).ok_or_else(missing)?;
        let mut data = buffer::zeros(info.shape.iter().product(), "tensor")?;
        file.dequantize(info, &mut data)?;
        Ok((data, info.shape.clone()))
    })?;
    arrays::to_numpy(py, data, &shape)
}

macro_rules! convert {
    ($py:ident, $value:ident, $($variant:ident)*) => {
        match $value {
            $(Value::$variant(value) => value.into_pyobject($py)?.to_owned().into_any(),)*
            Value::String(text) => text.into_pyobject($py)?.into_any(),
            Value::Array(Array::String(texts)) => PyList::new($py, texts)?.into_any(),
            $(Value::Array(Array::$variant(values)) => PyList::new($py, values)?.into_any(),)*
        }
    };
}

fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(convert!(py, value, U8 I8 U16 I16 U32 I32 U64 I64 F32 F64 Bool))
}

/// Adds this file's names to the module.
pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(write_gguf, m)?)?;
    m.add_function(wrap_pyfunction!(save_gguf, m)?)?;
    m.add_function(wrap_pyfunction!(load_gguf, m)?)?;
    m.add_function(wrap_pyfunction!(gguf_tensor, m)?)?;
    m.add_function(wrap_pyfunction!(read_gguf, m)?)
}
