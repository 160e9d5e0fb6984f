//! The sender: load over SMTP or LMTP, closed loop or open loop, on as many cores as asked for.
//!
//! How it fails: a target that may not be loaded, a ledger that cannot be written or a thread that cannot be made end
//! it with one line; trouble with connections is counted and reported.

mod core;
mod schedule;
pub mod session;
mod tally;

use crate::ledger::Pen;
use crate::message::{Factory, Id};
use crate::report::SendReport;
use crate::stop::Stop;
use crate::target::Sources;
use gatepost::base::time::Instant;
use gatepost::reactor::{Io, ReactorKnobs, clock, limits};
pub use schedule::{Pace, Schedule};
use session::{Script, Transfer, Work};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
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
    /// How messages come; a rate is for all cores together.
    pub pace: Pace,
    /// Connections at most, all cores together.
    pub connections: usize,
    /// Messages in all.
    pub messages: Option<u64>,
    /// Time in all.
    pub duration: Option<Duration>,
    /// Octets of a message.
    pub size_octets: usize,
    /// Messages after which a connection is closed; 0 keeps it.
    pub messages_per_connection: u64,
    /// Whether PIPELINING is used when offered.
    pub pipeline: bool,
    /// DATA or BDAT.
    pub transfer: Transfer,
    /// Mail, or recipients that are refused.
    pub work: Work,
    /// Recipients of a message.
    pub recipients: usize,
    /// First recipient; further ones get a number behind the local part.
    pub to: String,
    /// Sender; empty is the null path.
    pub from: String,
    /// Where connections come from.
    pub sources: Option<Sources>,
    /// Longest silence of a server.
    pub timeout: Duration,
    /// Where outcomes are written down.
    pub ledger: Option<PathBuf>,
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
            connections: 1,
            messages: Some(1),
            duration: None,
            size_octets: 10 * 1024,
            messages_per_connection: 0,
            pipeline: true,
            transfer: Transfer::Data,
            work: Work::Mail,
            recipients: 1,
            to: "user@example.test".into(),
            from: "load@load.example.test".into(),
            sources: None,
            timeout: Duration::from_secs(60),
            ledger: None,
        }
    }

    fn script(&self) -> Script {
        let rcpt = |n: usize| match (n, self.to.rsplit_once('@')) {
            (0, _) | (_, None) => format!("RCPT TO:<{}>\r\n", self.to).into_bytes(),
            (n, Some((local, domain))) => format!("RCPT TO:<{local}{n}@{domain}>\r\n").into_bytes(),
        };
        Script {
            lmtp: self.lmtp,
            pipeline: self.pipeline,
            transfer: self.transfer,
            work: self.work,
            messages_per_connection: if self.work == Work::Reject { 1 } else { self.messages_per_connection },
            from_free: self.pace == Pace::Closed,
            mail: format!("MAIL FROM:<{}>\r\n", self.from).into_bytes(),
            rcpts: (0..self.recipients.max(1)).map(rcpt).collect(),
            factory: Factory::new(&self.from, &self.to, self.size_octets),
        }
    }

    fn schedule(&self, core: usize, run: u32) -> (Schedule, Pace) {
        let cores = self.cores.max(1);
        let pace = match self.pace {
            Pace::Open(rate) => Pace::Open(rate / cores as f64),
            other => other,
        };
        let start = clock::now();
        let ends = self.duration.map_or(Instant::FAR, |d| start + d);
        let messages = self.messages.map(|m| share(m, core, cores));
        (Schedule::new(pace, start, ends, messages, Id { run, core: core as u16, seq: 0 }), pace)
    }
}

/// What of `total` is for `core`.
fn share(total: u64, core: usize, cores: usize) -> u64 {
    total / cores as u64 + u64::from((core as u64) < total % cores as u64)
}

/// Runs the load until it is done or stopped.
pub fn run(options: &Options, stop: &Stop) -> io::Result<SendReport> {
    limits::raise_nofile();
    let cores = options.cores.max(1);
    let script = Arc::new(options.script());
    // Seconds since 2020 fit for a century; two runs in one second would share ids, so milliseconds are mixed in.
    let run = (clock::wall().as_millis() / 10) as u32;
    let pens: Vec<Option<Pen>> = match &options.ledger {
        Some(path) => Pen::create(path, cores)?.into_iter().map(Some).collect(),
        None => (0..cores).map(|_| None).collect(),
    };
    let mut threads = Vec::with_capacity(cores);
    for (number, pen) in pens.into_iter().enumerate() {
        let (schedule, pace) = options.schedule(number, run);
        let start = core::Start {
            target: options.target,
            knobs: ReactorKnobs { driver: options.io, ..ReactorKnobs::default() },
            script: script.clone(),
            schedule,
            pace,
            connections: share(options.connections as u64, number, cores) as usize,
            sources: options.sources.clone(),
            first_source: (options.connections / cores * number) as u64,
            timeout: options.timeout,
            pen,
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
    let mut busiest = 0.0f64;
    for thread in threads {
        let tally = thread.join().map_err(|_| io::Error::other("a core of the sender panicked"))??;
        busiest = busiest.max(tally.cpu.as_secs_f64() / tally.elapsed.as_secs_f64().max(1e-9));
        total.add(&tally);
    }
    Ok(SendReport::new(options, &total, busiest))
}
