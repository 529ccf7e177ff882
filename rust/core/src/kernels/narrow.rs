//! Products with few columns, as those of low-rank adapters: `u = s x a^T` for a few rows of `a`, and the gradient of `a`.
//!
//! ```text
//! u[n][r] = s[r] sum over k of x[n][k] a[r][k]        x (N, K), a (R, K), u (N, R)
//! da[r][k] += sum over n of d[n][r] x[n][k]           d (N, R)
//! ```
//!
//! A general product would pack `x`, which costs about as much as the few multiplications with it, and fill a part of its
//! tile. Here `x` is read where it lies, once: by dot products along its rows, and by a few of its columns at a time. Sums
//! are float32, their order is a matter of K and of N alone, so a row alone gives what it gives among others.

use super::check;
use super::rows::{self, check_rows};
use crate::error::Result;
use crate::simd::{Element, Kernel, LANES, Simd, dispatch, isa, prefetch};
use ndarray::{ArrayView2, ArrayViewMut2};
use std::ops::Range;

/// Rows of `x` of a task.
const ROWS: usize = 24;

/// Columns of `x` at a time: eight rows of `a` and four of `x` stay in L1.
const DEEP: usize = 512;

/// `u = s x a^T`, rounded to the type of `u`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) where the shapes do not fit each other or rows are not contiguous.
pub fn narrow_product<E: Element>(
    x: ArrayView2<'_, E>,
    a: ArrayView2<'_, f32>,
    scales: &[f32],
    u: ArrayViewMut2<'_, E>,
) -> Result<()> {
    const OP: &str = "narrow_product";
    let ((n, k), r) = (x.dim(), a.nrows());
    check_rows!(OP, [n, k], x);
    check_rows!(OP, [r, k], a);
    check_rows!(OP, [n, r], u);
    check::len(OP, "scales", scales.len(), r)?;
    let isa = isa::current();
    rows::each(n * k, rows::blocks_mut(u, ROWS), |task, u| {
        dispatch(isa, Dots { x, first: task * ROWS, a, scales, u });
    });
    Ok(())
}

/// Some rows of `u`.
struct Dots<'a, E> {
    x: ArrayView2<'a, E>,
    first: usize,
    a: ArrayView2<'a, f32>,
    scales: &'a [f32],
    u: ArrayViewMut2<'a, E>,
}

impl<E: Element> Kernel for Dots<'_, E> {
    type Output = ();

    /// Tiles of as many sums as the registers hold.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if S::WIDE { self.tiles::<S, 4, 4>(s) } else { self.tiles::<S, 2, 2>(s) }
    }
}

impl<E: Element> Dots<'_, E> {
    #[inline(always)]
    fn tiles<S: Simd, const M: usize, const R: usize>(mut self, s: S) {
        let (n, rank) = self.u.dim();
        let mut sums = vec![[0.0; LANES]; n * rank];
        for from in (0..self.x.ncols()).step_by(DEEP) {
            let ks = from..self.x.ncols().min(from + DEEP);
            let (whole, whole_ranks) = (n / M * M, rank / R * R);
            for i in (0..whole).step_by(M) {
                for r in (0..whole_ranks).step_by(R) {
                    self.tile::<S, M, R>(s, ks.clone(), i, r, &mut sums);
                }
                for r in whole_ranks..rank {
                    self.tile::<S, M, 1>(s, ks.clone(), i, r, &mut sums);
                }
            }
            for i in whole..n {
                for r in (0..whole_ranks).step_by(R) {
                    self.tile::<S, 1, R>(s, ks.clone(), i, r, &mut sums);
                }
                for r in whole_ranks..rank {
                    self.tile::<S, 1, 1>(s, ks.clone(), i, r, &mut sums);
                }
            }
        }
        for i in 0..n {
            let u = rows::row_mut(&mut self.u, i);
            for (r, u) in u.iter_mut().enumerate() {
                *u = E::from_f32(self.scales[r] * s.reduce_add(s.load(&sums[i * rank + r])));
            }
        }
    }

    /// Adds the products over `ks` of `M` rows of `x` and `R` of `a` to their sums, lane by lane.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const R: usize>(
        &self,
        s: S,
        ks: Range<usize>,
        i: usize,
        r: usize,
        sums: &mut [[f32; LANES]],
    ) {
        let rank = self.a.nrows();
        // Loops, not closures: those may be compiled for no instruction set and called.
        let (mut x, mut a): ([&[E]; M], [&[f32]; R]) = ([&[]; M], [&[]; R]);
        let mut acc = [[s.splat(0.0); R]; M];
        for j in 0..R {
            a[j] = &rows::row(&self.a, r + j)[ks.clone()];
        }
        for m in 0..M {
            x[m] = &rows::row(&self.x, self.first + i + m)[ks.clone()];
            for j in 0..R {
                acc[m][j] = s.load(&sums[(i + m) * rank + r + j]);
            }
        }
        let whole = ks.len() / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            let mut b = [s.splat(0.0); R];
            for j in 0..R {
                b[j] = s.load(part(a[j], at));
            }
            for m in 0..M {
                let x = E::load(s, part(x[m], at));
                for j in 0..R {
                    acc[m][j] = s.fma(x, b[j], acc[m][j]);
                }
            }
        }
        if whole < ks.len() {
            for m in 0..M {
                let x = E::load_tail(s, &x[m][whole..], 0.0);
                for j in 0..R {
                    acc[m][j] = s.fma(x, s.load_tail(&a[j][whole..], 0.0), acc[m][j]);
                }
            }
        }
        for m in 0..M {
            for j in 0..R {
                s.store(&mut sums[(i + m) * rank + r + j], acc[m][j]);
            }
        }
    }
}

