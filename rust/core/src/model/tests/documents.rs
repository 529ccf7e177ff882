//! Documents that share rows: losses and gradients as if each were alone.

use super::*;
use crate::error::Error;
use crate::model::documents::Documents;
use crate::model::rows::{Labels, Rows};

const T: usize = 24;
/// Places of each row's documents; what is left is padding.
const ROWS: [&[usize]; 2] = [&[5, 1, 11], &[9, 15]];

/// Numbers of the documents, and targets, which padding has not.
fn numbers_and_targets(ids: &[u32]) -> (Vec<i64>, Vec<i64>) {
    let (mut numbers, mut targets) = (vec![-1; ids.len()], vec![-100; ids.len()]);
    for (row, lengths) in ROWS.iter().enumerate() {
        let places = lengths.iter().enumerate().flat_map(|(number, &length)| std::iter::repeat_n(number, length));
        for (at, number) in places.enumerate().map(|(i, number)| (row * T + i, number)) {
            (numbers[at], targets[at]) = (number as i64, i64::from((3 * ids[at] + 1) % 11));
        }
    }
    (numbers, targets)
}

/// The places of every document.
fn places() -> impl Iterator<Item = std::ops::Range<usize>> {
    ROWS.iter().enumerate().flat_map(|(row, lengths)| {
        lengths.iter().scan(row * T, |start, length| {
            let place = *start..*start + length;
            *start = place.end;
            Some(place)
        })
    })
}

