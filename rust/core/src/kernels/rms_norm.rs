//! RMS normalisation of rows.
//!
//! ```text
//! y = x * rstd * (offset + weight)        rstd = 1 / sqrt(mean(x^2) + eps)
//! ```
//!
//! `x`, `y` `(rows, C)`, `weight` `(C)`, `rstd` `(rows)`: saved for the backward pass. `offset` is 0, or 1 where the stored
//! weight is the difference to 1 (Gemma); without a weight there is no gain at all. Backward, with `g = dy * (offset + weight)` and `n = x * rstd`:
//!
//! ```text
//! dx = rstd * (g - n * mean(g * n))        dweight += sum over rows of dy * n
//! ```
//!
//! Zhang, Sennrich: "Root mean square layer normalization", 2019; `torch.nn.functional.rms_norm`.

use super::rows::{self, BLOCK, check_rows};
use super::{Beta, check};
use crate::error::Result;
use crate::simd::{Element, Kernel, LANES, Simd, dispatch, isa};
use ndarray::{ArrayView2, ArrayViewMut2};
use std::ops::Range;

/// Normalises the rows of `x` into `y`, and saves each row's `rstd`.
pub fn rms_norm<Y: Element>(
    x: ArrayView2<f32>,
    weight: Option<&[f32]>,
    offset: f32,
    eps: f32,
    y: ArrayViewMut2<Y>,
    rstd: &mut [f32],
) -> Result<()> {
    const OP: &str = "rms_norm";
    let (n, c) = x.dim();
    check_rows!(OP, [n, c], x, y);
    weight.map_or(Ok(()), |weight| check::len(OP, "weight", weight.len(), c))?;
    check::len(OP, "rstd", rstd.len(), n)?;
    let (isa, size) = (isa::current(), rows::task_rows(c));
    let parts = rows::blocks_mut(y, size).into_iter().zip(rstd.chunks_mut(size));
    rows::each(n * c, parts, |i, (y, rstd)| {
        dispatch(isa, Forward { x, first: i * size, gain: Gain { weight, offset }, eps, y, rstd });
    });
    Ok(())
}

/// The gradients of [`rms_norm`]: `dx` as `beta` says, `dweight` added to.
pub fn rms_norm_backward<D: Element>(
    x: ArrayView2<f32>,
    weight: Option<&[f32]>,
    offset: f32,
    rstd: &[f32],
    dy: ArrayView2<D>,
    dx: ArrayViewMut2<f32>,
    beta: Beta,
    dweight: Option<&mut [f32]>,
) -> Result<()> {
    const OP: &str = "rms_norm_backward";
    let (n, c) = x.dim();
    check_rows!(OP, [n, c], x, dy, dx);
    weight.map_or(Ok(()), |weight| check::len(OP, "weight", weight.len(), c))?;
    check::len(OP, "rstd", rstd.len(), n)?;
    dweight.as_ref().map_or(Ok(()), |dweight| check::len(OP, "dweight", dweight.len(), c))?;
    let (isa, gain) = (isa::current(), Gain { weight, offset });
    let mut outs: Vec<&mut [f32]> = dweight.into_iter().collect();
    rows::fold_blocks([n, c], n * c, &mut outs, rows::blocks_mut(dx, BLOCK), |rows, dx, dweight| {
        dispatch(isa, Backward { x, rows, gain, rstd, dy, dx, beta, dweight });
    });
    Ok(())
}

/// What the normalised numbers are multiplied with: `offset + weight`, or nothing.
#[derive(Clone, Copy)]
struct Gain<'a> {
    weight: Option<&'a [f32]>,
    offset: f32,
}

impl<'a> Gain<'a> {
    /// The gains of whole chunks of columns, and of what is left of them; nothing where there are no gains.
    #[inline(always)]
    fn chunks(self) -> (&'a [[f32; LANES]], &'a [f32]) {
        self.weight.map_or((&[], &[]), |weight| weight.as_chunks())
    }

    /// `v` times a chunk's gains.
    #[inline(always)]
    fn times<S: Simd>(self, s: S, v: S::V, weight: Option<&[f32; LANES]>) -> S::V {
        match weight {
            Some(weight) => s.mul(v, s.add(s.splat(self.offset), s.load(weight))),
            None => v,
        }
    }

