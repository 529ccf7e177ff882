//! Row and element kernels beside a plain copy of as many bytes: `cargo bench -p subgpt-benches --bench rows [-- words of
//! a name...]`.
//!
//! Each kernel and its copy take turns, round by round, and the best times are compared (`ROUNDS`, `ROUND_MS`): machines
//! are shared. `hot` works on the same arrays all the time, `cold` on arrays that were not touched for 128 MB. Everything
//! runs within one call that holds the threads, as a training step does. Bytes are those of the arrays that must be read
//! and written, each once.

use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use std::time::Instant;
use subgpt_core::kernels::Beta;
use subgpt_core::kernels::activation::Activation;
use subgpt_core::kernels::column_sum::add_column_sums;
use subgpt_core::kernels::cross_entropy::cross_entropy_inplace;
use subgpt_core::kernels::dropout::{Dropout, dropout};
use subgpt_core::kernels::embedding::{add_positions, add_positions_backward, embedding, embedding_backward};
use subgpt_core::kernels::glu::{glu, glu_backward};
use subgpt_core::kernels::layer_norm::{layer_norm, layer_norm_backward};
use subgpt_core::kernels::qk_norm::{HeadNorm, Order, QkNorm, Saved, qk_norm_backward, qk_norm_inplace};
use subgpt_core::kernels::residual::add_assign;
use subgpt_core::kernels::rms_norm::{rms_norm, rms_norm_backward};
use subgpt_core::kernels::rope::{Pairing, Rope, Waves};
use subgpt_core::parallel;
use subgpt_core::simd::{Element, bf16, isa};

/// What `cold` lets pass between two visits of an array.
const COLD: usize = 128 << 20;
const HEAD: usize = 64;
/// Positions of a sequence: divides the rows of every shape.
const T: usize = 64;

/// Widths of the residual stream, of the MLP, and of the logits, in the models A, B and C.
const STREAM: &[[usize; 2]] = &[[768, 128], [4096, 384], [1024, 768]];
const MLP: &[[usize; 2]] = &[[768, 512], [4096, 1536], [1024, 3072]];
const LOGITS: &[[usize; 2]] = &[[256, 65], [256, 50257]];

/// A matrix that starts on a cache line, as the model's do.
struct Aligned<E> {
    data: Vec<E>,
    from: usize,
    shape: [usize; 2],
}

impl<E: Element> Aligned<E> {
    fn new(shape: [usize; 2], number: impl Fn(usize, usize) -> f32) -> Self {
        let len = shape[0] * shape[1];
        let mut data = vec![E::from_f32(0.0); len + 64];
        let from = data.as_ptr().align_offset(64).min(64);
        for (i, x) in data[from..from + len].iter_mut().enumerate() {
            *x = E::from_f32(number(i / shape[1], i % shape[1]));
        }
        Aligned { data, from, shape }
    }

    fn slice(&self) -> &[E] {
        &self.data[self.from..self.from + self.shape[0] * self.shape[1]]
    }

    fn slice_mut(&mut self) -> &mut [E] {
        &mut self.data[self.from..self.from + self.shape[0] * self.shape[1]]
    }

    fn view(&self) -> ArrayView2<'_, E> {
        ArrayView2::from_shape(self.shape, self.slice()).expect("the slice has as many")
    }

    fn view_mut(&mut self) -> ArrayViewMut2<'_, E> {
        ArrayViewMut2::from_shape(self.shape, self.slice_mut()).expect("the slice has as many")
    }
}

/// The arrays of a call.
struct Set<E> {
    x: Aligned<f32>,
    dx: Aligned<f32>,
    /// Of twice the columns: gate and up, or input and output.
    pair: Aligned<E>,
    y: Aligned<E>,
    d_pair: Aligned<E>,
}

/// What all calls of a shape share.
struct Small {
    weight: Vec<f32>,
    sums: [Vec<f32>; 2],
    mean: Vec<f32>,
    rstd: Vec<f32>,
    ids: Vec<u32>,
    targets: Vec<i64>,
    table: Aligned<f32>,
    d_table: Aligned<f32>,
}

struct Case<E> {
    name: &'static str,
    shapes: &'static [[usize; 2]],
    /// Bytes of an element: float32 arrays, and arrays of `E`.
    arrays: [usize; 2],
    call: fn(&mut Small, &mut Set<E>),
}

