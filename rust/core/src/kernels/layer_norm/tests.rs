//! Layer norm against its formula in f64.

use super::*;
use crate::kernels::rows::testing::{assert_same_bits, full, half, inner, matrix, nan, on_each_isa, width, within};
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
        layer_norm_backward(x, &self.weight, &mean, &rstd, dy, dx.view_mut(), beta, Some(&mut dweight), db).unwrap();
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
                    None => layer_norm_backward(x, w, &mean, &rstd, full.view(), to, beta, Some(&mut dw), Some(&mut db)),
                    Some(()) => {
                        layer_norm_backward(x, w, &mean, &rstd, rounded.view(), to, beta, Some(&mut dw), Some(&mut db))
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
