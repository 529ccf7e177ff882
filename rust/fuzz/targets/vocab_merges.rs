//! Any bytes as `vocab.json` and `merges.txt`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| subgpt_checks::files::vocab_merges(data));
