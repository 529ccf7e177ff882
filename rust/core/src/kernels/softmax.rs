//! Softmax and log-softmax of rows.
//!
//! ```text
//! softmax:      y = e^(x - m) / sum e^(x - m)             dx = y * (dy - sum(dy * y))
//! log_softmax:  y = x - m - ln sum e^(x - m)              dx = dy - e^y * sum dy            m: the row's largest
//! ```
//!
//! All arrays `(rows, C)`. An element of `-inf` is masked: its probability is 0. A row of only `-inf` (everything masked)
//! has no distribution; softmax gives zeros, whose gradient is zero, and log-softmax gives `-inf` with a gradient equal
//! to `dy`. NaN or `+inf` in a row makes the row NaN.
//!
//! `torch.softmax`, `torch.log_softmax` over the last axis (which give NaN for rows of only `-inf`).

use super::rows::{self, check_rows};
use crate::error::Result;
use crate::simd::{Element, Kernel, LANES, Simd, dispatch, isa, math};
use ndarray::{ArrayView2, ArrayViewMut2};

/// The softmax of each row of `x`.
pub fn softmax(x: ArrayView2<f32>, y: ArrayViewMut2<f32>) -> Result<()> {
    forward("softmax", false, x, y)
}

/// The gradient of [`softmax`] from its result `y`.
pub fn softmax_backward(y: ArrayView2<f32>, dy: ArrayView2<f32>, dx: ArrayViewMut2<f32>) -> Result<()> {
    backward("softmax_backward", false, y, dy, dx)
}

/// The logarithm of the softmax of each row of `x`.
pub fn log_softmax(x: ArrayView2<f32>, y: ArrayViewMut2<f32>) -> Result<()> {
    forward("log_softmax", true, x, y)
}

/// The gradient of [`log_softmax`] from its result `y`.
pub fn log_softmax_backward(y: ArrayView2<f32>, dy: ArrayView2<f32>, dx: ArrayViewMut2<f32>) -> Result<()> {
    backward("log_softmax_backward", true, y, dy, dx)
}

fn forward(op: &'static str, log: bool, x: ArrayView2<f32>, y: ArrayViewMut2<f32>) -> Result<()> {
    let (n, c) = x.dim();
    check_rows!(op, [n, c], x, y);
    if c == 0 {
        return Ok(()); // any number of rows without columns costs no memory, but would cost a task each
    }
    let (isa, size) = (isa::current(), rows::task_rows(c));
    rows::each(n * c, rows::blocks_mut(y, size), |i, y| dispatch(isa, Forward { log, x, first: i * size, y }));
    Ok(())
}

fn backward(
    op: &'static str,
    log: bool,
    y: ArrayView2<f32>,
    dy: ArrayView2<f32>,
    dx: ArrayViewMut2<f32>,
) -> Result<()> {
    let (n, c) = y.dim();
    check_rows!(op, [n, c], y, dy, dx);
    if c == 0 {
        return Ok(());
    }
    let (isa, size) = (isa::current(), rows::task_rows(c));
    rows::each(n * c, rows::blocks_mut(dx, size), |i, dx| dispatch(isa, Backward { log, y, dy, first: i * size, dx }));
    Ok(())
}

/// The largest element of a row; 0 for a row of only `-inf`, so that no `inf - inf` arises and its sum is 0.
#[inline(always)]
fn largest<S: Simd>(s: S, x: &[f32]) -> f32 {
    let top = top(s, x);
    if top == f32::NEG_INFINITY { 0.0 } else { top }
}

/// The largest element of a row.
#[inline(always)]
pub(super) fn top<S: Simd, E: Element>(s: S, x: &[E]) -> f32 {
    let start = s.splat(f32::NEG_INFINITY);
    let (mut max, mut other) = (start, start);
    let (pairs, rest) = x.as_chunks::<{ 2 * LANES }>();
    for pair in pairs {
        max = s.max(E::load_at(s, pair, 0, 0.0), max);
        other = s.max(E::load_at(s, pair, LANES, 0.0), other);
    }
    for at in (0..rest.len()).step_by(LANES) {
        max = s.max(E::load_at(s, rest, at, f32::NEG_INFINITY), max);
    }
    s.reduce_max(s.max(other, max))
}

/// Elements whose exponentials are added up in f32; the sums of segments are added in f64, so that a vocabulary of
/// any size keeps its digits.
pub(super) const SEGMENT: usize = 2048;

