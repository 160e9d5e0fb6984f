//! System calls of a server, counted by strace in a run of its own: they cost far more than they do untraced, so nothing else
//! of such a run is used. What makes data durable is counted apart: it shows that servers promise the same.
//!
//! How it fails: without strace, or where tracing is not allowed, the counts are missing and the result says so.

use super::peer::{Missing, Server, signal};
use crate::proc;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Calls after which data is on the disk. (What a program syncs through io_uring strace cannot see; nothing here does.)
const SYNCS: [&str; 6] = ["fsync", "fdatasync", "sync_file_range", "msync", "syncfs", "sync"];

/// System calls of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calls {
    /// All of them.
    pub all: u64,
    /// Those that wait for the disk.
    pub syncs: u64,
}

/// strace, attached to a server.
pub(super) struct Trace {
    strace: Child,
    summary: PathBuf,
}

impl Trace {
    /// Attaches to everything the server is.
    pub fn of(server: &Server, scratch: &Path) -> Result<Trace, Missing> {
        let Some(pid) = server.pid else { return Err(Missing::Skipped("no server to trace".into())) };
        let summary = scratch.join(format!("strace-{pid}"));
        let mut strace = Command::new("strace");
        strace.args(["-c", "-f", "-o"]).arg(&summary);
        // The holder is ours, not the server's.
        for traced in proc::tree(pid).into_iter().filter(|p| *p != pid) {
            strace.arg("-p").arg(traced.to_string());
        }
        let strace = strace
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|_| Missing::Skipped("strace not found".into()))?;
        // Until it is attached to all of them.
        std::thread::sleep(Duration::from_millis(500));
        Ok(Trace { strace, summary })
    }

    /// Detaches; what was counted.
    pub fn finish(mut self) -> Result<Calls, Missing> {
        signal(self.strace.id(), Signal::INT);
        let asked = Instant::now();
        while matches!(self.strace.try_wait(), Ok(None)) && asked.elapsed() < super::peer::PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.strace.kill();
        let _ = self.strace.wait();
        let text = std::fs::read_to_string(&self.summary).map_err(|e| Missing::Failed(format!("strace: {e}")))?;
        parse(&text).ok_or_else(|| Missing::Failed("strace counted nothing (is tracing allowed?)".into()))
    }
}

/// The table of `strace -c`: share, seconds, microseconds, calls, [errors,] name; the last line is the total.
fn parse(summary: &str) -> Option<Calls> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        Some((fields.last()?.to_string(), fields.get(3)?.parse::<u64>().ok()?))
    };
    let rows: Vec<(String, u64)> = summary.lines().filter_map(row).collect();
    let (_, all) = rows.iter().rev().find(|(name, _)| name == "total")?;
    let syncs = rows.iter().filter(|(name, _)| SYNCS.contains(&name.as_str())).map(|(_, n)| n).sum();
    Some(Calls { all: *all, syncs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn straces_summary_is_read() {
        let text = "% time     seconds  usecs/call     calls    errors syscall\n------ ----------- ----------- --------- --------- ----------------\n 70.00    0.002000           2      1000        12 epoll_wait\n 20.00    0.001000           2       100           fdatasync\n 10.00    0.001000           2        11         1 fsync\n------ ----------- ----------- --------- --------- ----------------\n100.00    0.003000           2      1511        13 total\n";
        assert_eq!(parse(text), Some(Calls { all: 1511, syncs: 111 }));
        assert_eq!(parse("nothing"), None);
    }
}
