//! Matrix multiplication in both precisions: `cargo bench -p subgpt-benches --bench matmul [-- words of a name...]`.
//!
//! Not criterion: machines are shared and their speed moves within a minute, so contestants take turns, round by round,
//! and the medians of the same rounds are compared (`ROUNDS`, `ROUND_MS`; `BEST=1` takes the best instead, for a machine
//! that others keep busy). The peaks are loops of multiply-adds in registers, measured among them. Contestants: float32
//! with `b` as it lies in memory and packed ahead, the `gemm` crate, and bfloat16 both ways. Results are checked against
//! each other before anything is timed.

use ndarray::{Array2, ArrayView2};
use std::hint::black_box;
use std::time::Instant;
use subgpt_core::kernels::Beta;
use subgpt_core::kernels::matmul::{Matrix, MatrixMut, Output, Packed, Precision, Right, product};
use subgpt_core::parallel;
use subgpt_core::peaks::{Floats, Halves, products};
use subgpt_core::simd::{Element, bf16, isa};

/// A product of a model's step: which operands are transposed, and whether the result is added.
struct Case {
    name: String,
    m: usize,
    k: usize,
    n: usize,
    a_transposed: bool,
    b_transposed: bool,
    beta: Beta,
}

impl Case {
    fn new(name: String, [m, k, n]: [usize; 3]) -> Case {
        Case { name, m, k, n, a_transposed: false, b_transposed: false, beta: Beta::Overwrite }
    }
}

/// The products of a layer `y = x W` of `rows` rows: forward, `dX = dY W^T`, `dW += X^T dY`.
fn layer(model: &str, rows: usize, n_in: usize, n_out: usize) -> [Case; 3] {
    [
        Case::new(format!("{model} forward"), [rows, n_in, n_out]),
        Case { b_transposed: true, ..Case::new(format!("{model} dX"), [rows, n_out, n_in]) },
        Case { a_transposed: true, beta: Beta::Accumulate, ..Case::new(format!("{model} dW"), [n_in, rows, n_out]) },
    ]
}

/// The products of the output projection `y = x W^T` of `rows` rows.
fn head(model: &str, rows: usize, n_in: usize, n_out: usize) -> [Case; 3] {
    [
        Case { b_transposed: true, ..Case::new(format!("{model} head"), [rows, n_in, n_out]) },
        Case::new(format!("{model} head dX"), [rows, n_out, n_in]),
        Case {
            a_transposed: true,
            beta: Beta::Accumulate,
            ..Case::new(format!("{model} head dW"), [n_out, rows, n_in])
        },
    ]
}

/// Models of four sizes, the products of the decode step, and one large layer.
fn cases() -> Vec<Case> {
    let mut cases = Vec::from(layer("large", 2048, 768, 3072));
    for (model, rows, n) in [("A", 768, 128), ("B", 4096, 384), ("C", 1024, 768)] {
        for (n_in, n_out) in [(n, 3 * n), (n, n), (n, 4 * n), (4 * n, n)] {
            cases.extend(layer(model, rows, n_in, n_out));
        }
    }
    for (model, n_in, n_out) in [("A", 128, 65), ("B", 384, 65), ("C", 768, 50257)] {
        cases.extend(head(model, 256, n_in, n_out));
    }
    for rows in [1, 4, 16] {
        cases.push(Case::new("decode".into(), [rows, 768, 3072]));
    }
    for (n_in, n_out) in [(768, 50257), (384, 4096)] {
        cases.push(Case { b_transposed: true, ..Case::new("decode head".into(), [1, n_in, n_out]) });
    }
    cases
}

fn numbers(rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |(i, j)| ((i * 7919 + j * 104_729) % 2003) as f32 / 1001.5 - 1.0)
}

/// The operand in memory, transposed if it is to be seen through `.t()`.
fn operand(rows: usize, columns: usize, transposed: bool) -> Array2<f32> {
    let x = numbers(rows, columns);
    if transposed { x.t().as_standard_layout().into_owned() } else { x }
}

fn seen<E>(x: &Array2<E>, transposed: bool) -> ArrayView2<'_, E> {
    if transposed { x.t() } else { x.view() }
}

