//! Any bytes as a safetensors file.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| subgpt_checks::weights::safetensors(data));
