//! The command line.
//!
//! How it fails: 0 success, 1 the run failed or found what must not be (loss, corruption), 2 wrong usage; one line on
//! standard error says why.

use crate::send::session::{Transfer, Work};
use crate::send::{Options, Pace};
use crate::sink::{self, Behaviour, Offers};
use crate::stop::Stop;
use crate::target::{self, Sources};
use crate::{ledger, measure, report, send};
use clap::{Args, Parser, Subcommand};
use gatepost::base::knob::{KnobType, Octets, Raw, parse_duration};
use gatepost::reactor::Io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Load, sink, ledger and measurements for mail servers.
#[derive(Parser, Debug)]
#[command(name = "gatepost-load", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Sends mail and times it.
    Send(SendArgs),
    /// Takes mail and throws it away.
    Sink(SinkArgs),
    /// Joins the ledgers of senders and sinks: what was lost, duplicated, corrupted.
    Ledger(LedgerArgs),
    /// Measures servers side by side on the same work.
    Measure(measure::MeasureArgs),
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| format!("expected a duration such as \"500ms\" or \"30s\", found {text:?}"))
}

fn octets(text: &str) -> Result<u64, String> {
    Octets::parse(&Raw::Text(text.into())).map(|o| o.0)
}

fn part(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if (0.0..=1.0).contains(&n) => Ok(n),
        _ => Err(format!("expected a share from 0 to 1, found {text:?}")),
    }
}

fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("expected on or off, found {text:?}")),
    }
}

#[derive(Args, Debug)]
struct SinkArgs {
    /// Address to listen on; port 0 picks one.
    #[arg(long, default_value = "127.0.0.1:2526")]
    listen: SocketAddr,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    cores: usize,
    /// Driver: auto, uring or epoll.
    #[arg(long, default_value = "auto")]
    io: Io,
    /// Speak LMTP instead of SMTP.
    #[arg(long)]
    lmtp: bool,
    /// Offer PIPELINING: on or off.
    #[arg(long, default_value = "on", value_parser = on_off, action = clap::ArgAction::Set)]
    pipelining: bool,
    /// Offer and take CHUNKING: on or off.
    #[arg(long, default_value = "on", value_parser = on_off, action = clap::ArgAction::Set)]
    chunking: bool,
    /// Limit offered with SIZE; 0 offers SIZE without a limit.
    #[arg(long, default_value = "0", value_parser = octets)]
    size: u64,
    /// Do not offer SIZE.
    #[arg(long)]
    no_size: bool,
    /// How long the reply to each message takes.
    #[arg(long, default_value = "0ms", value_parser = duration)]
    delay: Duration,
    /// Share of recipients refused with 550.
    #[arg(long, default_value = "0", value_parser = part)]
    reject_rcpt: f64,
    /// Share of recipients put off with 450.
    #[arg(long, default_value = "0", value_parser = part)]
    defer: f64,
    /// Share of messages answered by dropping the connection.
    #[arg(long, default_value = "0", value_parser = part)]
    disconnect: f64,
    /// Write down id and checksum of every message.
    #[arg(long)]
    ledger: Option<PathBuf>,
    /// Write the counts as JSON here at the end; `-` is standard output.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct SendArgs {
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
    /// Speak LMTP instead of SMTP.
    #[arg(long)]
    lmtp: bool,
    /// Connections at most; a closed loop keeps all of them busy.
    #[arg(long, short = 'c')]
    connections: Option<usize>,
    /// Messages per second, whatever the server does (open loop).
    #[arg(long, conflicts_with = "hold", allow_negative_numbers = true)]
    rate: Option<f64>,
    /// Open the connections and hold them idle for this long.
    #[arg(long, value_parser = duration)]
    hold: Option<Duration>,
    /// Messages in all.
    #[arg(long, short = 'm')]
    messages: Option<u64>,
    /// Seconds in all.
    #[arg(long, short = 's')]
    seconds: Option<f64>,
    /// Octets of a message.
    #[arg(long, default_value = "10KiB", value_parser = octets)]
    size: u64,
    /// Messages after which a connection is closed: 1 is a connection per message, 0 keeps it.
    #[arg(long, default_value_t = 0)]
    messages_per_connection: u64,
    /// Use PIPELINING when it is offered (on), or one command per round trip as smtp-source does (off).
    #[arg(long, default_value = "on", value_parser = on_off, action = clap::ArgAction::Set)]
    pipeline: bool,
    /// Use BDAT when CHUNKING is offered.
    #[arg(long)]
    bdat: bool,
    /// Recipients of a message.
    #[arg(long, default_value_t = 1)]
    recipients: usize,
    /// First recipient; further ones get a number behind the local part.
    #[arg(long, default_value = "user@example.test")]
    to: String,
    /// Sender; empty is the null path.
    #[arg(long, default_value = "load@load.example.test")]
    from: String,
    /// Addresses that connections come from, in turn: a network inside 127.0.0.0/8.
    #[arg(long)]
    sources: Option<Sources>,
    /// Longest silence of the server.
    #[arg(long, default_value = "60s", value_parser = duration)]
    timeout: Duration,
    /// Write down the outcome of every message.
    #[arg(long)]
    ledger: Option<PathBuf>,
    /// Expect the recipient to be refused, then QUIT; one session each.
    #[arg(long, conflicts_with = "hold")]
    reject_test: bool,
    /// Write the result as JSON here; `-` is standard output.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct LedgerArgs {
    /// Ledger of a sender.
    #[arg(long, required = true)]
    sent: Vec<PathBuf>,
    /// Ledger of a sink.
    #[arg(long, required = true)]
    seen: Vec<PathBuf>,
    /// Write the account as JSON here; `-` is standard output.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Runs the command line of the process.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Send(args) => run_send(args),
        Command::Sink(args) => run_sink(args),
        Command::Ledger(args) => run_ledger(&args),
        Command::Measure(args) => measure::run(&args).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|why| {
        eprintln!("gatepost-load: {why}");
        ExitCode::FAILURE
    })
}

