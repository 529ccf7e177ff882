//! Token and position embeddings.
//!
//! ```text
//! embedding:      out[i] = weight[ids[i]]                  dweight[ids[i]] += dout[i]
//! add_embedding:  x[i] += weight[ids[i]]                   as that of embedding
//! add_positions:  x[b * t + i] += weight[first + i]        dweight[first + i] += sum over b of dx[b * t + i]
//! ```
//!
//! `weight` `(V, C)` or `(block_size, C)`, `out`, `dout`, `x`, `dx` `(rows, C)`. A task of the backward
//! pass owns columns of `dweight` and visits all positions in order: neither atomics nor sorting, and the same bits for
//! any number of threads.
//!
//! `torch.nn.functional.embedding`.

use super::check;
use super::residual::add;
use super::rows::{self, check_rows};
use crate::error::{Error, Result};
use crate::simd::{Element, Kernel, LANES, Simd, dispatch, isa};
use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use std::ops::Range;

/// Gathers the rows of `weight` that `ids` name.
pub fn embedding<W: Element, Y: Element>(weight: ArrayView2<W>, ids: &[u32], out: ArrayViewMut2<Y>) -> Result<()> {
    const OP: &str = "embedding";
    let (vocab_size, c) = weight.dim();
    check_rows!(OP, [vocab_size, c], weight);
    check_rows!(OP, [ids.len(), c], out);
    check::ids(OP, ids, vocab_size)?;
    let (isa, size) = (isa::current(), rows::task_rows(c));
    let parts = rows::blocks_mut(out, size).into_iter().zip(ids.chunks(size));
    rows::each(ids.len() * c, parts, |_, (out, ids)| dispatch(isa, Gather { weight, ids, out }));
    Ok(())
}

struct Gather<'a, W, Y> {
    weight: ArrayView2<'a, W>,
    ids: &'a [u32],
    out: ArrayViewMut2<'a, Y>,
}

impl<W: Element, Y: Element> Kernel for Gather<'_, W, Y> {
    type Output = ();
    const BF16: bool = Y::HALF;
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for (i, &id) in self.ids.iter().enumerate() {
            let (from, to) = (rows::row(&self.weight, id as usize), rows::row_mut(&mut self.out, i));
            for at in (0..to.len()).step_by(LANES) {
                Y::store_at(s, to, at, W::load_at(s, from, at, 0.0));
            }
        }
    }
}

/// Adds each row of `dout` to the row of `dweight` that its id names.
pub fn embedding_backward<D: Element>(ids: &[u32], dout: ArrayView2<D>, dweight: ArrayViewMut2<f32>) -> Result<()> {
    const OP: &str = "embedding_backward";
    let (vocab_size, c) = dweight.dim();
    check_rows!(OP, [vocab_size, c], dweight);
    check_rows!(OP, [ids.len(), c], dout);
    check::ids(OP, ids, vocab_size)?;
    let (isa, size) = (isa::current(), if c > 4 * PIECE { 2 * PIECE } else { PIECE });
    let parts = rows::columns_mut(dweight, size);
    rows::each(ids.len() * c, parts, |_, (columns, dweight)| dispatch(isa, Scatter { ids, columns, dout, dweight }));
    Ok(())
}

/// Columns of a task of the scatter: four vectors.
const PIECE: usize = 4 * LANES;

/// The columns of a task: each position adds its piece, in order, to that of its id.
struct Scatter<'a, D> {
    ids: &'a [u32],
    columns: Range<usize>,
    dout: ArrayView2<'a, D>,
    dweight: ArrayViewMut2<'a, f32>,
}

impl<D: Element> Kernel for Scatter<'_, D> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for (i, &id) in self.ids.iter().enumerate() {
            let piece = &rows::row(&self.dout, i)[self.columns.clone()];
            add(s, rows::row_mut(&mut self.dweight, id as usize), piece);
        }
    }
}

/// Adds to each row of `x` the row of `weight` that its id names; the gradient is [`embedding_backward`].
pub fn add_embedding<W: Element, X: Element>(weight: ArrayView2<W>, ids: &[u32], x: ArrayViewMut2<X>) -> Result<()> {
    const OP: &str = "add_embedding";
    let (vocab_size, c) = weight.dim();
    check_rows!(OP, [vocab_size, c], weight);
    check_rows!(OP, [ids.len(), c], x);
    check::ids(OP, ids, vocab_size)?;
    let (isa, size) = (isa::current(), rows::task_rows(c));
    let parts = rows::blocks_mut(x, size).into_iter().zip(ids.chunks(size));
    rows::each(ids.len() * c, parts, |_, (x, ids)| dispatch(isa, AddRows { weight, ids, x }));
    Ok(())
}

