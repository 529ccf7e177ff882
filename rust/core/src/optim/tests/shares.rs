//! Optimizers of a part of what is trained, as each of several processes has one.

// Shares are lists of ranges, of one, too.
#![allow(clippy::single_range_in_vec_init)]

use super::*;
use crate::model::params::Tensor;

/// What is trained in two shares, cut in the middle of tensors: the first, and what is between its pieces and behind.
fn halves(total: usize) -> [Share; 2] {
    let (a, b, c) = (5, total / 3 + 1, total - 4);
    [Share::new(vec![0..a, b..c]).unwrap(), Share::new(vec![a..b, c..total]).unwrap()]
}

#[test]
fn shares_together_update_as_one_optimizer() {
    for config in [SGD, ADAMW, LION, Config::Sgd { momentum: 0.9, weight_decay: 0.1 }] {
        let (mut whole, mut cut) = (model(), model());
        let total = whole.gradients_len();
        let mut one = Optimizer::new(&whole, config.clone()).unwrap();
        let mut two = halves(total).map(|share| Optimizer::of_share(&cut, config.clone(), share).unwrap());
        for t in 1..=3 {
            set_gradients(&mut whole, t);
            set_gradients(&mut cut, t);
            one.step(&mut whole, 0.01).unwrap();
            two.iter_mut().for_each(|half| half.step(&mut cut, 0.01).unwrap());
            assert_eq!(bits(&whole.params), bits(&cut.params), "{config:?}, step {t}");
        }
        for name in one.moments() {
            let all = one.moment(name, 0..total).unwrap();
            let [first, second] = [&two[0], &two[1]].map(|half| half.moment(name, 0..total).unwrap());
            let sum: Vec<f32> = first.iter().zip(&second).map(|(a, b)| a + b).collect();
            assert_eq!(sum, all, "one of both has it, the other nothing");
            assert!(first[5..total / 3 + 1].iter().all(|&m| m == 0.0));
        }
    }
}

#[test]
fn what_is_outside_of_a_share_is_passed_over() {
    let model = model();
    let total = model.gradients_len();
    let [share, _] = halves(total);
    let mut half = Optimizer::of_share(&model, LION, share).unwrap();
    half.set_moment("exp_avg", 3, &[1.0, 2.0, 3.0, 4.0]).unwrap();
    assert_eq!(half.moment("exp_avg", 2..8).unwrap(), [0.0, 1.0, 2.0, 0.0, 0.0, 0.0]);
}

#[test]
fn files_are_of_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("optimizer.safetensors");
    let model = model();
    let [share, _] = halves(model.gradients_len());
    Optimizer::new(&model, ADAMW).unwrap().save(&path, &model).unwrap();
    let mut half = Optimizer::of_share(&model, ADAMW, share).unwrap();
    for refused in [half.save(&path, &model), half.load(&path, &model)] {
        assert!(refused.unwrap_err().to_string().contains("one of a share"));
    }
}

#[test]
fn muon_takes_matrices_whole_or_not_at_all() {
    let model = model();
    let total = model.gradients_len();
    let places = model.trained_places();
    let (_, matrix) = places.iter().find(|(tensor, _)| muon::takes(tensor)).unwrap();
    let (_, other) = places.iter().find(|(tensor, _)| !muon::takes(tensor)).unwrap();
    let made = |pieces| Optimizer::of_share(&model, MUON, Share::new(pieces).unwrap());
    for cut in [matrix.start..matrix.end - 1, matrix.start + 1..total, 0..matrix.start + 1] {
        assert!(made(vec![cut]).err().unwrap().to_string().contains("Muon updates whole matrices"));
    }
    made(vec![matrix.clone()]).unwrap();
    made(vec![other.start + 1..other.end]).unwrap();
    // Others do not mind.
    Optimizer::of_share(&model, ADAMW, Share::new(vec![matrix.start..matrix.end - 1]).unwrap()).unwrap();
}

#[test]
fn pieces_ascend_and_do_not_overlap() {
    #[allow(clippy::reversed_empty_ranges)]
    for wrong in [vec![3..2], vec![0..3, 2..5], vec![4..6, 0..2], vec![0..1, 5..4]] {
        assert!(Share::new(wrong.clone()).is_err(), "{wrong:?}");
    }
    let share = Share::new(vec![0..3, 3..3, 3..5, 8..9]).unwrap();
    assert_eq!((share.is_all(), Share::ALL.is_all()), (false, true));
    assert_eq!(share.of(&(2..20)), [2..3, 3..5, 8..9]);
    assert_eq!(Share::ALL.of(&(2..20)), [2..20]);
    let tensor = |name: &str, range| Tensor { name: name.into(), shape: vec![4], range };
    let (a, b) = (tensor("a", 0..4), tensor("b", 8..9));
    let parts = share.parts(vec![(&a, 0..4), (&b, 8..9)]);
    let found: Vec<_> = parts.iter().map(|part| (&part.tensor.name[..], part.place.clone(), part.whole)).collect();
    assert_eq!(found, [("a", 0..3, false), ("a", 3..4, false), ("b", 8..9, true)]);
}
