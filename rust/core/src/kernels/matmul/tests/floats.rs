//! Sums in float32: awkward sizes, strides, epilogues, every instruction set.

use super::super::*;
use super::*;
use ndarray::{Array2, ArrayView2, s};
use proptest::prelude::*;
use subgpt_testkit::matmul as reference;

/// What a product is tried with, besides its operands.
#[derive(Clone, Copy, Debug)]
struct Options {
    beta: Beta,
    bias: bool,
    residual: bool,
}

const PLAIN: Options = Options { beta: Beta::Overwrite, bias: false, residual: false };
const FULL: Options = Options { beta: Beta::Accumulate, bias: true, residual: true };
const FRESH: Options = Options { beta: Beta::Overwrite, bias: true, residual: true };

/// The product inside a larger matrix: guard rows and columns around it, which must stay NaN.
fn product(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>, options: Options) -> Array2<f32> {
    let (m, n) = (a.nrows(), b.ncols());
    let bias = numbers(1, n, 5).into_raw_vec_and_offset().0;
    let residual = numbers(m, n + 1, 6);
    let mut memory = Array2::from_elem((m + 2, n + 5), f32::NAN);
    let mut c = memory.slice_mut(s![1..=m, 3..3 + n]);
    if options.beta == Beta::Accumulate {
        c.assign(&numbers(m, n, 7));
    }
    let out = Output::Sums {
        c: c.view_mut().into(),
        beta: options.beta,
        bias: options.bias.then_some(&bias[..]),
        residual: options.residual.then(|| residual.slice(s![.., ..n])),
    };
    super::super::product(Precision::Float32, a.into(), b, out).expect("the shapes fit");
    let result = c.to_owned();
    c.fill(f32::NAN);
    assert!(memory.iter().all(|x| x.is_nan()), "written outside of c: {:?} {:?}", a.shape(), b.shape());
    result
}

/// Sums in f64, and what their rounding is measured against; computed once for all options.
struct Expected {
    sums: Array2<f64>,
    sizes: Array2<f64>,
    steps: usize,
}

