//! A base in few bits: it computes what the float32 model of the decoded numbers computes, and takes less memory.

use super::adapters::adapted;
use super::gradients::{B, T, targets};
use super::*;
use crate::error::Result;
use crate::kernels::quantized::{Format, decode, encode};
use crate::model::params::Extent;
use crate::model::quantized::Kind;
use crate::model::rows::{Labels, Rows};
use crate::model::session::Session;
use std::collections::HashMap;
use subgpt_testkit::gradcheck::{assert_close, wide};

const KINDS: [Kind; 2] = [Kind::Int8, Kind::Int4];
const ALL: [Kind; 3] = [Kind::Bfloat16, Kind::Int8, Kind::Int4];

/// Widths that are multiples of a block's values, and some that are not.
fn shapes() -> Vec<Config> {
    let wide = |config: Config| Config { n_embd: 64, n_inner: Some(96), ..config };
    let odd = |config: Config| Config { n_embd: 40, n_inner: Some(43), ..config };
    [tiny(), modern(), gemma()]
        .into_iter()
        .flat_map(|config| [wide(config.clone()), odd(config.clone()), config])
        .collect()
}

/// A model with an adapter in use over a base in few bits, and the same over float32 numbers.
fn pair(config: Config, kind: Kind, dora: bool) -> (Gpt, Gpt) {
    let (mut model, mut twin) = (adapted(config.clone(), dora, ""), adapted(config, dora, ""));
    model.quantize(kind, false).unwrap();
    for tensor in &model.layout.tensors {
        let numbers = model.tensor(&tensor.name).unwrap().1;
        twin.tensor_mut(&tensor.name).unwrap().1.copy_from_slice(&numbers);
    }
    (model, twin)
}

/// Equal but for the order in which a product may add up.
fn assert_near(what: &str, got: &[f32], want: &[f32], atol: f64) {
    let largest = want.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
    let scaled = |x: &[f32]| x.iter().map(|x| x / largest).collect::<Vec<_>>();
    assert_close(what, &scaled(got), &wide(&scaled(want)), atol);
}

#[test]
fn an_adapter_over_it_computes_as_over_the_decoded_numbers() {
    for (config, kind) in shapes().into_iter().flat_map(|config| KINDS.map(|kind| (config.clone(), kind))) {
        for (dora, precision) in [(false, Precision::Float32), (true, Precision::Float32), (true, Precision::Bfloat16)]
        {
            let (mut model, mut twin) = pair(config.clone(), kind, dora);
            let ids = some_ids(B * T, config.vocab_size);
            let of = |model: &mut Gpt| {
                model.set_precision(precision);
                let logits = model.forward(&mut Arena::new(), Rows::new(&ids, B, T)).unwrap();
                model.backward(Rows::new(&ids, B, T), Labels::new(&targets(&ids), -100), 1.0).unwrap();
                (logits, model.grads().unwrap().to_vec())
            };
            let ((logits, grads), (want_logits, want_grads)) = (of(&mut model), of(&mut twin));
            assert_near("logits", &logits, &want_logits, 1e-6);
            assert_near("gradients", &grads, &want_grads, 1e-6);
        }
    }
}

#[test]
fn numbers_are_those_of_ggml_or_closer_in_the_order_of_the_family() {
    for (config, kind) in shapes().into_iter().flat_map(|config| KINDS.map(|kind| (config.clone(), kind))) {
        let before = lively(config);
        let mut model = lively(before.config.clone());
        model.quantize(kind, false).unwrap();
        assert_eq!(model.layout.num_params(false), before.layout.num_params(false));
        for tensor in &before.layout.tensors {
            let (kept, numbers) = model.tensor(&tensor.name).unwrap();
            assert_eq!(kept.shape, tensor.shape);
            let original = &before.params[tensor.range.clone()];
            if kept.is_flat() {
                assert_eq!(bits(&numbers), bits(original), "{}", tensor.name);
                continue;
            }
            // (in, out) in GPT-2's files, (out, in) in the others.
            let [rows, columns] = tensor.shape[..] else { panic!("a matrix") };
            let (n_out, n_in) = if model.config.is_gpt2() { (columns, rows) } else { (rows, columns) };
            let at = |o: usize, i: usize| if model.config.is_gpt2() { i * n_out + o } else { o * n_in + i };
            for o in 0..n_out {
                let mut row: Vec<_> = (0..n_in).map(|i| original[at(o, i)]).collect();
                row.resize(n_in.next_multiple_of(32), 0.0);
                let format = if kind == Kind::Int8 { Format::Q8_0 } else { Format::Q4_0 };
                let mut bytes = vec![0; row.len() / format.values() * format.bytes()];
                encode(format, &row, &mut bytes).unwrap();
                decode(format, &bytes, &mut row).unwrap();
                if kind == Kind::Int4 {
                    // With a scale that is closer, if there is one.
                    let off =
                        |y: &dyn Fn(usize) -> f32| (0..n_in).map(|i| (y(i) - original[at(o, i)]).powi(2)).sum::<f32>();
                    assert!(off(&|i| numbers[at(o, i)]) <= off(&|i| row[i]) * 1.0001, "{} {o}", tensor.name);
                    continue;
                }
                assert!((0..n_in).all(|i| numbers[at(o, i)] == row[i]), "{} {o}", tensor.name);
            }
        }
        assert_eq!(model.first_nonfinite(false), None);
    }
}