struct AddRows<'a, W, X> {
    weight: ArrayView2<'a, W>,
    ids: &'a [u32],
    x: ArrayViewMut2<'a, X>,
}

impl<W: Element, X: Element> Kernel for AddRows<'_, W, X> {
    type Output = ();
    const BF16: bool = X::HALF;
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for (i, &id) in self.ids.iter().enumerate() {
            add(s, rows::row_mut(&mut self.x, i), rows::row(&self.weight, id as usize));
        }
    }
}

/// Adds the embeddings of positions `first..first + t` to each of the sequences of `t` rows in `x`.
pub fn add_positions<W: Element, X: Element>(
    weight: ArrayView2<W>,
    first: usize,
    t: usize,
    x: ArrayViewMut2<X>,
) -> Result<()> {
    const OP: &str = "add_positions";
    let (n, c) = x.dim();
    check_rows!(OP, [n, c], x);
    check_rows!(OP, [weight.nrows(), c], weight);
    check_positions(OP, weight.nrows(), first, t, n)?;
    let (isa, size) = (isa::current(), rows::task_rows(c));
    rows::each(n * c, rows::blocks_mut(x, size), |i, x| {
        dispatch(isa, AddTable { weight, first, t, from: i * size, x });
    });
    Ok(())
}

/// The rows of `x` from the one that is row `from` of them all.
struct AddTable<'a, W, X> {
    weight: ArrayView2<'a, W>,
    first: usize,
    t: usize,
    from: usize,
    x: ArrayViewMut2<'a, X>,
}

impl<W: Element, X: Element> Kernel for AddTable<'_, W, X> {
    type Output = ();
    const BF16: bool = X::HALF;
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for i in 0..self.x.nrows() {
            let position = self.first + (self.from + i) % self.t;
            add(s, rows::row_mut(&mut self.x, i), rows::row(&self.weight, position));
        }
    }
}

/// The gradient of [`add_positions`], added to `dweight`.
pub fn add_positions_backward<D: Element>(
    dx: ArrayView2<D>,
    first: usize,
    t: usize,
    dweight: ArrayViewMut2<f32>,
) -> Result<()> {
    const OP: &str = "add_positions_backward";
    let (n, c) = dx.dim();
    check_rows!(OP, [n, c], dx);
    check_rows!(OP, [dweight.nrows(), c], dweight);
    check_positions(OP, dweight.nrows(), first, t, n)?;
    let isa = isa::current();
    let (_, used) = dweight.split_at(Axis(0), first);
    let (used, _) = used.split_at(Axis(0), t);
    rows::each(n * c, rows::blocks_mut(used, 8), |i, dweight| dispatch(isa, AddUp { dx, t, first: i * 8, dweight }));
    Ok(())
}

/// The rows of `dweight` from that of position `first` on.
struct AddUp<'a, D> {
    dx: ArrayView2<'a, D>,
    t: usize,
    first: usize,
    dweight: ArrayViewMut2<'a, f32>,
}

impl<D: Element> Kernel for AddUp<'_, D> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for i in 0..self.dweight.nrows() {
            let row = rows::row_mut(&mut self.dweight, i);
            for from in (self.first + i..self.dx.nrows()).step_by(self.t) {
                add(s, row, rows::row(&self.dx, from));
            }
        }
    }
}