impl Expected {
    fn new(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> Expected {
        let steps = a.ncols().min(blocking::KC) + a.ncols().div_ceil(blocking::KC) + 4;
        Expected { sums: reference::matmul(a, b), sizes: reference::magnitudes(a, b), steps }
    }

    /// Every element of the product within the bound for recursive summation, block by block.
    fn check(&self, a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>, options: Options) {
        let (m, n) = self.sums.dim();
        let mut wanted = self.sums.clone();
        if options.beta == Beta::Accumulate {
            wanted += &numbers(m, n, 7).mapv(f64::from);
        }
        if options.bias {
            wanted += &numbers(1, n, 5).mapv(f64::from);
        }
        if options.residual {
            wanted += &numbers(m, n + 1, 6).slice(s![.., ..n]).mapv(f64::from);
        }
        let got = product(a, b, options);
        for ((at, &got), (wanted, size)) in got.indexed_iter().zip(wanted.iter().zip(&self.sizes)) {
            let bound = self.steps as f64 * f64::from(f32::EPSILON) * (size + 4.0);
            assert!((f64::from(got) - wanted).abs() <= bound, "{:?} {:?} {at:?}: {got} {wanted}", a.shape(), b.shape());
        }
    }
}

/// Every instruction set and all `options` against the reference.
fn expect_close(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>, options: &[Options]) {
    let expected = Expected::new(a, b);
    on_every_isa(|_| options.iter().for_each(|&options| expected.check(a, b, options)));
}

/// M, K, N: zeros, ones, primes, one off the edges of every block, tall, flat, deep.
const SIZES: [(usize, usize, usize); 36] = [
    (0, 0, 0),
    (0, 3, 5),
    (3, 0, 5),
    (60, 0, 40),
    (3, 5, 0),
    (1, 1, 1),
    (1, 7, 1),
    (1, 8, 17),
    (1, 400, 600),
    (2, 385, 513),
    (3, 9, 31),
    (4, 769, 33),
    (5, 16, 15),
    (6, 17, 16),
    (7, 5, 8),
    (11, 12, 13),
    (12, 384, 32),
    (13, 385, 33),
    (23, 383, 31),
    (24, 64, 64),
    (25, 1, 47),
    (48, 37, 129),
    (49, 37, 127),
    (49, 3, 1),
    (53, 391, 9),
    (60, 16, 16),
    (97, 101, 103),
    (121, 48, 511),
    (120, 384, 512),
    (131, 770, 513),
    (257, 65, 65),
    (509, 2, 3),
    (1031, 1, 1),
    (2, 3001, 2),
    (64, 1153, 640),
    (1, 64, 1031),
];

#[test]
fn awkward_sizes_agree_with_the_reference() {
    for (m, k, n) in SIZES {
        let (a, b) = (numbers(m, k, 1), numbers(k, n, 2));
        expect_close(a.view(), b.view(), &[PLAIN, FULL, FRESH, Options { bias: true, ..PLAIN }]);
        // The same, both operands transposed views.
        let (a, b) = (Laid::<f32>::new(m, k, Layout::Transposed, 1), Laid::<f32>::new(k, n, Layout::Transposed, 2));
        expect_close(a.view(), b.view(), &[PLAIN, FULL]);
    }
}

#[test]
fn every_layout_agrees_with_the_reference() {
    for (m, k, n) in [(1, 1, 1), (1, 70, 40), (3, 33, 50), (14, 20, 35), (50, 395, 140), (4, 1, 130), (130, 17, 1)] {
        for (a, b) in LAYOUTS.iter().flat_map(|&a| LAYOUTS.map(|b| (a, b))) {
            let (a, b) = (Laid::<f32>::new(m, k, a, 1), Laid::<f32>::new(k, n, b, 2));
            expect_close(a.view(), b.view(), &[PLAIN, FULL]);
        }
    }
}

#[test]
fn passes_over_depth_and_columns_add_up() {
    // Deeper than one pass of packing takes, and wider: 9000 x 600 floats are more than the buffer holds.
    let (a, b) = (numbers(50, 9000, 1), numbers(9000, 600, 2));
    expect_close(a.view(), b.view(), &[FULL, FRESH]);
}

#[test]
fn bits_depend_neither_on_threads_nor_on_the_width_of_vectors() {
    let shapes = [(1, 770, 1111), (3, 400, 1500), (20, 512, 700), (150, 800, 1100), (700, 390, 65)];
    let operands = shapes.map(|(m, k, n)| (numbers(m, k, 1), numbers(n, k, 2), numbers(k, n, 3)));
    let all = |isa| {
        isa::with(isa, || {
            let both = |(a, bt, b): &(Array2<f32>, Array2<f32>, Array2<f32>)| {
                [product(a.view(), b.view(), FULL), product(a.view(), bt.t(), FRESH)].map(|c| bits(&c))
            };
            operands.iter().map(both).collect::<Vec<_>>()
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
    // The portable path comes first and rounds otherwise.
    assert!(runs[0][1..].windows(2).all(|w| w[0] == w[1]), "AVX2 and AVX-512 differ");
}

#[test]
fn a_row_alone_has_the_bits_it_has_among_others() {
    on_every_isa(|_| {
        let (a, b, bt) = (numbers(100, 800, 1), numbers(800, 530, 2), numbers(530, 800, 3));
        for b in [b.view(), bt.t()] {
            let whole = product(a.view(), b, PLAIN);
            for (first, rows) in [(0, 1), (17, 2), (50, 4), (3, 5), (41, 8), (9, 9), (30, 11), (52, 48)] {
                let part = product(a.slice(s![first..first + rows, ..]), b, PLAIN);
                assert_eq!(part, whole.slice(s![first..first + rows, ..]), "{rows} rows");
            }
        }
    });
}

#[test]
fn nothing_times_nothing_is_zero_or_what_was_there() {
    let (a, b) = (Array2::zeros((60, 0)), Array2::zeros((0, 40)));
    assert_eq!(product(a.view(), b.view(), PLAIN), Array2::<f32>::zeros((60, 40)));
    let kept = Options { beta: Beta::Accumulate, ..PLAIN };
    assert_eq!(product(a.view(), b.view(), kept), numbers(60, 40, 7));
}

#[test]
fn a_not_a_number_reaches_its_row_and_column_alone() {
    let (mut a, mut b) = (numbers(70, 30, 1), numbers(30, 70, 2));
    a[[5, 7]] = f32::NAN;
    b[[3, 9]] = f32::INFINITY;
    let c = product(a.view(), b.view(), PLAIN);
    for ((i, j), x) in c.indexed_iter() {
        assert_eq!(x.is_finite(), i != 5 && j != 9, "{i} {j}");
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let (a, b) = (numbers(4, 6, 1), numbers(6, 8, 2));
    let bias = [0.0; 8];
    let message = |a: &Array2<f32>, b: &Array2<f32>, c: ArrayViewMut2<'_, f32>, (bias, residual)| {
        let out = Output::Sums { c: c.into(), beta: Beta::Overwrite, bias, residual };
        super::super::product(Precision::Float32, a.view().into(), b.view(), out)
            .expect_err("must be refused")
            .to_string()
    };
    let plain = (None, None);
    let mut c = Array2::zeros((4, 8));
    assert_eq!(message(&a, &a, c.view_mut(), plain), "matmul: b has shape [4, 6], expected [6, 6]");
    assert_eq!(message(&a, &b, c.slice_mut(s![.., ..7]), plain), "matmul: c has shape [4, 7], expected [4, 8]");
    let short = (Some(&bias[..7]), None);
    assert_eq!(message(&a, &b, c.view_mut(), short), "matmul: bias has shape [7], expected [8]");
    let wrong = (None, Some(b.view()));
    assert_eq!(message(&a, &b, c.view_mut(), wrong), "matmul: residual has shape [6, 8], expected [4, 8]");
    let turned = numbers(8, 4, 3);
    let wrong = (None, Some(turned.t()));
    assert!(message(&a, &b, c.view_mut(), wrong).contains("contiguous rows"));
    let mut turned = Array2::zeros((8, 4));
    assert!(message(&a, &b, turned.view_mut().reversed_axes(), plain).contains("contiguous rows"));
}

#[test]
fn rows_of_the_output_may_run_backward() {
    on_every_isa(|_| {
        for m in [3, 20, 60] {
            let (a, b) = (numbers(m, 50, 1), numbers(50, 37, 2));
            let mut c = Array2::from_elem((m, 37), f32::NAN);
            let backward = c.slice_mut(s![..;-1, ..]);
            matmul(a.view(), b.view(), backward, Beta::Overwrite).expect("the shapes fit");
            assert_eq!(c.slice(s![..;-1, ..]), product(a.view(), b.view(), PLAIN));
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_product_agrees_with_the_reference(
        m in 0usize..150,
        k in 0usize..420,
        n in 0usize..150,
        a in prop::sample::select(&LAYOUTS[..]),
        b in prop::sample::select(&LAYOUTS[..]),
        options in prop::sample::select(&[PLAIN, FULL, FRESH][..]),
        seed in any::<u32>(),
    ) {
        let (a, b) = (Laid::<f32>::new(m, k, a, seed), Laid::<f32>::new(k, n, b, !seed));
        expect_close(a.view(), b.view(), &[options]);
    }
}
