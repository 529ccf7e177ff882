//! Weights to files and back, and files that must be refused.

use super::*;
use crate::Error;
use crate::io::safetensors::{Output, write};
use safetensors::tensor::{Dtype, TensorView};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn kinds() -> [Config; 5] {
    let bare = Config { bias: false, ..tiny() };
    let tied = Config { tie_embeddings: true, bias: true, ..modern() };
    [tiny(), bare.clone(), Config { tie_embeddings: false, ..bare }, modern(), tied]
}

/// The model's tensors under changed names, or left out.
fn outputs(model: &Gpt, rename: impl Fn(&str) -> Option<String>) -> Vec<Output<'static>> {
    let tensors = model.layout.tensors.iter();
    tensors
        .filter_map(|tensor| {
            let data = Cow::Owned(model.params[tensor.range.clone()].to_vec());
            Some(Output { name: rename(&tensor.name)?, shape: tensor.shape.clone(), data })
        })
        .collect()
}

fn extra(name: &str, shape: &[usize], value: f32) -> Output<'static> {
    let data = Cow::Owned(vec![value; shape.iter().product()]);
    Output { name: name.into(), shape: shape.to_vec(), data }
}

/// Writes `tensors` and loads them into a fresh model of `config`.
fn load(dir: &Path, config: Config, tensors: &[Output<'_>]) -> Result<Gpt, Error> {
    let path = dir.join("model.safetensors");
    write(&path, tensors, HashMap::new()).unwrap();
    let mut model = Gpt::new(config, 77).unwrap();
    let before = bits(&model.params);
    match model.load(&[path], None, 0) {
        Ok(_) => Ok(model),
        Err(error) => {
            assert_eq!(bits(&model.params), before, "a refused file must change nothing");
            Err(error)
        }
    }
}

fn same(name: &str) -> Option<String> {
    Some(name.to_string())
}

#[test]
fn what_is_saved_is_loaded_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    for config in kinds() {
        let (model, path) = (lively(config.clone()), dir.path().join("m.safetensors"));
        model.save(&path, HashMap::from([("format".to_string(), "pt".to_string())])).unwrap();
        let mut loaded = Gpt::new(config.clone(), 8).unwrap();
        loaded.load(std::slice::from_ref(&path), None, 0).unwrap();
        assert_eq!(bits(&loaded.params), bits(&model.params));
        let names = crate::io::safetensors::Reader::open(&path).unwrap().tensors(|_| true).unwrap();
        if !config.is_gpt2() {
            assert!(names.contains_key("model.layers.1.self_attn.k_proj.weight"));
            assert!(names.contains_key("model.layers.1.self_attn.k_proj.bias") == config.bias);
            continue;
        }
        // GPT-2's format always has biases.
        assert!(names.contains_key("transformer.h.1.attn.c_attn.bias") && names.contains_key("transformer.ln_f.bias"));
    }
}

#[test]
fn a_checkpoint_may_come_in_shards() {
    let dir = tempfile::tempdir().unwrap();
    let model = lively(tiny());
    let mut all = outputs(&model, same);
    let rest = all.split_off(5);
    let paths: Vec<PathBuf> = ["a", "b"].iter().map(|name| dir.path().join(name)).collect();
    write(&paths[0], &all, HashMap::new()).unwrap();
    write(&paths[1], &rest, HashMap::new()).unwrap();
    let mut loaded = Gpt::new(tiny(), 8).unwrap();
    assert!(loaded.load(&paths[..1], None, 0).is_err() && loaded.load(&[], None, 0).is_err());
    loaded.load(&paths, None, 0).unwrap();
    assert_eq!(bits(&loaded.params), bits(&model.params));
    all.extend(rest);
    write(&paths[1], &all, HashMap::new()).unwrap();
    let error = loaded.load(&paths, None, 0).unwrap_err().to_string();
    assert!(error.contains("a second time"), "{error}");
}

