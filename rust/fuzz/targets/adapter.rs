//! Any bytes as the weights of an adapter.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| subgpt_checks::loading::adapter(data));
