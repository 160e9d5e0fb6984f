//! `gatepost-load mailstore`: mailstores side by side on the same work, Gatepost's own and Dovecot's.
//!
//! Each server is started over an empty directory on the same disk, gets the same messages by LMTP from 64 connections,
//! and then answers the same commands of IMAP and POP3; every command runs once before it counts, so that indexes are
//! warm. What counts is processor time of the whole process tree, and beside it the time on the clock. How it fails: a
//! server that is not here is skipped and named; one that answers wrongly ends the run, because its figures would be of
//! something else.

mod client;
mod jobs;
mod peer;

use crate::proc;
use clap::Args;
use jobs::Figure;
use peer::{Store, Stores};
use serde::Serialize;
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
#[derive(Debug, Serialize)]
struct Measured {
    machine: String,
    messages: u32,
    size: usize,
    stores: Vec<(String, Vec<Figure>)>,
    skipped: Vec<String>,
}

/// Runs the comparison and prints its table.
pub fn run(args: &MailstoreArgs) -> Result<(), String> {
    let scratch = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = scratch.join(format!("gatepost-mailstore-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(|e| format!("--scratch {}: {e}", scratch.display()))?;
    let stores = Stores { scratch: scratch.clone(), gatepost: args.gatepost.clone() };
    let mut measured = Measured {
        machine: proc::machine(),
        messages: args.messages,
        size: args.size,
        stores: Vec::new(),
        skipped: Vec::new(),
    };
    for store in &args.peers {
        match stores.start(*store) {
            Ok(running) => {
                let figures = jobs::run(&running, args).map_err(|e| format!("{}: {e}", store.name()));
                drop(running);
                measured.stores.push((store.name().to_owned(), figures?));
            }
            Err(why) => {
                eprintln!("skipped: {}: {why}", store.name());
                measured.skipped.push(format!("{}: {why}", store.name()));
            }
        }
    }
    let _ = std::fs::remove_dir_all(&scratch);
    if let Some(path) = &args.json {
        crate::report::write_json(&measured, path).map_err(|e| e.to_string())?;
    }
    print!("{}", table(&measured));
    if measured.stores.is_empty() { Err("nothing was measured".into()) } else { Ok(()) }
}

/// A Markdown table: one row a job, one column a server; then the ratios to the first.
fn table(measured: &Measured) -> String {
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
    text
}

/// Processor time of a server's tree while `work` ran, and the time it took.
fn timed<T>(pid: u32, work: impl FnOnce() -> Result<T, String>) -> Result<(T, Duration, Duration), String> {
    let (cpu, begun) = (proc::tree_cpu(pid), std::time::Instant::now());
    let done = work()?;
    Ok((done, proc::tree_cpu(pid).saturating_sub(cpu), begun.elapsed()))
}