#[test]
fn openais_names_masks_and_copied_heads_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    let model = lively(tiny());
    let mut old = outputs(&model, |name| Some(name.trim_start_matches("transformer.").to_string()));
    old.push(extra("h.0.attn.masked_bias", &[], -1e4));
    old.push(extra("model.layers.0.self_attn.rotary_emb.inv_freq", &[2], 1.0));
    let wte = model.params[model.layout.wte.clone()].to_vec();
    old.push(Output { name: "lm_head.weight".into(), shape: vec![11, 6], data: Cow::Owned(wte) });
    assert_eq!(bits(&load(dir.path(), tiny(), &old).unwrap().params), bits(&model.params));
    // A tied model has no head of its own.
    old.last_mut().unwrap().data.to_mut()[3] += 1.0;
    let error = load(dir.path(), tiny(), &old).err().unwrap().to_string();
    assert!(error.contains("lm_head.weight") && error.contains("tie_word_embeddings"), "{error}");
    // Both spellings of one name at once: which is meant?
    old.pop();
    old.push(extra("transformer.ln_f.bias", &[6], 0.0));
    let error = load(dir.path(), tiny(), &old).err().unwrap().to_string();
    assert!(error.contains("transformer.ln_f.bias a second time"), "{error}");
}

#[test]
fn masks_may_be_of_any_dtype_and_weights_may_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.safetensors");
    let model = lively(tiny());
    let outputs = outputs(&model, same);
    let (mask, ints) = ([1u8; 49], [0u8; 6]);
    let put = |extra: Option<(&str, Dtype, Vec<usize>, &[u8])>| {
        let plain = outputs.iter().map(|o| {
            let view = TensorView::new(Dtype::F32, o.shape.clone(), bytemuck::cast_slice(&o.data)).unwrap();
            (o.name.as_str(), view)
        });
        let mut all: HashMap<&str, TensorView<'_>> = plain.collect();
        if let Some((name, dtype, shape, bytes)) = extra {
            all.insert(name, TensorView::new(dtype, shape, bytes).unwrap());
        }
        std::fs::write(&path, safetensors::serialize(all, None).unwrap()).unwrap();
        Gpt::new(tiny(), 1).unwrap().load(std::slice::from_ref(&path), None, 0)
    };
    put(Some(("transformer.h.0.attn.bias", Dtype::BOOL, vec![1, 1, 7, 7], &mask))).unwrap();
    put(Some(("transformer.h.0.attn.bias", Dtype::I8, vec![7, 7], &mask))).unwrap();
    let error = put(Some(("transformer.ln_f.bias", Dtype::U8, vec![6], &ints))).unwrap_err().to_string();
    assert!(error.contains("transformer.ln_f.bias") && error.contains("U8"), "{error}");
}

#[test]
fn biases_that_a_model_has_not_must_be_zero() {
    let dir = tempfile::tempdir().unwrap();
    let bare = Config { bias: false, ..tiny() };
    let model = lively(bare.clone());
    for (value, fits) in [(0.0, true), (0.5, false)] {
        let mut tensors = outputs(&model, same);
        tensors.push(extra("transformer.h.1.mlp.c_fc.bias", &[10], value));
        let loaded = load(dir.path(), bare.clone(), &tensors);
        assert_eq!(loaded.is_ok(), fits, "{:?}", loaded.err());
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let model = lively(tiny());
    let refused = |tensors: Vec<Output<'_>>, words: &[&str]| {
        let error = load(dir.path(), tiny(), &tensors).err().unwrap();
        assert!(matches!(error, Error::Checkpoint { .. }), "{error}");
        words.iter().for_each(|word| assert!(error.to_string().contains(word), "{error}"));
    };
    let wpe = "transformer.wpe.weight";
    refused(outputs(&model, |n| Some(if n == wpe { "wpos" } else { n }.into())), &[wpe, "transformer.wpos"]);
    refused(outputs(&model, |n| (n != wpe).then(|| n.to_string())), &[wpe]);
    let mut tensors = outputs(&model, same);
    tensors.iter_mut().find(|t| t.name == wpe).unwrap().shape = vec![6, 7];
    refused(tensors, &[wpe, "[6, 7]", "[7, 6]"]);
    let mut tensors = outputs(&model, same);
    tensors.push(extra("transformer.h.2.ln_1.weight", &[6], 1.0));
    refused(tensors, &["transformer.h.2.ln_1.weight", "no place"]);
}
