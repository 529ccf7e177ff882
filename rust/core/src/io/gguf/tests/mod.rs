//! Files that are written and read back, and files that lie.

mod lies;
mod round_trip;

use super::*;
use crate::error::{Error, Result};
use crate::kernels::quantized::Format;
use std::borrow::Cow;

/// Opens a file of these bytes.
fn opened(bytes: &[u8]) -> Result<Gguf> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    std::fs::write(&path, bytes).unwrap();
    Gguf::open(&path)
}

/// The bytes that [`write`] gives.
fn written(metadata: &[(String, Value)], tensors: &[Output<'_>]) -> Result<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    write(&path, metadata, tensors)?;
    Ok(std::fs::read(&path).unwrap())
}

fn entry(key: &str, value: Value) -> (String, Value) {
    (key.to_string(), value)
}

/// A tensor whose numbers count up from 0.
fn counting(name: &str, shape: &[usize], format: Format) -> Output<'static> {
    let n = shape.iter().product::<usize>();
    Output::new(name, shape, format, move || Cow::Owned((0..n).map(|i| i as f32).collect()))
}
