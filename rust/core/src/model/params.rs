//! Names -> places in the flat buffer.
//!
//! All parameters of a model lie in one buffer, each tensor on a cache line; gradients and moments have the same layout.
//! Names and shapes are Hugging Face's: GPT-2's for GPT-2's block, whose linear weights are `(in, out)`, and Llama's for
//! every other, whose linear weights are `(out, in)`. Projections that read the same rows (query, key and value; gate and
//! up) lie behind each other, so that one product computes them.
//!
//! Weights that are kept in few bits ([`super::quantized`]) lie elsewhere: their ranges are empty.

use super::config::{Config, Mlp, Norm as NormKind, Position};
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
    /// Numbers of it.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it lies in the flat buffer.
    pub fn is_flat(&self) -> bool {
        !self.range.is_empty()
    }

    /// Whether weight decay reaches it when only matrices decay.
    pub fn is_matrix(&self) -> bool {
        self.shape.len() >= 2
    }
}

/// A named projection: some of the columns of a linear layer's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projection {
    /// Hugging Face's name of the module: that of its weight without the end.
    pub name: String,
    /// Its columns of y.
    pub columns: Range<usize>,
}

/// A linear layer `y = x W + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Its number among the layers of the model.
    pub index: usize,
    /// Where W lies: `(n_in, n_out)`, or `(n_out, n_in)` if `transposed`.
    pub weight: Range<usize>,
    /// Whether W lies transposed.
    pub transposed: bool,
    /// Where b lies.
    pub bias: Option<Range<usize>>,
    /// Columns of x.
    pub n_in: usize,
    /// Columns of y.
    pub n_out: usize,
    /// What its columns are, in order; more than one only if `transposed`.
    pub parts: Vec<Projection>,
}

impl Linear {
    /// Where the weights of some of the columns of y lie: all of them where W is not transposed.
    pub fn weight_of(&self, columns: &Range<usize>) -> Range<usize> {
        if self.weight.is_empty() {
            return self.weight.clone();
        }
        let start = self.weight.start;
        start + columns.start * self.n_in..start + columns.end * self.n_in
    }

    /// Where the offsets of some of the columns of y lie.
    pub fn bias_of(&self, columns: &Range<usize>) -> Option<Range<usize>> {
        self.bias.as_ref().map(|bias| bias.start + columns.start..bias.start + columns.end)
    }
}

/// A norm of rows.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Where the gain lies.
    pub weight: Option<Range<usize>>,
    /// Where the offset lies, behind the gain.
    pub bias: Option<Range<usize>>,
}

/// The tensors of one block.
#[derive(Clone, Debug)]
pub struct Block {
    /// Where all of them lie.
    pub span: Range<usize>,
    /// Norm before attention.
    pub norm_1: Norm,
    /// Query, key and value projections side by side.
    pub qkv: Linear,
    /// Gains of the norms of query and key heads `(head_dim,)`.
    pub qk_gains: Option<[Range<usize>; 2]>,
    /// Attention's output projection.
    pub out: Linear,
    /// Norm of what attention adds to the stream.
    pub post_1: Option<Norm>,
    /// Norm before the MLP.
    pub norm_2: Norm,
    /// MLP, up (gate and up side by side where it is gated).
    pub up: Linear,
    /// MLP, down.
    pub down: Linear,
    /// Norm of what the MLP adds to the stream.
    pub post_2: Option<Norm>,
}

impl Block {
    /// Its linear layers, in the order of their numbers.
    pub fn linears(&self) -> [&Linear; 4] {
        [&self.qkv, &self.out, &self.up, &self.down]
    }
}

/// Which weights are kept in few bits, outside of the flat buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// None.
    Nothing,
    /// Those of the blocks' linear layers.
    Blocks,
    /// Those and the output projection, which the token embedding shares where they are tied.
    Everything,
}

impl Extent {
    /// Whether the weights of a layer are among them.
    pub fn has(self, linear: &Linear, layout: &Layout) -> bool {
        match self {
            Extent::Nothing => false,
            Extent::Blocks => linear.index != layout.head.index,
            Extent::Everything => true,
        }
    }
}

