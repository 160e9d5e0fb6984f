//! Measuring servers side by side: the same sender, the same sink, the same job, in turns A B A B.
//!
//! The one command behind the numbers of the README:
//! `gatepost-load measure --what cut-through,cut-through-kept,spool,reject,idle --json FILE --markdown`.
//!
//! How it fails: a server that is not on this machine is `skipped: …`; a trial that fails is said and left out; nothing
//! measured at all is an error.

pub(crate) mod peer;
mod table;
mod trial;

use crate::{proc, report};
use clap::Args;
use peer::{Missing, Peer, Setting};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use trial::{Trial, Work};

/// `measure`
#[derive(Args, Debug)]
pub struct MeasureArgs {
    /// What to measure, separated by commas: cut-through (a connection per message), cut-through-kept, plain and
    /// plain-kept (one command per round trip, as smtp-source), spool, reject, idle, idle-tls.
    #[arg(long, value_delimiter = ',', default_value = "cut-through,cut-through-kept,spool,reject,idle")]
    what: Vec<String>,
    /// Servers, separated by commas; those that make no sense for a measurement are left out of it.
    #[arg(long, value_delimiter = ',', default_value = "direct,gatepost,haproxy,postfix")]
    peers: Vec<Peer>,
    /// Trials of each server.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each trial.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Connections of the sender (spool uses 64).
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Octets of a message.
    #[arg(long, default_value = "10KiB")]
    size: String,
    /// Connections held idle.
    #[arg(long, default_value_t = 20_000)]
    idle_connections: u64,
    /// Cores or threads each server gets.
    #[arg(long, default_value_t = 1)]
    server_cores: usize,
    /// Driver of the gateway.
    #[arg(long, default_value = "auto")]
    io: String,
    /// The gateway's binary; otherwise the one beside this program.
    #[arg(long)]
    gatepost: Option<PathBuf>,
    /// One more argument for `gatepost serve`; may be repeated.
    #[arg(long, allow_hyphen_values = true)]
    gatepost_arg: Vec<String>,
    /// Where the distribution's packages are installed or unpacked.
    #[arg(long, default_value = "/")]
    root: PathBuf,
    /// Where servers write their queues (give the disk that is to be measured); a directory is made in it and removed.
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// Messages of the separate run that counts system calls; 0 leaves it out.
    #[arg(long, default_value_t = 1000)]
    syscall_messages: u64,
    /// Write everything as JSON here.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Print the table as Markdown.
    #[arg(long)]
    markdown: bool,
}

/// One server at one piece of work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The work.
    pub what: String,
    /// The server.
    pub peer: String,
    /// Accepted messages (refused sessions) per second: median, lowest, highest trial.
    pub rate_per_s: Spread,
    /// Server CPU per message, in microseconds.
    pub cpu_us: Spread,
    /// System calls per message.
    pub syscalls: Option<f64>,
    /// Memory per held connection, in octets.
    pub memory_octets: Option<Spread>,
    /// Latency of the median trial, p50 and p99, in milliseconds.
    pub latency_ms: (f64, f64),
    /// Why the rate is not the server's own.
    pub harness_limit: Option<String>,
    /// Every trial.
    pub trials: Vec<Trial>,
}

/// Median, lowest and highest of several trials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        match (values.first(), values.last()) {
            (Some(low), Some(high)) => Spread { median: values[values.len() / 2], low: *low, high: *high },
            _ => Spread::default(),
        }
    }
}

/// Everything a run of `measure` found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// The machine the figures belong to.
    pub machine: String,
    /// Cores or threads each server got.
    pub server_cores: usize,
    /// Trials of each.
    pub rounds: usize,
    /// Seconds of each.
    pub seconds: f64,
    /// Octets of a message.
    pub size: String,
    /// Results.
    pub rows: Vec<Row>,
    /// What was not measured, and why.
    pub skipped: Vec<String>,
}

/// The names `--what` takes.
const KNOWN: [&str; 8] =
    ["cut-through", "cut-through-kept", "plain", "plain-kept", "spool", "reject", "idle", "idle-tls"];

/// A rate this close to the harness's own is the harness's.
const DIRECT_SHARE_MAX: f64 = 0.9;

