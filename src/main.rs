//! The `gatepost` binary: hands over to `control`.

use std::process::ExitCode;

fn main() -> ExitCode {
    gatepost::control::cli::run(gatepost::gateway::run)
}
