//! What is written is read.

use super::*;
use crate::kernels::quantized;
use proptest::prelude::*;

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<f32>().prop_map(Value::F32),
        any::<bool>().prop_map(Value::Bool),
        any::<String>().prop_map(Value::String),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<f64>().prop_map(Value::F64),
    ]
}

fn array() -> impl Strategy<Value = Array> {
    use prop::collection::vec;
    prop_oneof![
        vec(any::<u8>(), 0..5).prop_map(Array::U8),
        vec(any::<i8>(), 0..5).prop_map(Array::I8),
        vec(any::<u16>(), 0..5).prop_map(Array::U16),
        vec(any::<i16>(), 0..5).prop_map(Array::I16),
        vec(any::<u32>(), 0..5).prop_map(Array::U32),
        vec(any::<i32>(), 0..5).prop_map(Array::I32),
        vec(any::<f32>(), 0..5).prop_map(Array::F32),
        vec(any::<bool>(), 0..5).prop_map(Array::Bool),
        vec(any::<String>(), 0..5).prop_map(Array::String),
        vec(any::<u64>(), 0..5).prop_map(Array::U64),
        vec(any::<i64>(), 0..5).prop_map(Array::I64),
        vec(any::<f64>(), 0..5).prop_map(Array::F64),
    ]
}

fn metadata() -> impl Strategy<Value = Vec<(String, Value)>> {
    let value = prop_oneof![scalar(), array().prop_map(Value::Array)];
    let entries = prop::collection::hash_map("[a-z._]{1,12}", value, 0..8);
    (entries, prop::option::of(3u32..12)).prop_map(|(entries, alignment)| {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.extend(alignment.map(|log| entry(ALIGNMENT_KEY, Value::U32(1 << log))));
        entries
    })
}

/// Names, shapes and formats.
fn tensors() -> impl Strategy<Value = Vec<(String, Vec<usize>, Format)>> {
    let formats: Vec<_> = Format::ALL.into_iter().filter(|format| format.encodes()).collect();
    let shape = prop::collection::vec(1usize..4, 1..5);
    let tensors = prop::collection::hash_map("[a-z.0-9]{1,63}", (shape, prop::sample::select(formats)), 0..5);
    tensors.prop_map(|tensors| {
        let whole = |(name, (mut shape, format)): (String, (Vec<usize>, Format))| {
            *shape.last_mut().unwrap() *= format.values();
            (name, shape, format)
        };
        tensors.into_iter().map(whole).collect()
    })
}

/// What the numbers of [`counting`] are after they were stored in `format`.
fn rounded(format: Format, n: usize) -> Vec<f32> {
    let mut numbers: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let mut bytes = vec![0; n / format.values() * format.bytes()];
    quantized::encode(format, &numbers, &mut bytes).unwrap();
    quantized::decode(format, &bytes, &mut numbers).unwrap();
    numbers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn everything_comes_back(metadata in metadata(), tensors in tensors()) {
        let outputs = || tensors.iter().map(|(name, shape, format)| counting(name, shape, *format)).collect::<Vec<_>>();
        let bytes = written(&metadata, &outputs()).unwrap();
        prop_assert!(bytes == written(&metadata, &outputs()).unwrap(), "the same bytes every time");
        let file = opened(&bytes).unwrap();
        prop_assert_eq!(&bytes[4..8], &3u32.to_le_bytes());
        prop_assert_eq!(format!("{:?}", file.entries()), format!("{:?}", metadata)); // NaN and all
        prop_assert_eq!(file.tensors().len(), tensors.len());
        for ((name, shape, format), info) in tensors.iter().zip(file.tensors()) {
            prop_assert!(file.tensor(name) == Some(info) && info.shape == *shape && info.kind.format == Some(*format));
            let n = shape.iter().product::<usize>();
            let mut out = vec![f32::NAN; n];
            file.dequantize(info, &mut out).unwrap();
            prop_assert_eq!(out, rounded(*format, n));
        }
    }

    /// Any change of a few bytes is refused, or gives a file all of whose parts can be read.
    #[test]
    fn damaged_files_never_panic(changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..6)) {
        let mut bytes = sample();
        for (at, byte) in changes {
            let at = usize::from(at) * bytes.len() / 65536;
            bytes[at] = byte;
        }
        if let Ok(file) = opened(&bytes) {
            for info in file.tensors() {
                prop_assert!(file.bytes(info).unwrap().len() <= bytes.len());
                let n = info.shape.iter().product::<usize>();
                let _ = file.dequantize(info, &mut vec![0.0; n]);
            }
        }
    }
}

