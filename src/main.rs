//! The `gatepost` binary: hands over to `control`.

use gatepost::gateway::config::{Config, Host, StartError};
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    gatepost::control::cli::run(serve)
}

/// The gateway room is not part of this build.
fn serve(_: Config, _: Arc<dyn Host>) -> Result<(), StartError> {
    Err(StartError("this program was built without the gateway".into()))
}
