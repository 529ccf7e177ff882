//! Gradients to new weights: one pass over flat slices each, formula and paper in each file's head.

pub mod adamw;
pub mod clip;
pub mod sgd;
#[cfg(test)]
mod tests;

use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::io::safetensors::{Output, Reader, write};
use crate::model::Gpt;
use crate::model::params::Tensor;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

/// Elements of one task of an update: large enough to hide the hand-out, small enough to balance.
const CHUNK: usize = 1 << 15;

/// Which tensors weight decay reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Tensors with two or more dimensions: no biases, no gains.
    Matrices,
    /// Every tensor.
    All,
}

/// An optimizer and its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Config {
    /// Stochastic gradient descent, plain or with momentum.
    Sgd {
        /// Share of the last step that is kept; 0 is plain.
        momentum: f64,
        /// Added to the gradient, times the weight (PyTorch's SGD).
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay.
    Adamw {
        /// Decay of the mean gradient.
        beta1: f64,
        /// Decay of the mean squared gradient.
        beta2: f64,
        /// Added to the root of the mean square.
        eps: f64,
        /// Share of the weight that is taken away, times the learning rate.
        weight_decay: f64,
        /// What it is taken from.
        decay: Decay,
    },
}

impl Config {
    /// Reads a configuration from JSON and checks it.
    pub fn from_json(json: &str) -> Result<Self> {
        let config: Config = serde_json::from_str(json)
            .map_err(|e| Error::config("optimizer", json, format!("cannot be read: {e}"), "see SGD and AdamW"))?;
        config.validate()?;
        Ok(config)
    }

    /// The configuration as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn validate(&self) -> Result<()> {
        let unit = |field: &str, x: f64| {
            let ok = (0.0..1.0).contains(&x);
            if ok { Ok(()) } else { Err(Error::config(field, x, "is out of range", "use a number in [0, 1)")) }
        };
        let positive = |field: &str, x: f64| {
            let ok = x >= 0.0 && x.is_finite();
            if ok { Ok(()) } else { Err(Error::config(field, x, "is out of range", "use 0 or a positive number")) }
        };
        match *self {
            Config::Sgd { momentum, weight_decay } => {
                unit("momentum", momentum)?;
                positive("weight_decay", weight_decay)
            }
            Config::Adamw { beta1, beta2, eps, weight_decay, .. } => {
                unit("beta1", beta1)?;
                unit("beta2", beta2)?;
                positive("eps", eps)?;
                positive("weight_decay", weight_decay)
            }
        }
    }

    /// Names of the moments that it keeps for each weight.
    fn moments(&self) -> &'static [&'static str] {
        match self {
            Config::Sgd { momentum, .. } if *momentum == 0.0 => &[],
            Config::Sgd { .. } => &["momentum"],
            Config::Adamw { .. } => &["exp_avg", "exp_avg_sq"],
        }
    }
}

/// An optimizer with its state; the moments lie as the weights do.
pub struct Optimizer {
    /// Its numbers.
    pub config: Config,
    /// Updates so far.
    pub steps: u64,
    moments: Vec<Buffer>,
    total: usize,
}

impl Optimizer {
    /// A fresh optimizer for `model`.
    pub fn new(model: &Gpt, config: Config) -> Result<Self> {
        config.validate()?;
        let total = model.layout.total;
        let moments =
            config.moments().iter().map(|_| Buffer::zeros(total, "optimizer state")).collect::<Result<_>>()?;
        Ok(Optimizer { config, steps: 0, moments, total })
    }

