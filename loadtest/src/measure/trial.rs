//! One trial: a sink, a server in front of it, the sender; what the server used is read from the kernel.
//!
//! Sink and sender are processes of their own (this same program), so that nothing of theirs is billed to the server.
//! How it fails: each process that does not come up or says nothing sensible is an error by name.

use super::peer::{Missing, Mode, Peer, Server, Setting, signal, start};
use crate::proc;
use crate::report::SendReport;
use crate::sink::session::Tally;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// After the sender is done, a server that used no processor time for this long has delivered everything.
const QUIET: Duration = Duration::from_millis(800);
/// Longest wait for that.
const SETTLE_MAX: Duration = Duration::from_secs(180);

/// The work of a measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Work {
    /// Name in tables and on the command line.
    pub name: String,
    /// What stands behind the 250.
    pub spool: bool,
    /// Arguments for the sender.
    pub send: Vec<String>,
    /// Connections that are held, when that is the work.
    pub hold: Option<u64>,
}

/// What one trial found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// The server.
    pub peer: String,
    /// The sender's own report.
    pub send: SendReport,
    /// What the sink counted.
    pub sink: Tally,
    /// Processor time of the server's whole process tree, from before the first message until all was delivered.
    pub server_cpu_s: f64,
    /// The same per accepted message (per refused session in a test of refusals), in microseconds.
    pub server_cpu_us_per_message: f64,
    /// How long after the last reply the server was still busy.
    pub settled_s: f64,
    /// Memory of the server's process tree that came with each held connection, in octets.
    pub memory_octets_per_connection: Option<f64>,
}

/// The sink as a process.
struct Sink {
    child: Child,
    address: SocketAddr,
}

fn this_program() -> Result<Command, String> {
    Ok(Command::new(std::env::current_exe().map_err(|e| e.to_string())?))
}

