//! Layer normalisation of rows.
//!
//! ```text
//! y = (x - mean) * rstd * weight + bias        mean over the row, rstd = 1 / sqrt(variance + eps), variance biased
//! ```
//!
//! `x`, `y` `(rows, C)`, `weight`, `bias` `(C)`, `mean`, `rstd` `(rows)`: saved for the backward pass. The variance takes a
//! second pass over the row and is corrected by what the rounded mean leaves over, so rows far from zero keep their
//! digits. Backward, with `g = dy * weight` and `n = (x - mean) * rstd`:
//!
//! ```text
//! dx = rstd * (g - mean(g) - n * mean(g * n))        dweight += sum over rows of dy * n        dbias += sum of dy
//! ```
//!
//! Ba, Kiros, Hinton: "Layer normalization", 2016; `torch.nn.functional.layer_norm`.

use super::rows::{self, BLOCK, check_rows};
use super::{Beta, check};
use crate::error::Result;
use crate::simd::{Element, Kernel, LANES, Simd, dispatch, isa};
use ndarray::{ArrayView2, ArrayViewMut2};
use std::ops::Range;

/// Normalises the rows of `x` into `y`, and saves each row's `mean` and `rstd`.
pub fn layer_norm<Y: Element>(
    x: ArrayView2<f32>,
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    y: ArrayViewMut2<Y>,
    mean: &mut [f32],
    rstd: &mut [f32],
) -> Result<()> {
    const OP: &str = "layer_norm";
    let (n, c) = x.dim();
    check_rows!(OP, [n, c], x, y);
    check::len(OP, "weight", weight.len(), c)?;
    bias.map_or(Ok(()), |bias| check::len(OP, "bias", bias.len(), c))?;
    check::len(OP, "mean", mean.len(), n)?;
    check::len(OP, "rstd", rstd.len(), n)?;
    let (isa, size) = (isa::current(), rows::task_rows(c));
    let parts = rows::blocks_mut(y, size).into_iter().zip(mean.chunks_mut(size)).zip(rstd.chunks_mut(size));
    rows::each(n * c, parts, |i, ((y, mean), rstd)| {
        dispatch(isa, Forward { x, first: i * size, weight, bias, eps, y, mean, rstd });
    });
    Ok(())
}

/// The gradients of [`layer_norm`]: `dx` as `beta` says, `dweight` and `dbias` added to.
pub fn layer_norm_backward<D: Element>(
    x: ArrayView2<f32>,
    weight: &[f32],
    mean: &[f32],
    rstd: &[f32],
    dy: ArrayView2<D>,
    dx: ArrayViewMut2<f32>,
    beta: Beta,
    dweight: &mut [f32],
    dbias: Option<&mut [f32]>,
) -> Result<()> {
    const OP: &str = "layer_norm_backward";
    let (n, c) = x.dim();
    check_rows!(OP, [n, c], x, dy, dx);
    check::len(OP, "weight", weight.len(), c)?;
    check::len(OP, "mean", mean.len(), n)?;
    check::len(OP, "rstd", rstd.len(), n)?;
    check::len(OP, "dweight", dweight.len(), c)?;
    dbias.as_ref().map_or(Ok(()), |dbias| check::len(OP, "dbias", dbias.len(), c))?;
    let isa = isa::current();
    let mut outs: Vec<&mut [f32]> = [Some(dweight), dbias].into_iter().flatten().collect();
    rows::fold_blocks([n, c], n * c, &mut outs, rows::blocks_mut(dx, BLOCK), |rows, dx, sums| {
        let (dweight, dbias) = sums.split_at_mut(c);
        dispatch(isa, Backward { x, rows, weight, mean, rstd, dy, dx, beta, dweight, dbias });
    });
    Ok(())
}

/// The forward pass over the rows of one block.
struct Forward<'a, Y> {
    x: ArrayView2<'a, f32>,
    first: usize,
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    eps: f32,
    y: ArrayViewMut2<'a, Y>,
    mean: &'a mut [f32],
    rstd: &'a mut [f32],
}

