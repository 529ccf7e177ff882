//! Any bytes as a model of SentencePiece.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| subgpt_checks::files::sentencepiece(data));
