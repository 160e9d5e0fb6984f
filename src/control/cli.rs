//! The command line.
//!
//! How it fails: wrong usage ends with exit code 2 and clap's explanation; everything else with exit code 1 and one
//! line `gatepost: …` on standard error (after the diagnostics, when a file is at fault).

use crate::base::knob::Raw;
use crate::control::account::AccountCommand;
use crate::control::alias::AliasCommand;
use crate::control::config::{Loaded, Override, Overrides, load};
use crate::control::consult::ConsultArgs;
use crate::control::diagnostic::render;
use crate::control::journal::JournalCommand;
use crate::control::lookup::LookupArgs;
use crate::control::mailbox::MailboxCommand;
use crate::control::policy::PolicyCommand;
use crate::control::queue::QueueCommand;
use crate::control::session::SessionArgs;
use crate::control::status::{DrainArgs, OrderArgs, ShowArgs};
use crate::control::tail::TailArgs;
use crate::control::top::TopArgs;
use crate::control::{
    account, alias, check, consult, documents, journal, lookup, mailbox, policy, queue, reference, schema, serve,
    session, status, tail, top, upgrade,
};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The gate in front of a mail server.
///
/// Without a subcommand it serves. Without any configuration it is a whole mail system on 127.0.0.1: SMTP on 2525,
/// submission on 2587 (STARTTLS) and 2465 (TLS), LMTP on 2424, POP3 on 2110 and 2995 (TLS), IMAP on 2143 and 2993 (TLS),
/// with its data in ./gatepost-data.
#[derive(Debug, Parser)]
#[command(name = "gatepost", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT (this is what happens without a subcommand, too)
    Serve(ServeArgs),
    /// Check configuration and policy, say everything that is wrong, start nothing
    Check(ServeArgs),
    /// Accounts that may log in
    #[command(subcommand)]
    Account(AccountCommand),
    /// Other names of accounts, distribution lists, local domains
    #[command(subcommand)]
    Alias(AliasCommand),
    /// The mail of local accounts: list, export, import, back up, verify, compact
    #[command(subcommand)]
    Mailbox(MailboxCommand),
    /// Look at the queue and change it, on a running server or on a stopped one's directory
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Show a running server in a few lines
    Status(ShowArgs),
    /// Watch a running server on the terminal, refreshed every second
    Top(TopArgs),
    /// Follow the policy's decisions as they are made
    Tail(TailArgs),
    /// Tell a session's whole story: who came, what was said, what was decided and why
    Session(SessionArgs),
    /// Read configuration, policy, lists and certificates again; show what is different; with an error change nothing
    Reload(OrderArgs),
    /// Accept nobody any more, let the sessions end, then end the server
    Drain(DrainArgs),
    /// Test a policy with golden cases, explain what it decides, replay recorded traffic, tune limits
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Ask a helper of the configuration (milter, rspamd, policy service) about a message, and show its advice
    Consult(Box<ConsultArgs>),
    /// Find out what the server would find out: names, lists, SPF of a client and sender; signatures of a message
    Lookup(Box<LookupArgs>),
    /// Look into journals, make one from another server's log
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Print the reference page, the JSON Schema or a file with every default
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Let the program that now lies in the running one's place take over, without refusing a client (also SIGUSR2)
    Upgrade {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Print completions for a shell, to be put where it looks for them
    Completions {
        /// Which
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write one a subcommand into a directory
    Man {
        /// The directory
        directory: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// The reference page, in Markdown
    Reference,
    /// The JSON Schema of the configuration file
    Schema,
    /// A configuration file with every default, commented
    Default,
}

/// How to serve; also what `check` checks.
#[derive(Debug, Default, Args)]
pub struct ServeArgs {
    /// Configuration file [default: ./gatepost.toml when it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory [default: ./gatepost-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Local domain; may be repeated [default: example.test]
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,
    /// Name in the greeting [default: the machine's name]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Backend that takes all mail, cut-through; may be repeated; lmtp:HOST:PORT speaks LMTP
    #[arg(long, value_name = "HOST:PORT")]
    backend: Vec<String>,
    /// What stands behind a 250: cut-through, spool or auto
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// Policy file [default: the one compiled in]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Driver: auto, uring or epoll
    #[arg(long, value_name = "DRIVER")]
    io: Option<String>,
    /// Cores to use [default: all]
    #[arg(long, value_name = "N")]
    cores: Option<u16>,
    /// Address of a listener, or NAME=off; may be repeated; port 0 takes a free one
    #[arg(long, value_name = "NAME=ADDRESS")]
    listen: Vec<String>,
    /// First port of the default listeners (mx, submission, submissions, lmtp, pop3, pop3s, imap, imaps): N to N+7; 0 takes free ones
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..=65_528))]
    port_base: Option<u16>,
    /// How the log is written: human or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// How much is logged: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Any knob of the configuration, such as smtp.recipients_max=50; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl ServeArgs {
    /// The file to read: the one that is named, else `./gatepost.toml` when it exists.
    pub fn file(&self) -> Option<PathBuf> {
        self.config.clone().or_else(default_file)
    }

    /// What decides which policy is compiled, and nothing else.
    pub fn for_policy(config: Option<PathBuf>, policy: Option<PathBuf>, domain: Vec<String>) -> ServeArgs {
        ServeArgs { config, policy, domain, ..ServeArgs::default() }
    }

    /// A configuration file and knobs, and nothing else.
    pub fn for_command(config: Option<PathBuf>, set: Vec<String>) -> ServeArgs {
        ServeArgs { config, set, ..ServeArgs::default() }
    }

    /// What the flags say.
    pub fn overrides(&self) -> Result<Overrides, Failure> {
        let text = |value: &Option<String>| value.clone().map(Raw::Text);
        let path = |value: &Option<PathBuf>| value.as_ref().map(|p| Raw::Text(p.to_string_lossy().into_owned()));
        let domains = self.domain.iter().cloned().map(Raw::Text).collect::<Vec<_>>();
        let flags = [
            ("--data", "server", "data", path(&self.data)),
            ("--domain", "server", "domains", (!domains.is_empty()).then_some(Raw::List(domains))),
            ("--hostname", "server", "hostname", text(&self.hostname)),
            ("--mode", "server", "mode", text(&self.mode)),
            ("--policy", "server", "policy", path(&self.policy)),
            ("--io", "io", "driver", text(&self.io)),
            ("--cores", "server", "cores", self.cores.map(|n| Raw::Integer(i64::from(n)))),
            ("--log-format", "log", "format", text(&self.log_format)),
            ("--log-level", "log", "level", text(&self.log_level)),
        ];
        let set = |(flag, section, key, value): (&str, &str, &str, Option<Raw>)| {
            let (flag, section, key) = (flag.to_owned(), section.to_owned(), key.to_owned());
            value.map(|value| Override { flag, section, key, value })
        };
        let mut knobs: Vec<Override> = flags.into_iter().filter_map(set).collect();
        for flag in &self.set {
            knobs.push(set_flag(flag)?);
        }
        Ok(Overrides { knobs, backends: self.backend.clone(), listen: self.listen.clone(), port_base: self.port_base })
    }

    /// Reads the configuration; diagnostics go to standard error.
    pub fn load(&self) -> Result<Loaded, Failure> {
        load_or_tell(self.file().as_deref(), &self.overrides()?)
    }
}

