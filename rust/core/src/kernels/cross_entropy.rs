//! Cross-entropy of rows of logits with target ids, in nats.
//!
//! ```text
//! loss[i] = lse - (1 - s) * x[t] - s * mean(x)         lse = m + ln sum e^(x - m), m the row's largest, s the smoothing
//! dx[j]   = scale * (e^(x[j] - lse) - (1 - s) * [j = t] - s / V)
//! ```
//!
//! `logits`, `dlogits` `(rows, V)`, `targets`, `losses` `(rows)`. Rows whose target is `ignore_index` have a loss of 0 and
//! a gradient of zeros, whatever they hold. The loss is put together in f64 from differences to `m`, so that logits far
//! from zero cost no digits. Taking the mean is the caller's: `scale` is 1 / (number of rows that count).
//!
//! [`cross_entropy_inplace`] makes loss and gradient in one visit of a row: logits are read once, and the exponentials,
//! which are computed once, stay in the second cache; the gradient, float32 or bfloat16, is laid over the logits (Hsu et
//! al.: "Liger kernel", 2024). `torch.nn.functional.cross_entropy` with `reduction="none"`.

use super::check;
use super::rows::{self, check_rows};
use super::softcap;
use super::softmax::{self, SEGMENT};
use crate::error::{Error, Result};
use crate::simd::{Element, Kernel, LANES, Simd, dispatch, isa};
use ndarray::{ArrayView2, ArrayViewMut2};
use std::cell::Cell;
use std::marker::PhantomData;

/// The loss of each row.
pub fn cross_entropy(
    logits: ArrayView2<f32>,
    targets: &[i64],
    ignore_index: i64,
    label_smoothing: f32,
    losses: &mut [f32],
) -> Result<()> {
    const OP: &str = "cross_entropy";
    let (n, v) = logits.dim();
    check_rows!(OP, [n, v], logits);
    check::len(OP, "losses", losses.len(), n)?;
    let rule = Rule::new(OP, targets, [n, v], ignore_index, label_smoothing)?;
    let (isa, size) = (isa::current(), rows::task_rows(v));
    let parts = losses.chunks_mut(size).zip(targets.chunks(size));
    rows::each(n * v, parts, |i, (losses, targets)| {
        dispatch(isa, Forward { logits, first: i * size, targets, rule, losses });
    });
    Ok(())
}

/// The gradient of [`cross_entropy`], each row times `scale`.
pub fn cross_entropy_backward(
    logits: ArrayView2<f32>,
    targets: &[i64],
    ignore_index: i64,
    label_smoothing: f32,
    scale: f32,
    dlogits: ArrayViewMut2<f32>,
) -> Result<()> {
    const OP: &str = "cross_entropy_backward";
    let (n, v) = logits.dim();
    check_rows!(OP, [n, v], logits, dlogits);
    let rule = Rule::new(OP, targets, [n, v], ignore_index, label_smoothing)?;
    let (isa, size) = (isa::current(), rows::task_rows(v));
    let parts = rows::blocks_mut(dlogits, size).into_iter().zip(targets.chunks(size));
    rows::each(n * v, parts, |i, (out, targets)| {
        dispatch(isa, Gradient { logits, first: i * size, targets, rule, scale, out });
    });
    Ok(())
}

/// The loss of each row, and its gradient times `scale` in the place of the logits: numbers of type `G`, in each row from
/// where its logits began. Logits that [`softcap`](super::softcap) bounded by `cap` get the gradient of those before it.
pub fn cross_entropy_inplace<G: Element>(
    logits: ArrayViewMut2<f32>,
    targets: &[i64],
    ignore_index: i64,
    label_smoothing: f32,
    cap: Option<f32>,
    scale: f32,
    losses: &mut [f32],
) -> Result<()> {
    const OP: &str = "cross_entropy_inplace";
    let (n, v) = logits.dim();
    check_rows!(OP, [n, v], logits);
    check::len(OP, "losses", losses.len(), n)?;
    let rule = Rule::new(OP, targets, [n, v], ignore_index, label_smoothing)?;
    let (isa, size) = (isa::current(), rows::task_rows(v));
    let parts = rows::blocks_mut(logits, size).into_iter().zip(targets.chunks(size)).zip(losses.chunks_mut(size));
    rows::each(n * v, parts, |_, ((logits, targets), losses)| {
        dispatch(isa, InPlace::<G> { logits, targets, rule, cap, scale, losses, gradient: PhantomData });
    });
    Ok(())
}

/// How targets are read.
#[derive(Clone, Copy)]
struct Rule {
    ignore_index: i64,
    smoothing: f32,
}

