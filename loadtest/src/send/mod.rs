//! The sender: load over SMTP or LMTP, closed loop or open loop, on as many cores as asked for.
//!
//! How it fails: a target that may not be loaded, a ledger that cannot be written or a thread that cannot be made end
//! it with one line; trouble with connections is counted and reported.

pub mod args;
mod arrivals;
mod conn;
mod core;
mod opening;
mod phases;
mod schedule;
mod script;
pub mod session;
mod tally;
mod transaction;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod virtual_tests;

use crate::chance::Zipf;
use crate::ledger::Pen;
use crate::live::Counters;
use crate::message::{Content, Factory, Id};
use crate::report::{self, SendReport, Strain};
use crate::size::Sizes;
use crate::stop::Stop;
use crate::target::Sources;
pub use arrivals::{Arrivals, Curve, Spacing};
use conn::TlsStart;
use gatepost::base::time::Instant;
use gatepost::reactor::tls::{ClientTls, TlsKnobs, Verify};
use gatepost::reactor::{Io, ReactorKnobs, clock, limits};
pub use phases::{PHASES, Phase, Phases};
pub use schedule::{Pace, Schedule};
use script::{Envelopes, Openings, Population};
pub use script::{Logins, Mechanism, Users};
use session::{Script, Transfer, Work};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
pub use tally::{Tally, Times};

/// Everything a run of the sender is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to.
    pub target: SocketAddr,
    /// Threads.
    pub cores: usize,
    /// Driver.
    pub io: Io,
    /// LMTP instead of SMTP.
    pub lmtp: bool,
    /// How messages come; a rate is the mean, for all cores together.
    pub pace: Pace,
    /// How the messages of an open loop follow each other; a curve is scaled to the mean rate.
    pub arrivals: Arrivals,
    /// Connections at most, all cores together.
    pub connections: usize,
    /// New connections per second at most, all cores together.
    pub connect_rate: Option<u32>,
    /// Messages in all.
    pub messages: Option<u64>,
    /// Time in all.
    pub duration: Option<Duration>,
    /// What is sent.
    pub content: Content,
    /// Messages after which a connection is closed; 0 keeps it.
    pub messages_per_connection: u64,
    /// Whether PIPELINING is used when offered.
    pub pipeline: bool,
    /// DATA or BDAT.
    pub transfer: Transfer,
    /// Mail, recipients that are refused, or logins.
    pub work: Work,
    /// Recipients of a message.
    pub recipients: usize,
    /// First recipient; further ones get a number behind the local part.
    pub to: String,
    /// Sender; empty is the null path. Further ones get a number behind the local part.
    pub from: String,
    /// How many recipients there are to choose from; 1: the first few, always the same.
    pub mailboxes: u64,
    /// How many senders there are.
    pub senders: u64,
    /// How unevenly both are chosen (Zipf's exponent); 0 is evenly.
    pub zipf: f64,
    /// Domains of the recipients, in turn, instead of that of `to`.
    pub domains: Vec<String>,
    /// TLS from the first octet.
    pub implicit_tls: bool,
    /// Share of connections with STARTTLS.
    pub starttls: f64,
    /// Name the server is asked for (SNI); without one its address, which is not sent.
    pub tls_name: Option<String>,
    /// Whether TLS sessions are resumed.
    pub resumption: bool,
    /// Who logs in.
    pub logins: Option<Arc<Logins>>,
    /// How often a message that is put off (4xx) is tried again.
    pub retries: u32,
    /// After what pause.
    pub retry_pause: Duration,
    /// Where connections come from.
    pub sources: Option<Sources>,
    /// Longest silence of a server.
    pub timeout: Duration,
    /// For everything that is drawn.
    pub seed: u64,
    /// Where outcomes are written down.
    pub ledger: Option<PathBuf>,
    /// Folder for `.hgrm` files.
    pub hgrm: Option<PathBuf>,
    /// Counts for whoever watches the run.
    pub counters: Option<Arc<Counters>>,
}

impl Options {
    /// A short closed loop with one connection; callers change what they need.
    pub fn to(target: SocketAddr) -> Options {
        Options {
            target,
            cores: 1,
            io: Io::Auto,
            lmtp: false,
            pace: Pace::Closed,
            arrivals: Arrivals::default(),
            connections: 1,
            connect_rate: None,
            messages: Some(1),
            duration: None,
            content: Content::Made(Sizes::Fixed(10 * 1024)),
            messages_per_connection: 0,
            pipeline: true,
            transfer: Transfer::Data,
            work: Work::Mail,
            recipients: 1,
            to: "user@example.test".into(),
            from: "load@load.example.test".into(),
            mailboxes: 1,
            senders: 1,
            zipf: 0.0,
            domains: Vec::new(),
            implicit_tls: false,
            starttls: 0.0,
            tls_name: None,
            resumption: false,
            logins: None,
            retries: 0,
            retry_pause: Duration::from_secs(1),
            sources: None,
            timeout: Duration::from_secs(60),
            seed: 1,
            ledger: None,
            hgrm: None,
            counters: None,
        }
    }

