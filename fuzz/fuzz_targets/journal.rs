//! The target `journal` of `tests/fuzz/targets.rs` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatepost_fuzz::run("journal", data));