fn cases<E: Element>() -> Vec<Case<E>> {
    let case = |name, shapes, arrays, call| Case { name, shapes, arrays, call };
    vec![
        case("layer_norm", STREAM, [1, 1], |o, a| {
            let (w, y) = (&o.weight[..], a.y.view_mut());
            layer_norm(a.x.view(), w, Some(w), 1e-5, y, &mut o.mean, &mut o.rstd).unwrap();
        }),
        case("layer_norm_backward", STREAM, [3, 1], |o, a| {
            let ([dw, db], dx) = (&mut o.sums, a.dx.view_mut());
            let (x, dy) = (a.x.view(), a.y.view());
            layer_norm_backward(x, &o.weight, &o.mean, &o.rstd, dy, dx, Beta::Accumulate, Some(dw), Some(db)).unwrap();
        }),
        case("rms_norm", STREAM, [1, 1], |o, a| {
            rms_norm(a.x.view(), None, 0.0, 1e-5, a.y.view_mut(), &mut o.rstd).unwrap();
        }),
        case("rms_norm_backward", STREAM, [3, 1], |o, a| {
            let (x, dy, dx) = (a.x.view(), a.y.view(), a.dx.view_mut());
            rms_norm_backward(x, None, 0.0, &o.rstd, dy, dx, Beta::Accumulate, None).unwrap();
        }),
        case("add_column_sums", STREAM, [0, 1], |o, a| add_column_sums(a.y.view(), &mut o.sums[0]).unwrap()),
        case("add_column_sums", MLP, [0, 1], |o, a| add_column_sums(a.y.view(), &mut o.sums[0]).unwrap()),
        case("add_assign", STREAM, [2, 1], |_, a| {
            add_assign(a.x.slice_mut(), a.y.slice()).unwrap();
        }),
        case("dropout", STREAM, [0, 2], |_, a| {
            dropout(a.y.slice_mut(), Dropout { p: 0.1, seed: 1, substream: 2, first: 0 }).unwrap();
        }),
        case("embedding", STREAM, [1, 1], |o, a| embedding(o.table.view(), &o.ids, a.y.view_mut()).unwrap()),
        case("embedding_backward", STREAM, [2, 1], |o, a| {
            embedding_backward(&o.ids, a.y.view(), o.d_table.view_mut()).unwrap();
        }),
        case("add_positions", STREAM, [2, 0], |o, a| {
            add_positions(o.table.view(), 0, T, a.x.view_mut()).unwrap();
        }),
        case("add_positions_backward", STREAM, [1, 0], |o, a| {
            add_positions_backward(a.x.view(), T, 0, o.d_table.view_mut()).unwrap();
        }),
        case("swiglu", MLP, [0, 3], |_, a| {
            let (gate, up) = a.pair.view().split_at(Axis(1), a.y.shape[1]);
            glu(Activation::Silu, gate, up, a.y.view_mut()).unwrap();
        }),
        case("swiglu_backward", MLP, [0, 5], |_, a| {
            let (gate, up) = a.pair.view().split_at(Axis(1), a.y.shape[1]);
            let (dgate, dup) = a.d_pair.view_mut().split_at(Axis(1), a.y.shape[1]);
            glu_backward(Activation::Silu, gate, up, a.y.view(), dgate, dup).unwrap();
        }),
        case("qk_norm", STREAM, [0, 2], |o, a| {
            with_heads(|how| {
                let heads = a.y.shape[1] / HEAD * a.y.shape[0];
                qk_norm_inplace(how, a.y.view_mut(), &mut o.rstd[..heads]).unwrap();
            })
        }),
        case("qk_norm_backward", STREAM, [0, 3], |o, a| {
            with_heads(|how| {
                let heads = a.y.shape[1] / HEAD * a.y.shape[0];
                let (kept, _) = a.pair.view().split_at(Axis(1), a.y.shape[1]);
                qk_norm_backward(how, Saved::Output(kept), &o.rstd[..heads], a.y.view_mut(), None).unwrap();
            })
        }),
        case("cross_entropy_inplace", LOGITS, [2, 0], |o, a| {
            cross_entropy_inplace::<f32>(
                a.x.view_mut(),
                &o.targets,
                -100,
                0.0,
                None,
                1e-3,
                &mut o.rstd[..o.targets.len()],
            )
            .unwrap();
        }),
    ]
}

fn with_heads(f: impl FnOnce(QkNorm)) {
    let rope = Rope::shared(Pairing::Half, Waves::new(HEAD, 1e4), T).unwrap();
    let norm = HeadNorm { eps: 1e-5, gain: None, offset: 0.0, order: Order::NormRope };
    f(QkNorm { head_dim: HEAD, norm: Some(norm), rope: Some(&rope), positions: None });
}

fn number(i: usize, j: usize) -> f32 {
    ((i * 7919 + j * 104_729) % 2003) as f32 / 500.0 - 2.0
}

