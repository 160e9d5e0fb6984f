//! The result of a scenario: every client's own report, the ledgers joined, what the server used, what was expected.
//!
//! How it fails: a name that is not in a result is not measured, and the expectation that needs it does not hold.

use super::Plan;
use super::setting::Setting;
use crate::ledger::Accounts;
use crate::live::Point;
use crate::proc;
use gatepost::policy::nearest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// Names that are not a client's.
pub(super) const NAMES: [&str; 16] = [
    "sent",
    "accepted",
    "seen",
    "lost",
    "duplicated",
    "corrupted",
    "reordered",
    "unknown",
    "read_lost",
    "read_duplicated",
    "read_corrupted",
    "rejected",
    "server",
    "sink",
    "elapsed_s",
    "late",
];

/// What the server used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerUse {
    /// Processor time of its whole tree, all its lives together.
    pub cpu_s: f64,
    /// Most memory of its tree (PSS), in octets.
    pub memory_octets_max: u64,
    /// How often it was killed and started again.
    pub restarts: u64,
}

/// A moment of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the clients began.
    pub at_s: f64,
    /// Cores that the server was busy on since the moment before.
    pub server_cpu: f64,
    /// Memory of the server.
    pub server_memory_octets: u64,
    /// What clients that report themselves while they work said.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub clients: BTreeMap<String, Point>,
}

/// An expectation and what became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// The expectation.
    pub text: String,
    /// Whether it held, in every run.
    pub passed: bool,
    /// The numbers behind it, of the run in which it did not hold, else of the last.
    pub found: String,
}

/// One run of a scenario.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Trial {
    /// From the first client's start to the last one's end.
    pub elapsed_s: f64,
    /// Each client's report.
    pub clients: BTreeMap<String, Value>,
    /// The ledgers joined.
    pub ledger: Option<Accounts>,
    /// What the sink counted, all its lives together.
    pub sink: BTreeMap<String, f64>,
    /// What the server used.
    pub server: ServerUse,
    /// How it went over time.
    pub timeline: Vec<Sample>,
    /// Each expectation, in the order of the file.
    pub verdicts: Vec<Verdict>,
}

/// A scenario and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScenarioReport {
    /// Its name.
    pub scenario: String,
    /// One line.
    pub title: String,
    /// Where it was measured.
    pub machine: String,
    /// Driver that was asked for.
    pub io: String,
    /// Share of the duration.
    pub scale: f64,
    /// Multiple of the rates.
    pub factor: f64,
    /// Every run.
    pub trials: Vec<Trial>,
    /// Every expectation, over all runs.
    pub verdicts: Vec<Verdict>,
    /// Whether all held.
    pub passed: bool,
}

impl Trial {
    /// The number that a name in an expectation stands for.
    pub fn look_up(&self, name: &str) -> Option<f64> {
        let (first, rest) = name.split_once('.').unwrap_or((name, ""));
        if let Some(report) = self.clients.get(first) {
            return client_number(report, rest);
        }
        match (first, rest) {
            ("server", "cpu_s") => Some(self.server.cpu_s),
            ("server", "memory_octets_max") => Some(self.server.memory_octets_max as f64),
            ("server", "restarts") => Some(self.server.restarts as f64),
            ("sink", _) => self.sink.get(rest).copied(),
            ("elapsed_s", "") => Some(self.elapsed_s),
            ("rejected", "share") => self.rejected_share(),
            ("late", "p99_ms") => {
                let late = self.clients.values().filter_map(|c| client_number(c, "late.p99_ms"));
                Some(late.fold(0.0, f64::max))
            }
            (_, "") => self.ledger_number(first),
            _ => None,
        }
    }

    fn ledger_number(&self, name: &str) -> Option<f64> {
        let ledger = self.ledger.as_ref()?;
        let (of, name) = match name.strip_prefix("read_") {
            // Without a sink, what the readers saw stands first.
            Some(name) => (ledger.read.as_ref().or(self.sink.is_empty().then_some(&ledger.first))?, name),
            None => (&ledger.first, name),
        };
        let number = match name {
            "sent" => of.sent_messages,
            "accepted" => of.accepted,
            "seen" => of.seen,
            "lost" => of.lost,
            "duplicated" => of.duplicated,
            "corrupted" => of.corrupted_messages,
            "reordered" => of.reordered_messages,
            "unknown" => of.unknown_messages,
            _ => return None,
        };
        Some(number as f64)
    }

