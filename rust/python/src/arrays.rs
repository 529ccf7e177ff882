//! NumPy in and out: dtype, shape and contiguity are looked at here, with a message that says what came.
//!
//! float32 numbers are read where they are, if they lie in C order or (for some calls) with any steps that are positive;
//! other arrays are copied in. Results are new arrays.

use crate::errors::{DtypeError, InvalidValueError, ShapeError};
use ndarray::{ArrayD, ArrayViewD, IxDyn};
use numpy::{IntoPyArray, PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyAny, PyInt, PyList};

/// Gets NumPy ready before a call that lasts. Left to its result, the import would run at the end of the call, where Ctrl-C
/// makes a panic of it; done when the module is loaded, `subgpt --help` would wait for it.
pub fn ready(py: Python<'_>) -> PyResult<()> {
    static READY: PyOnceLock<()> = PyOnceLock::new();
    READY
        .get_or_try_init(py, || {
            py.import("numpy")?;
            drop(Vec::<u32>::new().into_pyarray(py));
            Ok(())
        })
        .copied()
}

/// A float32 array of any number of dimensions, C-contiguous, with the argument's name for messages.
pub struct Floats<'py> {
    array: PyReadonlyArrayDyn<'py, f32>,
}

impl<'py> Floats<'py> {
    /// Takes `value` as it is (float32), or as a contiguous copy where it is strided. Other dtypes are refused: a silent
    /// float64 -> float32 would hide a loss of precision.
    pub fn new(value: &Bound<'py, PyAny>, name: &str) -> PyResult<Self> {
        Self::take(value, name, true)
    }

    /// Like [`Floats::new`] for a kernel that reads any positive strides: a transposed array is not copied.
    pub fn strided(value: &Bound<'py, PyAny>, name: &str) -> PyResult<Self> {
        Self::take(value, name, false)
    }

    fn take(value: &Bound<'py, PyAny>, name: &str, contiguous: bool) -> PyResult<Self> {
        let Ok(array) = value.cast::<PyArrayDyn<f32>>() else {
            return Err(DtypeError::new_err(format!(
                "{name} must be a NumPy array of dtype float32, not {}; use np.asarray({name}, np.float32)",
                describe(value)
            )));
        };
        let readable = array.is_c_contiguous() || (!contiguous && array.strides().iter().all(|&stride| stride > 0));
        let array = if readable && array.is_aligned() {
            array.clone()
        } else {
            let numpy = value.py().import("numpy")?;
            let kwargs = pyo3::types::PyDict::new(value.py());
            kwargs.set_item("order", "C")?;
            numpy.call_method("array", (value,), Some(&kwargs))?.cast_into::<PyArrayDyn<f32>>()?
        };
        let array = array.try_readonly().map_err(|_| {
            InvalidValueError::new_err(format!("{name} is being written by another call; pass a copy of it"))
        })?;
        Ok(Floats { array })
    }

    /// The numbers, with their shape.
    pub fn view(&self) -> ArrayViewD<'_, f32> {
        self.array.as_array()
    }

    /// The numbers in C order.
    pub fn slice(&self) -> PyResult<&[f32]> {
        self.array.as_slice().map_err(|_| ShapeError::new_err("array is not contiguous"))
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        self.array.shape()
    }
}

/// "an array of dtype int64 and shape (2, 3)" or the name of the type.
pub fn describe(value: &Bound<'_, PyAny>) -> String {
    let dtype = value.getattr("dtype").and_then(|d| d.str().map(|s| s.to_string()));
    let shape = value.getattr("shape").and_then(|s| s.str().map(|s| s.to_string()));
    match (dtype, shape) {
        (Ok(dtype), Ok(shape)) => format!("an array of dtype {dtype} and shape {shape}"),
        _ => value.get_type().name().map_or_else(|_| "this object".to_string(), |name| name.to_string()),
    }
}

