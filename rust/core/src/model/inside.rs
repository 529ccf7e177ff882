//! Looking inside a pass: the residual stream between the blocks, what the head would make of it there, and where
//! attention looks.
//!
//! ```text
//! hidden states    x_l, the stream before block l, and after the last
//! logit lens       head(last_norm(x_l)), which after the last block are the logits
//! attention maps   softmax(mask(cap(scale q k^T))), of each block and head
//! ```
//!
//! A [`Watcher`] sees the stream while the pass goes on, in the two rows of an inference pass: what is kept is what was
//! asked for. The lens is nostalgebraist's: "interpreting GPT: the logit lens", LessWrong, 2020.

use super::Gpt;
use super::arena::{Activations, Arena, LOSS_ROWS};
use super::block::attn;
use super::forward::Pass;
use super::head;
use super::linear::{sums, view, view_mut};
use super::rows::Rows;
use crate::buffer;
use crate::error::{Error, Result};
use crate::kernels::cross_entropy::cross_entropy;
use crate::kernels::matmul::{Precision, Scalar, product};
use crate::kernels::residual::scale_assign;
use crate::kernels::softcap::softcap;
use crate::kernels::softmax::softmax;
use crate::parallel;
use crate::simd::bf16;
use ndarray::{ArrayView2, s};

/// Sees the stream of a pass before each block and after the last.
trait Watcher: Send {
    /// `done` blocks have run. The state that they left lies at the last place of the stream, the queries and keys of the
    /// last of them where it left them.
    fn see<E: Scalar>(&mut self, pass: &Pass<'_>, done: usize, acts: &mut Activations<'_, E>) -> Result<()>;
}

/// The most probable tokens of each row, the best first and equal ones by id.
pub struct Top {
    /// Ids `(rows, k)`.
    pub ids: Vec<u32>,
    /// Their probabilities `(rows, k)`.
    pub probs: Vec<f32>,
}

impl Gpt {
    /// The residual stream (n_layer + 1, b, t, n_embd) before each block and after the last, without dropout.
    pub fn hidden_states(&self, arena: &mut Arena, rows: Rows<'_>) -> Result<Vec<f32>> {
        self.check_rows("hidden_states", rows)?;
        let mut states = States { all: buffer::zeros(self.states() * rows.n() * self.config.n_embd, "hidden states")? };
        self.watch(arena, rows, &mut states)?;
        Ok(states.all)
    }

    /// The logits (n_layer + 1, b, t, vocab_size) that the last norm and the head make of each of them; the last are those
    /// of [`Gpt::forward`], bit for bit.
    pub fn logit_lens(&self, arena: &mut Arena, rows: Rows<'_>) -> Result<Vec<f32>> {
        self.check_rows("logit_lens", rows)?;
        let mut lens = Lens { all: buffer::zeros(self.states() * rows.n() * self.config.vocab_size, "logits")? };
        self.watch(arena, rows, &mut lens)?;
        Ok(lens.all)
    }

    /// Their `k` most probable tokens (n_layer + 1, b, t, k), a chunk of logits at a time.
    pub fn logit_lens_top(&self, arena: &mut Arena, rows: Rows<'_>, k: usize) -> Result<Top> {
        self.check_rows("logit_lens", rows)?;
        if k == 0 || k > self.config.vocab_size {
            let remedy = format!("give a number from 1 to vocab_size = {}", self.config.vocab_size);
            return Err(Error::value("logit_lens", "k", k, remedy));
        }
        let len = self.states() * rows.n() * k;
        let probs = buffer::zeros(len, "probabilities")?;
        let top = Top { ids: vec![0; len], probs };
        let mut lens = TopLens { k, top };
        self.watch(arena, rows, &mut lens)?;
        Ok(lens.top)
    }

    /// The probabilities (n_layer, b, n_head, t, t) with which each position looks at each: 0 at those that it does not see.
    pub fn attention_maps(&self, arena: &mut Arena, rows: Rows<'_>) -> Result<Vec<f32>> {
        self.check_rows("attention_maps", rows)?;
        let t = rows.t;
        let len = self.config.n_layer * rows.b * self.config.n_head * t * t;
        let mut maps = Maps { scores: buffer::zeros(t * t, "scores")?, all: buffer::zeros(len, "attention maps")? };
        self.watch(arena, rows, &mut maps)?;
        Ok(maps.all)
    }

    /// How many states of the stream a pass goes through.
    fn states(&self) -> usize {
        self.config.n_layer + 1
    }

    fn watch(&self, arena: &mut Arena, rows: Rows<'_>, watcher: &mut impl Watcher) -> Result<()> {
        match self.inference_precision() {
            Precision::Float32 => self.watch_as::<f32>(arena, rows, watcher),
            Precision::Bfloat16 => self.watch_as::<bf16>(arena, rows, watcher),
        }
    }

    fn watch_as<E: Scalar>(&self, arena: &mut Arena, rows: Rows<'_>, watcher: &mut impl Watcher) -> Result<()> {
        self.pass::<E, _>(arena, rows, |pass, mut acts| {
            pass.embed(rows.ids, &mut acts)?;
            watcher.see(&pass, 0, &mut acts)?;
            for layer in 0..self.config.n_layer {
                pass.block(layer, Vec::new(), &mut acts)?;
                watcher.see(&pass, layer + 1, &mut acts)?;
            }
            Ok(())
        })
    }
}

/// Part `i` of the equal ones that `all` is made of, each of `len` numbers.
fn part<T>(all: &mut [T], i: usize, len: usize) -> &mut [T] {
    &mut all[i * len..][..len]
}

struct States {
    all: Vec<f32>,
}

