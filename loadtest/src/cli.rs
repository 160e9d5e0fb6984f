//! The command line.
//!
//! How it fails: 0 success, 1 the run failed or found what must not be (loss, corruption), 2 wrong usage; one line on
//! standard error says why.

use crate::cli_read::{AttackArgs, ReadArgs, run_attack, run_read};
use crate::compare::{self, holder, readme};
use crate::live::{self, Counters, Show};
pub use crate::send::args::SendArgs;
use crate::send::{Options, Pace};
pub use crate::sink::args::SinkArgs;
use crate::stop::Stop;
use crate::{capacity, html, ledger, mailstore, pingpong, report, scenario, send, sink};
use clap::{Args, CommandFactory, Parser, Subcommand};
use gatepost::base::knob::{KnobType, Octets, Raw, parse_duration};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
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
    Send(Box<SendArgs>),
    /// Takes mail and throws it away.
    Sink(SinkArgs),
    /// Reads mail over POP3 or IMAP, as users do, and times it.
    Read(ReadArgs),
    /// Plays the clients nobody wants: botnets, guessers, slow and empty connections.
    Attack(AttackArgs),
    /// Joins the ledgers of senders, sinks and readers: what was lost, duplicated, corrupted, reordered.
    Ledger(LedgerArgs),
    /// Runs a scenario: kinds of clients, faults, and what must be true afterwards. Without a name, lists them.
    Scenario(scenario::ScenarioArgs),
    /// Sends mail while the server is killed and started again; says what was lost after its 250.
    Crash(scenario::CrashArgs),
    /// Finds the highest rate at which the expectations hold.
    Capacity(capacity::CapacityArgs),
    /// Makes one HTML page of one result, or of two side by side.
    Report(html::ReportArgs),
    /// Measures servers side by side on the same work: Gatepost, and every peer that is here.
    #[command(visible_alias = "measure")]
    Compare(compare::CompareArgs),
    /// Makes a README's tables of a kept result of compare, or checks that they are its.
    Table(readme::TableArgs),
    /// What this machine can do at all: the same octets to and fro, and nothing understood.
    PingPong(pingpong::PingPongArgs),
    /// Measures mailstores side by side: deliveries, IMAP, POP3.
    Mailstore(mailstore::MailstoreArgs),
    /// Runs a server for a comparison and ends everything it started; not for people.
    #[command(hide = true)]
    HoldTree(holder::HoldArgs),
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| format!("expected a duration such as \"500ms\" or \"30s\", found {text:?}"))
}

pub(crate) fn octets(text: &str) -> Result<u64, String> {
    Octets::parse(&Raw::Text(text.into())).map(|o| o.0)
}

pub(crate) fn part(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if (0.0..=1.0).contains(&n) => Ok(n),
        _ => Err(format!("expected a share from 0 to 1, found {text:?}")),
    }
}

pub(crate) fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("expected on or off, found {text:?}")),
    }
}

#[derive(Args, Debug)]
struct LedgerArgs {
    /// Ledger of a sender.
    #[arg(long, required = true)]
    sent: Vec<PathBuf>,
    /// Ledger of a sink.
    #[arg(long, required_unless_present = "read")]
    seen: Vec<PathBuf>,
    /// Ledger of a reader.
    #[arg(long)]
    read: Vec<PathBuf>,
    /// Write the account as JSON here; `-` is standard output.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Runs the command line of the process.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Send(args) => run_send(&args),
        Command::Sink(args) => run_sink(&args),
        Command::Read(args) => run_read(&args),
        Command::Attack(args) => run_attack(&args),
        Command::Ledger(args) => run_ledger(&args),
        Command::Scenario(args) => scenario::run_scenario(&args),
        Command::Crash(args) => scenario::run_crash(&args),
        Command::Capacity(args) => capacity::run(&args),
        Command::Report(args) => html::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Table(args) => readme::run(&args),
        Command::PingPong(args) => pingpong::run(&args),
        Command::HoldTree(args) => holder::run(&args),
        Command::Mailstore(args) => mailstore::run(&args).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|why| {
        eprintln!("gatepost-load: {why}");
        ExitCode::FAILURE
    })
}