fn work(name: &str, args: &MeasureArgs) -> Result<Work, String> {
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let common = format!("--size {} -s {}", args.size, args.seconds);
    let c = args.connections;
    let (send, spool, hold) = match name {
        "cut-through" => (format!("-c {c} --messages-per-connection 1 {common}"), false, None),
        "cut-through-kept" => (format!("-c {c} {common}"), false, None),
        "plain" => (format!("-c {c} --messages-per-connection 1 --pipeline off {common}"), false, None),
        "plain-kept" => (format!("-c {c} --pipeline off {common}"), false, None),
        "spool" => (format!("-c 64 {common}"), true, None),
        "reject" => (format!("-c {c} --reject-test --pipeline off --to nobody@elsewhere.test {common}"), false, None),
        "idle" | "idle-tls" => {
            let n = args.idle_connections;
            // Time to come up (with TLS, about a thousand handshakes a second), then a while in which memory is read.
            let (hold, tls) = if name == "idle" { (5 + n / 1000, "") } else { (10 + n / 500, "--starttls") };
            (format!("--hold {hold}s {tls} --sources 127.8.0.0/16"), false, Some(n))
        }
        _ => return Err(format!("--what: expected some of {}, found {name:?}", KNOWN.join(", "))),
    };
    Ok(Work { name: name.into(), spool, send: words(send), hold })
}

/// Descriptors a process needs beside those of its connections.
const DESCRIPTORS_OWN: u64 = 300;

/// The connections that `peer` can hold of those asked for: a proxy needs two descriptors for each.
fn holdable(peer: Peer, asked: u64, descriptors: u64) -> u64 {
    let each = if peer == Peer::Haproxy { 2 } else { 1 };
    asked.min(descriptors.saturating_sub(DESCRIPTORS_OWN) / each)
}

/// Whether `peer` can do `work` at all.
fn fits(peer: Peer, work: &Work) -> bool {
    match peer {
        // A proxy keeps nothing, refuses nothing and begins no TLS in the middle; one straight into the sink has no server to
        // measure.
        Peer::Direct | Peer::Haproxy => {
            !work.spool
                && !["reject", "idle-tls"].contains(&work.name.as_str())
                && (peer == Peer::Haproxy || work.hold.is_none())
        }
        // A process per connection: 20,000 of them are not the question.
        Peer::Postfix => work.hold.is_none(),
        Peer::Gatepost => true,
    }
}

