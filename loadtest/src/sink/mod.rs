//! The sink: takes mail over SMTP or LMTP and throws it away, on as many cores as asked for.
//!
//! How it fails: a port that cannot be had or a ledger that cannot be written ends it with one line; connections that
//! break are closed and forgotten.

pub mod args;
mod auth;
mod behaviour;
mod body;
mod core;
mod greylist;
pub mod session;
mod tally;

use crate::ledger::Pen;
use crate::stop::Stop;
pub use auth::Accounts;
pub use behaviour::{Action, Behaviour, Delay, Fault, Offers, Stage, Tarpit, TlsOffer};
use gatepost::reactor::tls::{ServerTls, TlsKnobs, self_signed};
use gatepost::reactor::{Io, ReactorKnobs, limits, listen};
pub use greylist::Greylist;
use session::Tally;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

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
    let tls = if options.behaviour.tls == TlsOffer::None { None } else { Some(material()?) };
    let mut threads = Vec::with_capacity(cores);
    for (number, listener) in listeners.into_iter().enumerate() {
        let behaviour = Behaviour { ledger: options.ledger.is_some(), ..options.behaviour.clone() };
        let knobs = ReactorKnobs { driver: options.io, ..ReactorKnobs::default() };
        let (pen, tls, stop) = (pens[number].take(), tls.clone(), stop.clone());
        threads.push(std::thread::Builder::new().name(format!("sink-{number}")).spawn(move || {
            let start = core::Start { listener, knobs, behaviour: &behaviour, tls, pen, number };
            core::run(start, &stop).inspect_err(|_| stop.stop())
        })?);
    }
    Ok(Running { address, stop: stop.clone(), threads })
}

/// A certificate for this run, made in a folder of its own that is removed again.
fn material() -> io::Result<Arc<ServerTls>> {
    let dir = std::env::temp_dir().join(format!("gatepost-load-{}-{:016x}", std::process::id(), fastrand::u64(..)));
    // Made by us and nobody else: an existing folder is an error.
    fs::DirBuilder::new().mode(0o700).create(&dir)?;
    let loaded = self_signed(&dir, "sink.example.test")
        .and_then(|made| ServerTls::load(&[made.files], &TlsKnobs::default()))
        .map_err(|e| io::Error::other(format!("TLS of the sink: {e}")));
    fs::remove_dir_all(&dir)?;
    loaded.map(Arc::new)
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
