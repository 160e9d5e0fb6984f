//! The command line of readers and attackers.
//!
//! How it fails: 1 when nothing at all was done or what was asked for makes no sense, with one line that says why.

use crate::cli::{duration, save};
use crate::client::{self, ClientReport, Encryption, Pace};
use crate::live::{self, Counters, Show};
use crate::stop::Stop;
use crate::target::{self, Sources};
use crate::{attack, read};
use clap::Args;
use gatepost::reactor::Io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// What all small clients take.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// HOST:PORT; loopback, unless the host is named with --i-own.
    target: String,
    /// A host that is not loopback and may be loaded.
    #[arg(long)]
    i_own: Vec<String>,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    cores: usize,
    /// Driver: auto, uring or epoll.
    #[arg(long, default_value = "auto")]
    io: Io,
    /// Connections at most; a closed loop keeps all of them busy. Default: 1, in an open loop 1000.
    #[arg(long, short = 'c')]
    connections: Option<usize>,
    /// Sessions per second, whatever the server does (open loop).
    #[arg(long, allow_negative_numbers = true)]
    rate: Option<f64>,
    /// Sessions in all.
    #[arg(long, short = 'm')]
    sessions: Option<u64>,
    /// Seconds in all.
    #[arg(long, short = 's')]
    seconds: Option<f64>,
    /// Addresses that connections come from, in turn: a network inside 127.0.0.0/8.
    #[arg(long)]
    sources: Option<Sources>,
    /// TLS from the first octet. Certificates are not verified.
    #[arg(long, conflicts_with = "starttls")]
    tls: bool,
    /// STARTTLS (POP3: STLS) before anything else. Certificates are not verified.
    #[arg(long)]
    starttls: bool,
    /// Name the server is asked for in TLS (SNI).
    #[arg(long)]
    tls_name: Option<String>,
    /// Longest silence of the server while an answer is due.
    #[arg(long, default_value = "60s", value_parser = duration)]
    timeout: Duration,
    /// Seed of what is left to chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the result as JSON here; `-` is standard output.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write a line of JSON to standard error every second, for a program to read.
    #[arg(long)]
    progress: bool,
}

/// Arguments of `gatepost-load read`.
#[derive(Args, Debug)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Protocol.
    #[arg(long, value_enum)]
    protocol: read::Protocol,
    /// What a session does.
    #[arg(long = "do", value_enum)]
    what: read::Do,
    /// Name to log in with; {} is the user's number, from 1.
    #[arg(long)]
    user: String,
    /// Users, who take turns.
    #[arg(long, default_value_t = 1)]
    users: u64,
    /// File with the password of all users, or one line for each.
    #[arg(long)]
    password_file: PathBuf,
    /// How often a session does it.
    #[arg(long, default_value_t = 1)]
    rounds: u64,
    /// Between two rounds; how long one IDLE waits.
    #[arg(long, default_value = "0s", value_parser = duration)]
    pause: Duration,
    /// POP3: delete what was read.
    #[arg(long)]
    delete: bool,
    /// IMAP: the mailbox.
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// Write down id and checksum of every message, once for each mailbox it is in.
    #[arg(long)]
    ledger: Option<PathBuf>,
}

/// Arguments of `gatepost-load attack`.
#[derive(Args, Debug)]
pub(crate) struct AttackArgs {
    #[command(flatten)]
    run: RunArgs,
    /// What a session does.
    #[arg(long = "do", value_enum)]
    what: attack::Do,
    /// Domain of recipients and users that are tried.
    #[arg(long, default_value = "example.test")]
    domain: String,
    /// Recipients or passwords that one session tries.
    #[arg(long, default_value_t = 10)]
    tries: u64,
    /// Between two octets of a slow client.
    #[arg(long, default_value = "1s", value_parser = duration)]
    interval: Duration,
}

impl RunArgs {
    /// `starttls` is how the protocol begins TLS.
    fn options(&self, ledger: Option<PathBuf>, starttls: Encryption) -> Result<client::Options, String> {
        let pace = match self.rate {
            Some(rate) if rate > 0.0 && rate.is_finite() => Pace::Open(rate),
            Some(rate) => return Err(format!("--rate: expected more than 0 sessions per second, found {rate}")),
            None => Pace::Closed,
        };
        if self.sessions.is_none() && self.seconds.is_none() {
            return Err("expected --sessions or --seconds to say when to end".into());
        }
        let seconds = self.seconds.map(Duration::try_from_secs_f64).transpose();
        Ok(client::Options {
            cores: self.cores.max(1),
            io: self.io,
            pace,
            connections: self.connections.unwrap_or(if self.rate.is_some() { 1000 } else { 1 }),
            sessions: self.sessions,
            duration: seconds.map_err(|e| format!("--seconds: {e}"))?,
            sources: self.sources.clone(),
            encryption: match (self.tls, self.starttls) {
                (true, _) => Encryption::Implicit,
                (_, true) => starttls,
                _ => Encryption::None,
            },
            tls_name: self.tls_name.clone(),
            timeout: self.timeout,
            ledger,
            seed: self.seed,
            ..client::Options::to(target::resolve(&self.target, &self.i_own)?, "")
        })
    }

    fn finish(
        &self,
        name: &str,
        total: Option<Duration>,
        work: impl FnOnce(&Arc<Counters>, &Stop) -> Result<ClientReport, String> + Send,
    ) -> Result<ExitCode, String> {
        let stop = Stop::default();
        stop.at_signals();
        let counters = Arc::new(Counters::default());
        let show = match (self.progress, &self.json) {
            (true, _) => Show::Program,
            (false, Some(path)) if path.as_os_str() == "-" => Show::Nothing,
            _ => Show::Person,
        };
        let (result, _) = live::watch(show, name, total, &counters, || work(&counters, &stop));
        let report = result.ok_or("the run panicked")??;
        save(&report, self.json.as_deref())?;
        Ok(if report.connected > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

pub(crate) fn run_read(args: &ReadArgs) -> Result<ExitCode, String> {
    let starttls = if args.protocol == read::Protocol::Pop3 { Encryption::Pop3 } else { Encryption::Imap };
    let options = read::Options {
        run: args.run.options(args.ledger.clone(), starttls)?,
        protocol: args.protocol,
        what: args.what,
        users: read::Users::from_file(&args.user, args.users, &args.password_file)?,
        rounds: args.rounds,
        pause: args.pause,
        delete: args.delete,
        mailbox: args.mailbox.clone(),
    };
    args.run.finish("read", options.run.duration, |counters, stop| read::run(&options, counters, stop))
}

pub(crate) fn run_attack(args: &AttackArgs) -> Result<ExitCode, String> {
    if args.run.starttls && args.what == attack::Do::EarlyTalk {
        return Err(
            "--do early-talk: who asks for STARTTLS has waited for the greeting; expected --tls, or none".into()
        );
    }
    let options = attack::Options {
        run: args.run.options(None, Encryption::Smtp)?,
        what: args.what,
        domain: args.domain.clone(),
        tries: args.tries,
        interval: args.interval,
    };
    args.run.finish("attack", options.run.duration, |counters, stop| attack::run(&options, counters, stop))
}
