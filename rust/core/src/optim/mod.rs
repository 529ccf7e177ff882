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
pub mod share;
mod state;
#[cfg(test)]
mod tests;

pub use config::Config;

use crate::buffer::parts_mut;
use crate::error::{Error, Result};
use crate::model::Gpt;
use crate::model::adapting;
use crate::model::buckets::within;
use crate::model::params::Tensor;
use crate::parallel;
use crate::simd::{Isa, isa};
use config::Adam;
use pass::{Piece, Rule};
use share::{Part, Share};
use state::Moment;
use std::array::from_fn;
use std::ops::Range;
use std::path::Path;

/// A tensor, or a part of one, with its weights, and its gradients but for a factor.
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
    fn new(isa: Isa, slots: Vec<adapting::Slot<'a>>, share: &Share, grads: &'a [f32], factor: f32) -> Self {
        let slots = slots.into_iter().flat_map(|adapting::Slot { tensor, w, place }| {
            let parts = share.of(&place);
            let pieces = parts_mut(w, parts.clone().into_iter().map(move |part| within(&part, &place)));
            parts.into_iter().zip(pieces).map(move |(part, w)| Slot { tensor, w, g: &grads[part] })
        });
        Weights { isa, factor, slots: slots.collect() }
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
    /// What it updates, and keeps moments for.
    share: Share,
    moments: Vec<Moment>,
    /// Where Muon works.
    rooms: muon::Rooms,
    /// What it was made for: names of what is trained, and how many numbers each has.
    made_for: Vec<(String, usize)>,
    /// The length of the gradients' buffer.
    total: usize,
}

fn unknown_moment(name: &str) -> Error {
    Error::value("optimizer", "moment", format!("{name:?}"), "see moment_names for those that this one keeps")
}

/// Names and lengths of what is trained of a model.
fn trained(model: &Gpt) -> Vec<(String, usize)> {
    model.trained_tensors().into_iter().map(|tensor| (tensor.name.clone(), tensor.range.len())).collect()
}

impl Optimizer {
    /// A fresh optimizer for `model`.
    pub fn new(model: &Gpt, config: Config) -> Result<Self> {
        Optimizer::of_share(model, config, Share::ALL)
    }

    /// One that updates a part of what is trained. Muon's matrices must not be cut.
    pub fn of_share(model: &Gpt, config: Config, share: Share) -> Result<Self> {
        config.validate()?;
        let parts = share.parts(model.trained_places());
        let cut = |part: &&Part<'_>| matches!(config, Config::Muon { .. }) && !part.whole && muon::takes(part.tensor);
        if let Some(part) = parts.iter().find(cut) {
            let remedy = "Muon updates whole matrices; give it all of one or nothing";
            return Err(Error::value("optimizer", "share", format!("a part of {}", part.tensor.name), remedy));
        }
        let moments = state::zeros(&config, &parts)?;
        let total = model.gradients_len();
        Ok(Optimizer {
            config,
            steps: 0,
            share,
            moments,
            rooms: muon::Rooms::default(),
            made_for: trained(model),
            total,
        })
    }

    /// The names of the numbers that it remembers of each weight.
    pub fn moments(&self) -> impl Iterator<Item = &'static str> {
        self.moments.iter().map(Moment::name)
    }

    /// What it remembers of the weights whose gradients lie in `place`: 0 of those outside of its share.
    pub fn moment(&self, name: &str, place: Range<usize>) -> Result<Vec<f32>> {
        self.check_place(&place)?;
        let mut values = vec![0.0; place.len()];
        let moment = self.moments.iter().find(|moment| moment.name() == name);
        moment.ok_or_else(|| unknown_moment(name))?.read(&place, &mut values);
        Ok(values)
    }

    /// Sets what it remembers, from the weight on whose gradient lies at `start`; what is outside of its share is passed
    /// over.
    pub fn set_moment(&mut self, name: &str, start: usize, values: &[f32]) -> Result<()> {
        self.check_place(&(start..start.saturating_add(values.len())))?;
        let moment = self.moments.iter_mut().find(|moment| moment.name() == name);
        moment.ok_or_else(|| unknown_moment(name))?.write(start, values);
        Ok(())
    }

    /// One update of everything in its share from the gradients, which stay what they are.
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
        let weights = Weights::new(isa, slots, &self.share, g, factor);
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

    fn check_place(&self, place: &Range<usize>) -> Result<()> {
        if place.start <= place.end && place.end <= self.total {
            return Ok(());
        }
        Err(Error::value("optimizer", "place", format!("{place:?}"), format!("there are gradients 0..{}", self.total)))
    }

    fn check_model(&self, model: &Gpt) -> Result<()> {
        if trained(model) == self.made_for {
            return Ok(());
        }
        let remedy = "use the optimizer with the model it was made for, or make another after freezing or adapting it";
        Err(Error::value("step", "model", "one of which other tensors are trained", remedy))
    }

    fn check_all(&self, op: &'static str) -> Result<()> {
        if self.share.is_all() {
            return Ok(());
        }
        let remedy = "bring the moments of all processes into one that updates everything";
        Err(Error::value(op, "optimizer", "one of a share", remedy))
    }

    /// Writes moments and step count to `path`, under the names of the weights they belong to.
    pub fn save(&self, path: &Path, model: &Gpt) -> Result<()> {
        self.check_model(model)?;
        self.check_all("save")?;
        state::save(path, &model.trained_tensors(), &self.moments, self.steps)
    }

    /// Reads what [`Optimizer::save`] wrote; nothing is changed unless everything fits.
    pub fn load(&mut self, path: &Path, model: &Gpt) -> Result<()> {
        self.check_model(model)?;
        self.check_all("load")?;
        let parts = Share::ALL.parts(model.trained_places());
        (self.moments, self.steps) = state::load(path, &self.config, &parts)?;
        Ok(())
    }
}