#[test]
fn memory_is_that_of_the_blocks() {
    for (kind, bits) in [(Kind::Int8, 34 * 8), (Kind::Int4, 18 * 8)] {
        let mut model = lively(Config { n_embd: 64, n_inner: Some(256), ..modern() });
        let (b, t, before) = (2, 5, model.layout.clone());
        let weights: usize = before.blocks.iter().flat_map(|block| block.linears()).map(|l| l.weight.len()).sum();
        let largest = before.blocks.iter().flat_map(|block| block.linears()).map(|l| l.weight.len()).max().unwrap();
        model.quantize(kind, false).unwrap();
        assert!(before.total - weights <= model.layout.total && model.layout.total <= before.total - weights + 1024);
        assert_eq!(model.params().len(), model.layout.total);
        for training in [false, true] {
            let memory = model.memory(b, t, training);
            assert_eq!(memory.parameters, 4 * model.layout.total + weights / 32 * bits / 8);
            assert_eq!(memory.packed, 4 * largest);
        }
        // Without an adapter the other tensors are what is trained.
        assert_eq!(model.memory(b, t, true).gradients, 4 * model.layout.total);
        assert_eq!(model.num_trained(), model.layout.num_params(false) - weights);
    }
}

#[test]
fn generation_reads_it() {
    for (kind, dora) in KINDS.into_iter().zip([true, false]) {
        let (model, twin) = pair(Config { block_size: 16, ..modern() }, kind, dora);
        let mut session = Session::new(&model).unwrap();
        session.append(&model, &[1, 2, 3]).unwrap();
        session.append(&model, &[4]).unwrap();
        // It rounds activations, a pass over the whole does not.
        let whole = model.last_logits(&mut Arena::new(), &[1, 2, 3, 4]).unwrap();
        assert_near("session", session.logits(), &whole, 3e-2);
        assert!(bits(session.logits()) != bits(&whole));
        assert_near("twin", &whole, &twin.last_logits(&mut Arena::new(), &[1, 2, 3, 4]).unwrap(), 1e-6);
    }
}

#[test]
fn a_whole_model_in_few_bits_computes_near_its_numbers() {
    for config in [tiny(), modern(), gemma(), Config { tie_embeddings: false, ..modern() }] {
        // The activations of every layer are rounded, and are large here.
        for (kind, within) in [(Kind::Bfloat16, 0.05), (Kind::Int8, 0.1), (Kind::Int4, 0.1)] {
            let (mut model, mut twin) = (lively(config.clone()), lively(config.clone()));
            model.quantize(kind, true).unwrap();
            let mut head = false;
            for tensor in model.layout.tensors.clone() {
                let numbers = model.tensor(&tensor.name).unwrap().1.to_vec();
                let kept = twin.tensor_mut(&tensor.name).unwrap().1;
                assert!(tensor.is_flat() == (bits(&numbers) == bits(kept)), "{}", tensor.name);
                head |= !tensor.is_flat() && tensor.shape[0] == config.vocab_size;
                kept.copy_from_slice(&numbers);
            }
            assert!(head, "the head is as it was");
            let ids = some_ids(B * T, config.vocab_size);
            let [got, want] =
                [&model, &twin].map(|model| model.forward(&mut Arena::new(), Rows::new(&ids, B, T)).unwrap());
            assert_near("logits", &got, &want, within);
            let ids = &ids[..T.min(4)];
            let whole = model.last_logits(&mut Arena::new(), ids).unwrap();
            let mut session = Session::new(&model).unwrap();
            ids.iter().for_each(|&id| session.append(&model, &[id]).unwrap());
            assert_eq!(bits(session.logits()), bits(&whole));
        }
    }
}