impl Rule {
    fn new(op: &'static str, targets: &[i64], [n, v]: [usize; 2], ignore_index: i64, smoothing: f32) -> Result<Self> {
        check::len(op, "targets", targets.len(), n)?;
        check::targets(op, targets, v, ignore_index)?;
        if !(0.0..=1.0).contains(&smoothing) {
            return Err(Error::value(op, "label_smoothing", smoothing, "label_smoothing must be in [0, 1]"));
        }
        Ok(Rule { ignore_index, smoothing })
    }

    /// The loss of a row, from `ln sum e^(x - m)`, `m - x[t]` and `mean(m - x)`.
    #[inline(always)]
    fn loss(self, log_sum: f64, below: f64, mean_below: f64) -> f32 {
        let s = f64::from(self.smoothing);
        // 0 * inf must not arise from logits of -inf where nothing is smoothed.
        let smooth = if s > 0.0 { s * mean_below } else { 0.0 };
        let sharp = if s < 1.0 { (1.0 - s) * below } else { 0.0 };
        (log_sum + sharp + smooth) as f32
    }
}

/// What is known of a row after some of its segments: one pass over a row finds maximum and sum together (Milakov,
/// Gimelshein: "Online normalizer calculation for softmax", 2018).
struct Running {
    /// The largest element.
    max: f32,
    /// The sum of `e^(x - max)`.
    sum: f64,
    /// The sum of `max - x`, where labels are smoothed.
    below: f64,
    /// The elements that were seen.
    seen: usize,
}

impl Running {
    const START: Running = Running { max: f32::NEG_INFINITY, sum: 0.0, below: 0.0, seen: 0 };

    /// Takes in the maximum of a segment and gives what its exponentials are relative to: the largest element by now, or
    /// 0 where all were `-inf`.
    #[inline(always)]
    fn meet<S: Simd>(&mut self, s: S, x: &[f32], rule: Rule) -> f32 {
        let top = softmax::top(s, x);
        if top > self.max {
            if self.seen > 0 {
                let by = f64::from(top) - f64::from(self.max);
                self.sum *= (-by).exp();
                self.below += by * self.seen as f64;
            }
            self.max = top;
        }
        let base = if self.max == f32::NEG_INFINITY { 0.0 } else { self.max };
        if rule.smoothing > 0.0 {
            let mut sum = s.splat(0.0);
            for at in (0..x.len()).step_by(LANES) {
                sum = s.add(sum, s.sub(s.splat(base), s.load_at(x, at, base)));
            }
            self.below += f64::from(s.reduce_add(sum));
        }
        self.seen += x.len();
        base
    }

    /// The loss of a row whose target has the logit `x`.
    #[inline(always)]
    fn loss(&self, rule: Rule, x: f32) -> f32 {
        rule.loss(self.sum.ln(), f64::from(self.max) - f64::from(x), self.below / self.seen as f64)
    }
}

struct Forward<'a> {
    logits: ArrayView2<'a, f32>,
    first: usize,
    targets: &'a [i64],
    rule: Rule,
    losses: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (i, (&target, loss)) in self.targets.iter().zip(self.losses).enumerate() {
            *loss = 0.0;
            if target != self.rule.ignore_index {
                let (x, mut row) = (rows::row(&self.logits, self.first + i), Running::START);
                for segment in x.chunks(SEGMENT) {
                    let base = row.meet(s, segment, self.rule);
                    row.sum += softmax::exp_sum(s, segment, base);
                }
                *loss = row.loss(self.rule, x[target as usize]);
            }
        }
    }
}

/// A thread's room for one row.
#[derive(Default)]
struct Room {
    /// The exponentials of the row, which stay in the second cache.
    exps: Vec<f32>,
    /// What each of its segments is relative to.
    bases: Vec<f32>,
    /// The logits before a cap, over which the gradient is laid.
    logits: Vec<f32>,
}

thread_local! {
    static ROOM: Cell<Room> = const { Cell::new(Room { exps: Vec::new(), bases: Vec::new(), logits: Vec::new() }) };
}

/// This thread's room, with space for the exponentials of `v` logits; to be set back.
fn take_room(v: usize) -> Room {
    let mut room = ROOM.take();
    if room.exps.len() < v {
        room.exps.resize(v, 0.0);
    }
    room
}

/// The gradient, beside the logits.
struct Gradient<'a> {
    logits: ArrayView2<'a, f32>,
    first: usize,
    targets: &'a [i64],
    rule: Rule,
    scale: f32,
    out: ArrayViewMut2<'a, f32>,
}

