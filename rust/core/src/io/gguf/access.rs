//! An open file: its metadata, tensors by name.

use super::read::{Header, TensorInfo, header};
use super::value::Value;
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

    /// All metadata, in the file's order.
    pub fn entries(&self) -> &[(String, Value)] {
        &self.header.metadata
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