/// Where every tensor of a model lies.
#[derive(Clone, Debug)]
pub struct Layout {
    /// In the order of the forward pass.
    pub tensors: Vec<Tensor>,
    /// Floats in the flat buffer, padding included.
    pub total: usize,
    /// Which weights lie elsewhere.
    pub quantized: Extent,
    /// Token embedding `(vocab_size, n_embd)`.
    pub wte: Range<usize>,
    /// Position embedding `(block_size, n_embd)`.
    pub wpe: Option<Range<usize>>,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// The last norm.
    pub last_norm: Norm,
    /// Output projection; the token embedding's place when tied.
    pub head: Linear,
    index: HashMap<String, usize>,
}

/// Hands out places one after the other.
struct Planner<'a> {
    config: &'a Config,
    quantized: Extent,
    tensors: Vec<Tensor>,
    total: usize,
    linears: usize,
}

impl Planner<'_> {
    /// Tensors behind each other without gaps, from a cache line on.
    fn adjacent(&mut self, parts: Vec<(String, Vec<usize>)>) -> Range<usize> {
        let start = self.total;
        for (name, shape) in parts {
            let range = self.total..self.total + shape.iter().product::<usize>();
            self.total = range.end;
            self.tensors.push(Tensor { name, shape, range });
        }
        let end = self.total;
        self.total = start + padded(end - start);
        start..end
    }

    /// The same for tensors that lie elsewhere.
    fn elsewhere(&mut self, parts: Vec<(String, Vec<usize>)>) -> Range<usize> {
        let range = self.total..self.total;
        self.tensors.extend(parts.into_iter().map(|(name, shape)| Tensor { name, shape, range: range.clone() }));
        range
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Range<usize> {
        self.adjacent(vec![(name.to_string(), shape.to_vec())])
    }

    fn norm(&mut self, name: &str) -> Norm {
        let config = self.config;
        let bias = config.bias && config.norm == NormKind::LayerNorm;
        let weight = config.norm_gain.then(|| self.tensor(&format!("{name}.weight"), &[config.n_embd]));
        Norm { weight, bias: bias.then(|| self.tensor(&format!("{name}.bias"), &[config.n_embd])) }
    }

    /// A linear layer of one or more named projections of the same rows, side by side in its output.
    fn linear(&mut self, projections: &[(String, usize)], n_in: usize) -> Linear {
        self.biased(projections, n_in, self.config.bias)
    }

    fn biased(&mut self, projections: &[(String, usize)], n_in: usize, bias: bool) -> Linear {
        let transposed = !self.config.is_gpt2();
        let n_out = projections.iter().map(|(_, width)| width).sum();
        let named = |end: &str, shape: &dyn Fn(usize) -> Vec<usize>| {
            projections.iter().map(|(name, width)| (format!("{name}.{end}"), shape(*width))).collect()
        };
        let shape = |width| if transposed { vec![width, n_in] } else { vec![n_in, width] };
        let weights = named("weight", &shape);
        let weight = if self.quantized != Extent::Nothing { self.elsewhere(weights) } else { self.adjacent(weights) };
        let bias = bias.then(|| self.adjacent(named("bias", &|width| vec![width])));
        self.linears += 1;
        let mut end = 0;
        let part = |(name, width): &(String, usize)| {
            end += width;
            Projection { name: name.clone(), columns: end - width..end }
        };
        let parts = projections.iter().map(part).collect();
        Linear { index: self.linears - 1, weight, transposed, bias, n_in, n_out, parts }
    }

    fn gpt2_block(&mut self, layer: usize) -> Block {
        let (c, f) = (self.config.n_embd, self.config.inner());
        let name = |part: &str| format!("transformer.h.{layer}.{part}");
        let start = self.total;
        let mut block = Block {
            span: 0..0,
            norm_1: self.norm(&name("ln_1")),
            qkv: self.linear(&[(name("attn.c_attn"), 3 * c)], c),
            qk_gains: None,
            out: self.linear(&[(name("attn.c_proj"), c)], c),
            post_1: None,
            norm_2: self.norm(&name("ln_2")),
            up: self.linear(&[(name("mlp.c_fc"), f)], c),
            down: self.linear(&[(name("mlp.c_proj"), c)], f),
            post_2: None,
        };
        block.span = start..self.total;
        block
    }

    fn llama_block(&mut self, layer: usize) -> Block {
        let config = self.config;
        let (c, f, q, kv, d) = (config.n_embd, config.inner(), config.q_width(), config.kv_width(), config.head_dim());
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let start = self.total;
        let norm_1 = self.norm(&name("input_layernorm"));
        let parts = [("q_proj", q), ("k_proj", kv), ("v_proj", kv)];
        let parts = parts.map(|(part, width)| (name(&format!("self_attn.{part}")), width));
        let qkv = self.biased(&parts, c, config.has_qkv_bias());
        let gains = config.qk_norm && config.norm_gain;
        let qk_gains = gains
            .then(|| ["q_norm", "k_norm"].map(|part| self.tensor(&name(&format!("self_attn.{part}.weight")), &[d])));
        let out = self.linear(&[(name("self_attn.o_proj"), c)], q);
        // The name of the norm before the MLP is that of the one behind attention where there is one (Gemma 2).
        let behind = name("post_attention_layernorm");
        let post_1 = config.post_norm.then(|| self.norm(&behind));
        let norm_2 = self.norm(&if config.post_norm { name("pre_feedforward_layernorm") } else { behind });
        let (up, down) = match config.mlp {
            Mlp::Plain => (vec![(name("mlp.up_proj"), f)], "mlp.down_proj"),
            Mlp::Gated => (vec![(name("mlp.gate_proj"), f), (name("mlp.up_proj"), f)], "mlp.down_proj"),
        };
        let up = self.linear(&up, c);
        let down = self.linear(&[(name(down), c)], f);
        let post_2 = config.post_norm.then(|| self.norm(&name("post_feedforward_layernorm")));
        Block { span: start..self.total, norm_1, qkv, qk_gains, out, post_1, norm_2, up, down, post_2 }
    }
}

