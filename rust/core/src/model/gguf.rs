//! Weights to and from GGUF files, whose tensors are ours in another order.
//!
//! What a file's tensors are called and how they come from ours is the caller's to say, family by family ([`Part`]); this
//! file moves the numbers: one tensor at a time, or a few outputs of a layer, so that a model is never in memory twice.

use super::Gpt;
use super::params::Tensor;
use super::quantized::Few;
use super::source::{Numbers, Source};
use crate::buffer;
use crate::error::{Error, Result};
use crate::io::gguf::{Gguf, Output, TensorInfo, Value, write};
use crate::kernels::quantized::Format;
use crate::parallel;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

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

    /// Where in the file the number is that ours with index `at` comes from.
    fn place(self, shape: &[usize], at: usize) -> usize {
        let width = shape[1..].iter().product::<usize>().max(1);
        let (row, column) = (at / width, at % width);
        match self {
            Change::Nothing | Change::PlusOne => at,
            Change::Transposed => column * shape[0] + row,
            Change::Pairs { heads } => {
                let half = shape[0] / heads / 2;
                let (head, row) = (row / (2 * half), row % (2 * half));
                (2 * half * head + row % half * 2 + row / half) * width + column
            }
        }
    }

    /// How many numbers of ours, from `at` on, lie behind each other in the file too.
    fn run(self, shape: &[usize], at: usize) -> usize {
        let width = shape[1..].iter().product::<usize>().max(1);
        match self {
            Change::Nothing | Change::PlusOne => usize::MAX,
            Change::Transposed => 1,
            Change::Pairs { .. } => width - at % width,
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
    let mut out = vec![0.0; data.len()];
    transpose(&data, data.len() / rows.max(1), 1, &mut out).expect("numbers in memory");
    out
}

/// `out` = a matrix of so many columns, column by column; `block` numbers of a row are read together.
fn transpose(numbers: &dyn Numbers, columns: usize, block: usize, out: &mut [f32]) -> Result<()> {
    let (fault, step) = (OnceLock::new(), block.next_multiple_of(64));
    let rows = out.len() / columns.max(1);
    parallel::for_each_chunk(out, step * rows, |task, out| {
        let own = task * step..columns.min((task + 1) * step);
        if let Err(error) = numbers.read_columns(columns, own, out) {
            _ = fault.set(error);
        }
    });
    fault.into_inner().map_or(Ok(()), Err)
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

    /// Reads all weights from a GGUF file, as float32 numbers or in `few` bits: `parts` say where each is. Nothing is
    /// changed unless everything fits. Gives a `sample` of each tensor, as [`Gpt::load`] does.
    pub fn load_gguf(&mut self, path: &Path, parts: &[Part], few: Few, sample: usize) -> Result<Vec<Vec<f32>>> {
        self.refuse_quantized("load_gguf")?;
        let file = Gguf::open(path)?;
        let refused = |problem| Error::checkpoint(path, problem, "use a file of this model, or convert it again");
        let mut places = HashMap::new();
        for part in parts {
            let shape = &self.tensor_of(part)?.shape;
            let info = file.tensor(&part.name).ok_or_else(|| refused(format!("has no tensor {}", part.name)))?;
            let expected = part.change.shape(shape);
            if info.shape != expected {
                let (name, got) = (&part.name, &info.shape);
                return Err(refused(format!("tensor {name} has shape {got:?}, its metadata says {expected:?}")));
            }
            places.insert(part.of.clone(), Place { file: &file, info, change: part.change, shape: shape.clone() });
        }
        if let Some(tensor) = self.layout.tensors.iter().find(|tensor| !places.contains_key(&tensor.name)) {
            let problem = format!("has nothing for tensor {}", tensor.name);
            return Err(Error::checkpoint(path, problem, "convert the model again"));
        }
        let places = Places(places);
        self.fill(&places, few)?;
        self.layout.tensors.iter().map(|tensor| places.numbers(tensor)?.sample(tensor.count(), sample)).collect()
    }

    /// Our tensor of a part.
    fn tensor_of(&self, part: &Part) -> Result<&Tensor> {
        let tensor = self.layout.get(&part.of).filter(|tensor| part.change.fits(&tensor.shape));
        tensor.ok_or_else(|| {
            Error::value("gguf", "parts", &part.of, format!("a tensor of the model that {:?} fits", part.change))
        })
    }
}

/// Where a tensor of ours lies in a file.
struct Place<'a> {
    file: &'a Gguf,
    info: &'a TensorInfo,
    change: Change,
    /// Its shape here.
    shape: Vec<usize>,
}

/// The same in the file's order.
struct InFile<'a>(&'a Place<'a>);

impl Numbers for InFile<'_> {
    fn read(&self, first: usize, out: &mut [f32]) -> Result<()> {
        self.0.file.dequantize_from(self.0.info, first, out)
    }
}

/// Where each tensor of a layout is, by name.
struct Places<'a>(HashMap<String, Place<'a>>);

impl Source for Places<'_> {
    fn numbers<'a>(&'a self, tensor: &Tensor) -> Result<Box<dyn Numbers + 'a>> {
        Ok(Box::new(&self.0[&tensor.name]))
    }
}

impl Numbers for &Place<'_> {
    fn read(&self, first: usize, out: &mut [f32]) -> Result<()> {
        let whole = out.len() == self.shape.iter().product::<usize>();
        if self.change == Change::Transposed && whole {
            let block = self.info.kind.format.map_or(1, Format::values);
            return transpose(&InFile(self), self.shape[0], block, out);
        }
        let (mut at, mut rest) = (first, out);
        while !rest.is_empty() {
            let run = self.change.run(&self.shape, at).min(rest.len());
            let part = rest.split_off_mut(..run).unwrap_or_default();
            self.file.dequantize_from(self.info, self.change.place(&self.shape, at), part)?;
            if self.change == Change::PlusOne {
                part.iter_mut().for_each(|x| *x -= 1.0);
            }
            at += run;
        }
        Ok(())
    }

    /// Columns of ours are rows of the file where it has the other order.
    fn read_columns(&self, of: usize, columns: Range<usize>, out: &mut [f32]) -> Result<()> {
        if self.change == Change::Transposed {
            return self.file.dequantize_from(self.info, columns.start * self.shape[0], out);
        }
        let mut all = buffer::zeros(self.shape.iter().product(), "tensors")?;
        self.read(0, &mut all)?;
        (&all[..]).read_columns(of, columns, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_found_where_a_change_has_put_it() {
        let data: Vec<f32> = (0..48).map(|i| i as f32).collect();
        for (change, shape) in [
            (Change::Nothing, vec![12, 4]),
            (Change::Transposed, vec![12, 4]),
            (Change::PlusOne, vec![48]),
            (Change::Pairs { heads: 2 }, vec![12, 4]),
            (Change::Pairs { heads: 3 }, vec![48]),
        ] {
            let there = change.apply(&shape, &data).into_owned();
            let shift = if change == Change::PlusOne { 1.0 } else { 0.0 };
            for (at, x) in data.iter().enumerate() {
                let (place, run) = (change.place(&shape, at), change.run(&shape, at));
                assert_eq!(there[place] - shift, *x, "{change:?} {at}");
                assert!((1..run.min(data.len() - at)).all(|i| change.place(&shape, at + i) == place + i));
            }
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
