//! The target `smtp_server` of `tests/fuzz/targets.rs` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatepost_fuzz::run("smtp_server", data));