    /// `v` times the gains of what is left.
    #[inline(always)]
    fn times_tail<S: Simd>(self, s: S, v: S::V, weight: &[f32]) -> S::V {
        match self.weight {
            Some(_) => s.mul(v, s.add(s.splat(self.offset), s.load_tail(weight, 0.0))),
            None => v,
        }
    }
}

struct Forward<'a, Y> {
    x: ArrayView2<'a, f32>,
    first: usize,
    gain: Gain<'a>,
    eps: f32,
    y: ArrayViewMut2<'a, Y>,
    rstd: &'a mut [f32],
}

impl<Y: Element> Kernel for Forward<'_, Y> {
    type Output = ();
    const BF16: bool = Y::HALF;
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for i in 0..self.rstd.len() {
            let x = rows::row(&self.x, self.first + i);
            let rstd = 1.0 / (sum_of_squares(s, x) / x.len() as f32 + self.eps).sqrt();
            self.rstd[i] = rstd;
            self.normalize(s, x, i);
        }
    }
}

impl<Y: Element> Forward<'_, Y> {
    /// `y = x * rstd * gain` of row `i`.
    #[inline(always)]
    fn normalize<S: Simd>(&mut self, s: S, x: &[f32], i: usize) {
        let (gain, rstd, (weight, weight_tail)) = (self.gain, s.splat(self.rstd[i]), self.gain.chunks());
        let ((x, x_tail), (y, y_tail)) = (x.as_chunks(), rows::row_mut(&mut self.y, i).as_chunks_mut());
        for (at, (x, y)) in x.iter().zip(y).enumerate() {
            Y::store(s, y, gain.times(s, s.mul(s.load(x), rstd), weight.get(at)));
        }
        if !x_tail.is_empty() {
            let n = s.mul(s.load_tail(x_tail, 0.0), rstd);
            Y::store_tail(s, y_tail, gain.times_tail(s, n, weight_tail));
        }
    }
}

/// The sum of `x^2` over a row, in two chains, because one would wait for the latency of the additions.
#[inline(always)]
fn sum_of_squares<S: Simd>(s: S, x: &[f32]) -> f32 {
    let (mut sum, mut other) = (s.splat(0.0), s.splat(0.0));
    let (pairs, rest) = x.as_chunks::<{ 2 * LANES }>();
    for pair in pairs {
        let (x, y) = (s.load_at(pair, 0, 0.0), s.load_at(pair, LANES, 0.0));
        (sum, other) = (s.fma(x, x, sum), s.fma(y, y, other));
    }
    for at in (0..rest.len()).step_by(LANES) {
        let x = s.load_at(rest, at, 0.0);
        sum = s.fma(x, x, sum);
    }
    s.reduce_add(s.add(sum, other))
}

/// `dweight` is empty where nobody asks for it.
struct Backward<'a, D> {
    x: ArrayView2<'a, f32>,
    rows: Range<usize>,
    gain: Gain<'a>,
    rstd: &'a [f32],
    dy: ArrayView2<'a, D>,
    dx: ArrayViewMut2<'a, f32>,
    beta: Beta,
    dweight: &'a mut [f32],
}

impl<D: Element> Kernel for Backward<'_, D> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for (at, i) in self.rows.clone().enumerate() {
            let (x, dy) = (rows::row(&self.x, i), rows::row(&self.dy, i));
            let mean_gn = self.add_to_weight(s, x, dy, self.rstd[i]);
            self.write_dx(s, x, dy, self.rstd[i], mean_gn, at);
        }
    }
}

