//! Which optimizer, and its numbers, each checked before anything is computed with it.

use crate::error::{Error, Result};
use crate::model::params::Tensor;
use serde::{Deserialize, Serialize};

/// Which tensors weight decay reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Tensors with two or more dimensions: no biases, no gains.
    Matrices,
    /// Every tensor.
    All,
}

impl Decay {
    /// `weight_decay` where it reaches `tensor`, else 0.
    pub fn of(self, tensor: &Tensor, weight_decay: f64) -> f64 {
        if self == Decay::All || tensor.is_matrix() { weight_decay } else { 0.0 }
    }
}

/// How the rate of an orthogonal update follows from the shape of its matrix; names are `torch.optim.Muon`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdjustLr {
    /// `lr sqrt(max(1, out / in))` (Jordan 2024).
    Original,
    /// `0.2 lr sqrt(max(out, in))`: elements of the size of AdamW's, so that its rates fit (Liu et al., "Muon is
    /// Scalable for LLM Training", 2025).
    MatchRmsAdamw,
}

/// The numbers that are Adam's own.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
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
    /// The sign of a momentum, with decoupled weight decay.
    Lion {
        /// Share of the momentum in the step.
        beta1: f64,
        /// Share of the momentum that is kept.
        beta2: f64,
        /// Share of the weight that is taken away, times the learning rate.
        weight_decay: f64,
        /// What it is taken from.
        decay: Decay,
    },
    /// Orthogonalised momentum for the matrices of the blocks, AdamW for everything else.
    Muon {
        /// Share of the momentum that is kept.
        momentum: f64,
        /// How rates follow from shapes.
        adjust_lr: AdjustLr,
        /// AdamW's learning rate, in units of the step's.
        adam_rate: f64,
        /// AdamW's decay of the mean gradient.
        beta1: f64,
        /// AdamW's decay of the mean squared gradient.
        beta2: f64,
        /// Added to the root of AdamW's mean square.
        eps: f64,
        /// Share of the weight that is taken away, times the learning rate (AdamW's for its tensors).
        weight_decay: f64,
        /// What it is taken from among AdamW's tensors.
        decay: Decay,
    },
}

impl Config {
    /// Reads a configuration from JSON and checks it.
    pub fn from_json(json: &str) -> Result<Self> {
        let remedy = "see SGD, AdamW, Lion and Muon";
        let config: Config = serde_json::from_str(json)
            .map_err(|e| Error::config("optimizer", json, format!("cannot be read: {e}"), remedy))?;
        config.validate()?;
        Ok(config)
    }

    /// The configuration as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// That every number is in range.
    pub fn validate(&self) -> Result<()> {
        match *self {
            Config::Sgd { momentum, weight_decay } => {
                share("momentum", momentum)?;
                positive("weight_decay", weight_decay)
            }
            Config::Adamw { beta1, beta2, eps, weight_decay, .. } => {
                adam(Adam { beta1, beta2, eps })?;
                positive("weight_decay", weight_decay)
            }
            Config::Lion { beta1, beta2, weight_decay, .. } => {
                share("beta1", beta1)?;
                share("beta2", beta2)?;
                positive("weight_decay", weight_decay)
            }
            Config::Muon { momentum, adam_rate, beta1, beta2, eps, weight_decay, .. } => {
                share("momentum", momentum)?;
                positive("adam_rate", adam_rate)?;
                adam(Adam { beta1, beta2, eps })?;
                positive("weight_decay", weight_decay)
            }
        }
    }
}

fn adam(Adam { beta1, beta2, eps }: Adam) -> Result<()> {
    share("beta1", beta1)?;
    share("beta2", beta2)?;
    positive("eps", eps)
}

fn share(field: &str, x: f64) -> Result<()> {
    let ok = (0.0..1.0).contains(&x);
    if ok { Ok(()) } else { Err(Error::config(field, x, "is out of range", "use a number in [0, 1)")) }
}

fn positive(field: &str, x: f64) -> Result<()> {
    let ok = x >= 0.0 && x.is_finite();
    if ok { Ok(()) } else { Err(Error::config(field, x, "is out of range", "use 0 or a positive number")) }
}