impl<Y: Element> Kernel for Forward<'_, Y> {
    type Output = ();
    const BF16: bool = Y::HALF;
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let rows = self.mean.len();
        // Statistics of a few rows first: each waits for its own sums, and together they wait at the same time.
        for group in (0..rows).step_by(TOGETHER) {
            let group = group..(group + TOGETHER).min(rows);
            for i in group.clone() {
                (self.mean[i], self.rstd[i]) = moments(s, rows::row(&self.x, self.first + i), self.eps);
            }
            for i in group {
                let (x, y) = (rows::row(&self.x, self.first + i), rows::row_mut(&mut self.y, i));
                normalize(s, x, (self.mean[i], self.rstd[i]), self.weight, self.bias, y);
            }
        }
    }
}

/// Rows whose statistics are made before the first of them is written: they stay in the first cache meanwhile.
const TOGETHER: usize = 8;

/// Mean and `1 / sqrt(variance + eps)` of a row.
#[inline(always)]
fn moments<S: Simd>(s: S, x: &[f32], eps: f32) -> (f32, f32) {
    // Divisions wait long, and what the rounded inverse costs is corrected with the rest.
    let inverse = 1.0 / x.len() as f32;
    let (pairs, rest) = x.as_chunks::<{ 2 * LANES }>();
    let zero = s.splat(0.0);
    // Two chains of sums, because one would wait for the latency of the additions.
    let (mut sum, mut other) = (zero, zero);
    for pair in pairs {
        sum = s.add(sum, s.load_at(pair, 0, 0.0));
        other = s.add(other, s.load_at(pair, LANES, 0.0));
    }
    for at in (0..rest.len()).step_by(LANES) {
        sum = s.add(sum, s.load_at(rest, at, 0.0));
    }
    let rough = s.reduce_add(s.add(sum, other)) * inverse;
    let (mut sums, mut squares, center) = ([zero; 2], [zero; 2], s.splat(rough));
    for pair in pairs {
        let d = [s.sub(s.load_at(pair, 0, 0.0), center), s.sub(s.load_at(pair, LANES, 0.0), center)];
        sums = [s.add(sums[0], d[0]), s.add(sums[1], d[1])];
        squares = [s.fma(d[0], d[0], squares[0]), s.fma(d[1], d[1], squares[1])];
    }
    for at in (0..rest.len()).step_by(LANES) {
        let d = s.sub(s.load_at(rest, at, rough), center);
        sums[0] = s.add(sums[0], d);
        squares[0] = s.fma(d, d, squares[0]);
    }
    let (sum, squares) = (s.add(sums[0], sums[1]), s.add(squares[0], squares[1]));
    let off = s.reduce_add(sum) * inverse;
    let variance = (s.reduce_add(squares) * inverse - off * off).max(0.0);
    // `max` would turn the NaN of a row with NaN or infinity into 0: `off` brings it back.
    (rough + off, 1.0 / (variance + off * 0.0 + eps).sqrt())
}

/// `y = (x - mean) * rstd * weight + bias` of a row.
#[inline(always)]
fn normalize<S: Simd, Y: Element>(
    s: S,
    x: &[f32],
    (mean, rstd): (f32, f32),
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [Y],
) {
    let (mean, rstd) = (s.splat(mean), s.splat(rstd));
    let ((x, x_tail), (weight, weight_tail)) = (x.as_chunks::<LANES>(), weight.as_chunks::<LANES>());
    let (y, y_tail) = y.as_chunks_mut::<LANES>();
    let n_tail = s.mul(s.sub(s.load_tail(x_tail, 0.0), mean), rstd);
    let weight_tail = s.load_tail(weight_tail, 0.0);
    match bias {
        None => {
            for ((x, weight), y) in x.iter().zip(weight).zip(y) {
                Y::store(s, y, s.mul(s.mul(s.sub(s.load(x), mean), rstd), s.load(weight)));
            }
            Y::store_tail(s, y_tail, s.mul(n_tail, weight_tail));
        }
        Some(bias) => {
            let (bias, bias_tail) = bias.as_chunks::<LANES>();
            for (((x, weight), bias), y) in x.iter().zip(weight).zip(bias).zip(y) {
                Y::store(s, y, s.fma(s.mul(s.sub(s.load(x), mean), rstd), s.load(weight), s.load(bias)));
            }
            Y::store_tail(s, y_tail, s.fma(n_tail, weight_tail, s.load_tail(bias_tail, 0.0)));
        }
    }
}