impl<D: Element> Backward<'_, D> {
    /// Adds a row to `dweight`; gives `mean(g * n)`.
    #[inline(always)]
    fn add_to_weight<S: Simd>(&mut self, s: S, x: &[f32], dy: &[D], rstd: f32) -> f32 {
        let (gain, rstd, columns, mut sum) = (self.gain, s.splat(rstd), x.len(), s.splat(0.0));
        let ((x, x_tail), (dy, dy_tail), (weight, weight_tail)) = (x.as_chunks(), dy.as_chunks(), gain.chunks());
        let (dweight, dweight_tail) = self.dweight.as_chunks_mut();
        for (at, (x, dy)) in x.iter().zip(dy).enumerate() {
            let (n, dy) = (s.mul(s.load(x), rstd), D::load(s, dy));
            sum = s.fma(gain.times(s, dy, weight.get(at)), n, sum);
            if let Some(dweight) = dweight.get_mut(at) {
                s.store(dweight, s.fma(dy, n, s.load(dweight)));
            }
        }
        if !x_tail.is_empty() {
            let (n, dy) = (s.mul(s.load_tail(x_tail, 0.0), rstd), D::load_tail(s, dy_tail, 0.0));
            sum = s.fma(gain.times_tail(s, dy, weight_tail), n, sum);
            s.store_tail(dweight_tail, s.fma(dy, n, s.load_tail(dweight_tail, 0.0)));
        }
        s.reduce_add(sum) / columns as f32
    }

    /// `dx = rstd * (g - n * mean(g * n))` of row `i` of the block.
    #[inline(always)]
    fn write_dx<S: Simd>(&mut self, s: S, x: &[f32], dy: &[D], rstd: f32, mean_gn: f32, i: usize) {
        let (gain, beta, rstd, minus_gn) = (self.gain, self.beta, s.splat(rstd), s.splat(-mean_gn));
        let ((x, x_tail), (dy, dy_tail), (weight, weight_tail)) = (x.as_chunks(), dy.as_chunks(), gain.chunks());
        let (dx, dx_tail) = rows::row_mut(&mut self.dx, i).as_chunks_mut();
        for (at, ((x, dy), dx)) in x.iter().zip(dy).zip(dx).enumerate() {
            let g = gain.times(s, D::load(s, dy), weight.get(at));
            let d = s.fma(s.mul(s.load(x), rstd), minus_gn, g);
            let d = match beta {
                Beta::Overwrite => s.mul(d, rstd),
                Beta::Accumulate => s.fma(d, rstd, s.load(dx)),
            };
            s.store(dx, d);
        }
        if !x_tail.is_empty() {
            let g = gain.times_tail(s, D::load_tail(s, dy_tail, 0.0), weight_tail);
            let d = s.fma(s.mul(s.load_tail(x_tail, 0.0), rstd), minus_gn, g);
            let d = match beta {
                Beta::Overwrite => s.mul(d, rstd),
                Beta::Accumulate => s.fma(d, rstd, s.load_tail(dx_tail, 0.0)),
            };
            s.store_tail(dx_tail, d);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::testing::{assert_same_bits, full, half, inner, matrix, nan, on_each_isa, width, within};
    use super::*;
    use ndarray::Array2;
    use proptest::prelude::*;
    use subgpt_testkit::gradcheck::{assert_close, gradient, weighted, wide};
    use subgpt_testkit::{noise::Noise, rows as naive};

    const EPS: f32 = 1e-5;

    fn forward(x: &Array2<f32>, weight: &[f32], offset: f32) -> (Array2<f32>, Vec<f32>) {
        let (x, mut y, mut rstd) = (within(x), nan(x.nrows(), x.ncols()), vec![f32::NAN; x.nrows()]);
        rms_norm(inner(&x), Some(weight), offset, EPS, y.view_mut(), &mut rstd).unwrap();
        (y, rstd)
    }

    /// dx and dweight on top of what `start` says they held.
    fn backward(x: &Array2<f32>, weight: &[f32], offset: f32, dy: &Array2<f32>, start: Option<f32>) -> [Vec<f32>; 2] {
        let (_, rstd) = forward(x, weight, offset);
        let beta = if start.is_some() { Beta::Accumulate } else { Beta::Overwrite };
        let mut dx = Array2::from_elem(x.dim(), start.unwrap_or(f32::NAN));
        let mut dweight = vec![start.unwrap_or(0.0); weight.len()];
        rms_norm_backward(x.view(), Some(weight), offset, &rstd, dy.view(), dx.view_mut(), beta, Some(&mut dweight))
            .unwrap();
        [dx.into_raw_vec_and_offset().0, dweight]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn forward_and_backward_are_the_formula_and_its_gradient(
            n in 1usize..4, c in width(), seed: u64, offset in prop_oneof![Just(0.0f32), Just(1.0)],
        ) {
            let mut noise = Noise::new(seed);
            let (x, dy) = (matrix(&mut noise, n, c, 2.0), matrix(&mut noise, n, c, 1.0));
            // Rows near zero bend too sharply for finite differences.
            let x = x.map(|v| v + 0.5f32.copysign(*v));
            let weight: Vec<f32> = noise.normal(c, 0.4).into_iter().map(|w| w + 1.0 - offset).collect();
            let (wx, ww) = (wide(x.as_slice().unwrap()), wide(&weight));
            let exact = |x: &[f64], w: &[f64]| naive::rms_norm(x, w, f64::from(offset), f64::from(EPS));
            let dx = gradient(&wx, |x| weighted(&exact(x, &ww), dy.as_slice().unwrap()));
            let dw = gradient(&ww, |w| weighted(&exact(&wx, w), dy.as_slice().unwrap()));
            on_each_isa(|| {
                assert_close("y", forward(&x, &weight, offset).0.as_slice().unwrap(), &exact(&wx, &ww), 1e-6);
                let [gx, gw] = backward(&x, &weight, offset, &dy, None);
                assert_close("dx", &gx, &dx, 1e-5);
                assert_close("dweight", &gw, &dw, 3e-6);
                for (onto, plain) in backward(&x, &weight, offset, &dy, Some(2.0)).iter().zip([gx, gw]) {
                    let want: Vec<f64> = plain.iter().map(|&v| f64::from(v) + 2.0).collect();
                    assert_close("gradient + 2", onto, &want, 1e-6);
                }
            });
        }
    }

    #[test]
    fn bfloat16_is_the_rounded_output_and_no_weight_is_a_weight_of_one() {
        let mut noise = Noise::new(8);
        for c in [1, 16, 47, 130] {
            let (x, dy) = (matrix(&mut noise, 9, c, 1.0), half(&matrix(&mut noise, 9, c, 1.0)));
            on_each_isa(|| {
                let (y, rstd) = forward(&x, &vec![1.0; c], 0.0);
                let (mut narrow, mut r) = (half(&nan(9, c)), vec![f32::NAN; 9]);
                rms_norm(x.view(), None, 0.0, EPS, narrow.view_mut(), &mut r).unwrap();
                assert_eq!((narrow, &r), (half(&y), &rstd));
                let [dx, _] = backward(&x, &vec![1.0; c], 0.0, &full(&dy), None);
                let mut got = nan(9, c);
                rms_norm_backward(x.view(), None, 0.0, &r, dy.view(), got.view_mut(), Beta::Overwrite, None).unwrap();
                assert_eq!(got.into_raw_vec_and_offset().0, dx);
            });
        }
    }

    #[test]
    fn a_row_of_zeros_stays_finite_and_a_nan_stays_in_its_row() {
        let mut x = Array2::zeros((3, 20));
        x.row_mut(1).fill(3.0);
        x[[2, 19]] = f32::NAN;
        let dy = Array2::ones((3, 20));
        on_each_isa(|| {
            let (y, _) = forward(&x, &[0.5; 20], 1.0);
            assert!(y.row(0).iter().all(|&v| v == 0.0) && y.row(1).iter().all(|&v| (v - 1.5).abs() < 1e-5));
            assert!(y.row(2).iter().all(|v| v.is_nan()));
            let [dx, _] = backward(&x, &[0.5; 20], 1.0, &dy, None);
            assert_close("dx", &dx[..20], &[1.5 / f64::from(EPS).sqrt(); 20], 1e-6);
        });
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let mut noise = Noise::new(5);
        let (x, dy, weight) =
            (matrix(&mut noise, 211, 193, 1.0), matrix(&mut noise, 211, 193, 1.0), noise.normal(193, 1.0));
        assert_same_bits(|| {
            let (y, rstd) = forward(&x, &weight, 0.0);
            [y.into_raw_vec_and_offset().0, rstd, backward(&x, &weight, 0.0, &dy, None).concat()].concat()
        });
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let (x, w) = (Array2::<f32>::zeros((2, 3)), [1.0; 3]);
        assert!(rms_norm(x.view(), Some(&w[..2]), 0.0, EPS, nan(2, 3).view_mut(), &mut [0.0; 2]).is_err());
        assert!(rms_norm(x.view(), Some(&w), 0.0, EPS, nan(2, 3).view_mut(), &mut [0.0; 3]).is_err());
        assert!(rms_norm(x.t(), Some(&w[..2]), 0.0, EPS, nan(3, 2).view_mut(), &mut [0.0; 3]).is_err());
        let mut dx = nan(2, 3);
        let mut call = |rstd: &[f32], dw: &mut [f32]| {
            rms_norm_backward(x.view(), Some(&w), 0.0, rstd, x.view(), dx.view_mut(), Beta::Overwrite, Some(dw))
        };
        assert!(call(&[1.0; 3], &mut [0.0; 3]).is_err() && call(&[1.0; 2], &mut [0.0; 2]).is_err());
        assert!(call(&[1.0; 2], &mut [0.0; 3]).is_ok());
    }
}
