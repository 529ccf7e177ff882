//! Every precision, type of operand and output, packed ahead and not.

use super::super::*;
use super::*;
use crate::kernels::activation::Activation;
use crate::simd::{bf16, round_to_bf16};
use ndarray::{Array2, s};
use proptest::prelude::*;
use subgpt_testkit::{matmul as reference, rows as naive};

/// What is made of the sums, with the types of what is written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wanted {
    Sums { half: bool, bias: bool, residual: bool },
    Accumulated { half: bool },
    Activated { half: bool, bias: bool, activation: Activation },
    ActivatedBackward { half: bool, activation: Activation },
}

const ACTIVATIONS: [Activation; 4] = [Activation::Gelu, Activation::GeluTanh, Activation::Relu2, Activation::Silu];

/// Every output with one activation each.
fn wanted(seed: usize) -> Vec<Wanted> {
    let mut all = Vec::new();
    for (i, half) in [false, true].into_iter().enumerate() {
        let activation = ACTIVATIONS[(seed + i) % 4];
        all.push(Wanted::Accumulated { half });
        all.push(Wanted::Sums { half, bias: false, residual: false });
        all.push(Wanted::Sums { half, bias: true, residual: true });
        all.push(Wanted::Activated { half, bias: seed.is_multiple_of(2), activation });
        all.push(Wanted::ActivatedBackward { half, activation });
    }
    all
}

/// An operand of either type.
enum Operand {
    Float(Laid<f32>),
    Half(Laid<bf16>),
}

impl Operand {
    fn new(rows: usize, columns: usize, half: bool, layout: Layout, seed: u32) -> Operand {
        if half {
            Operand::Half(Laid::new(rows, columns, layout, seed))
        } else {
            Operand::Float(Laid::new(rows, columns, layout, seed))
        }
    }

    fn matrix(&self) -> Matrix<'_> {
        match self {
            Operand::Float(x) => x.view().into(),
            Operand::Half(x) => x.view().into(),
        }
    }

    /// The numbers that are multiplied.
    fn multiplied(&self, precision: Precision) -> Array2<f32> {
        match (self, precision) {
            (Operand::Float(x), Precision::Float32) => x.view().to_owned(),
            (Operand::Float(x), Precision::Bfloat16) => x.view().mapv(|x| round_to_bf16(x).to_f32()),
            (Operand::Half(x), _) => x.view().mapv(|x| x.to_f32()),
        }
    }
}

/// A matrix of results inside guard rows and columns of NaN.
struct Guarded<E> {
    memory: Array2<E>,
    m: usize,
    n: usize,
}

impl<E: Scalar> Guarded<E> {
    fn new(m: usize, n: usize) -> Self {
        Guarded { memory: Array2::from_elem((m + 2, n + 5), E::from_f32(f32::NAN)), m, n }
    }

    fn view(&mut self) -> ArrayViewMut2<'_, E> {
        let (m, n) = (self.m, self.n);
        self.memory.slice_mut(s![1..=m, 3..3 + n])
    }

    /// The results; nothing outside of them may have been written.
    fn finish(mut self) -> Array2<f32> {
        let result = self.view().mapv(|x| x.to_f32());
        self.view().fill(E::from_f32(f32::NAN));
        assert!(self.memory.iter().all(|x| x.to_f32().is_nan()), "written outside of an output of {:?}", result.dim());
        result
    }
}

