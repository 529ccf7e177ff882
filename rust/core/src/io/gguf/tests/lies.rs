//! Every lie that a file can tell about itself.

use super::*;

/// A file field by field.
struct Draft(Vec<u8>);

impl Draft {
    fn new(version: u32, tensors: u64, entries: u64) -> Self {
        Draft(b"GGUF".to_vec()).u32(version).u64(tensors).u64(entries)
    }
    fn u32(mut self, x: u32) -> Self {
        self.0.extend(x.to_le_bytes());
        self
    }
    fn u64(mut self, x: u64) -> Self {
        self.0.extend(x.to_le_bytes());
        self
    }
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
    fn text(self, text: &[u8]) -> Self {
        self.u64(text.len() as u64).bytes(text)
    }
    fn tensor(self, name: &str, axes: &[u64], kind: u32, offset: u64) -> Self {
        let start = self.text(name.as_bytes()).u32(axes.len() as u32);
        axes.iter().fold(start, |draft, &axis| draft.u64(axis)).u32(kind).u64(offset)
    }
    fn zeros(self, n: usize) -> Self {
        self.bytes(&vec![0; n])
    }
    /// Padding to 32, then zeros.
    fn data(self, n: usize) -> Self {
        let padding = self.0.len().next_multiple_of(32) - self.0.len();
        self.zeros(padding + n)
    }
}

