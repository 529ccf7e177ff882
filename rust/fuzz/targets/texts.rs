//! Any text, encoded in every way there is.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| subgpt_checks::encoding::texts(data));
