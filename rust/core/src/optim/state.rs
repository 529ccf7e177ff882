//! What an optimizer remembers of each weight, in memory and in files.

use super::config::Config;
use super::muon;
use super::share::Part;
use crate::buffer::{Buffer, padded, parts_mut};
use crate::error::{Error, Result};
use crate::io::safetensors::{Output, Reader, write};
use crate::model::buckets::{overlap, within};
use crate::model::params::Tensor;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

/// One number for each weight of some of the parts that are updated.
pub struct Moment {
    name: &'static str,
    /// Where each part's numbers lie; none for parts that have none.
    places: Vec<Option<Range<usize>>>,
    /// Where the gradients of each part lie.
    gradients: Vec<Range<usize>>,
    data: Buffer,
}

impl Moment {
    /// Zeros for the parts of tensors that `has` is true for.
    fn zeros(name: &'static str, parts: &[Part<'_>], has: impl Fn(&Tensor) -> bool) -> Result<Self> {
        let mut total = 0;
        let place = |part: &Part<'_>| {
            has(part.tensor).then(|| {
                let start = total;
                total += padded(part.place.len());
                start..start + part.place.len()
            })
        };
        let places = parts.iter().map(place).collect();
        let gradients = parts.iter().map(|part| part.place.clone()).collect();
        Ok(Moment { name, places, gradients, data: Buffer::zeros(total, "optimizer state")? })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Copies the numbers of the weights whose gradients lie in `place` to where they lie in it.
    pub fn read(&self, place: &Range<usize>, values: &mut [f32]) {
        for (gradients, numbers) in self.gradients.iter().zip(&self.places) {
            if let (Some(common), Some(numbers)) = (overlap(gradients, place), numbers) {
                let data = &self.data[numbers.clone()];
                values[within(&common, place)].copy_from_slice(&data[within(&common, gradients)]);
            }
        }
    }

    /// The way back; `values` begin with the weight whose gradient lies at `start`.
    pub fn write(&mut self, start: usize, values: &[f32]) {
        let place = start..start + values.len();
        for (gradients, numbers) in self.gradients.iter().zip(&self.places) {
            if let (Some(common), Some(numbers)) = (overlap(gradients, &place), numbers) {
                let data = &mut self.data[numbers.clone()];
                data[within(&common, gradients)].copy_from_slice(&values[within(&common, &place)]);
            }
        }
    }

    /// The numbers of every part that has some, in the order of the parts.
    pub fn parts_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        parts_mut(&mut self.data, self.places.iter().flatten().cloned())
    }
}

/// Tensors that have numbers, each with its name in a file and its numbers' place.
fn entries<'a>(
    moment: &'static str,
    places: &'a [Option<Range<usize>>],
    tensors: &'a [&'a Tensor],
) -> impl Iterator<Item = (String, &'a Tensor, Range<usize>)> {
    let named = move |(tensor, place): (&&'a Tensor, &Option<Range<usize>>)| {
        place.clone().map(|place| (format!("{moment}/{}", tensor.name), *tensor, place))
    };
    tensors.iter().zip(places).filter_map(named)
}

/// The moments of `config` for parts of tensors that are trained, all zero.
pub fn zeros(config: &Config, parts: &[Part<'_>]) -> Result<Vec<Moment>> {
    let all = |name| Moment::zeros(name, parts, |_| true);
    let rest = |name| Moment::zeros(name, parts, |tensor| !muon::takes(tensor));
    match config {
        Config::Sgd { momentum, .. } if *momentum == 0.0 => Ok(Vec::new()),
        Config::Sgd { .. } => Ok(vec![all("momentum")?]),
        Config::Adamw { .. } => Ok(vec![all("exp_avg")?, all("exp_avg_sq")?]),
        Config::Lion { .. } => Ok(vec![all("exp_avg")?]),
        Config::Muon { .. } => {
            Ok(vec![Moment::zeros("momentum", parts, muon::takes)?, rest("exp_avg")?, rest("exp_avg_sq")?])
        }
    }
}

/// Writes moments and step count to `path`, under the names of the weights they belong to.
pub fn save(path: &Path, tensors: &[&Tensor], moments: &[Moment], steps: u64) -> Result<()> {
    let outputs: Vec<_> = moments
        .iter()
        .flat_map(|moment| {
            entries(moment.name, &moment.places, tensors).map(|(name, tensor, place)| {
                let data = Cow::Borrowed(&moment.data[place]);
                Output { name, shape: tensor.shape.clone(), data }
            })
        })
        .chain([steps_tensor(steps)])
        .collect();
    write(path, &outputs, HashMap::new())
}

/// The step count in four 16-bit digits, each exact as a float.
fn steps_tensor(steps: u64) -> Output<'static> {
    let digits = (0..4).map(|i| ((steps >> (16 * i)) & 0xffff) as f32).collect();
    Output { name: "steps".to_string(), shape: vec![4], data: Cow::Owned(digits) }
}

/// Reads what [`save`] wrote.
pub fn load(path: &Path, config: &Config, parts: &[Part<'_>]) -> Result<(Vec<Moment>, u64)> {
    let tensors: &Vec<&Tensor> = &parts.iter().map(|part| part.tensor).collect();
    let reader = Reader::open(path)?;
    let wrong = |what: String| Error::checkpoint(path, what, "resume with the model and the optimizer that wrote it");
    // Straight to its place: the numbers of a large model are not in memory once more.
    let read = |name: &str, shape: &[usize], out: &mut [f32]| match reader.raw(name) {
        Some(raw) if raw.shape == shape => reader.read_into(name, out),
        Some(raw) => Err(wrong(format!("tensor {name} has shape {:?}", raw.shape))),
        None => Err(wrong(format!("has no tensor {name}"))),
    };
    let (mut moments, mut known) = (zeros(config, parts)?, 1);
    for Moment { name, places, data, .. } in &mut moments {
        for (name, tensor, place) in entries(name, places, tensors) {
            read(&name, &tensor.shape, &mut data[place])?;
            known += 1;
        }
    }
    let mut digits = [0.0f32; 4];
    read("steps", &[4], &mut digits)?;
    if !digits.iter().all(|d| (0.0..65536.0).contains(d) && d.fract() == 0.0) {
        return Err(wrong(format!("has a step count of {digits:?}")));
    }
    if reader.names().len() > known {
        return Err(wrong("has more tensors than this optimizer keeps".to_string()));
    }
    Ok((moments, digits.iter().enumerate().map(|(i, &d)| (d as u64) << (16 * i)).sum()))
}
