//! Any bytes as the weights of a model in a GGUF file.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| subgpt_checks::loading::gguf_model(data));