    /// One update of every weight from the gradient buffer.
    pub fn step(&mut self, model: &mut Gpt, learning_rate: f64) -> Result<()> {
        self.check_model(model)?;
        if !(learning_rate.is_finite() && learning_rate >= 0.0) {
            return Err(Error::value("step", "learning_rate", learning_rate, "use 0 or a positive number"));
        }
        let (params, grads, layout) = model.update_parts();
        let Some(grads) = grads else {
            return Err(Error::value("step", "gradients", "absent", "call model.backward(x, y) first"));
        };
        self.steps = self.steps.saturating_add(1);
        match self.config {
            Config::Sgd { momentum, weight_decay } => {
                let rule = sgd::Sgd { learning_rate, momentum, weight_decay };
                match self.moments.first_mut() {
                    None => sgd::step(rule, params, grads),
                    Some(buffer) => sgd::step_momentum(rule, params, grads, buffer),
                }
            }
            Config::Adamw { beta1, beta2, eps, weight_decay, decay } => {
                let rule = adamw::AdamW { learning_rate, beta1, beta2, eps, weight_decay, step: self.steps };
                let [mean, square] = &mut self.moments[..] else { unreachable!("AdamW keeps two moments") };
                let decays = |tensor: &Tensor| decay == Decay::All || tensor.is_matrix();
                for tensor in &layout.tensors {
                    let at = tensor.range.clone();
                    let (m, v) = (&mut mean[at.clone()], &mut square[at.clone()]);
                    adamw::step(rule, decays(tensor), &mut params[at.clone()], &grads[at], m, v);
                }
            }
        }
        Ok(())
    }

    fn check_model(&self, model: &Gpt) -> Result<()> {
        if model.layout.total == self.total {
            return Ok(());
        }
        Err(Error::value("step", "model", "of another size", "use the optimizer with the model it was made for"))
    }

    /// Writes moments and step count to `path`, under the names of the weights they belong to.
    pub fn save(&self, path: &Path, model: &Gpt) -> Result<()> {
        self.check_model(model)?;
        let moments = self.config.moments().iter().zip(&self.moments);
        let tensors: Vec<_> = moments
            .flat_map(|(moment, buffer)| {
                model.layout.tensors.iter().map(move |tensor| Output {
                    name: format!("{moment}/{}", tensor.name),
                    shape: tensor.shape.clone(),
                    data: Cow::Borrowed(&buffer[tensor.range.clone()]),
                })
            })
            .chain([self.steps_tensor()])
            .collect();
        write(path, &tensors, HashMap::new())
    }

    /// The step count in four 16-bit digits, each exact as a float.
    fn steps_tensor(&self) -> Output<'static> {
        let digits = (0..4).map(|i| ((self.steps >> (16 * i)) & 0xffff) as f32).collect();
        Output { name: "steps".to_string(), shape: vec![4], data: Cow::Owned(digits) }
    }

    /// Reads what [`Optimizer::save`] wrote; nothing is changed unless everything fits.
    pub fn load(&mut self, path: &Path, model: &Gpt) -> Result<()> {
        self.check_model(model)?;
        let found = Reader::open(path)?.tensors(|_| true)?;
        let wrong = |what: String| Error::checkpoint(path, what, "it belongs to another model or optimizer");
        let mut moments = Vec::new();
        for moment in self.config.moments() {
            let mut buffer = Buffer::zeros(self.total, "optimizer state")?;
            for tensor in &model.layout.tensors {
                let name = format!("{moment}/{}", tensor.name);
                match found.get(&name) {
                    Some(input) if input.shape == tensor.shape => {
                        buffer[tensor.range.clone()].copy_from_slice(&input.data);
                    }
                    Some(input) => return Err(wrong(format!("tensor {name} has shape {:?}", input.shape))),
                    None => return Err(wrong(format!("has no tensor {name}"))),
                }
            }
            moments.push(buffer);
        }
        let digits = &found.get("steps").ok_or_else(|| wrong("has no tensor steps".to_string()))?.data;
        if digits.len() != 4 || !digits.iter().all(|d| (0.0..65536.0).contains(d) && d.fract() == 0.0) {
            return Err(wrong(format!("has a step count of {digits:?}")));
        }
        if found.len() != moments.len() * model.layout.tensors.len() + 1 {
            return Err(wrong("has more tensors than this optimizer keeps".to_string()));
        }
        self.steps = digits.iter().enumerate().map(|(i, &d)| (d as u64) << (16 * i)).sum();
        self.moments = moments;
        Ok(())
    }
}
