//! The command line of `sink`, as values.
//!
//! How it fails: what cannot be meant is refused with the flag and what was expected.

use super::auth::Accounts;
use super::behaviour::{Delay, Fault, Tarpit, TlsOffer};
use super::greylist::Greylist;
use super::{Behaviour, Offers, Options};
use crate::cli::{duration, octets, on_off, part};
use clap::Args;
use gatepost::reactor::Io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `sink`
#[derive(Args, Clone, Debug)]
pub struct SinkArgs {
    /// Address to listen on; port 0 picks one.
    #[arg(long, default_value = "127.0.0.1:2526")]
    pub listen: SocketAddr,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    pub cores: usize,
    /// Driver: auto, uring or epoll.
    #[arg(long, default_value = "auto")]
    pub io: Io,
    /// Speak LMTP instead of SMTP.
    #[arg(long)]
    pub lmtp: bool,
    /// Offer PIPELINING: on or off.
    #[arg(long, default_value = "on", value_parser = on_off, action = clap::ArgAction::Set)]
    pub pipelining: bool,
    /// Offer and take CHUNKING: on or off.
    #[arg(long, default_value = "on", value_parser = on_off, action = clap::ArgAction::Set)]
    pub chunking: bool,
    /// Limit offered with SIZE; 0 offers SIZE without a limit.
    #[arg(long, default_value = "0", value_parser = octets)]
    pub size: u64,
    /// Do not offer SIZE.
    #[arg(long)]
    pub no_size: bool,
    /// Offer STARTTLS, with a certificate made at the start.
    #[arg(long)]
    pub starttls: bool,
    /// TLS from the first octet.
    #[arg(long, conflicts_with = "starttls")]
    pub tls: bool,
    /// Offer AUTH for the users of this file, with lines of `user:password`.
    #[arg(long)]
    pub password_file: Option<PathBuf>,
    /// How long the reply to each message takes: `20ms`, `exp:20ms` (mean), `lognormal:20ms,0.5` (median, deviation).
    #[arg(long, default_value = "0ms")]
    pub delay: Delay,
    /// Every reply this late: `2s`, or `2s:0.1` in a share of the sessions.
    #[arg(long)]
    pub tarpit: Option<Tarpit>,
    /// Put off a sender and recipient with 451 until they come again after this long.
    #[arg(long, value_parser = duration)]
    pub greylist: Option<Duration>,
    /// Share of recipients refused with 550.
    #[arg(long, default_value = "0", value_parser = part)]
    pub reject_rcpt: f64,
    /// Share of recipients put off with 450.
    #[arg(long, default_value = "0", value_parser = part)]
    pub defer: f64,
    /// Share of messages answered by dropping the connection.
    #[arg(long, default_value = "0", value_parser = part)]
    pub disconnect: f64,
    /// What else goes wrong on purpose, `STAGE:ACTION:SHARE`, may be repeated. Stages: connect, ehlo, starttls, auth, mail,
    /// rcpt, data, body; actions: a code from 400 to 599, drop, stall (stops reading); and to
    /// try the ledger, of a body: lose, double, spoil.
    #[arg(long)]
    pub fault: Vec<Fault>,
    /// For everything that is drawn.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write down id and checksum of every message.
    #[arg(long)]
    pub ledger: Option<PathBuf>,
    /// Write the counts as JSON here at the end; `-` is standard output.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

impl SinkArgs {
    /// What they ask for.
    pub fn options(&self) -> Result<Options, String> {
        let accounts = match &self.password_file {
            Some(path) => Some(Arc::new(Accounts::new(crate::send::args::users_in(path)?)?)),
            None => None,
        };
        let offers = Offers {
            pipelining: self.pipelining,
            chunking: self.chunking,
            size_octets: (!self.no_size).then_some(self.size),
            lmtp: self.lmtp,
            tls: match (self.starttls, self.tls) {
                (true, _) => TlsOffer::StartTls,
                (_, true) => TlsOffer::Implicit,
                _ => TlsOffer::None,
            },
            accounts,
        };
        let behaviour = Behaviour {
            delay: self.delay,
            tarpit: self.tarpit,
            greylist: self.greylist.map(|pause| Arc::new(Greylist::new(pause))),
            reject_rcpt: self.reject_rcpt,
            defer: self.defer,
            disconnect: self.disconnect,
            faults: self.fault.clone(),
            seed: self.seed,
            ..Behaviour::offering(&offers)
        };
        Ok(Options { listen: self.listen, cores: self.cores, io: self.io, behaviour, ledger: self.ledger.clone() })
    }
}