impl Watcher for States {
    fn see<E: Scalar>(&mut self, pass: &Pass<'_>, done: usize, acts: &mut Activations<'_, E>) -> Result<()> {
        let x = &*acts.stream[pass.last_state()];
        part(&mut self.all, done, x.len()).copy_from_slice(x);
        Ok(())
    }
}

struct Lens {
    all: Vec<f32>,
}

impl Watcher for Lens {
    fn see<E: Scalar>(&mut self, pass: &Pass<'_>, done: usize, acts: &mut Activations<'_, E>) -> Result<()> {
        let n = pass.shape.n();
        pass.last_norm(acts)?;
        let out = part(&mut self.all, done, n * pass.model.config.vocab_size);
        head::logits(pass.model, pass.weights, n, acts.scratch.normed, out)
    }
}

struct TopLens {
    k: usize,
    top: Top,
}

impl Watcher for TopLens {
    fn see<E: Scalar>(&mut self, pass: &Pass<'_>, done: usize, acts: &mut Activations<'_, E>) -> Result<()> {
        let (n, k, c, v) = (pass.shape.n(), self.k, pass.model.config.n_embd, pass.model.config.vocab_size);
        pass.last_norm(acts)?;
        let scratch = &mut acts.scratch;
        let (ids, probs) = (part(&mut self.top.ids, done, n * k), part(&mut self.top.probs, done, n * k));
        for first in (0..n).step_by(LOSS_ROWS) {
            let rows = LOSS_ROWS.min(n - first);
            head::logits(pass.model, pass.weights, rows, &scratch.normed[first * c..], scratch.logits)?;
            let logits = view(scratch.logits, rows, v);
            top_of(logits, k, &mut ids[first * k..][..rows * k], &mut probs[first * k..][..rows * k])?;
        }
        Ok(())
    }
}

/// The `k` most probable tokens of each row of `logits`, into `ids` and `probs` (rows, k).
fn top_of(logits: ArrayView2<'_, f32>, k: usize, ids: &mut [u32], probs: &mut [f32]) -> Result<()> {
    parallel::for_each(ids.chunks_mut(k).zip(logits.rows()), |_, (best, row)| {
        let row = row.to_slice().expect("rows of the logits");
        best.copy_from_slice(&largest(row, k));
    });
    // The loss of the best token is -ln p; the others' logits say how much less probable they are.
    let firsts: Vec<i64> = ids.iter().step_by(k).map(|&id| i64::from(id)).collect();
    let mut losses = vec![0.0; firsts.len()];
    cross_entropy(logits, &firsts, -1, 0.0, &mut losses)?;
    for (((row, loss), ids), probs) in logits.rows().into_iter().zip(losses).zip(ids.chunks(k)).zip(probs.chunks_mut(k))
    {
        let logit = |id: u32| f64::from(row[id as usize]);
        for (&id, p) in ids.iter().zip(probs) {
            *p = (logit(id) - logit(ids[0]) - f64::from(loss)).exp() as f32;
        }
    }
    Ok(())
}

/// The places of the `k` largest of `row`, the largest first and equal ones in order: in one scan, since few of a large
/// vocabulary are above the least of those that are kept.
pub(super) fn largest(row: &[f32], k: usize) -> Vec<u32> {
    let before = |&i: &u32, &j: &u32| row[j as usize].total_cmp(&row[i as usize]).then(i.cmp(&j));
    let (mut kept, mut least) = (Vec::with_capacity(row.len().min(2 * k)), None);
    for (i, x) in row.iter().enumerate() {
        if least.is_some_and(|least: f32| x.total_cmp(&least).is_le()) {
            continue;
        }
        kept.push(i as u32);
        if kept.len() == 2 * k {
            kept.select_nth_unstable_by(k - 1, before);
            kept.truncate(k);
            least = Some(row[kept[k - 1] as usize]);
        }
    }
    kept.sort_unstable_by(before);
    kept.truncate(k);
    kept
}

struct Maps {
    /// Of one head `(T, T)`.
    scores: Vec<f32>,
    all: Vec<f32>,
}

impl Watcher for Maps {
    fn see<E: Scalar>(&mut self, pass: &Pass<'_>, done: usize, acts: &mut Activations<'_, E>) -> Result<()> {
        let Some(layer) = done.checked_sub(1) else { return Ok(()) };
        let cx = pass.context(layer);
        let (t, h, hkv) = (cx.t, cx.config.n_head, cx.config.kv_heads());
        let saved = &acts.saved[pass.shape.slot(layer)];
        let ([q, k, _], options) = (attn::inputs(&cx, saved.qkv, acts.scratch.qk), attn::options(&cx));
        let scale = options.scale.unwrap_or(1.0 / (cx.config.head_dim() as f32).sqrt());
        let maps = part(&mut self.all, layer, cx.b * h * t * t);
        for (i, map) in maps.chunks_mut(t * t).enumerate() {
            let (row, head) = (i / h, i % h);
            let q = q.slice(s![row, head, .., ..]);
            let k = k.slice(s![row, head / (h / hkv), .., ..]);
            product(E::PRECISION, E::matrix(q), E::matrix(k).t(), sums(&mut self.scores, t, t, None, None))?;
            scale_assign(&mut self.scores, scale);
            if let Some(cap) = options.softcap {
                softcap(cap, view_mut(&mut self.scores, t, t))?;
            }
            for (query, scores) in self.scores.chunks_mut(t).enumerate() {
                scores[query + 1..].fill(f32::NEG_INFINITY);
                let document = options.starts.map_or(0, |starts| starts[row * t + query] as usize);
                let unseen = options.window.map_or(0, |window| (query + 1).saturating_sub(window)).max(document);
                scores[..unseen].fill(f32::NEG_INFINITY);
            }
            softmax(view(&self.scores, t, t), view_mut(map, t, t))?;
        }
        Ok(())
    }
}
