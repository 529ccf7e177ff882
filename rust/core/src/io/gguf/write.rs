//! Metadata and tensors to a file, whole or not at all.
//!
//! One tensor at a time is asked for, encoded piece by piece and written; the bytes depend on what is given alone.

use super::value::{Value, put_string};
use super::{ALIGNMENT, ALIGNMENT_KEY, Kind, MAGIC, MAX_AXES, VERSION, alignment};
use crate::error::{Error, Result};
use crate::io::atomic;
use crate::kernels::quantized::{self, Format};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Bytes that a tensor's name has at most: ggml's `GGML_MAX_NAME` less the zero at the end.
const MAX_NAME: usize = 63;

/// Values that are encoded at a time: some megabytes, whole blocks of every format.
const PIECE: usize = 1 << 20;

/// A tensor to write.
pub struct Output<'a> {
    name: String,
    shape: Vec<usize>,
    format: Format,
    data: Box<dyn Fn() -> Cow<'a, [f32]> + Sync + 'a>,
}

impl<'a> Output<'a> {
    /// A tensor of that name and shape (row-major), to be stored in `format`. `data` gives its numbers when their turn
    /// comes, so that of numbers that have to be put in another order only one tensor's are in memory.
    pub fn new(
        name: impl Into<String>,
        shape: &[usize],
        format: Format,
        data: impl Fn() -> Cow<'a, [f32]> + Sync + 'a,
    ) -> Self {
        Output { name: name.into(), shape: shape.to_vec(), format, data: Box::new(data) }
    }

    /// Bytes that its numbers take, or why it cannot be written.
    fn size(&self) -> Result<usize, String> {
        let Output { name, shape, format, .. } = self;
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(format!("the name of tensor {name:?} has {} bytes, not 1 to {MAX_NAME}", name.len()));
        }
        if shape.is_empty() || shape.len() > MAX_AXES || shape.contains(&0) {
            return Err(format!("tensor {name} of shape {shape:?} must have 1 to {MAX_AXES} axes, none of them 0"));
        }
        let kind = Kind::of(*format);
        let size = kind.size(shape).filter(|_| format.encodes());
        size.ok_or_else(|| {
            format!("tensor {name} of shape {shape:?} cannot be {}; rows are multiples of {}", kind.name, kind.values)
        })
    }
}

/// Writes a file of version 3 to `path`: `metadata` in this order, then the tensors in theirs, each at a multiple of
/// `general.alignment` (a u32 among the metadata; 32 without it).
///
/// Fails where names or keys come twice or are too long, where shapes, numbers and formats do not fit each other, and
/// where numbers cannot be held by the format; then the file is what it was before.
pub fn write(path: &Path, metadata: &[(String, Value)], tensors: &[Output<'_>]) -> Result<()> {
    let refused = |problem| Error::checkpoint(path, format!("cannot be written: {problem}"), "change that, or use F16");
    let plan = Plan::new(metadata, tensors).map_err(refused)?;
    atomic::write_with(path, |temporary| {
        let file = File::create(temporary).map_err(Error::io("write", path))?;
        let mut out = Counted { out: BufWriter::new(file), count: 0 };
        plan.head(metadata, tensors, &mut out).map_err(Error::io("write", path))?;
        for tensor in tensors {
            plan.tensor(path, tensor, &mut out)?;
        }
        out.flush().map_err(Error::io("write", path))
    })
}

/// Where everything goes.
struct Plan {
    alignment: usize,
    /// From the start of the tensors' bytes.
    offsets: Vec<usize>,
}

impl Plan {
    fn new(metadata: &[(String, Value)], tensors: &[Output<'_>]) -> Result<Self, String> {
        let mut keys = HashSet::new();
        for (key, _) in metadata {
            if key.is_empty() || key.len() > usize::from(u16::MAX) {
                return Err(format!("the key {key:?} has {} bytes, not 1 to 65535", key.len()));
            }
            if !keys.insert(key) {
                return Err(format!("the key {key} comes twice"));
            }
        }
        let given = metadata.iter().find(|(key, _)| key == ALIGNMENT_KEY).map(|(_, value)| alignment(value));
        let alignment = given.transpose()?.unwrap_or(ALIGNMENT);
        let (mut names, mut offsets, mut end) = (HashSet::new(), Vec::new(), 0usize);
        for tensor in tensors {
            if !names.insert(&tensor.name) {
                return Err(format!("tensor {} comes twice", tensor.name));
            }
            offsets.push(end);
            let next = end.checked_add(tensor.size()?).and_then(|end| end.checked_next_multiple_of(alignment));
            end = next.ok_or_else(|| format!("tensor {} ends beyond any file", tensor.name))?;
        }
        Ok(Plan { alignment, offsets })
    }

    /// All that comes before the tensors' bytes.
    fn head(
        &self,
        metadata: &[(String, Value)],
        tensors: &[Output<'_>],
        out: &mut Counted<impl Write>,
    ) -> io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&(tensors.len() as u64).to_le_bytes())?;
        out.write_all(&(metadata.len() as u64).to_le_bytes())?;
        for (key, value) in metadata {
            put_string(key, out)?;
            out.write_all(&value.number().to_le_bytes())?;
            value.put(out)?;
        }
        for (tensor, offset) in tensors.iter().zip(&self.offsets) {
            put_string(&tensor.name, out)?;
            out.write_all(&(tensor.shape.len() as u32).to_le_bytes())?;
            tensor.shape.iter().rev().try_for_each(|&axis| out.write_all(&(axis as u64).to_le_bytes()))?;
            out.write_all(&Kind::of(tensor.format).number.to_le_bytes())?;
            out.write_all(&(*offset as u64).to_le_bytes())?;
        }
        out.pad(self.alignment)
    }

    /// The bytes of a tensor, and padding.
    fn tensor(&self, path: &Path, tensor: &Output<'_>, out: &mut Counted<impl Write>) -> Result<()> {
        let (data, format) = ((tensor.data)(), tensor.format);
        let wrong = |problem: String| {
            let problem = format!("cannot be written: tensor {}: {problem}", tensor.name);
            Error::checkpoint(path, problem, "give numbers that fit shape and format")
        };
        let values: usize = tensor.shape.iter().product();
        if data.len() != values {
            return Err(wrong(format!("{} numbers were given for shape {:?}", data.len(), tensor.shape)));
        }
        let mut bytes = vec![0; values.min(PIECE) / format.values() * format.bytes()];
        for (i, piece) in data.chunks(PIECE).enumerate() {
            let bytes = &mut bytes[..piece.len() / format.values() * format.bytes()];
            let fault = |error| wrong(format!("its numbers from {} on: {error}", i * PIECE));
            quantized::encode(format, piece, bytes).map_err(fault)?;
            out.write_all(bytes).map_err(Error::io("write", path))?;
        }
        out.pad(self.alignment).map_err(Error::io("write", path))
    }
}

/// A writer that knows how far it is.
struct Counted<W> {
    out: W,
    count: usize,
}

impl<W: Write> Counted<W> {
    /// Zeros up to a multiple of `alignment`.
    fn pad(&mut self, alignment: usize) -> io::Result<()> {
        self.write_all(&vec![0; self.count.next_multiple_of(alignment) - self.count])
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.count += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
