//! A GPT-2 style decoder in f64, one loop after the other, from the formulas: what the model's gradients are held against.

use crate::attention::Attention;
use crate::rows::{gelu_erf, gelu_tanh, layer_norm, log_softmax};
use std::ops::Range;

/// Factors of every place where elements are dropped.
#[derive(Clone, Debug)]
pub struct Masks {
    /// Of the sum of the embeddings `(N, C)`.
    pub embedding: Vec<f64>,
    /// Of each block.
    pub blocks: Vec<BlockMasks>,
}

/// Factors of one block.
#[derive(Clone, Debug)]
pub struct BlockMasks {
    /// Of attention's probabilities `(B, H, T, T)`.
    pub probabilities: Vec<f64>,
    /// Of what attention adds to the stream `(N, C)`.
    pub attention: Vec<f64>,
    /// Of what the MLP adds to the stream `(N, C)`.
    pub mlp: Vec<f64>,
}

/// Sizes and options of a naive decoder.
pub struct Gpt<'a> {
    /// Sequences.
    pub batch: usize,
    /// Tokens of each.
    pub t: usize,
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Blocks.
    pub n_layer: usize,
    /// Heads.
    pub n_head: usize,
    /// Width of the stream.
    pub n_embd: usize,
    /// Width inside the MLP.
    pub n_inner: usize,
    /// Whether GELU is the tanh form.
    pub tanh: bool,
    /// Added to the variance.
    pub eps: f64,
    /// Dropout, if any.
    pub masks: Option<Masks>,
    /// Where a tensor lies in the flat parameters, by Hugging Face's name; `None` where the model has none.
    pub place: &'a dyn Fn(&str) -> Option<Range<usize>>,
}

impl Gpt<'_> {
    fn tensor<'p>(&self, params: &'p [f64], name: &str) -> Option<&'p [f64]> {
        (self.place)(name).map(|range| &params[range])
    }

    fn matrix<'p>(&self, params: &'p [f64], name: &str) -> &'p [f64] {
        self.tensor(params, name).unwrap_or_else(|| panic!("the model has no {name}"))
    }

    fn norm(&self, params: &[f64], name: &str, x: &[f64]) -> Vec<f64> {
        let bias = self.tensor(params, &format!("{name}.bias"));
        layer_norm(x, self.matrix(params, &format!("{name}.weight")), bias, self.eps)
    }

    fn linear(&self, params: &[f64], name: &str, x: &[f64], n_in: usize) -> Vec<f64> {
        let weight = self.matrix(params, &format!("{name}.weight"));
        let bias = self.tensor(params, &format!("{name}.bias"));
        let n_out = weight.len() / n_in;
        x.chunks(n_in)
            .flat_map(|row| {
                (0..n_out).map(move |j| {
                    let dot: f64 = row.iter().enumerate().map(|(i, x)| x * weight[i * n_out + j]).sum();
                    dot + bias.map_or(0.0, |b| b[j])
                })
            })
            .collect()
    }

    /// Rows (N, 3C) to rows (N, C).
    fn attend(&self, qkv: &[f64], factors: Option<&Vec<f64>>) -> Vec<f64> {
        let (b, t, h, c) = (self.batch, self.t, self.n_head, self.n_embd);
        let d = c / h;
        // Element (b, h, t, d) of the heads is at ((b T + t) parts + part) C + h D + d of the rows.
        let place = |i: usize, parts: usize, part: usize| {
            let (x, row, head, sequence) = (i % d, i / d % t, i / d / t % h, i / d / t / h);
            ((sequence * t + row) * parts + part) * c + head * d + x
        };
        let part = |part: usize| -> Vec<f64> { (0..b * t * c).map(|i| qkv[place(i, 3, part)]).collect() };
        let factors = factors.cloned();
        let naive =
            Attention { batch: b, heads: h, kv_heads: h, queries: t, keys: t, dim: d, factors, ..Attention::default() };
        let (out, _) = naive.forward(&part(0), &part(1), &part(2));
        let mut rows = vec![0.0; b * t * c];
        out.iter().enumerate().for_each(|(i, x)| rows[place(i, 1, 0)] = *x);
        rows
    }

    /// Logits (N, vocab_size) of `ids` (N,).
    pub fn logits(&self, params: &[f64], ids: &[u32]) -> Vec<f64> {
        let (c, masks) = (self.n_embd, self.masks.as_ref());
        let (wte, wpe) = (self.matrix(params, "transformer.wte.weight"), self.matrix(params, "transformer.wpe.weight"));
        let at = |i: usize, j: usize| wte[ids[i] as usize * c + j] + wpe[i % self.t * c + j];
        let x: Vec<f64> = (0..ids.len() * c).map(|i| at(i / c, i % c)).collect();
        let mut x = dropped(x, masks.map(|m| &m.embedding));
        for layer in 0..self.n_layer {
            let (name, masks) = (format!("transformer.h.{layer}"), masks.map(|m| &m.blocks[layer]));
            let normed = self.norm(params, &format!("{name}.ln_1"), &x);
            let qkv = self.linear(params, &format!("{name}.attn.c_attn"), &normed, c);
            let rows = self.attend(&qkv, masks.map(|m| &m.probabilities));
            let added = self.linear(params, &format!("{name}.attn.c_proj"), &rows, c);
            x = sum(x, dropped(added, masks.map(|m| &m.attention)));
            let normed = self.norm(params, &format!("{name}.ln_2"), &x);
            let mut inner = self.linear(params, &format!("{name}.mlp.c_fc"), &normed, c);
            inner.iter_mut().for_each(|v| *v = if self.tanh { gelu_tanh(*v) } else { gelu_erf(*v) });
            let added = self.linear(params, &format!("{name}.mlp.c_proj"), &inner, self.n_inner);
            x = sum(x, dropped(added, masks.map(|m| &m.mlp)));
        }
        let normed = self.norm(params, "transformer.ln_f", &x);
        let head = self.tensor(params, "lm_head.weight").unwrap_or(wte);
        let dot = |row: &[f64], v: usize| -> f64 { row.iter().zip(&head[v * c..]).map(|(x, w)| x * w).sum() };
        normed.chunks(c).flat_map(|row| (0..self.vocab_size).map(move |v| dot(row, v))).collect()
    }

    /// The mean loss over the targets that are not `ignore_index`.
    pub fn loss(&self, params: &[f64], ids: &[u32], targets: &[i64], ignore_index: i64) -> f64 {
        let logs = log_softmax(&self.logits(params, ids), self.vocab_size);
        let kept: Vec<_> = targets.iter().enumerate().filter(|(_, t)| **t != ignore_index).collect();
        let total: f64 = kept.iter().map(|(i, t)| -logs[i * self.vocab_size + **t as usize]).sum();
        total / kept.len() as f64
    }
}

fn dropped(mut x: Vec<f64>, factors: Option<&Vec<f64>>) -> Vec<f64> {
    if let Some(factors) = factors {
        assert_eq!(x.len(), factors.len());
        x.iter_mut().zip(factors).for_each(|(x, f)| *x *= f);
    }
    x
}

fn sum(mut x: Vec<f64>, y: Vec<f64>) -> Vec<f64> {
    assert_eq!(x.len(), y.len());
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
    x
}
