//! Weights to and from GGUF files, whose tensors are ours in another order.
//!
//! What a file's tensors are called and how they come from ours is the caller's to say, family by family ([`Part`]); this
//! file moves the numbers: one tensor at a time, so that a model is never in memory twice.

use super::Gpt;
use super::params::Tensor;
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::io::gguf::{Gguf, Output, Value, write};
use crate::kernels::quantized::Format;
use crate::parallel;
use std::borrow::Cow;
use std::path::Path;

/// How a tensor of a file comes from one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// As it is.
    Nothing,
    /// Rows become columns: GPT-2's linear weights, which lie as (in, out) here.
    Transposed,
    /// Rows of each head go from pairs half a head apart to neighbouring pairs: llama.cpp's rotation of Llama's heads.
    Pairs {
        /// Heads.
        heads: usize,
    },
    /// Plus 1: gains that are stored as differences to it here.
    PlusOne,
}

/// A tensor of a file.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its name in the file.
    pub name: String,
    /// The name of ours.
    pub of: String,
    /// What is done to it.
    pub change: Change,
    /// How it is stored; not looked at where a file is read.
    pub format: Format,
}

/// A small tensor of a file that no tensor of ours is.
pub struct Extra {
    /// Its name in the file.
    pub name: String,
    /// Its numbers, stored as float32.
    pub data: Vec<f32>,
}

impl Change {
    /// The shape that `shape` has in a file.
    fn shape(self, shape: &[usize]) -> Vec<usize> {
        let mut shape = shape.to_vec();
        if self == Change::Transposed {
            shape.reverse();
        }
        shape
    }

    /// Ours to the file's.
    fn apply<'a>(self, shape: &[usize], data: &'a [f32]) -> Cow<'a, [f32]> {
        match self {
            Change::Nothing => Cow::Borrowed(data),
            Change::Transposed => Cow::Owned(transposed(data, shape[0])),
            Change::PlusOne => Cow::Owned(data.iter().map(|x| x + 1.0).collect()),
            // Row (half, i) of a head becomes row (i, half).
            Change::Pairs { heads } => Cow::Owned(swapped(data, heads, 2, shape[0] / heads / 2)),
        }
    }

    /// The file's to ours.
    fn undo(self, shape: &[usize], data: Vec<f32>) -> Vec<f32> {
        match self {
            Change::Nothing => data,
            Change::Transposed => transposed(&data, shape[1]),
            Change::PlusOne => data.into_iter().map(|x| x - 1.0).collect(),
            Change::Pairs { heads } => swapped(&data, heads, shape[0] / heads / 2, 2),
        }
    }

    /// Whether a tensor of ours of that shape can be so changed.
    fn fits(self, shape: &[usize]) -> bool {
        match self {
            Change::Nothing | Change::PlusOne => true,
            Change::Transposed => shape.len() == 2,
            // A bias has a row of one number.
            Change::Pairs { heads } => heads > 0 && shape[0].is_multiple_of(2 * heads),
        }
    }
}

/// A matrix of `rows` rows, column by column.
fn transposed(data: &[f32], rows: usize) -> Vec<f32> {
    let columns = data.len() / rows.max(1);
    (0..data.len()).map(|i| data[i % rows * columns + i / rows]).collect()
}

/// Blocks of rows: for each of `outer`, those numbered (i, j) of `first` x `second` in the order of (j, i).
fn swapped(data: &[f32], outer: usize, first: usize, second: usize) -> Vec<f32> {
    let width = data.len() / (outer * first * second).max(1);
    let mut out = Vec::with_capacity(data.len());
    for block in 0..outer {
        for j in 0..second {
            for i in 0..first {
                let row = (block * first + i) * second + j;
                out.extend_from_slice(&data[row * width..(row + 1) * width]);
            }
        }
    }
    out
}