impl Layout {
    /// The layout of a model of this shape.
    pub fn new(config: &Config) -> Self {
        Layout::quantized(config, Extent::Nothing)
    }

    /// The same where the weights of linear layers lie elsewhere.
    pub fn quantized(config: &Config, quantized: Extent) -> Self {
        let (v, c, gpt2) = (config.vocab_size, config.n_embd, config.is_gpt2());
        let named = |gpt2_name: &'static str, llama_name: &'static str| if gpt2 { gpt2_name } else { llama_name };
        let mut plan = Planner { config, quantized, tensors: Vec::new(), total: 0, linears: 0 };
        let wte = (named("transformer.wte.weight", "model.embed_tokens.weight").to_string(), vec![v, c]);
        let wte = match quantized == Extent::Everything && config.tie_embeddings {
            true => plan.elsewhere(vec![wte]),
            false => plan.adjacent(vec![wte]),
        };
        let wpe = (config.position == Position::Learned).then(|| {
            plan.tensor(named("transformer.wpe.weight", "model.embed_positions.weight"), &[config.block_size, c])
        });
        let blocks = (0..config.n_layer)
            .map(|layer| if gpt2 { plan.gpt2_block(layer) } else { plan.llama_block(layer) })
            .collect();
        let last_norm = plan.norm(named("transformer.ln_f", "model.norm"));
        let head = match config.tie_embeddings {
            true => wte.clone(),
            false if quantized == Extent::Everything => {
                plan.elsewhere(vec![("lm_head.weight".to_string(), vec![v, c])])
            }
            false => plan.tensor("lm_head.weight", &[v, c]),
        };
        let parts = vec![Projection { name: "lm_head".to_string(), columns: 0..v }];
        let head = Linear { index: plan.linears, weight: head, transposed: true, bias: None, n_in: c, n_out: v, parts };
        let index = plan.tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        let Planner { total, tensors, .. } = plan;
        Layout { tensors, total, quantized, wte, wpe, blocks, last_norm, head, index }
    }

    /// Every linear layer, in the order of their numbers: the head is the last.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.blocks.iter().flat_map(Block::linears).chain([&self.head])
    }

    /// The tensors of a linear layer's weights, in order, and which of its outputs each has.
    pub fn weights_of<'a>(&'a self, linear: &'a Linear) -> impl Iterator<Item = (Range<usize>, &'a Tensor)> {
        linear.parts.iter().map(|part| {
            // The head has no tensor of its own where it shares that of the embeddings, the first.
            let own = self.get(&format!("{}.weight", part.name)).unwrap_or(&self.tensors[0]);
            (part.columns.clone(), own)
        })
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// Parameters, padding not counted; `non_embedding` leaves out the position embedding, as nanoGPT counts.
    pub fn num_params(&self, non_embedding: bool) -> usize {
        let all: usize = self.tensors.iter().map(Tensor::count).sum();
        let positions = self.wpe.as_ref().map_or(0, |wpe| wpe.len());
        all - if non_embedding { positions } else { 0 }
    }
}
