//! Weights to and from safetensors files, under Hugging Face's names.
//!
//! GPT-2's format always has biases; a model without them is written with zeros in their place, so that `transformers`
//! computes the same logits, and reads them back as long as they are zeros.

use super::Gpt;
use super::params::Tensor;
use crate::error::{Error, Result};
use crate::io::safetensors::{Input, Output, Reader, write};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Tensors of old GPT-2 files that are no weights: causal masks.
const NOT_WEIGHTS: [&str; 2] = [".attn.bias", ".attn.masked_bias"];

/// The output projection's name; absent from the layout when it is tied.
const LM_HEAD: &str = "lm_head.weight";

impl Gpt {
    /// Writes all weights to `path`, whole or not at all.
    pub fn save(&self, path: &Path, metadata: HashMap<String, String>) -> Result<()> {
        let own = self.layout.tensors.iter().map(|tensor| Output {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            data: Cow::Borrowed(&self.params[tensor.range.clone()]),
        });
        let zeros = self.missing_biases().into_iter().map(|(name, len)| Output {
            name,
            shape: vec![len],
            data: Cow::Owned(vec![0.0; len]),
        });
        write(path, &own.chain(zeros).collect::<Vec<_>>(), metadata)
    }

    /// Names and lengths of the biases that GPT-2's format has and this model has not.
    fn missing_biases(&self) -> BTreeMap<String, usize> {
        if self.config.bias || !self.config.is_gpt2() {
            return BTreeMap::new();
        }
        let inside = |tensor: &&Tensor| tensor.name.contains(".h.") || tensor.name.contains(".ln_f.");
        let bias = |tensor: &Tensor| {
            let width = *tensor.shape.last().unwrap_or(&0);
            (tensor.name.replace(".weight", ".bias"), width)
        };
        self.layout.tensors.iter().filter(inside).map(bias).collect()
    }

    /// Reads all weights from `paths` (one file, or the shards of one checkpoint). Missing, extra and misshaped tensors
    /// are named, and nothing is changed unless everything fits.
    pub fn load(&mut self, paths: &[std::path::PathBuf]) -> Result<()> {
        let first = paths.first().ok_or_else(|| Error::value("load", "paths", "empty", "name a file"))?;
        let mut found = BTreeMap::new();
        for path in paths {
            for (name, input) in Reader::open(path)?.tensors(is_weight)? {
                let name = self.canonical(name);
                if found.contains_key(&name) {
                    let problem = format!("holds tensor {name} a second time");
                    return Err(Error::checkpoint(path, problem, "keep one of them"));
                }
                found.insert(name, input);
            }
        }
        let mut params = crate::buffer::Buffer::zeros(self.layout.total, "parameters")?;
        for tensor in &self.layout.tensors {
            let input = found.remove(&tensor.name).ok_or_else(|| self.missing(first, tensor, &found))?;
            if input.shape != tensor.shape {
                let (name, got, expected) = (&tensor.name, &input.shape, &tensor.shape);
                let problem = format!("tensor {name} has shape {got:?}, the configuration says {expected:?}");
                return Err(Error::checkpoint(first, problem, "use the config.json that belongs to these weights"));
            }
            params[tensor.range.clone()].copy_from_slice(&input.data);
        }
        self.refuse_extra(first, &found, &params)?;
        self.params = params;
        self.version += 1;
        Ok(())
    }

    /// A name as this model spells it: OpenAI's files leave out `transformer.`.
    fn canonical(&self, name: String) -> String {
        let whole = name == LM_HEAD || name.starts_with("transformer.") || !self.config.is_gpt2();
        if whole { name } else { format!("transformer.{name}") }
    }

    fn missing(&self, path: &Path, tensor: &Tensor, found: &BTreeMap<String, Input>) -> Error {
        let unknown = found.keys().map(String::as_str).filter(|n| self.layout.get(n).is_none());
        let names: Vec<&str> = unknown.take(3).collect();
        let unknown = if names.is_empty() { String::new() } else { format!("; it has {} instead", names.join(", ")) };
        let problem = format!("has no tensor {}{unknown}", tensor.name);
        Error::checkpoint(path, problem, "use the weights that belong to this config.json")
    }

    /// What is left over must say nothing new: zeros for biases this model has not, a copy of the tied embedding.
    fn refuse_extra(&self, path: &Path, left: &BTreeMap<String, Input>, params: &[f32]) -> Result<()> {
        let biases = self.missing_biases();
        for (name, Input { data, .. }) in left {
            let silent = if name == LM_HEAD {
                data[..] == params[self.layout.wte.clone()]
            } else {
                biases.contains_key(name) && data.iter().all(|&x| x == 0.0)
            };
            if !silent {
                let problem = format!("tensor {name} has no place in this configuration");
                let remedy = match name.as_str() {
                    LM_HEAD => "set tie_word_embeddings to false in config.json",
                    _ => "use the config.json that belongs to these weights",
                };
                return Err(Error::checkpoint(path, problem, remedy));
            }
        }
        Ok(())
    }
}

/// Whether a tensor of that name in a file is a weight.
fn is_weight(name: &str) -> bool {
    !NOT_WEIGHTS.iter().any(|end| name.ends_with(end))
}
