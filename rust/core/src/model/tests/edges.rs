//! The smallest sizes, and what must be refused.

use super::*;
use crate::Error;
use crate::model::rows::{Labels, Rows};
use crate::model::session::Session;
use crate::progress;
use crate::sampling::Options;

#[test]
fn the_smallest_models_train_and_generate() {
    let one = Config { vocab_size: 1, block_size: 1, n_layer: 1, n_head: 1, n_embd: 1, n_inner: Some(1), ..tiny() };
    for config in [one.clone(), Config { block_size: 1, ..tiny() }, Config { dropout: 0.999_999_9, ..tiny() }, one] {
        let (t, v) = (config.block_size.min(3), config.vocab_size);
        let mut model = lively(config);
        let ids = some_ids(2 * t, v);
        let targets: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let loss = model.backward(Rows::new(&ids, 2, t), Labels::new(&targets, -100), 1.0).unwrap();
        assert!(loss.is_finite() && (v > 1 || loss == 0.0), "{loss}");
        assert!(model.first_nonfinite(true).is_none() && model.first_nonfinite(false).is_none());
        let mut session = Session::new(&model).unwrap();
        session.append(&model, &ids[..1]).unwrap();
        let new = session.run(&model, 5, &Options::default(), &[], &mut progress::ignore).unwrap();
        assert_eq!(new.len(), 5);
    }
}

#[test]
fn an_ignore_index_that_is_an_id_is_ignored() {
    let model = lively(tiny());
    let (ids, mut arena) = ([1, 2, 3], Arena::new());
    let losses = model.token_losses(&mut arena, Rows::new(&ids, 1, 3), Labels::new(&[2, 5, 2], 2)).unwrap();
    assert!(losses[0] == 0.0 && losses[1] > 0.0 && losses[2] == 0.0);
    let mean = model.loss(&mut arena, Rows::new(&ids, 1, 3), Labels::new(&[2, 5, 2], 2)).unwrap();
    assert_eq!(mean, f64::from(losses[1]));
}

#[test]
fn padding_does_not_change_the_loss_of_what_counts() {
    let model = lively(tiny());
    let short = loss(&model, &[1, 2, 3], &[2, 3, 4], 1, 3);
    let padded = loss(&model, &[1, 2, 3, 0, 0], &[2, 3, 4, -100, -100], 1, 5);
    assert!((short - padded).abs() < 1e-6, "{short} {padded}");
}

#[test]
fn a_refused_batch_changes_nothing() {
    let mut model = lively(Config { dropout: 0.1, ..tiny() });
    let refused: [(&[u32], &[i64], usize, usize); 9] = [
        (&[], &[], 0, 0),
        (&[], &[], 1, 0),
        (&[11], &[1], 1, 1),
        (&[1], &[11], 1, 1),
        (&[1], &[-1], 1, 1),
        (&[1], &[i64::MAX], 1, 1),
        (&[1], &[-100], 1, 1),
        (&[1, 2], &[1], 1, 2),
        (&[0; 8], &[0; 8], 1, 8),
    ];
    for (ids, targets, b, t) in refused {
        let error = model.backward(Rows::new(ids, b, t), Labels::new(targets, -100), 1.0).unwrap_err();
        assert!(matches!(error, Error::Value { .. } | Error::Shape { .. }), "{error}");
    }
    assert!(model.grads().is_none() && model.passes == 0);
    assert!(model.last_logits(&mut Arena::new(), &[]).is_err());
    let long = [1; 100];
    assert_eq!(model.last_logits(&mut Arena::new(), &long).unwrap().len(), 11);
}

#[test]
fn an_arena_serves_passes_of_any_size_in_any_order() {
    let model = lively(tiny());
    let mut arena = Arena::new();
    for (b, t) in [(1, 1), (3, 7), (2, 4), (1, 7), (3, 7)] {
        let ids = some_ids(b * t, 11);
        let fresh = model.forward(&mut Arena::new(), Rows::new(&ids, b, t)).unwrap();
        assert_eq!(bits(&model.forward(&mut arena, Rows::new(&ids, b, t)).unwrap()), bits(&fresh));
    }
}

#[test]
fn the_tensor_that_is_damaged_is_named() {
    let mut model = lively(tiny());
    let range = model.layout.get("transformer.h.1.mlp.c_fc.bias").unwrap().range.clone();
    model.params[range.start] = f32::NAN;
    assert_eq!(model.first_nonfinite(false), Some("transformer.h.1.mlp.c_fc.bias"));
    assert_eq!(model.first_nonfinite(true), None);
}

#[test]
fn fresh_weights_follow_nanogpt() {
    let config = Config { vocab_size: 500, n_embd: 64, n_inner: None, n_head: 4, tie_embeddings: false, ..tiny() };
    let model = Gpt::new(config, 1).unwrap();
    for tensor in &model.layout.tensors {
        let x = &model.params[tensor.range.clone()];
        let std = (x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / x.len() as f64).sqrt();
        let want = match &tensor.name {
            name if !tensor.is_matrix() => f64::from(u8::from(name.ends_with(".weight"))),
            name if name.ends_with("c_proj.weight") => 0.01, // 0.02 / sqrt(2 layers x 2)
            _ => 0.02,
        };
        assert!((std - want).abs() <= 0.12 * want, "{}: {std} instead of {want}", tensor.name);
    }
    assert_eq!(model.layout.num_params(false) - model.layout.num_params(true), 7 * 64);
}
