//! `gatepost policy shadow`: a second policy beside the one that serves, on live traffic.
//!
//! How it fails: no server that runs, or a file with errors: what the server said, exit code 1.

use crate::control::admin::AdminClient;
use crate::control::cli::{DataArgs, Failure, print};
use crate::gateway::admin::{Request, Response, ShadowStatus};
use clap::Args;
use std::fmt::Write;
use std::path::PathBuf;

/// What to do with the shadow policy.
#[derive(Debug, Args)]
pub struct ShadowArgs {
    /// Policy file to begin with; without it: what the one that runs has said so far
    #[arg(value_name = "FILE", conflicts_with = "stop")]
    file: Option<PathBuf>,
    /// End it
    #[arg(long)]
    stop: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// Runs the command.
pub fn run(args: &ShadowArgs) -> Result<(), Failure> {
    let request = match &args.file {
        Some(file) => {
            let file = std::path::absolute(file).map_err(|e| Failure::new(format!("{}: {e}", file.display())))?;
            Request::ShadowStart { file }
        }
        None if args.stop => Request::ShadowStop {},
        None => Request::ShadowStatus {},
    };
    let settings = args.data.load()?.config.settings;
    let client = AdminClient::connect(&settings.server.data).map_err(|e| Failure::new(e.to_string()))?;
    let Some(mut client) = client else {
        return Err(Failure::new(
            "no server runs on this data directory; start it first, or set policy.shadow in gatepost.toml",
        ));
    };
    match client.call(&request).map_err(|e| Failure::new(e.to_string()))? {
        Response::Shadow(status) if args.json => {
            let text = serde_json::to_string(&status).map_err(|e| Failure::new(e.to_string()))?;
            print(&format!("{text}\n"))
        }
        Response::Shadow(Some(status)) => print(&show(&status, args.stop)),
        Response::Shadow(None) => print("no shadow policy runs\n"),
        Response::Failed { message, .. } => Err(Failure::new(message)),
        other => Err(Failure::new(format!("the server answered something else: {other:?}"))),
    }
}

fn show(status: &ShadowStatus, ended: bool) -> String {
    let mut out =
        format!("{} {} ({})\n", if ended { "ended:" } else { "beside the policy:" }, status.file, status.version);
    for (what, count) in [
        ("decisions compared", status.decisions),
        ("would refuse what passes", status.tightened),
        ("would let pass what is refused", status.loosened),
        ("would refuse otherwise", status.other_refusal),
        ("differ in detail", status.other_detail),
        ("undecided: a fact was not found out", status.undecided),
        ("not reached by its word", status.not_reached),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{count:>12}  {what}");
    }
    out
}
