//! Factors and offsets of columns, and the gradient of a factor.
//!
//! ```text
//! x[i][j] = x[i][j] * factor[j] (+ offset[j])         x (rows, C), factor and offset (C)
//! out[j] += sum over i of d[i][j] * (x[i][j] - offset[j])
//! ```
//!
//! With the first a sum of columns becomes that of another scale; the second is the gradient of the factor, but for the
//! factor itself, where `x` is what the first has made and `d` its gradient.

use super::check;
use super::rows::{self, check_rows};
use crate::error::Result;
use crate::simd::{Element, Kernel, LANES, Simd, dispatch, isa};
use ndarray::{ArrayView2, ArrayViewMut2};
use std::ops::Range;

/// `x = x * factor (+ offset)`, column by column.
pub fn scale_columns<E: Element>(x: ArrayViewMut2<E>, factor: &[f32], offset: Option<&[f32]>) -> Result<()> {
    const OP: &str = "scale_columns";
    let (n, c) = x.dim();
    check_rows!(OP, [n, c], x);
    check::len(OP, "factor", factor.len(), c)?;
    offset.map_or(Ok(()), |offset| check::len(OP, "offset", offset.len(), c))?;
    let isa = isa::current();
    rows::each(n * c, rows::blocks_mut(x, rows::task_rows(c)), |_, x| dispatch(isa, Scale { x, factor, offset }));
    Ok(())
}

/// Adds to `out` the sums over the rows of `d * (x - offset)`.
pub fn add_column_products<D: Element, X: Element>(
    d: ArrayView2<D>,
    x: ArrayView2<X>,
    offset: Option<&[f32]>,
    out: &mut [f32],
) -> Result<()> {
    const OP: &str = "add_column_products";
    let (n, c) = x.dim();
    check_rows!(OP, [n, c], d, x);
    check::len(OP, "out", out.len(), c)?;
    offset.map_or(Ok(()), |offset| check::len(OP, "offset", offset.len(), c))?;
    let isa = isa::current();
    rows::fold_blocks([n, c], n * c, &mut [out], std::iter::repeat(()), |rows, (), sums| {
        dispatch(isa, Products { d, x, offset, rows, sums });
    });
    Ok(())
}

struct Scale<'a, E> {
    x: ArrayViewMut2<'a, E>,
    factor: &'a [f32],
    offset: Option<&'a [f32]>,
}

impl<E: Element> Kernel for Scale<'_, E> {
    type Output = ();
    const BF16: bool = E::HALF;
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let offset = self.offset.unwrap_or_default();
        for i in 0..self.x.nrows() {
            let x = rows::row_mut(&mut self.x, i);
            for at in (0..x.len()).step_by(LANES) {
                let factor = s.load_at(self.factor, at, 0.0);
                let offset = if offset.is_empty() { s.splat(0.0) } else { s.load_at(offset, at, 0.0) };
                let y = s.fma(E::load_at(s, x, at, 0.0), factor, offset);
                E::store_at(s, x, at, y);
            }
        }
    }
}

struct Products<'a, D, X> {
    d: ArrayView2<'a, D>,
    x: ArrayView2<'a, X>,
    offset: Option<&'a [f32]>,
    rows: Range<usize>,
    sums: &'a mut [f32],
}

impl<D: Element, X: Element> Kernel for Products<'_, D, X> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let offset = self.offset.unwrap_or_default();
        for i in self.rows {
            let (d, x) = (rows::row(&self.d, i), rows::row(&self.x, i));
            for at in (0..self.sums.len()).step_by(LANES) {
                let offset = if offset.is_empty() { s.splat(0.0) } else { s.load_at(offset, at, 0.0) };
                let x = s.sub(X::load_at(s, x, at, 0.0), offset);
                let sum = s.fma(D::load_at(s, d, at, 0.0), x, s.load_at(self.sums, at, 0.0));
                s.store_at(self.sums, at, sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::testing::{assert_same_bits, full, half, inner, matrix, on_each_isa, width, within};
    use super::*;
    use ndarray::Array2;
    use proptest::prelude::*;
    use subgpt_testkit::{gradcheck::assert_close, noise::Noise};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn columns_are_scaled_and_moved(n in 0usize..90, c in width(), seed: u64, moved: bool) {
            let mut noise = Noise::new(seed);
            let x = matrix(&mut noise, n, c, 1.0);
            let (factor, offset) = (noise.normal(c, 1.0), noise.normal(c, 1.0));
            let offset = moved.then_some(&offset[..]);
            let want = |i: usize, j: usize| {
                f64::from(x[[i, j]]) * f64::from(factor[j]) + offset.map_or(0.0, |offset| f64::from(offset[j]))
            };
            on_each_isa(|| {
                let mut y = x.clone();
                scale_columns(y.view_mut(), &factor, offset).unwrap();
                assert!(y.indexed_iter().all(|((i, j), &y)| (f64::from(y) - want(i, j)).abs() < 1e-6 * (1.0 + want(i, j).abs())));
                let mut narrow = half(&x);
                scale_columns(narrow.view_mut(), &factor, offset).unwrap();
                let mut wide = full(&half(&x));
                scale_columns(wide.view_mut(), &factor, offset).unwrap();
                assert_eq!(narrow, half(&wide));
            });
        }

        #[test]
        fn products_are_summed_by_column(n in 0usize..200, c in width(), seed: u64, moved: bool) {
            let mut noise = Noise::new(seed);
            let (x, d) = (matrix(&mut noise, n, c, 1.0), matrix(&mut noise, n, c, 1.0));
            let offset = noise.normal(c, 1.0);
            let offset = moved.then_some(&offset[..]);
            let want: Vec<f64> = (0..c).map(|j| {
                let moved = offset.map_or(0.0, |offset| f64::from(offset[j]));
                2.0 + (0..n).map(|i| f64::from(d[[i, j]]) * (f64::from(x[[i, j]]) - moved)).sum::<f64>()
            }).collect();
            on_each_isa(|| {
                let mut out = vec![2.0; c];
                add_column_products(inner(&within(&d)), inner(&within(&x)), offset, &mut out).unwrap();
                assert_close("out", &out, &want, 1e-5);
            });
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let mut noise = Noise::new(1);
        let (x, d) = (matrix(&mut noise, 1003, 67, 1.0), matrix(&mut noise, 1003, 67, 1.0));
        assert_same_bits(|| {
            let mut out = vec![0.0; 67];
            add_column_products(d.view(), x.view(), None, &mut out).unwrap();
            out
        });
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let x = Array2::<f32>::zeros((3, 4));
        assert!(scale_columns(x.clone().view_mut(), &[1.0; 3], None).is_err());
        assert!(scale_columns(x.clone().view_mut(), &[1.0; 4], Some(&[0.0; 5])).is_err());
        assert!(add_column_products(x.view(), x.t(), None, &mut [0.0; 4]).is_err());
        assert!(add_column_products(x.view(), x.view(), None, &mut [0.0; 3]).is_err());
    }
}
