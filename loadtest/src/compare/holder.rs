//! `hold-tree`: runs a server and stays the parent of everything it starts, so that all of it can be billed and ended.
//!
//! Servers fork children that outlive their own parents; without a holder those belong to init, out of sight. The holder is
//! their subreaper (prctl(2)): it inherits them, waits for them (their processor time becomes its own, which /proc shows),
//! and when it is told to end it ends all of them by their ids. It ends with whoever started it.
//!
//! How it fails: a program that does not start is exit code 127 with one line; elsewhere than on Linux it is only a parent.

use crate::compare::peer::{PATIENCE, signal};
use crate::proc;
use clap::Args;
use rustix::process::{Signal, WaitOptions, getpid, set_child_subreaper, set_parent_process_death_signal, wait};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// `hold-tree`
#[derive(Args, Debug)]
pub struct HoldArgs {
    /// The server and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

/// Runs `hold-tree`.
pub(crate) fn run(args: &HoldArgs) -> Result<ExitCode, String> {
    let named = |what: &'static str| move |e: rustix::io::Errno| format!("hold-tree: {what}: {e}");
    set_child_subreaper(Some(getpid())).map_err(named("subreaper"))?;
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(named("death signal"))?;
    let ending = Arc::new(AtomicBool::new(false));
    for caught in [SIGTERM, SIGINT] {
        signal_hook::flag::register(caught, ending.clone()).map_err(|e| format!("hold-tree: {e}"))?;
    }
    let [program, rest @ ..] = args.command.as_slice() else { return Err("hold-tree: no program".into()) };
    let server = match Command::new(program).args(rest).spawn() {
        Ok(child) => child.id(),
        Err(e) => {
            eprintln!("hold-tree: {program}: {e}");
            return Ok(ExitCode::from(127));
        }
    };
    // How often the children are looked after: it costs the server nothing but is billed to it, so not often.
    const LOOK: Duration = Duration::from_millis(20);
    let (mut asked, mut told, mut code) = (None, 0, None);
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if pid.as_raw_nonzero().get().unsigned_abs() == server {
                    code = Some(status.exit_status().unwrap_or(1));
                }
                continue;
            }
            // Nobody is left.
            Err(_) => break,
            Ok(None) => {}
        }
        // What a server leaves behind ends with it.
        let due = ending.load(Ordering::Relaxed) || code.is_some();
        match asked {
            None if due => {
                asked = Some(Instant::now());
                if code.is_none() {
                    signal(server, Signal::TERM);
                }
            }
            Some(since) if told < 2 && since.elapsed() > PATIENCE => {
                told = 2;
                end_all(Signal::KILL);
            }
            // A master ends its workers; those it does not know are asked one by one.
            Some(since) if told < 1 && (code.is_some() || since.elapsed() > PATIENCE / 4) => {
                told = 1;
                end_all(Signal::TERM);
            }
            _ => {}
        }
        std::thread::sleep(LOOK);
    }
    Ok(u8::try_from(code.unwrap_or(0)).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn end_all(how: Signal) {
    let own = std::process::id();
    proc::tree(own).into_iter().filter(|pid| *pid != own).for_each(|pid| signal(pid, how));
}
