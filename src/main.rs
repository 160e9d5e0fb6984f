//! The `gatepost` binary: hands over to `control`.

use gatepost::control::serve::Gateway;
use gatepost::gateway;
use std::process::ExitCode;

fn main() -> ExitCode {
    gatepost::control::cli::run(Gateway { check: gateway::check, run: gateway::run })
}
