//! What an optimizer remembers of each weight, in memory and in files.

use super::config::Config;
use super::muon;
use crate::buffer::{Buffer, padded, parts_mut};
use crate::error::{Error, Result};
use crate::io::safetensors::{Input, Output, Reader, write};
use crate::model::params::Tensor;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

/// One number for each weight of some of the tensors.
pub struct Moment {
    name: &'static str,
    /// Where each tensor's numbers lie; none for tensors that have none.
    places: Vec<Option<Range<usize>>>,
    data: Buffer,
}

impl Moment {
    /// Zeros for the tensors that `has` is true for.
    fn zeros(name: &'static str, tensors: &[&Tensor], has: impl Fn(&Tensor) -> bool) -> Result<Self> {
        let mut total = 0;
        let place = |tensor: &&Tensor| {
            has(tensor).then(|| {
                let start = total;
                total += padded(tensor.range.len());
                start..start + tensor.range.len()
            })
        };
        let places = tensors.iter().map(place).collect();
        Ok(Moment { name, places, data: Buffer::zeros(total, "optimizer state")? })
    }

    /// The numbers of every tensor that has some, in the order of the tensors.
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

/// The moments of `config` for tensors that are trained, all zero.
pub fn zeros(config: &Config, tensors: &[&Tensor]) -> Result<Vec<Moment>> {
    let all = |name| Moment::zeros(name, tensors, |_| true);
    let rest = |name| Moment::zeros(name, tensors, |tensor| !muon::takes(tensor));
    match config {
        Config::Sgd { momentum, .. } if *momentum == 0.0 => Ok(Vec::new()),
        Config::Sgd { .. } => Ok(vec![all("momentum")?]),
        Config::Adamw { .. } => Ok(vec![all("exp_avg")?, all("exp_avg_sq")?]),
        Config::Lion { .. } => Ok(vec![all("exp_avg")?]),
        Config::Muon { .. } => {
            Ok(vec![Moment::zeros("momentum", tensors, muon::takes)?, rest("exp_avg")?, rest("exp_avg_sq")?])
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
pub fn load(path: &Path, config: &Config, tensors: &[&Tensor]) -> Result<(Vec<Moment>, u64)> {
    let mut found: BTreeMap<String, Input> = Reader::open(path)?.tensors(|_| true)?.into_iter().collect();
    let wrong = |what: String| Error::checkpoint(path, what, "it belongs to another model or optimizer");
    let mut moments = zeros(config, tensors)?;
    for Moment { name, places, data } in &mut moments {
        for (name, tensor, place) in entries(name, places, tensors) {
            match found.remove(&name) {
                Some(input) if input.shape == tensor.shape => data[place].copy_from_slice(&input.data),
                Some(input) => return Err(wrong(format!("tensor {name} has shape {:?}", input.shape))),
                None => return Err(wrong(format!("has no tensor {name}"))),
            }
        }
    }
    let digits = found.remove("steps").ok_or_else(|| wrong("has no tensor steps".to_string()))?.data;
    if digits.len() != 4 || !digits.iter().all(|d| (0.0..65536.0).contains(d) && d.fract() == 0.0) {
        return Err(wrong(format!("has a step count of {digits:?}")));
    }
    if !found.is_empty() {
        return Err(wrong("has more tensors than this optimizer keeps".to_string()));
    }
    Ok((moments, digits.iter().enumerate().map(|(i, &d)| (d as u64) << (16 * i)).sum()))
}
