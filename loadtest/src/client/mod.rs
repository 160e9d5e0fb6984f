//! Small clients in numbers: one loop for readers and for attackers, each client a machine of its own.
//!
//! A session is a connection with one client on it. In an open loop sessions begin at a rate, whatever the server does,
//! and their time counts from their place in the schedule; in a closed loop a session begins when another ends. How it
//! fails: a thread that cannot be made, a driver that cannot be opened or a ledger that cannot be written ends the run
//! with one line; trouble with single connections is counted.

mod core;
mod report;
mod secure;
mod tally;

use crate::ledger::Pen;
use crate::live::Counters;
use crate::message;
use crate::stop::Stop;
use crate::target::Sources;
use gatepost::base::time::Instant;
use gatepost::reactor::{Io, ReactorKnobs, limits};
pub use report::ClientReport;
pub use secure::Encryption;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
pub use tally::Tally;

/// What a client is told about itself when it is made.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    /// Which session of its core.
    pub number: u64,
    /// Which core.
    pub core: usize,
    /// Cores of the run.
    pub cores: usize,
}

impl Ticket {
    /// Which of `total` things (users, addresses) this session is for. Each belongs to one core for the whole run.
    pub fn share_of(&self, total: u64) -> u64 {
        let total = total.max(1);
        let (core, cores) = (self.core as u64, self.cores as u64);
        if core >= total {
            return core % total;
        }
        let mine = (total - core).div_ceil(cores);
        core + cores * (self.number % mine)
    }
}

/// What a client wants after an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// To hear the server.
    Wait,
    /// To be woken at that time, and to hear the server meanwhile.
    WakeAt(Instant),
    /// The session is over, as it should be.
    Close,
    /// The session is over, and the connection is to be torn down without a farewell.
    Drop,
    /// The session is over before its time: the reason, counted as an error.
    Broken(&'static str),
}

/// A message that a reader has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Whose mailbox it is in.
    pub user: u64,
    /// Which message of that mailbox (the IMAP UID, a hash of the POP3 unique id).
    pub mark: u64,
    /// Its id and the checksum of its body, when it is one of ours.
    pub message: Option<(message::Id, u32)>,
}

/// Where a client reaches its surroundings.
pub struct Turn<'a> {
    /// Now.
    pub now: Instant,
    /// Whether the run is over: who has a choice says goodbye.
    pub over: bool,
    /// What is to be sent.
    pub out: &'a mut Vec<u8>,
    /// Counts and times.
    pub tally: &'a mut Tally,
    /// Messages seen.
    pub seen: &'a mut Vec<Sighting>,
    /// Chance, seeded.
    pub rng: &'a mut fastrand::Rng,
}

/// One client on one connection. Pure: bytes in, bytes out, time as an argument.
pub trait Client {
    /// The connection is up; most wait for the greeting.
    fn connected(&mut self, _turn: &mut Turn<'_>) -> Next {
        Next::Wait
    }
    /// The server said `bytes`.
    fn input(&mut self, bytes: &[u8], turn: &mut Turn<'_>) -> Next;
    /// The time it asked for has come.
    fn wake(&mut self, _turn: &mut Turn<'_>) -> Next {
        Next::Wait
    }
    /// The server ended the connection, or it broke. True when that is in order for this client.
    fn ended(&mut self, turn: &mut Turn<'_>) -> bool;
}

/// How sessions come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// One after the other on every connection.
    Closed,
    /// So many a second, all cores together.
    Open(f64),
}

/// Everything a run of clients is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the clients are, for reports.
    pub kind: String,
    /// Where to.
    pub target: SocketAddr,
    /// Threads.
    pub cores: usize,
    /// Driver.
    pub io: Io,
    /// How sessions come.
    pub pace: Pace,
    /// Connections at most, all cores together.
    pub connections: usize,
    /// Sessions in all.
    pub sessions: Option<u64>,
    /// Time in all: no session begins after it, and those that are open are asked to end.
    pub duration: Option<Duration>,
    /// Where connections come from.
    pub sources: Option<Sources>,
    /// How connections are encrypted.
    pub encryption: Encryption,
    /// Name the server is asked for in TLS (SNI); without one its address, which is not sent.
    pub tls_name: Option<String>,
    /// Longest silence of a server, while an answer is due.
    pub timeout: Duration,
    /// Where messages seen are written down.
    pub ledger: Option<PathBuf>,
    /// Seed of what is left to chance.
    pub seed: u64,
}

