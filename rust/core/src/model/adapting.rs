//! What of a model is trained, and the adapters over it: by name, at most one in use.
//!
//! An adapter in use is all that is trained. Without one, the weights are that are not frozen.

use super::Gpt;
use super::adapter::Adapter;
use super::adapter::spec::Spec;
use super::gradients::GradientBuffer;
use super::params::Tensor;
use super::source::Numbers;
use super::trained::Trained;
use crate::buffer::parts_mut;
use crate::error::{Error, Result};
use std::borrow::Cow;
use std::ops::Range;

/// The adapters of a model.
#[derive(Default)]
pub struct Adapters {
    named: Vec<(String, Adapter)>,
    /// The one in use, by its place.
    active: Option<usize>,
}

impl Adapters {
    /// The one in use.
    pub fn active(&self) -> Option<&Adapter> {
        self.active.map(|i| &self.named[i].1)
    }

    fn active_mut(&mut self) -> Option<&mut Adapter> {
        self.active.map(|i| &mut self.named[i].1)
    }

    fn find(&self, name: &str) -> Result<usize> {
        self.named.iter().position(|(known, _)| known == name).ok_or_else(|| {
            let known: Vec<_> = self.named.iter().map(|(known, _)| known.as_str()).collect();
            let remedy = match known[..] {
                [] => "this model has no adapters; add or load one".to_string(),
                _ => format!("the adapters of this model: {}", known.join(", ")),
            };
            Error::value("adapter", "name", format!("{name:?}"), remedy)
        })
    }
}

fn unknown_tensor(name: &str) -> Error {
    Error::value("tensor", "name", format!("{name:?}"), "see tensor_names() for the names of this model")
}

/// A tensor that is trained.
pub struct Slot<'a> {
    /// Its name and shape.
    pub tensor: &'a Tensor,
    /// Its numbers.
    pub w: &'a mut [f32],
    /// Where their gradients lie.
    pub place: Range<usize>,
}

impl Gpt {
    /// The names of the projections that an adapter may change.
    pub fn linear_modules(&self) -> impl Iterator<Item = &str> {
        let linears = self.layout.blocks.iter().flat_map(|block| block.linears());
        linears.flat_map(|linear| &linear.parts).map(|part| part.name.as_str())
    }

    /// Makes an adapter that changes nothing yet; it is not in use.
    pub fn add_adapter(&mut self, name: &str, spec: Spec, seed: u64) -> Result<()> {
        if self.adapters.find(name).is_ok() {
            let remedy = "choose another name, or delete that adapter first";
            return Err(Error::value("adapter", "name", format!("{name:?}, which there is"), remedy));
        }
        let adapter = Adapter::new(&self.layout, self.bare(), spec, seed)?;
        self.adapters.named.push((name.to_string(), adapter));
        Ok(())
    }

    /// Forgets an adapter. If it is in use, none is then, and gradients are dropped.
    pub fn delete_adapter(&mut self, name: &str) -> Result<()> {
        let place = self.adapters.find(name)?;
        let was_in_use = self.adapters.active == Some(place);
        let active = self.adapters.active.filter(|&active| active != place);
        self.adapters.named.remove(place);
        self.adapters.active = active.map(|active| if active > place { active - 1 } else { active });
        if active.is_none() && was_in_use {
            self.retrain(None);
        }
        Ok(())
    }

    /// Uses an adapter, or none. Gradients are dropped.
    pub fn set_adapter(&mut self, name: Option<&str>) -> Result<()> {
        self.adapters.active = name.map(|name| self.adapters.find(name)).transpose()?;
        self.retrain(None);
        Ok(())
    }

    /// The adapters' names.
    pub fn adapters(&self) -> impl Iterator<Item = &str> {
        self.adapters.named.iter().map(|(name, _)| name.as_str())
    }

    /// The name of the adapter in use.
    pub fn active_adapter(&self) -> Option<&str> {
        self.adapters.active.map(|i| self.adapters.named[i].0.as_str())
    }

    /// An adapter by its name.
    pub fn adapter(&self, name: &str) -> Result<&Adapter> {
        Ok(&self.adapters.named[self.adapters.find(name)?].1)
    }

    /// The same, to be changed.
    pub fn adapter_mut(&mut self, name: &str) -> Result<&mut Adapter> {
        let place = self.adapters.find(name)?;
        self.changes += 1;
        Ok(&mut self.adapters.named[place].1)
    }

    /// Freezes all weights but those that `trains` is true for, by name. Gradients are dropped.
    pub fn freeze(&mut self, trains: impl Fn(&str) -> bool) {
        let unfrozen = self.layout.tensors.iter().map(|tensor| trains(&tensor.name)).collect();
        self.retrain(Some(unfrozen));
    }

    /// Says anew what is trained.
    pub(super) fn retrain(&mut self, unfrozen: Option<Vec<bool>>) {
        if let Some(unfrozen) = unfrozen {
            self.unfrozen = unfrozen;
        }
        self.changes += 1;
        self.trained = match self.adapters.active() {
            Some(adapter) => Trained::new(&self.layout, vec![false; self.unfrozen.len()], adapter.params().len()),
            None => Trained::new(&self.layout, self.unfrozen.clone(), 0),
        };
        self.grads = None;
    }

    /// The tensors that are trained, in order.
    pub fn trained_tensors(&self) -> Vec<&Tensor> {
        let base = self.layout.tensors.iter().zip(self.trained.tensors());
        let adapter = self.adapters.active().map_or(&[][..], |adapter| &adapter.tensors);
        base.filter(|(_, trained)| **trained).map(|(tensor, _)| tensor).chain(adapter).collect()
    }

