//! Any bytes as the settings of a model, of an optimizer and of an adapter.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| subgpt_checks::reading::settings(data));
