//! Bytes to what a file says about itself, every lie found.

use super::cursor::{Cursor, Fault};
use super::value::Value;
use super::{ALIGNMENT, ALIGNMENT_KEY, Kind, MAGIC, MAX_AXES, VERSION, alignment};
use crate::io::map::other_kind;
use std::collections::HashMap;
use std::ops::Range;

/// A tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its shape, row-major as everywhere here; in the file the axes are the other way round.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub kind: Kind,
    /// Where its bytes lie in the file.
    pub range: Range<usize>,
}

/// All that comes before the tensors' bytes. Indices find keys and names.
pub(super) struct Header {
    pub metadata: Vec<(String, Value)>,
    pub tensors: Vec<TensorInfo>,
    pub names: HashMap<String, usize>,
}

/// The fewest bytes of a metadata entry: the length of a key, a key of one byte, a type, a value.
const LEAST_ENTRY: usize = 8 + 1 + 4 + 1;
/// The fewest bytes of a tensor's description: a name of one byte, one axis, the format, the offset.
const LEAST_TENSOR: usize = 8 + 1 + 4 + 8 + 4 + 8;

/// Reads and checks the header of a whole file.
pub(super) fn header(bytes: &[u8]) -> Result<Header, Fault> {
    let mut cursor = Cursor::new(bytes);
    check_version(&mut cursor)?;
    let (tensors, entries) = (cursor.u64("the count of tensors")?, cursor.u64("the count of metadata")?);
    let entries = cursor.count(entries, LEAST_ENTRY, "metadata entries")?;
    let (mut metadata, mut keys) = (Vec::new(), HashMap::new());
    for i in 0..entries {
        let (key, value) = entry(&mut cursor, i)?;
        once(&mut keys, &key, i, &cursor)?;
        metadata.push((key, value));
    }
    cursor.place = "the tensors' descriptions".to_string();
    let tensors = cursor.count(tensors, LEAST_TENSOR, "tensors")?;
    let (mut infos, mut names) = (Vec::new(), HashMap::new());
    for i in 0..tensors {
        let info = tensor(&mut cursor, i)?;
        once(&mut names, &info.name, i, &cursor)?;
        infos.push(info);
    }
    let given = keys.get(ALIGNMENT_KEY).map(|&i: &usize| alignment(&metadata[i].1).map_err(Fault::damaged));
    place(&mut infos, &cursor, bytes.len(), given.transpose()?.unwrap_or(ALIGNMENT))?;
    Ok(Header { metadata, tensors: infos, names })
}

/// Magic and version, and what to say about others.
fn check_version(cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    let magic = cursor.take(4, "a GGUF file's mark").ok();
    if magic != Some(MAGIC) {
        let (problem, remedy) = match other_kind(cursor.all()) {
            Some(other) => other,
            None if cursor.all().get(8) == Some(&b'{') => {
                ("is a safetensors file", "give it a name that ends in .safetensors")
            }
            None => ("is no GGUF file: it does not begin with \"GGUF\"", "name another file"),
        };
        return Err(Fault { problem: problem.to_string(), remedy });
    }
    let version = cursor.u32("the version")?;
    let refused = |problem: String, remedy| Err(Fault { problem, remedy });
    match version {
        2 | VERSION => Ok(()),
        1 => refused("is of GGUF version 1, long out of use".to_string(), "convert the model again"),
        _ if (1..=VERSION).contains(&version.swap_bytes()) => {
            refused("is big-endian".to_string(), "convert it with gguf-convert-endian (of the gguf Python package)")
        }
        _ => {
            refused(format!("is of GGUF version {version}; 2 and 3 are known"), "update subgpt, or copy the file again")
        }
    }
}

/// A key and its value.
fn entry(cursor: &mut Cursor<'_>, i: usize) -> Result<(String, Value), Fault> {
    cursor.place = format!("metadata entry {i}");
    let key = cursor.string("its key")?;
    if key.is_empty() || key.len() > usize::from(u16::MAX) {
        return Err(cursor.fault(format!("its key has {} bytes, not 1 to 65535", key.len())));
    }
    cursor.place = format!("metadata {key}");
    let number = cursor.u32("its type")?;
    Ok((key, Value::read(number, cursor)?))
}

