//! A decoder in f64, GPT-2's or a later one, one loop after the other, from the formulas: what the model's gradients are held against.

use crate::attention::Attention;
use crate::rows::{layer_norm, log_softmax, rms_norm};
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
    /// Width of a head.
    pub head_dim: usize,
    /// Width inside the MLP.
    pub n_inner: usize,
    /// Key/value heads.
    pub n_kv_head: usize,
    /// The MLP's nonlinearity.
    pub activation: fn(f64) -> f64,
    /// Whether it is applied to a gate.
    pub gated: bool,
    /// Whether norms are of the mean square.
    pub rms: bool,
    /// Added to the variance.
    pub eps: f64,
    /// Added to the gains of norms of the mean square.
    pub offset: f64,
    /// Whether what blocks add to the stream is normed.
    pub post_norm: bool,
    /// What the embeddings are multiplied with.
    pub embedding_scale: f64,
    /// Of each block: the longest wave of rotary positions over 2 pi, by what factor waves are stretched, if it rotates.
    pub waves: Vec<Option<(f64, f64)>>,
    /// Of each block: how many tokens it sees, where not all.
    pub windows: Vec<Option<usize>>,
    /// The factor of the scores; the root of the head's width if absent.
    pub scale: Option<f64>,
    /// Bounds of scores and of logits.
    pub softcaps: [Option<f64>; 2],
    /// Whether query and key heads are normalised.
    pub qk_norm: bool,
    /// Whether tensors have Llama's names and linear weights are `(out, in)`.
    pub llama: bool,
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
        let weight = self.tensor(params, &format!("{name}.weight"));
        match self.rms {
            true => self.rms_norm(x, self.n_embd, weight),
            false => layer_norm(
                x,
                weight.expect("a layer norm has a gain"),
                self.tensor(params, &format!("{name}.bias")),
                self.eps,
            ),
        }
    }

    fn linear(&self, params: &[f64], name: &str, x: &[f64], n_in: usize) -> Vec<f64> {
        let weight = self.matrix(params, &format!("{name}.weight"));
        let bias = self.tensor(params, &format!("{name}.bias"));
        let n_out = weight.len() / n_in;
        let at = |i: usize, j: usize| weight[if self.llama { j * n_in + i } else { i * n_out + j }];
        x.chunks(n_in)
            .flat_map(|row| {
                (0..n_out).map(move |j| {
                    let dot: f64 = row.iter().enumerate().map(|(i, x)| x * at(i, j)).sum();
                    dot + bias.map_or(0.0, |b| b[j])
                })
            })
            .collect()
    }

    /// Queries, keys and values, rows (N, heads D) each.
    fn projections(&self, params: &[f64], name: &str, normed: &[f64]) -> [Vec<f64>; 3] {
        let c = self.n_embd;
        if self.llama {
            return ["q_proj", "k_proj", "v_proj"]
                .map(|part| self.linear(params, &format!("{name}.self_attn.{part}"), normed, c));
        }
        let qkv = self.linear(params, &format!("{name}.attn.c_attn"), normed, c);
        [0, 1, 2].map(|part| qkv.chunks(3 * c).flat_map(|row| row[part * c..][..c].to_vec()).collect())
    }

    /// Rows of `width` divided by the root of their mean square, times the gain.
    fn rms_norm(&self, x: &[f64], width: usize, gain: Option<&[f64]>) -> Vec<f64> {
        let gains = gain.map_or(vec![1.0 - self.offset; width], <[f64]>::to_vec);
        rms_norm(x, &gains, self.offset, self.eps)
    }

    /// Norm and rotation of query or key heads.
    fn turn(&self, layer: usize, mut x: Vec<f64>, gain: Option<&[f64]>, heads: usize) -> Vec<f64> {
        let d = self.head_dim;
        if self.qk_norm {
            x = self.rms_norm(&x, d, gain);
        }
        if let Some((theta, stretch)) = self.waves[layer] {
            for (i, head) in x.chunks_mut(d).enumerate() {
                let position = (i / heads % self.t) as f64;
                for j in 0..d / 2 {
                    let (sin, cos) = (position / stretch * theta.powf(-2.0 * j as f64 / d as f64)).sin_cos();
                    (head[j], head[j + d / 2]) =
                        (head[j] * cos - head[j + d / 2] * sin, head[j] * sin + head[j + d / 2] * cos);
                }
            }
        }
        x
    }

    /// Rows (N, heads D) of queries, keys and values to rows (N, heads D).
    fn attend(&self, layer: usize, [q, k, v]: [&[f64]; 3], factors: Option<&Vec<f64>>) -> Vec<f64> {
        let (b, t, h, kv) = (self.batch, self.t, self.n_head, self.n_kv_head);
        let d = self.head_dim;
        // Element (b, h, t, d) of the heads is at ((b T + t) heads + h) D + d of the rows.
        let place = |i: usize, heads: usize| {
            let (x, row, head, sequence) = (i % d, i / d % t, i / d / t % heads, i / d / t / heads);
            ((sequence * t + row) * heads + head) * d + x
        };
        let part = |x: &[f64], heads: usize| -> Vec<f64> { (0..x.len()).map(|i| x[place(i, heads)]).collect() };
        let factors = factors.cloned();
        let naive = Attention {
            batch: b,
            heads: h,
            kv_heads: kv,
            queries: t,
            keys: t,
            dim: d,
            factors,
            scale: self.scale,
            window: self.windows[layer],
            starts: None,
            softcap: self.softcaps[0],
            round: None,
        };
        let (out, _) = naive.forward(&part(q, h), &part(k, kv), &part(v, kv));
        let mut rows = vec![0.0; b * t * h * d];
        out.iter().enumerate().for_each(|(i, x)| rows[place(i, h)] = *x);
        rows
    }

    /// What a block's MLP adds to the stream, from its normed input.
    fn mlp(&self, params: &[f64], name: &str, normed: &[f64]) -> Vec<f64> {
        let c = self.n_embd;
        let [up, down] = match (self.llama, self.gated) {
            (false, _) => ["mlp.c_fc", "mlp.c_proj"],
            (true, false) => ["mlp.up_proj", "mlp.down_proj"],
            (true, true) => ["mlp.gate_proj", "mlp.down_proj"],
        };
        let mut inner = self.linear(params, &format!("{name}.{up}"), normed, c);
        inner.iter_mut().for_each(|v| *v = (self.activation)(*v));
        if self.gated {
            let up = self.linear(params, &format!("{name}.mlp.up_proj"), normed, c);
            inner.iter_mut().zip(up).for_each(|(v, up)| *v *= up);
        }
        self.linear(params, &format!("{name}.{down}"), &inner, self.n_inner)
    }

    /// Logits (N, vocab_size) of `ids` (N,).
    pub fn logits(&self, params: &[f64], ids: &[u32]) -> Vec<f64> {
        let (c, masks) = (self.n_embd, self.masks.as_ref());
        let named = |gpt2: &'static str, llama: &'static str| if self.llama { llama } else { gpt2 };
        let wte = self.matrix(params, named("transformer.wte.weight", "model.embed_tokens.weight"));
        let wpe = self.tensor(params, named("transformer.wpe.weight", "model.embed_positions.weight"));
        let position = |i: usize, j: usize| wpe.map_or(0.0, |wpe| wpe[i % self.t * c + j]);
        let at = |i: usize, j: usize| self.embedding_scale * wte[ids[i] as usize * c + j] + position(i, j);
        let x: Vec<f64> = (0..ids.len() * c).map(|i| at(i / c, i % c)).collect();
        let mut x = dropped(x, masks.map(|m| &m.embedding));
        for layer in 0..self.n_layer {
            let name = format!("{}.{layer}", named("transformer.h", "model.layers"));
            let masks = masks.map(|m| &m.blocks[layer]);
            let normed = self.norm(params, &format!("{name}.{}", named("ln_1", "input_layernorm")), &x);
            let [q, k, v] = self.projections(params, &name, &normed);
            let gain = |part: &str| self.tensor(params, &format!("{name}.self_attn.{part}.weight"));
            let q = self.turn(layer, q, gain("q_norm"), self.n_head);
            let k = self.turn(layer, k, gain("k_norm"), self.n_kv_head);
            let rows = self.attend(layer, [&q, &k, &v], masks.map(|m| &m.probabilities));
            let out = format!("{name}.{}", named("attn.c_proj", "self_attn.o_proj"));
            let added = self.linear(params, &out, &rows, self.n_head * self.head_dim);
            let added = self.post_norm(params, &format!("{name}.post_attention_layernorm"), added);
            x = sum(x, dropped(added, masks.map(|m| &m.attention)));
            let before = match self.post_norm {
                true => "pre_feedforward_layernorm",
                false => named("ln_2", "post_attention_layernorm"),
            };
            let added = self.mlp(params, &name, &self.norm(params, &format!("{name}.{before}"), &x));
            let added = self.post_norm(params, &format!("{name}.post_feedforward_layernorm"), added);
            x = sum(x, dropped(added, masks.map(|m| &m.mlp)));
        }
        let normed = self.norm(params, named("transformer.ln_f", "model.norm"), &x);
        let head = self.tensor(params, "lm_head.weight").unwrap_or(wte);
        let dot = |row: &[f64], v: usize| -> f64 { row.iter().zip(&head[v * c..]).map(|(x, w)| x * w).sum() };
        let capped = |x: f64| self.softcaps[1].map_or(x, |cap| cap * (x / cap).tanh());
        normed.chunks(c).flat_map(|row| (0..self.vocab_size).map(move |v| capped(dot(row, v)))).collect()
    }

    /// The norm of what a half of a block adds, where it is normed.
    fn post_norm(&self, params: &[f64], name: &str, x: Vec<f64>) -> Vec<f64> {
        if self.post_norm { self.norm(params, name, &x) } else { x }
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