/// `rows` must be whole sequences of `t`, whose positions must lie within the table.
fn check_positions(op: &'static str, table: usize, first: usize, t: usize, rows: usize) -> Result<()> {
    if first.checked_add(t).is_none_or(|end| end > table) {
        let got = format!("{first}..{first}+{t}");
        return Err(Error::value(op, "positions", got, format!("positions must be below block_size = {table}")));
    }
    if rows > 0 && (t == 0 || !rows.is_multiple_of(t)) {
        return Err(Error::value(op, "rows", rows, format!("rows must be whole sequences of t = {t}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::rows::testing::{assert_same_bits, full, half, inner, matrix, nan, on_each_isa, width, within};
    use super::*;
    use ndarray::Array2;
    use proptest::prelude::*;
    use subgpt_testkit::noise::Noise;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn rows_are_gathered_and_scattered_in_order(n in 0usize..40, v in 1usize..150, c in width(), seed: u64) {
            let mut noise = Noise::new(seed);
            let (weight, dout) = (matrix(&mut noise, v, c, 1.0), matrix(&mut noise, n, c, 1.0));
            let ids: Vec<u32> = (0..n).map(|_| noise.below(v) as u32).collect();
            let mut want = Array2::from_elem((v, c), 0.5f32);
            for (i, &id) in ids.iter().enumerate() {
                let sum = &want.row(id as usize) + &dout.row(i);
                want.row_mut(id as usize).assign(&sum);
            }
            on_each_isa(|| {
                let (mut out, mut dweight) = (nan(n, c), Array2::from_elem((v, c), 0.5));
                embedding(inner(&within(&weight)), &ids, out.view_mut()).unwrap();
                embedding_backward(&ids, inner(&within(&dout)), dweight.view_mut()).unwrap();
                assert!(ids.iter().enumerate().all(|(i, &id)| out.row(i) == weight.row(id as usize)));
                assert_eq!(&dweight, &want);
                let mut sum = dout.clone();
                add_embedding(inner(&within(&weight)), &ids, sum.view_mut()).unwrap();
                assert_eq!(sum, &out + &dout);
                let (mut narrow, rounded, mut sums) = (half(&nan(n, c)), half(&dout), [(); 2].map(|()| dweight.clone()));
                embedding(weight.view(), &ids, narrow.view_mut()).unwrap();
                assert_eq!(narrow, half(&out));
                embedding_backward(&ids, rounded.view(), sums[0].view_mut()).unwrap();
                embedding_backward(&ids, full(&rounded).view(), sums[1].view_mut()).unwrap();
                assert_eq!(sums[0], sums[1]);
            });
        }

        #[test]
        fn positions_are_added(b in 0usize..5, t in 1usize..9, first in 0usize..4, c in width(), seed: u64) {
            let mut noise = Noise::new(seed);
            let (weight, x) = (matrix(&mut noise, first + t + 2, c, 1.0), matrix(&mut noise, b * t, c, 1.0));
            on_each_isa(|| {
                let (mut y, mut dweight) = (x.clone(), Array2::zeros(weight.dim()));
                add_positions(weight.view(), first, t, y.view_mut()).unwrap();
                add_positions_backward(x.view(), first, t, dweight.view_mut()).unwrap();
                for i in 0..b * t {
                    assert_eq!(y.row(i), &x.row(i) + &weight.row(first + i % t));
                }
                for i in 0..weight.nrows() {
                    let mut want = ndarray::Array1::<f32>::zeros(c);
                    (0..b).filter(|_| (first..first + t).contains(&i)).for_each(|b| want += &x.row(b * t + i - first));
                    assert_eq!(dweight.row(i), want);
                }
            });
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let mut noise = Noise::new(3);
        let dout = matrix(&mut noise, 2000, 33, 1.0);
        let ids: Vec<u32> = (0..2000).map(|_| noise.below(300) as u32 / 3).collect();
        assert_same_bits(|| {
            let (mut dweight, mut dpositions) = (Array2::zeros((300, 33)), Array2::zeros((100, 33)));
            embedding_backward(&ids, dout.view(), dweight.view_mut()).unwrap();
            add_positions_backward(dout.view(), 0, 100, dpositions.view_mut()).unwrap();
            [dweight.into_raw_vec_and_offset().0, dpositions.into_raw_vec_and_offset().0].concat()
        });
    }

    #[test]
    fn wrong_ids_and_shapes_are_errors() {
        let weight = Array2::<f32>::zeros((3, 4));
        let message = embedding(weight.view(), &[0, 3], nan(2, 4).view_mut()).unwrap_err().to_string();
        assert!(message.contains("3 at position 1") && message.contains("vocab_size = 3"), "{message}");
        assert!(embedding(weight.view(), &[0], nan(2, 4).view_mut()).is_err());
        assert!(add_embedding(weight.view(), &[0, 3], nan(2, 4).view_mut()).is_err());
        assert!(add_embedding(weight.view(), &[0], nan(2, 4).view_mut()).is_err());
        assert!(embedding_backward(&[3], nan(1, 4).view(), nan(3, 4).view_mut()).is_err());
        assert!(embedding_backward(&[0], nan(1, 5).view(), nan(3, 4).view_mut()).is_err());
        for (first, t, n) in [(0, 4, 4), (usize::MAX, 2, 2), (0, 2, 3), (0, 0, 3)] {
            assert!(add_positions(weight.view(), first, t, nan(n, 4).view_mut()).is_err());
            assert!(add_positions_backward(nan(n, 4).view(), first, t, nan(3, 4).view_mut()).is_err());
        }
        add_positions(weight.view(), 3, 0, nan(0, 4).view_mut()).unwrap();
    }
}