/// The file must be refused with these words.
fn refused(draft: Draft, words: &[&str]) {
    let error = opened(&draft.0).err().unwrap_or_else(|| panic!("accepted; should say {words:?}"));
    assert!(matches!(error, Error::Checkpoint { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("x.gguf") && words.iter().all(|word| message.contains(word)), "{words:?}: {message}");
}

fn one(name: &str, axes: &[u64], kind: u32, offset: u64) -> Draft {
    Draft::new(3, 1, 0).tensor(name, axes, kind, offset).data(64)
}

fn value(number: u32) -> Draft {
    Draft::new(3, 0, 1).text(b"k").u32(number)
}

#[test]
fn files_of_another_kind_or_version() {
    let file = |bytes: &[u8]| Draft(bytes.to_vec());
    refused(file(b""), &["does not begin with"]);
    refused(file(b"GGU"), &["does not begin with"]);
    refused(file(b"ggml........."), &["does not begin with"]);
    refused(file(b"\x02\0\0\0\0\0\0\0{}"), &["safetensors"]);
    refused(file(b"version https://git-lfs.github.com/spec/v1\n"), &["LFS"]);
    refused(file(b"<!doctype html><html>"), &["web page"]);
    refused(file(b"PK\x03\x04.............."), &["pickle"]);
    refused(file(b"GGUF\x03\0"), &["the version", "2 more"]);
    refused(Draft::new(0, 0, 0), &["version 0"]);
    refused(Draft::new(1, 0, 0), &["version 1"]);
    refused(Draft::new(4, 0, 0), &["version 4"]);
    refused(Draft::new(u32::MAX, 0, 0), &["version 4294967295"]);
    refused(Draft::new(3u32.swap_bytes(), 0, 0), &["big-endian"]);
    for version in [2, 3] {
        assert!(opened(&Draft::new(version, 0, 0).0).unwrap().tensors().is_empty());
    }
}

#[test]
fn counts_and_lengths_beyond_the_file() {
    for count in [1, 1 << 31, 1 << 63, u64::MAX] {
        refused(Draft::new(3, count, 0), &["tensors", &count.to_string()]);
        refused(Draft::new(3, 0, count), &["metadata entries", &count.to_string()]);
        refused(value(8).u64(count), &["metadata k", "text", &count.to_string()]);
        refused(Draft::new(3, 0, 1).u64(count + (count == 1) as u64 * 99).zeros(9), &["metadata entry 0", "its key"]);
        for number in [0, 2, 5, 6, 7, 8, 10, 12] {
            refused(value(9).u32(number).u64(count), &["metadata k", "array", &count.to_string()]);
        }
    }
    // Lengths whose bytes wrap to none.
    refused(value(9).u32(12).u64(1 << 61).zeros(64), &["metadata k", "array"]);
    refused(value(9).u32(8).u64(2).text(b"abc").u64(u64::MAX), &["metadata k", "text of an array"]);
    refused(Draft::new(3, 1, 0).u64(u64::MAX).zeros(64), &["tensor 0", "its name"]);
}

#[test]
fn keys_and_values_that_cannot_be() {
    refused(Draft::new(3, 0, 1).text(b"").u32(0).zeros(20), &["metadata entry 0", "0 bytes"]);
    refused(Draft::new(3, 0, 1).text(&[b'k'; 65_536]).u32(0).zeros(20), &["65536 bytes"]);
    refused(Draft::new(3, 0, 1).text(b"\xff").u32(0).zeros(20), &["UTF-8"]);
    refused(value(8).text(b"\xed\xa0\x80"), &["metadata k", "UTF-8"]);
    for number in [13, 255, u32::MAX] {
        refused(value(number).zeros(20), &["metadata k", &number.to_string()]);
        refused(value(9).u32(number).u64(1).zeros(20), &["metadata k", &number.to_string()]);
    }
    refused(value(7).bytes(&[2]), &["metadata k", "bool"]);
    refused(value(9).u32(7).u64(3).bytes(&[0, 1, 255]), &["metadata k", "bool"]);
    refused(value(9).u32(9).u64(1).u32(0).u64(1).bytes(&[1]), &["metadata k", "array of arrays"]);
    let nested = (0..100_000).fold(value(9), |draft, _| draft.u32(9).u64(1));
    refused(nested, &["metadata k", "array of arrays"]);
    let twice = Draft::new(3, 0, 2).text(b"k").u32(0).bytes(&[1]).text(b"k").u32(0).bytes(&[1, 0]);
    refused(twice, &["metadata k", "twice", "number 0 and 1"]);
}

#[test]
fn alignments_that_cannot_be() {
    let aligned = |n: u32| Draft::new(3, 0, 1).text(b"general.alignment").u32(4).u32(n);
    for n in [0, 1, 4, 24, 33, 1 << 21, 1 << 31, u32::MAX] {
        refused(aligned(n), &["general.alignment", &n.to_string()]);
    }
    for n in [8, 32, 4096, 1 << 20] {
        opened(&aligned(n).0).unwrap();
    }
    refused(Draft::new(3, 0, 1).text(b"general.alignment").u32(10).u64(32), &["general.alignment", "u64"]);
    refused(Draft::new(3, 0, 1).text(b"general.alignment").u32(8).text(b"32"), &["general.alignment", "text"]);
}

#[test]
fn tensors_that_cannot_be() {
    opened(&one("a", &[8], 0, 0).0).unwrap();
    refused(one("", &[8], 0, 0), &["tensor 0", "empty"]);
    refused(Draft::new(3, 1, 0).text(b"\xff").zeros(64), &["tensor 0", "UTF-8"]);
    refused(one("a", &[], 0, 0), &["tensor a", "0 axes"]);
    refused(one("a", &[1; 5], 0, 0), &["tensor a", "5 axes"]);
    for axes in [1 << 31, u32::MAX] {
        refused(Draft::new(3, 1, 0).text(b"a").u32(axes).zeros(64), &["tensor a", &axes.to_string()]);
    }
    for axis in [0, 1 << 63, u64::MAX] {
        refused(one("a", &[2, axis], 0, 0), &["tensor a", "zero or negative"]);
    }
    // Products that wrap to 0, to 2, and to a size that fits in bytes alone.
    refused(one("a", &[1 << 32, 1 << 32], 0, 0), &["tensor a", "memory has an end"]);
    refused(one("a", &[(1 << 62) + 1, 4, 1, 2], 0, 0), &["tensor a", "memory has an end"]);
    refused(one("a", &[(1 << 62) + 2], 0, 0), &["tensor a", "memory has an end"]);
    refused(one("a", &[33], 8, 0), &["tensor a", "Q8_0", "multiples of 32"]);
    refused(one("a", &[1, 32], 8, 0), &["tensor a", "multiples of 32"]);
    for kind in [4, 5, 31, 42, u32::MAX] {
        refused(one("a", &[8], kind, 0), &["tensor a", &format!("number {kind},"), "convert"]);
    }
    let two = |first: &str, second: &str, at| {
        Draft::new(3, 2, 0).tensor(first, &[16], 0, 0).tensor(second, &[16], 0, at).data(128)
    };
    opened(&two("a", "b", 64).0).unwrap();
    refused(two("a", "a", 64), &["tensor a", "twice"]);
    refused(two("a", "b", 32), &["a and b overlap"]);
    refused(two("a", "b", 0), &["overlap"]);
}

#[test]
fn offsets_that_cannot_be() {
    refused(one("a", &[8], 0, 4), &["tensor a", "alignment 32"]);
    refused(one("a", &[8], 0, 64), &["tensor a", "behind byte"]);
    refused(one("a", &[17], 0, 0), &["tensor a", "behind byte"]);
    refused(one("a", &[8], 0, 1 << 63), &["tensor a", "behind byte"]);
    refused(one("a", &[8], 0, u64::MAX - 31), &["tensor a", "beyond any file"]);
    refused(one("a", &[16], 0, u64::MAX - 63), &["tensor a", "beyond any file"]);
    // The sum with the start of the tensors' bytes would wrap.
    refused(one("a", &[8], 0, u64::MAX - 63), &["tensor a", "behind byte"]);
    // No tensor's bytes start behind the end, not even of a file that ends within the padding.
    refused(Draft::new(3, 1, 0).tensor("a", &[1], 0, 0).zeros(1), &["tensor a", "behind byte"]);
}

#[test]
fn formats_that_are_only_known_by_name() {
    let file = opened(&one("a", &[32], 20, 0).0).unwrap();
    let info = file.tensor("a").unwrap();
    assert_eq!(file.bytes(info).unwrap(), [0; 18]);
    let error = file.dequantize(info, &mut [0.0; 32]).unwrap_err().to_string();
    assert!(error.contains("tensor a") && error.contains("IQ4_NL") && error.contains("Q8_0"), "{error}");
    // Of another file, and into too little room.
    let other = TensorInfo { range: 0..1 << 40, kind: Kind::of(Format::F32), ..info.clone() };
    assert!(file.bytes(&other).is_err() && file.dequantize(&other, &mut [0.0; 32]).is_err());
    let file = opened(&one("a", &[8], 0, 0).0).unwrap();
    assert!(file.dequantize(file.tensor("a").unwrap(), &mut [0.0; 7]).is_err());
}
