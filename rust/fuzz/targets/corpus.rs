//! Any bytes as a text file.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| subgpt_checks::reading::corpus(data));
