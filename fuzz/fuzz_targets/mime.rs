//! The target `mime` of `tests/fuzz/targets.rs` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatepost_fuzz::run("mime", data));
