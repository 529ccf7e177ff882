//! An open file: metadata by key, tensors by name.

use super::read::{Header, TensorInfo, header};
use super::value::{Array, Value};
use crate::error::{Error, Result};
use crate::io::Map;
use crate::kernels::quantized::{self, Format};
use std::path::{Path, PathBuf};

/// A GGUF file, mapped into memory (see [`Map`] for what happens to files that are cut meanwhile).
pub struct Gguf {
    path: PathBuf,
    map: Map,
    header: Header,
}

impl Gguf {
    /// Maps and checks the file at `path`: all that it says about itself; numbers are not looked at.
    pub fn open(path: &Path) -> Result<Self> {
        let map = Map::open(path)?;
        let header = header(&map).map_err(|fault| Error::checkpoint(path, fault.problem, fault.remedy))?;
        Ok(Gguf { path: path.to_path_buf(), map, header })
    }

    /// The version of the format, 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// All metadata, in the file's order.
    pub fn entries(&self) -> &[(String, Value)] {
        &self.header.metadata
    }

    /// The value of a key.
    pub fn metadata(&self, key: &str) -> Option<&Value> {
        self.header.keys.get(key).map(|&i| &self.header.metadata[i].1)
    }

    /// The value of a key as a `T`, if the key is there; an error where its value is of another type.
    pub fn get<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.metadata(key) else { return Ok(None) };
        T::from_value(value).map(Some).ok_or_else(|| {
            let problem = format!("metadata {key} is {}, not {}", value.describe(), T::EXPECTED);
            Error::checkpoint(&self.path, problem, "convert the model again with a current converter")
        })
    }

    /// The value of a key as a `T`; an error where there is none.
    pub fn require<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T> {
        self.get(key)?.ok_or_else(|| {
            let problem = format!("has no metadata {key}, which should be {}", T::EXPECTED);
            Error::checkpoint(&self.path, problem, "convert the model again with a current converter")
        })
    }

    /// All tensors, in the file's order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// A tensor by its name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.header.names.get(name).map(|&i| &self.header.tensors[i])
    }

    /// The bytes of a tensor of this file, as they are stored.
    pub fn bytes(&self, info: &TensorInfo) -> Result<&[u8]> {
        self.map.get(info.range.clone()).ok_or_else(|| {
            let problem = format!("has no bytes {:?} for tensor {}", info.range, info.name);
            Error::checkpoint(&self.path, problem, "use it with the file that it describes")
        })
    }

    /// Writes the numbers of a tensor of this file over `out`, which must have as many; by all threads.
    pub fn dequantize(&self, info: &TensorInfo, out: &mut [f32]) -> Result<()> {
        quantized::decode(self.format(info)?, self.bytes(info)?, out)
    }

    /// The same for consecutive numbers, from the one with index `first` on.
    pub fn dequantize_from(&self, info: &TensorInfo, first: usize, out: &mut [f32]) -> Result<()> {
        quantized::decode_from(self.format(info)?, self.bytes(info)?, first, out)
    }

    fn format(&self, info: &TensorInfo) -> Result<Format> {
        info.kind.format.ok_or_else(|| {
            let problem = format!("tensor {} has the format {}, which is not decoded", info.name, info.kind.name);
            Error::checkpoint(&self.path, problem, "convert the model to F16, Q8_0, or a format from Q4_0 to Q6_K")
        })
    }
}

/// What a value of metadata can be asked for as.
pub trait FromValue<'a>: Sized {
    /// What it must be, for messages.
    const EXPECTED: &'static str;
    /// None where it is something else.
    fn from_value(value: &'a Value) -> Option<Self>;
}

impl<'a> FromValue<'a> for &'a str {
    const EXPECTED: &'static str = "a text";
    fn from_value(value: &'a Value) -> Option<Self> {
        if let Value::String(text) = value { Some(text) } else { None }
    }
}

impl FromValue<'_> for bool {
    const EXPECTED: &'static str = "a bool";
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Bool(truth) = value { Some(*truth) } else { None }
    }
}

/// Whole numbers of any type: writers do not agree on one.
impl FromValue<'_> for u64 {
    const EXPECTED: &'static str = "a whole number that is not negative";
    fn from_value(value: &Value) -> Option<Self> {
        match *value {
            Value::U8(n) => Some(n.into()),
            Value::U16(n) => Some(n.into()),
            Value::U32(n) => Some(n.into()),
            Value::U64(n) => Some(n),
            Value::I8(n) => n.try_into().ok(),
            Value::I16(n) => n.try_into().ok(),
            Value::I32(n) => n.try_into().ok(),
            Value::I64(n) => n.try_into().ok(),
            _ => None,
        }
    }
}

impl FromValue<'_> for f64 {
    const EXPECTED: &'static str = "an f32 or f64";
    fn from_value(value: &Value) -> Option<Self> {
        match *value {
            Value::F32(x) => Some(x.into()),
            Value::F64(x) => Some(x),
            _ => None,
        }
    }
}

/// Arrays of one type, borrowed.
macro_rules! arrays {
    ($($variant:ident $type:ty, $expected:literal;)*) => {$(
        impl<'a> FromValue<'a> for &'a [$type] {
            const EXPECTED: &'static str = $expected;
            fn from_value(value: &'a Value) -> Option<Self> {
                if let Value::Array(Array::$variant(array)) = value { Some(array) } else { None }
            }
        }
    )*};
}

arrays! {
    String String, "an array of text";
    F32 f32, "an array of f32";
    I32 i32, "an array of i32";
    U32 u32, "an array of u32";
}
