//! Named float tensors to and from a safetensors file (<https://huggingface.co/docs/safetensors>).
//!
//! The format's own crate checks header, offsets and sizes before anything is read from them.

use crate::error::{Error, Result};
use crate::io::atomic;
use safetensors::tensor::{Dtype, SafeTensors, View, serialize_to_file};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

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

/// A whole safetensors file in memory.
pub struct Reader {
    path: std::path::PathBuf,
    bytes: Vec<u8>,
}

impl Reader {
    /// Reads and checks `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        let reader = Reader { path: path.to_path_buf(), bytes };
        reader.parse()?;
        Ok(reader)
    }

    fn parse(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.bytes).map_err(|error| {
            let start = String::from_utf8_lossy(&self.bytes[..self.bytes.len().min(64)]).to_string();
            let (problem, remedy) = if start.starts_with("version https://git-lfs") {
                ("is a Git LFS pointer, not the weights".to_string(), "fetch the file itself with `git lfs pull`")
            } else if start.trim_start().starts_with('<') {
                ("is a web page, not a weight file".to_string(), "download the file itself")
            } else {
                let size = self.bytes.len();
                (format!("is no valid safetensors file ({error}; {size} bytes)"), "copy or download it again")
            };
            Error::checkpoint(&self.path, problem, remedy)
        })
    }

    /// The tensors whose names are `wanted`; the others may be of any dtype.
    pub fn tensors(&self, wanted: impl Fn(&str) -> bool) -> Result<BTreeMap<String, Input>> {
        let file = self.parse()?;
        file.iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, view)| Ok((name.to_string(), self.input(name, view.dtype(), view.shape(), view.data())?)))
            .collect()
    }

    fn input(&self, name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) -> Result<Input> {
        let data = match dtype {
            Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => bytes.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => bytes.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
            other => {
                let problem = format!("tensor {name} has dtype {other:?}");
                return Err(Error::checkpoint(&self.path, problem, "convert it to float32, float16 or bfloat16"));
            }
        };
        Ok(Input { shape: shape.to_vec(), data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("x.safetensors");
        let tensors = [
            Output { name: "b".into(), shape: vec![2, 3], data: Cow::Owned((0..6).map(|i| i as f32).collect()) },
            Output { name: "a".into(), shape: vec![1], data: Cow::Owned(vec![-1.5]) },
        ];
        write(&path, &tensors, HashMap::from([("format".to_string(), "pt".to_string())])).unwrap();
        path
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = sample(dir.path());
        let tensors = Reader::open(&path).unwrap().tensors(|_| true).unwrap();
        assert_eq!(tensors["b"].shape, [2, 3]);
        assert_eq!(tensors["b"].data, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(tensors["a"].data, [-1.5]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = sample(dir.path());
        let bytes = fs::read(&path).unwrap();
        for len in 0..bytes.len() {
            fs::write(&path, &bytes[..len]).unwrap();
            assert!(matches!(Reader::open(&path), Err(Error::Checkpoint { .. })), "cut to {len} bytes");
        }
    }

    #[test]
    fn files_of_another_kind_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        for (content, word) in
            [("version https://git-lfs.github.com/spec/v1\n", "LFS"), ("<!DOCTYPE html>", "web page")]
        {
            fs::write(&path, content).unwrap();
            let message = Reader::open(&path).err().unwrap().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
