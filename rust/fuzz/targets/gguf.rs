//! Any bytes as a GGUF file.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| subgpt_checks::weights::gguf(data));
