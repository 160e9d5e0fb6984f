//! Golden cases: sessions written down with what the policy must say to them, run on the engine that serves.
//!
//! ```toml
//! policy = "edge.toml"                 # which policy they are for
//! local_domains = ["example.test"]     # what @local-domains holds
//!
//! [[case]]
//! name = "a stranger may not relay"
//! client = "203.0.113.9"
//! from = "a@example.net"
//! to = "b@elsewhere.example"
//! expect = { verdict = "reject", rule = "relay-denied", reply = "550 5.7.1" }
//! ```
//!
//! A case goes as far as its keys reach and the policy lets it: connect, HELO, AUTH, MAIL, every RCPT, data, message (or
//! VRFY). What is compared is the first refusal, else the last decision, or the decision at `expect.stage`.
//!
//! How it fails: a file that cannot be read gives diagnostics; a case that goes wrong says what was expected and what came,
//! with the trace. [`CaseFile::update`] writes what came into the file.

mod run;
mod update;

pub use update::Unreadable;

use super::diagnostic::Diagnostic;
use super::rules::Policy;
use super::source::{Located, Reader, Table};
use super::stage::Stage;
use super::state::{ClientFacts, TlsFacts};
use super::trace::Trace;
use super::value::{Given, Type};
use crate::base::address::ReversePath;
use crate::base::envelope::{MailParameters, Recipient};
use crate::base::knob::parse_duration;
use crate::base::time::WallTime;
use crate::wire::address::parse_mailbox;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use toml::de::DeValue;

const CASE_KEYS: &[&str] = &[
    "name",
    "client",
    "port",
    "listener",
    "tls",
    "early_talker",
    "helo",
    "user",
    "auth_failures",
    "from",
    "to",
    "exists",
    "declared_size",
    "headers",
    "hops",
    "size",
    "vrfy",
    "facts",
    "repeat",
    "every",
    "keep_open",
    "expect",
];
const EXPECT_KEYS: &[&str] = &["verdict", "stage", "rule", "reply", "reason", "delay", "route", "quarantine", "tags"];
const VERDICTS: &[&str] = &["accept", "reject", "defer", "drop", "discard", "quarantine"];
/// Monday 2026-11-23 12:00 UTC, so that cases about the hour do not change with the day they are run.
const CASE_TIME: WallTime = WallTime::from_millis(1_795_435_200_000);
const REPEAT_MAX: u64 = 1_000_000;

/// A file of cases.
#[derive(Debug)]
pub struct CaseFile {
    /// The policy they are for, as the file names it.
    pub policy: Option<String>,
    /// What `@local-domains` holds.
    pub local_domains: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Debug)]
struct Case {
    name: String,
    line: usize,
    client: ClientFacts,
    early_talker: bool,
    helo: String,
    user: Option<String>,
    auth_failures: u64,
    from: Option<ReversePath>,
    parameters: MailParameters,
    to: Vec<Recipient>,
    exists: Option<bool>,
    headers: Option<String>,
    hops: u64,
    size: Option<u64>,
    vrfy: Option<String>,
    facts: Vec<(String, Given)>,
    repeat: u64,
    every: Duration,
    keep_open: bool,
    expect: Expect,
}