impl Gpt {
    /// Writes `parts` of the model and `extras` with `metadata` to a GGUF file, whole or not at all.
    pub fn save_gguf(&self, path: &Path, metadata: &[(String, Value)], parts: &[Part], extras: &[Extra]) -> Result<()> {
        self.refuse_quantized("save_gguf")?;
        let mut outputs = Vec::with_capacity(parts.len() + extras.len());
        for part in parts {
            let Tensor { shape, range, .. } = self.tensor_of(part)?;
            let (change, data) = (part.change, &self.params[range.clone()]);
            let give = move || change.apply(shape, data);
            outputs.push(Output::new(part.name.clone(), &change.shape(shape), part.format, give));
        }
        for extra in extras {
            let give = || Cow::Borrowed(&extra.data[..]);
            outputs.push(Output::new(extra.name.clone(), &[extra.data.len()], Format::F32, give));
        }
        parallel::install(|| write(path, metadata, &outputs))
    }

    /// Reads all weights from a GGUF file: `parts` say where each is. Nothing is changed unless everything fits.
    pub fn load_gguf(&mut self, path: &Path, parts: &[Part]) -> Result<()> {
        self.refuse_quantized("load_gguf")?;
        let file = Gguf::open(path)?;
        let missing = self.layout.tensors.iter().find(|tensor| parts.iter().all(|part| part.of != tensor.name));
        if let Some(tensor) = missing {
            let problem = format!("has nothing for tensor {}", tensor.name);
            return Err(Error::checkpoint(path, problem, "convert the model again"));
        }
        let params = parallel::install(|| {
            let mut params = Buffer::zeros(self.layout.total, "parameters")?;
            for part in parts {
                self.read_part(path, &file, part, &mut params)?;
            }
            Ok::<_, Error>(params)
        })?;
        self.params = params;
        self.version += 1;
        Ok(())
    }

    fn read_part(&self, path: &Path, file: &Gguf, part: &Part, params: &mut [f32]) -> Result<()> {
        let Tensor { shape, range, .. } = self.tensor_of(part)?;
        let refused = |problem| Error::checkpoint(path, problem, "use a file of this model, or convert it again");
        let info = file.tensor(&part.name).ok_or_else(|| refused(format!("has no tensor {}", part.name)))?;
        let expected = part.change.shape(shape);
        if info.shape != expected {
            let (name, got) = (&part.name, &info.shape);
            return Err(refused(format!("tensor {name} has shape {got:?}, its metadata says {expected:?}")));
        }
        let place = &mut params[range.clone()];
        if part.change == Change::Nothing {
            return file.dequantize(info, place);
        }
        let mut data = vec![0.0; place.len()];
        file.dequantize(info, &mut data)?;
        place.copy_from_slice(&part.change.undo(shape, data));
        Ok(())
    }

    /// Our tensor of a part.
    fn tensor_of(&self, part: &Part) -> Result<&Tensor> {
        let tensor = self.layout.get(&part.of).filter(|tensor| part.change.fits(&tensor.shape));
        tensor.ok_or_else(|| {
            Error::value("gguf", "parts", &part.of, format!("a tensor of the model that {:?} fits", part.change))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_undone() {
        let data: Vec<f32> = (0..48).map(|i| i as f32).collect();
        for (change, shape) in [
            (Change::Nothing, vec![12, 4]),
            (Change::Transposed, vec![12, 4]),
            (Change::PlusOne, vec![48]),
            (Change::Pairs { heads: 2 }, vec![12, 4]),
            (Change::Pairs { heads: 3 }, vec![48]),
        ] {
            let there = change.apply(&shape, &data).into_owned();
            assert_eq!(change.undo(&shape, there.clone()), data, "{change:?}");
            assert_eq!(there == data, change == Change::Nothing);
        }
    }

    #[test]
    fn halves_become_neighbours() {
        // Two heads of four rows: 0 and 2, 1 and 3 turn together.
        let rows: Vec<f32> = (0..8).map(|i| i as f32).collect();
        let pairs = Change::Pairs { heads: 2 };
        assert_eq!(pairs.apply(&[8, 1], &rows)[..], [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        assert_eq!(Change::Transposed.apply(&[2, 4], &rows)[..], [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
        assert!(!pairs.fits(&[6, 1]) && !Change::Pairs { heads: 0 }.fits(&[8, 1]) && !Change::Transposed.fits(&[8]));
    }
}
