//! The rules that look at each weight alone, and clipping.

use super::*;
use crate::buffer::parts_mut;
use crate::model::rows::{Labels, Rows};
use crate::simd::isa;
use proptest::prelude::*;
use subgpt_testkit::gradcheck::{assert_close, wide};

/// Runs five steps, with a twin that updates one element from `(w, g, state, t, whether it is of a matrix)`.
fn follow(config: Config, lr: f64, twin: impl Fn(&mut f64, f64, &mut [f64; 2], i32, bool)) {
    for isa in isa::available() {
        let mut model = model();
        let mut optimizer = Optimizer::new(&model, config.clone()).unwrap();
        let layout = model.layout.clone();
        let mut want = wide(&model.params);
        let mut states = vec![[0.0; 2]; want.len()];
        for t in 1..=5 {
            set_gradients(&mut model, t);
            let grads = wide(model.grads().unwrap());
            isa::with(isa, || optimizer.step(&mut model, lr)).unwrap();
            for tensor in &layout.tensors {
                for i in tensor.range.clone() {
                    twin(&mut want[i], grads[i], &mut states[i], t as i32, tensor.is_matrix());
                }
            }
        }
        assert_eq!(optimizer.steps, 5);
        for tensor in &layout.tensors {
            assert_close(&tensor.name, &model.params[tensor.range.clone()], &want[tensor.range.clone()], 1e-6);
        }
    }
}

#[test]
fn sgd_is_w_minus_alpha_d() {
    follow(SGD, 0.05, |w, g, _, _, _| *w -= 0.05 * g);
    follow(Config::Sgd { momentum: 0.0, weight_decay: 0.2 }, 0.05, |w, g, _, _, _| *w -= 0.05 * (g + 0.2 * *w));
}

#[test]
fn momentum_keeps_a_share_of_the_last_step() {
    follow(Config::Sgd { momentum: 0.8, weight_decay: 0.1 }, 0.05, |w, g, [b, _], _, _| {
        *b = 0.8 * *b + g + 0.1 * *w;
        *w -= 0.05 * *b;
    });
}

fn adamw(w: &mut f64, g: f64, [m, v]: &mut [f64; 2], t: i32, decays: bool) {
    let lr = 0.02;
    *w -= if decays { lr * 0.1 * *w } else { 0.0 };
    *m = 0.9 * *m + 0.1 * g;
    *v = 0.95 * *v + 0.05 * g * g;
    *w -= lr / (1.0 - 0.9f64.powi(t)) * *m / (v.sqrt() / (1.0 - 0.95f64.powi(t)).sqrt() + 1e-8);
}

#[test]
fn adamw_decays_matrices_alone_or_everything() {
    follow(ADAMW, 0.02, adamw);
    let all = Config::Adamw { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, decay: Decay::All };
    follow(all, 0.02, |w, g, state, t, _| adamw(w, g, state, t, true));
}

fn lion(w: &mut f64, g: f64, [m, _]: &mut [f64; 2], decays: bool) {
    *w -= if decays { 0.02 * 0.1 * *w } else { 0.0 };
    let c = 0.9 * *m + 0.1 * g;
    *w -= 0.02 * if c == 0.0 { 0.0 } else { c.signum() };
    *m = 0.99 * *m + 0.01 * g;
}

#[test]
fn lion_steps_by_the_sign() {
    follow(LION, 0.02, |w, g, state, _, decays| lion(w, g, state, decays));
    let all = Config::Lion { beta1: 0.9, beta2: 0.99, weight_decay: 0.1, decay: Decay::All };
    follow(all, 0.02, |w, g, state, _, _| lion(w, g, state, true));
}

#[test]
fn a_weight_without_gradient_rests_under_lion_and_a_nan_is_not_hidden() {
    let mut model = model();
    let mut optimizer = Optimizer::new(&model, LION).unwrap();
    let bias = model.layout.get("transformer.ln_f.bias").unwrap().range.clone();
    let grads = model.gradients_mut().unwrap().settle();
    grads.fill(0.0);
    grads[bias.start] = f32::NAN;
    let before = model.params[bias.clone()].to_vec();
    optimizer.step(&mut model, 0.1).unwrap();
    assert!(model.params[bias.start].is_nan());
    assert_eq!(model.params[bias.start + 1..bias.end], before[1..]);
}

