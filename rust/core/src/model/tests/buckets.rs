//! Gradients in pieces: a pass tells of each once it is done with it, and processes that share a batch make what one makes.

use super::super::buckets::Finished;
use super::adapters::{adapted, adapted_with};
use super::*;
use crate::model::rows::{Labels, Rows};
use crate::optim::share::Share;
use crate::optim::{Config as Rule, Optimizer, config::AdjustLr, config::Decay};
use std::iter::once;
use std::ops::Range;

const T: usize = 7;

fn targets(ids: &[u32]) -> Vec<i64> {
    ids.iter().map(|&id| i64::from(id)).rev().collect()
}

fn covers(buckets: &[Range<usize>], total: usize) -> bool {
    let ends = buckets.iter().map(|bucket| bucket.end);
    ends.eq([total].into_iter().chain(buckets.iter().map(|bucket| bucket.start)).take(buckets.len()))
        && buckets.last().is_none_or(|bucket| bucket.start == 0)
}

/// Buckets, and what a pass told of each.
fn told(model: &mut Gpt, floats: usize) -> (Vec<Range<usize>>, Vec<Vec<f32>>) {
    let (ids, buckets) = (some_ids(2 * T, model.config.vocab_size), model.gradient_buckets(floats));
    let mut heard = Vec::new();
    let mut tell = |number: usize, grads: &[f32]| {
        assert_eq!(number, heard.len());
        heard.push(grads.to_vec());
    };
    let finished = Finished { buckets: &buckets, tell: &mut tell };
    model.backward_watched(Rows::new(&ids, 2, T), Labels::new(&targets(&ids), -100), 1.0, Some(finished)).unwrap();
    (buckets, heard)
}

#[test]
fn what_a_pass_tells_of_is_what_it_leaves() {
    for config in [tiny(), modern(), gemma(), Config { tie_embeddings: false, ..tiny() }] {
        for floats in [1, 100, 300, 1 << 20, usize::MAX] {
            let mut model = lively(config.clone());
            for _pass in 0..2 {
                let (buckets, heard) = told(&mut model, floats);
                let grads = model.grads().unwrap();
                assert!(covers(&buckets, grads.len()), "{buckets:?}");
                assert_eq!(heard.len(), buckets.len());
                assert!(buckets.iter().zip(&heard).all(|(bucket, heard)| bits(&grads[bucket.clone()]) == bits(heard)));
            }
        }
    }
}

#[test]
fn most_is_finished_before_the_embeddings_are() {
    let mut model = lively(tiny());
    let (buckets, _) = told(&mut model, 64);
    let embeddings = model.layout.blocks[0].span.start;
    // All that lies in blocks has buckets of its own.
    assert!(buckets.iter().filter(|bucket| bucket.start >= embeddings).count() > 4);
    assert!(buckets.iter().all(|bucket| bucket.start >= embeddings || bucket.end < embeddings + 128), "{buckets:?}");
}

#[test]
fn frozen_weights_and_adapters_have_buckets_too() {
    for pattern in ["h.0.", "h.1.", "wte", "ln_f"] {
        let mut model = lively(tiny());
        model.freeze(|name| !name.contains(pattern));
        let (buckets, heard) = told(&mut model, 50);
        assert!(covers(&buckets, model.grads().unwrap().len()));
        assert!(
            buckets
                .iter()
                .zip(&heard)
                .all(|(bucket, heard)| bits(&model.grads().unwrap()[bucket.clone()]) == bits(heard))
        );
    }
    let mut model = adapted(modern(), true, "none");
    let (buckets, heard) = told(&mut model, 50);
    assert!(covers(&buckets, model.grads().unwrap().len()));
    assert_eq!(heard.concat().len(), model.grads().unwrap().len());
    assert!(heard.concat().iter().any(|&g| g != 0.0));
}

