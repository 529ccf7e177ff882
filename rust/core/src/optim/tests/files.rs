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

#[test]
fn a_tensor_of_another_shape_is_refused_though_it_has_as_many_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("optimizer.safetensors");
    let model = model();
    let mut lion = Optimizer::new(&model, LION).unwrap();
    lion.save(&path, &model).unwrap();
    let saved = Reader::open(&path).unwrap().tensors(|_| true).unwrap();
    let turned = |name: &str, mut shape: Vec<usize>| {
        if name.contains("c_fc.weight") {
            shape.reverse();
        }
        shape
    };
    let outputs = saved.into_iter().map(|(name, tensor)| Output {
        shape: turned(&name, tensor.shape),
        data: Cow::Owned(tensor.data),
        name,
    });
    write(&path, &outputs.collect::<Vec<_>>(), HashMap::new()).unwrap();
    assert!(lion.load(&path, &model).unwrap_err().to_string().contains("c_fc.weight has shape"));
}

#[test]
fn plain_descent_remembers_nothing() {
    let model = model();
    assert_eq!(Optimizer::new(&model, SGD).unwrap().moments().count(), 0);
    let momentum = Config::Sgd { momentum: 0.9, weight_decay: 0.0 };
    assert_eq!(Optimizer::new(&model, momentum).unwrap().moments().count(), 1);
}

#[test]
fn moments_are_read_and_set_by_the_places_of_gradients() {
    let mut model = model();
    let mut optimizer = Optimizer::new(&model, ADAMW).unwrap();
    set_gradients(&mut model, 1);
    optimizer.step(&mut model, 0.01).unwrap();
    let names: Vec<_> = optimizer.moments().collect();
    assert_eq!(names, ["exp_avg", "exp_avg_sq"]);
    let total = model.gradients_len();
    let grads = model.grads().unwrap().to_vec();
    let mean = optimizer.moment("exp_avg", 0..total).unwrap();
    assert!(mean.iter().zip(&grads).all(|(m, g)| (m - 0.1 * g).abs() < 1e-6), "a tenth of the first gradients");
    assert_eq!(optimizer.moment("exp_avg", 3..7).unwrap(), mean[3..7]);
    let square = optimizer.moment("exp_avg_sq", 0..total).unwrap();
    optimizer.set_moment("exp_avg", 5, &[7.0, 8.0]).unwrap();
    let changed = optimizer.moment("exp_avg", 0..total).unwrap();
    assert!(changed[5..7] == [7.0, 8.0] && changed[..5] == mean[..5] && changed[7..] == mean[7..]);
    assert_eq!(optimizer.moment("exp_avg_sq", 0..total).unwrap(), square);
    for refused in [
        optimizer.moment("square", 0..1).err(),
        optimizer.moment("exp_avg", 2..total + 1).err(),
        #[allow(clippy::reversed_empty_ranges)]
        optimizer.moment("exp_avg", 3..2).err(),
        optimizer.set_moment("square", 0, &[1.0]).err(),
        optimizer.set_moment("exp_avg", total, &[1.0]).err(),
        optimizer.set_moment("exp_avg", usize::MAX, &[1.0]).err(),
    ] {
        assert!(matches!(refused, Some(Error::Value { .. })), "{refused:?}");
    }
}

#[test]
fn an_optimizer_is_for_what_it_was_made_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("optimizer.safetensors");
    let mut model = model();
    let mut optimizer = Optimizer::new(&model, SGD).unwrap();
    optimizer.save(&path, &model).unwrap();
    let first = model.layout.tensors[0].name.clone();
    model.freeze(|name| name != first);
    for refused in [optimizer.step(&mut model, 0.1), optimizer.save(&path, &model), optimizer.load(&path, &model)] {
        assert!(refused.unwrap_err().to_string().contains("other tensors are trained"));
    }
}