#[derive(Debug, Default)]
struct Expect {
    stage: Option<Stage>,
    texts: Vec<(&'static str, String)>,
    tags: Option<Vec<String>>,
}

/// How one case went.
#[derive(Clone, Debug)]
pub struct CaseResult {
    /// Its name.
    pub name: String,
    /// Its line in the file.
    pub line: usize,
    /// What was not as expected; empty when all was.
    pub failures: Vec<Miss>,
    /// The decision that was compared: its stage, and its verdict, rule, reply and so on by the keys of `expect`.
    pub decided: Option<(Stage, Vec<(&'static str, String)>)>,
    /// Header fields that were added, when `expect` asks for them.
    pub tags: Vec<String>,
    /// How the decisions came about.
    pub trace: Trace,
}

/// One thing that was not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// The key of `expect`.
    pub key: &'static str,
    /// What it says.
    pub expected: String,
    /// What came.
    pub came: String,
    /// At which stage.
    pub stage: &'static str,
}

impl fmt::Display for Miss {
    /// As a difference: a line that was expected and one that came.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "- {} = {:?}", self.key, self.expected)?;
        write!(f, "+ {} = {:?}    at {}", self.key, self.came, self.stage)
    }
}

/// How the cases went.
#[derive(Clone, Debug)]
pub struct Report {
    /// One entry per case.
    pub results: Vec<CaseResult>,
    /// Rules that no case made match.
    pub uncovered: Vec<String>,
    /// Rules in all.
    pub rules: usize,
}

impl Report {
    /// Whether every case went as expected.
    pub fn passed(&self) -> bool {
        self.results.iter().all(|r| r.failures.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for r in self.results.iter().filter(|r| !r.failures.is_empty()) {
            writeln!(f, "FAILED {} (line {})", r.name, r.line)?;
            let differences = r.failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            differences.lines().try_for_each(|l| writeln!(f, "  {l}"))?;
            r.trace.to_string().lines().try_for_each(|l| writeln!(f, "    {l}"))?;
        }
        let failed = self.results.iter().filter(|r| !r.failures.is_empty()).count();
        let covered = self.rules - self.uncovered.len();
        writeln!(f, "{} cases, {failed} failed; {covered} of {} rules covered", self.results.len(), self.rules)?;
        match self.uncovered.is_empty() {
            true => Ok(()),
            false => writeln!(f, "not covered: {}", self.uncovered.join(", ")),
        }
    }
}

impl CaseFile {
    /// Reads a file of cases.
    pub fn parse(name: &str, source: &str) -> Result<CaseFile, Vec<Diagnostic>> {
        let mut reader = Reader::new(name, source);
        let top = reader.parse();
        reader.known_keys(&top, "a file of cases", &["policy", "local_domains", "case"]);
        let policy = reader.string(&top, "policy").map(|p| p.text);
        let local_domains = reader.strings(&top, "local_domains").into_iter().map(|d| d.text).collect();
        let tables = reader.tables(&top, "case");
        let cases = tables.into_iter().filter_map(|(span, t)| read_case(&mut reader, span.start, t)).collect();
        match reader.findings.is_empty() {
            true => Ok(CaseFile { policy, local_domains, cases }),
            false => Err(reader.findings),
        }
    }

