//! Gradients to new weights: formula and paper in each file's head.
//!
//! [`config`] says which optimizer, [`state`] keeps its moments, [`pass`] brings the rule of [`sgd`], [`adamw`] or
//! [`lion`] to every weight in one pass; [`muon`] looks at whole matrices. [`clip`] measures gradients before.

pub mod adamw;
pub mod clip;
pub mod config;
pub mod lion;
pub mod muon;
pub mod newton_schulz;
pub mod pass;
pub mod sgd;
mod state;
#[cfg(test)]
mod tests;

pub use config::Config;

use crate::error::{Error, Result};
use crate::model::Gpt;
use crate::model::adapting;
use crate::model::params::Tensor;
use crate::parallel;
use crate::simd::{Isa, isa};
use config::Adam;
use pass::{Piece, Rule};
use state::Moment;
use std::array::from_fn;
use std::path::Path;

/// A tensor with its weights, and its gradients but for a factor.
pub struct Slot<'a> {
    tensor: &'a Tensor,
    w: &'a mut [f32],
    g: &'a [f32],
}

/// What a step works on.
pub struct Weights<'a> {
    isa: Isa,
    /// Of all gradients.
    factor: f32,
    slots: Vec<Slot<'a>>,
}

impl<'a> Weights<'a> {
    fn new(isa: Isa, slots: Vec<adapting::Slot<'a>>, grads: &'a [f32], factor: f32) -> Self {
        let slot = |adapting::Slot { tensor, w, place }| Slot { tensor, w, g: &grads[place] };
        Weights { isa, factor, slots: slots.into_iter().map(slot).collect() }
    }

    /// The tensors that `takes` is true for, and the others.
    fn split(self, takes: impl Fn(&Tensor) -> bool) -> (Self, Self) {
        let Weights { isa, factor, slots } = self;
        let (taken, left) = slots.into_iter().partition(|slot| takes(slot.tensor));
        (Weights { isa, factor, slots: taken }, Weights { isa, factor, slots: left })
    }

    /// One pass of the rule that `rule` has for each tensor; `moments` have numbers for just these tensors.
    fn update<R: Rule<N>, const N: usize>(self, moments: [&mut Moment; N], rule: impl Fn(&Tensor) -> R) {
        let mut parts = moments.map(Moment::parts_mut);
        let piece = |Slot { tensor, w, g }| {
            let state = from_fn(|i| parts[i].next().expect("state for each tensor"));
            Piece { rule: rule(tensor), w, g, state }
        };
        pass::run(self.isa, self.slots.into_iter().map(piece), self.factor);
    }
}

/// An optimizer with its state.
pub struct Optimizer {
    /// Its numbers.
    pub config: Config,
    /// Updates so far.
    pub steps: u64,
    moments: Vec<Moment>,
    /// Where Muon works.
    rooms: muon::Rooms,
    /// What it was made for: names of what is trained, and how many numbers each has.
    made_for: Vec<(String, usize)>,
}

/// Names and lengths of what is trained of a model.
fn trained(model: &Gpt) -> Vec<(String, usize)> {
    model.trained_tensors().into_iter().map(|tensor| (tensor.name.clone(), tensor.range.len())).collect()
}

impl Optimizer {
    /// A fresh optimizer for `model`.
    pub fn new(model: &Gpt, config: Config) -> Result<Self> {
        config.validate()?;
        let moments = state::zeros(&config, &model.trained_tensors())?;
        Ok(Optimizer { config, steps: 0, moments, rooms: muon::Rooms::default(), made_for: trained(model) })
    }

    /// One update of everything that is trained from the gradients, which stay what they are.
    pub fn step(&mut self, model: &mut Gpt, learning_rate: f64) -> Result<()> {
        self.check_model(model)?;
        if !(learning_rate.is_finite() && learning_rate >= 0.0) {
            return Err(Error::value("step", "learning_rate", learning_rate, "use 0 or a positive number"));
        }
        let isa = isa::current();
        parallel::install(|| self.update(isa, model, learning_rate))
    }

    fn update(&mut self, isa: Isa, model: &mut Gpt, learning_rate: f64) -> Result<()> {
        let (slots, grads) = model.update_parts();
        let Some(grads) = grads else {
            return Err(Error::value("step", "gradients", "absent", "call model.backward(x, y) first"));
        };
        let steps = self.steps.saturating_add(1);
        let (g, factor) = grads.pending();
        let weights = Weights::new(isa, slots, g, factor);
        match (&self.config, &mut self.moments[..]) {
            (&Config::Sgd { momentum, weight_decay }, state) => {
                let rule = sgd::Rule::new(learning_rate, momentum, weight_decay);
                match state {
                    [] => weights.update([], |_| rule),
                    state => weights.update([&mut state[0]], |_| rule),
                }
            }
            (&Config::Adamw { beta1, beta2, eps, weight_decay, decay }, [mean, square]) => {
                let adam = Adam { beta1, beta2, eps };
                let rule = |tensor: &_| adamw::Rule::new(adam, learning_rate, decay.of(tensor, weight_decay), steps);
                weights.update([mean, square], rule);
            }
            (&Config::Lion { beta1, beta2, weight_decay, decay }, [mean]) => {
                let rule = |tensor: &_| lion::Rule::new([beta1, beta2], learning_rate, decay.of(tensor, weight_decay));
                weights.update([mean], rule);
            }
            (&Config::Muon { momentum, adjust_lr, weight_decay, decay, adam_rate, beta1, beta2, eps }, state) => {
                let [buffer, mean, square] = state else { unreachable!("Muon keeps three moments") };
                let (matrices, rest) = weights.split(muon::takes);
                let rule = muon::Muon { learning_rate, momentum, weight_decay, adjust_lr };
                muon::step(rule, matrices, buffer, &mut self.rooms)?;
                let (adam, rate) = (Adam { beta1, beta2, eps }, learning_rate * adam_rate);
                let rule = |tensor: &_| adamw::Rule::new(adam, rate, decay.of(tensor, weight_decay), steps);
                rest.update([mean, square], rule);
            }
            (config, state) => unreachable!("{config:?} does not keep {} moments", state.len()),
        }
        self.steps = steps;
        Ok(())
    }

    fn check_model(&self, model: &Gpt) -> Result<()> {
        if trained(model) == self.made_for {
            return Ok(());
        }
        let remedy = "use the optimizer with the model it was made for, or make another after freezing or adapting it";
        Err(Error::value("step", "model", "one of which other tensors are trained", remedy))
    }

    /// Writes moments and step count to `path`, under the names of the weights they belong to.
    pub fn save(&self, path: &Path, model: &Gpt) -> Result<()> {
        self.check_model(model)?;
        state::save(path, &model.trained_tensors(), &self.moments, self.steps)
    }

    /// Reads what [`Optimizer::save`] wrote; nothing is changed unless everything fits.
    pub fn load(&mut self, path: &Path, model: &Gpt) -> Result<()> {
        self.check_model(model)?;
        (self.moments, self.steps) = state::load(path, &self.config, &model.trained_tensors())?;
        Ok(())
    }
}
