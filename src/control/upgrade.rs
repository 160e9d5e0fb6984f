//! `gatepost upgrade`: the running server starts the program that now lies in its place and lets it take over.
//!
//! How it fails: one line that says which process serves in the end, and why it is still the old one if it is.

use crate::control::admin::AdminClient;
use crate::control::cli::{DataArgs, Failure, print};
use crate::gateway::admin::{Request, Response, Status};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the old process may take to let its clients finish, and the new one to open its files.
const TAKE_OVER_WAIT: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Asks for it and waits.
pub fn run(data: &DataArgs) -> Result<(), Failure> {
    let data = data.load()?.config.settings.server.data;
    let mut client = connect(&data)?.ok_or_else(|| {
        Failure::new(format!("no server runs on {}; start one with \"gatepost serve\"", data.display()))
    })?;
    let before = status(&mut client)?;
    match client.patient().call(&Request::Upgrade {}).map_err(|e| Failure::new(e.to_string()))? {
        Response::Failed { message, .. } => {
            return Err(Failure::new(format!("process {} goes on: {message}", before.pid)));
        }
        Response::Done => {}
        _ => return Err(Failure::new("the server's answer makes no sense")),
    }
    drop(client);
    let began = Instant::now();
    while began.elapsed() < TAKE_OVER_WAIT {
        // Between the two there is no socket.
        if let Ok(Some(mut client)) = connect(&data)
            && let Ok(now) = status(&mut client)
        {
            if now.pid != before.pid {
                let (new, old, version) = (now.pid, before.pid, &now.version);
                return print(&format!("process {new} (version {version}) has taken over from process {old}\n"));
            }
            if now.uptime_ms < before.uptime_ms {
                let pid = now.pid;
                return Err(Failure::new(format!("process {pid} has taken everything back; its log says why")));
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Err(Failure::new(format!("no process serves {} after {} s", data.display(), TAKE_OVER_WAIT.as_secs())))
}

fn connect(data: &Path) -> Result<Option<AdminClient>, Failure> {
    AdminClient::connect(data).map_err(|e| Failure::new(e.to_string()))
}

fn status(client: &mut AdminClient) -> Result<Status, Failure> {
    match client.call(&Request::Status {}).map_err(|e| Failure::new(e.to_string()))? {
        Response::Status(status) => Ok(status),
        _ => Err(Failure::new("the server's answer makes no sense")),
    }
}