fn set<E: Element>(n: usize, c: usize) -> Set<E> {
    Set {
        x: Aligned::new([n, c], number),
        dx: Aligned::new([n, c], number),
        pair: Aligned::new([n, 2 * c], number),
        y: Aligned::new([n, c], number),
        d_pair: Aligned::new([n, 2 * c], number),
    }
}

fn small(n: usize, c: usize) -> Small {
    // Ids as a text has them: some often, most of them rarely.
    let vocab = if n == 1024 { 50257 } else { 65 };
    let id = |i: usize| ((number(i, 3).abs() / 2.0).powi(3) * vocab as f32) as u32;
    Small {
        weight: vec![1.25; c],
        sums: [vec![0.0; c], vec![0.0; c]],
        mean: vec![0.1; n],
        rstd: vec![0.9; n * c.div_ceil(HEAD)],
        ids: (0..n).map(|i| id(i).min(vocab as u32 - 1)).collect(),
        targets: (0..n).map(|i| (i * 31 % c) as i64).collect(),
        table: Aligned::new([vocab, c], |_, _| 0.5),
        d_table: Aligned::new([vocab, c], |_, _| 0.0),
    }
}

fn setting(name: &str, default: f64) -> f64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Seconds of a call.
fn time(f: &mut dyn FnMut(), repeats: usize) -> f64 {
    let start = Instant::now();
    (0..repeats).for_each(|_| f());
    start.elapsed().as_secs_f64() / repeats as f64
}

/// The best seconds of each, which take turns.
fn race(mut contestants: [&mut dyn FnMut(); 2]) -> [f64; 2] {
    let (rounds, round) = (setting("ROUNDS", 25.0) as usize, setting("ROUND_MS", 4.0) * 1e-3);
    let repeats = contestants.each_mut().map(|f| (round / time(*f, 2)).ceil().clamp(1.0, 1e4) as usize);
    let mut best = [f64::INFINITY; 2];
    for _ in 0..rounds {
        for i in 0..2 {
            best[i] = best[i].min(time(contestants[i], repeats[i]));
        }
    }
    best
}

fn copy(from: &[u8], to: &mut [u8]) {
    const CHUNK: usize = 1 << 16;
    parallel::for_each_chunk(to, CHUNK, |i, to| to.copy_from_slice(&from[i * CHUNK..][..to.len()]));
}

/// Nanoseconds of a call and of its copy.
fn measure<E: Element>(case: &Case<E>, [n, c]: [usize; 2], bytes: usize, cold: bool) -> [f64; 2] {
    let mut small = small(n, c);
    // `rms_norm` must leave rows of `rstd` alone that other kernels have one number of.
    let rows = if case.name.starts_with("qk") { small.rstd.len() } else { n };
    small.rstd.truncate(rows);
    let count = if cold { COLD.div_ceil(bytes) } else { 1 };
    let mut sets: Vec<Set<E>> = (0..count).map(|_| set(n, c)).collect();
    let mut copies: Vec<[Vec<u8>; 2]> = (0..count).map(|_| [vec![1; bytes / 2], vec![2; bytes / 2]]).collect();
    let (mut i, mut j) = (0, 0);
    let mut ours = || {
        i = (i + 1) % count;
        (case.call)(&mut small, &mut sets[i]);
    };
    let mut plain = || {
        j = (j + 1) % count;
        let [from, to] = &mut copies[j];
        copy(from, to);
    };
    parallel::install(|| race([&mut ours, &mut plain])).map(|seconds| seconds * 1e9)
}

fn run<E: Element>(words: &[String]) {
    let kind = if E::HALF { "bf16" } else { "f32" };
    for case in cases::<E>() {
        for &[n, c] in case.shapes {
            let name = format!("{} {kind} {n}x{c}", case.name);
            if !words.is_empty() && !words.iter().all(|w| name.contains(w.as_str())) {
                continue;
            }
            let bytes = n * c * (case.arrays[0] * 4 + case.arrays[1] * size_of::<E>());
            print!("{:24} {kind:4} {n:>5} x {c:>5}", case.name);
            for cold in [false, true] {
                let [ours, plain] = measure(&case, [n, c], bytes, cold);
                let (rate, share) = (bytes as f64 / ours, 100.0 * plain / ours);
                let what = if cold { "cold" } else { "hot" };
                print!("   {what} {:>8.1} us {rate:>6.1} GB/s {share:>4.0} %", ours * 1e-3);
            }
            println!();
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|w| !w.starts_with('-')).collect();
    println!("{} with {} thread(s); shares of the speed of a copy", isa::current().name(), parallel::num_threads());
    run::<f32>(&words);
    run::<bf16>(&words);
}