/// Notes that `name` is number `i`, unless it was there before.
fn once(index: &mut HashMap<String, usize>, name: &str, i: usize, cursor: &Cursor<'_>) -> Result<(), Fault> {
    match index.insert(name.to_string(), i) {
        None => Ok(()),
        Some(first) => Err(cursor.fault(format!("it is there twice, as number {first} and {i}"))),
    }
}

/// A tensor's description; its range is still from the start of the tensors' bytes.
fn tensor(cursor: &mut Cursor<'_>, i: usize) -> Result<TensorInfo, Fault> {
    cursor.place = format!("tensor {i}");
    let name = cursor.string("its name")?;
    if name.is_empty() {
        return Err(cursor.fault("its name is empty".to_string()));
    }
    cursor.place = format!("tensor {name}");
    let axes = cursor.u32("the number of axes")? as usize;
    if !(1..=MAX_AXES).contains(&axes) {
        return Err(cursor.fault(format!("it has {axes} axes, not 1 to {MAX_AXES}")));
    }
    let mut shape = (0..axes).map(|_| axis(cursor)).collect::<Result<Vec<_>, _>>()?;
    shape.reverse();
    let number = cursor.u32("the format")?;
    let kind = Kind::numbered(number)
        .ok_or_else(|| Fault { remedy: "convert the model to Q8_0 or F16", ..cursor.fault(unknown(number)) })?;
    let offset = cursor.u64("the offset")?;
    let size = kind.size(&shape).ok_or_else(|| cursor.fault(no_size(&shape, kind)))?;
    let range = usize::try_from(offset).ok().and_then(|start| Some(start..start.checked_add(size)?));
    let range = range.ok_or_else(|| cursor.fault(format!("its offset {offset} is beyond any file")))?;
    Ok(TensorInfo { name, shape, kind, range })
}

fn axis(cursor: &mut Cursor<'_>) -> Result<usize, Fault> {
    let axis = cursor.u64("an axis")?;
    let fits = i64::try_from(axis).is_ok_and(|axis| axis > 0);
    let axis = usize::try_from(axis).ok().filter(|_| fits);
    axis.ok_or_else(|| cursor.fault("an axis is zero or negative".to_string()))
}

fn unknown(number: u32) -> String {
    format!("its format has the number {number}, which is not known")
}

fn no_size(shape: &[usize], kind: Kind) -> String {
    let Kind { name, values, .. } = kind;
    format!("shape {shape:?} cannot be stored as {name}: rows are multiples of {values}, and memory has an end")
}

/// Moves ranges to where the tensors' bytes lie in the file, and checks that they are inside and apart.
fn place(tensors: &mut [TensorInfo], cursor: &Cursor<'_>, len: usize, alignment: usize) -> Result<(), Fault> {
    let start = cursor.at.next_multiple_of(alignment); // a file's length and 2^20 do not overflow
    for tensor in tensors.iter_mut() {
        let Range { start: from, end: to } = tensor.range;
        let wrong = |problem: String| Fault::damaged(format!("tensor {}: {problem}", tensor.name));
        if !from.is_multiple_of(alignment) {
            return Err(wrong(format!("its offset {from} is no multiple of the alignment {alignment}")));
        }
        let end = start.checked_add(to).filter(|&end| end <= len);
        let end = end.ok_or_else(|| wrong(format!("its bytes {from}..{to} from {start} on end behind byte {len}")))?;
        tensor.range = start + from..end;
    }
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|tensor| tensor.range.start);
    match order.windows(2).find(|pair| pair[0].range.end > pair[1].range.start) {
        None => Ok(()),
        Some(pair) => Err(Fault::damaged(format!("tensors {} and {} overlap", pair[0].name, pair[1].name))),
    }
}
