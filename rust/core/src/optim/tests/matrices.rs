//! Muon against its formulas in f64, and what its iteration does to singular values.

use super::*;
use crate::optim::newton_schulz::{Shape as Size, orthogonalize};
use crate::simd::isa;
use subgpt_testkit::gradcheck::{assert_close, wide};
use subgpt_testkit::matrix::Matrix;

/// Square, wide and tall; below and above the sizes at which products are halved and the form changes.
const SIZES: [(usize, usize); 14] = [
    (1, 1),
    (1, 9),
    (17, 1),
    (16, 16),
    (31, 33),
    (33, 31),
    (40, 81),
    (97, 13),
    (97, 98),
    (64, 127),
    (128, 64),
    (257, 300),
    (260, 530),
    (600, 259),
];

fn orthogonal(rows: usize, cols: usize, x: &[f32]) -> Vec<f32> {
    let shape = Size { rows, cols };
    let (mut x, mut y) = (x.to_vec(), vec![f32::NAN; x.len()]);
    // What the room holds before must not matter.
    orthogonalize(isa::current(), shape, &mut x, &mut y, &mut vec![f32::NAN; shape.room()]).unwrap();
    y
}

#[test]
fn the_iteration_is_the_one_in_f64() {
    for (rows, cols) in SIZES {
        let x = Noise::new((rows * cols) as u64).normal(rows * cols, 3.0);
        let want = Matrix::new(rows, cols, wide(&x)).newton_schulz();
        for isa in isa::available() {
            let got = isa::with(isa, || orthogonal(rows, cols, &x));
            assert_close(&format!("{rows} x {cols} on {isa:?}"), &got, &want.data, 2e-4);
        }
    }
}

#[test]
fn singular_values_end_near_one() {
    for (rows, cols) in [(24, 24), (24, 96), (150, 37), (64, 64)] {
        let x = Noise::new(rows as u64).normal(rows * cols, 1e-3);
        let before = Matrix::new(rows, cols, wide(&x));
        // Values of a thousandth of the norm and less are not lifted all the way.
        let smallest = before.singular_values().into_iter().fold(f64::INFINITY, f64::min) / before.norm();
        let after = Matrix::new(rows, cols, wide(&orthogonal(rows, cols, &x)));
        for value in after.singular_values() {
            // From [0.68, 1.14] the polynomial leads back to it; a value that comes from below may be at its peak, 1.2024.
            assert!((if smallest > 2e-3 { 0.68 } else { 0.0 }..=1.2025).contains(&value), "{rows} x {cols}: {value}");
        }
        let peaks = after.singular_values().into_iter().filter(|&value| value > 1.14).count();
        assert!(peaks <= rows.min(cols) / 10, "{rows} x {cols}: {peaks}");
        // U and V stay: the result times x^T is symmetric and has no negative direction.
        let product = after.times(&before.t());
        assert!(product.with(&product.t(), |a, b| a - b).norm() < 1e-3 * product.norm());
        assert!((0..rows).all(|i| product.data[i * rows + i] > 0.0));
    }
}

#[test]
fn matrices_without_rank_are_orthogonalised_as_far_as_they_go() {
    assert_eq!(orthogonal(20, 50, &vec![0.0; 1000]), vec![0.0; 1000]);
    // Of rank one: u v^T / (|u| |v|), times the one singular value.
    for (rows, cols) in [(20, 50), (30, 30), (50, 20)] {
        let (u, v) = (Noise::new(1).normal(rows, 1.0), Noise::new(2).normal(cols, 1.0));
        let x: Vec<f32> = u.iter().flat_map(|u| v.iter().map(move |v| u * v)).collect();
        let want = Matrix::new(rows, cols, wide(&x)).newton_schulz();
        assert_close("rank one", &orthogonal(rows, cols, &x), &want.data, 1e-4);
    }
}

/// A step of Muon on a matrix `(in, out)` in f64; the new momentum and weights.
fn twin(config: &Config, lr: f64, w: &Matrix, g: &Matrix, b: &Matrix) -> (Matrix, Matrix) {
    let Config::Muon { momentum, adjust_lr, weight_decay, .. } = *config else { unreachable!() };
    let b = b.with(g, |b, g| momentum * b + (1.0 - momentum) * g);
    let u = b.with(g, |b, g| momentum * b + (1.0 - momentum) * g).newton_schulz();
    let (n_in, n_out) = (w.rows as f64, w.cols as f64);
    let scale = match adjust_lr {
        AdjustLr::Original => (n_out / n_in).max(1.0).sqrt(),
        AdjustLr::MatchRmsAdamw => 0.2 * n_out.max(n_in).sqrt(),
    };
    let w = w.with(&u, |w, u| (1.0 - lr * weight_decay) * w - lr * scale * u);
    (b, w)
}