impl Options {
    /// One session after the other on one connection; callers change what they need.
    pub fn to(target: SocketAddr, kind: &str) -> Options {
        Options {
            kind: kind.to_owned(),
            target,
            cores: 1,
            io: Io::Auto,
            pace: Pace::Closed,
            connections: 1,
            sessions: Some(1),
            duration: None,
            sources: None,
            encryption: Encryption::None,
            tls_name: None,
            timeout: Duration::from_secs(60),
            ledger: None,
            seed: 1,
        }
    }
}

/// What of `total` is for `core`.
fn share(total: u64, core: usize, cores: usize) -> u64 {
    total / cores as u64 + u64::from((core as u64) < total % cores as u64)
}

/// Runs clients made by `make` until the run is done or stopped.
pub fn run<C: Client + Send>(
    options: &Options,
    make: impl Fn(Ticket) -> C + Send + Sync + 'static,
    counters: &Arc<Counters>,
    stop: &Stop,
) -> io::Result<ClientReport> {
    limits::raise_nofile();
    let cores = options.cores.max(1);
    let make = Arc::new(make);
    let pens: Vec<Option<Pen>> = match &options.ledger {
        Some(path) => Pen::create(path, cores)?.into_iter().map(Some).collect(),
        None => (0..cores).map(|_| None).collect(),
    };
    let mut threads = Vec::with_capacity(cores);
    for (number, pen) in pens.into_iter().enumerate() {
        let start = core::Start {
            options: Options {
                connections: (share(options.connections as u64, number, cores) as usize).max(1),
                sessions: options.sessions.map(|n| share(n, number, cores)),
                pace: match options.pace {
                    Pace::Open(rate) => Pace::Open(rate / cores as f64),
                    Pace::Closed => Pace::Closed,
                },
                ..options.clone()
            },
            number,
            cores,
            knobs: ReactorKnobs { driver: options.io, ..ReactorKnobs::default() },
            pen,
            counters: counters.clone(),
            stop: stop.clone(),
        };
        let (make, stop) = (make.clone(), stop.clone());
        threads.push(
            std::thread::Builder::new()
                .name(format!("client-{number}"))
                .spawn(move || core::run(start, &*make).inspect_err(|_| stop.stop()))?,
        );
    }
    let mut total = Tally::default();
    let mut busiest = 0.0f64;
    for thread in threads {
        let tally = thread.join().map_err(|_| io::Error::other("a core of the clients panicked"))??;
        busiest = busiest.max(tally.cpu.as_secs_f64() / tally.elapsed.as_secs_f64().max(1e-9));
        total.add(&tally);
    }
    Ok(ClientReport::new(options, &total, busiest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_belongs_to_one_core_and_every_one_has_its_turn() {
        for (users, cores) in [(1, 1), (1, 3), (7, 3), (10, 2), (2, 4)] {
            let mut owner = std::collections::BTreeMap::new();
            for core in 0..cores {
                for number in 0..50 {
                    let user = Ticket { number, core, cores }.share_of(users);
                    assert!(user < users);
                    let first = *owner.entry(user).or_insert(core);
                    // More cores than users is the one case in which a user has several.
                    assert!(first == core || cores as u64 > users, "user {user} of {users} on {cores}");
                }
            }
            assert_eq!(owner.len() as u64, users);
        }
    }
}
