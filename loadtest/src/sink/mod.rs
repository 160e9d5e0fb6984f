//! The sink: takes mail over SMTP or LMTP and throws it away, on as many cores as asked for.
//!
//! How it fails: a port that cannot be had or a ledger that cannot be written ends it with one line; connections that
//! break are closed and forgotten.

mod core;
pub mod session;

use crate::ledger::Pen;
use crate::stop::Stop;
use gatepost::reactor::{Io, ReactorKnobs, limits, listen};
use session::Tally;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How the sink behaves.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// LMTP instead of SMTP.
    pub lmtp: bool,
    /// Whether BDAT is taken.
    pub chunking: bool,
    /// How long the reply to a message takes.
    pub delay: Duration,
    /// Share of recipients refused with 550, 0 to 1.
    pub reject_rcpt: f64,
    /// Share of recipients put off with 450, 0 to 1.
    pub defer: f64,
    /// Share of messages answered by dropping the connection, 0 to 1.
    pub disconnect: f64,
    /// Whether messages are read for the ledger.
    pub ledger: bool,
    /// The greeting, as it is on the wire.
    pub greeting: String,
    /// The reply to EHLO and LHLO, as it is on the wire.
    pub extensions: String,
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour::offering(&Offers::default())
    }
}

/// What the sink offers in its reply to EHLO.
#[derive(Clone, Debug)]
pub struct Offers {
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// SIZE (RFC 1870) with this limit; 0 is "no limit".
    pub size_octets: Option<u64>,
    /// LMTP instead of SMTP.
    pub lmtp: bool,
}

impl Default for Offers {
    fn default() -> Self {
        Offers { pipelining: true, chunking: true, size_octets: Some(0), lmtp: false }
    }
}

impl Behaviour {
    /// A friendly sink with these offers.
    pub fn offering(offers: &Offers) -> Behaviour {
        let mut lines = vec!["sink".to_owned()];
        lines.extend(offers.pipelining.then(|| "PIPELINING".to_owned()));
        lines.extend(offers.chunking.then(|| "CHUNKING".to_owned()));
        lines.extend(offers.size_octets.map(|n| if n == 0 { "SIZE".to_owned() } else { format!("SIZE {n}") }));
        lines.extend(["8BITMIME", "SMTPUTF8", "DSN"].map(str::to_owned));
        let mut extensions: String = lines.iter().map(|l| format!("250-{l}\r\n")).collect();
        extensions.push_str("250 ENHANCEDSTATUSCODES\r\n");
        Behaviour {
            lmtp: offers.lmtp,
            chunking: offers.chunking,
            delay: Duration::ZERO,
            reject_rcpt: 0.0,
            defer: 0.0,
            disconnect: 0.0,
            ledger: false,
            greeting: format!("220 sink {}\r\n", if offers.lmtp { "LMTP" } else { "ESMTP" }),
            extensions,
        }
    }
}

/// Everything a sink is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 picks one.
    pub listen: SocketAddr,
    /// Threads.
    pub cores: usize,
    /// Driver.
    pub io: Io,
    /// Behaviour.
    pub behaviour: Behaviour,
    /// Where messages seen are written down.
    pub ledger: Option<PathBuf>,
}

/// A sink that runs.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    stop: Stop,
    threads: Vec<std::thread::JoinHandle<io::Result<Tally>>>,
}

/// Starts a sink.
pub fn start(options: &Options, stop: &Stop) -> io::Result<Running> {
    limits::raise_nofile();
    let cores = options.cores.max(1);
    let mut listeners = vec![listen::bind(options.listen, BACKLOG, true).map_err(|e| io::Error::other(e.to_string()))?];
    let address = listeners[0].local_addr()?;
    while listeners.len() < cores {
        listeners.push(listen::join(&listeners[0], BACKLOG).map_err(|e| io::Error::other(e.to_string()))?);
    }
    let mut pens: Vec<Option<Pen>> = match &options.ledger {
        Some(path) => Pen::create(path, cores)?.into_iter().map(Some).collect(),
        None => (0..cores).map(|_| None).collect(),
    };
    let mut threads = Vec::with_capacity(cores);
    for (number, listener) in listeners.into_iter().enumerate() {
        let behaviour = Behaviour { ledger: options.ledger.is_some(), ..options.behaviour.clone() };
        let knobs = ReactorKnobs { driver: options.io, ..ReactorKnobs::default() };
        let (pen, stop) = (pens[number].take(), stop.clone());
        threads.push(
            std::thread::Builder::new().name(format!("sink-{number}")).spawn(move || {
                core::run(listener, &knobs, &behaviour, pen, number, &stop).inspect_err(|_| stop.stop())
            })?,
        );
    }
    Ok(Running { address, stop: stop.clone(), threads })
}

/// Connections the kernel queues for each core.
const BACKLOG: u32 = 4096;

impl Running {
    /// Ends the sink and returns what it counted.
    pub fn finish(self) -> io::Result<Tally> {
        self.stop.stop();
        self.join()
    }

    /// Waits until somebody stops it.
    pub fn join(self) -> io::Result<Tally> {
        let mut total = Tally::default();
        for thread in self.threads {
            let tally = thread.join().map_err(|_| io::Error::other("a core of the sink panicked"))??;
            total.add(&tally);
        }
        Ok(total)
    }
}