/// [`LANES`] numbers from `at` on.
#[inline(always)]
fn part<E>(x: &[E], at: usize) -> &[E; LANES] {
    x[at..].first_chunk().expect("a whole vector")
}

/// Columns of `x` of a task.
const COLUMNS: usize = 2 * LANES;

/// Rows of `x` that stay in the cache while all rows of `da` take their share.
const TALL: usize = 256;

/// Rows from what is used to what is fetched: the next row lies far behind.
const AHEAD: usize = 8;

/// `da += d^T x`; `da` (R, K) may have any strides.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) where the shapes do not fit each other, or rows of `d` or `x` are not
/// contiguous.
pub fn add_narrow_gradient<E: Element>(
    d: ArrayView2<'_, E>,
    x: ArrayView2<'_, E>,
    da: ArrayViewMut2<'_, f32>,
) -> Result<()> {
    const OP: &str = "add_narrow_gradient";
    let ((n, k), r) = (x.dim(), d.ncols());
    check_rows!(OP, [n, k], x);
    check_rows!(OP, [n, r], d);
    check::shape(OP, "da", &[da.nrows(), da.ncols()], &[r, k])?;
    let isa = isa::current();
    rows::each(n * k, rows::columns_mut(da, COLUMNS), |_, (columns, da)| {
        dispatch(isa, Sums { d, x, columns, da });
    });
    Ok(())
}

/// Some columns of `da`.
struct Sums<'a, E> {
    d: ArrayView2<'a, E>,
    x: ArrayView2<'a, E>,
    columns: Range<usize>,
    da: ArrayViewMut2<'a, f32>,
}

impl<E: Element> Kernel for Sums<'_, E> {
    type Output = ();

    /// Tiles of as many sums as the registers hold.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if S::WIDE { self.tiles::<S, 8, 2>(s) } else { self.tiles::<S, 4, 1>(s) }
    }
}

