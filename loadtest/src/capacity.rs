//! The highest open-loop rate at which expectations hold: doubled until they do not, halved in between, then confirmed.
//!
//! Where the expectations hold although the harness was late, they hold: its lateness is part of every latency. Where
//! they do not hold and the harness was late, that proves nothing: after some more tries the search goes no higher and
//! says so. How it fails: a scenario without a rate cannot be searched; a server that holds at no rate that is tried is a result as well, and a
//! failure.

use crate::cli::{duration, save};
use crate::proc;
use crate::scenario::{self, Expectation, SettingArgs, Trial};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Runs of one search at most.
const STEPS_MAX: usize = 60;

/// `capacity`
#[derive(Args, Debug)]
pub struct CapacityArgs {
    /// Scenario whose rates are raised together; without it, plain mail.
    #[arg(long)]
    scenario: Option<String>,
    #[command(flatten)]
    setting: SettingArgs,
    /// Rate to begin with, of all clients together; default: that of the scenario, else 100 per second.
    #[arg(long)]
    start: Option<f64>,
    /// Rate beyond which nothing is tried.
    #[arg(long, default_value_t = 1_000_000.0)]
    most: f64,
    /// The search ends when the answer is known to this share.
    #[arg(long, default_value_t = 0.1)]
    precision: f64,
    /// The answer must hold this often in a row.
    #[arg(long, default_value_t = 2)]
    confirm: u32,
    /// Plain mail: seconds of a run.
    #[arg(long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// What must hold, instead of what the scenario expects; may be repeated. Plain mail is the client `load`.
    #[arg(long)]
    expect: Vec<String>,
    /// Write the result as JSON here; `-` is standard output.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Plain mail: more options of `gatepost-load send`, behind `--`.
    #[arg(last = true)]
    send: Vec<String>,
}

/// Tries of a rate at which the harness was its own limit: other work on the machine may have been the reason.
const HARNESS_TRIES: u32 = 3;
/// Share of the rate that must have been reached for it to have been offered at all.
const REACHED_LEAST: f64 = 0.9;

/// One rate that was tried.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    /// Rate that was asked for, of all clients together.
    pub rate: f64,
    /// Rate that was reached.
    pub reached: f64,
    /// The slowest client's median.
    pub p50_ms: f64,
    /// The slowest client's p99.
    pub p99_ms: f64,
    /// Processor time of the server, in cores.
    pub server_cpu: f64,
    /// Whether the expectations held.
    pub held: bool,
    /// The first that did not.
    pub why: Option<String>,
    /// Why the harness was the limit.
    pub harness_limit: Option<String>,
}

/// What a search found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CapacityReport {
    /// What was searched.
    pub title: String,
    /// Where.
    pub machine: String,
    /// The highest rate at which everything held, as often as it had to.
    pub capacity: Option<f64>,
    /// Whether more might have been possible: the search was ended by its own limit, or by the harness.
    pub at_least: Option<String>,
    /// Everything that was tried, in order.
    pub points: Vec<Point>,
}

/// What became of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Held,
    Failed,
    /// The harness could not offer it.
    Harness,
}

/// The search as a value: asks for a rate, is told what became of it.
#[derive(Debug)]
struct Search {
    held: Option<f64>,
    failed: Option<f64>,
    /// Whether `failed` is only as far as the harness goes.
    harness: bool,
    next: f64,
    most: f64,
    least: f64,
    precision: f64,
    confirm: u32,
    /// Times in a row that `held` held, beyond the first.
    confirmed: u32,
    steps: usize,
}

impl Search {
    fn new(start: f64, most: f64, precision: f64, confirm: u32) -> Search {
        let start = start.min(most);
        Search {
            held: None,
            failed: None,
            harness: false,
            next: start,
            most,
            // A thousandth of where one begins is no capacity anybody asks for.
            least: start / 1000.0,
            precision,
            confirm,
            confirmed: 0,
            steps: 0,
        }
    }

    /// The rate to try now; `None` when the answer is known.
    fn next(&self) -> Option<f64> {
        let confirmed = self.is_narrow() && self.confirmed + 1 >= self.confirm;
        let hopeless = self.failed.is_some_and(|f| f <= self.least);
        if self.steps >= STEPS_MAX || confirmed || hopeless { None } else { Some(self.next) }
    }

    fn is_narrow(&self) -> bool {
        match (self.held, self.failed) {
            (Some(held), Some(failed)) => failed / held <= 1.0 + self.precision * 1.001,
            (Some(held), None) => held >= self.most,
            (None, _) => false,
        }
    }

