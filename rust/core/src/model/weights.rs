//! Weights to and from safetensors files, under Hugging Face's names.
//!
//! GPT-2's format always has biases; a model without them is written with zeros in their place, so that `transformers`
//! computes the same logits, and reads them back as long as they are zeros.

use super::Gpt;
use super::params::Tensor;
use super::quantized::Few;
use super::source::{Numbers, Source};
use crate::buffer;
use crate::error::{Error, Result};
use crate::io::safetensors::{Output, Reader, Stored, write};
use crate::kernels::quantized;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Tensors of old files that are no weights: the causal masks of GPT-2's, the angles of Llama's.
const NOT_WEIGHTS: [&str; 3] = [".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"];

/// The output projection's name; absent from the layout when it is tied.
const LM_HEAD: &str = "lm_head.weight";

impl Gpt {
    /// Writes all weights to `path`, whole or not at all.
    pub fn save(&self, path: &Path, metadata: HashMap<String, String>) -> Result<()> {
        self.refuse_quantized("save")?;
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

    /// Reads all weights from `paths` (one file, or the shards of one checkpoint), each from its file straight to its
    /// place, as float32 numbers or in `few` bits. Missing, extra and misshaped tensors are named, and nothing is changed
    /// unless everything fits. Gives `sample` of the numbers of each tensor, at even distances, for who has to tell
    /// models apart whose weights are in few bits.
    pub fn load(&mut self, paths: &[std::path::PathBuf], few: Few, sample: usize) -> Result<Vec<Vec<f32>>> {
        self.refuse_quantized("load")?;
        let readers = paths.iter().map(|path| Reader::open(path)).collect::<Result<Vec<_>>>()?;
        let first = paths.first().ok_or_else(|| Error::value("load", "paths", "empty", "name a file"))?;
        let places = self.places(first, self.find(&readers)?)?;
        self.fill(&places, few)?;
        self.layout.tensors.iter().map(|tensor| places.numbers(tensor)?.sample(tensor.count(), sample)).collect()
    }

    /// Where every tensor of the layout is, out of what was `found`.
    fn places<'a>(&self, first: &Path, mut found: BTreeMap<String, Place<'a>>) -> Result<Places<'a>> {
        let mut places = HashMap::new();
        for tensor in &self.layout.tensors {
            let place = found.remove(&tensor.name).ok_or_else(|| self.missing(first, tensor, &found))?;
            let (path, shape) = (place.reader.path(), place.shape());
            if shape != tensor.shape {
                let (name, expected) = (&tensor.name, &tensor.shape);
                let problem = format!("tensor {name} has shape {shape:?}, the configuration says {expected:?}");
                return Err(Error::checkpoint(path, problem, "use the config.json that belongs to these weights"));
            }
            places.insert(tensor.name.clone(), place);
        }
        self.refuse_extra(&found, &places[&self.layout.tensors[0].name])?;
        Ok(Places(places))
    }

    /// Where the weights are, by the names that this model has for them.
    fn find<'a>(&self, readers: &'a [Reader]) -> Result<BTreeMap<String, Place<'a>>> {
        let mut found = BTreeMap::new();
        for reader in readers {
            for name in reader.names().into_iter().filter(|name| is_weight(name)) {
                let canonical = self.canonical(name.clone());
                if found.contains_key(&canonical) {
                    let problem = format!("holds tensor {canonical} a second time");
                    return Err(Error::checkpoint(reader.path(), problem, "keep one of them"));
                }
                found.insert(canonical, Place { reader, name });
            }
        }
        Ok(found)
    }

    /// A name as this model spells it: OpenAI's files leave out `transformer.`.
    fn canonical(&self, name: String) -> String {
        let whole = name == LM_HEAD || name.starts_with("transformer.") || !self.config.is_gpt2();
        if whole { name } else { format!("transformer.{name}") }
    }

    fn missing(&self, path: &Path, tensor: &Tensor, found: &BTreeMap<String, Place<'_>>) -> Error {
        let unknown = found.keys().map(String::as_str).filter(|n| self.layout.get(n).is_none());
        let names: Vec<&str> = unknown.take(3).collect();
        let unknown = if names.is_empty() { String::new() } else { format!("; it has {} instead", names.join(", ")) };
        let problem = format!("has no tensor {}{unknown}", tensor.name);
        Error::checkpoint(path, problem, "use the weights that belong to this config.json")
    }

    /// What is left over must say nothing new: zeros for biases this model has not, a copy of the tied embedding.
    fn refuse_extra(&self, left: &BTreeMap<String, Place<'_>>, embedding: &Place<'_>) -> Result<()> {
        let biases = self.missing_biases();
        for (name, place) in left {
            let silent = if name == LM_HEAD {
                place.shape() == embedding.shape() && place.numbers()? == embedding.numbers()?
            } else {
                biases.contains_key(name) && place.numbers()?.iter().all(|&x| x == 0.0)
            };
            if !silent {
                let problem = format!("tensor {name} has no place in this configuration");
                let remedy = match name.as_str() {
                    LM_HEAD => "set tie_word_embeddings to false in config.json",
                    _ => "use the config.json that belongs to these weights",
                };
                return Err(Error::checkpoint(place.reader.path(), problem, remedy));
            }
        }
        Ok(())
    }
}

/// A tensor in one of the files.
struct Place<'a> {
    reader: &'a Reader,
    /// Its name there.
    name: String,
}

impl Place<'_> {
    fn shape(&self) -> &[usize] {
        self.reader.raw(&self.name).map_or(&[], |raw| raw.shape)
    }

    fn numbers(&self) -> Result<Vec<f32>> {
        let mut numbers = buffer::zeros(self.shape().iter().product(), "tensors")?;
        self.reader.read_into(&self.name, &mut numbers)?;
        Ok(numbers)
    }
}

/// Where each tensor of a layout is, by name; shapes are those of the layout.
struct Places<'a>(HashMap<String, Place<'a>>);

impl Source for Places<'_> {
    fn numbers<'a>(&'a self, tensor: &Tensor) -> Result<Box<dyn Numbers + 'a>> {
        let place = &self.0[&tensor.name];
        Ok(Box::new(place.reader.numbers(&place.name)?))
    }
}

impl Numbers for Stored<'_> {
    fn read(&self, first: usize, out: &mut [f32]) -> Result<()> {
        quantized::decode_from(self.format, self.bytes, first, out)
    }
}

/// Whether a tensor of that name in a file is a weight.
fn is_weight(name: &str) -> bool {
    !NOT_WEIGHTS.iter().any(|end| name.ends_with(end))
}