/// Runs a product and gives back what it writes, one matrix or two.
fn run<E: Scalar>(
    precision: Precision,
    a: Matrix<'_>,
    b: Right<'_>,
    (m, n): (usize, usize),
    wanted: Wanted,
) -> Vec<Array2<f32>> {
    let bias = numbers(1, n, 5).into_raw_vec_and_offset().0;
    let residual = numbers(m, n, 6);
    let (mut first, mut second) = (Guarded::<E>::new(m, n), Guarded::<E>::new(m, n));
    let bias = |take: bool| take.then_some(&bias[..]);
    let out = match wanted {
        Wanted::Accumulated { .. } => {
            first.view().assign(&numbers(m, n, 7).mapv(E::from_f32));
            Output::Sums { c: E::matrix_mut(first.view()), beta: Beta::Accumulate, bias: None, residual: None }
        }
        Wanted::Sums { bias: with_bias, residual: with_residual, .. } => Output::Sums {
            c: E::matrix_mut(first.view()),
            beta: Beta::Overwrite,
            bias: bias(with_bias),
            residual: with_residual.then(|| residual.view()),
        },
        Wanted::Activated { bias: with_bias, activation, .. } => Output::Activated {
            pre: E::matrix_mut(first.view()),
            act: E::matrix_mut(second.view()),
            activation,
            bias: bias(with_bias),
        },
        Wanted::ActivatedBackward { activation, .. } => {
            let pre = before::<E>(m, n);
            let out = Output::ActivatedBackward {
                pre: E::matrix(pre.view()),
                d_pre: E::matrix_mut(first.view()),
                act: E::matrix_mut(second.view()),
                activation,
            };
            product(precision, a, b, out).expect("everything fits");
            return vec![first.finish(), second.finish()];
        }
    };
    product(precision, a, b, out).expect("everything fits");
    match wanted {
        Wanted::Activated { .. } => vec![first.finish(), second.finish()],
        _ => vec![first.finish()],
    }
}

/// What went into the activation.
fn before<E: Scalar>(m: usize, n: usize) -> Array2<E> {
    numbers(m, n, 8).mapv(|x| E::from_f32(3.0 * x))
}

fn run_any(
    precision: Precision,
    a: Matrix<'_>,
    b: Right<'_>,
    shape: (usize, usize),
    wanted: Wanted,
) -> Vec<Array2<f32>> {
    match wanted {
        Wanted::Accumulated { half: true } | Wanted::Sums { half: true, .. } | Wanted::Activated { half: true, .. } => {
            run::<bf16>(precision, a, b, shape, wanted)
        }
        Wanted::ActivatedBackward { half: true, .. } => run::<bf16>(precision, a, b, shape, wanted),
        _ => run::<f32>(precision, a, b, shape, wanted),
    }
}

fn exact(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Gelu => naive::gelu_erf(x),
        Activation::GeluTanh => naive::gelu_tanh(x),
        Activation::Relu2 => x.max(0.0) * x.max(0.0),
        Activation::Silu => naive::silu(x),
    }
}

/// `f'(x)` by a difference.
fn exact_slope(activation: Activation, x: f64) -> f64 {
    (exact(activation, x + 1e-5) - exact(activation, x - 1e-5)) / 2e-5
}

/// What the product of the rounded operands should be, and what its rounding is measured against.
fn expect(sums: &Array2<f64>, sizes: &Array2<f64>, wanted: Wanted) -> (Vec<Array2<f64>>, Array2<f64>, bool) {
    let (m, n) = sums.dim();
    let (bias, residual) = (numbers(1, n, 5).mapv(f64::from), numbers(m, n, 6).mapv(f64::from));
    let mut sums = sums.clone();
    let sizes = sizes + 4.0;
    match wanted {
        Wanted::Accumulated { half } => {
            let held = numbers(m, n, 7).mapv(|x| if half { round_to_bf16(x).to_f32() } else { x });
            (vec![sums + held.mapv(f64::from)], sizes, half)
        }
        Wanted::Sums { half, bias: with_bias, residual: with_residual } => {
            if with_bias {
                sums += &bias;
            }
            if with_residual {
                sums += &residual;
            }
            (vec![sums], sizes, half)
        }
        Wanted::Activated { half, bias: with_bias, activation } => {
            if with_bias {
                sums += &bias;
            }
            // The slope of the square grows with what is squared.
            let sizes = &sizes * &sums.mapv(|x| 2.0 + 2.0 * x.abs());
            (vec![sums.clone(), sums.mapv(|x| exact(activation, x))], sizes, half)
        }
        Wanted::ActivatedBackward { half, activation } => {
            let pre = if half { before::<bf16>(m, n).mapv(|x| x.to_f32()) } else { before::<f32>(m, n) };
            let slopes = pre.mapv(|x| exact_slope(activation, f64::from(x)));
            (vec![sums * slopes, pre.mapv(|x| exact(activation, f64::from(x)))], sizes * 8.0, half)
        }
    }
}

