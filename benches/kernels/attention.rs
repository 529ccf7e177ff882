//! Attention forward and backward; throughput counts causal work alone (2 products forward, 5 backward).

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{Array3, Array4, ArrayView4, Axis, s};
use std::hint::black_box;
use subgpt_core::kernels::attention::{Options, attention, attention_backward};

/// Batch, heads, tokens, head dim.
const SHAPES: [[usize; 4]; 3] = [[16, 6, 256, 64], [12, 4, 64, 32], [1, 12, 1024, 64]];

/// Views of a fused `(B, T, 3, H, D)` buffer as `(B, H, T, D)`, as the model has them.
fn part(fused: &ndarray::Array5<f32>, i: usize) -> ArrayView4<'_, f32> {
    fused.index_axis(Axis(2), i).permuted_axes([0, 2, 1, 3])
}

fn training(c: &mut Criterion) {
    let options = Options::default();
    for [b, h, t, d] in SHAPES {
        let fused = ndarray::Array5::from_shape_fn((b, t, 3, h, d), |(b, t, i, h, d)| {
            ((b * 31 + t * 17 + i * 7 + h * 5 + d * 3) % 97) as f32 / 48.0 - 1.0
        });
        let mut gradient = fused.clone();
        let (mut out, mut lse) = (Array4::zeros((b, t, h, d)), Array3::zeros((b, h, t)));
        let causal = (b * h * t * (t + 1) / 2 * d * 2) as u64;
        let mut group = c.benchmark_group("attention");
        group.throughput(Throughput::Elements(2 * causal));
        group.bench_function(format!("forward/B{b}_H{h}_T{t}_D{d}"), |bench| {
            bench.iter(|| {
                let [q, k, v] = [0, 1, 2].map(|i| part(&fused, i));
                let out = out.view_mut().permuted_axes([0, 2, 1, 3]);
                attention(q, k, v, black_box(&options), out, lse.view_mut()).unwrap();
            });
        });
        group.throughput(Throughput::Elements(5 * causal));
        group.bench_function(format!("backward/B{b}_H{h}_T{t}_D{d}"), |bench| {
            bench.iter(|| {
                let [q, k, v] = [0, 1, 2].map(|i| part(&fused, i));
                let out = out.view().permuted_axes([0, 2, 1, 3]);
                let (dq, dk, dv) =
                    gradient.multi_slice_mut((s![.., .., 0, .., ..], s![.., .., 1, .., ..], s![.., .., 2, .., ..]));
                let [dq, dk, dv] = [dq, dk, dv].map(|x| x.permuted_axes([0, 2, 1, 3]));
                attention_backward(q, k, v, out, lse.view(), out, black_box(&options), dq, dk, dv).unwrap();
            });
        });
    }
}

/// One query against a long cache: bytes of keys and values a second.
fn decoding(c: &mut Criterion) {
    let options = Options::default();
    for [b, h, t, d] in [[1, 6, 256, 64], [1, 12, 4096, 64]] {
        let q = Array4::from_elem((b, h, 1, d), 0.25);
        let k = Array4::from_shape_fn((b, h, t, d), |(_, h, t, d)| ((h + t * 3 + d) % 13) as f32 / 6.0 - 1.0);
        let (mut out, mut lse) = (q.clone(), Array3::zeros((b, h, 1)));
        let mut group = c.benchmark_group("attention");
        group.throughput(Throughput::Bytes((2 * k.len() * 4) as u64));
        group.bench_function(format!("decode/B{b}_H{h}_T{t}_D{d}"), |bench| {
            bench.iter(|| {
                attention(q.view(), k.view(), k.view(), black_box(&options), out.view_mut(), lse.view_mut()).unwrap();
            });
        });
    }
}

criterion_group!(benches, training, decoding);
criterion_main!(benches);