impl<E: Element> Sums<'_, E> {
    #[inline(always)]
    fn tiles<S: Simd, const R: usize, const V: usize>(mut self, s: S) {
        let rank = self.d.ncols();
        let mut sums = vec![[[0.0; LANES]; COLUMNS / LANES]; rank];
        for first in (0..self.x.nrows()).step_by(TALL) {
            let ns = first..self.x.nrows().min(first + TALL);
            let vectors = self.columns.len().div_ceil(LANES);
            let (full, whole) = (vectors / V * V, rank / R * R);
            for v in (0..full).step_by(V) {
                for r in (0..whole).step_by(R) {
                    self.tile::<S, R, V>(s, ns.clone(), r, v, &mut sums);
                }
                for r in whole..rank {
                    self.tile::<S, 1, V>(s, ns.clone(), r, v, &mut sums);
                }
            }
            for v in full..vectors {
                for r in 0..rank {
                    self.tile::<S, 1, 1>(s, ns.clone(), r, v, &mut sums);
                }
            }
        }
        for (mut da, sums) in self.da.rows_mut().into_iter().zip(&sums) {
            da.iter_mut().zip(sums.as_flattened()).for_each(|(da, sum)| *da += sum);
        }
    }

    /// Adds the products over the rows `ns` of `R` columns of `d` and `V` vectors of columns of `x` to their sums.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize>(
        &self,
        s: S,
        ns: Range<usize>,
        r: usize,
        v: usize,
        sums: &mut [[[f32; LANES]; COLUMNS / LANES]],
    ) {
        let mut acc = [[s.splat(0.0); V]; R];
        for j in 0..R {
            for i in 0..V {
                acc[j][i] = s.load(&sums[r + j][v + i]);
            }
        }
        for n in ns {
            if n + AHEAD < self.x.nrows() {
                prefetch(&rows::row(&self.x, n + AHEAD)[self.columns.clone()]);
            }
            let x = &rows::row(&self.x, n)[self.columns.clone()];
            let d: &[E; R] = rows::row(&self.d, n)[r..].first_chunk().expect("as many columns");
            let mut y = [s.splat(0.0); V];
            for i in 0..V {
                y[i] = E::load_at(s, x, (v + i) * LANES, 0.0);
            }
            for j in 0..R {
                let d = s.splat(d[j].to_f32());
                for i in 0..V {
                    acc[j][i] = s.fma(d, y[i], acc[j][i]);
                }
            }
        }
        for j in 0..R {
            for i in 0..V {
                s.store(&mut sums[r + j][v + i], acc[j][i]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::testing::{assert_same_bits, full, half, inner, matrix, on_each_isa, width, within};
    use super::*;
    use ndarray::{Array2, s};
    use proptest::prelude::*;
    use subgpt_testkit::{gradcheck::assert_close, matmul, noise::Noise};

    /// `u` of `x` in float32.
    fn dots(x: &Array2<f32>, a: &Array2<f32>, scales: &[f32]) -> Array2<f32> {
        let mut u = Array2::from_elem((x.nrows(), a.nrows()), f32::NAN);
        narrow_product(inner(&within(x)), inner(&within(a)), scales, u.view_mut()).unwrap();
        u
    }

    /// What is added to `da` that holds ones, transposed in memory if `turned`.
    fn sums(d: &Array2<f32>, x: &Array2<f32>, turned: bool) -> Array2<f32> {
        let (r, k) = (d.ncols(), x.ncols());
        let mut da = if turned { Array2::ones((k, r)).reversed_axes() } else { Array2::ones((r, k)) };
        add_narrow_gradient(inner(&within(d)), inner(&within(x)), da.view_mut()).unwrap();
        da
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn few_columns_agree_with_the_reference(n in 0usize..90, k in width(), r in 1usize..20, seed: u64) {
            let mut noise = Noise::new(seed);
            let (x, a) = (matrix(&mut noise, n, k, 1.0), matrix(&mut noise, r, k, 1.0));
            let scales = noise.normal(r, 1.0);
            let mut want = matmul::matmul(x.view(), a.t());
            want.columns_mut().into_iter().zip(&scales).for_each(|(mut u, &s)| u *= f64::from(s));
            on_each_isa(|| {
                let u = dots(&x, &a, &scales);
                assert_close("u", u.as_slice().unwrap(), want.as_slice().unwrap(), 2e-5);
                let (wide, mut narrow) = (dots(&full(&half(&x)), &a, &scales), half(&u));
                narrow_product(half(&x).view(), a.view(), &scales, narrow.view_mut()).unwrap();
                assert_eq!(narrow, half(&wide));
                for alone in 1..n.min(7) {
                    assert_eq!(dots(&x.slice(s![..alone, ..]).to_owned(), &a, &scales), u.slice(s![..alone, ..]));
                }
            });
        }

        #[test]
        fn its_gradient_agrees_with_the_reference(n in 0usize..600, k in width(), r in 1usize..20, seed: u64) {
            let mut noise = Noise::new(seed);
            let (x, d) = (matrix(&mut noise, n, k, 1.0), matrix(&mut noise, n, r, 1.0));
            let want = matmul::matmul(d.t(), x.view()) + 1.0;
            on_each_isa(|| {
                let da = sums(&d, &x, false);
                assert_close("da", da.as_slice().unwrap(), want.as_slice().unwrap(), 5e-5);
                assert_eq!(da, sums(&d, &x, true));
                let (wide, mut narrow) = (sums(&full(&half(&d)), &full(&half(&x)), false), Array2::ones((r, k)));
                add_narrow_gradient(half(&d).view(), half(&x).view(), narrow.view_mut()).unwrap();
                assert_eq!(narrow, wide);
            });
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let mut noise = Noise::new(1);
        let (x, a, d) =
            (matrix(&mut noise, 301, 677, 1.0), matrix(&mut noise, 9, 677, 1.0), matrix(&mut noise, 301, 9, 1.0));
        assert_same_bits(|| {
            let (u, da) = (dots(&x, &a, &[0.5; 9]), sums(&d, &x, true));
            u.iter().chain(&da).copied().collect::<Vec<_>>()
        });
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let (x, a, mut u) = (Array2::<f32>::zeros((3, 4)), Array2::zeros((2, 4)), Array2::zeros((3, 2)));
        assert!(narrow_product(x.view(), a.view(), &[1.0; 3], u.view_mut()).is_err());
        assert!(narrow_product(x.view(), a.slice(s![.., ..3]), &[1.0; 2], u.view_mut()).is_err());
        assert!(narrow_product(x.view(), a.slice(s![..1, ..]), &[1.0], u.view_mut()).is_err());
        let mut da = Array2::zeros((2, 4));
        assert!(add_narrow_gradient(u.view(), x.slice(s![..2, ..]), da.view_mut()).is_err());
        assert!(add_narrow_gradient(u.view(), x.view(), da.slice_mut(s![.., ..3])).is_err());
    }
}
