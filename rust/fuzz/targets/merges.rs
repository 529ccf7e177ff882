//! Any merges, and text that they apply to.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| subgpt_checks::encoding::merges(data));
