//! Sums over the rows of a matrix: the gradient of a bias.
//!
//! ```text
//! out[j] += sum over i of x[i][j]        x (rows, C), out (C)
//! ```
//!
//! Partial sums of blocks of 64 rows are added to `out` in the order of the blocks.

use super::check;
use super::rows::{self, check_rows};
use crate::error::Result;
use crate::simd::{Element, Kernel, LANES, Simd, dispatch, isa};
use ndarray::ArrayView2;
use std::ops::Range;

/// Adds the sum of each column of `x` to `out`.
pub fn add_column_sums<E: Element>(x: ArrayView2<E>, out: &mut [f32]) -> Result<()> {
    const OP: &str = "add_column_sums";
    let (n, c) = x.dim();
    check_rows!(OP, [n, c], x);
    check::len(OP, "out", out.len(), c)?;
    let isa = isa::current();
    rows::fold_blocks([n, c], n * c, &mut [out], std::iter::repeat(()), |rows, (), sums| {
        dispatch(isa, AddRows { x, rows, sums });
    });
    Ok(())
}

/// Rows that are added in one pass over the sums.
const AT_ONCE: usize = 8;

struct AddRows<'a, E> {
    x: ArrayView2<'a, E>,
    rows: Range<usize>,
    sums: &'a mut [f32],
}

impl<E: Element> Kernel for AddRows<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut i = self.rows.start;
        while i + AT_ONCE <= self.rows.end {
            let mut group: [&[E]; AT_ONCE] = [&[]; AT_ONCE];
            for k in 0..AT_ONCE {
                group[k] = rows::row(&self.x, i + k);
            }
            add(s, group, self.sums);
            i += AT_ONCE;
        }
        for i in i..self.rows.end {
            add(s, [rows::row(&self.x, i)], self.sums);
        }
    }
}

/// Adds `N` rows to the sums, one after the other.
#[inline(always)]
fn add<S: Simd, E: Element, const N: usize>(s: S, rows: [&[E]; N], sums: &mut [f32]) {
    for at in (0..sums.len()).step_by(LANES) {
        let mut sum = s.load_at(sums, at, 0.0);
        for row in rows {
            sum = s.add(sum, E::load_at(s, row, at, 0.0));
        }
        s.store_at(sums, at, sum);
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
        fn sums_are_added(n in 0usize..200, c in width(), seed: u64) {
            let x = matrix(&mut Noise::new(seed), n, c, 1.0);
            let want: Vec<f64> = x.columns().into_iter().map(|x| 3.0 + x.iter().map(|&v| f64::from(v)).sum::<f64>()).collect();
            on_each_isa(|| {
                let mut out = vec![3.0; c];
                add_column_sums(inner(&within(&x)), &mut out).unwrap();
                assert_close("out", &out, &want, 1e-5);
            });
        }
    }

    #[test]
    fn bfloat16_is_summed_as_what_it_stands_for() {
        let x = half(&matrix(&mut Noise::new(2), 131, 67, 1.0));
        on_each_isa(|| {
            let (mut wide, mut narrow) = (vec![1.0; 67], vec![1.0; 67]);
            add_column_sums(full(&x).view(), &mut wide).unwrap();
            add_column_sums(x.view(), &mut narrow).unwrap();
            assert_eq!(wide, narrow);
        });
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let x = matrix(&mut Noise::new(1), 1003, 67, 1.0);
        assert_same_bits(|| {
            let mut out = vec![0.0; 67];
            add_column_sums(x.view(), &mut out).unwrap();
            out
        });
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let x = Array2::<f32>::zeros((3, 4));
        assert!(add_column_sums(x.view(), &mut [0.0; 3]).is_err());
        assert!(add_column_sums(x.t(), &mut [0.0; 3]).is_err());
    }
}