/// The `gemm` crate with as many threads as ours.
fn peer_gemm(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>, c: &mut Array2<f32>, beta: Beta, threads: usize) {
    let how = if threads > 1 { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
    let (m, k, n) = (a.nrows(), a.ncols(), b.ncols());
    let add = beta == Beta::Accumulate;
    // SAFETY: pointers, shapes and strides are those of live views, and `c` is borrowed exclusively.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.as_ptr(),
            a.strides()[1],
            a.strides()[0],
            b.as_ptr(),
            b.strides()[1],
            b.strides()[0],
            if add { 1.0 } else { 0.0 },
            1.0,
            false,
            false,
            false,
            how,
        );
    }
}

fn ours(precision: Precision, a: Matrix<'_>, b: Right<'_>, c: MatrixMut<'_>, beta: Beta) {
    product(precision, a, b, Output::Sums { c, beta, bias: None, residual: None }).expect("the shapes fit");
}

/// Whose threads a contestant runs on.
#[derive(Clone, Copy)]
enum Threads {
    Held,
    Own,
}

fn seconds(f: &mut (dyn FnMut() + Send), repeats: usize) -> f64 {
    let start = Instant::now();
    (0..repeats).for_each(|_| f());
    start.elapsed().as_secs_f64() / repeats as f64
}

/// The median; or, on a machine that others keep busy, the best (`BEST=1`).
fn typical(x: &mut [f64]) -> f64 {
    x.sort_by(f64::total_cmp);
    if std::env::var_os("BEST").is_some() { x[0] } else { x[x.len() / 2] }
}

/// Times the contestants in turn; the typical seconds of each. Ours run as a call does, with the threads held together;
/// so do the peaks.
fn race<const N: usize>(mut contestants: [(Threads, &mut (dyn FnMut() + Send)); N]) -> [f64; N] {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (rounds, round) = (number("ROUNDS", 15.0) as usize, number("ROUND_MS", 20.0) * 1e-3);
    let mut seconds = |i: usize, repeats| {
        let (threads, f) = &mut contestants[i];
        match threads {
            Threads::Held => parallel::install(|| seconds(*f, repeats)),
            Threads::Own => seconds(*f, repeats),
        }
    };
    let repeats: [usize; N] = std::array::from_fn(|i| (round / seconds(i, 2)).ceil().clamp(1.0, 1e4) as usize);
    let mut times = [(); N].map(|()| Vec::new());
    for _ in 0..rounds {
        for i in 0..N {
            times[i].push(seconds(i, repeats[i]));
        }
    }
    times.each_mut().map(|t| typical(t))
}

/// Results must agree within the rounding of what was multiplied: `unit` of a number.
fn expect_equal(ours: &Array2<f32>, theirs: &Array2<f32>, k: usize, unit: f32, name: &str) {
    let bound = 4.0 * unit * (k as f32).sqrt() + 1e-4;
    let worst = ours.iter().zip(theirs).map(|(x, y)| (x - y).abs() / (1.0 + y.abs())).fold(0.0, f32::max);
    assert!(worst <= bound, "{name}: results differ by {worst}");
}

