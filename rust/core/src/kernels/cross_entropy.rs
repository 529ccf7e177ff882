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
//! [`cross_entropy_inplace`] makes loss and gradient in one visit of a row, and lays the gradient over the logits
//! (Hsu et al.: "Liger kernel", 2024). `torch.nn.functional.cross_entropy` with `reduction="none"`.

use super::rows::{self, check_rows};
use super::{check, softmax};
use crate::error::{Error, Result};
use crate::simd::{Element, Kernel, LANES, Simd, dispatch, isa};
use ndarray::{ArrayView2, ArrayViewMut2};

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
    rows::each(n * v, parts, |i, (mut dlogits, targets)| {
        for at in 0..targets.len() {
            rows::row_mut(&mut dlogits, at).copy_from_slice(rows::row(&logits, i * size + at));
        }
        dispatch(isa, Inplace { logits: dlogits, targets, rule, scale, losses: &mut [] });
    });
    Ok(())
}

/// The loss of each row, and its gradient times `scale` in the place of the logits.
pub fn cross_entropy_inplace(
    logits: ArrayViewMut2<f32>,
    targets: &[i64],
    ignore_index: i64,
    label_smoothing: f32,
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
        dispatch(isa, Inplace { logits, targets, rule, scale, losses });
    });
    Ok(())
}

/// The loss of each row, and its gradient times `scale` in a matrix of its own. What `logits` hold afterwards is of no
/// use: the exponentials pass through them.
pub fn cross_entropy_gradient<G: Element>(
    logits: ArrayViewMut2<f32>,
    targets: &[i64],
    ignore_index: i64,
    label_smoothing: f32,
    scale: f32,
    losses: &mut [f32],
    gradient: ArrayViewMut2<G>,
) -> Result<()> {
    const OP: &str = "cross_entropy_gradient";
    let (n, v) = logits.dim();
    check_rows!(OP, [n, v], logits, gradient);
    check::len(OP, "losses", losses.len(), n)?;
    let rule = Rule::new(OP, targets, [n, v], ignore_index, label_smoothing)?;
    let (isa, size) = (isa::current(), rows::task_rows(v));
    let parts = rows::blocks_mut(logits, size).into_iter().zip(rows::blocks_mut(gradient, size));
    let parts = parts.zip(targets.chunks(size)).zip(losses.chunks_mut(size));
    rows::each(n * v, parts, |_, (((logits, gradient), targets), losses)| {
        dispatch(isa, Beside { logits, targets, rule, scale, losses, gradient });
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

    /// The mean of `max - x`, where the loss needs it.
    #[inline(always)]
    fn mean_below<S: Simd>(self, s: S, x: &[f32], max: f32) -> f64 {
        if self.smoothing == 0.0 {
            return 0.0;
        }
        let mut sum = s.splat(0.0);
        for at in (0..x.len()).step_by(LANES) {
            sum = s.add(sum, s.sub(s.splat(max), s.load_at(x, at, max)));
        }
        f64::from(s.reduce_add(sum)) / x.len() as f64
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
            if target == self.rule.ignore_index {
                *loss = 0.0;
                continue;
            }
            let x = rows::row(&self.logits, self.first + i);
            let max = softmax::largest(s, x);
            let below = f64::from(max) - f64::from(x[target as usize]);
            let mean_below = self.rule.mean_below(s, x, max);
            *loss = self.rule.loss(softmax::exp_sum(s, x, max).ln(), below, mean_below);
        }
    }
}

/// `losses` is empty where only the gradient is asked for.
struct Inplace<'a> {
    logits: ArrayViewMut2<'a, f32>,
    targets: &'a [i64],
    rule: Rule,
    scale: f32,
    losses: &'a mut [f32],
}

impl Kernel for Inplace<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for (i, &target) in self.targets.iter().enumerate() {
            let x = rows::row_mut(&mut self.logits, i);
            let loss = if target == self.rule.ignore_index {
                x.fill(0.0);
                0.0
            } else {
                visit(s, x, target as usize, self.rule, self.scale)
            };
            if let Some(out) = self.losses.get_mut(i) {
                *out = loss;
            }
        }
    }
}

/// Replaces a row by its gradient and gives its loss.
#[inline(always)]
fn visit<S: Simd>(s: S, x: &mut [f32], target: usize, rule: Rule, scale: f32) -> f32 {
    let max = softmax::largest(s, x);
    let below = f64::from(max) - f64::from(x[target]);
    let mean_below = rule.mean_below(s, x, max);
    let sum = softmax::exp_inplace(s, x, max);
    let spread = f64::from(scale) * f64::from(rule.smoothing) / x.len() as f64;
    let (by, minus) = (s.splat((f64::from(scale) / sum) as f32), s.splat(-spread as f32));
    for at in (0..x.len()).step_by(LANES) {
        let d = s.fma(s.load_at(x, at, 0.0), by, minus);
        s.store_at(x, at, d);
    }
    x[target] -= scale * (1.0 - rule.smoothing);
    rule.loss(sum.ln(), below, mean_below)
}

struct Beside<'a, G> {
    logits: ArrayViewMut2<'a, f32>,
    targets: &'a [i64],
    rule: Rule,
    scale: f32,
    losses: &'a mut [f32],
    gradient: ArrayViewMut2<'a, G>,
}

impl<G: Element> Kernel for Beside<'_, G> {
    type Output = ();
    const BF16: bool = G::HALF;
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for (i, &target) in self.targets.iter().enumerate() {
            let (x, d) = (rows::row_mut(&mut self.logits, i), rows::row_mut(&mut self.gradient, i));
            if target == self.rule.ignore_index {
                d.fill(G::zeroed());
                self.losses[i] = 0.0;
                continue;
            }
            self.losses[i] = visit(s, x, target as usize, self.rule, self.scale);
            for at in (0..x.len()).step_by(LANES) {
                G::store_at(s, d, at, s.load_at(x, at, 0.0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::testing::{assert_same_bits, inner, matrix, nan, on_each_isa, width, within};
    use super::*;
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
        cross_entropy_inplace(inside, targets, IGNORED, smoothing, scale, &mut again).unwrap();
        let same = |a: &f32, b: &f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(losses.iter().zip(&again).all(|(a, b)| same(a, b)));
        assert!(dx.iter().zip(inner(&place)).all(|(a, b)| same(a, b)));
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
                cross_entropy_inplace(nan(2, 3).view_mut(), targets, IGNORED, smoothing, 1.0, &mut [0.0; 2]).is_err()
            );
        }
        assert!(cross_entropy(x.view(), &[0, 1], IGNORED, 0.0, &mut [0.0; 3]).is_err());
        assert!(cross_entropy(x.t(), &[0, 1, 1], IGNORED, 0.0, &mut [0.0; 3]).is_err());
        assert!(cross_entropy_backward(x.view(), &[0, 1], IGNORED, 0.0, 1.0, nan(2, 4).view_mut()).is_err());
    }
}
