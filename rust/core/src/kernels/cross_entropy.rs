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

thread_local! {
    /// The exponentials of a row, and what each of its segments is relative to: they stay in the second cache.
    static ROW: Cell<(Vec<f32>, Vec<f32>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

/// This thread's room for the exponentials of a row of `v` logits, and for the bases of its segments; to be set back.
fn take_row(v: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut exps, bases) = ROW.take();
    if exps.len() < v {
        exps.resize(v, 0.0);
    }
    (exps, bases)
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
        let (mut exps, mut bases) = take_row(self.out.ncols());
        for (i, &target) in self.targets.iter().enumerate() {
            let out = rows::row_mut(&mut self.out, i);
            if target == self.rule.ignore_index {
                out.fill(0.0);
                continue;
            }
            let exps = &mut exps[..out.len()];
            let row = read(s, rows::row(&self.logits, self.first + i), self.rule, exps, &mut bases);
            write(s, &row, exps, &bases, target as usize, self.rule, None, self.scale, out);
        }
        ROW.set((exps, bases));
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
        let ((mut exps, mut bases), mut kept) = (take_row(self.logits.ncols()), Vec::new());
        for (i, (&target, loss)) in self.targets.iter().zip(self.losses).enumerate() {
            let logits = rows::row_mut(&mut self.logits, i);
            let v = logits.len();
            *loss = 0.0;
            if target == self.rule.ignore_index {
                bytemuck::cast_slice_mut(logits)[..v].fill(G::zeroed());
                continue;
            }
            let (exps, target) = (&mut exps[..v], target as usize);
            let row = read(s, logits, self.rule, exps, &mut bases);
            *loss = row.loss(self.rule, logits[target]);
            // The gradient is laid over the logits, which its way through a cap still has to read.
            let capped = self.cap.map(|cap| {
                kept.clear();
                kept.extend_from_slice(logits);
                (cap, &kept[..])
            });
            let out: &mut [G] = &mut bytemuck::cast_slice_mut(logits)[..v];
            write(s, &row, exps, &bases, target, self.rule, capped, self.scale, out);
        }
        ROW.set((exps, bases));
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
mod tests {
    use super::super::rows::testing::{assert_same_bits, inner, matrix, nan, on_each_isa, width, within};
    use super::*;
    use crate::simd::{bf16, round_to_bf16};
    use ndarray::{Array2, s};
    use proptest::prelude::*;
    use subgpt_testkit::gradcheck::{assert_close, gradient, wide};
    use subgpt_testkit::{noise::Noise, rows as naive};

    const IGNORED: i64 = -100;

    /// Losses and gradient by all three calls, which must agree.
    fn all(x: &Array2<f32>, targets: &[i64], smoothing: f32, scale: f32) -> (Vec<f32>, Vec<f32>) {
        let (n, v) = x.dim();
        let (mut losses, mut again, mut dx) = (vec![f32::NAN; n], vec![f32::NAN; n], nan(n, v));
        let mut place = within(x);
        cross_entropy(inner(&place), targets, IGNORED, smoothing, &mut losses).unwrap();
        cross_entropy_backward(inner(&place), targets, IGNORED, smoothing, scale, dx.view_mut()).unwrap();
        let inside = place.slice_mut(s![.., 2..v + 2]);
        cross_entropy_inplace::<f32>(inside, targets, IGNORED, smoothing, None, scale, &mut again).unwrap();
        let same = |a: &f32, b: &f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(losses.iter().zip(&again).all(|(a, b)| same(a, b)));
        assert!(dx.iter().zip(inner(&place)).all(|(a, b)| same(a, b)));
        let mut narrow = within(x);
        let inside = narrow.slice_mut(s![.., 2..v + 2]);
        cross_entropy_inplace::<bf16>(inside, targets, IGNORED, smoothing, None, scale, &mut again).unwrap();
        assert!(losses.iter().zip(&again).all(|(a, b)| same(a, b)));
        for (row, dx) in narrow.rows().into_iter().zip(dx.rows()) {
            let half: &[bf16] = bytemuck::cast_slice(&row.to_slice().unwrap()[2..v + 2]);
            assert!(dx.iter().zip(half).all(|(d, h)| round_to_bf16(*d).to_bits() == h.to_bits()));
        }
        assert!(narrow.column(1).iter().chain(narrow.column(v + 2)).all(|v| v.is_nan()), "wrote beside the row");
        assert!(place.column(1).iter().chain(place.column(v + 2)).all(|v| v.is_nan()), "wrote beside the row");
        (losses, dx.into_raw_vec_and_offset().0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn loss_and_gradient_are_the_formula_and_its_gradient(
            n in 1usize..6, v in width(), seed: u64, smoothing in prop_oneof![Just(0.0f32), Just(0.1), Just(1.0)],
            offset in prop_oneof![Just(0.0f32), Just(1e4), Just(-1e4)],
        ) {
            let mut noise = Noise::new(seed);
            let x = matrix(&mut noise, n, v, 2.0) + offset;
            let targets: Vec<i64> =
                (0..n).map(|_| if noise.below(4) == 0 { IGNORED } else { noise.below(v) as i64 }).collect();
            let loss = |x: &[f64]| naive::cross_entropy(x, v, &targets, IGNORED, f64::from(smoothing));
            let wide_x = wide(x.as_slice().unwrap());
            let dx = gradient(&wide_x, |x| loss(x).iter().sum::<f64>() * 0.25);
            on_each_isa(|| {
                let (losses, dlogits) = all(&x, &targets, smoothing, 0.25);
                assert_close("losses", &losses, &loss(&wide_x), 1e-6);
                assert_close("dlogits", &dlogits, &dx, 2e-6);
                let quiet = targets.iter().enumerate().filter(|(_, t)| **t == IGNORED);
                for (i, _) in quiet {
                    assert!(losses[i] == 0.0 && dlogits[i * v..(i + 1) * v].iter().all(|d| d.to_bits() == 0));
                }
            });
        }
    }

    #[test]
    fn masked_logits_have_no_gradient_and_ignored_rows_may_hold_anything() {
        let mut x = matrix(&mut Noise::new(1), 4, 35, 1.0);
        x.slice_mut(s![0, 20..]).fill(f32::NEG_INFINITY);
        x.row_mut(1).fill(f32::NAN);
        x.row_mut(2).slice_mut(s![5..]).fill(f32::NEG_INFINITY);
        x.row_mut(3).fill(f32::NEG_INFINITY);
        on_each_isa(|| {
            let (losses, dx) = all(&x, &[3, IGNORED, 20, 0], 0.0, 1.0);
            let want = naive::cross_entropy(&wide(&x.as_slice().unwrap()[..35]), 35, &[3], IGNORED, 0.0);
            assert_close("losses", &losses[..1], &want, 1e-6);
            assert!(dx[20..70].iter().all(|&d| d == 0.0) && losses[1] == 0.0);
            // A target that cannot be has an infinite loss, yet a gradient that can be used.
            assert!(losses[2] == f32::INFINITY && dx[70..105].iter().all(|d| d.is_finite()) && dx[90] == -1.0);
            assert!(!losses[3].is_finite(), "a row of only -inf must not look like a good one");
        });
    }

    #[test]
    fn rows_of_many_segments_are_the_formula_wherever_their_maximum_is() {
        let mut noise = Noise::new(6);
        let v = 3 * SEGMENT + 7;
        let mut x = matrix(&mut noise, 4, v, 2.0);
        for (row, at) in [(0, 5), (1, v - 1), (2, SEGMENT + 1)] {
            x[[row, at]] = 20.0;
        }
        x.slice_mut(s![3, ..2 * SEGMENT]).fill(f32::NEG_INFINITY);
        x.slice_mut(s![3, 2 * SEGMENT..]).mapv_inplace(|v| v - 1000.0);
        let targets = [7, (SEGMENT + 1) as i64, 0, (2 * SEGMENT + 9) as i64];
        let wide_x = wide(x.as_slice().unwrap());
        for smoothing in [0.0, 0.1] {
            let want = naive::cross_entropy(&wide_x, v, &targets, IGNORED, f64::from(smoothing));
            let p = naive::softmax(&wide_x, v);
            on_each_isa(|| {
                let (losses, dx) = all(&x, &targets, smoothing, 1.0);
                let finite = if smoothing > 0.0 { 3 } else { 4 };
                assert_close("losses", &losses[..finite], &want[..finite], 1e-6);
                for i in 0..4 * v {
                    let hit = f64::from(u8::from(targets[i / v] as usize == i % v));
                    let s = f64::from(smoothing);
                    let d = p[i] - (1.0 - s) * hit - s / v as f64;
                    assert!((f64::from(dx[i]) - d).abs() <= 2e-6, "{i}: {} instead of {d}", dx[i]);
                }
            });
        }
    }

    #[test]
    fn a_nan_reaches_the_loss() {
        let mut x = matrix(&mut Noise::new(2), 2, 40, 1.0);
        x[[0, 39]] = f32::NAN;
        on_each_isa(|| {
            let (losses, dx) = all(&x, &[0, 1], 0.0, 1.0);
            assert!(losses[0].is_nan() && losses[1].is_finite() && dx[..40].iter().all(|d| d.is_nan()));
        });
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let x = matrix(&mut Noise::new(3), 40, 3001, 3.0);
        let targets: Vec<i64> = (0..40).map(|i| if i % 7 == 0 { IGNORED } else { i * 71 }).collect();
        assert_same_bits(|| {
            let (losses, dx) = all(&x, &targets, 0.1, 0.5);
            [losses, dx].concat()
        });
    }

    #[test]
    fn the_gradient_goes_back_through_a_cap() {
        let (n, v, cap) = (4, 70, 3.0f32);
        let x = matrix(&mut Noise::new(4), n, v, 4.0);
        let targets = [5, IGNORED, 69, 0];
        let loss = |x: &[f64]| {
            let capped: Vec<f64> = x.iter().map(|x| f64::from(cap) * (x / f64::from(cap)).tanh()).collect();
            let rows = capped.chunks(v).zip(targets).filter(|(_, t)| *t != IGNORED);
            rows.map(|(row, t)| row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[t as usize]).sum::<f64>()
        };
        let expected = gradient(&wide(x.as_slice().unwrap()), |x| 0.5 * loss(x));
        on_each_isa(|| {
            let (mut place, mut losses) = (x.clone(), [f32::NAN; 4]);
            crate::kernels::softcap::softcap(cap, place.view_mut()).unwrap();
            cross_entropy_inplace::<f32>(place.view_mut(), &targets, IGNORED, 0.0, Some(cap), 0.5, &mut losses)
                .unwrap();
            assert_close("dx", place.as_slice().unwrap(), &expected, 2e-6);
        });
    }

    #[test]
    fn wrong_targets_and_shapes_are_errors() {
        let x = Array2::<f32>::zeros((2, 3));
        let call = |targets: &[i64], smoothing| cross_entropy(x.view(), targets, IGNORED, smoothing, &mut [0.0; 2]);
        assert!(call(&[0, IGNORED], 0.0).is_ok());
        assert!(call(&[0, 3], 0.0).unwrap_err().to_string().contains("3 at position 1"));
        for (targets, smoothing) in
            [(&[0, -1][..], 0.0), (&[0], 0.0), (&[0, 1], -0.1), (&[0, 1], 1.1), (&[0, 1], f32::NAN)]
        {
            assert!(call(targets, smoothing).is_err());
            assert!(
                cross_entropy_inplace::<f32>(
                    nan(2, 3).view_mut(),
                    targets,
                    IGNORED,
                    smoothing,
                    None,
                    1.0,
                    &mut [0.0; 2]
                )
                .is_err()
            );
        }
        assert!(cross_entropy(x.view(), &[0, 1], IGNORED, 0.0, &mut [0.0; 3]).is_err());
        assert!(cross_entropy(x.t(), &[0, 1, 1], IGNORED, 0.0, &mut [0.0; 3]).is_err());
        assert!(cross_entropy_backward(x.view(), &[0, 1], IGNORED, 0.0, 1.0, nan(2, 4).view_mut()).is_err());
    }
}