fn run_send(args: SendArgs) -> Result<ExitCode, String> {
    let target = target::resolve(&args.target, &args.i_own)?;
    let pace = match (args.rate, args.hold) {
        (Some(rate), _) if rate > 0.0 && rate.is_finite() => Pace::Open(rate),
        (Some(rate), _) => return Err(format!("--rate: expected more than 0 messages per second, found {rate}")),
        (None, Some(_)) => Pace::Hold,
        (None, None) => Pace::Closed,
    };
    let seconds =
        args.seconds.map(|s| Duration::try_from_secs_f64(s).map_err(|e| format!("--seconds: {e}"))).transpose()?;
    let duration = args.hold.or(seconds);
    // An open loop needs room for what waits; a closed loop is as wide as it is told.
    let connections = args.connections.unwrap_or(if args.rate.is_some() { 1000 } else { 1 });
    if args.messages.is_none() && duration.is_none() {
        return Err("expected --messages, --seconds or --hold to say when to end".into());
    }
    let options = Options {
        target,
        cores: args.cores.max(1),
        io: args.io,
        lmtp: args.lmtp,
        pace,
        connections,
        messages: args.messages,
        duration,
        size_octets: usize::try_from(args.size).map_err(|e| e.to_string())?,
        messages_per_connection: args.messages_per_connection,
        pipeline: args.pipeline,
        transfer: if args.bdat { Transfer::Bdat } else { Transfer::Data },
        work: if args.reject_test { Work::Reject } else { Work::Mail },
        recipients: args.recipients,
        to: args.to,
        from: args.from,
        sources: args.sources,
        timeout: args.timeout,
        ledger: args.ledger,
    };
    let stop = Stop::default();
    stop.at_signals();
    let result = send::run(&options, &stop).map_err(|e| e.to_string())?;
    match &args.json {
        Some(path) => report::write_json(&result, path).map_err(|e| e.to_string())?,
        None => print!("{result}"),
    }
    Ok(if result.messages > 0 || pace == Pace::Hold { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_sink(args: SinkArgs) -> Result<ExitCode, String> {
    let offers = Offers {
        pipelining: args.pipelining,
        chunking: args.chunking,
        size_octets: (!args.no_size).then_some(args.size),
        lmtp: args.lmtp,
    };
    let behaviour = Behaviour {
        delay: args.delay,
        reject_rcpt: args.reject_rcpt,
        defer: args.defer,
        disconnect: args.disconnect,
        ..Behaviour::offering(&offers)
    };
    let options = sink::Options { listen: args.listen, cores: args.cores, io: args.io, behaviour, ledger: args.ledger };
    let stop = Stop::default();
    stop.at_signals();
    let running = sink::start(&options, &stop).map_err(|e| e.to_string())?;
    // Whoever started the sink with port 0 reads the port here.
    eprintln!("listening on {}", running.address);
    let tally = running.join().map_err(|e| e.to_string())?;
    match &args.json {
        Some(path) => report::write_json(&tally, path).map_err(|e| e.to_string())?,
        None => println!(
            "{} sessions, {} messages, {} recipients, {} octets; refused {}, deferred {}, dropped {}, errors {}, unmarked {}",
            tally.sessions,
            tally.messages,
            tally.recipients,
            tally.octets,
            tally.rejected,
            tally.deferred,
            tally.disconnected,
            tally.errors,
            tally.unmarked
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn run_ledger(args: &LedgerArgs) -> Result<ExitCode, String> {
    let account = ledger::join(&args.sent, &args.seen).map_err(|e| e.to_string())?;
    match &args.json {
        Some(path) => report::write_json(&account, path).map_err(|e| e.to_string())?,
        None => print!("{account}"),
    }
    Ok(if account.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
