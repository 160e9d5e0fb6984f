//! The `gatepost-load` binary.

fn main() {}
