//! One trial: a sink, a server in front of it, the sender; what the server used is read from the kernel, and what it lost
//! from the ledgers of both.
//!
//! Sink and sender are processes of their own (this same program), so that nothing of theirs is billed to the server.
//! How it fails: each process that does not come up or says nothing sensible is an error by name.

use super::peer::{Missing, Peer, Server, Setting, signal, start};
use super::trace::{Calls, Trace};
use super::work::Work;
use crate::ledger;
use crate::proc;
use crate::report::SendReport;
use crate::sink::session::Tally;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// After the sender is done, a server that used no processor time for this long has delivered everything.
const QUIET: Duration = Duration::from_millis(600);
/// Longest wait for that.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// How often memory is looked at: often enough for a peak, seldom enough to cost little.
const MEMORY_LOOK: Duration = Duration::from_millis(200);
/// Messages that wake a server up (Postfix starts its processes), which are not measured.
const WARM_UP: [&str; 4] = ["-m", "50", "-s", "5"];

/// What one trial found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// The server.
    pub peer: String,
    /// The sender's own report.
    pub send: SendReport,
    /// What the sink counted.
    pub sink: Tally,
    /// Processor time of everything the server is, from before the first message until all was delivered.
    pub server_cpu_s: f64,
    /// The same per accepted message (per refused session in a test of refusals), in microseconds.
    pub server_cpu_us_per_message: f64,
    /// How that was counted: `perf stat`, or `/proc` (without children that nobody waits for).
    #[serde(default)]
    pub counted_by: String,
    /// Times a processor was given to somebody else, per message; with perf only.
    #[serde(default)]
    pub context_switches_per_message: Option<f64>,
    /// Highest memory (PSS of all processes), in octets.
    #[serde(default)]
    pub memory_octets_peak: u64,
    /// How long after the last reply the server was still busy.
    pub settled_s: f64,
    /// Recipients that were accepted and did not arrive in that time.
    #[serde(default)]
    pub lost: u64,
    /// Recipients that arrived more often than they were accepted.
    #[serde(default)]
    pub duplicated: u64,
    /// Messages that arrived with another body.
    #[serde(default)]
    pub corrupted: u64,
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
    fn start(seen: Option<&Path>) -> Result<Sink, String> {
        let mut command = this_program()?;
        command.args(["sink", "--listen", "127.0.0.1:0", "--json", "-"]);
        if let Some(seen) = seen {
            command.arg("--ledger").arg(seen);
        }
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
        signal(self.child.id(), Signal::TERM);
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
fn sender(target: SocketAddr, args: &[String], sent: Option<&Path>) -> Result<Child, String> {
    let mut command = this_program()?;
    command.arg("send").arg(target.to_string()).args(args).args(["--json", "-"]);
    if let Some(sent) = sent {
        command.arg("--ledger").arg(sent);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|e| format!("sender: {e}"))
}

fn report(child: Child) -> Result<SendReport, String> {
    let output = child.wait_with_output().map_err(|e| format!("sender: {e}"))?;
    serde_json::from_slice(&output.stdout).map_err(|e| format!("sender: its report cannot be read: {e}"))
}

/// The ledgers of a trial.
struct Ledgers {
    sent: [PathBuf; 2],
    seen: PathBuf,
}

impl Ledgers {
    fn of(setting: &Setting) -> Ledgers {
        let at = |name: &str| setting.scratch.join(name);
        Ledgers { sent: [at("sent-warm-up"), at("sent")], seen: at("seen") }
    }

    /// Lines of the sink's: messages that have arrived.
    fn arrived(&self) -> u64 {
        let text = std::fs::read(&self.seen).unwrap_or_default();
        memchr::memchr_iter(b'\n', &text).count() as u64
    }
}

/// Waits until the server has been quiet and, if `wanted` says so, everything has arrived; how long it was still busy.
fn settle(pid: u32, arrived: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    let mut cpu = proc::tree_cpu(pid);
    let mut changed = began;
    while began.elapsed() < SETTLE_MAX && (changed.elapsed() < QUIET || !arrived()) {
        std::thread::sleep(Duration::from_millis(50));
        let now = proc::tree_cpu(pid);
        // One tick is what an idle server's timers cost.
        if now > cpu + Duration::from_millis(10) {
            (cpu, changed) = (now, Instant::now());
        }
    }
    changed - began
}

/// Looks at a tree's memory now and then; the highest value.
struct Peak {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl Peak {
    fn watch(pid: u32) -> Peak {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut highest = 0;
            while !stopped.load(Ordering::Relaxed) {
                highest = highest.max(proc::tree_memory_octets(pid));
                std::thread::sleep(MEMORY_LOOK);
            }
            highest
        });
        Peak { stop, thread }
    }

    fn highest(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

/// Runs `work` through `peer` once.
pub fn run(peer: Peer, work: &Work, setting: &Setting) -> Result<Trial, Missing> {
    let failed = Missing::Failed;
    let ledgers = Ledgers::of(setting);
    // What is refused or held has nothing to lose.
    let kept = work.hold.is_none() && work.name != "reject";
    let sink = Sink::start(kept.then_some(ledgers.seen.as_path())).map_err(failed)?;
    let mut server = start(peer, work.mode(), sink.address, setting)?;
    let trial = match work.hold {
        Some(connections) => hold(&mut server, work, connections).map_err(failed),
        None => load(&mut server, work, kept.then_some(&ledgers)).map_err(failed),
    };
    server.end();
    let tally = sink.finish().map_err(failed)?;
    let mut trial = Trial { peer: peer.name().into(), sink: tally, ..trial? };
    if kept {
        let account = ledger::join(&ledgers.sent, &[&ledgers.seen]).map_err(|e| failed(e.to_string()))?;
        (trial.lost, trial.duplicated, trial.corrupted) =
            (account.lost, account.duplicated, account.corrupted_messages);
    }
    Ok(trial)
}

fn load(server: &mut Server, work: &Work, ledgers: Option<&Ledgers>) -> Result<Trial, String> {
    let warm_up: Vec<String> = work.send.iter().cloned().chain(WARM_UP.map(str::to_owned)).collect();
    let warm = report(sender(server.address, &without_end(&warm_up), ledgers.map(|l| l.sent[0].as_path()))?)?;
    let Some(pid) = server.pid else {
        let send = report(sender(server.address, &work.send, ledgers.map(|l| l.sent[1].as_path()))?)?;
        return Ok(Trial { peer: String::new(), send, ..Trial::nothing() });
    };
    settle(pid, || ledgers.is_none_or(|l| l.arrived() >= warm.messages));
    let begun = server.counter.begin(pid);
    let peak = Peak::watch(pid);
    let send = report(sender(server.address, &work.send, ledgers.map(|l| l.sent[1].as_path()))?)?;
    let settled = settle(pid, || ledgers.is_none_or(|l| l.arrived() >= warm.messages + send.messages));
    let cost = server.counter.end(pid, begun);
    let memory_octets_peak = peak.highest();
    // perf writes what it counted when the server has ended.
    server.end();
    let (cost, counted_by) = server.counter.read(cost);
    let each = |n: f64| if send.messages > 0 { n / send.messages as f64 } else { 0.0 };
    Ok(Trial {
        server_cpu_s: cost.cpu.as_secs_f64(),
        server_cpu_us_per_message: each(cost.cpu.as_secs_f64() * 1e6),
        counted_by: counted_by.into(),
        context_switches_per_message: cost.context_switches.map(|n| each(n as f64)),
        memory_octets_peak,
        settled_s: settled.as_secs_f64(),
        send,
        ..Trial::nothing()
    })
}

impl Trial {
    fn nothing() -> Trial {
        Trial {
            peer: String::new(),
            send: SendReport::default(),
            sink: Tally::default(),
            server_cpu_s: 0.0,
            server_cpu_us_per_message: 0.0,
            counted_by: String::new(),
            context_switches_per_message: None,
            memory_octets_peak: 0,
            settled_s: 0.0,
            lost: 0,
            duplicated: 0,
            corrupted: 0,
            memory_octets_per_connection: None,
        }
    }
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

fn hold(server: &mut Server, work: &Work, connections: u64) -> Result<Trial, String> {
    let pid = server.pid.ok_or("a held connection needs a server")?;
    settle(pid, || true);
    let (before, cpu_before) = (proc::tree_memory_octets(pid), proc::tree_cpu(pid));
    let child = sender(server.address, &work.send, None)?;
    // Looked at while all are up: the highest of several readings, since they come up one after the other.
    let peak = Peak::watch(pid);
    let send = report(child)?;
    let highest = peak.highest().max(before);
    if send.held_max < connections {
        return Err(format!("only {} of {connections} connections came up: {:?}", send.held_max, send.errors));
    }
    Ok(Trial {
        server_cpu_s: proc::tree_cpu(pid).saturating_sub(cpu_before).as_secs_f64(),
        counted_by: "/proc".into(),
        memory_octets_peak: highest,
        memory_octets_per_connection: Some((highest - before) as f64 / send.held_max as f64),
        send,
        ..Trial::nothing()
    })
}

/// System calls per message of everything the server is, and those that wait for the disk.
pub fn calls_per_message(peer: Peer, work: &Work, setting: &Setting, messages: u64) -> Result<(f64, f64), Missing> {
    let failed = Missing::Failed;
    let ledgers = Ledgers::of(setting);
    let kept = work.name != "reject";
    let sink = Sink::start(kept.then_some(ledgers.seen.as_path())).map_err(failed)?;
    let unwatched = Setting { perf: false, ..setting.clone() };
    let server = start(peer, work.mode(), sink.address, &unwatched)?;
    let Some(pid) = server.pid else { return Err(Missing::Skipped("no server to trace".into())) };
    let with_ends = |ends: &[&str]| {
        without_end(&work.send.iter().cloned().chain(ends.iter().map(|w| (*w).to_owned())).collect::<Vec<_>>())
    };
    let warm = report(sender(server.address, &with_ends(&WARM_UP), None).map_err(failed)?).map_err(failed)?;
    settle(pid, || !kept || ledgers.arrived() >= warm.messages);
    let trace = Trace::of(&server, &setting.scratch)?;
    // Traced, some servers do a few messages a second: time ends it as well.
    let ends = ["-m", &messages.to_string(), "-s", "10"];
    let sent = sender(server.address, &with_ends(&ends), None).and_then(report);
    settle(pid, || sent.as_ref().is_err() || !kept || ledgers.arrived() >= warm.messages + messages_of(&sent));
    let Calls { all, syncs } = trace.finish()?;
    match messages_of(&sent) {
        0 => Err(Missing::Failed("no message went through while traced".into())),
        n => Ok((all as f64 / n as f64, syncs as f64 / n as f64)),
    }
}

fn messages_of(sent: &Result<SendReport, String>) -> u64 {
    sent.as_ref().map_or(0, |s| s.messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_count_ends_the_run() {
        let args: Vec<String> = "-c 5 -s 10 --size 3 -m 50 -s 5".split(' ').map(str::to_owned).collect();
        assert_eq!(without_end(&args).join(" "), "-c 5 --size 3 -m 50 -s 5");
    }
}
