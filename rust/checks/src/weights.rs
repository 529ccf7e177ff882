//! Any bytes as a weight file: tensors that can be read, and written and read again as the same; or an error.

use crate::files::with_file;
use std::borrow::Cow;
use std::collections::HashMap;
use subgpt_core::Error;
use subgpt_core::io::gguf::{self, Gguf};
use subgpt_core::io::safetensors::{self, Dtype, Reader};
use subgpt_core::kernels::quantized::Format;

/// As a GGUF file.
pub fn gguf(data: &[u8]) {
    with_file(&[("model.gguf", data)], |path| {
        let Some(file) = accepted(Gguf::open(path)) else { return };
        let decoded = file.tensors().iter().filter(|info| info.kind.format.is_some());
        let numbers = decoded.map(|info| {
            assert_eq!(Some(info.range.len()), info.kind.size(&info.shape));
            // A format of ggml has more than two bits a value.
            let n: usize = info.shape.iter().product();
            assert!(n <= 4 * data.len());
            let mut numbers = vec![0.0; n];
            file.dequantize(info, &mut numbers).expect("a format with a decoder");
            (info, numbers)
        });
        // Files may have longer names than are written.
        let numbers: Vec<_> = numbers.filter(|(info, _)| info.name.len() < 64).collect();
        let outputs: Vec<_> = numbers
            .iter()
            .map(|(info, x)| gguf::Output::new(&info.name, &info.shape, Format::F32, || Cow::Borrowed(&x[..])))
            .collect();
        let again = path.with_extension("again");
        gguf::write(&again, file.entries(), &outputs).expect("what is read can be written");
        let again = Gguf::open(&again).expect("what is written can be read");
        // Printed, since NaN equals nothing.
        assert_eq!(format!("{:?}", again.entries()), format!("{:?}", file.entries()));
        for (info, x) in &numbers {
            let other = again.tensor(&info.name).expect("it was written");
            assert_eq!(other.shape, info.shape);
            let mut y = vec![0.0; x.len()];
            again.dequantize(other, &mut y).expect("float32");
            assert_eq!(bits(&y), bits(x));
        }
    });
}

/// As a safetensors file.
pub fn safetensors(data: &[u8]) {
    with_file(&[("model.safetensors", data)], |path| {
        let Some(file) = accepted(Reader::open(path)) else { return };
        let names = file.names();
        let floats = |name: &str| {
            let raw = file.raw(name).expect("a name of the file");
            assert!(raw.bytes.len() <= data.len());
            matches!(raw.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
        };
        assert_eq!(names.iter().all(|name| floats(name)), file.tensors(|_| true).is_ok());
        let read = file.tensors(floats).expect("dtypes with a decoder");
        let outputs: Vec<_> = read
            .iter()
            .map(|(name, input)| safetensors::Output {
                name: name.clone(),
                shape: input.shape.clone(),
                data: Cow::Borrowed(&input.data),
            })
            .collect();
        let again = path.with_extension("again");
        safetensors::write(&again, &outputs, HashMap::new()).expect("what is read can be written");
        let again = Reader::open(&again).and_then(|file| file.tensors(|_| true)).expect("what is written can be read");
        assert_eq!(again.len(), read.len());
        for ((name, input), (other_name, other)) in read.iter().zip(&again) {
            assert_eq!((name, &input.shape), (other_name, &other.shape));
            assert_eq!(bits(&input.data), bits(&other.data));
        }
    });
}

/// What was opened; refusals must be of the kind that names the file.
pub fn accepted<T>(opened: Result<T, Error>) -> Option<T> {
    match opened {
        Ok(file) => Some(file),
        Err(Error::Checkpoint { .. }) => None,
        Err(other) => panic!("refused with another error: {other}"),
    }
}

/// Numbers to the last bit, since NaN equals nothing.
pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
