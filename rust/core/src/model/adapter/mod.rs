//! Low-rank adapters: what changes a layer whose own weights stay as they are.
//!
//! ```text
//! y = x W + s (x A^T) B^T + b                     A (r, in), B (out, r)
//! y = (x W + s (x A^T) B^T) g + b                 with g = m / |rows of W^T + s B A|, m (out,)
//! ```
//!
//! The first is LoRA (Hu et al. 2021), the second DoRA (Liu et al. 2024), whose lengths count as constants in the
//! gradient (section 4.3 there). [`spec`] says what an adapter is asked to be, [`apply`] is its part in the forward and
//! the backward pass, [`prepared`] what that reads beside the numbers, [`magnitude`] DoRA's factors. Tensors have PEFT's names and shapes.

pub mod apply;
pub mod magnitude;
pub mod prepared;
pub mod spec;

use super::linear::Weights;
use super::params::{Layout, Linear, Tensor};
use crate::buffer::{Buffer, padded};
use crate::error::{Error, Result};
use crate::io::safetensors::{Output, Reader, write};
use crate::rng::{Philox, Stream};
use prepared::Prepared;
use spec::{Module, Spec};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What PEFT writes before the name of a module.
const PREFIX: &str = "base_model.model.";

/// A projection with its share of an adapter.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its columns of y.
    pub columns: Range<usize>,
    /// Its columns among those of x A^T of the layer.
    pub ranks: Range<usize>,
    /// Where B lies, `(out, r)`.
    pub b: Range<usize>,
    /// Where the magnitude of each row lies, `(out,)`.
    pub magnitude: Option<Range<usize>>,
}

/// A linear layer's share of an adapter.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its projections that are adapted, in the order of their columns.
    pub parts: Vec<Part>,
    /// Rows of A of all of them.
    pub rank: usize,
    /// Where these lie, one behind the other, `(rank, in)`.
    pub a: Range<usize>,
    /// The factor of each, `(rank,)`.
    pub scales: Vec<f32>,
}

/// An adapter with its numbers.
pub struct Adapter {
    /// What it is.
    pub spec: Spec,
    /// Where each tensor lies.
    pub tensors: Vec<Tensor>,
    /// All numbers.
    params: Buffer,
    /// Counts their changes.
    version: u64,
    /// By the number of the linear layer.
    layers: Vec<Option<Layer>>,
    /// What passes read beside the numbers, for those and the weights that it was last made of.
    prepared: Mutex<Option<Arc<Prepared>>>,
}

/// The name of a part of a module's adapter.
fn tensor_name(module: &str, part: &str) -> String {
    let end = if part == "lora_magnitude_vector" { "" } else { ".weight" };
    format!("{PREFIX}{module}.{part}{end}")
}

/// Hands out places one after the other.
struct Planner {
    tensors: Vec<Tensor>,
    total: usize,
}

impl Planner {
    fn tensor(&mut self, name: String, shape: Vec<usize>) -> Range<usize> {
        let range = self.total..self.total + shape.iter().product::<usize>();
        self.total = range.end;
        self.tensors.push(Tensor { name, shape, range: range.clone() });
        range
    }

    /// Goes on at a cache line.
    fn align(&mut self) {
        self.total = padded(self.total);
    }

    /// The place of a layer's adapter, of whose projections some are in `modules`.
    fn layer(&mut self, linear: &Linear, modules: &HashMap<&str, &Module>, dora: bool) -> Option<Layer> {
        let adapted: Vec<_> =
            linear.parts.iter().filter_map(|part| modules.get(&*part.name).map(|module| (part, *module))).collect();
        if adapted.is_empty() {
            return None;
        }
        let (start, mut rank, mut scales, mut parts) = (self.total, 0, Vec::new(), Vec::new());
        for (_, module) in &adapted {
            self.tensor(tensor_name(&module.name, "lora_A"), vec![module.r, linear.n_in]);
        }
        let a = start..self.total;
        self.align();
        for (part, module) in adapted {
            let (out, columns) = (part.columns.len(), part.columns.clone());
            let b = self.tensor(tensor_name(&module.name, "lora_B"), vec![out, module.r]);
            self.align();
            let name = tensor_name(&module.name, "lora_magnitude_vector");
            let magnitude = dora.then(|| self.tensor(name, vec![out]));
            self.align();
            parts.push(Part { columns, ranks: rank..rank + module.r, b, magnitude });
            scales.resize(rank + module.r, module.scale);
            rank += module.r;
        }
        Some(Layer { parts, rank, a, scales })
    }
}

