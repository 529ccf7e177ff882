//! Any bytes as a file: a tokenizer that works, or an error. To add a reader is to add a function of one line here, one
//! target in `rust/fuzz/targets` and one line in `tests.rs`.

use crate::reference::Rule;
use crate::subject::Subject;
use std::path::Path;
use subgpt_core::tokenizer::Tokenizer;
use subgpt_core::tokenizer::files::{self, Format};

/// Texts that a tokenizer from a file has to cope with.
const TEXTS: &[&str] =
    &["", "the cat's hat", "a\u{0}b<|endoftext|>\r\n  12345", "naïve 中文 👨‍👩‍👧 ſ", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"];

/// As a `tokenizer.json`.
pub fn tokenizer_json(data: &[u8]) {
    reader(&[("tokenizer.json", data)], None, Rule::Listed);
}

/// As tiktoken's ranks.
pub fn tiktoken(data: &[u8]) {
    reader(&[("ranks.tiktoken", data)], Some("gpt4"), Rule::Ranked);
}

/// As `vocab.json` and `merges.txt`, with a zero byte between them.
pub fn vocab_merges(data: &[u8]) {
    let (vocab, merges) = halves(data);
    reader(&[("vocab.json", vocab), ("merges.txt", merges)], None, Rule::Listed);
}

/// As a model of SentencePiece.
pub fn sentencepiece(data: &[u8]) {
    reader(&[("tokenizer.model", data)], None, Rule::Ranked);
}

/// As a tokenizer of llama2.c.
pub fn llama2c(data: &[u8]) {
    reader(&[("tokenizer.bin", data)], None, Rule::Ranked);
}

/// Files of these names and contents, of which the first is loaded.
fn reader(contents: &[(&str, &[u8])], pattern: Option<&str>, rule: Rule) {
    let Some(tokenizer) = with_file(contents, |path| match files::load(path, pattern, None) {
        Ok(tokenizer) => Some(tokenizer),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }) else {
        return;
    };
    let subject = Subject::new(tokenizer, rule);
    let size = u32::try_from(subject.tokenizer.vocab_size()).expect("ids are 32 bits");
    subject.numbers(&[0, size.saturating_sub(1)]);
    subject.numbers(&[0, size]);
    TEXTS.iter().for_each(|text| subject.text(text));
    saved(&subject.tokenizer);
}

/// What can be saved loads again, as the same.
fn saved(tokenizer: &Tokenizer) {
    for format in [Format::TokenizerJson, Format::Tiktoken, Format::VocabMerges] {
        with_file(&[], |folder| {
            if files::save(tokenizer, folder, format).is_err() {
                assert!(format != Format::TokenizerJson, "this format holds everything");
                return;
            }
            let bare = format != Format::TokenizerJson;
            let given = || tokenizer.special_tokens().iter().map(|(name, id)| (name.clone(), Some(*id))).collect();
            let pattern = tokenizer.pattern().filter(|_| bare);
            if bare && pattern.is_none() {
                return;
            }
            let again = files::load(folder, pattern, bare.then(given)).expect("what was saved loads");
            if !bare {
                assert_eq!(again.fingerprint(), tokenizer.fingerprint());
            }
            for text in TEXTS {
                let ids = |tokenizer: &Tokenizer| tokenizer.encode_ordinary(text).ok();
                assert_eq!(ids(&again), ids(tokenizer), "other ids after saving as {format:?}");
            }
        });
    }
}

/// What is before and after the first zero byte.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    (&data[..end], data.get(end + 1..).unwrap_or_default())
}

/// Calls `use_it` with the first of these files, or with the empty folder that they would be in.
pub fn with_file<T>(contents: &[(&str, &[u8])], use_it: impl FnOnce(&Path) -> T) -> T {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    for (name, content) in contents {
        std::fs::write(folder.path().join(name), content).expect("the temporary directory has room");
    }
    let first = contents.first().map_or(folder.path().to_path_buf(), |(name, _)| folder.path().join(name));
    use_it(&first)
}