/// Integers of any dtype (or nested sequences of Python ints) as i64, with their shape. Floats and bools are refused.
pub fn integers(value: &Bound<'_, PyAny>, name: &str) -> PyResult<ArrayD<i64>> {
    let numpy = value.py().import("numpy")?;
    let array = numpy.call_method1("asarray", (value,)).map_err(|error| {
        let py = value.py();
        // Ctrl-C, or memory that is not there, is no fault of the numbers.
        if !error.is_instance_of::<PyTypeError>(py)
            && !error.is_instance_of::<PyValueError>(py)
            && !error.is_instance_of::<PyOverflowError>(py)
        {
            return error;
        }
        let what = describe(value);
        DtypeError::new_err(format!("{name} must be integers in an array, or in lists of one length, not {what}"))
    })?;
    let kind: String = array.getattr("dtype")?.getattr("kind")?.extract()?;
    let size: usize = array.getattr("size")?.extract()?;
    let empty_list = size == 0 && kind == "f"; // NumPy's dtype for `[]`
    if kind != "i" && kind != "u" && !empty_list {
        return Err(DtypeError::new_err(format!("{name} must be integers, not {}", describe(&array))));
    }
    if kind == "u" && size > 0 {
        let largest: u64 = array.call_method0("max")?.call_method0("item")?.extract()?;
        if i64::try_from(largest).is_err() {
            return Err(InvalidValueError::new_err(format!("{name} holds {largest}, which is no id")));
        }
    }
    let array = array.call_method1("astype", ("int64",))?.cast_into::<PyArrayDyn<i64>>()?;
    Ok(array.try_readonly().map_err(|e| InvalidValueError::new_err(e.to_string()))?.as_array().to_owned())
}

/// Token ids as u32, with their shape; a negative or larger number is refused with its value.
pub fn ids(value: &Bound<'_, PyAny>, name: &str) -> PyResult<ArrayD<u32>> {
    let wide = integers(value, name)?;
    if let Some(bad) = wide.iter().find(|&&id| u32::try_from(id).is_err()) {
        return Err(InvalidValueError::new_err(format!("{name} holds {bad}; ids are between 0 and 4294967295")));
    }
    Ok(wide.mapv(|id| id as u32))
}

/// A one-dimensional list of token ids.
pub fn ids_1d(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Vec<u32>> {
    // What `encode` gives, and lists of Python ints, take the short way.
    if let Some(array) = value.cast::<PyArray1<u32>>().ok().and_then(|array| array.try_readonly().ok())
        && let Ok(ids) = array.as_slice()
    {
        return Ok(ids.to_vec());
    }
    if let Some(ids) = value.cast_exact::<PyList>().ok().and_then(plain_ids) {
        return Ok(ids);
    }
    let array = ids(value, name)?;
    if array.ndim() > 1 {
        return Err(ShapeError::new_err(format!("{name} has shape {:?}, expected one dimension", array.shape())));
    }
    Ok(array.into_iter().collect())
}

/// The ids of a list that holds nothing else than Python ints which are ids.
fn plain_ids(list: &Bound<'_, PyList>) -> Option<Vec<u32>> {
    list.iter().map(|item| item.cast_exact::<PyInt>().ok().and_then(|id| id.extract().ok())).collect()
}

/// A new NumPy array of `shape` that owns `data`.
pub fn to_numpy<'py, T: numpy::Element>(
    py: Python<'py>,
    data: Vec<T>,
    shape: &[usize],
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    let array = ArrayD::from_shape_vec(IxDyn(shape), data).map_err(|e| ShapeError::new_err(e.to_string()))?;
    Ok(array.into_pyarray(py))
}

/// The same as one row.
pub fn to_numpy_flat<T: numpy::Element>(py: Python<'_>, data: Vec<T>) -> PyResult<Bound<'_, PyArrayDyn<T>>> {
    let len = data.len();
    to_numpy(py, data, &[len])
}
