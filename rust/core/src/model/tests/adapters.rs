//! Adapters and frozen weights: gradients against the f64 twin of the weights that an adapter stands for, and what must
//! stay as it is.

use super::gradients::{B, T, targets, twin};
use super::*;
use crate::model::adapter::spec::{Module, Spec};
use crate::model::rows::{Labels, Rows};
use crate::optim::{self, Optimizer};
use std::collections::HashMap;
use subgpt_testkit::gradcheck::{assert_close, gradient, wide};

/// Every projection but those that `leave_out` names, with ranks from 1 to 3.
fn spec(model: &Gpt, dora: bool, leave_out: &str) -> Spec {
    let named =
        model.linear_modules().enumerate().filter(|(_, name)| leave_out.is_empty() || !name.contains(leave_out));
    let module =
        |(i, name): (usize, &str)| Module { name: name.to_string(), r: 1 + i % 3, scale: 0.5 + i as f32 / 8.0 };
    Spec { modules: named.map(module).collect(), dropout: 0.0, dora }
}

/// A model with an adapter in use whose numbers all matter.
pub(super) fn adapted(config: Config, dora: bool, leave_out: &str) -> Gpt {
    adapted_with(config, dora, leave_out, 0.0)
}

/// The same, a share of whose inputs falls out.
pub(super) fn adapted_with(config: Config, dora: bool, leave_out: &str, dropout: f32) -> Gpt {
    let mut model = lively(config);
    let spec = Spec { dropout, ..spec(&model, dora, leave_out) };
    model.add_adapter("a", spec, 7).unwrap();
    model.set_adapter(Some("a")).unwrap();
    let mut noise = Noise::new(11);
    let (slots, _) = model.update_parts();
    for slot in slots {
        let (std, start) = if slot.tensor.name.contains("magnitude") { (0.2, 1.0) } else { (0.3, 0.0) };
        let values = noise.normal(slot.w.len(), std);
        slot.w.iter_mut().zip(values).for_each(|(w, v)| *w = start * *w + v);
    }
    model
}

/// The weights that a model with an adapter computes with, its adapter's numbers being `numbers`; the lengths of DoRA
/// are those of `fixed`.
fn effective(model: &Gpt, numbers: &[f64], fixed: &[f64]) -> Vec<f64> {
    let adapter = model.adapter("a").unwrap();
    let mut params = wide(&model.params);
    for linear in model.layout.linears() {
        let Some(layer) = adapter.layer(linear) else { continue };
        for part in &layer.parts {
            let (r, scale) = (part.ranks.len(), f64::from(layer.scales[part.ranks.start]));
            for o in 0..part.columns.len() {
                let place = |i: usize| match linear.transposed {
                    true => linear.weight.start + (part.columns.start + o) * linear.n_in + i,
                    false => linear.weight.start + i * linear.n_out + o,
                };
                let sum = |numbers: &[f64], i: usize| {
                    let product = |k: usize| {
                        numbers[part.b.start + o * r + k]
                            * numbers[layer.a.start + (part.ranks.start + k) * linear.n_in + i]
                    };
                    f64::from(model.params[place(i)]) + scale * (0..r).map(product).sum::<f64>()
                };
                let length = (0..linear.n_in).map(|i| sum(fixed, i).powi(2)).sum::<f64>().sqrt();
                let factor = part.magnitude.as_ref().map_or(1.0, |m| numbers[m.start + o] / length);
                (0..linear.n_in).for_each(|i| params[place(i)] = factor * sum(numbers, i));
            }
        }
    }
    params
}

fn check(config: Config, dora: bool, leave_out: &str) {
    let mut model = adapted(config, dora, leave_out);
    let ids = some_ids(B * T, model.config.vocab_size);
    let targets = targets(&ids);
    let numbers = wide(model.adapter("a").unwrap().params());
    let (got, grads, trained) = {
        let loss = model.backward(Rows::new(&ids, B, T), Labels::new(&targets, -100), 1.0).unwrap();
        let trained: Vec<_> = model.trained_tensors().into_iter().cloned().collect();
        (loss, model.grads().unwrap().to_vec(), trained)
    };
    model.passes = 0; // of the masks that the twin makes
    let place = |name: &str| model.layout.get(name).map(|tensor| tensor.range.clone());
    let twin = twin(&model, &place);
    let loss = |numbers: &[f64], fixed: &[f64]| twin.loss(&effective(&model, numbers, fixed), &ids, &targets, -100);
    let want = loss(&numbers, &numbers);
    assert!((got - want).abs() < 2e-6 * want, "loss {got} instead of {want}");
    if model.config.dropout == 0.0 {
        let plain = super::loss(&model, &ids, &targets, B, T);
        assert!((plain - want).abs() < 2e-6 * want, "without a backward pass {plain} instead of {want}");
    }
    let want = gradient(&numbers, |changed| loss(changed, &numbers));
    assert_eq!(trained.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>(), {
        let adapter = model.adapter("a").unwrap();
        adapter.tensors.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>()
    });
    for tensor in &trained {
        let want = &want[tensor.range.clone()];
        let largest = want.iter().fold(0f64, |m, v| m.max(v.abs()));
        assert!(largest > 1e-4, "{} does not matter here: {largest}", tensor.name);
        let scaled: Vec<f32> = grads[tensor.range.clone()].iter().map(|g| g / largest as f32).collect();
        let want: Vec<f64> = want.iter().map(|w| w / largest).collect();
        assert_close(&tensor.name, &scaled, &want, 5e-5);
    }
}