fn check(precision: Precision, a: &Operand, b: &Operand, wanted: &[Wanted]) {
    let (a32, b32) = (a.multiplied(precision), b.multiplied(precision));
    let (shape, k) = ((a32.nrows(), b32.ncols()), a32.ncols());
    let (sums, sizes) = (reference::matmul(a32.view(), b32.view()), reference::magnitudes(a32.view(), b32.view()));
    let steps = (k.min(2 * blocking::KC) + k.div_ceil(blocking::KC) + 16) as f64;
    on_every_isa(|isa| {
        let mut packed = Packed::new(precision, k, shape.1).expect("there is memory");
        packed.pack(b.matrix()).expect("it fits");
        for &wanted in wanted {
            let got = run_any(precision, a.matrix(), b.matrix().into(), shape, wanted);
            let ahead = run_any(precision, a.matrix(), (&packed).into(), shape, wanted);
            let same = got.iter().zip(&ahead).all(|(x, y)| bits(x) == bits(y));
            assert!(same, "{wanted:?} differs when packed ahead, {}", isa.name());
            let (exact, sizes, half) = expect(&sums, &sizes, wanted);
            assert_eq!(got.len(), exact.len());
            for (got, exact) in got.iter().zip(&exact) {
                for ((at, &got), (&exact, &size)) in got.indexed_iter().zip(exact.iter().zip(&sizes)) {
                    let rounding = if half { exact.abs() / 256.0 + 1e-6 } else { 0.0 };
                    let bound = steps * f64::from(f32::EPSILON) * size + rounding;
                    let error = (f64::from(got) - exact).abs();
                    assert!(error <= bound, "{wanted:?} of {shape:?} x {k} on {} at {at:?}: {got} {exact}", isa.name());
                }
            }
        }
    });
}

/// Every pair of operand types that a precision takes.
fn types(precision: Precision) -> Vec<(bool, bool)> {
    match precision {
        Precision::Float32 => vec![(false, false)],
        Precision::Bfloat16 => vec![(false, false), (false, true), (true, false), (true, true)],
    }
}

#[test]
fn every_output_of_awkward_sizes_agrees_with_the_reference() {
    let sizes = [
        (1, 1, 1),
        (1, 9, 40),
        (3, 770, 33),
        (4, 1, 17),
        (13, 0, 15),
        (12, 768, 32),
        (13, 769, 33),
        (25, 31, 128),
        (49, 771, 129),
        (60, 1537, 65),
        (131, 130, 300),
        (250, 64, 513),
    ];
    for (i, (m, k, n)) in sizes.into_iter().enumerate() {
        for precision in [Precision::Float32, Precision::Bfloat16] {
            let layouts = [
                (Layout::Rows, Layout::Rows),
                (Layout::Transposed, Layout::Part),
                (Layout::Part, Layout::Transposed),
                (Layout::TransposedPart, Layout::TransposedPart),
            ];
            for ((half_a, half_b), (layout_a, layout_b)) in types(precision).into_iter().zip(layouts) {
                let a = Operand::new(m, k, half_a, layout_a, 1);
                let b = Operand::new(k, n, half_b, layout_b, 2);
                check(precision, &a, &b, &wanted(i));
            }
        }
    }
}

#[test]
fn every_layout_of_bfloat16_operands_agrees_with_the_reference() {
    for (m, k, n) in [(1, 1, 1), (3, 33, 50), (14, 20, 35), (50, 395, 140), (60, 17, 1)] {
        for (a, b) in LAYOUTS.iter().flat_map(|&a| LAYOUTS.map(|b| (a, b))) {
            for (half_a, half_b) in [(true, true), (false, false)] {
                let (a, b) = (Operand::new(m, k, half_a, a, 1), Operand::new(k, n, half_b, b, 2));
                check(Precision::Bfloat16, &a, &b, &[Wanted::Accumulated { half: false }]);
            }
        }
    }
}

#[test]
fn passes_over_depth_add_up_outside_of_bfloat16_outputs() {
    // Deeper than one pass of packing takes.
    let (a, b) = (Operand::new(50, 17_001, true, Layout::Rows, 1), Operand::new(17_001, 600, true, Layout::Rows, 2));
    check(Precision::Bfloat16, &a, &b, &[wanted(0)[5], wanted(0)[6], wanted(1)[8]]);
}

