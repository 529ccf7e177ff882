//! Files that are read back, and every lie that a header can tell.

use super::*;
use std::fs;

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
    for (content, word) in [
        ("version https://git-lfs.github.com/spec/v1\n", "LFS"),
        ("<!DOCTYPE html>", "web page"),
        (" <html>", "web page"),
        ("PK\x03\x04abcdefgh", "pickle"),
        ("GGUF\x03\0\0\0", "GGUF"),
    ] {
        fs::write(&path, content).unwrap();
        let message = Reader::open(&path).err().unwrap().to_string();
        assert!(message.contains(word), "{message}");
    }
}

/// The bytes of a file with this header and `n` zeros behind it.
fn with_header(header: &str, n: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; n]].concat()
}

fn opened(bytes: &[u8]) -> Result<Reader> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    fs::write(&path, bytes).unwrap();
    Reader::open(&path)
}

/// An entry of a header.
fn entry(name: &str, dtype: &str, shape: &str, from: &str, to: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
}

#[test]
fn every_lie_of_a_header_is_refused() {
    let f32s = |name, from, to| entry(name, "F32", "[2]", from, to);
    let both = |first: String, second: String| format!("{{{first},{second}}}");
    let one = |dtype, shape, from, to| format!("{{{}}}", entry("a", dtype, shape, from, to));
    let good = one("F32", "[2]", "0", "8");
    let lies: Vec<(&str, Vec<u8>)> = vec![
        ("no header", 0u64.to_le_bytes().to_vec()),
        ("a header longer than the file", [&1000u64.to_le_bytes()[..], b"{}"].concat()),
        ("a header of more than 100 MB", [&100_000_001u64.to_le_bytes()[..], b"{}"].concat()),
        ("a header of 2^64 - 1 bytes", [&u64::MAX.to_le_bytes()[..], b"{}"].concat()),
        ("no object", with_header("[]", 0)),
        ("spaces first", with_header(&format!(" {good}"), 8)),
        ("zeros as padding", with_header(&format!("{good}\0\0"), 8)),
        ("no UTF-8", [&2u64.to_le_bytes()[..], b"{\xff"].concat()),
        ("deep nesting", with_header(&format!(r#"{{"a":{}"#, "[".repeat(100_000)), 0)),
        ("a name twice, in one place", with_header(&both(f32s("a", "0", "8"), f32s("a", "0", "8")), 8)),
        ("a name twice, spelled in two ways", with_header(&both(f32s("a", "0", "8"), f32s(r"\u0061", "0", "8")), 8)),
        ("a name twice, in two places", with_header(&both(f32s("a", "0", "8"), f32s("a", "8", "16")), 16)),
        ("metadata twice", with_header(r#"{"__metadata__":{},"__metadata__":{}}"#, 0)),
        ("overlap", with_header(&both(f32s("a", "0", "8"), f32s("b", "4", "12")), 12)),
        ("two in one place", with_header(&both(f32s("a", "0", "8"), f32s("b", "0", "8")), 8)),
        ("a hole", with_header(&both(f32s("a", "0", "8"), f32s("b", "12", "20")), 20)),
        ("a hole at the start", with_header(&one("F32", "[2]", "4", "12"), 12)),
        ("trailing bytes", with_header(&good, 9)),
        ("too few bytes", with_header(&good, 7)),
        ("a negative offset", with_header(&one("F32", "[2]", "-8", "0"), 8)),
        ("swapped offsets", with_header(&one("F32", "[2]", "8", "0"), 8)),
        ("offsets beyond 2^64", with_header(&one("F32", "[2]", "0", "18446744073709551624"), 8)),
        ("a shape that wraps to 2", with_header(&one("F32", "[2,9223372036854775808,2]", "0", "8"), 8)),
        ("bytes that wrap to 8", with_header(&one("F32", "[4611686018427387906]", "0", "8"), 8)),
        ("a shape that wraps before its zero", with_header(&one("F32", "[4294967296,4294967296,0]", "0", "0"), 0)),
        ("a negative axis", with_header(&one("F32", "[-2]", "0", "8"), 8)),
        ("an axis with a fraction", with_header(&one("F32", "[2.0]", "0", "8"), 8)),
        ("an unknown dtype", with_header(&one("F33", "[2]", "0", "8"), 8)),
        ("other bytes than the shape says", with_header(&one("F32", "[3]", "0", "8"), 8)),
        ("other bytes than the dtype says", with_header(&one("F16", "[2]", "0", "8"), 8)),
        ("half a byte", with_header(&one("F4", "[1]", "0", "1"), 1)),
        ("no offsets", with_header(r#"{"a":{"dtype":"F32","shape":[2]}}"#, 8)),
        ("metadata that is no text", with_header(&format!(r#"{{"__metadata__":{{"a":1}},{}"#, &good[1..]), 8)),
        ("nested metadata", with_header(&format!(r#"{{"__metadata__":{{"a":{{}}}},{}"#, &good[1..]), 8)),
    ];
    opened(&with_header(&good, 8)).unwrap();
    for (what, bytes) in lies {
        let error = opened(&bytes).err().unwrap_or_else(|| panic!("accepted: {what}"));
        assert!(matches!(error, Error::Checkpoint { .. }), "{what}: {error}");
        assert!(error.to_string().contains("x.safetensors: is no valid"), "{what}: {error}");
    }
}

#[test]
fn empty_tensors_scalars_and_padding_are_no_lies() {
    let header = format!("{{{},{}}}  ", entry("none", "F32", "[0,3]", "0", "0"), entry("one", "F32", "[]", "0", "4"));
    let tensors = opened(&with_header(&header, 4)).unwrap().tensors(|_| true).unwrap();
    assert!(tensors["none"].shape == [0, 3] && tensors["none"].data.is_empty());
    assert!(tensors["one"].shape.is_empty() && tensors["one"].data == [0.0]);
    assert!(opened(&with_header("{}", 0)).unwrap().names().is_empty());
}

#[test]
fn one_tensor_at_a_time_is_read_to_its_place() {
    let header = format!("{{{},{}}}", entry("b", "BF16", "[3]", "0", "6"), entry("h", "F16", "[1,2]", "6", "10"));
    let mut bytes = with_header(&header, 0);
    [0x3F80u16, 0x7FC0, 0xC000, 0x3C00, 0xFC00].iter().for_each(|bits| bytes.extend(bits.to_le_bytes()));
    let file = opened(&bytes).unwrap();
    assert_eq!(file.names(), ["b", "h"]);
    let raw = file.raw("h").unwrap();
    assert!(raw.dtype == Dtype::F16 && raw.shape == [1, 2] && raw.bytes == [0x00, 0x3C, 0x00, 0xFC]);
    let mut out = [7.0; 5];
    file.read_into("b", &mut out[1..4]).unwrap();
    assert!(out[0] == 7.0 && out[1] == 1.0 && out[2].is_nan() && out[3] == -2.0 && out[4] == 7.0);
    file.read_into("h", &mut out[..2]).unwrap();
    assert_eq!(out[..2], [1.0, f32::NEG_INFINITY]);
    assert!(matches!(file.read_into("h", &mut out), Err(Error::Shape { .. })));
    let error = file.read_into("c", &mut out).unwrap_err().to_string();
    assert!(file.raw("c").is_none() && error.contains("no tensor c"), "{error}");
}