fn run_send(args: &SendArgs) -> Result<ExitCode, String> {
    let counters = Arc::new(Counters::default());
    let options = Options { counters: Some(counters.clone()), ..args.options()? };
    let stop = Stop::default();
    stop.at_signals();
    let show = match (args.progress, &args.json) {
        (true, _) => Show::Program,
        (false, Some(path)) if path.as_os_str() == "-" => Show::Nothing,
        _ => Show::Person,
    };
    let (result, _) = live::watch(show, "send", options.duration, &counters, || send::run(&options, &stop));
    let result = result.ok_or("the run panicked")?.map_err(|e| e.to_string())?;
    save(&result, args.json.as_deref())?;
    Ok(if result.messages > 0 || options.pace == Pace::Hold { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_sink(args: &SinkArgs) -> Result<ExitCode, String> {
    let options = args.options()?;
    let stop = Stop::default();
    stop.at_signals();
    let running = sink::start(&options, &stop).map_err(|e| e.to_string())?;
    // Whoever started the sink with port 0 reads the port here.
    eprintln!("listening on {}", running.address);
    let tally = running.join().map_err(|e| e.to_string())?;
    save(&tally, args.json.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

/// Prints to standard output. Whoever reads it may have had enough (`| head`): that is no fault.
pub(crate) fn show(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a result as JSON to `path` (`-` is standard output), or as text to standard output.
pub(crate) fn save<T: serde::Serialize + std::fmt::Display>(value: &T, path: Option<&Path>) -> Result<(), String> {
    match path {
        Some(path) => report::write_json(value, path).map_err(|e| e.to_string()),
        None => {
            show(&value.to_string());
            Ok(())
        }
    }
}

fn run_ledger(args: &LedgerArgs) -> Result<ExitCode, String> {
    let accounts = ledger::accounts(&args.sent, &args.seen, &args.read).map_err(|e| e.to_string())?;
    save(&accounts, args.json.as_deref())?;
    Ok(if accounts.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether a subcommand would take these options, and if not, why in one line. What is required may be missing.
pub(crate) fn check(subcommand: &str, options: &[String]) -> Result<(), String> {
    let cli = Cli::command();
    let Some(command) = cli.find_subcommand(subcommand) else { return Err(format!("no subcommand {subcommand}")) };
    let command = command.clone().mut_args(|a| a.required(false)).no_binary_name(true);
    // Placeholders of scenarios stand for numbers, addresses and paths; 1 is as good as any of them here.
    let filled = options.iter().map(|o| without_places(o));
    match command.try_get_matches_from(filled) {
        Ok(_) => Ok(()),
        // What one option needs beside it is for the whole line to say.
        Err(e) if e.kind() == clap::error::ErrorKind::MissingRequiredArgument => Ok(()),
        Err(e) => {
            let text = e.render().to_string();
            Err(text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
        }
    }
}

fn without_places(text: &str) -> String {
    let mut parts = text.split('{');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('}') {
            Some((name, rest)) if !name.is_empty() => filled.extend(["1", rest]),
            _ => filled.extend(["{", part]),
        }
    }
    filled
}

/// Whether a subcommand has this option.
pub(crate) fn takes(subcommand: &str, option: &str) -> bool {
    let cli = Cli::command();
    cli.find_subcommand(subcommand).is_some_and(|c| c.get_arguments().any(|a| a.get_long() == Some(option)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_tried_one_by_one() {
        let one = |o: &str| check("read", &[o.to_owned()]);
        assert_eq!(one("--rounds=3"), Ok(()));
        assert_eq!(one("--pause={ms}ms"), Ok(()));
        assert_eq!(one("--password-file={dir}/p"), Ok(()));
        assert!(one("--rounds=x").unwrap_err().contains("--rounds"));
        assert!(one("--round=3").unwrap_err().contains("--round"));
        assert!(takes("read", "progress") && !takes("read", "nonsense"));
        assert_eq!(without_places("u{}@x {a}b {"), "u{}@x 1b {");
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