#[test]
fn gradients_of_an_adapter_are_those_of_the_weights_it_stands_for() {
    for dora in [false, true] {
        check(tiny(), dora, "");
        check(Config { dropout: 0.3, bias: false, ..tiny() }, dora, "");
        check(modern(), dora, "");
        check(gemma(), dora, "");
        check(Config { dropout: 0.3, ..gemma() }, dora, "");
    }
}

#[test]
fn part_of_the_layers_may_be_adapted() {
    for dora in [false, true] {
        check(modern(), dora, "k_proj");
        check(modern(), dora, "0.");
        check(modern(), dora, "gate_proj");
        check(tiny(), dora, "mlp");
        check(tiny(), dora, "attn");
    }
}

/// The gradients with the loss's own dropout against differences of that loss, whose masks are those of one pass.
#[test]
fn what_falls_out_of_an_adapters_inputs_falls_out_on_the_way_back() {
    for (config, dora) in [(tiny(), false), (modern(), true)] {
        let mut model = adapted(config, dora, "");
        model.adapter_mut("a").unwrap().spec.dropout = 0.5;
        let ids = some_ids(B * T, model.config.vocab_size);
        let targets = targets(&ids);
        let at = |model: &mut Gpt| {
            model.passes = 3;
            model.backward(Rows::new(&ids, B, T), Labels::new(&targets, -100), 1.0).unwrap()
        };
        let plain = super::loss(&model, &ids, &targets, B, T);
        let with_dropout = at(&mut model);
        assert!((plain - with_dropout).abs() > 1e-3, "nothing fell out");
        let grads = model.grads().unwrap().to_vec();
        let tensors: Vec<_> = model.trained_tensors().into_iter().cloned().collect();
        let largest = grads.iter().fold(0f32, |m, g| m.max(g.abs()));
        let mut seen = 0;
        for tensor in tensors
            .iter()
            .filter(|tensor| !tensor.name.contains("magnitude") && !dora || tensor.name.contains("magnitude"))
        {
            let i = tensor.range.start;
            let mut shifted = |by: f32| {
                model.adapter_mut("a").unwrap().params_mut()[i] += by;
                let loss = at(&mut model);
                model.adapter_mut("a").unwrap().params_mut()[i] -= by;
                loss
            };
            let slope = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
            assert!(
                (slope - f64::from(grads[i])).abs() < 5e-3 * f64::from(largest),
                "{}: {slope} {}",
                tensor.name,
                grads[i]
            );
            seen += 1;
        }
        assert!(seen > 3);
    }
}

#[test]
fn a_fresh_adapter_changes_nothing_and_one_that_is_put_away_leaves_nothing() {
    for dora in [false, true] {
        let mut model = lively(modern());
        let ids = some_ids(B * T, model.config.vocab_size);
        let plain = model.forward(&mut Arena::new(), Rows::new(&ids, B, T)).unwrap();
        let spec = spec(&model, dora, "");
        model.add_adapter("fresh", spec.clone(), 1).unwrap();
        model.set_adapter(Some("fresh")).unwrap();
        let fresh = model.forward(&mut Arena::new(), Rows::new(&ids, B, T)).unwrap();
        assert_close("logits", &fresh, &wide(&plain), 1e-6);
        model.adapter_mut("fresh").unwrap().params_mut().fill(0.1);
        let moved = model.forward(&mut Arena::new(), Rows::new(&ids, B, T)).unwrap();
        assert!(moved.iter().zip(&plain).any(|(a, b)| (a - b).abs() > 1e-2));
        model.add_adapter("other", spec, 2).unwrap();
        assert_eq!(model.adapters().collect::<Vec<_>>(), ["fresh", "other"]);
        model.set_adapter(Some("other")).unwrap();
        model.backward(Rows::new(&ids, B, T), Labels::new(&targets(&ids), -100), 1.0).unwrap();
        model.delete_adapter("fresh").unwrap();
        assert_eq!(model.active_adapter(), Some("other"));
        assert!(model.grads().is_some(), "those of the one in use stay");
        assert!(model.set_adapter(Some("fresh")).unwrap_err().to_string().contains("other"));
        model.set_adapter(None).unwrap();
        assert_eq!(bits(&model.forward(&mut Arena::new(), Rows::new(&ids, B, T)).unwrap()), bits(&plain));
    }
}

