//! The fuzz targets of the tests, by name.

#[path = "../../tests/fuzz/targets.rs"]
#[allow(dead_code)]
mod targets;

/// Runs one; a name that is not there is a mistake in `fuzz_targets/`.
pub fn run(name: &str, data: &[u8]) {
    let (_, target, _) = targets::TARGETS.iter().find(|(n, ..)| *n == name).expect("a target of that name");
    target(data);
}