fn run(case: &Case, threads: usize) {
    let (m, k, n, beta) = (case.m, case.k, case.n, case.beta);
    let a = operand(m, k, case.a_transposed);
    let b = operand(k, n, case.b_transposed);
    let half = |x: &Array2<f32>| x.mapv(bf16::from_f32);
    let (a_half, b_half) = (half(&a), half(&b));
    let (a, b) = (seen(&a, case.a_transposed), seen(&b, case.b_transposed));
    let a_half = Matrix::from(seen(&a_half, case.a_transposed));
    // Weights are float32 in bfloat16 products too; the right operand of a weight's gradient is an activation's.
    let weights = beta == Beta::Overwrite;
    let b_mixed: Matrix<'_> = if weights { b.into() } else { seen(&b_half, case.b_transposed).into() };
    let packed = |precision| {
        let mut packed = Packed::new(precision, k, n).expect("there is memory");
        packed.pack(b.into()).expect("it fits");
        packed
    };
    let [packed_float, packed_half] = [Precision::Float32, Precision::Bfloat16].map(packed);
    let [mut c0, mut c1, mut c2] = [(); 3].map(|()| Array2::<f32>::zeros((m, n)));
    let [mut d0, mut d1] = [(); 2].map(|()| Array2::from_elem((m, n), bf16::ZERO));
    let (mut e0, mut e1) = (c0.clone(), c0.clone());
    let float = |c: &mut Array2<f32>| ours(Precision::Float32, a.into(), b.into(), c.view_mut().into(), beta);
    let float_packed =
        |c: &mut Array2<f32>| ours(Precision::Float32, a.into(), (&packed_float).into(), c.view_mut().into(), beta);
    let gemm = |c: &mut Array2<f32>| peer_gemm(a, b, c, beta, threads);
    // Gradients of weights are float32, activations bfloat16.
    let bfloat = |d: &mut Array2<bf16>, e: &mut Array2<f32>| {
        let c = if weights { MatrixMut::from(d.view_mut()) } else { e.view_mut().into() };
        ours(Precision::Bfloat16, a_half, b_mixed.into(), c, beta);
    };
    let bfloat_packed = |d: &mut Array2<bf16>, e: &mut Array2<f32>| {
        let c = if weights { MatrixMut::from(d.view_mut()) } else { e.view_mut().into() };
        ours(Precision::Bfloat16, a_half, (&packed_half).into(), c, beta);
    };
    // Before anything is timed, one call of each. A gradient of weights is added to zeros then, and is the product, too.
    float(&mut c0);
    float_packed(&mut c1);
    gemm(&mut c2);
    bfloat(&mut d0, &mut e0);
    bfloat_packed(&mut d1, &mut e1);
    let floats = |d: &Array2<bf16>, e: &Array2<f32>| if weights { d.mapv(Element::to_f32) } else { e.clone() };
    expect_equal(&c0, &c2, k, 1e-5, &case.name);
    expect_equal(&c1, &c2, k, 1e-5, &case.name);
    expect_equal(&floats(&d0, &e0), &c2, k, 4e-3, &case.name);
    expect_equal(&floats(&d1, &e1), &c2, k, 4e-3, &case.name);
    let operations = [products::<Floats>(), products::<Halves>()];
    let mut peak = || {
        black_box(products::<Floats>());
    };
    let mut half_peak = || {
        black_box(products::<Halves>());
    };
    let t = race([
        (Threads::Held, &mut || float(&mut c0)),
        (Threads::Held, &mut || float_packed(&mut c1)),
        (Threads::Own, &mut || gemm(&mut c2)),
        (Threads::Held, &mut || bfloat(&mut d0, &mut e0)),
        (Threads::Held, &mut || bfloat_packed(&mut d1, &mut e1)),
        (Threads::Held, &mut peak),
        (Threads::Held, &mut half_peak),
    ]);
    let flops = 2.0 * (m * k * n) as f64;
    let rate = t.map(|t| flops / t * 1e-9);
    let peak = [(operations[0], t[5]), (operations[1], t[6])].map(|(n, t)| n / t * 1e-9);
    println!(
        "{:12} {m:>5} x {k:>5} x {n:>5}  float32 {:>6.1} {:>5.2}%  packed {:>6.1} {:>5.2}%  gemm {:>6.1} x{:<6.3} | \
         bfloat16 {:>6.1} {:>5.2}%  packed {:>6.1} {:>5.2}% | peaks {:>5.1} {:>5.1}",
        case.name,
        rate[0],
        100.0 * rate[0] / peak[0],
        rate[1],
        100.0 * rate[1] / peak[0],
        rate[2],
        rate[0] / rate[2],
        rate[3],
        100.0 * rate[3] / peak[1],
        rate[4],
        100.0 * rate[4] / peak[1],
        peak[0],
        peak[1],
    );
}

fn main() {
    let threads = parallel::num_threads();
    let words: Vec<String> = std::env::args().skip(1).filter(|w| !w.starts_with('-')).collect();
    println!("{} with {threads} thread(s); GFLOP/s, share of the peak, speed over gemm", isa::current().name());
    for case in &cases() {
        let name = format!("{} {}x{}x{}", case.name, case.m, case.k, case.n);
        if words.is_empty() || words.iter().any(|w| name.contains(w.as_str())) {
            run(case, threads);
        }
    }
}