#[test]
fn matrices_of_blocks_are_orthogonalised_and_the_rest_is_adamws() {
    let (lr, adam_rate) = (0.02, 0.5);
    for adjust_lr in [AdjustLr::Original, AdjustLr::MatchRmsAdamw] {
        let config = Config::Muon {
            momentum: 0.9,
            adjust_lr,
            adam_rate,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            decay: Decay::Matrices,
        };
        // Untied: the output projection is a tensor of its own, and none of Muon's.
        let shape = || Shape { tie_embeddings: false, ..shape() };
        let (mut model, mut plain) = (model_of(shape()), model_of(shape()));
        let mut optimizer = Optimizer::new(&model, config.clone()).unwrap();
        let mut adamw = Optimizer::new(&plain, ADAMW).unwrap();
        let layout = model.layout.clone();
        let tensors: Vec<_> = layout.tensors.iter().filter(|tensor| muon::takes(tensor)).collect();
        assert_eq!(tensors.len(), 4);
        let matrix =
            |tensor: &Tensor, x: &[f32]| Matrix::new(tensor.shape[0], tensor.shape[1], wide(&x[tensor.range.clone()]));
        let mut wants: Vec<_> = tensors.iter().map(|tensor| matrix(tensor, &model.params)).collect();
        let mut momenta: Vec<_> = wants.iter().map(|w| Matrix::new(w.rows, w.cols, vec![0.0; w.data.len()])).collect();
        for t in 1..=3 {
            set_gradients(&mut model, t);
            set_gradients(&mut plain, t);
            let grads = model.grads().unwrap().to_vec();
            optimizer.step(&mut model, lr).unwrap();
            adamw.step(&mut plain, lr * adam_rate).unwrap();
            for ((tensor, w), b) in tensors.iter().zip(&mut wants).zip(&mut momenta) {
                let g = matrix(tensor, &grads);
                // Query, key and value are matrices of their own.
                let n = if tensor.name.contains("c_attn") { 3 } else { 1 };
                let width = w.cols / n;
                for part in 0..n {
                    let of = |x: &Matrix| x.columns(part * width, width);
                    let (new_b, new_w) = twin(&config, lr, &of(w), &of(&g), &of(b));
                    for (to, from) in [(&mut *b, new_b), (&mut *w, new_w)] {
                        for (to, from) in to.data.chunks_mut(width * n).zip(from.data.chunks(width)) {
                            to[part * width..][..width].copy_from_slice(from);
                        }
                    }
                }
            }
        }
        let places: Vec<_> = model.trained_places().into_iter().filter(|(tensor, _)| muon::takes(tensor)).collect();
        for (((tensor, w), b), (_, place)) in tensors.iter().zip(&wants).zip(&momenta).zip(places) {
            assert_close(&tensor.name, &model.params[tensor.range.clone()], &w.data, 2e-5);
            // The update hides how large it is.
            assert_close(&tensor.name, &optimizer.moment("momentum", place).unwrap(), &b.data, 1e-6);
        }
        for tensor in layout.tensors.iter().filter(|tensor| !muon::takes(tensor)) {
            let range = tensor.range.clone();
            assert_eq!(model.params[range.clone()], plain.params[range], "{}", tensor.name);
        }
    }
}

#[test]
fn names_and_shapes_tell_what_muon_takes() {
    let takes = |name: &str, shape: &[usize]| {
        muon::takes(&Tensor { name: name.into(), shape: shape.to_vec(), range: 0..shape.iter().product() })
    };
    assert!(
        takes("transformer.h.0.attn.c_attn.weight", &[4, 12]) && takes("model.layers.11.mlp.up_proj.weight", &[9, 4])
    );
    assert!(!takes("transformer.wte.weight", &[9, 4]) && !takes("model.embed_tokens.weight", &[9, 4]));
    assert!(!takes("lm_head.weight", &[9, 4]) && !takes("model.layers.3.input_layernorm.weight", &[4]));
}
