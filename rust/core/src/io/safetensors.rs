//! Named float tensors to and from a safetensors file (<https://huggingface.co/docs/safetensors>).
//!
//! The format's own crate checks header, offsets and sizes before anything is read from them; [`Reader`] checks what it
//! leaves out. A file is mapped into memory and decoded tensor by tensor to where its numbers are wanted.

use super::atomic;
use super::map::{Map, other_kind};
use crate::buffer;
use crate::error::{Error, Result};
use crate::kernels::quantized::{self, Format};
pub use safetensors::tensor::Dtype;
use safetensors::tensor::{Metadata, SafeTensors, View, serialize_to_file};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Formatter;
use std::path::{Path, PathBuf};

/// A tensor to write.
pub struct Output<'a> {
    /// Its name in the file.
    pub name: String,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub data: Cow<'a, [f32]>,
}

impl View for &Output<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(bytemuck::cast_slice(&self.data))
    }
    fn data_len(&self) -> usize {
        self.data.len() * 4
    }
}

/// Writes `tensors` to `path`, whole or not at all.
pub fn write(path: &Path, tensors: &[Output<'_>], metadata: HashMap<String, String>) -> Result<()> {
    let named = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor));
    let metadata = (!metadata.is_empty()).then_some(metadata);
    atomic::write_with(path, |temporary| {
        serialize_to_file(named, metadata, temporary).map_err(|error| match error {
            safetensors::SafeTensorError::IoError(error) => Error::io("write", path)(error),
            other => Error::checkpoint(path, format!("cannot be written: {other}"), "report this"),
        })
    })
}

/// A tensor that was read: shape and numbers as f32.
pub struct Input {
    /// Its shape, row-major.
    pub shape: Vec<usize>,
    /// Its numbers; f16 and bf16 are widened exactly.
    pub data: Vec<f32>,
}

/// A tensor as it lies in the file.
pub struct Raw<'a> {
    /// How its numbers are stored.
    pub dtype: Dtype,
    /// Its shape, row-major.
    pub shape: &'a [usize],
    /// Its bytes, little endian; as many as shape and dtype say.
    pub bytes: &'a [u8],
}

/// A tensor's numbers as they lie in the file.
#[derive(Clone, Copy)]
pub struct Stored<'a> {
    /// How a number is stored: F32, F16 or BF16.
    pub format: Format,
    /// All of them.
    pub bytes: &'a [u8],
}

/// A safetensors file, mapped into memory (see [`Map`] for what happens to files that are cut meanwhile).
pub struct Reader {
    path: PathBuf,
    map: Map,
    header: Metadata,
    /// Where the tensors' bytes start.
    start: usize,
}

impl Reader {
    /// Maps and checks `path`: header, offsets and sizes; numbers are not looked at.
    pub fn open(path: &Path) -> Result<Self> {
        let map = Map::open(path)?;
        let (header, start) = parse(&map).map_err(|problem| match other_kind(&map) {
            Some((problem, remedy)) => Error::checkpoint(path, problem, remedy),
            None => {
                let problem = format!("is no valid safetensors file ({problem}; {} bytes)", map.len());
                Error::checkpoint(path, problem, "copy or download it again")
            }
        })?;
        Ok(Reader { path: path.to_path_buf(), map, header, start })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors' names, in the order of their bytes.
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// A tensor by its name.
    pub fn raw(&self, name: &str) -> Option<Raw<'_>> {
        let info = self.header.info(name)?;
        let (from, to) = info.data_offsets;
        // In bounds: the header was checked against the file's size.
        Some(Raw { dtype: info.dtype, shape: &info.shape, bytes: &self.map[self.start + from..self.start + to] })
    }

    /// How the numbers of the tensor `name` are stored, and where.
    pub fn numbers(&self, name: &str) -> Result<Stored<'_>> {
        let raw = self
            .raw(name)
            .ok_or_else(|| Error::checkpoint(&self.path, format!("has no tensor {name}"), "use a file that has it"))?;
        let format = match raw.dtype {
            Dtype::F32 => Format::F32,
            Dtype::F16 => Format::F16,
            Dtype::BF16 => Format::BF16,
            other => {
                let problem = format!("tensor {name} has dtype {other:?}");
                return Err(Error::checkpoint(&self.path, problem, "convert it to float32, float16 or bfloat16"));
            }
        };
        Ok(Stored { format, bytes: raw.bytes })
    }

    /// Writes the numbers of the tensor `name` over `out`, which must have as many; by all threads, with no other copy.
    pub fn read_into(&self, name: &str, out: &mut [f32]) -> Result<()> {
        let stored = self.numbers(name)?;
        quantized::decode(stored.format, stored.bytes, out)
    }

    /// The tensors whose names are `wanted`; the others may be of any dtype.
    pub fn tensors(&self, wanted: impl Fn(&str) -> bool) -> Result<BTreeMap<String, Input>> {
        let read = |name: String| {
            let shape = self.raw(&name).map(|raw| raw.shape.to_vec()).unwrap_or_default();
            let mut data = buffer::zeros(shape.iter().product(), "tensors")?;
            self.read_into(&name, &mut data)?;
            Ok((name, Input { shape, data }))
        };
        self.names().into_iter().filter(|name| wanted(name)).map(read).collect()
    }
}

/// The header, and where it ends; or what is wrong with it.
fn parse(bytes: &[u8]) -> Result<(Metadata, usize), String> {
    let (len, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let text = &bytes[8..8 + len];
    // Two rules of the format that its crate does not check.
    if text.first() != Some(&b'{') {
        return Err("the header does not begin with {".to_string());
    }
    let Names(_) = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    Ok((header, 8 + len))
}

/// The keys of a JSON object, each of which must be there once.
struct Names(HashSet<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Names(HashSet::new()))
    }
}

impl<'de> Visitor<'de> for Names {
    type Value = Self;

    fn expecting(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
            if let Some(name) = self.0.replace(name) {
                return Err(A::Error::custom(format!("tensor {name} is there twice")));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
