//! Names -> places in the flat buffer.
//!
//! All parameters of a model lie in one buffer, each tensor on a cache line; gradients and moments have the same layout.
//! Names and shapes are Hugging Face's for GPT-2, whose linear weights are `(in, out)`.

use super::config::Config;
use crate::buffer::padded;
use std::collections::HashMap;
use std::ops::Range;

/// A named tensor in the flat buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Hugging Face's name.
    pub name: String,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
    /// Where it lies.
    pub range: Range<usize>,
}

impl Tensor {
    /// Whether weight decay reaches it when only matrices decay.
    pub fn is_matrix(&self) -> bool {
        self.shape.len() >= 2
    }
}

/// A linear layer `y = x W + b`: W is `(n_in, n_out)`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Where W lies.
    pub weight: Range<usize>,
    /// Where b lies.
    pub bias: Option<Range<usize>>,
    /// Columns of x.
    pub n_in: usize,
    /// Columns of y.
    pub n_out: usize,
}

/// A LayerNorm.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Where the gain lies.
    pub weight: Range<usize>,
    /// Where the offset lies.
    pub bias: Option<Range<usize>>,
}

/// The tensors of one block.
#[derive(Clone, Debug)]
pub struct Block {
    /// Norm before attention.
    pub ln_1: Norm,
    /// Query, key and value projections side by side.
    pub c_attn: Linear,
    /// Attention's output projection.
    pub attn_proj: Linear,
    /// Norm before the MLP.
    pub ln_2: Norm,
    /// MLP, up.
    pub c_fc: Linear,
    /// MLP, down.
    pub mlp_proj: Linear,
}

/// Where every tensor of a model lies.
#[derive(Clone, Debug)]
pub struct Layout {
    /// In the order of the forward pass.
    pub tensors: Vec<Tensor>,
    /// Floats in the flat buffer, padding included.
    pub total: usize,
    /// Token embedding `(vocab_size, n_embd)`.
    pub wte: Range<usize>,
    /// Position embedding `(block_size, n_embd)`.
    pub wpe: Range<usize>,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// The last norm.
    pub ln_f: Norm,
    /// Output projection `(vocab_size, n_embd)`; the token embedding's place when tied.
    pub lm_head: Range<usize>,
    index: HashMap<String, usize>,
}

/// Hands out places one after the other.
#[derive(Default)]
struct Planner {
    tensors: Vec<Tensor>,
    total: usize,
}

impl Planner {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Range<usize> {
        let len = shape.iter().product::<usize>();
        let range = self.total..self.total + len;
        self.total += padded(len);
        self.tensors.push(Tensor { name: name.to_string(), shape: shape.to_vec(), range: range.clone() });
        range
    }

    fn norm(&mut self, name: &str, width: usize, bias: bool) -> Norm {
        let weight = self.tensor(&format!("{name}.weight"), &[width]);
        Norm { weight, bias: bias.then(|| self.tensor(&format!("{name}.bias"), &[width])) }
    }

    fn linear(&mut self, name: &str, n_in: usize, n_out: usize, bias: bool) -> Linear {
        let weight = self.tensor(&format!("{name}.weight"), &[n_in, n_out]);
        Linear { weight, bias: bias.then(|| self.tensor(&format!("{name}.bias"), &[n_out])), n_in, n_out }
    }

    fn block(&mut self, layer: usize, config: &Config) -> Block {
        let (c, f, bias) = (config.n_embd, config.inner(), config.bias);
        let name = |part: &str| format!("transformer.h.{layer}.{part}");
        Block {
            ln_1: self.norm(&name("ln_1"), c, bias),
            c_attn: self.linear(&name("attn.c_attn"), c, 3 * c, bias),
            attn_proj: self.linear(&name("attn.c_proj"), c, c, bias),
            ln_2: self.norm(&name("ln_2"), c, bias),
            c_fc: self.linear(&name("mlp.c_fc"), c, f, bias),
            mlp_proj: self.linear(&name("mlp.c_proj"), f, c, bias),
        }
    }
}

impl Layout {
    /// The layout of a model of this shape.
    pub fn new(config: &Config) -> Self {
        let c = config.n_embd;
        let mut plan = Planner::default();
        let wte = plan.tensor("transformer.wte.weight", &[config.vocab_size, c]);
        let wpe = plan.tensor("transformer.wpe.weight", &[config.block_size, c]);
        let blocks = (0..config.n_layer).map(|layer| plan.block(layer, config)).collect();
        let ln_f = plan.norm("transformer.ln_f", c, config.bias);
        let lm_head = match config.tie_embeddings {
            true => wte.clone(),
            false => plan.tensor("lm_head.weight", &[config.vocab_size, c]),
        };
        let index = plan.tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Layout { total: plan.total, tensors: plan.tensors, wte, wpe, blocks, ln_f, lm_head, index }
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// Parameters, padding not counted; `non_embedding` leaves out the position embedding, as nanoGPT counts.
    pub fn num_params(&self, non_embedding: bool) -> usize {
        let all: usize = self.tensors.iter().map(|t| t.range.len()).sum();
        all - if non_embedding { self.wpe.len() } else { 0 }
    }
}
