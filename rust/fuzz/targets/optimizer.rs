//! Any bytes as the moments of each optimizer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| subgpt_checks::loading::optimizer(data));
