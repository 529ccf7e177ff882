//! Any bytes as a tokenizer of llama2.c.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| subgpt_checks::files::llama2c(data));