#[test]
fn generation_and_files_know_the_adapter() {
    let mut model = adapted(Config { block_size: 16, ..modern() }, true, "");
    let mut session = crate::model::session::Session::new(&model).unwrap();
    session.append(&model, &[1, 2, 3]).unwrap();
    session.append(&model, &[4]).unwrap();
    let whole = model.last_logits(&mut Arena::new(), &[1, 2, 3, 4]).unwrap();
    assert_close("logits", session.logits(), &wide(&whole), 1e-5);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.safetensors");
    model.adapter("a").unwrap().save(&path, HashMap::new()).unwrap();
    let kept = model.adapter("a").unwrap().params().to_vec();
    model.adapter_mut("a").unwrap().params_mut().fill(0.0);
    model.adapter_mut("a").unwrap().load(&path).unwrap();
    assert_eq!(bits(model.adapter("a").unwrap().params()), bits(&kept));
    let other = spec(&model, false, "k_proj");
    model.add_adapter("other", other, 0).unwrap();
    assert!(model.adapter_mut("other").unwrap().load(&path).is_err());
}

#[test]
fn gradients_of_an_adapter_add_up_and_survive_checkpointing_and_rounding() {
    for (config, dora) in [(tiny(), true), (gemma(), true), (Config { dropout: 0.2, ..modern() }, false)] {
        let run = |checkpointing: bool, precision: Precision, passes: usize| {
            let mut model = adapted(config.clone(), dora, "");
            model.adapter_mut("a").unwrap().spec.dropout = 0.25;
            model.gradient_checkpointing = checkpointing;
            model.set_precision(precision);
            let ids = some_ids(B * T, model.config.vocab_size);
            for _ in 0..passes {
                model.passes = 5;
                model.backward(Rows::new(&ids, B, T), Labels::new(&targets(&ids), -100), 1.0).unwrap();
            }
            model.grads().unwrap().to_vec()
        };
        let once = run(false, Precision::Float32, 1);
        assert_eq!(bits(&run(true, Precision::Float32, 1)), bits(&once));
        let twice: Vec<f64> = once.iter().map(|g| 2.0 * f64::from(*g)).collect();
        let largest = twice.iter().fold(0f64, |m, v| m.max(v.abs()));
        let twice: Vec<f64> = twice.iter().map(|g| g / largest).collect();
        let got: Vec<f32> = run(false, Precision::Float32, 2).iter().map(|g| g / largest as f32).collect();
        assert_close("two passes", &got, &twice, 1e-6);
        let rounded: Vec<f32> = run(false, Precision::Bfloat16, 2).iter().map(|g| g / largest as f32).collect();
        assert_close("bfloat16", &rounded, &twice, 6e-2);
    }
}

