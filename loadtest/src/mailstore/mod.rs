//! `gatepost-load mailstore`: mailstores side by side on the same work, Gatepost's own and Dovecot's.
//!
//! Each server is started over an empty directory on the same disk, gets the same messages by LMTP from 64 connections,
//! and then answers the same commands of IMAP and POP3, in turns; every command runs once before it counts, so that indexes
//! are warm. What counts is processor time of the whole process tree, and beside it the time on the clock. How it fails: a
//! server that is not here is skipped and named; one that answers wrongly ends the run, because its figures would be of
//! something else.

mod client;
mod jobs;
mod peer;

use crate::proc;
use clap::Args;
pub use jobs::Figure;
use jobs::{JOBS, Measuring};
use peer::{Store, Stores};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// What to measure, and how long.
#[derive(Args, Debug, Clone)]
pub struct MailstoreArgs {
    /// Servers, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "gatepost,dovecot-maildir,dovecot-sdbox")]
    peers: Vec<Store>,
    /// Messages in the mailbox that is read
    #[arg(long, default_value_t = 10_000)]
    messages: u32,
    /// Octets of a message
    #[arg(long, default_value_t = 10_240)]
    size: usize,
    /// Connections that deliver
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Seconds of the delivery that is timed
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often each command runs
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Idle sessions whose memory is measured
    #[arg(long, default_value_t = 200)]
    idle: usize,
    /// Where servers write; on the disk that is meant [default: the system's directory for temporary files]
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// Binary of the gateway [default: beside this program]
    #[arg(long)]
    gatepost: Option<PathBuf>,
    /// Write the result here as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Everything measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// The machine the figures belong to.
    pub machine: String,
    /// Messages in the mailbox that was read.
    pub messages: u32,
    /// Octets of a message.
    pub size: usize,
    /// Each store with its figures.
    pub stores: Vec<(String, Vec<Figure>)>,
    /// What was not measured, and why.
    pub skipped: Vec<String>,
    /// Where the client was busier than nine tenths of the time, so that the time is its own (the processor time is not).
    #[serde(default)]
    pub limits: Vec<String>,
}

impl MailstoreArgs {
    /// For a comparison that has more than mailstores in it.
    pub(crate) fn of(
        (gatepost, dovecot): (bool, bool),
        messages: u32,
        scratch: PathBuf,
        binary: Option<PathBuf>,
    ) -> MailstoreArgs {
        let all = [(Store::Gatepost, gatepost), (Store::DovecotMaildir, dovecot), (Store::DovecotSdbox, dovecot)];
        MailstoreArgs {
            peers: all.into_iter().filter(|(_, wanted)| *wanted).map(|(store, _)| store).collect(),
            messages,
            size: 10_240,
            connections: 64,
            seconds: 3,
            rounds: 1,
            idle: 100,
            scratch: Some(scratch),
            gatepost: binary,
            json: None,
        }
    }
}

/// Runs the comparison and prints its table.
pub fn run(args: &MailstoreArgs) -> Result<(), String> {
    let measured = measure(args)?;
    if let Some(path) = &args.json {
        crate::report::write_json(&measured, path).map_err(|e| e.to_string())?;
    }
    crate::cli::show(&table(&measured));
    if measured.stores.is_empty() { Err("nothing was measured".into()) } else { Ok(()) }
}

/// Measures: all servers are up, each job is done by one after the other, so that they meet the same machine.
pub(crate) fn measure(args: &MailstoreArgs) -> Result<Measured, String> {
    let scratch = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = scratch.join(format!("gatepost-mailstore-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(|e| format!("--scratch {}: {e}", scratch.display()))?;
    let stores = Stores { scratch: scratch.clone(), gatepost: args.gatepost.clone() };
    let mut measured =
        Measured { machine: proc::machine(), messages: args.messages, size: args.size, ..Measured::default() };
    let mut up = Vec::new();
    for store in &args.peers {
        match stores.start(*store) {
            Ok(running) => up.push((store.name(), Measuring::new(running))),
            Err(why) => {
                eprintln!("skipped: {}: {why}", store.name());
                measured.skipped.push(format!("skipped: {}: {why}", store.name()));
            }
        }
    }
    for job in JOBS {
        for (name, store) in &mut up {
            eprint!("{name} ");
            store.step(job, args).map_err(|e| format!("{name}: {e}"))?;
        }
    }
    for (name, store) in &up {
        measured.limits.extend(store.limits.iter().map(|limit| format!("{name}: {limit}")));
    }
    measured.stores = up.into_iter().map(|(name, store)| (name.to_owned(), store.figures)).collect();
    let _ = std::fs::remove_dir_all(&scratch);
    Ok(measured)
}

/// A Markdown table: one row a job, one column a server; then the ratios to the first.
pub(crate) fn table(measured: &Measured) -> String {
    let Some((first, figures)) = measured.stores.first() else { return String::new() };
    let mut text =
        format!("{}; {} messages of {} octets.\n\n| job |", measured.machine, measured.messages, measured.size);
    measured.stores.iter().for_each(|(name, _)| text.push_str(&format!(" {name} |")));
    measured.stores.iter().skip(1).for_each(|(name, _)| text.push_str(&format!(" {name} / {first} |")));
    text.push_str(&format!("\n|{}\n", " --- |".repeat(2 * measured.stores.len())));
    for figure in figures {
        text.push_str(&format!("| {} |", figure.job));
        let same = |(_, all): &(String, Vec<Figure>)| all.iter().find(|f| f.job == figure.job).cloned();
        for store in &measured.stores {
            text.push_str(&same(store).map_or(" – |".into(), |f| format!(" {} |", f.show())));
        }
        for store in measured.stores.iter().skip(1) {
            text.push_str(&same(store).map_or(" – |".into(), |f| format!(" {:.1} |", f.value / figure.value)));
        }
        text.push('\n');
    }
    if !measured.limits.is_empty() {
        text.push('\n');
        measured.limits.iter().for_each(|limit| text.push_str(&format!("- {limit}\n")));
    }
    text
}

/// What a job cost.
struct Cost {
    /// Processor time of the server's tree.
    cpu: Duration,
    /// On the clock.
    took: Duration,
    /// Processor time of this program, whose client is one thread.
    own: Duration,
}

fn timed<T>(pid: u32, work: impl FnOnce() -> Result<T, String>) -> Result<(T, Cost), String> {
    let (cpu, own, begun) = (proc::tree_cpu(pid), proc::own_cpu(), std::time::Instant::now());
    let done = work()?;
    let took = begun.elapsed();
    Ok((done, Cost { cpu: proc::tree_cpu(pid).saturating_sub(cpu), took, own: proc::own_cpu().saturating_sub(own) }))
}
