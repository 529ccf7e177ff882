//! What a pass shows on its way.

use super::*;
use crate::model::documents::Documents;
use crate::model::inside::largest;
use crate::model::rows::Rows;
use crate::parallel;

const T: usize = 7;

fn models() -> Vec<Gpt> {
    let half = |config| {
        let mut model = lively(config);
        model.set_precision(Precision::Bfloat16);
        model
    };
    vec![lively(tiny()), lively(modern()), lively(gemma()), half(modern()), half(gemma())]
}

#[test]
fn the_last_lens_is_the_head() {
    for model in models() {
        let (ids, mut arena) = (some_ids(2 * T, 11), Arena::new());
        let logits = model.forward(&mut arena, Rows::new(&ids, 2, T)).unwrap();
        let lens = model.logit_lens(&mut arena, Rows::new(&ids, 2, T)).unwrap();
        assert_eq!(lens.len(), 3 * logits.len());
        assert_eq!(bits(&lens[2 * logits.len()..]), bits(&logits));
        let states = model.hidden_states(&mut arena, Rows::new(&ids, 2, T)).unwrap();
        assert_eq!(states.len(), 3 * 2 * T * model.config.n_embd);
    }
}

#[test]
fn the_best_of_the_lens_are_its_largest() {
    for model in models() {
        let (ids, mut arena, k) = (some_ids(T, 11), Arena::new(), 4);
        let lens = model.logit_lens(&mut arena, Rows::new(&ids, 1, T)).unwrap();
        let top = model.logit_lens_top(&mut arena, Rows::new(&ids, 1, T), k).unwrap();
        for (row, (ids, probs)) in lens.chunks(11).zip(top.ids.chunks(k).zip(top.probs.chunks(k))) {
            let mut order: Vec<usize> = (0..11).collect();
            order.sort_by(|&i, &j| row[j].total_cmp(&row[i]));
            let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            for (i, (&id, &p)) in ids.iter().zip(probs).enumerate() {
                assert_eq!(id as usize, order[i]);
                assert!((f64::from(p) - f64::from(row[order[i]]).exp() / sum).abs() < 1e-6);
            }
        }
        for k in [0, 12] {
            assert!(model.logit_lens_top(&mut arena, Rows::new(&ids, 1, T), k).is_err());
        }
    }
}

#[test]
fn of_equal_ones_the_first_are_the_largest() {
    let mut noise = Noise::new(8);
    for n in [1, 5, 64, 300] {
        let row: Vec<f32> = (0..n).map(|_| noise.below(7) as f32).collect();
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.sort_by(|&i, &j| row[j as usize].total_cmp(&row[i as usize]));
        for k in [1, 2, 3, 17, n].into_iter().filter(|&k| k <= n) {
            assert_eq!(largest(&row, k), order[..k]);
        }
    }
}

#[test]
fn maps_are_distributions_over_what_is_seen() {
    for model in models() {
        let (config, ids) = (&model.config, some_ids(2 * T, 11));
        let maps = model.attention_maps(&mut Arena::new(), Rows::new(&ids, 2, T)).unwrap();
        for (i, row) in maps.chunks(T).enumerate() {
            let (query, layer) = (i % T, i / (2 * config.n_head * T));
            let first = config.window(layer).map_or(0, |window| (query + 1).saturating_sub(window));
            for (key, &p) in row.iter().enumerate() {
                assert_eq!(p > 0.0, (first..=query).contains(&key), "layer {layer}, {query} sees {key}: {p}");
            }
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
    }
}

#[test]
fn documents_of_a_row_do_not_see_each_other() {
    let (model, ids) = (lively(tiny()), some_ids(2 * T, 11));
    let numbers: Vec<i64> = (0..2 * T as i64).map(|i| if i < T as i64 { i / 3 } else { 0 }).collect();
    let documents = Documents::numbered(&numbers, 2, T).unwrap();
    let rows = Rows::new(&ids, 2, T).within(Some(&documents));
    let maps = model.attention_maps(&mut Arena::new(), rows).unwrap();
    for (i, row) in maps.chunks(T).enumerate() {
        let (query, second) = (i % T, i / (model.config.n_head * T) % 2 == 1);
        let first = if second { 0 } else { query / 3 * 3 };
        assert!(
            row.iter().enumerate().all(|(key, &p)| (p > 0.0) == (first..=query).contains(&key)),
            "{query}: {row:?}"
        );
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let (model, ids) = (lively(gemma()), some_ids(T, 11));
    let all = || {
        let arena = &mut Arena::new();
        let top = model.logit_lens_top(arena, Rows::new(&ids, 1, T), 3).unwrap();
        [model.attention_maps(arena, Rows::new(&ids, 1, T)).unwrap(), top.probs].map(|x| bits(&x))
    };
    let before = parallel::num_threads();
    parallel::set_num_threads(1);
    let one = all();
    parallel::set_num_threads(3);
    assert_eq!(all(), one);
    parallel::set_num_threads(before);
}

#[test]
fn ids_that_do_not_fit_are_refused() {
    let (model, arena) = (lively(tiny()), &mut Arena::new());
    for (ids, t) in [(vec![], 0), (vec![11], 1), (vec![0; 8], 8)] {
        assert!(model.hidden_states(arena, Rows::new(&ids, 1, t)).is_err());
        assert!(model.logit_lens(arena, Rows::new(&ids, 1, t)).is_err());
        assert!(model.logit_lens_top(arena, Rows::new(&ids, 1, t), 1).is_err());
        assert!(model.attention_maps(arena, Rows::new(&ids, 1, t)).is_err());
    }
}
