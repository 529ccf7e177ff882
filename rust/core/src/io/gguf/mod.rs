//! GGUF: the file of ggml and llama.cpp, metadata and tensors in one.
//!
//! A file is, little endian: `"GGUF"`, the version, the counts of tensors and of metadata entries; the entries (key, type,
//! value); a description of each tensor (name, axes, format, offset); padding; the tensors' bytes, each at a multiple of
//! the alignment. [`Gguf`] reads versions 2 and 3, [`write()`] writes version 3. What keys and names mean is for the caller.
//!
//! Nothing that a file says is believed: counts and lengths are checked against the bytes that are left before anything
//! is kept, so that memory is bounded by a small multiple of the file's size.
//!
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod access;
mod cursor;
mod kind;
mod read;
#[cfg(test)]
mod tests;
mod value;
mod write;

pub use access::Gguf;
pub use kind::Kind;
pub use read::TensorInfo;
pub use value::{Array, Value};
pub use write::{Output, write};

/// The first four bytes.
const MAGIC: &[u8; 4] = b"GGUF";
/// The version that is written.
const VERSION: u32 = 3;
/// The key of the alignment, and what holds without it.
const ALIGNMENT_KEY: &str = "general.alignment";
const ALIGNMENT: usize = 32;
/// The largest number of axes, ggml's `GGML_MAX_DIMS`.
const MAX_AXES: usize = 4;

/// The alignment that `value` says, or what is wrong with it.
fn alignment(value: &Value) -> Result<usize, String> {
    match value {
        Value::U32(n) if n.is_power_of_two() && (8..=1 << 20).contains(n) => Ok(*n as usize),
        Value::U32(n) => Err(format!("{ALIGNMENT_KEY} is {n}, not a power of two between 8 and 1048576")),
        other => Err(format!("{ALIGNMENT_KEY} is {}, not u32", other.describe())),
    }
}
