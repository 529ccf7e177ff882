//! The checks on drawn bytes: the seeds of fuzzing with changes, and texts on the borders of the split patterns.

use crate::{encoding, files, loading, reading, weights};
use proptest::prelude::*;
use std::path::PathBuf;
use std::sync::LazyLock;
use subgpt_testkit::texts::BORDERS;

/// The seeds of a fuzz target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// One change of bytes: at a place (of 65536), something is put in the place of some.
type Change = (u16, u8, Vec<u8>);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let bytes = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..4),
        2 => prop::sample::select(vec!["", "0", "-1", "4294967296", "\"", "\\u0000", "null", "[", "}", ",", "\n", " ", "Ġ", "="])
            .prop_map(|text| text.as_bytes().to_vec()),
        // Counts and lengths of binary files.
        1 => prop::sample::select(vec![0, 1, 8, 1 << 31, 1 << 32, 1 << 62, 1 << 63, u64::MAX])
            .prop_map(|n: u64| n.to_le_bytes().to_vec()),
    ];
    prop::collection::vec((any::<u16>(), 0u8..9, bytes), 0..5)
}

/// A seed with changes, or bytes of no origin.
fn changed(seeds: &'static [Vec<u8>]) -> impl Strategy<Value = Vec<u8>> {
    let from_seed = (prop::sample::select(seeds), changes()).prop_map(|(mut data, changes)| {
        for (place, taken, put) in changes {
            let start = usize::from(place) * data.len() / 65536;
            let end = (start + usize::from(taken)).min(data.len());
            data.splice(start..end, put);
        }
        data
    });
    prop_oneof![9 => from_seed, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

/// Pieces of text on the borders of what patterns tell apart, and special tokens.
fn border_text() -> impl Strategy<Value = String> {
    let atoms = BORDERS
        .iter()
        .chain(&[
            "12345",
            "   ",
            "👨‍👩‍👧",
            "hello",
            " World",
            "<|end|>",
            "<|endoftext|>",
            "<|endof",
            "<|end|><|end|>",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ])
        .copied()
        .collect::<Vec<_>>();
    let atoms = prop::sample::select(atoms).prop_map(str::to_string);
    let any = any::<char>().prop_map(|c| c.to_string());
    prop::collection::vec(prop_oneof![6 => atoms, 1 => any], 0..40).prop_map(|parts| parts.concat())
}

/// A test of a check on the changed seeds of its fuzz target.
macro_rules! on_changed_seeds {
    ($($name:ident: $check:path, $cases:literal;)*) => {$(
        #[test]
        fn $name() {
            static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| seeds(stringify!($name)));
            SEEDS.iter().for_each(|seed| $check(seed));
            proptest!(ProptestConfig::with_cases($cases), |(data in changed(&SEEDS))| $check(&data));
        }
    )*};
}

on_changed_seeds! {
    tokenizer_json: files::tokenizer_json, 100;
    tiktoken: files::tiktoken, 60;
    vocab_merges: files::vocab_merges, 80;
    sentencepiece: files::sentencepiece, 80;
    llama2c: files::llama2c, 80;
    gguf: weights::gguf, 150;
    safetensors: weights::safetensors, 150;
    model: loading::model, 150;
    gguf_model: loading::gguf_model, 150;
    adapter: loading::adapter, 150;
    optimizer: loading::optimizer, 100;
    corpus: reading::corpus, 200;
    settings: reading::settings, 300;
    texts: encoding::texts, 100;
    merges: encoding::merges, 60;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn texts_on_the_borders(which in any::<u8>(), text in border_text()) {
        encoding::texts(&[&[which, 0], text.as_bytes()].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn long_texts(which in any::<u8>(), text in border_text()) {
        encoding::texts(&[&[which, 255], text.as_bytes()].concat());
    }
}