/// A file with something of everything; the last tensor fills its padding, so that every byte counts.
fn sample() -> Vec<u8> {
    let metadata = [
        entry("general.architecture", "llama".into()),
        entry("n", Value::U32(7)),
        entry("minus", Value::I64(-7)),
        entry("x", Value::F32(0.5)),
        entry("yes", Value::Bool(true)),
        entry("tokens", Value::Array(Array::String(vec!["a".into(), String::new(), "ü".into()]))),
        entry("scores", Value::Array(Array::F32(vec![1.0, -2.0]))),
        entry("types", Value::Array(Array::I32(vec![1, -1]))),
        entry("bools", Value::Array(Array::Bool(vec![true, false]))),
    ];
    let tensors = [
        counting("a", &[3, 2], Format::F16),
        counting("b", &[2, 32], Format::Q8_0),
        counting("c", &[1, 1, 2, 32], Format::Q4_0),
        counting("d", &[5], Format::BF16),
        counting("e", &[2, 4], Format::F32),
    ];
    written(&metadata, &tensors).unwrap()
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = sample();
    opened(&bytes).unwrap();
    for len in 0..bytes.len() {
        assert!(matches!(opened(&bytes[..len]), Err(Error::Checkpoint { .. })), "cut to {len} bytes");
    }
}

#[test]
fn what_cannot_be_written_is_refused_and_the_old_file_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    std::fs::write(&path, "old").unwrap();
    let refused = |metadata: &[(String, Value)], tensors: &[Output<'_>], word: &str| {
        let error = write(&path, metadata, tensors).unwrap_err();
        assert!(matches!(error, Error::Checkpoint { .. }) && error.to_string().contains(word), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    };
    let one = |shape: &[usize], format| [counting("a", shape, format)];
    refused(&[entry("k", Value::U8(1)), entry("k", Value::U8(1))], &[], "key k comes twice");
    refused(&[entry("", Value::U8(1))], &[], "0 bytes");
    refused(&[entry(&"k".repeat(65_536), Value::U8(1))], &[], "65536 bytes");
    refused(&[entry(ALIGNMENT_KEY, Value::U32(24))], &[], "24");
    refused(&[entry(ALIGNMENT_KEY, Value::U64(32))], &[], "u64");
    refused(&[], &[counting("a", &[1], Format::F32), counting("a", &[1], Format::F32)], "a comes twice");
    refused(&[], &[counting(&"a".repeat(64), &[1], Format::F32)], "64 bytes");
    refused(&[], &one(&[], Format::F32), "1 to 4 axes");
    refused(&[], &one(&[1; 5], Format::F32), "1 to 4 axes");
    refused(&[], &one(&[3, 0], Format::F32), "1 to 4 axes");
    refused(&[], &one(&[32, 33], Format::Q8_0), "multiples of 32");
    refused(&[], &one(&[256], Format::Q6_K), "cannot be Q6_K");
    refused(&[], &[Output::new("a", &[2], Format::F32, || Cow::Owned(vec![1.0]))], "1 numbers");
    let nan = || Output::new("a", &[32], Format::Q8_0, || Cow::Owned(vec![f32::NAN; 32]));
    refused(&[], &[nan()], "NaN");
    refused(&[], &[Output::new("a", &[1], Format::F16, || Cow::Borrowed(&[1e6]))], "1000000");
}

/// A file as another program writes it: `gguf` 0.19 for Python, with one value, two tensors and alignment 64.
#[test]
fn a_file_of_another_program_is_read() {
    let file = opened(include_bytes!("python.gguf")).unwrap();
    let tokens = Array::String(vec!["a".to_string(), "bc".to_string()]);
    let expected = [
        entry("general.architecture", Value::String("gpt2".to_string())),
        entry("tokenizer.ggml.tokens", Value::Array(tokens)),
        entry(ALIGNMENT_KEY, Value::U32(64)),
    ];
    assert!(expected.iter().all(|one| file.entries().contains(one)), "{:?}", file.entries());
    let (a, b) = (file.tensor("a").unwrap(), file.tensor("b").unwrap());
    assert!(a.shape == [2, 3] && b.shape == [2, 32] && a.range.start % 64 == 0 && b.range.start % 64 == 0);
    let (mut x, mut y) = ([0.0; 6], [0.0; 64]);
    file.dequantize(a, &mut x).unwrap();
    file.dequantize(b, &mut y).unwrap();
    assert_eq!(x, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert!(y.iter().enumerate().all(|(i, y)| (y - i as f32).abs() < 0.3), "{y:?}");
    // The same bytes, but for entries that the other program adds.
    let tensors = [counting("a", &[2, 3], Format::F32), counting("b", &[2, 32], Format::Q8_0)];
    assert_eq!(written(file.entries(), &tensors).unwrap(), include_bytes!("python.gguf"));
}
