//! Products with a right operand in few bits.

use super::super::*;
use super::*;
use crate::kernels::activation::Activation;
use crate::kernels::quantized::Format;
use crate::simd::{bf16, round_to_bf16};
use ndarray::{Array2, s};
use proptest::prelude::*;
use subgpt_testkit::matmul as reference;

/// What is written for the rows `x`: sums with bias and residual, and rows behind an activation.
fn run<E: Scalar>(x: ArrayView2<'_, E>, w: Right<'_>, n: usize, extension: Option<Extension<'_>>) -> [Array2<f32>; 2] {
    let m = x.nrows();
    let (bias, residual) = (numbers(1, n, 5), numbers(m, n, 6));
    let (mut c, mut act, mut pre) = (Array2::zeros((m, n)), Array2::zeros((m, n)), Array2::<f32>::zeros((m, n)));
    let (bias, residual) = (bias.as_slice(), Some(residual.view()));
    let product = |out| extended_product(E::PRECISION, E::matrix(x), w, extension, out).unwrap();
    product(Output::Sums { c: c.view_mut().into(), beta: Beta::Overwrite, bias, residual });
    let (rows, activated) = (pre.view_mut().into(), act.view_mut().into());
    product(Output::Activated { pre: rows, act: activated, activation: Activation::GeluTanh, bias });
    [c, act]
}

fn decoded(matrix: &QuantizedMatrix) -> Array2<f32> {
    let mut numbers = vec![0.0; matrix.dim().0 * matrix.dim().1];
    matrix.decode(0..matrix.dim().0, &mut numbers).unwrap();
    Array2::from_shape_vec(matrix.dim(), numbers).unwrap()
}

fn quantized(format: Format, n: usize, k: usize) -> QuantizedMatrix {
    QuantizedMatrix::encode(format, numbers(n, k, 2).view()).unwrap()
}

#[test]
fn bfloat16_multiplies_rows_that_are_rounded_to_it() {
    for [m, n, k] in [[1, 70, 500], [2, 16, 3], [3, 200, 384], [4, 65, 900], [7, 64, 40], [150, 130, 400], [5, 5, 0]] {
        let (matrix, x) = (quantized(Format::BF16, n, k), Laid::<f32>::new(m, k, Layout::Part, 1));
        let rounded = x.view().mapv(|x| round_to_bf16(x).to_f32());
        let want = reference::matmul(rounded.view(), decoded(&matrix).t());
        on_every_isa(|isa| {
            let mut c = Array2::from_elem((m, n), f32::NAN);
            let out = Output::Sums { c: c.view_mut().into(), beta: Beta::Overwrite, bias: None, residual: None };
            product(Precision::Float32, Matrix::Float(x.view()), &matrix, out).unwrap();
            for (got, want) in c.iter().zip(&want) {
                let off = (f64::from(*got) - want).abs();
                assert!(off < 1e-4 * (1.0 + want.abs()), "{} {m} {n} {k}: {off}", isa.name());
            }
            let rows = run(rounded.view(), (&matrix).into(), n, None);
            assert_eq!(bits(&run(x.view(), (&matrix).into(), n, None)[0]), bits(&rows[0]));
        });
    }
}

/// Rounding a row moves each number by half a step at most, and a step is a 127th of its block's largest at most.
#[test]
fn integers_are_off_by_no_more_than_the_rounding_of_rows() {
    for format in [Format::Q8_0, Format::Q4_0] {
        for [m, n, k] in [[1, 70, 500], [9, 16, 3], [3, 200, 64], [20, 65, 333], [70, 33, 100], [5, 5, 0], [40, 5, 0]] {
            let (matrix, x) = (quantized(format, n, k), numbers(m, k, 1));
            let wide = decoded(&matrix);
            let want = reference::matmul(x.view(), wide.t());
            on_every_isa(|isa| {
                let mut c = Array2::from_elem((m, n), f32::NAN);
                let out = Output::Sums { c: c.view_mut().into(), beta: Beta::Overwrite, bias: None, residual: None };
                product(Precision::Float32, x.view().into(), &matrix, out).unwrap();
                for ((i, j), &got) in c.indexed_iter() {
                    let blocks = (0..k).step_by(32).map(|b| {
                        let ks = s![b..k.min(b + 32)];
                        let step = x.row(i).slice(ks).iter().fold(0f32, |max, x| max.max(x.abs())) / 127.0;
                        f64::from(wide.row(j).slice(ks).iter().map(|w| w.abs()).sum::<f32>() * step / 2.0)
                    });
                    let most = blocks.sum::<f64>() * 1.001 + 1e-5;
                    let off = (f64::from(got) - want[[i, j]]).abs();
                    assert!(off <= most, "{format:?} {} {m} {n} {k}: {off} > {most}", isa.name());
                }
            });
        }
    }
}

