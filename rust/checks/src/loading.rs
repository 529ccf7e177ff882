//! Any bytes as the weights of a model, of an adapter, or the moments of an optimizer: they are loaded whole, or refused
//! by an error that names the file and leaves everything as it was.

use crate::files::with_file;
use crate::weights::{accepted, bits};
use std::collections::HashMap;
use std::path::Path;
use subgpt_core::kernels::quantized::Format;
use subgpt_core::model::Gpt;
use subgpt_core::model::adapter::spec::Spec;
use subgpt_core::model::config::Config;
use subgpt_core::model::gguf::{Change, Part};
use subgpt_core::model::params::Tensor;
use subgpt_core::optim::{Config as Rule, Optimizer};

/// A model whose files are smaller than what fuzzing makes.
const CONFIG: &str = r#"{"vocab_size": 4, "block_size": 2, "n_layer": 1, "n_head": 1, "n_embd": 2, "n_inner": 2,
    "bias": false, "dropout": 0.0, "activation": "gelu_new", "norm_eps": 1e-5, "tie_embeddings": true}"#;

/// An adapter of it, with all tensors that there are.
const ADAPTER: &str =
    r#"{"modules": [{"name": "transformer.h.0.mlp.c_fc", "r": 1, "scale": 2.0}], "dropout": 0.0, "dora": true}"#;

/// As the weights of a model.
pub fn model(data: &[u8]) {
    with_file(&[("model.safetensors", data)], |path| {
        let mut model = tiny();
        let before = bits(model.params());
        if accepted(model.load(&[path.to_path_buf()], None, 3)).is_none() {
            assert_eq!(bits(model.params()), before, "a refused file changed the model");
            return;
        }
        let again = path.with_extension("again");
        model.save(&again, HashMap::new()).expect("a model can be saved");
        let mut other = tiny();
        other.load(&[again], None, 3).expect("what was saved loads");
        assert_eq!(bits(other.params()), bits(model.params()));
    });
}

/// As the same in a GGUF file.
pub fn gguf_model(data: &[u8]) {
    with_file(&[("model.gguf", data)], |path| {
        let mut model = tiny();
        let (parts, before) = (parts(&model), bits(model.params()));
        if accepted(model.load_gguf(path, &parts, None, 3)).is_none() {
            assert_eq!(bits(model.params()), before, "a refused file changed the model");
            return;
        }
        let again = path.with_extension("again");
        model.save_gguf(&again, &[], &parts, &[]).expect("a model can be saved");
        let mut other = tiny();
        other.load_gguf(&again, &parts, None, 3).expect("what was saved loads");
        assert_eq!(bits(other.params()), bits(model.params()));
    });
}

/// As the weights of an adapter.
pub fn adapter(data: &[u8]) {
    with_file(&[("adapter_model.safetensors", data)], |path| {
        let mut model = adapted();
        let adapter = model.adapter_mut("check").expect("it was added");
        let before = bits(adapter.params());
        if accepted(adapter.load(path)).is_none() {
            assert_eq!(bits(adapter.params()), before, "a refused file changed the adapter");
            return;
        }
        let again = path.with_extension("again");
        adapter.save(&again, HashMap::new()).expect("an adapter can be saved");
        let mut other = adapted();
        let other = other.adapter_mut("check").expect("it was added");
        other.load(&again).expect("what was saved loads");
        assert_eq!(bits(other.params()), bits(adapter.params()));
    });
}

/// As the moments of each optimizer.
pub fn optimizer(data: &[u8]) {
    with_file(&[("optimizer.safetensors", data)], |path| RULES.iter().for_each(|rule| moments(path, rule)));
}

/// The optimizers, by what they remember.
const RULES: [&str; 3] = [
    r#"{"name": "sgd", "momentum": 0.9, "weight_decay": 0.0}"#,
    r#"{"name": "adamw", "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1, "decay": "matrices"}"#,
    r#"{"name": "muon", "momentum": 0.95, "adjust_lr": "original", "adam_rate": 0.1, "beta1": 0.9, "beta2": 0.99,
        "eps": 1e-8, "weight_decay": 0.1, "decay": "matrices"}"#,
];

fn moments(path: &Path, rule: &str) {
    let (model, rule) = (tiny(), Rule::from_json(rule).expect("a rule of ours"));
    let fresh = || Optimizer::new(&model, rule.clone()).expect("an optimizer of ours");
    let saved = |optimizer: &Optimizer, name: &str| {
        let path = path.with_extension(name);
        optimizer.save(&path, &model).expect("moments can be saved");
        (std::fs::read(&path).expect("it was written"), path)
    };
    let mut optimizer = fresh();
    let before = saved(&optimizer, "before").0;
    if accepted(optimizer.load(path, &model)).is_none() {
        assert_eq!(saved(&optimizer, "after").0, before, "a refused file changed the moments");
        return;
    }
    let (bytes, again) = saved(&optimizer, "again");
    let mut other = fresh();
    other.load(&again, &model).expect("what was saved loads");
    assert_eq!(saved(&other, "other").0, bytes);
}

fn tiny() -> Gpt {
    Gpt::new(Config::from_json(CONFIG).expect("a configuration of ours"), 1).expect("a small model")
}

fn adapted() -> Gpt {
    let mut model = tiny();
    let spec = Spec::from_json(ADAPTER).expect("an adapter of ours");
    model.add_adapter("check", spec, 1).expect("layers of the model");
    model
}

/// Every tensor under a short name, with each change that can be undone without rounding.
fn parts(model: &Gpt) -> Vec<Part> {
    let part = |(i, tensor): (usize, &Tensor)| Part {
        name: format!("t{i}"),
        of: tensor.name.clone(),
        change: match tensor.shape.len() {
            1 => Change::Nothing,
            _ if i % 3 == 0 => Change::Pairs { heads: 1 },
            _ if i % 3 == 1 => Change::Transposed,
            _ => Change::Nothing,
        },
        format: Format::F32,
    };
    model.layout.tensors.iter().enumerate().map(part).collect()
}
