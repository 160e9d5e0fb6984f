//! Scenarios: kinds of clients at their rates against a server, with faults, and what must be true afterwards.
//!
//! Each process (server, sink, every kind of client) is a process of its own, so that what each uses is known and a
//! server can be killed. How it fails: a file that is wrong is told as a whole before anything starts; a process that
//! does not come up ends the run with its last words; an expectation that does not hold makes the result a failure.

mod builtin;
mod expect;
mod file;
mod place;
mod process;
mod reader;
mod result;
mod run;
mod setting;

use crate::cli::{duration, save};
use crate::target;
use clap::Args;
pub use expect::{Expectation, Wrong};
use file::{ClientPlan, Kind, Scenario, ServerPlan, SinkPlan};
pub use result::{Sample, ScenarioReport, ServerUse, Trial, Verdict};
pub use setting::Setting;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// What is told about how to run a scenario, by `scenario`, `crash` and `capacity` alike.
#[derive(Args, Debug, Clone)]
pub struct SettingArgs {
    /// How long it takes, as a share of what the file says: 0.05 for a quick test.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Rates and connections, as a multiple of what the file says.
    #[arg(long, default_value_t = 1.0)]
    factor: f64,
    /// Times in expectations are stretched by this: what a debug build or a busy machine needs.
    #[arg(long, default_value_t = 1.0)]
    slack: f64,
    /// Driver of the server, where its command has a place for it, and of the clients: auto, uring or epoll.
    #[arg(long, default_value = "auto")]
    io: gatepost::reactor::Io,
    /// The gateway's binary; otherwise the one beside this program.
    #[arg(long)]
    gatepost: Option<PathBuf>,
    /// Directory for what servers write; it is made, and removed afterwards.
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// Keep that directory.
    #[arg(long)]
    keep: bool,
    /// Kill the server that often, and start it again.
    #[arg(long, value_parser = duration)]
    kill_every: Option<Duration>,
    /// Start the server with this command instead of the file's; {PORT}, {sink} and {dir} stand for what they name.
    #[arg(long, value_name = "COMMAND")]
    server: Option<String>,
    /// A server that runs already, for clients of this port: NAME=HOST:PORT; may be repeated. Nothing is started then.
    #[arg(long, value_name = "NAME=HOST:PORT", conflicts_with_all = ["server", "kill_every"])]
    target: Vec<String>,
    /// Where a server that runs already delivers to: the sink listens here.
    #[arg(long, value_name = "HOST:PORT")]
    sink: Option<std::net::SocketAddr>,
    /// A host that is not loopback and may be loaded.
    #[arg(long)]
    i_own: Vec<String>,
}

impl SettingArgs {
    pub(crate) fn setting(&self) -> Result<Setting, String> {
        for (name, value) in [("--scale", self.scale), ("--factor", self.factor), ("--slack", self.slack)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(format!("{name}: expected more than 0, found {value}"));
            }
        }
        let mut targets = Vec::new();
        for text in &self.target {
            let (name, host) =
                text.split_once('=').ok_or_else(|| format!("--target: expected NAME=HOST:PORT, found {text:?}"))?;
            targets.push((name.to_owned(), target::resolve(host, &self.i_own)?));
        }
        Ok(Setting {
            scale: self.scale,
            factor: self.factor,
            slack: self.slack,
            io: self.io,
            gatepost: self.gatepost.clone(),
            scratch: self.scratch.clone().unwrap_or_else(std::env::temp_dir),
            keep: self.keep,
            targets,
            sink: self.sink,
            show: true,
        })
    }

    /// Whether what clients send will come to our sink.
    pub(crate) fn delivers_to_sink(&self) -> bool {
        self.sink.is_some() || self.server.as_ref().is_some_and(|command| command.contains("{sink}"))
    }

    /// The scenario with what the command line changes about its server.
    pub(crate) fn apply(&self, mut scenario: Scenario) -> Result<Scenario, String> {
        if !self.target.is_empty() {
            scenario.server = None;
        }
        if let Some(command) = &self.server {
            let old = scenario.server.take().unwrap_or_else(|| ServerPlan { kill_until: 1.0, ..ServerPlan::default() });
            let ports = if old.ports.is_empty() { vec!["target".to_owned()] } else { old.ports.clone() };
            scenario.server = Some(ServerPlan { command: words(command)?, ports, setup: Vec::new(), ..old });
        }
        match (&mut scenario.server, self.kill_every) {
            (Some(server), Some(every)) => server.kill_every = Some(every),
            (None, Some(_)) => return Err("--kill-every: expected a --server to kill".into()),
            (_, None) => {}
        }
        Ok(scenario)
    }
}

/// Words of a command, with quotes as a shell has them, and nothing else of a shell.
fn words(command: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in command.chars() {
        match (quote, c) {
            (Some(q), _) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("--server: a quote without its end in {command:?}"));
    }
    words.extend(word);
    if words.is_empty() { Err("--server: expected a command, found nothing".into()) } else { Ok(words) }
}