fn setting(args: &MeasureArgs) -> Result<Setting, String> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("gatepost")).filter(|p| p.is_file());
    if let Some(named) = args.gatepost.as_ref().filter(|p| !p.is_file()) {
        return Err(format!("--gatepost {}: there is no such file", named.display()));
    }
    let scratch = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = scratch.join(format!("gatepost-measure-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(|e| format!("--scratch {}: {e}", scratch.display()))?;
    Ok(Setting {
        cores: args.server_cores,
        descriptors: descriptors(),
        io: args.io.clone(),
        gatepost: args.gatepost.clone().or_else(beside),
        root: args.root.clone(),
        gatepost_args: args.gatepost_arg.clone(),
        scratch,
    })
}

/// Descriptors that holding the idle connections takes on one side, with some to spare.
const DESCRIPTORS_WANTED: u64 = 65_536;

/// Raises the limit of descriptors for this process and all it starts, as far as it may, and returns it.
fn descriptors() -> u64 {
    let (soft, _) = gatepost::reactor::limits::raise_nofile();
    if soft >= DESCRIPTORS_WANTED {
        return soft;
    }
    // Beyond the hard limit only root may go.
    let raised = std::process::Command::new("prlimit")
        .args([
            "--pid",
            &std::process::id().to_string(),
            &format!("--nofile={DESCRIPTORS_WANTED}:{DESCRIPTORS_WANTED}"),
        ])
        .stderr(std::process::Stdio::null())
        .status();
    if raised.is_ok_and(|s| s.success()) { DESCRIPTORS_WANTED } else { soft }
}

/// Runs `measure`.
pub fn run(args: &MeasureArgs) -> Result<(), String> {
    let works = args.what.iter().map(|name| work(name, args)).collect::<Result<Vec<_>, _>>()?;
    let setting = setting(args)?;
    let mut measured = Measured {
        machine: proc::machine(),
        server_cores: args.server_cores,
        rounds: args.rounds,
        seconds: args.seconds,
        size: args.size.clone(),
        rows: Vec::new(),
        skipped: Vec::new(),
    };
    for work in &works {
        compare(work, args, &setting, &mut measured);
    }
    let _ = std::fs::remove_dir_all(&setting.scratch);
    if let Some(path) = &args.json {
        report::write_json(&measured, path).map_err(|e| e.to_string())?;
    }
    print!("{}", if args.markdown { table::markdown(&measured) } else { table::text(&measured) });
    if measured.rows.is_empty() { Err("nothing was measured".into()) } else { Ok(()) }
}

/// The work as this server is given it.
fn for_peer(work: &Work, peer: Peer, setting: &Setting) -> Work {
    let hold = work.hold.map(|n| holdable(peer, n, setting.descriptors));
    let mut send = work.send.clone();
    send.extend(hold.into_iter().flat_map(|n| ["-c".to_owned(), n.to_string()]));
    Work { hold, send, ..work.clone() }
}

/// All servers at one piece of work, in turns.
fn compare(work: &Work, args: &MeasureArgs, setting: &Setting, measured: &mut Measured) {
    let mut peers: Vec<Peer> = args.peers.iter().copied().filter(|p| fits(*p, work)).collect();
    let mut trials: Vec<(Peer, Vec<Trial>)> = peers.iter().map(|p| (*p, Vec::new())).collect();
    for round in 1..=args.rounds {
        peers.retain(|peer| match trial::run(*peer, &for_peer(work, *peer, setting), setting) {
            Ok(trial) => {
                eprintln!("{} {} {round}/{}: {}", work.name, peer.name(), args.rounds, table::line(&trial));
                trials.iter_mut().filter(|(p, _)| p == peer).for_each(|(_, t)| t.push(trial.clone()));
                true
            }
            Err(why) => {
                measured.skipped.push(skip(work, *peer, why));
                false
            }
        });
    }
    let direct = trials.iter().find(|(p, _)| *p == Peer::Direct).map(|(_, t)| median_rate(t));
    for (peer, trials) in trials.into_iter().filter(|(_, t)| !t.is_empty()) {
        let mut row = row(work, peer, trials, direct);
        if let Some(asked) = work.hold {
            let held = holdable(peer, asked, setting.descriptors);
            let why = format!("{held} connections, since a process may have {} descriptors", setting.descriptors);
            row.harness_limit = (held < asked).then_some(why);
        }
        if peer != Peer::Direct && work.hold.is_none() && args.syscall_messages > 0 {
            match trial::syscalls_per_message(peer, work, setting, args.syscall_messages) {
                Ok(n) => row.syscalls = Some(n),
                Err(why) => measured.skipped.push(skip(work, peer, why) + " (system calls)"),
            }
        }
        measured.rows.push(row);
    }
}

fn skip(work: &Work, peer: Peer, why: Missing) -> String {
    let line = match why {
        Missing::Skipped(why) => format!("skipped: {} {}: {why}", work.name, peer.name()),
        Missing::Failed(why) => format!("failed: {} {}: {why}", work.name, peer.name()),
    };
    eprintln!("{line}");
    line
}

fn median_rate(trials: &[Trial]) -> f64 {
    Spread::of(trials.iter().map(|t| t.send.messages_per_s)).median
}

fn row(work: &Work, peer: Peer, mut trials: Vec<Trial>, direct: Option<f64>) -> Row {
    let rate_per_s = Spread::of(trials.iter().map(|t| t.send.messages_per_s));
    let own = trials.iter().find_map(|t| t.send.harness_limit.clone());
    let near = direct.filter(|d| peer != Peer::Direct && rate_per_s.median > d * DIRECT_SHARE_MAX);
    let near = near.map(|d| format!("the harness alone reaches {d:.0}/s"));
    let memory = Spread::of(trials.iter().filter_map(|t| t.memory_octets_per_connection));
    trials.sort_by(|a, b| a.send.messages_per_s.total_cmp(&b.send.messages_per_s));
    let middle = &trials[trials.len() / 2].send.latency;
    Row {
        what: work.name.clone(),
        peer: peer.name().into(),
        rate_per_s,
        cpu_us: Spread::of(trials.iter().map(|t| t.server_cpu_us_per_message)),
        syscalls: None,
        memory_octets: work.hold.map(|_| memory),
        latency_ms: (middle.p50_ms, middle.p99_ms),
        harness_limit: own.or(near),
        trials,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_descriptors_allow() {
        assert_eq!(holdable(Peer::Gatepost, 20_000, 65_536), 20_000);
        assert_eq!(holdable(Peer::Gatepost, 20_000, 20_000), 19_700);
        assert_eq!(holdable(Peer::Haproxy, 20_000, 20_000), 9_850);
    }

    #[test]
    fn the_middle_of_the_trials_is_quoted_with_its_spread() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0].into_iter()), Spread { median: 2.0, low: 1.0, high: 3.0 });
        assert_eq!(Spread::of([].into_iter()), Spread::default());
    }
}
