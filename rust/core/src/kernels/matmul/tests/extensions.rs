//! Products with more depth: the same as those of matrices that hold both.

use super::super::*;
use super::*;
use crate::kernels::activation::Activation;
use crate::simd::bf16;
use ndarray::{Array2, Axis, concatenate, s};
use proptest::prelude::*;
use subgpt_testkit::matmul as reference;

/// Both pairs of operands, with as many rows and columns as their layouts say.
struct Case<E> {
    a: Laid<E>,
    b: Laid<E>,
    left: Laid<E>,
    right: Laid<E>,
}

impl<E: Scalar> Case<E> {
    fn new([m, n, k, r]: [usize; 4], layouts: [Layout; 4]) -> Self {
        let [a, b, left, right] = layouts;
        Case {
            a: Laid::new(m, k, a, 1),
            b: Laid::new(k, n, b, 2),
            left: Laid::new(m, r, left, 3),
            right: Laid::new(r, n, right, 4),
        }
    }

    /// What is written for the first `rows` rows, by two outputs: sums with all terms, and an activation.
    fn run(&self, rows: usize) -> [Array2<f32>; 2] {
        let top = s![..rows, ..];
        let (a, b) = (E::matrix(self.a.view().slice_move(top)), E::matrix(self.b.view()));
        let (left, right) = (E::matrix(self.left.view().slice_move(top)), E::matrix(self.right.view()));
        let extension = Some(Extension { left, right });
        write::<E>(rows, self.b.columns, |out| extended_product(E::PRECISION, a, b.into(), extension, out))
    }

    /// The matrices that hold both.
    fn whole(&self) -> [Array2<E>; 2] {
        [
            concatenate(Axis(1), &[self.a.view(), self.left.view()]).expect("as many rows"),
            concatenate(Axis(0), &[self.b.view(), self.right.view()]).expect("as many columns"),
        ]
    }
}