/// Rows whose blocks hold 127 times a power of two and other multiples of it are not rounded.
#[test]
fn integers_are_exact_where_rows_are() {
    for format in [Format::Q8_0, Format::Q4_0] {
        let (matrix, mut x) = (quantized(format, 40, 96), numbers(11, 96, 1).mapv(|x| (x * 127.0).round() / 64.0));
        x.slice_mut(s![.., ..;32]).fill(-127.0 / 64.0);
        let want = reference::matmul(x.view(), decoded(&matrix).t());
        on_every_isa(|_| {
            let mut c = Array2::<f32>::zeros((11, 40));
            let out = Output::Sums { c: c.view_mut().into(), beta: Beta::Overwrite, bias: None, residual: None };
            product(Precision::Float32, x.view().into(), &matrix, out).unwrap();
            assert!(c.iter().zip(&want).all(|(&got, want)| (f64::from(got) - want).abs() < 1e-5 * (1.0 + want.abs())));
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_row_alone_has_the_bits_it_has_among_others(
        m in 2usize..40, n in 1usize..200, k in 1usize..500, r in 0usize..10, which in 0usize..3,
    ) {
        let (format, x) = ([Format::BF16, Format::Q8_0, Format::Q4_0][which], numbers(m, k, 1));
        let (matrix, left, right) = (quantized(format, n, k), numbers(m, r, 3), numbers(r, n, 4));
        let mut known: Option<Vec<u32>> = None;
        on_every_isa(|_| {
            let extension = |rows: usize| {
                let left = left.slice(s![..rows, ..]).into();
                (r > 0).then(|| Extension { left, right: right.view().into() })
            };
            let all = run(x.view(), (&matrix).into(), n, extension(m));
            for rows in 1..m.min(10) {
                let few = run(x.slice(s![..rows, ..]), (&matrix).into(), n, extension(rows));
                for (few, all) in few.iter().zip(&all) {
                    assert_eq!(bits(few), bits(&all.slice(s![..rows, ..]).to_owned()));
                }
            }
        });
        // Tiles add numbers of bfloat16 in another order, and Intel's dot product is not asked for.
        let alike = |isa: &Isa| isa.is_available() && (format != Format::BF16 || *isa != Isa::Amx);
        for isa in [Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16, Isa::Amx].into_iter().filter(alike) {
            let [sums, _] = isa::with(isa, || run(x.view(), (&matrix).into(), n, None));
            prop_assert_eq!(known.get_or_insert_with(|| bits(&sums)), &bits(&sums), "{}", isa.name());
        }
    }
}

#[test]
fn an_extension_is_added() {
    let (x, left, right) = (numbers(6, 70, 1), numbers(6, 4, 3), numbers(4, 90, 4));
    let more = reference::matmul(left.view(), right.view());
    for format in [Format::BF16, Format::Q8_0, Format::Q4_0] {
        let matrix = quantized(format, 90, 70);
        let (half_x, half_left) = (x.mapv(bf16::from_f32), left.mapv(bf16::from_f32));
        let with = |left| Some(Extension { left, right: right.view().into() });
        let floats = [None, with(left.view().into())].map(|more| run(x.view(), (&matrix).into(), 90, more)[0].clone());
        let halves = [None, with(half_left.view().into())];
        let halves = halves.map(|more| run(half_x.view(), (&matrix).into(), 90, more)[0].clone());
        for ([plain, extended], tolerance) in [(floats, 1e-5), (halves, 2e-2)] {
            for ((extended, plain), more) in extended.iter().zip(&plain).zip(&more) {
                assert!((f64::from(extended - plain) - more).abs() < tolerance, "{format:?}");
            }
        }
    }
}

#[test]
fn a_row_that_is_not_a_number_stays_so_and_alone() {
    let mut x = numbers(3, 64, 1);
    x[[1, 5]] = f32::NAN;
    for format in [Format::BF16, Format::Q8_0, Format::Q4_0] {
        on_every_isa(|_| {
            let [sums, _] = run(x.view(), (&quantized(format, 20, 64)).into(), 20, None);
            assert!(
                sums.row(1).iter().all(|x| x.is_nan()) && sums.row(0).iter().chain(sums.row(2)).all(|x| x.is_finite())
            );
        });
    }
    let wrong = product(
        Precision::Float32,
        x.view().into(),
        &quantized(Format::Q8_0, 20, 63),
        Output::Sums {
            c: Array2::<f32>::zeros((3, 20)).view_mut().into(),
            beta: Beta::Overwrite,
            bias: None,
            residual: None,
        },
    );
    assert!(matches!(wrong, Err(Error::Shape { .. })));
}
