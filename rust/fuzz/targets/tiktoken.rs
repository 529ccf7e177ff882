//! Any bytes as tiktoken's ranks.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| subgpt_checks::files::tiktoken(data));
