//! The target `imap_commands` of `tests/fuzz/targets.rs` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatepost_fuzz::run("imap_commands", data));
