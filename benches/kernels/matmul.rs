//! Matrix multiplication beside its peers: `cargo bench -p subgpt-benches --bench matmul [-- words of a name...]`.
//!
//! Not criterion: machines are shared and their speed moves within a minute, so contestants take turns, round by round,
//! and the medians of the same rounds are compared (`ROUNDS`, `ROUND_MS`; `BEST=1` takes the best instead, for a machine
//! that others keep busy). The peak is a loop of multiply-adds in registers, measured among them. Results are checked
//! against each other before anything is timed.

use ndarray::{Array2, ArrayView2, linalg::general_mat_mul};
use std::hint::black_box;
use std::time::Instant;
use subgpt_benches::peak;
use subgpt_core::kernels::Beta;
use subgpt_core::kernels::matmul::{Epilogue, matmul};
use subgpt_core::{parallel, simd::isa};

/// A product of a model's step: which operands are transposed, and whether the result is added.
struct Case {
    name: &'static str,
    m: usize,
    k: usize,
    n: usize,
    a_transposed: bool,
    b_transposed: bool,
    beta: Beta,
}

const fn forward(name: &'static str, m: usize, k: usize, n: usize) -> Case {
    Case { name, m, k, n, a_transposed: false, b_transposed: false, beta: Beta::Overwrite }
}

/// `dX (T, C) = dY (T, D) W^T` with `W` `(C, D)`; also the logits with tied embeddings.
const fn by_transposed(name: &'static str, m: usize, k: usize, n: usize) -> Case {
    Case { b_transposed: true, ..forward(name, m, k, n) }
}

/// `dW (C, D) += X^T dY`, over `k` tokens.
const fn weight_gradient(name: &'static str, m: usize, k: usize, n: usize) -> Case {
    Case { a_transposed: true, beta: Beta::Accumulate, ..forward(name, m, k, n) }
}

const CASES: [Case; 24] = [
    forward("forward", 2048, 768, 3072),
    forward("forward", 2048, 3072, 768),
    forward("forward", 2048, 768, 2304),
    forward("forward", 1024, 384, 1536),
    forward("forward", 4096, 384, 1152),
    forward("forward", 1024, 1024, 1024),
    forward("forward", 768, 128, 384),
    forward("forward", 768, 128, 512),
    forward("forward", 768, 512, 128),
    by_transposed("dX", 2048, 3072, 768),
    by_transposed("dX", 2048, 768, 3072),
    by_transposed("dX", 1024, 1536, 384),
    by_transposed("dX", 768, 512, 128),
    weight_gradient("dW", 768, 2048, 3072),
    weight_gradient("dW", 3072, 2048, 768),
    weight_gradient("dW", 384, 1024, 1536),
    weight_gradient("dW", 128, 768, 512),
    by_transposed("head", 256, 384, 65),
    by_transposed("head", 256, 768, 50257),
    forward("decode", 1, 768, 3072),
    forward("decode", 4, 768, 3072),
    forward("decode", 16, 768, 3072),
    by_transposed("decode head", 1, 768, 50257),
    by_transposed("decode head", 1, 384, 4096),
];

fn numbers(rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |(i, j)| ((i * 7919 + j * 104_729) % 2003) as f32 / 1001.5 - 1.0)
}

/// The operand in memory, transposed if it is to be seen through `.t()`.
fn operand(rows: usize, columns: usize, transposed: bool) -> Array2<f32> {
    let x = numbers(rows, columns);
    if transposed { x.t().as_standard_layout().into_owned() } else { x }
}

fn seen(x: &Array2<f32>, transposed: bool) -> ArrayView2<'_, f32> {
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

/// matrixmultiply, through ndarray; as many threads as cores, or as `MATMUL_NUM_THREADS` says.
fn peer_matrixmultiply(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>, c: &mut Array2<f32>, beta: Beta) {
    general_mat_mul(1.0, &a, &b, if beta == Beta::Accumulate { 1.0 } else { 0.0 }, c);
}