#[test]
fn bits_do_not_depend_on_threads_nor_on_the_width_of_vectors() {
    // Tensors of more than one task, of a part of one, and of odd lengths.
    let large = Shape { vocab_size: 257, n_embd: 134, ..shape() };
    // Of one block Muon computes matrix after matrix, of three some side by side.
    let momentum = Config::Sgd { momentum: 0.9, weight_decay: 0.1 };
    for (config, n_layer) in [(SGD, 3), (ADAMW, 3), (LION, 3), (MUON, 3), (MUON, 1), (momentum, 3)] {
        let run = |isa, threads| {
            crate::parallel::set_num_threads(threads);
            let mut model = model_of(Shape { n_layer, ..large.clone() });
            let mut optimizer = Optimizer::new(&model, config.clone()).unwrap();
            isa::with(isa, || {
                for t in 1..=2 {
                    set_gradients(&mut model, t);
                    clip::clip(model.gradients_mut().unwrap(), 1.0);
                    optimizer.step(&mut model, 0.01).unwrap();
                }
            });
            bits(&model.params)
        };
        let fused: Vec<_> = isa::available().into_iter().filter(|isa| *isa != isa::Isa::Portable).collect();
        for path in [vec![isa::Isa::Portable], fused] {
            let one = path.first().map(|&isa| run(isa, 1));
            for (&isa, threads) in path.iter().flat_map(|isa| [1, 2, 3, 5, 8].map(|threads| (isa, threads))) {
                assert_eq!(Some(run(isa, threads)), one, "{config:?} on {isa:?} with {threads} threads");
            }
        }
    }
    crate::parallel::set_num_threads(2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_piece_of_every_tensor_is_updated_once(lengths in prop::collection::vec(0usize..70_000, 1..6), gap in 0usize..3) {
        let total = lengths.iter().map(|n| n + gap).sum::<usize>();
        let g: Vec<f32> = (0..total).map(|i| (i % 1013) as f32).collect();
        let (mut w, mut b) = (vec![0.0; total], vec![1.0; total]);
        let mut start = 0;
        let ranges: Vec<_> = lengths.iter().map(|n| { start += gap; start += n; start - n..start }).collect();
        let slices = parts_mut(&mut w, ranges.iter().cloned()).zip(parts_mut(&mut b, ranges.iter().cloned()));
        let pieces = slices.zip(&ranges).map(|((w, b), range)| {
            Piece { rule: sgd::Rule::new(1.0, 0.5, 0.0), w, g: &g[range.clone()], state: [b] }
        });
        pass::run(isa::current(), pieces, 2.0);
        for i in 0..total {
            let step = if ranges.iter().any(|range| range.contains(&i)) { 0.5 + 2.0 * g[i] } else { 0.0 };
            prop_assert_eq!((w[i], b[i]), (-step, if step == 0.0 { 1.0 } else { step }), "element {}", i);
        }
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    let mut model = model();
    let mut optimizer = Optimizer::new(&model, ADAMW).unwrap();
    let before = model.params.to_vec();
    for lr in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(optimizer.step(&mut model, lr).is_err());
    }
    assert!(optimizer.steps == 0 && model.params[..] == before[..]);
    for (json, field) in [
        (r#"{"name": "sgd", "momentum": 1, "weight_decay": 0}"#, "momentum = 1"),
        (r#"{"name": "sgd", "momentum": 0, "weight_decay": -0.1}"#, "weight_decay = -0.1"),
        (r#"{"name": "sgd", "momentum": 0, "weight_decay": 0, "nesterov": true}"#, "nesterov"),
        (r#"{"name": "adagrad"}"#, "adagrad"),
    ] {
        let error = Config::from_json(json).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains("; "), "{error}");
    }
    let adamw = |beta1, beta2, eps| Config::Adamw { beta1, beta2, eps, weight_decay: 0.0, decay: Decay::All };
    let lion = |beta1, beta2, weight_decay| Config::Lion { beta1, beta2, weight_decay, decay: Decay::All };
    let muon = |momentum, adam_rate, eps| Config::Muon {
        momentum,
        adjust_lr: AdjustLr::Original,
        adam_rate,
        beta1: 0.9,
        beta2: 0.9,
        eps,
        weight_decay: 0.0,
        decay: Decay::All,
    };
    for (config, field) in [
        (adamw(f64::NAN, 0.9, 1e-8), "beta1 = NaN"),
        (adamw(0.9, 1.0, 1e-8), "beta2 = 1"),
        (adamw(0.9, 0.9, f64::INFINITY), "eps = inf"),
        (lion(-0.1, 0.9, 0.0), "beta1 = -0.1"),
        (lion(0.9, 1.5, 0.0), "beta2 = 1.5"),
        (lion(0.9, 0.9, f64::NAN), "weight_decay = NaN"),
        (muon(1.0, 1.0, 0.0), "momentum = 1"),
        (muon(0.9, -1.0, 0.0), "adam_rate = -1"),
        (muon(0.9, 1.0, -1.0), "eps = -1"),
    ] {
        let error = Optimizer::new(&model, config).err().unwrap();
        assert!(matches!(error, Error::Config { .. }) && error.to_string().contains(field), "{error}");
    }
    for config in [SGD, ADAMW, LION, MUON] {
        assert_eq!(Config::from_json(&config.to_json()).unwrap(), config);
    }
    let fresh = Gpt::new(model.config.clone(), 1).unwrap();
    assert!(Optimizer::new(&fresh, ADAMW).unwrap().step(&mut Gpt::new(fresh.config, 2).unwrap(), 0.1).is_err());
}

/// A model whose gradients are `values`, and zeros behind them.
fn with_gradients(values: &[f32]) -> Gpt {
    let mut model = model_of(Shape { vocab_size: values.len().div_ceil(6).max(11), ..shape() });
    let grads = model.gradients_mut().unwrap().settle();
    grads.fill(0.0);
    grads[..values.len()].copy_from_slice(values);
    model
}

fn clip(model: &mut Gpt, max_norm: f64) -> f64 {
    clip::clip(model.gradients_mut().unwrap(), max_norm)
}

#[test]
fn clipping_scales_to_the_norm_and_no_further() {
    let x = Noise::new(4).normal(140_001, 0.1);
    let want = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let mut model = with_gradients(&x);
    assert!((clip(&mut model, want / 4.0) - want).abs() < 1e-6 * want);
    assert!((clip::norm(model.grads().unwrap()) - want / 4.0).abs() < 1e-5 * want);
    for max in [want * 1.01, f64::INFINITY] {
        let mut same = with_gradients(&x);
        clip(&mut same, max);
        assert_eq!(same.grads().unwrap()[..x.len()], x);
    }
    let bits = [1, 2, 3, 5, 8].map(|n| {
        crate::parallel::set_num_threads(n);
        clip::norm(&x).to_bits()
    });
    crate::parallel::set_num_threads(2);
    assert!(bits.windows(2).all(|two| two[0] == two[1]));
    assert!(clip::norm(&[]) == 0.0 && clip::norm(&[1.0, f32::NAN]).is_nan());
    model.zero_grad();
    assert!(clip(&mut model, 1.0) == 0.0 && model.grads().unwrap().iter().all(|&g| g == 0.0));
}

#[test]
fn a_norm_that_is_next_to_nothing_is_not_divided_by() {
    let mut model = with_gradients(&[3e-6, 0.0]);
    clip(&mut model, 1e-6);
    let want = 3e-6 * (1e-6 / (3e-6 + 1e-6));
    assert!((f64::from(model.grads().unwrap()[0]) / want - 1.0).abs() < 1e-5, "the norm and 1e-6, as PyTorch has it");
}

#[test]
fn squares_are_those_of_a_place() {
    let mut model = with_gradients(&[1.0, 2.0, -3.0, 4.0]);
    let grads = model.gradients_mut().unwrap();
    assert_eq!([0..4, 1..3, 2..2].map(|place| clip::squares(grads, place)), [30.0, 13.0, 0.0]);
    clip::clip(grads, 30f64.sqrt() / 2.0);
    assert!((clip::squares(grads, 1..3) - 13.0 / 4.0).abs() < 1e-4, "also while the scaling waits");
}

#[test]
fn clipping_that_waits_is_clipping_at_once() {
    for config in [SGD, ADAMW, LION, MUON, Config::Sgd { momentum: 0.9, weight_decay: 0.1 }] {
        let (mut waits, mut looked_at) = (model(), model());
        for model in [&mut waits, &mut looked_at] {
            set_gradients(model, 1);
            clip(model, 0.5);
        }
        let grads = looked_at.grads().unwrap().to_vec();
        for model in [&mut waits, &mut looked_at] {
            Optimizer::new(model, config.clone()).unwrap().step(model, 0.1).unwrap();
        }
        assert_eq!(bits(&waits.params), bits(&looked_at.params), "{config:?}");
        assert_eq!(bits(waits.grads().unwrap()), bits(&grads)); // a step leaves them
    }
}

#[test]
fn clipped_gradients_can_be_clipped_again_and_added_to() {
    let mut model = model();
    set_gradients(&mut model, 1);
    clip(&mut model, 0.5);
    let again = clip(&mut model, 0.25);
    assert!((again - 0.5).abs() < 1e-5, "{again}");
    let clipped = model.grads().unwrap().to_vec();
    clip(&mut model, 0.125);
    model.backward(Rows::new(&[1, 2], 1, 2), Labels::new(&[2, 3], -100), 1.0).unwrap();
    let sum = model.grads().unwrap().to_vec();
    model.zero_grad();
    model.backward(Rows::new(&[1, 2], 1, 2), Labels::new(&[2, 3], -100), 1.0).unwrap();
    let expected: Vec<f64> = clipped.iter().zip(model.grads().unwrap()).map(|(c, g)| f64::from(c / 2.0 + g)).collect();
    assert_close("sum", &sum, &expected, 1e-6);
}

#[test]
fn a_step_after_zeroing_is_a_step_with_zeros() {
    let (mut zeroed, mut zeros) = (model(), model());
    zeroed.zero_grad();
    zeros.gradients_mut().unwrap().settle().fill(0.0);
    for model in [&mut zeroed, &mut zeros] {
        Optimizer::new(model, ADAMW).unwrap().step(model, 0.1).unwrap();
    }
    assert_eq!(bits(&zeroed.params), bits(&zeros.params));
}