/// The sum of `e^(x - max)` over a row; no element is above `max`.
#[inline(always)]
pub(super) fn exp_sum<S: Simd, E: Element>(s: S, x: &[E], max: f32) -> f64 {
    let (shift, mut total) = (s.splat(max), 0.0);
    for x in x.chunks(SEGMENT) {
        let mut sum = s.splat(0.0);
        for at in (0..x.len()).step_by(LANES) {
            sum = s.add(sum, math::exp_below(s, s.sub(E::load_at(s, x, at, f32::NEG_INFINITY), shift)));
        }
        total += f64::from(s.reduce_add(sum));
    }
    total
}

/// Writes `e^(x - max)` of a row to `y` and gives their sum: the same bits as [`exp_sum`].
#[inline(always)]
pub(super) fn exp_into<S: Simd, E: Element>(s: S, x: &[E], max: f32, y: &mut [f32]) -> f64 {
    let (shift, mut total) = (s.splat(max), 0.0);
    for (x, y) in x.chunks(SEGMENT).zip(y.chunks_mut(SEGMENT)) {
        let mut sum = s.splat(0.0);
        for at in (0..x.len()).step_by(LANES) {
            let e = math::exp_below(s, s.sub(E::load_at(s, x, at, f32::NEG_INFINITY), shift));
            s.store_at(y, at, e);
            sum = s.add(sum, e);
        }
        total += f64::from(s.reduce_add(sum));
    }
    total
}

struct Forward<'a> {
    log: bool,
    x: ArrayView2<'a, f32>,
    first: usize,
    y: ArrayViewMut2<'a, f32>,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for i in 0..self.y.nrows() {
            let (x, y) = (rows::row(&self.x, self.first + i), rows::row_mut(&mut self.y, i));
            let max = largest(s, x);
            if self.log {
                let log_sum = exp_sum(s, x, max).ln();
                // Of a row of only -inf the sum is 0 and its logarithm -inf: -inf - -inf must not arise.
                let log_sum = if log_sum == f64::NEG_INFINITY { 0.0 } else { log_sum as f32 };
                for at in (0..x.len()).step_by(LANES) {
                    let v = s.sub(s.sub(s.load_at(x, at, 0.0), s.splat(max)), s.splat(log_sum));
                    s.store_at(y, at, v);
                }
            } else {
                let sum = exp_into(s, x, max, y);
                let scale = s.splat(if sum == 0.0 { 0.0 } else { (1.0 / sum) as f32 });
                for at in (0..y.len()).step_by(LANES) {
                    let v = s.mul(s.load_at(y, at, 0.0), scale);
                    s.store_at(y, at, v);
                }
            }
        }
    }
}