    fn tell(&mut self, outcome: Outcome) {
        self.steps += 1;
        let again = self.held == Some(self.next);
        match outcome {
            Outcome::Held if again => self.confirmed += 1,
            Outcome::Held => {
                self.held = Some(self.next);
                self.confirmed = 0;
            }
            Outcome::Failed | Outcome::Harness => {
                self.failed = Some(self.next);
                self.harness = outcome == Outcome::Harness;
                if again {
                    // It held once and not again: what is known to hold is less.
                    self.held = None;
                    self.confirmed = 0;
                }
            }
        }
        self.next = match (self.held, self.failed) {
            (Some(held), _) if self.is_narrow() => held,
            (Some(held), Some(failed)) => (held * failed).sqrt(),
            (Some(held), None) => (held * 2.0).min(self.most),
            (None, Some(failed)) if self.steps > 1 && again => failed / (1.0 + self.precision),
            (None, Some(failed)) => failed / 2.0,
            (None, None) => self.next,
        };
    }

    fn answer(&self) -> Option<f64> {
        self.held
    }

    fn at_least(&self) -> Option<String> {
        self.held?;
        if self.harness {
            return Some("the harness could not offer more".into());
        }
        self.failed.is_none().then(|| "nothing higher was tried".into())
    }
}

/// `gatepost-load capacity`
pub(crate) fn run(args: &CapacityArgs) -> Result<ExitCode, String> {
    if !(args.precision > 0.0 && args.precision < 1.0) {
        return Err(format!("--precision: expected a share between 0 and 1, found {}", args.precision));
    }
    let mut plan = match &args.scenario {
        Some(name) => scenario::load(name)?,
        None => plain(args)?,
    };
    if !args.expect.is_empty() {
        plan.expect = args.expect.iter().map(|text| expectation(text)).collect::<Result<_, _>>()?;
    }
    let plan = args.setting.apply(plan)?;
    let base: f64 = plan.clients.iter().filter_map(|c| c.rate).sum();
    if base <= 0.0 {
        return Err(format!("{}: no client has a rate that could be raised", plan.name));
    }
    let mut setting = args.setting.setting()?;
    let mut search = Search::new(args.start.unwrap_or(base), args.most, args.precision, args.confirm.max(1));
    let mut points = Vec::new();
    while let Some(rate) = search.next() {
        setting.factor = rate / base;
        let mut tries = 0;
        let outcome = loop {
            let point = point_of(rate, &scenario::run_once(&plan, &setting)?);
            eprintln!("{point}");
            let outcome = point.outcome();
            points.push(point);
            tries += 1;
            if outcome != Outcome::Harness || tries >= HARNESS_TRIES {
                break outcome;
            }
        };
        search.tell(outcome);
    }
    let report = CapacityReport {
        title: plan.title.clone(),
        machine: proc::machine(),
        capacity: search.answer(),
        at_least: search.at_least(),
        points,
    };
    save(&report, args.json.as_deref())?;
    Ok(if report.capacity.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn plain(args: &CapacityArgs) -> Result<scenario::Plan, String> {
    crate::cli::check("send", &args.send)?;
    let rate = args.start.unwrap_or(100.0);
    let mut plan = scenario::mail_only(rate, args.duration, Duration::from_secs(10), &args.send);
    (plan.name, plan.title) = ("mail".into(), "Plain mail".into());
    plan.expect = vec![
        scenario::expectation("load.error_count = 0 and load.refused = 0"),
        scenario::expectation("load.p99_ms < 50 ms"),
    ];
    if args.setting.delivers_to_sink() {
        plan.expect.push(scenario::expectation("lost = 0"));
    } else {
        plan.sink = None;
    }
    Ok(plan)
}

fn expectation(text: &str) -> Result<Expectation, String> {
    Expectation::parse(text).map_err(|wrong| {
        let place = text.get(..wrong.at.start).map_or(0, |t| t.chars().count()) + 1;
        format!("--expect {text:?}: character {place}: expected {}", wrong.expected)
    })
}

fn point_of(rate: f64, trial: &Trial) -> Point {
    let names = || trial.clients.keys();
    let most = |path: &str| names().filter_map(|n| trial.look_up(&format!("{n}.{path}"))).fold(0.0, f64::max);
    let reached = |name: &String| {
        let of = |path: &str| trial.look_up(&format!("{name}.{path}")).unwrap_or(0.0);
        if of("messages_per_s") > 0.0 { of("messages_per_s") } else { of("sessions_per_s") }
    };
    let limit = trial
        .clients
        .iter()
        .find_map(|(name, report)| Some(format!("{name}: {}", report.get("harness_limit")?.as_str()?)));
    Point {
        rate,
        reached: names().map(reached).sum(),
        p50_ms: most("p50_ms"),
        p99_ms: most("p99_ms"),
        server_cpu: trial.server.cpu_s / trial.elapsed_s.max(1e-9),
        held: trial.verdicts.iter().all(|v| v.passed),
        why: trial.verdicts.iter().find(|v| !v.passed).map(|v| format!("{}: {}", v.text, v.found)),
        harness_limit: limit,
    }
}

impl Point {
    fn outcome(&self) -> Outcome {
        let offered = self.reached >= self.rate * REACHED_LEAST;
        match (self.held && offered, &self.harness_limit) {
            (true, _) => Outcome::Held,
            (false, Some(_)) => Outcome::Harness,
            (false, None) => Outcome::Failed,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:10.1}/s  reached {:10.1}/s  p50 {:9.2} ms  p99 {:9.2} ms  server {:5.2} cores  {}",
            self.rate,
            self.reached,
            self.p50_ms,
            self.p99_ms,
            self.server_cpu,
            if self.held { "held" } else { "did not hold" }
        )?;
        self.why.iter().try_for_each(|why| write!(f, ": {why}"))?;
        self.harness_limit.iter().try_for_each(|why| write!(f, "; the harness was the limit: {why}"))
    }
}

impl fmt::Display for CapacityReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {}", self.title, self.machine)?;
        let mut points: Vec<&Point> = self.points.iter().collect();
        points.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        points.iter().try_for_each(|p| writeln!(f, "{p}"))?;
        match (self.capacity, &self.at_least) {
            (Some(rate), Some(why)) => writeln!(f, "capacity: at least {rate:.1}/s ({why})"),
            (Some(rate), None) => writeln!(f, "capacity: {rate:.1}/s"),
            (None, _) => writeln!(f, "capacity: none; the expectations held at no rate that was tried"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a server whose capacity is known; returns the answer and the rates that were tried.
    fn search(start: f64, capacity: f64, most: f64, confirm: u32) -> (Search, Vec<f64>) {
        let mut search = Search::new(start, most, 0.05, confirm);
        let mut tried = Vec::new();
        while let Some(rate) = search.next() {
            tried.push(rate);
            search.tell(if rate <= capacity { Outcome::Held } else { Outcome::Failed });
        }
        (search, tried)
    }

    #[test]
    fn a_known_capacity_is_found_from_above_and_below() {
        for start in [1.0, 90.0, 900.0, 20_000.0] {
            let (found, tried) = search(start, 1000.0, 1e6, 3);
            let answer = found.answer().unwrap();
            assert!((950.0..=1000.0).contains(&answer), "from {start}: {answer} after {tried:?}");
            assert!(tried.iter().filter(|r| **r == answer).count() >= 3, "from {start}: confirmed: {tried:?}");
            assert_eq!(found.at_least(), None);
        }
    }

    #[test]
    fn limits_end_the_search() {
        let (found, tried) = search(100.0, 1e9, 5000.0, 2);
        assert_eq!((found.answer(), *tried.last().unwrap()), (Some(5000.0), 5000.0));
        assert!(found.at_least().is_some());
        let (found, tried) = search(100.0, 0.0, 5000.0, 2);
        assert!(found.answer().is_none() && tried.len() < 15, "{tried:?}");
        let mut s = Search::new(100.0, 1e6, 0.1, 1);
        s.tell(Outcome::Held);
        while s.next().is_some() {
            let rate = s.next;
            s.tell(if rate < 300.0 { Outcome::Held } else { Outcome::Harness });
        }
        assert_eq!(s.at_least().as_deref(), Some("the harness could not offer more"));
        assert!((270.0..300.0).contains(&s.answer().unwrap()));
    }

    #[test]
    fn a_rate_that_held_once_and_not_again_is_not_the_answer() {
        let mut s = Search::new(100.0, 1e6, 0.1, 3);
        let (mut lucky, mut steps) = (true, 0);
        while let Some(rate) = s.next() {
            // 110 holds the first time it is tried, never again.
            let held = rate <= 100.0 || (rate < 112.0 && std::mem::take(&mut lucky));
            s.tell(if held { Outcome::Held } else { Outcome::Failed });
            steps += 1;
        }
        assert!(s.answer().unwrap() <= 100.0, "{s:?}");
        assert!(steps < STEPS_MAX);
    }

    #[test]
    fn the_report_says_what_it_found() {
        let point = |rate, held| Point {
            rate,
            reached: rate,
            p50_ms: 1.0,
            p99_ms: 2.0,
            server_cpu: 0.5,
            held,
            why: (!held).then(|| "lost = 0: lost 3".to_owned()),
            harness_limit: None,
        };
        let late = Some("late".to_owned());
        for (reached, held, limit, outcome) in [
            (100.0, true, None, Outcome::Held),
            (95.0, true, late.clone(), Outcome::Held),
            (80.0, true, late.clone(), Outcome::Harness),
            (100.0, false, late, Outcome::Harness),
            (80.0, true, None, Outcome::Failed),
            (100.0, false, None, Outcome::Failed),
        ] {
            let tried = Point { reached, harness_limit: limit, ..point(100.0, held) };
            assert_eq!(tried.outcome(), outcome, "{tried}");
        }
        let report = CapacityReport {
            title: "t".into(),
            machine: "m".into(),
            capacity: Some(100.0),
            at_least: None,
            points: vec![point(200.0, false), point(100.0, true)],
        };
        let text = report.to_string();
        assert!(text.find("100.0/s  reached") < text.find("did not hold: lost = 0: lost 3"), "{text}");
        assert!(text.ends_with("capacity: 100.0/s\n"));
        assert!(expectation("load.p99 <").unwrap_err().contains("character 11: expected a number"));
    }
}
