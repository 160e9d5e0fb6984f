//! Clients that nobody wants: what an edge on the open internet sees most of the time.
//!
//! Only towards loopback or a host named with `--i-own`, like everything here. How it fails: as [`crate::client`] does;
//! what the server refuses is what is counted.

mod flood;
mod smtp;
mod trickle;

use crate::client::{self, ClientReport, Next, Ticket, Turn};
use crate::live::Counters;
use crate::stop::Stop;
use flood::Flood;
use smtp::{Guess, Probe};
use std::sync::Arc;
use std::time::Duration;
use trickle::Trickle;

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Do {
    /// Talks before the greeting (RFC 5321 §4.3.1), as spam software does.
    EarlyTalk,
    /// Tries made-up recipients, one after the other.
    Dictionary,
    /// Guesses passwords with AUTH PLAIN.
    Guess,
    /// Sends a command octet by octet, to hold a connection for as long as it is allowed to.
    Slowloris,
    /// Connects, hears the greeting, and tears the connection down.
    Flood,
}

impl Do {
    fn name(self) -> &'static str {
        match self {
            Do::EarlyTalk => "early-talk",
            Do::Dictionary => "dictionary",
            Do::Guess => "guess",
            Do::Slowloris => "slowloris",
            Do::Flood => "flood",
        }
    }
}

/// Everything a run of attackers is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The loop.
    pub run: client::Options,
    /// What they do.
    pub what: Do,
    /// Domain of the recipients that are tried, and of the users whose passwords are guessed.
    pub domain: String,
    /// Recipients or passwords that one session tries.
    pub tries: u64,
    /// Between two octets of a slow client.
    pub interval: Duration,
}

/// Any of them.
enum Attacker {
    Probe(Probe),
    Guess(Guess),
    Trickle(Trickle),
    Flood(Flood),
}

impl Attacker {
    fn new(what: Do, domain: &str, tries: u64, interval: Duration, ticket: Ticket) -> Attacker {
        match what {
            Do::EarlyTalk => Attacker::Probe(Probe::early(domain, 1)),
            Do::Dictionary => Attacker::Probe(Probe::new(domain, tries)),
            Do::Guess => Attacker::Guess(Guess::new(domain, tries, ticket.number)),
            Do::Slowloris => Attacker::Trickle(Trickle::new(interval)),
            Do::Flood => Attacker::Flood(Flood),
        }
    }
}

/// Calls the same method of whichever it is.
macro_rules! each {
    ($self:ident.$method:ident($($arg:expr),*)) => {
        match $self {
            Attacker::Probe(c) => c.$method($($arg),*),
            Attacker::Guess(c) => c.$method($($arg),*),
            Attacker::Trickle(c) => c.$method($($arg),*),
            Attacker::Flood(c) => c.$method($($arg),*),
        }
    };
}

impl client::Client for Attacker {
    fn connected(&mut self, turn: &mut Turn<'_>) -> Next {
        each!(self.connected(turn))
    }
    fn input(&mut self, bytes: &[u8], turn: &mut Turn<'_>) -> Next {
        each!(self.input(bytes, turn))
    }
    fn wake(&mut self, turn: &mut Turn<'_>) -> Next {
        each!(self.wake(turn))
    }
    fn ended(&mut self, turn: &mut Turn<'_>) -> bool {
        each!(self.ended(turn))
    }
}

/// Runs attackers until they are done or stopped.
pub fn run(options: &Options, counters: &Arc<Counters>, stop: &Stop) -> Result<ClientReport, String> {
    let mut run = options.run.clone();
    run.kind = options.what.name().to_owned();
    let (what, domain, tries, interval) =
        (options.what, options.domain.clone(), options.tries.max(1), options.interval);
    client::run(&run, move |ticket| Attacker::new(what, &domain, tries, interval, ticket), counters, stop)
        .map_err(|e| e.to_string())
}