struct Backward<'a> {
    log: bool,
    y: ArrayView2<'a, f32>,
    dy: ArrayView2<'a, f32>,
    first: usize,
    dx: ArrayViewMut2<'a, f32>,
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for i in 0..self.dx.nrows() {
            let (y, dy) = (rows::row(&self.y, self.first + i), rows::row(&self.dy, self.first + i));
            let mut sum = s.splat(0.0);
            for at in (0..y.len()).step_by(LANES) {
                let dy = s.load_at(dy, at, 0.0);
                sum = if self.log { s.add(sum, dy) } else { s.fma(dy, s.load_at(y, at, 0.0), sum) };
            }
            let sum = s.splat(s.reduce_add(sum));
            let dx = rows::row_mut(&mut self.dx, i);
            for at in (0..y.len()).step_by(LANES) {
                let (y, dy) = (s.load_at(y, at, 0.0), s.load_at(dy, at, 0.0));
                let d = if self.log { s.sub(dy, s.mul(math::exp(s, y), sum)) } else { s.mul(y, s.sub(dy, sum)) };
                s.store_at(dx, at, d);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::testing::{assert_same_bits, inner, matrix, nan, on_each_isa, width, within};
    use super::*;
    use ndarray::Array2;
    use proptest::prelude::*;
    use subgpt_testkit::gradcheck::{assert_close, gradient, weighted, wide};
    use subgpt_testkit::{noise::Noise, rows as naive};

    fn apply(log: bool, x: &Array2<f32>) -> Array2<f32> {
        let (x, mut y) = (within(x), nan(x.nrows(), x.ncols()));
        if log { log_softmax(inner(&x), y.view_mut()) } else { softmax(inner(&x), y.view_mut()) }.unwrap();
        y
    }

    fn apply_backward(log: bool, y: &Array2<f32>, dy: &Array2<f32>) -> Array2<f32> {
        let mut dx = nan(y.nrows(), y.ncols());
        let f = if log { log_softmax_backward } else { softmax_backward };
        f(y.view(), inner(&within(dy)), dx.view_mut()).unwrap();
        dx
    }

    fn exact(log: bool, x: &[f64], c: usize) -> Vec<f64> {
        if log { naive::log_softmax(x, c) } else { naive::softmax(x, c) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn forward_and_backward_are_the_formula_and_its_gradient(
            n in 1usize..5, c in width(), seed: u64, log: bool, offset in prop_oneof![Just(0.0f32), Just(1e4), Just(-1e4)],
        ) {
            let mut noise = Noise::new(seed);
            let (x, dy) = (matrix(&mut noise, n, c, 2.0) + offset, matrix(&mut noise, n, c, 1.0));
            let wide_x = wide(x.as_slice().unwrap());
            let want = exact(log, &wide_x, c);
            let want_dx = gradient(&wide_x, |x| weighted(&exact(log, x, c), dy.as_slice().unwrap()));
            on_each_isa(|| {
                let y = apply(log, &x);
                assert_close("y", y.as_slice().unwrap(), &want, 2e-6);
                let dx = apply_backward(log, &y, &dy);
                assert_close("dx", dx.as_slice().unwrap(), &want_dx, 3e-6);
            });
        }
    }

    #[test]
    fn masked_elements_have_no_probability() {
        let mut x = matrix(&mut Noise::new(1), 3, 37, 1.0);
        for j in (0..37).filter(|j| j % 3 != 0) {
            x[[0, j]] = f32::NEG_INFINITY;
        }
        x.row_mut(1).fill(f32::NEG_INFINITY);
        x[[2, 36]] = 200.0;
        on_each_isa(|| {
            let y = apply(false, &x);
            assert_close("y", y.as_slice().unwrap(), &naive::softmax(&wide(x.as_slice().unwrap()), 37), 1e-6);
            assert!((0..37).all(|j| (y[[0, j]] == 0.0) == (j % 3 != 0) && y[[1, j]] == 0.0));
            assert!(apply_backward(false, &y, &Array2::ones((3, 37))).iter().all(|v| v.is_finite()));
            let log = apply(true, &x);
            assert!(log.iter().zip(&y).all(|(l, y)| !l.is_nan() && (l.exp() - y).abs() < 1e-6));
            let dx = apply_backward(true, &log, &Array2::ones((3, 37)));
            assert!(dx.row(1).iter().all(|&v| v == 1.0) && dx.iter().all(|v| v.is_finite()));
        });
    }

    #[test]
    fn nan_and_infinity_spoil_their_row_alone() {
        let mut x = matrix(&mut Noise::new(2), 3, 20, 1.0);
        x[[0, 19]] = f32::NAN;
        x[[2, 3]] = f32::INFINITY;
        on_each_isa(|| {
            for log in [false, true] {
                let y = apply(log, &x);
                assert!(y.row(0).iter().chain(y.row(2)).all(|v| v.is_nan()), "{y}");
                assert!(y.row(1).iter().all(|v| v.is_finite()));
            }
        });
    }

    #[test]
    fn a_long_row_keeps_its_digits() {
        let x = matrix(&mut Noise::new(3), 1, 70_001, 1.0);
        on_each_isa(|| {
            let want = naive::log_softmax(&wide(x.as_slice().unwrap()), 70_001);
            assert_close("y", apply(true, &x).as_slice().unwrap(), &want, 1e-7);
        });
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let mut noise = Noise::new(4);
        let (x, dy) = (matrix(&mut noise, 301, 97, 2.0), matrix(&mut noise, 301, 97, 1.0));
        for log in [false, true] {
            assert_same_bits(|| {
                let y = apply(log, &x);
                let dx = apply_backward(log, &y, &dy);
                [y.into_raw_vec_and_offset().0, dx.into_raw_vec_and_offset().0].concat()
            });
        }
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let x = Array2::<f32>::zeros((2, 3));
        assert!(softmax(x.view(), nan(3, 2).view_mut()).is_err());
        assert!(log_softmax(x.t(), nan(3, 2).view_mut()).is_err());
        assert!(softmax_backward(x.view(), x.view(), nan(2, 4).view_mut()).is_err());
        assert!(log_softmax_backward(x.view(), nan(2, 4).view(), nan(2, 3).view_mut()).is_err());
        softmax(nan(2, 0).view(), nan(2, 0).view_mut()).unwrap();
    }
}
