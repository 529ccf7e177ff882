//! Each formula against an f64 twin over some steps, and state in files.

use super::*;
use crate::model::config::Config as Shape;
use subgpt_testkit::gradcheck::{assert_close, wide};
use subgpt_testkit::noise::Noise;

const ADAMW: Config = Config::Adamw { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, decay: Decay::Matrices };

fn model() -> Gpt {
    let shape = Shape::from_json(
        r#"{"vocab_size": 11, "block_size": 7, "n_layer": 1, "n_head": 2, "n_embd": 6, "n_inner": null, "bias": true,
            "dropout": 0.0, "activation": "gelu_new", "norm_eps": 1e-5, "tie_embeddings": true}"#,
    )
    .unwrap();
    let mut model = Gpt::new(shape, 1).unwrap();
    // Allocates the gradients.
    model.backward(&[1, 2], &[2, 3], 1, 2, -100, 1.0).unwrap();
    model
}

/// Gives the model the gradients of step `t`.
fn set_gradients(model: &mut Gpt, t: u64) {
    let (_, grads, layout) = model.update_parts();
    let grads = grads.unwrap();
    for tensor in &layout.tensors {
        let values = Noise::new(t * 1000 + tensor.range.start as u64).normal(tensor.range.len(), 0.3);
        grads[tensor.range.clone()].copy_from_slice(&values);
    }
}

/// Runs five steps, with a twin that updates one element from `(w, g, state, t, whether it is of a matrix)`.
fn follow(config: Config, lr: f64, twin: impl Fn(&mut f64, f64, &mut [f64; 2], i32, bool)) {
    let mut model = model();
    let mut optimizer = Optimizer::new(&model, config).unwrap();
    let layout = model.layout.clone();
    let mut want = wide(&model.params);
    let mut states = vec![[0.0; 2]; want.len()];
    for t in 1..=5 {
        set_gradients(&mut model, t);
        let grads = wide(model.grads().unwrap());
        optimizer.step(&mut model, lr).unwrap();
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

#[test]
fn sgd_is_w_minus_alpha_d() {
    follow(Config::Sgd { momentum: 0.0, weight_decay: 0.0 }, 0.05, |w, g, _, _, _| *w -= 0.05 * g);
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

#[test]
fn a_loaded_optimizer_goes_on_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("optimizer.safetensors");
    for config in [ADAMW, Config::Sgd { momentum: 0.9, weight_decay: 0.0 }] {
        let mut model = model();
        let mut optimizer = Optimizer::new(&model, config.clone()).unwrap();
        let step = |optimizer: &mut Optimizer, model: &mut Gpt, t| {
            set_gradients(model, t);
            optimizer.step(model, 0.01).unwrap();
        };
        (1..4).for_each(|t| step(&mut optimizer, &mut model, t));
        optimizer.save(&path, &model).unwrap();
        let middle = model.params.to_vec();
        step(&mut optimizer, &mut model, 4);
        let end = model.params.to_vec();
        model.params.copy_from_slice(&middle);
        let mut resumed = Optimizer::new(&model, config).unwrap();
        resumed.load(&path, &model).unwrap();
        step(&mut resumed, &mut model, 4);
        assert!(resumed.steps == 4 && model.params[..] == end[..]);
    }
}

#[test]
fn state_of_another_optimizer_or_a_damaged_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("optimizer.safetensors");
    let model = model();
    let mut adam = Optimizer::new(&model, ADAMW).unwrap();
    adam.steps = u64::MAX - 3;
    adam.save(&path, &model).unwrap();
    for momentum in [0.0, 0.9] {
        let mut other = Optimizer::new(&model, Config::Sgd { momentum, weight_decay: 0.0 }).unwrap();
        assert!(matches!(other.load(&path, &model), Err(Error::Checkpoint { .. })));
    }
    adam.steps = 1;
    adam.load(&path, &model).unwrap();
    assert_eq!(adam.steps, u64::MAX - 3);
    for digits in [vec![f32::NAN; 4], vec![1.0; 3], vec![-1.0; 4], vec![65536.0; 4], vec![0.5; 4]] {
        let shape = vec![digits.len()];
        let steps = Output { name: "steps".into(), shape, data: Cow::Owned(digits) };
        write(&path, &[steps], HashMap::new()).unwrap();
        let mut plain = Optimizer::new(&model, Config::Sgd { momentum: 0.0, weight_decay: 0.0 }).unwrap();
        assert!(plain.load(&path, &model).is_err());
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
    for config in [
        Config::Sgd { momentum: 1.0, weight_decay: 0.0 },
        Config::Sgd { momentum: 0.0, weight_decay: -0.1 },
        Config::Adamw { beta1: f64::NAN, beta2: 0.9, eps: 1e-8, weight_decay: 0.0, decay: Decay::All },
        Config::Adamw { beta1: 0.9, beta2: 1.0, eps: 1e-8, weight_decay: 0.0, decay: Decay::All },
        Config::Adamw { beta1: 0.9, beta2: 0.9, eps: f64::INFINITY, weight_decay: 0.0, decay: Decay::All },
    ] {
        assert!(matches!(Optimizer::new(&model, config), Err(Error::Config { .. })));
    }
    assert_eq!(Config::from_json(&ADAMW.to_json()).unwrap(), ADAMW);
    assert!(Config::from_json(r#"{"name": "sgd", "momentum": 0, "weight_decay": 0, "nesterov": true}"#).is_err());
    let fresh = Gpt::new(model.config.clone(), 1).unwrap();
    assert!(Optimizer::new(&fresh, ADAMW).unwrap().step(&mut Gpt::new(fresh.config, 2).unwrap(), 0.1).is_err());
}

#[test]
fn clipping_scales_to_the_norm_and_no_further() {
    let x = Noise::new(4).normal(70_001, 0.1);
    let want = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let mut short = x.clone();
    assert!((clip::clip(&mut short, want / 4.0) - want).abs() < 1e-6 * want);
    assert!((clip::norm(&short) - want / 4.0).abs() < 1e-5 * want);
    for max in [want * 1.01, f64::INFINITY] {
        let mut same = x.clone();
        clip::clip(&mut same, max);
        assert_eq!(same, x);
    }
    let bits = [1, 2, 5].map(|n| {
        crate::parallel::set_num_threads(n);
        clip::norm(&x).to_bits()
    });
    assert!(bits.windows(2).all(|two| two[0] == two[1]));
    assert_eq!((clip::norm(&[]), clip::clip(&mut [0.0; 3], 1.0)), (0.0, 0.0));
    assert!(clip::norm(&[1.0, f32::NAN]).is_nan());
}
