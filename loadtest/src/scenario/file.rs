//! Scenario files: TOML with places, checked as a whole before anything is started.
//!
//! How it fails: every finding names file, line and column, what was expected, and the near miss.

use super::expect::Expectation;
use super::reader::{Reader, number_of};
use gatepost::policy::Diagnostic;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Clients of one scenario.
const CLIENTS_MAX: usize = 64;

/// A scenario as it was written.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    /// Name: the file's, without its ending.
    pub name: String,
    /// One line for tables.
    pub title: String,
    /// How long its clients work, unscaled.
    pub duration: Duration,
    /// How long what was accepted may take to arrive after the clients are done.
    pub settle: Duration,
    /// The server, when the scenario starts it.
    pub server: Option<ServerPlan>,
    /// Files that are written before, by name inside the scenario's directory.
    pub files: Vec<(String, String)>,
    /// The sink behind the server, when there is one.
    pub sink: Option<SinkPlan>,
    /// Who comes.
    pub clients: Vec<ClientPlan>,
    /// What must be true afterwards.
    pub expect: Vec<Expectation>,
}

/// How the server is started.
#[derive(Clone, Debug, Default)]
pub struct ServerPlan {
    /// Program and arguments.
    pub command: Vec<String>,
    /// What is run before, each with what it reads on standard input.
    pub setup: Vec<(Vec<String>, String)>,
    /// Names of the ports it listens on.
    pub ports: Vec<String>,
    /// How often it is killed and started again.
    pub kill_every: Option<Duration>,
    /// Until when it is, as a share of the duration.
    pub kill_until: f64,
}

/// How the sink is started.
#[derive(Clone, Debug, Default)]
pub struct SinkPlan {
    /// Options of `gatepost-load sink`.
    pub options: Vec<String>,
    /// When it is away, in shares of the duration.
    pub outages: Vec<(f64, f64)>,
}

/// What a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `gatepost-load send`
    Send,
    /// `gatepost-load read`
    Read,
    /// `gatepost-load attack`
    Attack,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Send, Kind::Read, Kind::Attack];
    /// The subcommand.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Send => "send",
            Kind::Read => "read",
            Kind::Attack => "attack",
        }
    }
}

/// One kind of client among those that come.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// Name in results and expectations.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Name of the port it goes to.
    pub to: String,
    /// Messages or sessions per second; without it, the connections work as fast as they can.
    pub rate: Option<f64>,
    /// Connections at most.
    pub connections: Option<u64>,
    /// Options of its subcommand.
    pub options: Vec<String>,
    /// Whether what it sends or reads is written down; two readers of the same mailboxes would count twice.
    pub ledger: bool,
    /// When it begins and ends, in shares of the duration.
    pub when: (f64, f64),
}

/// Reads a scenario; all findings at once.
pub fn parse(path: &Path, text: &str) -> Result<Scenario, Vec<Diagnostic>> {
    let file = path.display().to_string();
    let mut reader = Reader { file: &file, text, findings: Vec::new() };
    let (table, errors) = DeTable::parse_recoverable(text);
    for e in errors {
        reader.find(e.span().unwrap_or(0..0), format!("not TOML: {}", e.message()), "");
    }
    let table = table.into_inner();
    let name = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    let scenario = reader.scenario(&table, name);
    if reader.findings.is_empty() { Ok(scenario) } else { Err(reader.findings) }
}

