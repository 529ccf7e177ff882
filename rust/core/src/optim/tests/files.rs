//! State to files and back.

use super::*;
use crate::io::safetensors::{Output, Reader, write};
use std::borrow::Cow;
use std::collections::HashMap;

#[test]
fn a_loaded_optimizer_goes_on_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("optimizer.safetensors");
    for config in [SGD, ADAMW, LION, MUON, Config::Sgd { momentum: 0.9, weight_decay: 0.0 }] {
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
fn muon_keeps_one_number_for_each_weight_of_its_matrices_and_two_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("optimizer.safetensors");
    let model = model();
    Optimizer::new(&model, MUON).unwrap().save(&path, &model).unwrap();
    let found = Reader::open(&path).unwrap().tensors(|_| true).unwrap();
    for tensor in &model.layout.tensors {
        let kept: Vec<_> = ["momentum", "exp_avg", "exp_avg_sq"]
            .into_iter()
            .filter(|moment| found.iter().any(|(name, _)| *name == format!("{moment}/{}", tensor.name)))
            .collect();
        let inside = tensor.is_matrix() && tensor.name.contains(".h.");
        assert_eq!(kept, if inside { vec!["momentum"] } else { vec!["exp_avg", "exp_avg_sq"] }, "{}", tensor.name);
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
    for config in [SGD, LION, MUON, Config::Sgd { momentum: 0.9, weight_decay: 0.0 }] {
        let mut other = Optimizer::new(&model, config).unwrap();
        assert!(matches!(other.load(&path, &model), Err(Error::Checkpoint { .. })));
    }
    adam.steps = 1;
    adam.load(&path, &model).unwrap();
    assert_eq!(adam.steps, u64::MAX - 3);
    for digits in [vec![f32::NAN; 4], vec![1.0; 3], vec![-1.0; 4], vec![65536.0; 4], vec![0.5; 4]] {
        let shape = vec![digits.len()];
        let steps = Output { name: "steps".into(), shape, data: Cow::Owned(digits) };
        write(&path, &[steps], HashMap::new()).unwrap();
        let mut plain = Optimizer::new(&model, SGD).unwrap();
        assert!(plain.load(&path, &model).is_err());
    }
}