/// What `product` writes as sums with bias and residual, and as rows behind an activation.
fn write<E: Scalar>(m: usize, n: usize, product: impl Fn(Output<'_>) -> Result<()>) -> [Array2<f32>; 2] {
    let (bias, residual) = (numbers(1, n, 5), numbers(m, n, 6));
    let bias = bias.as_slice();
    let [mut c, mut pre, mut act] = std::array::from_fn(|_| Array2::from_elem((m, n), E::from_f32(f32::NAN)));
    let residual = Some(residual.view());
    product(Output::Sums { c: E::matrix_mut(c.view_mut()), beta: Beta::Overwrite, bias, residual }).unwrap();
    let (rows, activated) = (E::matrix_mut(pre.view_mut()), E::matrix_mut(act.view_mut()));
    product(Output::Activated { pre: rows, act: activated, activation: Activation::Silu, bias }).unwrap();
    [c, act].map(|x| x.mapv(E::to_f32))
}

#[test]
fn a_matrix_that_was_packed_without_what_extends_it_is_refused() {
    let (a, b) = (numbers(20, 8, 1), numbers(8, 30, 2));
    let mut packed = Packed::new(Precision::Float32, 8, 30).unwrap();
    packed.pack(b.view().into()).unwrap();
    let (left, right) = (numbers(20, 3, 3), numbers(3, 30, 4));
    let extension = Some(Extension { left: left.view().into(), right: right.view().into() });
    let mut c = Array2::<f32>::zeros((20, 30));
    let out = Output::Sums { c: c.view_mut().into(), beta: Beta::Overwrite, bias: None, residual: None };
    let refused = extended_product(Precision::Float32, a.view().into(), (&packed).into(), extension, out);
    assert!(refused.unwrap_err().to_string().contains("needs b as it lies"));
}

/// Bits like those of the matrices that hold both, where these are one block of depth; rows alone like among others.
fn check<E: Scalar>(shape: [usize; 4], layouts: [Layout; 4]) {
    let [m, n, k, r] = shape;
    let case = Case::<E>::new(shape, layouts);
    on_every_isa(|isa| {
        let [got, activated] = case.run(m);
        let [a, b] = case.whole();
        let whole = write::<E>(m, n, |out| product(E::PRECISION, E::matrix(a.view()), E::matrix(b.view()), out));
        if k + r <= blocking::KC && k.is_multiple_of(2) {
            assert_eq!(bits(&got), bits(&whole[0]), "{} {shape:?} {layouts:?}", isa.name());
            assert_eq!(bits(&activated), bits(&whole[1]), "{} {shape:?} {layouts:?}", isa.name());
        }
        let (a, b) = (a.mapv(E::to_f32), b.mapv(E::to_f32));
        let sizes = reference::magnitudes(a.view(), b.view());
        let tolerance = if E::HALF { 1e-2 } else { 1e-5 };
        for ((got, whole), size) in got.iter().zip(&whole[0]).zip(&sizes) {
            assert!(f64::from((got - whole).abs()) <= tolerance * (size + 2.0), "{} {shape:?}", isa.name());
        }
        for rows in [1, 2, 3, 4, 5, 13].into_iter().filter(|&rows| rows < m) {
            let alone = case.run(rows)[0].clone();
            assert_eq!(bits(&alone), bits(&got.slice(s![..rows, ..]).to_owned()), "{} {shape:?} {rows}", isa.name());
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn an_extension_is_more_depth(
        m in 1usize..70, n in 1usize..140, k in 0usize..900, r in 1usize..20,
        a in 0..LAYOUTS.len(), b in 0..LAYOUTS.len(), left in 0..LAYOUTS.len(), right in 0..LAYOUTS.len(),
    ) {
        let layouts = [a, b, left, right].map(|i| LAYOUTS[i]);
        check::<f32>([m, n, k, r], layouts);
        check::<bf16>([m, n, k, r], layouts);
    }
}

#[test]
fn every_path_takes_an_extension() {
    use Layout::{Rows, Transposed};
    for m in [1, 3, 4, 5, 40, 100] {
        for b in [Rows, Transposed] {
            check::<f32>([m, 200, 300, 8], [Rows, b, Rows, Rows]);
            check::<bf16>([m, 200, 300, 8], [Rows, b, Rows, Transposed]);
        }
    }
    check::<f32>([49, 3, 0, 8], [Rows; 4]);
}

#[test]
fn an_extension_of_zeros_changes_no_bit() {
    for (m, k) in [(2, 500), (20, 500), (90, 500), (90, 384)] {
        let (a, b) = (numbers(m, k, 1), numbers(k, 70, 2));
        let (left, right) = (numbers(m, 9, 3), Array2::<f32>::zeros((9, 70)));
        let extension = Some(Extension { left: left.view().into(), right: right.view().into() });
        let precision = Precision::Float32;
        let plain = write::<f32>(m, 70, |out| product(precision, a.view().into(), b.view(), out));
        let (a, b): (Matrix<'_>, Right<'_>) = (a.view().into(), b.view().into());
        let extended = write::<f32>(m, 70, |out| extended_product(precision, a, b, extension, out));
        assert_eq!(plain.map(|x| bits(&x)), extended.map(|x| bits(&x)));
    }
}

#[test]
fn an_extension_that_does_not_fit_is_an_error() {
    let (a, b, mut c) = (numbers(5, 6, 1), numbers(6, 7, 2), Array2::<f32>::zeros((5, 7)));
    for (left, right) in [([4, 2], [2, 7]), ([5, 2], [3, 7]), ([5, 2], [2, 6])] {
        let (left, right) = (numbers(left[0], left[1], 3), numbers(right[0], right[1], 4));
        let extension = Some(Extension { left: left.view().into(), right: right.view().into() });
        let out = Output::Sums { c: c.view_mut().into(), beta: Beta::Overwrite, bias: None, residual: None };
        let result = extended_product(Precision::Float32, a.view().into(), b.view().into(), extension, out);
        assert!(matches!(result, Err(Error::Shape { .. })));
    }
}