impl Sink {
    fn start() -> Result<Sink, String> {
        let mut command = this_program()?;
        command.args(["sink", "--listen", "127.0.0.1:0", "--json", "-"]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("sink: {e}"))?;
        let mut line = String::new();
        let Some(mut errors) = child.stderr.take().map(BufReader::new) else { return Err("sink: no stderr".into()) };
        errors.read_line(&mut line).map_err(|e| format!("sink: {e}"))?;
        // Whatever it says later must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::stderr()));
        match line.trim().strip_prefix("listening on ").and_then(|a| a.parse().ok()) {
            Some(address) => Ok(Sink { child, address }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("sink: {}", line.trim()))
            }
        }
    }

    fn finish(mut self) -> Result<Tally, String> {
        signal(self.child.id(), "TERM");
        let mut text = String::new();
        if let Some(out) = &mut self.child.stdout {
            out.read_to_string(&mut text).map_err(|e| format!("sink: {e}"))?;
        }
        let _ = self.child.wait();
        serde_json::from_str(&text).map_err(|e| format!("sink: its counts cannot be read: {e}"))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the sender at `target`.
fn sender(target: SocketAddr, args: &[String]) -> Result<Child, String> {
    let mut command = this_program()?;
    command.arg("send").arg(target.to_string()).args(args).args(["--json", "-"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|e| format!("sender: {e}"))
}

fn report(child: Child) -> Result<SendReport, String> {
    let output = child.wait_with_output().map_err(|e| format!("sender: {e}"))?;
    serde_json::from_slice(&output.stdout).map_err(|e| format!("sender: its report cannot be read: {e}"))
}

/// Waits until the server has been quiet; returns its processor time and how long it was still busy.
fn settle(pid: u32) -> (Duration, Duration) {
    let began = Instant::now();
    let mut cpu = proc::tree_cpu(pid);
    let mut changed = began;
    while began.elapsed() < SETTLE_MAX && changed.elapsed() < QUIET {
        std::thread::sleep(Duration::from_millis(50));
        let now = proc::tree_cpu(pid);
        // One tick is what an idle server's timers cost.
        if now > cpu + Duration::from_millis(10) {
            (cpu, changed) = (now, Instant::now());
        }
    }
    (proc::tree_cpu(pid), changed - began)
}

/// Runs `work` through `peer` once.
pub fn run(peer: Peer, work: &Work, setting: &Setting) -> Result<Trial, Missing> {
    let failed = Missing::Failed;
    let sink = Sink::start().map_err(failed)?;
    let mode = if work.spool { Mode::Spool } else { Mode::CutThrough };
    let server = start(peer, mode, sink.address, setting)?;
    let trial = match work.hold {
        Some(connections) => hold(&server, work, connections).map_err(failed),
        None => load(&server, work).map_err(failed),
    };
    server.stop();
    let tally = sink.finish().map_err(failed)?;
    trial.map(|t| Trial { peer: peer.name().into(), sink: tally, ..t })
}

fn load(server: &Server, work: &Work) -> Result<Trial, String> {
    // The first messages wake a server up (Postfix starts its processes): not measured.
    let warm_up: Vec<String> = work.send.iter().cloned().chain(["-m", "50", "-s", "5"].map(str::to_owned)).collect();
    report(sender(server.address, &without_end(&warm_up))?)?;
    let before = server.pid.map(settle).map_or(Duration::ZERO, |(cpu, _)| cpu);
    let send = report(sender(server.address, &work.send)?)?;
    let (after, settled) = server.pid.map_or((Duration::ZERO, Duration::ZERO), settle);
    let cpu = after.saturating_sub(before).as_secs_f64();
    Ok(Trial {
        peer: String::new(),
        sink: Tally::default(),
        server_cpu_s: cpu,
        server_cpu_us_per_message: if send.messages > 0 { cpu * 1e6 / send.messages as f64 } else { 0.0 },
        settled_s: settled.as_secs_f64(),
        memory_octets_per_connection: None,
        send,
    })
}

/// The last of several `-m` and `-s` counts; clap refuses repeats, so earlier ones are left out.
fn without_end(args: &[String]) -> Vec<String> {
    let last = |flag: &str| args.iter().rposition(|a| a == flag);
    let keep = [last("-m"), last("-s")];
    let mut kept = Vec::with_capacity(args.len());
    let mut at = 0;
    while at < args.len() {
        let ends = args[at] == "-m" || args[at] == "-s";
        if ends && !keep.contains(&Some(at)) {
            at += 2;
            continue;
        }
        kept.push(args[at].clone());
        at += 1;
    }
    kept
}

fn hold(server: &Server, work: &Work, connections: u64) -> Result<Trial, String> {
    let pid = server.pid.ok_or("a held connection needs a server")?;
    let (_, _) = settle(pid);
    let (before, cpu_before) = (proc::tree_memory_octets(pid), proc::tree_cpu(pid));
    let child = sender(server.address, &work.send)?;
    // Looked at while all are up: the highest of several readings, since they come up one after the other.
    let mut highest = before;
    let mut child = child;
    while child.try_wait().map_err(|e| e.to_string())?.is_none() {
        highest = highest.max(proc::tree_memory_octets(pid));
        std::thread::sleep(Duration::from_millis(300));
    }
    let send = report(child)?;
    if send.held_max < connections {
        return Err(format!("only {} of {connections} connections came up: {:?}", send.held_max, send.errors));
    }
    Ok(Trial {
        peer: String::new(),
        sink: Tally::default(),
        server_cpu_s: proc::tree_cpu(pid).saturating_sub(cpu_before).as_secs_f64(),
        server_cpu_us_per_message: 0.0,
        settled_s: 0.0,
        memory_octets_per_connection: Some(highest.saturating_sub(before) as f64 / send.held_max as f64),
        send,
    })
}

/// System calls per message of the server's whole tree, counted by strace in a run of its own (they cost far more
/// than they do untraced, so nothing else of such a run is used).
pub fn syscalls_per_message(peer: Peer, work: &Work, setting: &Setting, messages: u64) -> Result<f64, Missing> {
    let failed = Missing::Failed;
    let sink = Sink::start().map_err(failed)?;
    let mode = if work.spool { Mode::Spool } else { Mode::CutThrough };
    let server = start(peer, mode, sink.address, setting)?;
    let Some(pid) = server.pid else { return Err(Missing::Skipped("no server to trace".into())) };
    let ends = ["-m".to_owned(), messages.to_string(), "-s".to_owned(), "120".to_owned()];
    let args: Vec<String> = without_end(&work.send.iter().cloned().chain(ends).collect::<Vec<_>>());
    report(sender(server.address, &args).map_err(failed)?).map_err(failed)?;
    settle(pid);
    let summary = setting.scratch.join(format!("strace-{pid}"));
    let mut strace = Command::new("strace");
    strace.args(["-c", "-f", "-o"]).arg(&summary);
    proc::tree(pid).iter().for_each(|p| {
        strace.arg("-p").arg(p.to_string());
    });
    let mut strace = strace
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|_| Missing::Skipped("strace not found".into()))?;
    std::thread::sleep(Duration::from_millis(500));
    let sent = report(sender(server.address, &args).map_err(failed)?);
    settle(pid);
    signal(strace.id(), "INT");
    let _ = strace.wait();
    server.stop();
    let sent = sent.map_err(failed)?;
    let text = std::fs::read_to_string(&summary).map_err(|e| Missing::Failed(format!("strace: {e}")))?;
    let calls =
        total_calls(&text).ok_or_else(|| Missing::Failed("strace counted nothing (is tracing allowed?)".into()))?;
    if sent.messages == 0 {
        return Err(Missing::Failed("no message went through while traced".into()));
    }
    Ok(calls as f64 / sent.messages as f64)
}

/// Calls in the last line of `strace -c`.
fn total_calls(summary: &str) -> Option<u64> {
    let line = summary.lines().rev().find(|l| l.trim_end().ends_with(" total"))?;
    // "100.00  0.123456  3  12345  [errors] total"
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_count_ends_the_run() {
        let args: Vec<String> = "-c 5 -s 10 --size 3 -m 50 -s 5".split(' ').map(str::to_owned).collect();
        assert_eq!(without_end(&args).join(" "), "-c 5 --size 3 -m 50 -s 5");
    }

    #[test]
    fn straces_summary_is_read() {
        let text = "% time     seconds  usecs/call     calls    errors syscall\n------ ----------- ----------- --------- --------- ----------------\n 70.00    0.002000           2      1000        12 epoll_wait\n------ ----------- ----------- --------- --------- ----------------\n100.00    0.003000           2      1500        12 total\n";
        assert_eq!(total_calls(text), Some(1500));
        assert_eq!(total_calls("nothing"), None);
    }
}