    /// The same, each with where its gradients lie.
    pub fn trained_places(&self) -> Vec<(&Tensor, Range<usize>)> {
        let place = |tensor: &Tensor| match self.layout.get(&tensor.name) {
            Some(_) => self.trained.place(&tensor.range).expect("a tensor that is trained"),
            None => self.trained.adapter_place(&tensor.range),
        };
        self.trained_tensors().into_iter().map(|tensor| (tensor, place(tensor))).collect()
    }

    /// Numbers that are trained.
    pub fn num_trained(&self) -> usize {
        self.trained_tensors().iter().map(|tensor| tensor.range.len()).sum()
    }

    /// The length of the buffer of gradients, with the room between tensors.
    pub fn gradients_len(&self) -> usize {
        self.trained.total()
    }

    /// What is trained, to be changed, and its gradients (none before the first backward pass).
    pub fn update_parts(&mut self) -> (Vec<Slot<'_>>, Option<&mut GradientBuffer>) {
        match self.trained.has_weights() {
            true => self.weights_change(),
            false => self.changes += 1, // an adapter's
        }
        let Gpt { layout, params, trained, adapters, grads, .. } = self;
        let kept = || layout.tensors.iter().zip(trained.tensors()).filter(|(_, trained)| **trained);
        let parts = parts_mut(params, kept().map(|(tensor, _)| tensor.range.clone()));
        let base = kept().zip(parts).map(|((tensor, _), w)| {
            let place = trained.place(&tensor.range).expect("a tensor that is trained");
            Slot { tensor, w, place }
        });
        let mut slots: Vec<_> = base.collect();
        if let Some(adapter) = adapters.active_mut() {
            let (tensors, params) = adapter.parts_mut();
            let parts = parts_mut(params, tensors.iter().map(|tensor| tensor.range.clone()));
            slots.extend(tensors.iter().zip(parts).map(|(tensor, w)| {
                let place = trained.adapter_place(&tensor.range);
                Slot { tensor, w, place }
            }));
        }
        (slots, grads.as_mut())
    }

    /// A tensor of the weights or of the adapter in use, with its numbers: those that products see, where it is kept in
    /// few bits. An error where there is none of that name.
    pub fn tensor(&self, name: &str) -> Result<(&Tensor, Cow<'_, [f32]>)> {
        if let Some(tensor) = self.layout.get(name) {
            return Ok((tensor, self.numbers(tensor)));
        }
        let adapter = self.adapters.active().ok_or_else(|| unknown_tensor(name))?;
        let tensor = adapter.get(name).ok_or_else(|| unknown_tensor(name))?;
        Ok((tensor, Cow::Borrowed(&adapter.params()[tensor.range.clone()])))
    }

    /// Some of its numbers: the first, and others at even distances behind it, as [`Numbers::sample`] takes them of a file.
    pub fn sample(&self, name: &str, wanted: usize) -> Result<Vec<f32>> {
        let (tensor, numbers) = self.tensor(name)?;
        (&*numbers).sample(tensor.count(), wanted)
    }

    /// The numbers of such a tensor, to be changed; not of one that is kept in few bits.
    pub fn tensor_mut(&mut self, name: &str) -> Result<(&Tensor, &mut [f32])> {
        if let Some(tensor) = self.layout.get(name) {
            if !tensor.is_flat() {
                self.refuse_quantized("set_tensor")?;
            }
            self.version += 1;
            self.changes += 1;
            return Ok((tensor, &mut self.params[tensor.range.clone()]));
        }
        self.changes += 1;
        let unknown = || unknown_tensor(name);
        let (tensors, params) = self.adapters.active_mut().ok_or_else(unknown)?.parts_mut();
        let tensor = tensors.iter().find(|tensor| tensor.name == name).ok_or_else(unknown)?;
        Ok((tensor, &mut params[tensor.range.clone()]))
    }

    /// All gradients, to be scaled; none before the first backward pass.
    pub fn gradients_mut(&mut self) -> Option<&mut GradientBuffer> {
        self.grads.as_mut()
    }

    /// The gradients of such a tensor; none if it is frozen, or before the first backward pass.
    pub fn gradient(&mut self, name: &str) -> Option<&[f32]> {
        let place = match self.layout.get(name) {
            Some(tensor) => self.trained.place(&tensor.range)?,
            None => self.trained.adapter_place(&self.adapters.active()?.get(name)?.range),
        };
        self.grads().map(|grads| &grads[place])
    }

    /// The first tensor in the order of the forward pass that holds a NaN or an infinity, among weights or gradients.
    pub fn first_nonfinite(&self, gradients: bool) -> Option<&str> {
        let finite = |numbers: &[f32]| numbers.iter().all(|x| x.is_finite());
        let bad = |tensor: &&Tensor| match (gradients, &self.grads) {
            (false, _) => self.tensor(&tensor.name).is_ok_and(|(_, numbers)| !finite(&numbers)),
            (true, None) => false,
            (true, Some(grads)) => {
                let base = self.layout.get(&tensor.name).is_some();
                let place = if base {
                    self.trained.place(&tensor.range)
                } else {
                    Some(self.trained.adapter_place(&tensor.range))
                };
                place.is_some_and(|place| grads.has_nonfinite(&place))
            }
        };
        let adapter = self.adapters.active().map_or(&[][..], |adapter| &adapter.tensors);
        self.layout.tensors.iter().chain(adapter).find(bad).map(|tensor| tensor.name.as_str())
    }
}
