//! Any bytes as a text file and as settings in JSON.

use crate::files::with_file;
use std::path::Path;
use subgpt_core::Error;
use subgpt_core::model::Gpt;
use subgpt_core::model::adapter::spec::Spec;
use subgpt_core::model::config::Config;
use subgpt_core::optim::Config as Rule;
use subgpt_core::tokenizer::corpus::{Blocks, OnInvalid};

/// Models with more numbers than this are not made.
const LARGEST: usize = 1 << 16;

/// As a text: read block by block it is what the standard library makes of it at once.
pub fn corpus(data: &[u8]) {
    with_file(&[("corpus.txt", data)], |path| {
        let bare = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
        let replaced = text(path, OnInvalid::Replace).expect("nothing is refused");
        assert_eq!(replaced, String::from_utf8_lossy(bare));
        match text(path, OnInvalid::Strict) {
            Ok(text) => assert_eq!(text.as_bytes(), bare),
            Err(Error::Data { .. }) => assert!(std::str::from_utf8(bare).is_err()),
            Err(other) => panic!("refused with another error: {other}"),
        }
    });
}

fn text(path: &Path, on_invalid: OnInvalid) -> Result<String, Error> {
    let mut blocks = Blocks::open(path, on_invalid)?;
    let mut text = String::new();
    // Whatever can be given, up to the last space.
    while let Some(part) = blocks.next(|text, _| text.rfind(' ').map_or(0, |at| at + 1))? {
        text.push_str(part);
    }
    Ok(text)
}

/// As the settings of a model, of an optimizer and of an adapter: what is taken is written and taken again.
pub fn settings(data: &[u8]) {
    let Ok(json) = std::str::from_utf8(data) else { return };
    if let Some(config) = fitting(Config::from_json(json)) {
        Config::from_json(&config.to_json()).expect("what was written is read");
        small_model(config);
    }
    if let Some(rule) = fitting(Rule::from_json(json)) {
        Rule::from_json(&rule.to_json()).expect("what was written is read");
    }
    fitting(Spec::from_json(json));
}

/// Makes the model that is asked for, where it is small.
fn small_model(config: Config) {
    let width = [config.n_embd, config.vocab_size, config.block_size, config.inner(), config.qkv_width()];
    let largest = width.into_iter().max().unwrap_or(0);
    let numbers = largest.checked_mul(config.n_embd).and_then(|n| n.checked_mul(8 * config.n_layer.min(1 << 20)));
    if numbers.is_some_and(|n| n <= LARGEST) {
        let size = config.vocab_size;
        let model = Gpt::new(config, 1).expect("checked settings of a small model");
        let logits = model.last_logits(&mut subgpt_core::model::arena::Arena::new(), &[0]).expect("one token");
        assert_eq!(logits.len(), size);
    }
}

/// What was read; refusals must name the field.
fn fitting<T>(read: Result<T, Error>) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(Error::Config { .. } | Error::Value { .. } | Error::Shape { .. }) => None,
        Err(other) => panic!("refused with another error: {other}"),
    }
}
