//! Attention forward and backward in both precisions, with the share of the measured peak.
//!
//! Throughput counts causal work alone: 2 products forward, 5 backward. Before criterion's own report a table is printed
//! with both precisions measured in turns, since a machine that is shared drifts.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{Array3, Array4, Array5, ArrayView4, Axis, s};
use std::hint::black_box;
use std::time::Instant;
use subgpt_core::kernels::attention::{Options, attention, attention_backward};
use subgpt_core::parallel;
use subgpt_core::peaks::{Floats, Halves, products};
use subgpt_core::simd::{Element, bf16};

/// Batch, heads, tokens, head dim: the settings A to D of the training benches, and longer contexts.
const SHAPES: [(&str, [usize; 4]); 6] = [
    ("A", [12, 4, 64, 32]),
    ("B", [16, 6, 256, 64]),
    ("C", [4, 12, 256, 64]),
    ("D", [1, 12, 1024, 64]),
    ("T2048", [1, 4, 2048, 64]),
    ("T4096", [1, 4, 4096, 64]),
];

/// Calls of a measurement that is printed in the table.
const ROUNDS: usize = 15;

/// The best of some measurements of operations a second that the threads can do, in float32 and in bfloat16.
fn peaks() -> [f64; 2] {
    let best = |work: fn() -> f64| {
        let rate = |_| {
            let start = Instant::now();
            work() / start.elapsed().as_secs_f64()
        };
        (0..5).map(rate).fold(0.0, f64::max)
    };
    [best(products::<Floats>), best(products::<Halves>)]
}

/// Everything that a layer keeps: fused `(B, T, 3, H, D)` queries, keys and values and their gradient, and the output.
struct Layer<E> {
    fused: Array5<E>,
    gradient: Array5<E>,
    out: Array4<E>,
    lse: Array3<f32>,
}

/// A part of a fused buffer as `(B, H, T, D)`, as the model has it.
fn part<E>(fused: &Array5<E>, i: usize) -> ArrayView4<'_, E> {
    fused.index_axis(Axis(2), i).permuted_axes([0, 2, 1, 3])
}

impl<E: Element> Layer<E> {
    fn new([b, h, t, d]: [usize; 4]) -> Self {
        let fused = Array5::from_shape_fn((b, t, 3, h, d), |(b, t, i, h, d)| {
            E::from_f32(((b * 31 + t * 17 + i * 7 + h * 5 + d * 3) % 97) as f32 / 48.0 - 1.0)
        });
        let out = Array4::from_elem((b, t, h, d), E::from_f32(0.0));
        Layer { gradient: fused.clone(), fused, out, lse: Array3::zeros((b, h, t)) }
    }

    fn forward(&mut self) {
        let [q, k, v] = [0, 1, 2].map(|i| part(&self.fused, i));
        let out = self.out.view_mut().permuted_axes([0, 2, 1, 3]);
        attention(q, k, v, black_box(&Options::default()), out, self.lse.view_mut()).unwrap();
    }

    fn backward(&mut self) {
        let [q, k, v] = [0, 1, 2].map(|i| part(&self.fused, i));
        let out = self.out.view().permuted_axes([0, 2, 1, 3]);
        let (dq, dk, dv) =
            self.gradient.multi_slice_mut((s![.., .., 0, .., ..], s![.., .., 1, .., ..], s![.., .., 2, .., ..]));
        let [dq, dk, dv] = [dq, dk, dv].map(|x| x.permuted_axes([0, 2, 1, 3]));
        let options = Options::default();
        attention_backward(q, k, v, out, self.lse.view(), out, black_box(&options), dq, dk, dv).unwrap();
    }
}

/// Operations of one product over the causal triangle.
fn causal([b, h, t, d]: [usize; 4]) -> usize {
    b * h * t * (t + 1) / 2 * d * 2
}