    fn script(&self) -> Script {
        let population = |first: &str, n, domains: &[String]| Population {
            first: first.to_owned(),
            domains: domains.to_vec(),
            ranks: Zipf::new(n, self.zipf),
        };
        let senders = population(&self.from, self.senders, &[]);
        let mailboxes = population(&self.to, self.mailboxes, &self.domains);
        Script {
            lmtp: self.lmtp,
            pipeline: self.pipeline,
            transfer: self.transfer,
            work: self.work,
            messages_per_connection: if self.work == Work::Mail { self.messages_per_connection } else { 1 },
            from_free: self.pace == Pace::Closed,
            envelopes: Envelopes::new(senders, mailboxes, self.recipients),
            factory: {
                let factory = match &self.content {
                    Content::Made(sizes) => Factory::made(sizes.clone()),
                    Content::Corpus(corpus) => Factory::of(corpus.clone()),
                };
                if self.ledger.is_some() { factory } else { factory.unchecked() }
            },
            openings: Openings { implicit: self.implicit_tls, starttls: self.starttls, logins: self.logins.clone() },
            seed: self.seed,
        }
    }

    fn schedule(&self, core: usize, run: u32) -> Schedule {
        let cores = self.cores.max(1);
        let start = clock::now();
        let ends = self.duration.map_or(Instant::FAR, |d| start + d);
        let messages = self.messages.map(|m| share(m, core, cores));
        let times = match self.pace {
            Pace::Open(rate) => {
                let curve = self.arrivals.curve.as_ref().map(|c| Arc::new(Curve::clone(c).with_mean(rate)));
                let arrivals = Arrivals { curve, seed: self.seed, ..self.arrivals.clone() };
                Some(arrivals::Times::new(&arrivals, rate, core, cores))
            }
            Pace::Closed | Pace::Hold => None,
        };
        Schedule::new(times, self.pace == Pace::Hold, start, ends, messages, Id { run, core: core as u16, seq: 0 })
    }

    /// A core's own, since its session cache has a lock.
    fn tls(&self) -> io::Result<Option<TlsStart>> {
        if !self.implicit_tls && self.starttls == 0.0 {
            return Ok(None);
        }
        let client = ClientTls::load(&Verify::Opportunistic, None, &TlsKnobs::default())
            .map_err(|e| io::Error::other(format!("TLS: {e}")))?;
        let client = if self.resumption { client } else { client.without_resumption() };
        let name = self.tls_name.clone().unwrap_or_else(|| self.target.ip().to_string());
        Ok(Some(TlsStart { client, name }))
    }
}

/// What of `total` is for `core`.
fn share(total: u64, core: usize, cores: usize) -> u64 {
    total / cores as u64 + u64::from((core as u64) < total % cores as u64)
}

/// Number of a run, part of every id: senders that begin in the same moment, in one process or in several, must not share
/// any, since their ledgers are joined.
fn run_number() -> u32 {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let moment = clock::wall().as_millis().to_be_bytes();
    let process = std::process::id().to_be_bytes();
    let run = RUNS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    crc32c::crc32c(&[&moment[..], &process, &run].concat())
}

/// Runs the load until it is done or stopped.
pub fn run(options: &Options, stop: &Stop) -> io::Result<SendReport> {
    limits::raise_nofile();
    let cores = options.cores.max(1);
    let script = Arc::new(options.script());
    let run = run_number();
    let pens: Vec<Option<Pen>> = match &options.ledger {
        Some(path) => Pen::create(path, cores)?.into_iter().map(Some).collect(),
        None => (0..cores).map(|_| None).collect(),
    };
    let mut threads = Vec::with_capacity(cores);
    for (number, pen) in pens.into_iter().enumerate() {
        let start = core::Start {
            knobs: ReactorKnobs { driver: options.io, ..ReactorKnobs::default() },
            script: script.clone(),
            schedule: options.schedule(number, run),
            aim: core::Aim {
                target: options.target,
                connections: share(options.connections as u64, number, cores) as usize,
                connect_pause: options
                    .connect_rate
                    .map_or(Duration::ZERO, |rate| Duration::from_secs(cores as u64) / rate.max(1)),
                sources: options.sources.clone(),
                first_connection: (options.connections / cores * number) as u64,
                timeout: options.timeout,
                retries: options.retries,
                retry_pause: options.retry_pause,
            },
            tls: options.tls()?,
            pen,
            counters: options.counters.clone(),
            stop: stop.clone(),
        };
        let stop = stop.clone();
        threads.push(
            std::thread::Builder::new()
                .name(format!("send-{number}"))
                .spawn(move || core::run(start).inspect_err(|_| stop.stop()))?,
        );
    }
    let mut total = Tally::default();
    let mut strain = Strain::default();
    for thread in threads {
        let tally = thread.join().map_err(|_| io::Error::other("a core of the sender panicked"))??;
        let ran = tally.ran.as_secs_f64().max(1e-9);
        let (busy, held_up) = (tally.cpu.as_secs_f64() / ran, tally.cpu_wait.as_secs_f64() / ran);
        strain.busiest = strain.busiest.max(busy);
        strain.held_up = strain.held_up.max(held_up);
        strain.taken = strain.taken.max(busy + held_up);
        total.add(&tally);
    }
    if let Some(dir) = &options.hgrm {
        report::write_hgrm(&total, dir)?;
    }
    Ok(SendReport::new(options, &total, strain))
}