impl Adapter {
    /// A fresh adapter for a model of this layout, that changes nothing yet: A is uniform within `1 / sqrt(in)`, as
    /// PEFT's, B is 0, and magnitudes are the lengths of the rows of `weights`.
    pub fn new(layout: &Layout, weights: Weights<'_>, spec: Spec, seed: u64) -> Result<Self> {
        let known = |name: &str| {
            layout.blocks.iter().any(|block| block.linears().iter().any(|l| l.parts.iter().any(|p| p.name == name)))
        };
        if let Some(unknown) = spec.modules.iter().find(|module| !known(&module.name)) {
            let remedy = "name linear layers of this model's blocks (see linear_modules())";
            return Err(Error::value("adapter", "modules", &unknown.name, remedy));
        }
        let modules = spec.modules.iter().map(|module| (&*module.name, module)).collect();
        let mut plan = Planner { tensors: Vec::new(), total: 0 };
        let layers: Vec<_> = layout
            .linears()
            .map(
                |linear| if linear.index == layout.head.index { None } else { plan.layer(linear, &modules, spec.dora) },
            )
            .collect();
        let params = Buffer::zeros(plan.total, "adapter")?;
        let (tensors, prepared) = (plan.tensors, Mutex::new(None));
        let mut adapter = Adapter { spec, tensors, params, version: 0, layers, prepared };
        adapter.initialise(seed);
        adapter.begin_magnitudes(layout, weights)?;
        Ok(adapter)
    }

    fn initialise(&mut self, seed: u64) {
        for (i, tensor) in self.tensors.iter().enumerate().filter(|(_, tensor)| tensor.name.contains("lora_A")) {
            let (numbers, bound) =
                (Philox::new(seed, Stream::Adapter, i as u64), 1.0 / (tensor.shape[1] as f64).sqrt());
            for (j, x) in self.params[tensor.range.clone()].iter_mut().enumerate() {
                *x = ((2.0 * numbers.uniform(j as u64) - 1.0) * bound) as f32;
            }
        }
    }

    /// All numbers.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// All numbers, to be changed.
    pub fn params_mut(&mut self) -> &mut [f32] {
        self.version += 1;
        &mut self.params
    }

    /// The tensors with all numbers, to be changed.
    pub fn parts_mut(&mut self) -> (&[Tensor], &mut [f32]) {
        self.version += 1;
        (&self.tensors, &mut self.params)
    }

    /// A layer's share, if it has one.
    pub fn layer(&self, linear: &Linear) -> Option<&Layer> {
        self.layers[linear.index].as_ref()
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Writes all tensors to `path`, whole or not at all.
    pub fn save(&self, path: &Path, metadata: HashMap<String, String>) -> Result<()> {
        let output = |tensor: &Tensor| Output {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            data: Cow::Borrowed(&self.params[tensor.range.clone()]),
        };
        write(path, &self.tensors.iter().map(output).collect::<Vec<_>>(), metadata)
    }

    /// Reads what [`Adapter::save`] wrote; nothing is changed unless everything fits.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        let reader = Reader::open(path)?;
        let wrong =
            |what: String| Error::checkpoint(path, what, "give the file of an adapter with these layers and ranks");
        let mut params = Buffer::zeros(self.params.len(), "adapter")?;
        for tensor in &self.tensors {
            let Some(raw) = reader.raw(&tensor.name) else {
                return Err(wrong(format!("has no tensor {}", tensor.name)));
            };
            if raw.shape != tensor.shape {
                return Err(wrong(format!("tensor {} has shape {:?}", tensor.name, raw.shape)));
            }
            reader.read_into(&tensor.name, &mut params[tensor.range.clone()])?;
        }
        if let Some(more) = reader.names().into_iter().find(|name| self.get(name).is_none()) {
            return Err(wrong(format!("tensor {more} has no place in this adapter")));
        }
        self.params = params;
        self.version += 1;
        Ok(())
    }
}