fn default_file() -> Option<PathBuf> {
    let here = Path::new("gatepost.toml");
    here.exists().then(|| here.to_owned())
}

/// `SECTION.KEY=VALUE`; a value that is TOML is taken as such, everything else as text.
fn set_flag(flag: &str) -> Result<Override, Failure> {
    let parts = flag.split_once('=').and_then(|(path, value)| Some((path.rsplit_once('.')?, value)));
    let Some(((section, key), value)) = parts else {
        return Err(Failure::usage(format!(
            "--set {flag}: expected SECTION.KEY=VALUE, such as smtp.recipients_max=50"
        )));
    };
    let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut table| raw(table.remove("v")?));
    Ok(Override {
        flag: format!("--set {flag}"),
        section: section.to_owned(),
        key: key.to_owned(),
        value: parsed.unwrap_or_else(|| Raw::Text(value.to_owned())),
    })
}

fn raw(value: toml::Value) -> Option<Raw> {
    match value {
        toml::Value::String(text) => Some(Raw::Text(text)),
        toml::Value::Integer(number) => Some(Raw::Integer(number)),
        toml::Value::Boolean(value) => Some(Raw::Bool(value)),
        toml::Value::Array(items) => items.into_iter().map(raw).collect::<Option<Vec<_>>>().map(Raw::List),
        _ => None,
    }
}

