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
//! with the trace.

use super::decision::{Decision, Verdict};
use super::diagnostic::Diagnostic;
use super::limits::Limits;
use super::rules::Policy;
use super::session::{Authentication, Session};
use super::source::{Located, Reader, Table};
use super::stage::Stage;
use super::state::{ClientFacts, TlsFacts};
use super::trace::Trace;
use super::value::{Given, Type};
use crate::base::address::ReversePath;
use crate::base::body::BodyShape;
use crate::base::envelope::{MailParameters, Recipient};
use crate::base::knob::parse_duration;
use crate::base::time::{Instant, WallTime};
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
    pub failures: Vec<String>,
    /// How the decisions came about.
    pub trace: Trace,
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
            r.failures.iter().try_for_each(|x| writeln!(f, "  {x}"))?;
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
        let Some(row) = row.filter(|f| f.known.first <= Stage::Connect && f.known.first != Stage::Vrfy) else {
            let known = super::facts::all().iter().filter(|f| f.known.first == Stage::Connect).map(|f| f.name);
            let finding = reader.at(key.span(), format!("`{name}` cannot be set here")).near(&name, known);
            reader.report(
                finding.expected("a fact of the connection or of a lookup; others follow from the case's keys"),
            );
            continue;
        };
        let given = match value.get_ref() {
            DeValue::Boolean(b) if row.kind == Type::Flag => Some(Given::Flag(*b)),
            DeValue::Integer(i) if row.kind.is_number() => i.as_str().parse().ok().map(Given::Number),
            DeValue::String(s) => Given::parse(row.kind, s).ok(),
            _ => None,
        };
        match given {
            Some(given) => facts.push((name, given)),
            None => reader.wrong_type(value, &name, row.kind.example(), value.get_ref().type_str()),
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

/// A decision in words, for comparison.
#[derive(Debug)]
struct Seen {
    stage: Stage,
    passes: bool,
    texts: Vec<(&'static str, String)>,
    tags: Vec<String>,
}

fn seen<G>(stage: Stage, d: &Decision<G>, session: &Session) -> Seen {
    let verdict = if d.quarantine.is_some() { "quarantine" } else { d.verdict.word() };
    let reply = d.verdict.reply().map(ToString::to_string).unwrap_or_default();
    let texts = vec![
        ("verdict", verdict.to_owned()),
        ("rule", session.rule_name(d.rule).to_owned()),
        ("reply", reply),
        ("reason", d.reason.to_string()),
        ("delay", crate::base::knob::show_duration(d.delay)),
        ("route", d.route.as_deref().unwrap_or_default().to_owned()),
        ("quarantine", d.quarantine.as_deref().unwrap_or_default().to_owned()),
    ];
    let tags = d.tags.iter().map(|(n, v)| format!("{n}: {v}")).collect();
    Seen { stage, passes: matches!(d.verdict, Verdict::Accept(_) | Verdict::Discard(_)), texts, tags }
}

impl Case {
    fn run(&self, policy: &Arc<Policy>, covered: &mut BTreeSet<String>) -> CaseResult {
        let limits = Limits::new(1024, 0);
        let mut kept = Vec::new();
        let mut decisions = Vec::new();
        let mut now = Instant::from_nanos(1_000_000_000);
        let mut trace = Trace::default();
        for _ in 0..self.repeat {
            let mut session = Session::new(policy.clone(), limits.clone(), self.client.clone(), now, CASE_TIME);
            session.explain();
            decisions = self.play(&mut session, now);
            trace = session.trace().cloned().unwrap_or_default();
            let rules = trace.stages.iter().flat_map(|s| &s.rules);
            covered.extend(rules.filter(|r| r.matched).map(|r| r.rule.clone()));
            now = now + self.every;
            if self.keep_open {
                kept.push(session);
            }
        }
        CaseResult { name: self.name.clone(), line: self.line, failures: self.compare(&decisions), trace }
    }

    /// Plays the session until it is refused or nothing is left; refused recipients do not stop it while others remain.
    fn play(&self, session: &mut Session, now: Instant) -> Vec<Seen> {
        let mut all: Vec<Seen> = Vec::new();
        let mut failures = Vec::new();
        for (name, given) in &self.facts {
            if let Err(e) = session.set_fact(name, given.clone()) {
                failures.push(format!("{name}: {e}"));
            }
        }
        debug_assert!(failures.is_empty(), "the reader checked the facts: {failures:?}");
        let mut go = |stage: Stage, d: &Decision, session: &Session| {
            all.push(seen(stage, d, session));
            d.verdict.passes()
        };
        // A flag among the facts stands for what the connection did.
        let early = self.early_talker || session.fact("early_talker", |v| v == super::Value::Flag(true)) == Some(true);
        let d = session.connect(now, early);
        let mut on = go(Stage::Connect, &d, session);
        if on {
            let d = session.helo(now, &self.helo, true);
            on = go(Stage::Helo, &d, session);
        }
        for _ in 0..self.auth_failures {
            if on {
                let d = session.auth(now, Authentication::Failed);
                on = go(Stage::Auth, &d, session);
            }
        }
        if let (true, Some(user)) = (on, &self.user) {
            let d = session.auth(now, Authentication::Succeeded(user));
            on = go(Stage::Auth, &d, session);
        }
        if let (true, Some(argument)) = (on, &self.vrfy) {
            let d = session.vrfy(now, argument);
            on = go(Stage::Vrfy, &d, session);
        }
        if let (true, Some(from)) = (on, &self.from) {
            let d = session.mail(now, from, &self.parameters);
            on = go(Stage::Mail, &d, session);
        }
        if !on || self.to.is_empty() {
            return all;
        }
        if self.recipients(session, now, &mut all) {
            self.body(session, now, &mut all);
        }
        all
    }

    fn recipients(&self, session: &mut Session, now: Instant, all: &mut Vec<Seen>) -> bool {
        let mut any = false;
        for recipient in &self.to {
            let d = session.rcpt(now, recipient, self.exists);
            any |= d.verdict.passes();
            all.push(seen(Stage::Rcpt, &d, session));
            if matches!(d.verdict, Verdict::Drop(_)) {
                return false;
            }
        }
        any
    }

    fn body(&self, session: &mut Session, now: Instant, all: &mut Vec<Seen>) {
        let headers = self.headers.clone().unwrap_or_else(|| "Subject: test\r\n\r\n".into());
        // A person writes line feeds, and does not write a hundred Received fields.
        let headers = "Received: hop\n".repeat(self.hops as usize) + &headers.replace("\r\n", "\n");
        let headers = headers.replace('\n', "\r\n");
        let d = session.data(now, headers.as_bytes());
        let passes = d.verdict.passes();
        all.push(seen(Stage::Data, &d, session));
        if passes {
            let octets = self.size.unwrap_or(headers.len() as u64);
            let shape = BodyShape { octets, header_octets: headers.len() as u64, ..BodyShape::default() };
            let d = session.message(now, &shape, headers.as_bytes());
            all.push(seen(Stage::Message, &d, session));
        }
    }

    fn compare(&self, decisions: &[Seen]) -> Vec<String> {
        let found = match self.expect.stage {
            Some(stage) => decisions.iter().rfind(|d| d.stage == stage),
            None => decisions.iter().find(|d| !d.passes).or(decisions.last()),
        };
        let Some(found) = found else {
            let last = decisions.last().map_or("nothing", |d| d.stage.word());
            return vec![format!(
                "never came to {}; ended at {last}",
                self.expect.stage.map_or("a decision", Stage::word)
            )];
        };
        let mut failures = Vec::new();
        for (key, expected) in &self.expect.texts {
            let got = found.texts.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v.as_str());
            // Replies and reasons may be given by their beginning.
            let same =
                if matches!(*key, "reply" | "reason") { got.starts_with(expected.as_str()) } else { got == expected };
            if !same {
                failures.push(format!("{key}: expected {expected:?}, came {got:?} at {}", found.stage.word()));
            }
        }
        if let Some(tags) = self.expect.tags.as_ref().filter(|t| **t != found.tags) {
            failures.push(format!("tags: expected {tags:?}, came {:?}", found.tags));
        }
        failures
    }
}
