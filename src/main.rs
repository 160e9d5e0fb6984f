//! The `gatepost` binary: hands over to `control`.

fn main() {}