#[test]
fn bits_depend_neither_on_threads_nor_on_the_width_of_vectors_nor_on_other_rows() {
    let shapes = [(3, 400, 300), (20, 1000, 700), (150, 1600, 300), (700, 390, 65)];
    let all = |isa: Isa| {
        isa::with(isa, || {
            let mut results = Vec::new();
            for (i, (m, k, n)) in shapes.into_iter().enumerate() {
                let (a, b) =
                    (Operand::new(m, k, true, Layout::Rows, 1), Operand::new(k, n, false, Layout::Transposed, 2));
                for wanted in wanted(i) {
                    let whole = run_any(Precision::Bfloat16, a.matrix(), b.matrix().into(), (m, n), wanted);
                    if wanted == (Wanted::Sums { half: true, bias: false, residual: false }) {
                        let Operand::Half(a) = &a else { unreachable!() };
                        let (first, rows) = (m / 3, m / 2);
                        let part = a.view().slice_move(s![first..first + rows, ..]);
                        let part = run_any(Precision::Bfloat16, part.into(), b.matrix().into(), (rows, n), wanted);
                        assert_eq!(part[0], whole[0].slice(s![first..first + rows, ..]), "{m} {k} {n}");
                    }
                    results.extend(whole.iter().map(bits));
                }
            }
            results
        })
    };
    let before = parallel::num_threads();
    let mut runs = Vec::new();
    for threads in [1, 2, 3, 5, 8] {
        parallel::set_num_threads(threads);
        runs.push(isa::available().into_iter().map(all).collect::<Vec<_>>());
    }
    parallel::set_num_threads(before);
    assert!(runs.windows(2).all(|w| w[0] == w[1]), "the number of threads changes bits");
    // The portable path comes first and rounds otherwise; tiles come last and add up otherwise.
    let vectors = isa::available().iter().filter(|isa| **isa != Isa::Portable && **isa != Isa::Amx).count();
    assert!(runs[0][1..][..vectors].windows(2).all(|w| w[0] == w[1]), "instruction sets differ");
}

#[test]
fn types_that_do_not_fit_are_errors() {
    let (a, b) = (numbers(4, 6, 1), numbers(6, 8, 2));
    let half = a.mapv(round_to_bf16);
    let mut c = Array2::<f32>::zeros((4, 8));
    let mut narrow = Array2::from_elem((4, 8), bf16::ZERO);
    let mut sums = |precision, a: Matrix<'_>, b: Right<'_>| {
        let out = Output::Sums { c: c.view_mut().into(), beta: Beta::Overwrite, bias: None, residual: None };
        product(precision, a, b, out).map_err(|e| e.to_string())
    };
    let refused = sums(Precision::Float32, half.view().into(), b.view().into());
    assert_eq!(refused, Err("matmul: a is bfloat16; products in float32 take float32 operands".into()));
    let packed = Packed::new(Precision::Bfloat16, 6, 8).unwrap();
    assert!(sums(Precision::Float32, a.view().into(), (&packed).into()).unwrap_err().contains("another precision"));
    let short = Packed::new(Precision::Bfloat16, 5, 8).unwrap();
    assert!(sums(Precision::Bfloat16, a.view().into(), (&short).into()).unwrap_err().contains("[5, 8]"));
    assert!(Packed::new(Precision::Float32, 6, 8).unwrap().pack(a.view().into()).is_err());
    let out = Output::Activated {
        pre: c.view_mut().into(),
        act: narrow.view_mut().into(),
        activation: Activation::Gelu,
        bias: None,
    };
    let refused = product(Precision::Bfloat16, a.view().into(), b.view(), out).unwrap_err().to_string();
    assert_eq!(refused, "matmul: act is bfloat16; it must be float32 as pre is");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_product_agrees_with_the_reference(
        m in 0usize..120,
        k in 0usize..900,
        n in 0usize..150,
        a in prop::sample::select(&LAYOUTS[..]),
        b in prop::sample::select(&LAYOUTS[..]),
        half_a: bool,
        half_b: bool,
        seed in any::<u32>(),
    ) {
        let precision = if half_a || half_b || seed.is_multiple_of(2) { Precision::Bfloat16 } else { Precision::Float32 };
        let (a, b) = (Operand::new(m, k, half_a, a, seed), Operand::new(k, n, half_b, b, !seed));
        let wanted = wanted(seed as usize % 64);
        check(precision, &a, &b, &[wanted[seed as usize % wanted.len()], wanted[(seed / 16) as usize % wanted.len()]]);
    }
}