impl Reader<'_> {
    fn scenario(&mut self, table: &DeTable<'_>, name: String) -> Scenario {
        let known = ["title", "description", "duration", "settle", "rate", "server", "sink", "client", "expect"];
        self.keys(table, "the scenario", &known);
        self.string(table, "description");
        let (server, files): (Option<ServerPlan>, Option<Vec<(String, String)>>) =
            self.table(table, "server").map(|t| self.server(t)).unzip();
        let sink = self.table(table, "sink").map(|t| self.sink(t));
        let rate = self.number(table, "rate", f64::MIN_POSITIVE, 1e9);
        let mut clients = Vec::new();
        for (span, t) in self.tables(table, "client") {
            let ports = server.as_ref().map_or(&[][..], |s: &ServerPlan| &s.ports);
            clients.extend(self.client(span, t, rate, ports));
        }
        if clients.is_empty() || clients.len() > CLIENTS_MAX {
            self.find(0..0, format!("{} clients", clients.len()), &format!("[[client]], from 1 to {CLIENTS_MAX}"));
        }
        let expect = self.expectations(table, &clients);
        Scenario {
            title: self.string(table, "title").unwrap_or_else(|| name.clone()),
            name,
            duration: self.duration(table, "duration").unwrap_or(Duration::from_secs(60)),
            settle: self.duration(table, "settle").unwrap_or(Duration::from_secs(20)),
            server,
            files: files.unwrap_or_default(),
            sink,
            clients,
            expect,
        }
    }

    fn server(&mut self, table: &DeTable<'_>) -> (ServerPlan, Vec<(String, String)>) {
        self.keys(table, "[server]", &["command", "setup", "files", "ports", "kill_every", "kill_until"]);
        let mut setup = Vec::new();
        for (span, t) in self.tables(table, "setup") {
            self.keys(t, "[[server.setup]]", &["command", "input"]);
            let command = self.strings(t, "command");
            if command.is_empty() {
                self.find(span, "a set-up without a command".into(), "command = [\"PROGRAM\", …]");
            }
            setup.push((command, self.string(t, "input").unwrap_or_default()));
        }
        let mut files = Vec::new();
        if let Some(t) = self.table(table, "files") {
            for (name, value) in t.iter() {
                let word: &str = name.get_ref().as_ref();
                match value.get_ref().as_str() {
                    _ if word.is_empty() || word.starts_with('.') || word.contains('/') => {
                        self.find(name.span(), format!("{word:?} is no plain file name"), "a name without a slash");
                    }
                    Some(text) => files.push((word.to_owned(), text.to_owned())),
                    None => self.wrong(value, word, "a string: the file's text"),
                }
            }
        }
        let command = self.strings(table, "command");
        let ports = self.strings(table, "ports");
        for (key, empty) in [("command", command.is_empty()), ("ports", ports.is_empty())] {
            if empty {
                let at = table.get(key).map_or(0..0, Spanned::span);
                self.find(at, format!("[server] has no `{key}`"), &format!("{key} = [\"…\"]"));
            }
        }
        let kill_every = self.duration(table, "kill_every");
        let kill_until = self.number(table, "kill_until", 0.0, 1.0).unwrap_or(1.0);
        (ServerPlan { command, setup, ports, kill_every, kill_until }, files)
    }

    fn sink(&mut self, table: &DeTable<'_>) -> SinkPlan {
        self.keys(table, "[sink]", &["options", "outage"]);
        let options = self.options(table, "sink");
        let mut outages = Vec::new();
        for (span, t) in self.tables(table, "outage") {
            self.keys(t, "[[sink.outage]]", &["from", "to"]);
            let ends = (self.number(t, "from", 0.0, 1.0).unwrap_or(0.0), self.number(t, "to", 0.0, 1.0).unwrap_or(1.0));
            if ends.0 >= ends.1 || outages.last().is_some_and(|(_, to)| *to > ends.0) {
                self.find(span, "an outage that ends before it begins".into(), "from < to, one after the other");
            }
            outages.push(ends);
        }
        SinkPlan { options, outages }
    }

    fn client(
        &mut self,
        at: Range<usize>,
        table: &DeTable<'_>,
        whole: Option<f64>,
        ports: &[String],
    ) -> Option<ClientPlan> {
        let known = ["name", "kind", "to", "rate", "share", "connections", "options", "ledger", "from", "until"];
        self.keys(table, "[[client]]", &known);
        let name = self.string(table, "name").filter(|n| !n.is_empty());
        let plain = |n: &String| n.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if !name.as_ref().is_some_and(plain) {
            self.find(at.clone(), "a client without a plain name".into(), "name = \"LETTERS-AND-DIGITS\"");
        }
        let kind = self.kind(table, at.clone())?;
        let rate = match (self.number(table, "rate", f64::MIN_POSITIVE, 1e9), self.number(table, "share", 0.0, 1.0)) {
            (Some(_), Some(_)) => {
                self.find(at.clone(), "both `rate` and `share`".into(), "one of them");
                None
            }
            (rate, None) => rate,
            (None, Some(share)) => {
                if whole.is_none() {
                    self.find(at.clone(), "`share` of nothing".into(), "a `rate` of the whole scenario");
                }
                whole.map(|w| w * share)
            }
        };
        let connections = self.number(table, "connections", 1.0, 1e6).map(|n| n as u64);
        if rate.is_none() && connections.is_none() {
            self.find(at.clone(), "a client without an amount".into(), "rate, share or connections");
        }
        let to = self.string(table, "to").unwrap_or_else(|| ports.first().cloned().unwrap_or_else(|| "target".into()));
        let here = ports.iter().map(String::as_str).chain(["sink", "target"]);
        if !here.clone().any(|p| p == to) {
            let span = table.get("to").map_or(at.clone(), Spanned::span);
            let finding = Diagnostic::at(self.file, self.text, span, format!("no port {to:?}"));
            self.findings.push(finding.expected(here.clone().collect::<Vec<_>>().join(", ")).near(&to, here));
        }
        let when =
            (self.number(table, "from", 0.0, 1.0).unwrap_or(0.0), self.number(table, "until", 0.0, 1.0).unwrap_or(1.0));
        if when.0 >= when.1 {
            self.find(at, "a client that ends before it begins".into(), "from < until, both from 0 to 1");
        }
        let options = self.options(table, kind.name());
        let ledger = self.boolean(table, "ledger").unwrap_or(true);
        Some(ClientPlan { name: name.unwrap_or_default(), kind, to, rate, connections, options, ledger, when })
    }

    fn kind(&mut self, table: &DeTable<'_>, at: Range<usize>) -> Option<Kind> {
        let word = self.string(table, "kind").unwrap_or_default();
        let found = Kind::ALL.into_iter().find(|k| k.name() == word);
        if found.is_none() {
            let names = Kind::ALL.map(Kind::name);
            let span = table.get("kind").map_or(at, Spanned::span);
            let finding = Diagnostic::at(self.file, self.text, span, format!("no kind of client {word:?}"));
            self.findings.push(finding.expected(names.join(", ")).near(&word, names));
        }
        found
    }

    /// Options as the command line has them, tried on the command line.
    fn options(&mut self, table: &DeTable<'_>, subcommand: &str) -> Vec<String> {
        let Some(options) = self.table(table, "options") else { return Vec::new() };
        let mut args = Vec::new();
        for (key, value) in options.iter() {
            let one = match value.get_ref() {
                DeValue::Boolean(true) => vec![format!("--{}", key.get_ref())],
                DeValue::Boolean(false) => continue,
                DeValue::String(text) => vec![format!("--{}={text}", key.get_ref())],
                // An option that may be repeated.
                DeValue::Array(items) if items.iter().all(|i| i.get_ref().is_str()) => items
                    .iter()
                    .filter_map(|i| Some(format!("--{}={}", key.get_ref(), i.get_ref().as_str()?)))
                    .collect(),
                other => match number_of(other) {
                    Some(n) => vec![format!("--{}={n}", key.get_ref())],
                    None => {
                        self.wrong(value, key.get_ref(), "a string, a number, true or false, or an array of strings");
                        continue;
                    }
                },
            };
            // One at a time, so that the finding stands where the fault is.
            if let Err(why) = crate::cli::check(subcommand, &one) {
                self.find(
                    key.span().start..value.span().end,
                    why,
                    &format!("an option of `gatepost-load {subcommand}`"),
                );
            }
            args.extend(one);
        }
        args
    }

    fn expectations(&mut self, table: &DeTable<'_>, clients: &[ClientPlan]) -> Vec<Expectation> {
        let Some(value) = table.get("expect") else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong(value, "expect", "an array of strings such as \"lost = 0\"");
            return Vec::new();
        };
        let mut found = Vec::new();
        for item in items.iter() {
            let Some(text) = item.get_ref().as_str() else {
                self.wrong(item, "expect", "a string such as \"lost = 0\"");
                continue;
            };
            // Inside the quotes, as long as nothing in the string is escaped.
            let place = |at: Range<usize>| item.span().start + 1 + at.start..item.span().start + 1 + at.end;
            match Expectation::parse(text) {
                Ok(expectation) => {
                    for (name, at) in expectation.names() {
                        self.known_name(name, place(at), clients);
                    }
                    found.push(expectation);
                }
                Err(wrong) => self.find(place(wrong.at), "not an expectation".into(), &wrong.expected),
            }
        }
        found
    }

    fn known_name(&mut self, name: &str, at: Range<usize>, clients: &[ClientPlan]) {
        let first = name.split('.').next().unwrap_or_default();
        let known: Vec<&str> =
            super::result::NAMES.into_iter().chain(clients.iter().map(|c| c.name.as_str())).collect();
        if !known.contains(&first) {
            let finding = Diagnostic::at(self.file, self.text, at, format!("nothing is called {first:?}"));
            self.findings.push(finding.expected(known.join(", ")).near(first, known.iter().copied()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
title = "two kinds"
duration = "10s"
rate = 100
expect = ["lost = 0", "good.p99_ms < 50 ms"]
[server]
command = ["{gatepost}", "serve", "--listen", "mx={mx}"]
ports = ["mx"]
[sink]
options = { delay = "5ms" }
[[sink.outage]]
from = 0.2
to = 0.4
[[client]]
name = "good"
kind = "send"
share = 0.25
options = { size = "4KiB", bdat = true, recipients = 2 }
[[client]]
name = "bots"
kind = "attack"
connections = 5
from = 0.5
options = { do = "dictionary" }
"#;

    #[test]
    fn a_scenario_is_read() {
        let s = parse(Path::new("x/two.toml"), GOOD).unwrap();
        assert_eq!((s.name.as_str(), s.clients.len(), s.expect.len()), ("two", 2, 2));
        assert_eq!(s.clients[0].rate, Some(25.0));
        let mut options = s.clients[0].options.clone();
        options.sort();
        assert_eq!(options, ["--bdat", "--recipients=2", "--size=4KiB"]);
        assert_eq!((s.clients[1].when, s.clients[1].to.as_str()), ((0.5, 1.0), "mx"));
        assert_eq!(s.sink.unwrap().outages, [(0.2, 0.4)]);
    }

    #[test]
    fn what_is_wrong_is_told_with_line_and_near_miss() {
        for (good, bad, wanted) in [
            ("kind = \"send\"", "kind = \"sent\"", ":16:8: error: no kind of client \"sent\""),
            ("share = 0.25", "shar = 0.25", "did you mean `share`?"),
            ("size = \"4KiB\"", "size = \"4KB!\"", "x/two.toml:18:13"),
            ("recipients = 2", "recipient = 2", "an option of `gatepost-load send`"),
            ("lost = 0", "lots = 0", ":5:12: error: nothing is called \"lots\""),
            ("lost = 0", "lost 0", "=, !=, <"),
            ("good.p99_ms <", "god.p99_ms <", "did you mean `good`?"),
            ("duration = \"10s\"", "duration = 10", "a duration from"),
            ("connections = 5", "tries = 5", "without an amount"),
            ("to = 0.4", "to = 0.1", "ends before it begins"),
            ("ports = [\"mx\"]", "ports = []", "[server] has no `ports`"),
            ("[[client]]", "[[client]", "not TOML"),
            ("name = \"bots\"", "name = \"bots\"\nto = \"mxx\"", "did you mean `mx`?"),
        ] {
            let text = GOOD.replacen(good, bad, 1);
            assert_ne!(text, GOOD, "{good}");
            let findings = parse(Path::new("x/two.toml"), &text).unwrap_err();
            let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
            assert!(said.iter().any(|s| s.contains(wanted)), "{bad}: {said:#?}");
        }
    }
}