    /// What was refused of everything that was tried, by all clients together.
    fn rejected_share(&self) -> Option<f64> {
        let sum = |name: &str| self.clients.values().filter_map(|c| client_number(c, name)).sum::<f64>();
        let (refused, taken) = (sum("refused_all"), sum("accepted_all"));
        (refused + taken > 0.0).then(|| refused / (refused + taken))
    }

    fn judge(&mut self, expect: &[super::Expectation], slack: f64) {
        let verdicts = expect.iter().map(|e| match e.evaluate(slack, &|name| self.look_up(name)) {
            Ok((passed, found)) => Verdict { text: e.text.clone(), passed, found: numbers(&found) },
            Err(why) => Verdict { text: e.text.clone(), passed: false, found: format!("{why}{}", self.hint(e)) },
        });
        self.verdicts = verdicts.collect();
    }

    /// The near miss of the first name that was not measured.
    fn hint(&self, expectation: &super::Expectation) -> String {
        let names = expectation.names();
        let Some((name, _)) = names.iter().find(|(name, _)| self.look_up(name).is_none()) else { return String::new() };
        let Some((client, rest)) = name.split_once('.') else { return String::new() };
        let keys = self.clients.get(client).and_then(Value::as_object).map(|o| o.keys().map(String::as_str));
        match keys.and_then(|mut known| nearest(rest, known.by_ref().collect::<Vec<_>>())) {
            Some(near) => format!("; did you mean {client}.{near}?"),
            None => String::new(),
        }
    }
}

