//! Any bytes as the weights of a model.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| subgpt_checks::loading::model(data));