/// The largest difference over the largest number.
fn difference(got: &[f32], want: &[f32]) -> f32 {
    let largest = want.iter().fold(0f32, |m, x| m.max(x.abs()));
    assert!(largest > 0.0 && got.len() == want.len());
    got.iter().zip(want).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

fn check(config: &Config, precision: Precision, checkpointing: bool, tolerance: f32) {
    let fresh = || {
        let mut model = lively(Config { block_size: T, ..config.clone() });
        model.set_precision(precision);
        model.gradient_checkpointing = checkpointing;
        model
    };
    let (mut model, mut alone, mut arena) = (fresh(), fresh(), Arena::new());
    let ids = some_ids(ROWS.len() * T, config.vocab_size);
    let (numbers, targets) = numbers_and_targets(&ids);
    let documents = Documents::numbered(&numbers, ROWS.len(), T).unwrap();
    let kept = targets.iter().filter(|&&target| target != -100).count();
    let losses = model
        .token_losses(&mut arena, Rows::new(&ids, ROWS.len(), T).within(Some(&documents)), Labels::new(&targets, -100))
        .unwrap();
    let loss = model
        .backward(Rows::new(&ids, ROWS.len(), T).within(Some(&documents)), Labels::new(&targets, -100), 1.0)
        .unwrap();
    let (mut want, mut mean) = (vec![0.0; losses.len()], 0.0);
    for place in places() {
        let (ids, targets, n) = (&ids[place.clone()], &targets[place.clone()], place.len());
        let own = alone.token_losses(&mut arena, Rows::new(ids, 1, n), Labels::new(targets, -100)).unwrap();
        want[place].copy_from_slice(&own);
        let share = n as f64 / kept as f64;
        mean += share * alone.backward(Rows::new(ids, 1, n), Labels::new(targets, -100), share as f32).unwrap();
    }
    assert!(difference(&losses, &want) < tolerance, "losses: {}", difference(&losses, &want));
    assert!((loss - mean).abs() < f64::from(tolerance) * mean, "{loss} instead of {mean}");
    let (got, want) = (model.grads().unwrap(), alone.grads().unwrap());
    assert!(difference(got, want) < tolerance, "gradients: {}", difference(got, want));
}

#[test]
fn every_family_trains_packed_documents_as_if_they_were_alone() {
    for config in [tiny(), modern(), gemma()] {
        for checkpointing in [false, true] {
            check(&config, Precision::Float32, checkpointing, 1e-5);
            check(&config, Precision::Bfloat16, checkpointing, 2e-2);
        }
    }
}

#[test]
fn a_row_that_is_one_document_has_the_same_bits_as_without() {
    for config in [tiny(), modern(), Config { dropout: 0.2, ..gemma() }] {
        let ids = some_ids(2 * 7, config.vocab_size);
        let targets: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let whole = Documents::new(vec![0; 14], 2, 7).unwrap();
        let run = |documents| {
            let mut model = lively(config.clone());
            let logits = model.forward(&mut Arena::new(), Rows::new(&ids, 2, 7).within(documents)).unwrap();
            let loss =
                model.backward(Rows::new(&ids, 2, 7).within(documents), Labels::new(&targets, -100), 1.0).unwrap();
            let grads = model.grads().unwrap();
            // Gradients of positions are added up in another order.
            let wpe = model_wpe(&config);
            let rest = grads.iter().enumerate().filter(|(i, _)| !wpe.contains(i)).map(|(_, g)| g.to_bits());
            (bits(&logits), loss.to_bits(), rest.collect::<Vec<_>>())
        };
        assert!(run(None) == run(Some(&whole)));
    }
}

fn model_wpe(config: &Config) -> std::ops::Range<usize> {
    lively(config.clone()).layout.wpe.clone().unwrap_or_default()
}

#[test]
fn nothing_of_another_document_reaches_a_logit() {
    let model = lively(Config { block_size: T, ..modern() });
    let documents = Documents::new([[0; 10], [10; 10]].concat(), 1, 20).unwrap();
    let ids = some_ids(20, 11);
    let mut others = ids.clone();
    others[..10].iter_mut().for_each(|id| *id = (*id + 1) % 11);
    let [a, b] = [ids, others]
        .map(|ids| model.forward(&mut Arena::new(), Rows::new(&ids, 1, 20).within(Some(&documents))).unwrap());
    assert!(a[..110] != b[..110] && a[110..] == b[110..]);
}

#[test]
fn numbers_become_starts_and_positions() {
    let documents = Documents::numbered(&[0, 0, 3, -1, -1, 4, 2, 2, 2, -1, 7, 7], 2, 6).unwrap();
    assert_eq!(documents.starts(), [0, 0, 2, 3, 4, 5, 0, 0, 0, 3, 4, 4]);
    assert_eq!(documents.positions(), [0, 1, 0, 0, 0, 0, 0, 1, 2, 0, 0, 1]);
    assert_eq!(Documents::new(documents.starts().to_vec(), 2, 6).unwrap(), documents);
}

#[test]
fn documents_that_cannot_be_are_refused() {
    for numbers in [[0, 1, 0], [0, -1, 0], [1, 0, 0], [0, -2, 1], [i64::MIN, 0, 0]] {
        let error = Documents::numbered(&numbers, 1, 3).unwrap_err().to_string();
        assert!(error.contains("of row 0") && error.contains("upwards from 0"), "{error}");
    }
    assert!(matches!(Documents::numbered(&[0, 0], 1, 3), Err(Error::Shape { .. })));
    assert!(matches!(Documents::new(vec![0, 1, 0], 1, 3), Err(Error::Value { .. })));
    assert!(matches!(Documents::new(vec![0, 2, 2], 1, 3), Err(Error::Value { .. })));
    let mut model = lively(tiny());
    for (b, t) in [(1, 2), (3, 1)] {
        let other = Documents::new(vec![0; b * t], b, t).unwrap();
        assert!(matches!(
            model.forward(&mut Arena::new(), Rows::new(&[1; 3], 1, 3).within(Some(&other))),
            Err(Error::Shape { .. })
        ));
        let refused = model.backward(Rows::new(&[1; 3], 1, 3).within(Some(&other)), Labels::new(&[1; 3], -100), 1.0);
        assert!(matches!(refused, Err(Error::Shape { .. })));
    }
}