/// Seconds of the fastest of some calls of each piece of work, taken in turns.
fn in_turns(mut work: [&mut dyn FnMut(); 4]) -> [f64; 4] {
    let mut best = [f64::INFINITY; 4];
    for _ in 0..ROUNDS {
        for (work, best) in work.iter_mut().zip(&mut best) {
            let start = Instant::now();
            work();
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    best
}

/// Float32 and bfloat16 beside each other.
fn table(_: &mut Criterion) {
    let peaks = peaks();
    let threads = parallel::num_threads();
    println!("{threads} threads; peak float32 {:.0}, bfloat16 {:.0} GFLOP/s", peaks[0] / 1e9, peaks[1] / 1e9);
    println!("shape  pass      float32 us  of peak  bfloat16 us  of peak  ratio");
    for (name, shape) in SHAPES {
        let (mut single, mut half) = (Layer::<f32>::new(shape), Layer::<bf16>::new(shape));
        // Forward and backward of a layer both borrow it, so each has its own; the outputs are what the first call writes.
        let (mut single_back, mut half_back) = (Layer::<f32>::new(shape), Layer::<bf16>::new(shape));
        single_back.forward();
        half_back.forward();
        let times = parallel::install(|| {
            in_turns([&mut || single.forward(), &mut || half.forward(), &mut || single_back.backward(), &mut || {
                half_back.backward()
            }])
        });
        let both = [times[0] + times[2], times[1] + times[3]];
        for (pass, products, [single, half]) in
            [("forward", 2, [times[0], times[1]]), ("backward", 5, [times[2], times[3]]), ("both", 7, both)]
        {
            let share = |seconds: f64, peak: f64| 100.0 * (products * causal(shape)) as f64 / seconds / peak;
            println!(
                "{name:6} {pass:8} {:11.0} {:7.1}% {:12.0} {:7.1}% {:6.2}",
                single * 1e6,
                share(single, peaks[0]),
                half * 1e6,
                share(half, peaks[1]),
                single / half
            );
        }
    }
}

fn training_of<E: Element>(c: &mut Criterion, precision: &str) {
    for (name, shape) in SHAPES {
        let mut layer = Layer::<E>::new(shape);
        let mut group = c.benchmark_group("attention");
        group.throughput(Throughput::Elements((2 * causal(shape)) as u64));
        group.bench_function(format!("forward/{precision}/{name}"), |bench| bench.iter(|| layer.forward()));
        group.throughput(Throughput::Elements((5 * causal(shape)) as u64));
        group.bench_function(format!("backward/{precision}/{name}"), |bench| bench.iter(|| layer.backward()));
    }
}

fn training(c: &mut Criterion) {
    training_of::<f32>(c, "float32");
    training_of::<bf16>(c, "bfloat16");
}

/// One query against a cache: bytes of keys and values a second.
fn decoding_of<E: Element>(c: &mut Criterion, precision: &str) {
    let options = Options::default();
    for [b, h, t, d] in [[1, 12, 160, 64], [1, 6, 256, 64], [1, 12, 4096, 64]] {
        let q = Array4::from_elem((b, h, 1, d), E::from_f32(0.25));
        let number = |(_, h, t, d)| E::from_f32(((h + t * 3 + d) % 13) as f32 / 6.0 - 1.0);
        let k = Array4::from_shape_fn((b, h, t, d), number);
        let (mut out, mut lse) = (q.clone(), Array3::zeros((b, h, 1)));
        let mut group = c.benchmark_group("attention");
        group.throughput(Throughput::Bytes((2 * k.len() * size_of::<E>()) as u64));
        group.bench_function(format!("decode/{precision}/B{b}_H{h}_T{t}_D{d}"), |bench| {
            bench.iter(|| {
                attention(q.view(), k.view(), k.view(), black_box(&options), out.view_mut(), lse.view_mut()).unwrap();
            });
        });
    }
}

fn decoding(c: &mut Criterion) {
    decoding_of::<f32>(c, "float32");
    decoding_of::<bf16>(c, "bfloat16");
}

criterion_group!(benches, table, training, decoding);
criterion_main!(benches);