    /// Runs the cases, each on fresh limits.
    pub fn run(&self, policy: &Arc<Policy>) -> Report {
        let mut covered = BTreeSet::new();
        let results = self.cases.iter().map(|c| c.run(policy, &mut covered)).collect();
        let names = policy.rules().iter().map(|r| r.name.to_string());
        let uncovered = names.filter(|n| !covered.contains(n)).collect();
        Report { results, uncovered, rules: policy.rules().len() }
    }
}

fn read_case(reader: &mut Reader<'_>, start: usize, t: &Table<'_>) -> Option<Case> {
    let before = reader.findings.len();
    reader.known_keys(t, "[[case]]", CASE_KEYS);
    let name = text(reader, t, "name").unwrap_or_else(|| "without a name".into());
    let ip = parsed(reader, t, "client", "an IP address", |s| s.parse::<IpAddr>().ok());
    let port = reader.integer(t, "port", 0..=65_535).unwrap_or(40_000) as u16;
    let tls =
        reader.boolean(t, "tls").unwrap_or(false).then(|| TlsFacts { version: "TLSv1.3".into(), ..Default::default() });
    let listener = text(reader, t, "listener").unwrap_or_else(|| "mx".into()).into();
    let client = ClientFacts { client: (ip.unwrap_or([203, 0, 113, 9].into()), port).into(), listener, tls };
    let from = parsed(reader, t, "from", "an address, or \"\" for the null path", |s| match s {
        "" => Some(ReversePath::Null),
        s => parse_mailbox(s).ok().map(ReversePath::Mailbox),
    });
    let mut to = Vec::new();
    for rcpt in reader.strings(t, "to") {
        match parse_mailbox(&rcpt.text) {
            Ok(mailbox) => to.push(Recipient::plain(mailbox)),
            Err(_) => misfit(reader, &rcpt, "an address"),
        }
    }
    let parameters = MailParameters { size: reader.integer(t, "declared_size", 0..=u64::MAX), ..Default::default() };
    let case = Case {
        name,
        line: reader.text[..start].matches('\n').count() + 1,
        client,
        early_talker: reader.boolean(t, "early_talker").unwrap_or(false),
        helo: text(reader, t, "helo").unwrap_or_else(|| "mail.example.net".into()),
        user: text(reader, t, "user"),
        auth_failures: reader.integer(t, "auth_failures", 0..=1000).unwrap_or(0),
        from: from.or((!to.is_empty()).then_some(ReversePath::Null)),
        parameters,
        to,
        exists: reader.boolean(t, "exists"),
        headers: text(reader, t, "headers"),
        hops: reader.integer(t, "hops", 0..=10_000).unwrap_or(0),
        size: reader.integer(t, "size", 0..=u64::MAX),
        vrfy: text(reader, t, "vrfy"),
        facts: read_facts(reader, t),
        repeat: reader.integer(t, "repeat", 1..=REPEAT_MAX).unwrap_or(1),
        every: parsed(reader, t, "every", "a duration such as 1s", parse_duration).unwrap_or_default(),
        keep_open: reader.boolean(t, "keep_open").unwrap_or(false),
        expect: read_expect(reader, start, t),
    };
    (reader.findings.len() == before).then_some(case)
}

fn text(reader: &mut Reader<'_>, t: &Table<'_>, key: &str) -> Option<String> {
    reader.string(t, key).map(|s| s.text)
}

fn parsed<T>(
    reader: &mut Reader<'_>,
    t: &Table<'_>,
    key: &str,
    what: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let found = reader.string(t, key)?;
    let value = parse(&found.text);
    if value.is_none() {
        misfit(reader, &found, what);
    }
    value
}

fn misfit(reader: &mut Reader<'_>, found: &Located, expected: &str) {
    let finding = reader.at(found.span.clone(), format!("{:?} cannot stand here", found.text)).expected(expected);
    reader.report(finding);
}

/// Facts by name. Facts of the message are given by the keys `size` and `headers`.
fn read_facts(reader: &mut Reader<'_>, t: &Table<'_>) -> Vec<(String, Given)> {
    let mut facts = Vec::new();
    let Some(table) = reader.table(t, "facts") else { return facts };
    for (key, value) in table.iter() {
        let name = key.get_ref().to_string();
        let row = super::facts::all().iter().find(|f| f.name == name);
        let of_connection = row.is_none_or(|f| f.known.first <= Stage::Connect || f.asks.is_some());
        let Some(kind) = super::facts::settable(&name).filter(|_| of_connection) else {
            let known = super::facts::all().iter().filter(|f| f.known.first == Stage::Connect).map(|f| f.name);
            let finding = reader.at(key.span(), format!("`{name}` cannot be set here")).near(&name, known);
            reader.report(
                finding.expected("a fact of the connection or of a lookup; others follow from the case's keys"),
            );
            continue;
        };
        let given = match value.get_ref() {
            DeValue::Boolean(b) if kind == Type::Flag => Some(Given::Flag(*b)),
            DeValue::Integer(i) if kind == Type::Score => Given::parse(kind, i.as_str()).ok(),
            DeValue::Float(f) if kind == Type::Score => Given::parse(kind, f.as_str()).ok(),
            DeValue::Integer(i) if kind.is_number() => i.as_str().parse().ok().map(Given::Number),
            DeValue::String(s) => Given::parse(kind, s).ok(),
            _ => None,
        };
        match given {
            Some(given) => facts.push((name, given)),
            None => reader.wrong_type(value, &name, kind.example(), value.get_ref().type_str()),
        }
    }
    facts
}

fn read_expect(reader: &mut Reader<'_>, start: usize, t: &Table<'_>) -> Expect {
    let mut expect = Expect::default();
    let Some(table) = reader.table(t, "expect") else {
        let finding = reader.at(start..start + 1, "a case without `expect` proves nothing");
        reader.report(finding.expected("expect = { verdict = \"accept\" }"));
        return expect;
    };
    reader.known_keys(table, "expect", EXPECT_KEYS);
    expect.stage = parsed(reader, table, "stage", &Stage::WORDS.join(", "), |s| s.parse().ok());
    for key in EXPECT_KEYS {
        if matches!(*key, "stage" | "tags") {
            continue;
        }
        let Some(value) = reader.string(table, key) else { continue };
        if *key == "verdict" && !VERDICTS.contains(&value.text.as_str()) {
            misfit(reader, &value, &VERDICTS.join(", "));
        }
        expect.texts.push((key, value.text));
    }
    if table.contains_key("tags") {
        expect.tags = Some(reader.strings(table, "tags").into_iter().map(|s| s.text).collect());
    }
    if !expect.texts.iter().any(|(k, _)| *k == "verdict") {
        let finding = reader.at(start..start + 1, "`expect` without a verdict").expected(VERDICTS.join(", "));
        reader.report(finding);
    }
    expect
}