#[test]
fn rows_that_others_compute_have_their_own_masks() {
    for config in [tiny(), Config { n_embd: 10, ..tiny() }, modern()] {
        let ids = some_ids(3 * T, config.vocab_size);
        let (targets, config) = (targets(&ids), Config { dropout: 0.4, ..config });
        let mut whole = lively(config.clone());
        let loss = whole.backward(Rows::new(&ids, 3, T), Labels::new(&targets, -100), 1.0).unwrap();
        let (mut parts, mut mean) = (lively(config), 0.0);
        for (first, rows) in [(0, 1), (1, 2)] {
            let (at, share) = (first * T..(first + rows) * T, rows as f64 / 3.0);
            (parts.passes, parts.rows_before) = (0, first as u64);
            let part = parts
                .backward(Rows::new(&ids[at.clone()], rows, T), Labels::new(&targets[at], -100), share as f32)
                .unwrap();
            mean += share * part;
        }
        assert!((loss - mean).abs() < 1e-6, "{loss} {mean}");
        let (whole, parts) = (whole.grads().unwrap().to_vec(), parts.grads().unwrap());
        assert!(whole.iter().zip(parts).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}

#[test]
fn an_adapter_has_them_too() {
    let ids = some_ids(2 * T, modern().vocab_size);
    let make = || adapted_with(modern(), false, "none", 0.4);
    let mut whole = make();
    let loss = whole.backward(Rows::new(&ids, 2, T), Labels::new(&targets(&ids), -100), 1.0).unwrap();
    let mut halves = make();
    let mean: f64 = (0..2)
        .map(|row| {
            let at = row * T..(row + 1) * T;
            (halves.passes, halves.rows_before) = (0, row as u64);
            halves.backward(Rows::new(&ids[at.clone()], 1, T), Labels::new(&targets(&ids)[at], -100), 0.5).unwrap()
                / 2.0
        })
        .sum();
    assert!((loss - mean).abs() < 1e-6, "{loss} {mean}");
    let (whole, halves) = (whole.grads().unwrap().to_vec(), halves.grads().unwrap());
    assert!(whole.iter().zip(halves).all(|(a, b)| (a - b).abs() < 1e-5));
}

fn rules() -> [Rule; 4] {
    let decay = Decay::Matrices;
    [
        Rule::Sgd { momentum: 0.9, weight_decay: 0.1 },
        Rule::Adamw { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, decay },
        Rule::Lion { beta1: 0.9, beta2: 0.99, weight_decay: 0.1, decay },
        Rule::Muon {
            momentum: 0.95,
            adjust_lr: AdjustLr::Original,
            adam_rate: 0.5,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            decay,
        },
    ]
}

/// The gradients cut at every `step`-th, or between tensors, in two shares that take turns.
fn shares(model: &Gpt, step: Option<usize>) -> [Share; 2] {
    let total = model.trained.total();
    let mut cuts = match step {
        Some(step) => (0..total).step_by(step).collect(),
        None => model.gradient_starts(),
    };
    cuts.push(total);
    let pieces: Vec<_> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
    [0, 1].map(|mine| Share::new(pieces.iter().skip(mine).step_by(2).cloned().collect()).unwrap())
}

#[test]
fn two_shares_make_the_update_of_one_optimizer() {
    for rule in rules() {
        let whole_matrices = matches!(rule, Rule::Muon { .. });
        for config in [tiny(), modern()] {
            let (mut alone, mut together) = (lively(config.clone()), lively(config));
            let (ids, shares) = (some_ids(T, alone.config.vocab_size), shares(&alone, (!whole_matrices).then_some(48)));
            let mut one = Optimizer::new(&alone, rule.clone()).unwrap();
            let mut two = shares.map(|share| Optimizer::of_share(&together, rule.clone(), share).unwrap());
            for _step in 0..3 {
                for model in [&mut alone, &mut together] {
                    model.zero_grad();
                    model.backward(Rows::new(&ids, 1, T), Labels::new(&targets(&ids), -100), 1.0).unwrap();
                }
                one.step(&mut alone, 0.01).unwrap();
                two.iter_mut().for_each(|optimizer| optimizer.step(&mut together, 0.01).unwrap());
                assert_eq!(bits(&alone.params), bits(&together.params));
            }
            // Their moments, brought together, are those of the one.
            let total = alone.trained.total();
            let mut gathered = Optimizer::new(&together, rule.clone()).unwrap();
            for name in one.moments() {
                for optimizer in &two {
                    let kept = optimizer.moment(name, 0..total).unwrap();
                    let before = gathered.moment(name, 0..total).unwrap();
                    assert!(kept.iter().zip(&before).all(|(a, b)| *a == 0.0 || *b == 0.0), "kept twice");
                    let sum: Vec<_> = kept.iter().zip(before).map(|(a, b)| a + b).collect();
                    gathered.set_moment(name, 0, &sum).unwrap();
                }
                assert_eq!(bits(&gathered.moment(name, 0..total).unwrap()), bits(&one.moment(name, 0..total).unwrap()));
            }
        }
    }
}

#[test]
fn a_share_has_moments_of_its_own_weights_alone() {
    let mut model = lively(tiny());
    let (ids, rule) = (some_ids(T, 11), rules()[1].clone());
    let mut optimizer = Optimizer::of_share(&model, rule, Share::new(once(64..96).collect()).unwrap()).unwrap();
    model.backward(Rows::new(&ids, 1, T), Labels::new(&targets(&ids), -100), 1.0).unwrap();
    optimizer.step(&mut model, 0.01).unwrap();
    let kept = optimizer.moment("exp_avg", 32..128).unwrap();
    assert!(kept[..32].iter().chain(&kept[64..]).all(|&m| m == 0.0) && kept[32..64].iter().any(|&m| m != 0.0));
    let dir = tempfile::tempdir().unwrap();
    assert!(optimizer.save(&dir.path().join("o"), &model).is_err());
    assert!(optimizer.moment("momentum", 0..1).is_err());
}

#[test]
fn a_share_cannot_be_cut_anyhow() {
    assert!(Share::new(vec![4..8, 0..4]).is_err() && Share::new(vec![0..8, 4..12]).is_err());
    let model = lively(tiny());
    let matrix = model.layout.get("transformer.h.0.attn.c_attn.weight").unwrap().range.clone();
    let share = Share::new(once(matrix.start..matrix.end - 1).collect()).unwrap();
    assert!(Optimizer::of_share(&model, rules()[3].clone(), share.clone()).is_err());
    assert!(Optimizer::of_share(&model, rules()[1].clone(), share).is_ok());
}

#[test]
fn numbers_go_out_and_in_by_the_place_of_their_gradients() {
    for mut model in [lively(modern()), adapted(modern(), true, "none")] {
        let total = model.gradient_buckets(1 << 30)[0].end;
        let before = model.trained_in(0..total).unwrap();
        let some: Vec<_> = (0..40).map(|i| i as f32).collect();
        model.set_trained(8, &some).unwrap();
        let after = model.trained_in(0..total).unwrap();
        for (i, (before, after)) in before.iter().zip(&after).enumerate() {
            let new = if (8..48).contains(&i) { some[i - 8] } else { *before };
            assert!(*after == new || *after == 0.0, "{i}"); // between tensors lies nothing
        }
        assert!(after[8..48].iter().filter(|&&x| x != 0.0).count() > 20);
        assert!(model.gradients_in(0..total).unwrap().iter().all(|&g| g == 0.0));
        model.set_gradients(16, &some).unwrap();
        assert_eq!(model.gradients_in(16..56).unwrap(), some);
        assert!(model.set_gradients(total, &[1.0]).is_err() && model.trained_in(0..total + 1).is_err());
        assert!(
            model.set_trained(usize::MAX, &[1.0]).is_err() && model.gradients_in(Range { start: 3, end: 2 }).is_err()
        );
    }
}