fn seconds(f: &mut dyn FnMut(), repeats: usize) -> f64 {
    let start = Instant::now();
    (0..repeats).for_each(|_| f());
    start.elapsed().as_secs_f64() / repeats as f64
}

/// The median; or, on a machine that others keep busy, the best (`BEST=1`).
fn typical(x: &mut [f64]) -> f64 {
    x.sort_by(f64::total_cmp);
    if std::env::var_os("BEST").is_some() { x[0] } else { x[x.len() / 2] }
}

/// Times the contestants in turn; the median seconds of each.
fn race<const N: usize>(mut contestants: [&mut dyn FnMut(); N]) -> [f64; N] {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (rounds, round) = (number("ROUNDS", 15.0) as usize, number("ROUND_MS", 20.0) * 1e-3);
    let repeats = contestants.each_mut().map(|f| (round / seconds(*f, 2)).ceil().clamp(1.0, 1e4) as usize);
    let mut times = [(); N].map(|()| Vec::new());
    for _ in 0..rounds {
        for i in 0..N {
            times[i].push(seconds(contestants[i], repeats[i]));
        }
    }
    times.each_mut().map(|t| typical(t))
}

fn expect_equal(ours: &Array2<f32>, theirs: &Array2<f32>, k: usize, name: &str) {
    let bound = 1e-5 * (k as f32).sqrt() * 4.0;
    let worst = ours.iter().zip(theirs).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(worst <= bound.max(1e-4), "{name}: results differ by {worst}");
}

fn run(case: &Case, threads: usize) {
    let a = operand(case.m, case.k, case.a_transposed);
    let b = operand(case.k, case.n, case.b_transposed);
    let (a, b) = (seen(&a, case.a_transposed), seen(&b, case.b_transposed));
    let mut c = [(); 3].map(|()| Array2::<f32>::zeros((case.m, case.n)));
    let [c0, c1, c2] = &mut c;
    let mut ours = || matmul(a, b, c0.view_mut(), case.beta, Epilogue::default()).expect("the shapes fit");
    let mut gemm = || peer_gemm(a, b, c1, case.beta, threads);
    let mut matrixmultiply = || peer_matrixmultiply(a, b, c2, case.beta);
    ours();
    gemm();
    matrixmultiply();
    let mut peak = || {
        black_box(peak::multiply_adds(threads));
    };
    let t = race([&mut ours, &mut gemm, &mut matrixmultiply, &mut peak]);
    let flops = 2.0 * (case.m * case.k * case.n) as f64;
    let peak = peak::FLOPS as f64 * threads as f64 / t[3];
    let rate = flops / t[0];
    println!(
        "{:12} {:>5} x {:>5} x {:>5}  {:>7.1} GFLOP/s {:>5.1} % of {:>5.1}   x{:<6.2} x{:<6.2} {:>6.1} GB/s of b",
        case.name,
        case.m,
        case.k,
        case.n,
        rate * 1e-9,
        100.0 * rate / peak,
        peak * 1e-9,
        t[1] / t[0],
        t[2] / t[0],
        4.0 * (case.k * case.n) as f64 / t[0] * 1e-9,
    );
    if case.beta == Beta::Overwrite {
        expect_equal(&c[0], &c[1], case.k, case.name);
        expect_equal(&c[0], &c[2], case.k, case.name);
    }
}

fn main() {
    let threads = parallel::num_threads();
    let words: Vec<String> = std::env::args().skip(1).filter(|w| !w.starts_with('-')).collect();
    println!("{} with {threads} thread(s); ratios: time of gemm, of matrixmultiply, to ours", isa::current().name());
    for case in &CASES {
        let name = format!("{} {}x{}x{}", case.name, case.m, case.k, case.n);
        if words.is_empty() || words.iter().any(|w| name.contains(w.as_str())) {
            run(case, threads);
        }
    }
}