/// `scenario`
#[derive(Args, Debug)]
pub struct ScenarioArgs {
    /// Scenario: a file, or the name of one that is built in; without any, those are listed.
    name: Option<String>,
    #[command(flatten)]
    setting: SettingArgs,
    /// How often it is run.
    #[arg(long, default_value_t = 1)]
    runs: u32,
    /// Only read the file and say what is wrong with it.
    #[arg(long)]
    check: bool,
    /// Print a scenario that is built in, to start an own one from.
    #[arg(long)]
    print: bool,
    /// Write the result as JSON here; `-` is standard output.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Reads a scenario by name or path; what is wrong with it is written to standard error.
pub(crate) fn load(name: &str) -> Result<Scenario, String> {
    let (path, text) = source(name)?;
    file::parse(&path, &text).map_err(|findings| {
        findings.iter().for_each(|f| eprintln!("{f}"));
        format!("{}: {} findings, nothing was started", path.display(), findings.len())
    })
}

fn source(name: &str) -> Result<(PathBuf, String), String> {
    if let Some(text) = builtin::text(name) {
        return Ok((PathBuf::from(format!("{name}.toml")), text.to_owned()));
    }
    let path = Path::new(name);
    if !name.ends_with(".toml") {
        let names = builtin::NAMES.join(", ");
        return Err(format!("no scenario {name:?}: expected a .toml file or one of {names}"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| format!("{name}: {e}"))?;
    Ok((path.to_owned(), text))
}

/// `gatepost-load scenario`
pub(crate) fn run_scenario(args: &ScenarioArgs) -> Result<ExitCode, String> {
    let Some(name) = &args.name else {
        for name in builtin::NAMES {
            crate::cli::show(&format!("{name:18} {}\n", load(name)?.title));
        }
        return Ok(ExitCode::SUCCESS);
    };
    if args.print {
        crate::cli::show(source(name)?.1.as_ref());
        return Ok(ExitCode::SUCCESS);
    }
    let scenario = args.setting.apply(load(name)?)?;
    if args.check {
        crate::cli::show(&format!(
            "{}: {} kinds of clients, {} expectations\n",
            name,
            scenario.clients.len(),
            scenario.expect.len()
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let setting = args.setting.setting()?;
    let mut report = ScenarioReport::new(&scenario, &setting);
    for _ in 0..args.runs.max(1) {
        report.trials.push(run::run(&scenario, &setting)?);
    }
    report.judge();
    save(&report, args.json.as_deref())?;
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `crash`
#[derive(Args, Debug)]
pub struct CrashArgs {
    #[command(flatten)]
    setting: SettingArgs,
    /// Messages per second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Seconds in all.
    #[arg(long, short = 's', default_value = "30s", value_parser = duration)]
    duration: Duration,
    /// How long what was accepted may take to arrive.
    #[arg(long, default_value = "60s", value_parser = duration)]
    settle: Duration,
    /// Write the result as JSON here; `-` is standard output.
    #[arg(long)]
    json: Option<PathBuf>,
    /// More options of `gatepost-load send`, behind `--`.
    #[arg(last = true)]
    send: Vec<String>,
}

/// `gatepost-load crash`: load on a server that is killed again and again, and what of its 250s was kept.
pub(crate) fn run_crash(args: &CrashArgs) -> Result<ExitCode, String> {
    if args.setting.server.is_none() || args.setting.kill_every.is_none() {
        return Err("expected --server 'COMMAND' (with {target} where its address goes and {sink} for where it \
                    delivers) and --kill-every"
            .into());
    }
    crate::cli::check("send", &args.send)?;
    let mut scenario = mail_only(args.rate, args.duration, args.settle, &args.send);
    scenario.name = "crash".into();
    scenario.title = "Mail while the server is killed and started again".into();
    scenario.expect = vec![expectation("lost = 0"), expectation("corrupted = 0"), expectation("accepted > 0")];
    let scenario = args.setting.apply(scenario)?;
    let setting = args.setting.setting()?;
    let mut report = ScenarioReport::new(&scenario, &setting);
    report.trials.push(run::run(&scenario, &setting)?);
    report.judge();
    save(&report, args.json.as_deref())?;
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One kind of client that sends, and a sink.
pub(crate) fn mail_only(rate: f64, duration: Duration, settle: Duration, options: &[String]) -> Scenario {
    let client = ClientPlan {
        name: "load".into(),
        kind: Kind::Send,
        to: "target".into(),
        rate: Some(rate),
        connections: None,
        options: options.to_vec(),
        ledger: true,
        when: (0.0, 1.0),
    };
    let sink = Some(SinkPlan::default());
    Scenario { duration, settle, sink, clients: vec![client], ..Scenario::default() }
}

/// An expectation that stands in this program.
pub(crate) fn expectation(text: &'static str) -> Expectation {
    Expectation::parse(text).unwrap_or_else(|w| unreachable!("{text}: {w:?}"))
}

pub(crate) use file::Scenario as Plan;
pub(crate) use run::run as run_once;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_that_is_built_in_can_be_read() {
        assert_eq!(builtin::NAMES.len(), 12);
        for name in builtin::NAMES {
            let scenario = load(name).unwrap();
            assert!(!scenario.expect.is_empty() && scenario.title != name, "{name}");
        }
        assert!(load("nonsense").unwrap_err().contains("expected a .toml file or one of"));
    }

    #[test]
    fn commands_are_words() {
        assert_eq!(words("a 'b c'  \"d\"e ''").unwrap(), ["a", "b c", "de", ""]);
        assert!(words("a 'b").is_err());
        assert!(words("  ").is_err());
    }
}
