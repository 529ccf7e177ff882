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

/// The gradients of [`layer_norm`]: `dx` as `beta` says, `dweight` and `dbias` added to where they are asked for.
pub fn layer_norm_backward<D: Element>(
    x: ArrayView2<f32>,
    weight: &[f32],
    mean: &[f32],
    rstd: &[f32],
    dy: ArrayView2<D>,
    dx: ArrayViewMut2<f32>,
    beta: Beta,
    dweight: Option<&mut [f32]>,
    dbias: Option<&mut [f32]>,
) -> Result<()> {
    const OP: &str = "layer_norm_backward";
    let (n, c) = x.dim();
    check_rows!(OP, [n, c], x, dy, dx);
    check::len(OP, "weight", weight.len(), c)?;
    check::len(OP, "mean", mean.len(), n)?;
    check::len(OP, "rstd", rstd.len(), n)?;
    dweight.as_ref().map_or(Ok(()), |dweight| check::len(OP, "dweight", dweight.len(), c))?;
    dbias.as_ref().map_or(Ok(()), |dbias| check::len(OP, "dbias", dbias.len(), c))?;
    let isa = isa::current();
    let gained = if dweight.is_some() { c } else { 0 };
    let mut outs: Vec<&mut [f32]> = [dweight, dbias].into_iter().flatten().collect();
    rows::fold_blocks([n, c], n * c, &mut outs, rows::blocks_mut(dx, BLOCK), |rows, dx, sums| {
        let (dweight, dbias) = sums.split_at_mut(gained);
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

/// The backward pass over the rows of one block; `dweight` and `dbias` are empty where nobody asks for them.
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
        let mut moments = [(s.splat(0.0), s.splat(0.0)); N];
        for k in 0..N {
            moments[k] = (s.splat(stats[k].0), s.splat(stats[k].1));
        }
        let (has_weight, has_bias) = (!self.dweight.is_empty(), !self.dbias.is_empty());
        let ((weight, weight_tail), (dweight, dweight_tail)) = (self.weight.as_chunks(), self.dweight.as_chunks_mut());
        let (dbias, dbias_tail) = self.dbias.as_chunks_mut();
        let (x, dy) = (x.map(|x| x.as_chunks::<LANES>()), dy.map(|dy| dy.as_chunks::<LANES>()));
        let chunks = weight.len();
        assert!((!has_weight || dweight.len() == chunks) && (!has_bias || dbias.len() == chunks));
        assert!(x.iter().all(|x| x.0.len() == chunks) && dy.iter().all(|dy| dy.0.len() == chunks));
        for i in 0..chunks {
            let (mut xs, mut dys) = ([s.splat(0.0); N], [s.splat(0.0); N]);
            for k in 0..N {
                (xs[k], dys[k]) = (s.load(&x[k].0[i]), D::load(s, &dy[k].0[i]));
            }
            let zero = s.splat(0.0);
            let held = if has_weight { s.load(&dweight[i]) } else { zero };
            let sums = [held, if has_bias { s.load(&dbias[i]) } else { zero }];
            let sums = add_chunk(s, s.load(&weight[i]), sums, xs, dys, moments, &mut sum_g, &mut sum_gn);
            if has_weight {
                s.store(&mut dweight[i], sums[0]);
            }
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
            let sums = add_chunk(s, weight, sums, xs, dys, moments, &mut sum_g, &mut sum_gn);
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
mod tests;