impl Kernel for Gradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let mut room = take_room(self.out.ncols());
        for (i, &target) in self.targets.iter().enumerate() {
            let out = rows::row_mut(&mut self.out, i);
            if target == self.rule.ignore_index {
                out.fill(0.0);
                continue;
            }
            let exps = &mut room.exps[..out.len()];
            let row = read(s, rows::row(&self.logits, self.first + i), self.rule, exps, &mut room.bases);
            write(s, &row, exps, &room.bases, target as usize, self.rule, None, self.scale, out);
        }
        ROOM.set(room);
    }
}

/// Loss and gradient; the gradient's numbers are laid over the logits.
struct InPlace<'a, G> {
    logits: ArrayViewMut2<'a, f32>,
    targets: &'a [i64],
    rule: Rule,
    cap: Option<f32>,
    scale: f32,
    losses: &'a mut [f32],
    gradient: PhantomData<G>,
}

impl<G: Element> Kernel for InPlace<'_, G> {
    type Output = ();
    const BF16: bool = G::HALF;
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let mut room = take_room(self.logits.ncols());
        for (i, (&target, loss)) in self.targets.iter().zip(self.losses).enumerate() {
            let logits = rows::row_mut(&mut self.logits, i);
            let v = logits.len();
            *loss = 0.0;
            if target == self.rule.ignore_index {
                bytemuck::cast_slice_mut(logits)[..v].fill(G::zeroed());
                continue;
            }
            let (exps, target) = (&mut room.exps[..v], target as usize);
            let row = read(s, logits, self.rule, exps, &mut room.bases);
            *loss = row.loss(self.rule, logits[target]);
            // The gradient is laid over the logits, which its way through a cap still has to read.
            let kept = &mut room.logits;
            let capped = self.cap.map(|cap| {
                kept.clear();
                kept.extend_from_slice(logits);
                (cap, &kept[..])
            });
            let out: &mut [G] = &mut bytemuck::cast_slice_mut(logits)[..v];
            write(s, &row, exps, &room.bases, target, self.rule, capped, self.scale, out);
        }
        ROOM.set(room);
    }
}

/// Writes the exponentials of a row, those of each segment relative to its entry of `bases`.
#[inline(always)]
fn read<S: Simd>(s: S, x: &[f32], rule: Rule, exps: &mut [f32], bases: &mut Vec<f32>) -> Running {
    let mut row = Running::START;
    bases.clear();
    for (x, exps) in x.chunks(SEGMENT).zip(exps.chunks_mut(SEGMENT)) {
        let base = row.meet(s, x, rule);
        row.sum += softmax::exp_into(s, x, base, exps);
        bases.push(base);
    }
    row
}

/// Writes the gradient of a row from its exponentials.
#[inline(always)]
fn write<S: Simd, G: Element>(
    s: S,
    row: &Running,
    exps: &[f32],
    bases: &[f32],
    target: usize,
    rule: Rule,
    capped: Option<(f32, &[f32])>,
    scale: f32,
    out: &mut [G],
) {
    let spread = f64::from(scale) * f64::from(rule.smoothing) / exps.len() as f64;
    let (per_sum, minus) = (f64::from(scale) / row.sum, s.splat(-spread as f32));
    for (k, (exps, out)) in exps.chunks(SEGMENT).zip(out.chunks_mut(SEGMENT)).enumerate() {
        // A segment of only -inf before the first number has exponentials of 0 relative to 0: no factor may be infinite.
        let below = (f64::from(bases[k]) - f64::from(row.max)).min(0.0);
        let factor = if below == 0.0 { per_sum } else { per_sum * below.exp() };
        let by = s.splat(factor as f32);
        for at in (0..exps.len()).step_by(LANES) {
            let d = s.fma(s.load_at(exps, at, 0.0), by, minus);
            G::store_at(s, out, at, before_cap(s, capped, k * SEGMENT + at, d));
        }
        if (k * SEGMENT..k * SEGMENT + exps.len()).contains(&target) {
            let target = target - k * SEGMENT;
            let d = s.fma(s.splat(exps[target]), by, minus);
            let d = s.sub(d, s.splat(scale * (1.0 - rule.smoothing)));
            let d = before_cap(s, capped, k * SEGMENT + target, d);
            G::store_at(s, &mut out[target..=target], 0, d);
        }
    }
}

/// The gradients `d` of the logits from `at` on before they were capped, where they were.
#[inline(always)]
fn before_cap<S: Simd>(s: S, capped: Option<(f32, &[f32])>, at: usize, d: S::V) -> S::V {
    match capped {
        Some((cap, y)) => s.mul(d, softcap::slope(s, cap, s.load_at(y, at, 0.0))),
        None => d,
    }
}

#[cfg(test)]
mod tests;