/// The backward pass over the rows of one block; `dbias` is empty where there is none.
struct Backward<'a, D> {
    x: ArrayView2<'a, f32>,
    rows: Range<usize>,
    weight: &'a [f32],
    mean: &'a [f32],
    rstd: &'a [f32],
    dy: ArrayView2<'a, D>,
    dx: ArrayViewMut2<'a, f32>,
    beta: Beta,
    dweight: &'a mut [f32],
    dbias: &'a mut [f32],
}

impl<D: Element> Kernel for Backward<'_, D> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let mut i = self.rows.start;
        while i + AT_ONCE <= self.rows.end {
            self.visit::<S, AT_ONCE>(s, i);
            i += AT_ONCE;
        }
        for i in i..self.rows.end {
            self.visit::<S, 1>(s, i);
        }
    }
}

/// Rows whose share in the parameters' gradients is added in one pass over these.
const AT_ONCE: usize = 4;

impl<D: Element> Backward<'_, D> {
    /// The `N` rows from `first` on.
    #[inline(always)]
    fn visit<S: Simd, const N: usize>(&mut self, s: S, first: usize) {
        let (mut x, mut dy, mut stats): ([&[f32]; N], [&[D]; N], _) = ([&[]; N], [&[]; N], [(0.0, 0.0); N]);
        for k in 0..N {
            (x[k], dy[k]) = (rows::row(&self.x, first + k), rows::row(&self.dy, first + k));
            stats[k] = (self.mean[first + k], self.rstd[first + k]);
        }
        let means = self.add_to_parameters(s, x, dy, stats);
        for k in 0..N {
            let dx = rows::row_mut(&mut self.dx, first - self.rows.start + k);
            write_dx(s, x[k], dy[k], self.weight, stats[k], means[k], self.beta, dx);
        }
    }

    /// Adds rows to `dweight` and `dbias`, one after the other; gives the `mean(g)` and `mean(g * n)` of each.
    #[inline(always)]
    fn add_to_parameters<S: Simd, const N: usize>(
        &mut self,
        s: S,
        x: [&[f32]; N],
        dy: [&[D]; N],
        stats: [(f32, f32); N],
    ) -> [(f32, f32); N] {
        let (mut sum_g, mut sum_gn) = ([s.splat(0.0); N], [s.splat(0.0); N]);
        let stats: [_; N] = stats.map(|(mean, rstd)| (s.splat(mean), s.splat(rstd)));
        let has_bias = !self.dbias.is_empty();
        let ((weight, weight_tail), (dweight, dweight_tail)) = (self.weight.as_chunks(), self.dweight.as_chunks_mut());
        let (dbias, dbias_tail) = self.dbias.as_chunks_mut();
        let (x, dy) = (x.map(|x| x.as_chunks::<LANES>()), dy.map(|dy| dy.as_chunks::<LANES>()));
        let chunks = weight.len();
        assert!(dweight.len() == chunks && (!has_bias || dbias.len() == chunks));
        assert!(x.iter().all(|x| x.0.len() == chunks) && dy.iter().all(|dy| dy.0.len() == chunks));
        for i in 0..chunks {
            let (mut xs, mut dys) = ([s.splat(0.0); N], [s.splat(0.0); N]);
            for k in 0..N {
                (xs[k], dys[k]) = (s.load(&x[k].0[i]), D::load(s, &dy[k].0[i]));
            }
            let sums = [s.load(&dweight[i]), if has_bias { s.load(&dbias[i]) } else { s.splat(0.0) }];
            let sums = add_chunk(s, s.load(&weight[i]), sums, xs, dys, stats, &mut sum_g, &mut sum_gn);
            s.store(&mut dweight[i], sums[0]);
            if has_bias {
                s.store(&mut dbias[i], sums[1]);
            }
        }
        if !weight_tail.is_empty() {
            // What lies beyond the row counts for nothing, because weight and dy are 0 there.
            let (mut xs, mut dys) = ([s.splat(0.0); N], [s.splat(0.0); N]);
            for k in 0..N {
                (xs[k], dys[k]) = (s.load_tail(x[k].1, 0.0), D::load_tail(s, dy[k].1, 0.0));
            }
            let sums = [s.load_tail(dweight_tail, 0.0), s.load_tail(dbias_tail, 0.0)];
            let weight = s.load_tail(weight_tail, 0.0);
            let sums = add_chunk(s, weight, sums, xs, dys, stats, &mut sum_g, &mut sum_gn);
            s.store_tail(dweight_tail, sums[0]);
            s.store_tail(dbias_tail, sums[1]);
        }
        let (n, mut means) = (self.weight.len() as f32, [(0.0, 0.0); N]);
        for k in 0..N {
            means[k] = (s.reduce_add(sum_g[k]) / n, s.reduce_add(sum_gn[k]) / n);
        }
        means
    }
}