/// Reads a configuration; diagnostics go to standard error, warnings too.
fn load_or_tell(file: Option<&Path>, overrides: &Overrides) -> Result<Loaded, Failure> {
    match load(file, overrides) {
        Ok(loaded) => {
            eprint!("{}", render(&loaded.warnings));
            Ok(loaded)
        }
        Err(diagnostics) => {
            // A single problem that is not in a file is the whole story.
            if let [only] = diagnostics.as_slice()
                && only.place.is_none()
            {
                let text = only.to_string();
                return Err(Failure::new(text.strip_prefix("error: ").unwrap_or(&text)));
            }
            eprint!("{}", render(&diagnostics));
            let errors = diagnostics.iter().filter(|d| d.is_error()).count();
            let plural = if errors == 1 { "" } else { "s" };
            Err(Failure::new(format!("the configuration has {errors} error{plural}; nothing was started")))
        }
    }
}

/// Which data directory a command is about.
#[derive(Clone, Debug, Default, Args)]
pub struct DataArgs {
    /// Data directory [default: that of the configuration, ./gatepost-data without one]
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    /// Configuration file [default: ./gatepost.toml when it exists]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl DataArgs {
    /// The configuration with the data directory the flags name.
    pub fn load(&self) -> Result<Loaded, Failure> {
        ServeArgs { config: self.config.clone(), data: self.data.clone(), ..ServeArgs::default() }.load()
    }
}

/// Why a command failed.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// It failed; exit code 1.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), code: 1 }
    }
    /// It was called wrongly; exit code 2.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), code: 2 }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Writes to standard output. Whoever stopped reading has seen enough.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Runs the program. `gateway` serves a configuration until it is told to stop.
pub fn run(gateway: serve::Gateway) -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::serve(args, gateway),
        Command::Check(args) => check::check(&args),
        Command::Account(command) => account::run(&command),
        Command::Alias(command) => alias::run(&command),
        Command::Mailbox(command) => mailbox::run(&command),
        Command::Queue(command) => queue::run(&command),
        Command::Status(args) => status::status(&args),
        Command::Top(args) => top::run(&args),
        Command::Tail(args) => tail::run(&args),
        Command::Session(args) => session::run(&args),
        Command::Reload(args) => status::reload(&args),
        Command::Drain(args) => status::drain(&args),
        Command::Policy(command) => policy::run(command),
        Command::Consult(args) => consult::run(&args),
        Command::Lookup(args) => lookup::run(&args),
        Command::Journal(command) => journal::run(command),
        Command::Config(ConfigCommand::Reference) => print(&reference::page()),
        Command::Config(ConfigCommand::Schema) => print(&schema::text()),
        Command::Config(ConfigCommand::Default) => print(&reference::default_file()),
        Command::Upgrade { data } => upgrade::run(&data),
        Command::Completions { shell } => print(&documents::completions(shell, Cli::command())),
        Command::Man { directory } => {
            documents::man(Cli::command(), directory.as_deref()).and_then(|text| print(&text))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("gatepost: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// Whether clap's declarations hold together.
pub fn debug_assert() {
    Cli::command().debug_assert();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Cli {
        Cli::try_parse_from(std::iter::once("gatepost").chain(args.iter().copied())).unwrap()
    }

    #[test]
    fn the_command_line_holds_together() {
        debug_assert();
    }

    #[test]
    fn no_subcommand_serves() {
        let cli = parse(&["--backend", "a:25", "--domain", "x", "--domain", "y"]);
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.domain, ["x", "y"]);
        assert!(
            matches!(parse(&["serve", "--cores", "2"]).command, Some(Command::Serve(args)) if args.cores == Some(2))
        );
    }

    #[test]
    fn flags_become_knobs() {
        let args = ServeArgs {
            set: vec!["smtp.recipients_max=50".into(), "server.protected=[\"private\"]".into(), "a.b=x=y".into()],
            mode: Some("auto".into()),
            ..ServeArgs::default()
        };
        let knobs: Vec<_> = args.overrides().unwrap().knobs.into_iter().map(|o| (o.section, o.key, o.value)).collect();
        let own = |a: &str, b: &str, v: Raw| (a.to_owned(), b.to_owned(), v);
        assert_eq!(
            knobs,
            [
                own("server", "mode", Raw::Text("auto".into())),
                own("smtp", "recipients_max", Raw::Integer(50)),
                own("server", "protected", Raw::List(vec![Raw::Text("private".into())])),
                own("a", "b", Raw::Text("x=y".into())),
            ]
        );
        for wrong in ["x", "x=y", "x.y"] {
            let args = ServeArgs { set: vec![wrong.into()], ..ServeArgs::default() };
            assert_eq!(args.overrides().unwrap_err().code, 2, "{wrong}");
        }
    }
}