#[test]
fn frozen_weights_have_no_gradients_and_the_others_those_they_had() {
    for config in [tiny(), modern(), gemma()] {
        let all = lively(config.clone());
        let ids = some_ids(B * T, config.vocab_size);
        let full = {
            let mut model = lively(config.clone());
            model.backward(Rows::new(&ids, B, T), Labels::new(&targets(&ids), -100), 1.0).unwrap();
            model.grads().unwrap().to_vec()
        };
        let rules: [fn(&str) -> bool; 5] = [
            |name| name.contains(".1."),
            |name| name.contains("norm") || name.contains("ln_"),
            |name| name.contains("q_proj") || name.contains("c_attn.bias"),
            |name| name.contains("embed_tokens") || name.contains("wpe"),
            |name| !name.contains("norm"),
        ];
        for rule in rules {
            let mut model = lively(config.clone());
            model.freeze(rule);
            let trained: Vec<_> = model.trained_tensors().into_iter().cloned().collect();
            if trained.is_empty() {
                let refused =
                    model.backward(Rows::new(&ids, B, T), Labels::new(&targets(&ids), -100), 1.0).unwrap_err();
                assert!(refused.to_string().contains("unfrozen"));
                continue;
            }
            let mut optimizer =
                Optimizer::new(&model, optim::Config::Sgd { momentum: 0.5, weight_decay: 0.0 }).unwrap();
            model.backward(Rows::new(&ids, B, T), Labels::new(&targets(&ids), -100), 1.0).unwrap();
            for tensor in &all.layout.tensors {
                let got = model.gradient(&tensor.name).map(bits);
                let want = rule(&tensor.name).then(|| bits(&full[tensor.range.clone()]));
                assert_eq!(got, want, "{}", tensor.name);
            }
            assert!(model.memory(B, T, true).gradients <= 4 * all.layout.total);
            optimizer.step(&mut model, 0.1).unwrap();
            for tensor in &all.layout.tensors {
                let moved = model.params[tensor.range.clone()] != all.params[tensor.range.clone()];
                assert_eq!(moved, rule(&tensor.name), "{}", tensor.name);
            }
            model.freeze(|_| true);
            assert!(optimizer.step(&mut model, 0.1).is_err(), "made for other tensors");
        }
    }
}

#[test]
fn an_optimizer_moves_an_adapter_alone_and_goes_on_from_its_file() {
    for config in [
        optim::Config::Adamw {
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.1,
            decay: optim::config::Decay::Matrices,
        },
        optim::Config::Muon {
            momentum: 0.9,
            adjust_lr: optim::config::AdjustLr::MatchRmsAdamw,
            adam_rate: 1.0,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.0,
            decay: optim::config::Decay::All,
        },
    ] {
        let mut model = adapted(modern(), true, "");
        let base = model.params.to_vec();
        let ids = some_ids(B * T, model.config.vocab_size);
        let mut optimizer = Optimizer::new(&model, config.clone()).unwrap();
        let step = |model: &mut Gpt, optimizer: &mut Optimizer| {
            let loss = model.backward(Rows::new(&ids, B, T), Labels::new(&targets(&ids), -100), 1.0).unwrap();
            optimizer.step(model, 0.01).unwrap();
            model.zero_grad();
            loss
        };
        let first = step(&mut model, &mut optimizer);
        let folder = tempfile::tempdir().unwrap();
        let (weights, moments) = (folder.path().join("a"), folder.path().join("o"));
        model.adapter("a").unwrap().save(&weights, HashMap::new()).unwrap();
        optimizer.save(&moments, &model).unwrap();
        let second = step(&mut model, &mut optimizer);
        assert!(second < first);
        let want = bits(model.adapter("a").unwrap().params());
        assert_eq!(bits(&model.params), bits(&base));
        model.adapter_mut("a").unwrap().load(&weights).unwrap();
        let mut again = Optimizer::new(&model, config).unwrap();
        again.load(&moments, &model).unwrap();
        assert_eq!(step(&mut model, &mut again), second);
        assert_eq!(bits(model.adapter("a").unwrap().params()), want);
    }
}

#[test]
fn wrong_specifications_are_refused() {
    let mut model = lively(modern());
    let json = |modules: &str| format!("{{\"modules\":[{modules}],\"dropout\":0.0,\"dora\":false}}");
    for (modules, named) in [
        ("", "empty"),
        ("{\"name\":\"model.layers.0.self_attn.q_proj\",\"r\":0,\"scale\":1.0}", "at least 1"),
        ("{\"name\":\"model.layers.0.self_attn.q_proj\",\"r\":1,\"scale\":0.0}", "other than 0"),
        ("{\"name\":\"a\",\"r\":1,\"scale\":1.0},{\"name\":\"a\",\"r\":1,\"scale\":1.0}", "twice"),
        ("{\"name\":\"a\",\"rank\":1}", "unreadable"),
    ] {
        let refused = Spec::from_json(&json(modules)).unwrap_err().to_string();
        assert!(refused.contains(named), "{refused}");
    }
    let unknown = Spec::from_json(&json("{\"name\":\"lm_head\",\"r\":1,\"scale\":1.0}")).unwrap();
    assert!(model.add_adapter("x", unknown, 0).unwrap_err().to_string().contains("lm_head"));
    let good = spec(&model, false, "");
    model.add_adapter("x", good.clone(), 0).unwrap();
    assert!(model.add_adapter("x", good, 0).is_err());
    assert!(model.delete_adapter("y").is_err());
    model.delete_adapter("x").unwrap();
    assert!(model.set_adapter(Some("x")).unwrap_err().to_string().contains("has no adapters"));
}