fn numbers(found: &[(String, f64)]) -> String {
    let one = |(name, value): &(String, f64)| {
        let value = if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") };
        format!("{name} {value}")
    };
    found.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A number of a client's report: by its path, by a path inside its `latency`, or one made of several.
fn client_number(report: &Value, path: &str) -> Option<f64> {
    let at = |path: &str| path.split('.').try_fold(report, |v, key| v.get(key)).and_then(Value::as_f64);
    let whole = |name: &str| at(name).unwrap_or(0.0);
    // A sender counts messages, an attacker what it asked for and got, a reader its logins.
    let accepted = || {
        if report.get("loop_kind").is_some() && report.get("kind").is_none() {
            whole("messages")
        } else {
            whole("accepted")
        }
    };
    let refused = || whole("refused") + whole("login_refused");
    match path {
        "accepted_all" => Some(accepted()),
        "refused_all" => Some(refused()),
        "refused_share" => {
            let all = accepted() + refused();
            (all > 0.0).then(|| refused() / all)
        }
        "error_count" => {
            let errors = report.get("errors").and_then(Value::as_object);
            Some(errors.map_or(0.0, |e| e.values().filter_map(Value::as_f64).fold(0.0, |a, b| a + b)))
        }
        _ => at(path).or_else(|| at(&format!("latency.{path}"))),
    }
}

impl ScenarioReport {
    pub(super) fn new(scenario: &Plan, setting: &Setting) -> ScenarioReport {
        ScenarioReport {
            scenario: scenario.name.clone(),
            title: scenario.title.clone(),
            machine: proc::machine(),
            io: format!("{:?}", setting.io).to_lowercase(),
            scale: setting.scale,
            factor: setting.factor,
            trials: Vec::new(),
            verdicts: Vec::new(),
            passed: false,
        }
    }

    /// Puts the runs' verdicts together: what failed once has failed.
    pub(super) fn judge(&mut self) {
        let count = self.trials.first().map_or(0, |t| t.verdicts.len());
        self.verdicts = (0..count)
            .filter_map(|n| {
                let of = || self.trials.iter().filter_map(move |t| t.verdicts.get(n));
                of().find(|v| !v.passed).or_else(|| of().next_back()).cloned()
            })
            .collect();
        self.passed = !self.trials.is_empty() && self.verdicts.iter().all(|v| v.passed);
    }
}

pub(super) fn judge(trial: &mut Trial, scenario: &Plan, slack: f64) {
    trial.judge(&scenario.expect, slack);
}

impl fmt::Display for ScenarioReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} ({} runs)", self.scenario, self.title, self.trials.len())?;
        if let Some(trial) = self.trials.last() {
            for (name, report) in &trial.clients {
                let number = |path| client_number(report, path).unwrap_or(0.0);
                let rate =
                    if number("messages_per_s") > 0.0 { number("messages_per_s") } else { number("sessions_per_s") };
                writeln!(
                    f,
                    "  {name:18} {rate:9.1}/s  p50 {:8.2} ms  p99 {:8.2} ms  refused {:6.1} %  errors {:.0}",
                    number("p50_ms"),
                    number("p99_ms"),
                    number("refused_share") * 100.0,
                    number("error_count"),
                )?;
            }
            writeln!(
                f,
                "  {:18} {:.2} s CPU, {:.0} MiB at most, {} restarts",
                "server",
                trial.server.cpu_s,
                trial.server.memory_octets_max as f64 / 1_048_576.0,
                trial.server.restarts
            )?;
            if let Some(ledger) = &trial.ledger {
                ledger.to_string().lines().try_for_each(|l| writeln!(f, "  {l}"))?;
            }
        }
        for v in &self.verdicts {
            writeln!(f, "  {} {:48} {}", if v.passed { "pass" } else { "FAIL" }, v.text, v.found)?;
        }
        writeln!(f, "{}", if self.passed { "passed" } else { "FAILED" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn trial() -> Trial {
        let mut t = Trial::default();
        let sender = json!({"loop_kind": "open", "messages": 90, "refused": 10, "latency": {"p99_ms": 12.5}, "errors": {"x": 2, "y": 1}});
        let bots = json!({"loop_kind": "open", "kind": "dictionary", "accepted": 0, "refused": 300, "messages": 0});
        t.clients = [("good".to_owned(), sender), ("bots".to_owned(), bots)].into();
        t.ledger = Some(Accounts::default());
        t
    }

    #[test]
    fn names_find_their_numbers() {
        let mut t = trial();
        assert_eq!(t.look_up("read_lost"), Some(0.0), "without a sink the readers stand first");
        t.sink.insert("messages".into(), 90.0);
        for (name, expected) in [
            ("good.messages", Some(90.0)),
            ("good.latency.p99_ms", Some(12.5)),
            ("good.p99_ms", Some(12.5)),
            ("good.refused_share", Some(0.1)),
            ("good.error_count", Some(3.0)),
            ("bots.refused_share", Some(1.0)),
            ("rejected.share", Some(310.0 / 400.0)),
            ("lost", Some(0.0)),
            ("read_lost", None),
            ("server.restarts", Some(0.0)),
            ("sink.messages", Some(90.0)),
            ("good.what", None),
        ] {
            assert_eq!(t.look_up(name), expected, "{name}");
        }
    }

    #[test]
    fn one_bad_run_of_several_is_a_failure() {
        let expect = [super::super::expectation("good.p99_ms < 20 ms"), super::super::expectation("good.mesages > 1")];
        let mut good = trial();
        good.judge(&expect, 1.0);
        assert!(good.verdicts[0].passed && !good.verdicts[1].passed);
        assert!(good.verdicts[1].found.contains("did you mean good.messages?"), "{:?}", good.verdicts[1]);
        let mut slow = trial();
        slow.clients.get_mut("good").unwrap()["latency"]["p99_ms"] = json!(25.0);
        for (slack, passed) in [(1.0, false), (2.0, true)] {
            slow.judge(&expect[..1], slack);
            good.judge(&expect[..1], slack);
            let setting = Setting::default();
            let mut report = ScenarioReport::new(&Plan::default(), &setting);
            report.trials = vec![slow.clone(), good.clone()];
            report.judge();
            assert_eq!(report.passed, passed);
            assert!(report.to_string().contains(if passed { "passed" } else { "FAIL good" }));
        }
    }
}
