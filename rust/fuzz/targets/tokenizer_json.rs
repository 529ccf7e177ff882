//! Any bytes as a `tokenizer.json`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| subgpt_checks::files::tokenizer_json(data));