/// Adds sixteen columns of `N` rows to the sums of `g` and `g * n`, and to those for `dweight` and `dbias`, which it
/// gives back.
#[inline(always)]
fn add_chunk<S: Simd, const N: usize>(
    s: S,
    weight: S::V,
    [mut dweight, mut dbias]: [S::V; 2],
    x: [S::V; N],
    dy: [S::V; N],
    stats: [(S::V, S::V); N],
    sum_g: &mut [S::V; N],
    sum_gn: &mut [S::V; N],
) -> [S::V; 2] {
    for k in 0..N {
        let n = s.mul(s.sub(x[k], stats[k].0), stats[k].1);
        let g = s.mul(dy[k], weight);
        sum_g[k] = s.add(sum_g[k], g);
        sum_gn[k] = s.fma(g, n, sum_gn[k]);
        dweight = s.fma(dy[k], n, dweight);
        dbias = s.add(dbias, dy[k]);
    }
    [dweight, dbias]
}

/// `dx = rstd * (g - mean(g) - n * mean(g * n))` of a row.
#[inline(always)]
fn write_dx<S: Simd, D: Element>(
    s: S,
    x: &[f32],
    dy: &[D],
    weight: &[f32],
    (mean, rstd): (f32, f32),
    (mean_g, mean_gn): (f32, f32),
    beta: Beta,
    dx: &mut [f32],
) {
    let (mean, rstd, mean_g, minus_gn) = (s.splat(mean), s.splat(rstd), s.splat(mean_g), s.splat(-mean_gn));
    let ((x, x_tail), (dy, dy_tail)) = (x.as_chunks::<LANES>(), dy.as_chunks::<LANES>());
    let ((weight, weight_tail), (dx, dx_tail)) = (weight.as_chunks::<LANES>(), dx.as_chunks_mut::<LANES>());
    for (((x, dy), weight), dx) in x.iter().zip(dy).zip(weight).zip(dx) {
        let n = s.mul(s.sub(s.load(x), mean), rstd);
        let g = s.mul(D::load(s, dy), s.load(weight));
        let d = s.fma(n, minus_gn, s.sub(g, mean_g));
        let d = match beta {
            Beta::Overwrite => s.mul(d, rstd),
            Beta::Accumulate => s.fma(d, rstd, s.load(dx)),
        };
        s.store(dx, d);
    }
    let n = s.mul(s.sub(s.load_tail(x_tail, 0.0), mean), rstd);
    let g = s.mul(D::load_tail(s, dy_tail, 0.0), s.load_tail(weight_tail, 0.0));
    let d = s.fma(n, minus_gn, s.sub(g, mean_g));
    let d = match beta {
        Beta::Overwrite => s.mul(d, rstd),
        Beta::Accumulate => s.fma(d, rstd, s.load_tail(dx_tail, 0.0)),
    };
    s.store_tail(dx_tail, d);
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
    /// The tolerance for rows of a few columns, which now and then lie so close together that only the last digits of
    /// their differences remain.
    const FEW: f64 = 1e-2;

    struct Case {
        x: Array2<f32>,
        dy: Array2<f32>,
        weight: Vec<f32>,
        bias: Vec<f32>,
    }

    fn case(n: usize, c: usize, seed: u64) -> Case {
        let mut noise = Noise::new(seed);
        let x = matrix(&mut noise, n, c, 2.0) + 1.0;
        let dy = matrix(&mut noise, n, c, 1.0);
        let weight = noise.normal(c, 0.3).into_iter().map(|w| w + 1.0).collect();
        Case { x, dy, weight, bias: noise.normal(c, 0.5) }
    }

    impl Case {
        fn forward(&self, bias: bool) -> (Array2<f32>, Vec<f32>, Vec<f32>) {
            let (n, c) = self.x.dim();
            let (mut y, mut mean, mut rstd) = (nan(n, c), vec![f32::NAN; n], vec![f32::NAN; n]);
            let (x, bias) = (within(&self.x), bias.then_some(&self.bias[..]));
            layer_norm(inner(&x), &self.weight, bias, EPS, y.view_mut(), &mut mean, &mut rstd).unwrap();
            (y, mean, rstd)
        }

        /// dx, dweight and dbias on top of what `start` says they held.
        fn backward(&self, beta: Beta, start: f32) -> [Vec<f32>; 3] {
            let (n, c) = self.x.dim();
            let (_, mean, rstd) = self.forward(true);
            let mut dx = if beta == Beta::Overwrite { nan(n, c) } else { Array2::from_elem((n, c), start) };
            let (mut dweight, mut dbias) = (vec![start; c], vec![start; c]);
            let (x, dy, db) = (self.x.view(), self.dy.view(), Some(&mut dbias[..]));
            layer_norm_backward(x, &self.weight, &mean, &rstd, dy, dx.view_mut(), beta, &mut dweight, db).unwrap();
            [dx.into_raw_vec_and_offset().0, dweight, dbias]
        }
    }

    fn exact(x: &[f64], weight: &[f64], bias: Option<&[f64]>) -> Vec<f64> {
        naive::layer_norm(x, weight, bias, f64::from(EPS))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn forward_is_the_formula(n in 1usize..9, c in width(), seed: u64, bias: bool) {
            let case = case(n, c, seed);
            let b = wide(&case.bias);
            let want = exact(&wide(case.x.as_slice().unwrap()), &wide(&case.weight), bias.then_some(&b[..]));
            on_each_isa(|| {
                assert_close("y", case.forward(bias).0.as_slice().unwrap(), &want, if c < 5 { FEW } else { 5e-6 });
            });
        }

        #[test]
        fn backward_is_the_gradient(n in 1usize..4, c in 2usize..40, seed: u64) {
            let case = case(n, c, seed);
            let (x, w, b) = (wide(case.x.as_slice().unwrap()), wide(&case.weight), wide(&case.bias));
            let dy = case.dy.as_slice().unwrap();
            let dx = gradient(&x, |x| weighted(&exact(x, &w, Some(&b)), dy));
            let dw = gradient(&w, |w| weighted(&exact(&x, w, Some(&b)), dy));
            let db = gradient(&b, |b| weighted(&exact(&x, &w, Some(b)), dy));
            on_each_isa(|| {
                let [gx, gw, gb] = case.backward(Beta::Overwrite, 0.0);
                assert_close("dx", &gx, &dx, if c < 5 { FEW } else { 2e-5 });
                assert_close("dweight", &gw, &dw, if c < 5 { FEW } else { 1e-5 });
                assert_close("dbias", &gb, &db, 1e-5);
            });
        }
    }

    #[test]
    fn bfloat16_is_the_rounded_output_and_an_input_like_any_other() {
        for c in [1, 16, 47, 130] {
            let case = case(9, c, 7);
            on_each_isa(|| {
                let (y, mean, rstd) = case.forward(true);
                let (mut narrow, mut m, mut r) = (half(&nan(9, c)), vec![f32::NAN; 9], vec![f32::NAN; 9]);
                let bias = Some(&case.bias[..]);
                layer_norm(case.x.view(), &case.weight, bias, EPS, narrow.view_mut(), &mut m, &mut r).unwrap();
                assert_eq!((narrow, m, r), (half(&y), mean.clone(), rstd.clone()));
                let rounded = half(&case.dy);
                let [wide, narrow] = [None, Some(())].map(|narrow| {
                    let (mut dx, mut dw, mut db) = (nan(9, c), vec![0.5; c], vec![0.5; c]);
                    let (x, w, to) = (case.x.view(), &case.weight[..], dx.view_mut());
                    let (beta, full) = (Beta::Overwrite, full(&rounded));
                    match narrow {
                        None => layer_norm_backward(x, w, &mean, &rstd, full.view(), to, beta, &mut dw, Some(&mut db)),
                        Some(()) => {
                            layer_norm_backward(x, w, &mean, &rstd, rounded.view(), to, beta, &mut dw, Some(&mut db))
                        }
                    }
                    .unwrap();
                    (dx, dw, db)
                });
                assert_eq!(wide, narrow);
            });
        }
    }

    #[test]
    fn gradients_are_added_where_asked() {
        let case = case(3, 37, 1);
        on_each_isa(|| {
            let (plain, onto) = (case.backward(Beta::Overwrite, 0.0), case.backward(Beta::Accumulate, 2.0));
            for (plain, onto) in plain.iter().zip(&onto) {
                let want: Vec<f64> = plain.iter().map(|&v| f64::from(v) + 2.0).collect();
                assert_close("gradient + 2", onto, &want, 1e-6);
            }
        });
    }

    #[test]
    fn many_blocks_of_rows_add_up() {
        let case = case(3 * BLOCK + 5, 7, 2);
        let [_, dweight, dbias] = case.backward(Beta::Overwrite, 0.0);
        let want: Vec<f64> = (0..7).map(|j| case.dy.column(j).iter().map(|&v| f64::from(v)).sum()).collect();
        assert_close("dbias", &dbias, &want, 1e-5);
        let (_, mean, rstd) = case.forward(true);
        let n = |i: usize, j: usize| f64::from(case.x[[i, j]] - mean[i]) * f64::from(rstd[i]);
        let sum = |j: usize| (0..mean.len()).map(|i| f64::from(case.dy[[i, j]]) * n(i, j)).sum();
        assert_close("dweight", &dweight, &(0..7).map(sum).collect::<Vec<f64>>(), 1e-5);
    }

    #[test]
    fn rows_that_are_constant_or_far_from_zero_keep_their_digits() {
        let mut case = case(3, 33, 3);
        case.x.row_mut(0).fill(0.1);
        case.x.row_mut(1).iter_mut().for_each(|v| *v += 1e4);
        let want = exact(&wide(case.x.as_slice().unwrap()), &wide(&case.weight), Some(&wide(&case.bias)));
        on_each_isa(|| {
            let (y, _, rstd) = case.forward(true);
            // The mean is stored in f32: half a unit in its last place is 5e-4 at 1e4.
            assert_close("y", y.as_slice().unwrap(), &want, 3e-4);
            assert_close("constant row", &y.as_slice().unwrap()[..33], &want[..33], 1e-5);
            assert_close("rstd", &rstd[..1], &[1.0 / f64::from(EPS).sqrt()], 1e-5);
        });
    }

    #[test]
    fn a_row_with_nan_or_infinity_becomes_nan_alone() {
        let mut case = case(3, 20, 4);
        case.x[[0, 3]] = f32::NAN;
        case.x[[2, 17]] = f32::INFINITY;
        on_each_isa(|| {
            let (y, ..) = case.forward(false);
            assert!(y.row(0).iter().chain(y.row(2)).all(|v| v.is_nan()) && y.row(1).iter().all(|v| v.is_finite()));
        });
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let case = case(211, 193, 5);
        assert_same_bits(|| {
            let (y, mean, rstd) = case.forward(true);
            let backward = case.backward(Beta::Overwrite, 0.0).concat();
            [y.into_raw_vec_and_offset().0, mean, rstd, backward].concat()
        });
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let (x, w) = (Array2::<f32>::zeros((2, 3)), [1.0; 3]);
        let (mut y, mut m, mut r) = (nan(2, 3), [0.0; 2], [0.0; 2]);
        let mut call = |x: ArrayView2<f32>, w: &[f32], b: Option<&[f32]>| {
            layer_norm(x, w, b, EPS, y.view_mut(), &mut m, &mut r).map_err(|e| e.to_string())
        };
        assert!(call(x.view(), &w, Some(&w)).is_ok());
        assert!(call(x.view(), &w[..2], None).unwrap_err().contains("weight"));
        assert!(call(x.view(), &w, Some(&w[..2])).unwrap_err().contains("bias"));
        let columns = Array2::<f32>::zeros((3, 2));
        assert!(call(columns.t(), &w, None).unwrap_err().contains("stride"));
        assert!(call(columns.view(), &w, None).is_err());
        let empty = Array2::<f32>::zeros((0, 3));
        layer_norm(empty.view(), &w, None, EPS, nan(0, 3).view_mut(), &mut [], &mut []).unwrap();
    }
}