#[test]
fn the_other_weights_may_be_trained_and_its_own_may_not() {
    for config in [tiny(), modern()] {
        let ids = some_ids(B * T, config.vocab_size);
        let (mut model, mut twin) = pair(config, Kind::Int4, false);
        for model in [&mut model, &mut twin] {
            model.set_adapter(None).unwrap();
            model.backward(Rows::new(&ids, B, T), Labels::new(&targets(&ids), -100), 1.0).unwrap();
        }
        for tensor in model.layout.tensors.clone() {
            match (model.gradient(&tensor.name), twin.gradient(&tensor.name)) {
                (Some(got), want) => assert_near(&tensor.name, got, want.unwrap(), 1e-6),
                (None, _) => assert!(!tensor.is_flat()),
            }
            assert_eq!(model.tensor_mut(&tensor.name).is_ok(), tensor.is_flat());
        }
        model.freeze(|name| name.contains("c_fc.weight") || name.contains("gate_proj"));
        let refused = model.backward(Rows::new(&ids, B, T), Labels::new(&targets(&ids), -100), 1.0).unwrap_err();
        assert!(refused.to_string().contains("adapter"), "{refused}");
    }
}

#[test]
fn what_needs_float32_weights_is_refused() {
    let mut model = lively(modern());
    model.quantize(Kind::Int8, false).unwrap();
    let path = std::path::Path::new("never written");
    let outcomes: [Result<()>; 5] = [
        model.save(path, HashMap::new()),
        model.load(&[path.to_path_buf()], None, 0).map(drop),
        model.save_gguf(path, &[], &[], &[]),
        model.load_gguf(path, &[], None, 0).map(drop),
        model.quantize(Kind::Int4, false),
    ];
    for outcome in outcomes {
        assert!(outcome.unwrap_err().to_string().contains("int8"));
    }
}

#[test]
fn weights_that_do_not_fit_leave_the_model_as_it_was() {
    let mut model = lively(modern());
    let (name, before) = ("model.layers.1.mlp.down_proj.weight", model.params.to_vec());
    model.tensor_mut(name).unwrap().1[3] = f32::NAN;
    assert!(model.quantize(Kind::Int8, false).unwrap_err().to_string().contains("not finite"));
    assert_eq!((model.quantization(), model.params.len()), (None, before.len()));
}

#[test]
fn weights_are_read_into_few_bits_as_if_they_had_been_float32_numbers_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    for (config, kind) in shapes().into_iter().flat_map(|config| ALL.map(|kind| (config.clone(), kind))) {
        for everything in [true, false] {
            let mut model = lively(config.clone());
            model.save(&path, HashMap::new()).unwrap();
            let mut read = Gpt::blank(config.clone()).unwrap();
            let samples = read
                .load(
                    std::slice::from_ref(&path),
                    Some((kind, if everything { Extent::Everything } else { Extent::Blocks })),
                    3,
                )
                .unwrap();
            for (tensor, sample) in model.layout.tensors.iter().zip(&samples) {
                let (own, count) = (&model.params[tensor.range.clone()], tensor.count());
                assert!(sample.len() <= 3 && sample[0] == own[0] && (count < 3 || sample.len() > 1));
                assert_eq!(sample.get(1).copied(), own.get(count.div_ceil(3)).copied(), "{}", tensor.name);
            }
            model.quantize(kind, everything).unwrap();
            assert_eq!(read.quantization(), Some(kind));
            let sampled = |name: &str| model.sample(name, 3).unwrap().len();
            assert!(model.layout.tensors.iter().all(|tensor| sampled(&tensor.name) > 0));
            for tensor in &model.layout.tensors {
                let numbers = |model: &Gpt| bits(&model.tensor(&tensor.name).unwrap().1);
                assert_eq!(numbers(&read), numbers(&model), "{} {kind:?}", tensor.name);
            }
        }
    }
}

#[test]
fn files_with_numbers_that_no_format_holds_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let mut model = lively(modern());
    model.tensor_mut("model.layers.1.mlp.down_proj.weight").unwrap().1[5] = f32::NAN;
    model.save(&path, HashMap::new()).unwrap();
    let mut read = lively(modern());
    let before = bits(&read.params);
    for kind in ALL {
        let error =
            read.load(std::slice::from_ref(&path), Some((kind, Extent::Everything)), 0).unwrap_err().to_string();
        assert!(error.contains("not finite"), "{error}");
        assert_eq!((bits(&read.params), read.quantization()), (before.clone(), None));
        assert!(model.quantize(kind, true).is_err() && model.quantization().is_none());
    }
    assert!(model.forward(&mut Arena::new(), Rows::new(&[1, 2], 1, 2)).is_ok());
}
