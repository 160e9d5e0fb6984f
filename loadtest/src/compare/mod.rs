//! `compare`: servers side by side, the same sender, the same sink, the same job with the same durability, in turns A B A B.
//!
//! The one command behind the tables of the README. Peers are taken as installed, or from the cache that
//! `loadtest/peers/setup` fills. How it fails: a server that is not on this machine is `skipped: …`; a trial that fails is
//! said and left out; nothing measured at all is an error.

mod counter;
pub(crate) mod holder;
pub mod keep;
pub(crate) mod peer;
pub(crate) mod readme;
mod table;
mod trace;
mod trial;
mod work;

use crate::mailstore::{self, MailstoreArgs};
use crate::{proc, report};
use clap::Args;
use peer::{Missing, Peer, Setting};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::ExitCode;
use trial::Trial;
use work::{Fit, Work, fit, holdable, work};

/// What is measured when nothing is asked for: together below twelve minutes with everybody.
const JOBS: &str = "spool,plain,cut-through-kept,reject,idle,mailstore";

/// `compare`
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// A server; may be repeated, or a list separated by commas. `nginx` is both of its proxies. Without it: everybody.
    #[arg(long = "peer", visible_alias = "peers", value_delimiter = ',')]
    peers: Vec<String>,
    /// Jobs, separated by commas: spool (store and forward), plain and plain-kept (a command per round trip, a connection per
    /// message or kept), cut-through and cut-through-kept (pipelined), reject, idle, idle-tls, mailstore.
    #[arg(long = "job", visible_aliases = ["what", "jobs"], value_delimiter = ',', default_value = JOBS)]
    jobs: Vec<String>,
    /// Trials of each server at each job.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each trial.
    #[arg(long, default_value_t = 3.0)]
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
    /// Where loadtest/peers/setup unpacks those that are not installed [default: $GATEPOST_PEERS, or ~/.cache/gatepost/peers]
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Where servers write their queues (give the disk that is to be measured); a directory is made in it and removed.
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// Messages of the separate run that counts system calls and syncs; 0 leaves it out.
    #[arg(long, default_value_t = 300)]
    syscall_messages: u64,
    /// Count processor time by /proc also where perf could.
    #[arg(long)]
    no_perf: bool,
    /// Messages in the mailbox of the mailstore's job.
    #[arg(long, default_value_t = 2_000)]
    mailstore_messages: u32,
    /// Write everything as JSON here.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Keep the result as benches/results/MACHINE/DATE.json below the current directory, or below this one.
    #[arg(long, num_args = 0..=1, default_missing_value = "benches/results", value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Print the tables as Markdown.
    #[arg(long)]
    markdown: bool,
}

/// One server at one job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The job.
    pub what: String,
    /// The server.
    pub peer: String,
    /// Its version, when it is known.
    #[serde(default)]
    pub version: Option<String>,
    /// Accepted messages (refused sessions) per second: median, lowest, highest trial.
    pub rate_per_s: Spread,
    /// Server CPU per message, in microseconds.
    pub cpu_us: Spread,
    /// System calls per message.
    pub syscalls: Option<f64>,
    /// System calls per message that wait for the disk (fsync, fdatasync, …).
    #[serde(default)]
    pub syncs: Option<f64>,
    /// Context switches per message.
    #[serde(default)]
    pub context_switches: Option<f64>,
    /// Highest memory of all its processes in any trial, in octets.
    #[serde(default)]
    pub memory_octets_peak: u64,
    /// Recipients lost in all trials: accepted, and not arrived a minute after the last reply.
    #[serde(default)]
    pub lost: u64,
    /// Recipients that arrived more than once, in all trials.
    #[serde(default)]
    pub duplicated: u64,
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
    /// Of values in any order.
    pub fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        match (values.first(), values.last()) {
            (Some(low), Some(high)) => Spread { median: values[values.len() / 2], low: *low, high: *high },
            _ => Spread::default(),
        }
    }
}

/// Everything a run of `compare` found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// The machine the figures belong to.
    pub machine: String,
    /// The day, as `YYYY-MM-DD`.
    #[serde(default)]
    pub date: String,
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
    /// Mailstores, when they were measured.
    #[serde(default)]
    pub mailstore: Option<mailstore::Measured>,
    /// What was not measured, and why.
    pub skipped: Vec<String>,
}

/// Fewer syncs a message than this are none: a group commit has at least one for all of its 64 senders.
const SYNCS_SEEN_MIN: f64 = 0.5 / 64.0;

/// A rate this close to the harness's own is the harness's.
const DIRECT_SHARE_MAX: f64 = 0.9;

fn setting(args: &CompareArgs) -> Result<Setting, String> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("gatepost")).filter(|p| p.is_file());
    if let Some(named) = args.gatepost.as_ref().filter(|p| !p.is_file()) {
        return Err(format!("--gatepost {}: there is no such file", named.display()));
    }
    let scratch = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = scratch.join(format!("gatepost-compare-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(|e| format!("--scratch {}: {e}", scratch.display()))?;
    // Servers are told paths below it, and some change their directory.
    let scratch = scratch.canonicalize().map_err(|e| format!("--scratch {}: {e}", scratch.display()))?;
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || set("XDG_CACHE_HOME").or(set("HOME").map(|h| h.join(".cache")));
    let cache = args.cache.clone().or(set("GATEPOST_PEERS")).or(home().map(|h| h.join("gatepost/peers")));
    Ok(Setting {
        cores: args.server_cores,
        descriptors: descriptors(),
        io: args.io.clone(),
        gatepost: args.gatepost.clone().or_else(beside),
        root: args.root.clone(),
        cache: cache.unwrap_or_else(|| PathBuf::from("/nonexistent")),
        gatepost_args: args.gatepost_arg.clone(),
        scratch,
        perf: !args.no_perf && counter::perf_counts(),
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

/// Everybody that is compared when nobody is named.
const EVERYBODY: [&str; 12] = [
    "direct",
    "gatepost",
    "haproxy",
    "nginx",
    "postfix",
    "exim",
    "opensmtpd",
    "sendmail",
    "haraka",
    "kumomta",
    "stalwart",
    "dovecot",
];

fn peers(args: &CompareArgs) -> Result<Vec<Peer>, String> {
    let named: Vec<&str> = match args.peers.as_slice() {
        [] => EVERYBODY.to_vec(),
        // Whoever is compared is compared with the gateway, and with what the harness can do.
        some => ["direct", "gatepost"].into_iter().chain(some.iter().map(String::as_str)).collect(),
    };
    let mut peers = Vec::new();
    for name in named {
        for peer in Peer::named(name)? {
            if !peers.contains(&peer) {
                peers.push(peer);
            }
        }
    }
    Ok(peers)
}

/// Runs `compare`.
pub(crate) fn run(args: &CompareArgs) -> Result<ExitCode, String> {
    let works = args.jobs.iter().map(|name| work(name, args)).collect::<Result<Vec<_>, _>>()?;
    let peers = peers(args)?;
    let setting = setting(args)?;
    let mut measured = Measured {
        machine: proc::machine(),
        date: keep::today(),
        server_cores: args.server_cores,
        rounds: args.rounds,
        seconds: args.seconds,
        size: args.size.clone(),
        rows: Vec::new(),
        mailstore: None,
        skipped: Vec::new(),
    };
    for work in &works {
        match work {
            Some(work) => compare(work, &peers, args, &setting, &mut measured),
            None => mailstores(&peers, args, &setting, &mut measured),
        }
    }
    let _ = std::fs::remove_dir_all(&setting.scratch);
    // Once for each peer is enough.
    measured.skipped.sort();
    measured.skipped.dedup();
    if measured.rows.is_empty() && measured.mailstore.is_none() {
        return Err(format!("nothing was measured; {}", measured.skipped.join("; ")));
    }
    if let Some(path) = &args.json {
        report::write_json(&measured, path).map_err(|e| e.to_string())?;
    }
    if let Some(folder) = &args.keep {
        let path = keep::keep(&measured, folder)?;
        eprintln!("kept as {}", path.display());
    }
    crate::cli::show(&if args.markdown { table::markdown(&measured) } else { table::text(&measured) });
    Ok(ExitCode::SUCCESS)
}

/// The job as this server is given it.
fn for_peer(work: &Work, peer: Peer, setting: &Setting) -> Work {
    let hold = work.hold.map(|n| holdable(peer, n, setting.descriptors));
    let mut send = work.send.clone();
    send.extend(hold.into_iter().flat_map(|n| ["-c".to_owned(), n.to_string()]));
    Work { hold, send, ..work.clone() }
}

/// All servers at one job, in turns.
fn compare(work: &Work, all: &[Peer], args: &CompareArgs, setting: &Setting, measured: &mut Measured) {
    let mut peers = Vec::new();
    for peer in all {
        match fit(*peer, work) {
            Fit::Yes => peers.push(*peer),
            Fit::No => {}
            Fit::Because(why) => measured.skipped.push(format!("left out: {} {}: {why}", work.name, peer.name())),
        }
    }
    let rounds = work.rounds(args.rounds);
    let mut trials: Vec<(Peer, Vec<Trial>)> = peers.iter().map(|p| (*p, Vec::new())).collect();
    for round in 1..=rounds {
        peers.retain(|peer| match trial::run(*peer, &for_peer(work, *peer, setting), setting) {
            Ok(trial) => {
                eprintln!("{} {} {round}/{rounds}: {}", work.name, peer.name(), table::line(&trial));
                trials.iter_mut().filter(|(p, _)| p == peer).for_each(|(_, t)| t.push(trial.clone()));
                true
            }
            Err(why) => {
                measured.skipped.push(skip(&work.name, *peer, why));
                false
            }
        });
    }
    let direct = trials.iter().find(|(p, _)| *p == Peer::Direct).map(|(_, t)| median_rate(t));
    for (peer, trials) in trials.into_iter().filter(|(_, t)| !t.is_empty()) {
        let mut row = row(work, peer, trials, direct);
        row.version = peer::version(peer, setting);
        if let Some(asked) = work.hold {
            let held = holdable(peer, asked, setting.descriptors);
            let why = format!("{held} connections, since a process may have {} descriptors", setting.descriptors);
            row.harness_limit = (held < asked).then_some(why);
        }
        if peer != Peer::Direct && work.hold.is_none() && args.syscall_messages > 0 {
            match trial::calls_per_message(peer, work, setting, args.syscall_messages) {
                Ok((all, syncs)) => {
                    (row.syscalls, row.syncs) = (Some(all), Some(syncs));
                    if work.spool && syncs < SYNCS_SEEN_MIN {
                        let name = peer.name();
                        let promise = "no call waited for the disk, so its 250 promises less than the others'";
                        measured.skipped.push(format!("not the same durability: {} {name}: {promise}", work.name));
                    }
                }
                Err(why) => measured.skipped.push(skip(&work.name, peer, why) + " (system calls)"),
            }
        }
        measured.rows.push(row);
    }
}

/// The mailstores among the peers.
fn mailstores(peers: &[Peer], args: &CompareArgs, setting: &Setting, measured: &mut Measured) {
    let wanted = |peer: Peer| peers.contains(&peer);
    let mail = MailstoreArgs::of(
        (wanted(Peer::Gatepost), wanted(Peer::Dovecot)),
        args.mailstore_messages,
        setting.scratch.clone(),
        setting.gatepost.clone(),
    );
    match mailstore::measure(&mail) {
        Ok(found) => {
            measured.skipped.extend(found.skipped.iter().cloned());
            measured.mailstore = (!found.stores.is_empty()).then_some(found);
        }
        Err(why) => measured.skipped.push(format!("failed: mailstore: {why}")),
    }
}

fn skip(job: &str, peer: Peer, why: Missing) -> String {
    let line = match why {
        Missing::Skipped(why) => format!("skipped: {}: {why}", peer.name()),
        Missing::Failed(why) => format!("failed: {job} {}: {why}", peer.name()),
    };
    eprintln!("{line}");
    line
}

fn median_rate(trials: &[Trial]) -> f64 {
    Spread::of(trials.iter().map(|t| t.send.messages_per_s)).median
}

fn row(work: &Work, peer: Peer, mut trials: Vec<Trial>, direct: Option<f64>) -> Row {
    let rate_per_s = Spread::of(trials.iter().map(|t| t.send.messages_per_s));
    let own = trials.iter().find_map(|t| t.send.harness_limit.clone().or(t.sink.limit()));
    let near = direct.filter(|d| peer != Peer::Direct && rate_per_s.median > d * DIRECT_SHARE_MAX);
    let near = near.map(|d| format!("the harness alone reaches {d:.0}/s"));
    let memory = Spread::of(trials.iter().filter_map(|t| t.memory_octets_per_connection));
    let switches = Spread::of(trials.iter().filter_map(|t| t.context_switches_per_message)).median;
    trials.sort_by(|a, b| a.send.messages_per_s.total_cmp(&b.send.messages_per_s));
    let middle = &trials[trials.len() / 2].send.latency;
    Row {
        what: work.name.clone(),
        peer: peer.name().into(),
        version: None,
        rate_per_s,
        cpu_us: Spread::of(trials.iter().map(|t| t.server_cpu_us_per_message)),
        syscalls: None,
        syncs: None,
        context_switches: trials.iter().any(|t| t.context_switches_per_message.is_some()).then_some(switches),
        memory_octets_peak: trials.iter().map(|t| t.memory_octets_peak).max().unwrap_or(0),
        lost: trials.iter().map(|t| t.lost).sum(),
        duplicated: trials.iter().map(|t| t.duplicated).sum(),
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
    fn the_middle_of_the_trials_is_quoted_with_its_spread() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0].into_iter()), Spread { median: 2.0, low: 1.0, high: 3.0 });
        assert_eq!(Spread::of([].into_iter()), Spread::default());
    }
}
