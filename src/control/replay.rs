//! `gatepost policy replay`: what a policy would have done to recorded traffic.
//!
//! How it fails: a policy with errors is not replayed and every finding is shown; lines that cannot be read are counted and
//! the first is shown; with `--fail-on-change` a changed verdict makes the exit code 1, with `--fail-on-stopped` a message
//! that was delivered then and is stopped now.

mod html;
mod report;

use crate::control::cli::{Failure, ServeArgs, print};
use crate::control::journal::{Journals, Progress, SourceArgs};
use crate::control::policy::told;
use crate::control::when;
use crate::gateway::config::Config;
use crate::gateway::policy_file::{self, PolicyFiles};
use crate::policy::replay::{Counts, Diff, Replay, Seen, Visitor};
use crate::policy::{Builtins, Policy};
use clap::Args;
use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What to replay, on what, and how to tell.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Policy file to try; several are compared with each other [default: that of the configuration]
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Local domain; may be repeated [default: those of the configuration]
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,
    /// Count from then on only; what was before is played all the same, so that limits stand as they would have
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    since: Option<u64>,
    /// Nothing after that: 2026-11-23T12:00:00Z, 2026-11-23, or how long ago, such as 2d
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    until: Option<u64>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Also write a report that a browser shows, with plots over time; one file, no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Exit code 1 when any verdict changes, for CI
    #[arg(long)]
    fail_on_change: bool,
    /// Exit code 1 when a message is stopped that was delivered then, for CI
    #[arg(long)]
    fail_on_stopped: bool,
    /// Senders, recipients, clients and kinds of changes that are listed
    #[arg(long, value_name = "N", default_value = "10")]
    top: usize,
    /// Minutes between a session's beginning and its line, at most
    #[arg(long, value_name = "MINUTES", default_value = "20")]
    window: u32,
}

/// What a report is about.
pub(super) struct Outcome {
    pub policy: String,
    pub version: String,
    pub counts: Counts,
    pub diff: Diff,
    pub took: Duration,
    pub top: usize,
}

/// Runs a replay of every policy.
pub fn run(args: &ReplayArgs) -> Result<(), Failure> {
    if args.since.zip(args.until).is_some_and(|(since, until)| since >= until) {
        return Err(Failure::usage("--since is not before --until"));
    }
    let journals = args.source.open()?;
    let one = |policy: Option<&PathBuf>| replayed(args, &journals, policy);
    let outcomes = match args.policy.as_slice() {
        [] => vec![one(None)?],
        files => files.iter().map(|file| one(Some(file))).collect::<Result<Vec<_>, _>>()?,
    };
    if let Some(path) = &args.html {
        let fail = |e| Failure::new(format!("cannot write {}: {e}", path.display()));
        std::fs::write(path, html::page(&outcomes)).map_err(fail)?;
    }
    match (args.json, outcomes.as_slice()) {
        (true, [only]) => print(&format!("{}\n", report::json(only)))?,
        (true, several) => {
            let all: Vec<_> = several.iter().map(report::json).collect();
            print(&format!("{}\n", serde_json::json!({ "policies": all })))?;
        }
        (false, several) => {
            let texts: Vec<String> = several.iter().map(report::text).collect();
            print(&(texts.join("\n") + &report::comparison(several)))?;
        }
    }
    let sum = |of: fn(&Diff) -> u64| outcomes.iter().map(|o| of(&o.diff)).sum::<u64>();
    match (sum(|d| d.verdicts_changed), sum(|d| d.messages_delivered_stopped)) {
        (n, _) if args.fail_on_change && n > 0 => Err(Failure::new(format!("{n} verdicts change"))),
        (_, n) if args.fail_on_stopped && n > 0 => {
            Err(Failure::new(format!("{n} messages that were delivered then are stopped")))
        }
        _ => Ok(()),
    }
}

fn replayed(args: &ReplayArgs, journals: &Journals, policy: Option<&PathBuf>) -> Result<Outcome, Failure> {
    let serve = ServeArgs::for_policy(args.source.config.clone(), policy.cloned(), args.domain.clone());
    let config = serve.load()?.config;
    let policy = Arc::new(policy_file::load(&config).map_err(|e| told(&e, "the policy has errors"))?);
    let began = Instant::now();
    let window = Duration::from_secs(u64::from(args.window) * 60);
    let replay = Replay::new(policy.clone(), config.settings.limits.keys_max).with_window(window);
    let mut counted =
        Between { since_ms: args.since.unwrap_or(0), until_ms: args.until.unwrap_or(u64::MAX), diff: Diff::default() };
    let counts = play(journals, replay, &mut counted, "replaying")?;
    Ok(Outcome {
        policy: policy.name().to_owned(),
        version: policy.version().to_owned(),
        counts,
        diff: counted.diff,
        took: began.elapsed(),
        top: args.top,
    })
}

/// Counts what happened between two times.
struct Between {
    since_ms: u64,
    until_ms: u64,
    diff: Diff,
}

impl Between {
    fn has(&self, at_ms: u64) -> bool {
        (self.since_ms..self.until_ms).contains(&at_ms)
    }
}

impl Visitor for Between {
    fn decision(&mut self, seen: &Seen<'_>) {
        if self.has(seen.at_ms) {
            self.diff.decision(seen);
        }
    }
    fn settled(&mut self, seen: &Seen<'_>, how: &str) {
        if self.has(seen.at_ms) {
            self.diff.settled(seen, how);
        }
    }
    fn began(&mut self, at_ms: u64, policy: &str) {
        if self.has(at_ms) {
            self.diff.began(at_ms, policy);
        }
    }
}

/// Plays all journals.
pub(super) fn play(
    journals: &Journals,
    mut replay: Replay<'_>,
    visitor: &mut impl Visitor,
    what: &'static str,
) -> Result<Counts, Failure> {
    journals.lines(&Progress::bar(journals, what), |line| {
        match line {
            Some(line) => replay.feed(Cow::Owned(line), visitor),
            None => replay.feed_foreign(),
        }
        Ok(())
    })?;
    replay.finish(visitor);
    let counts = replay.counts().clone();
    if counts.sessions == 0 {
        let first = counts.first_unread.map_or(String::new(), |(line, why)| format!("; line {line}: {why}"));
        return Err(Failure::new(format!("no session could be read{first}")));
    }
    Ok(counts)
}

/// Compiles another text as the policy of the configuration, for what it would do.
pub(super) fn compile(config: &Config, source: &str) -> Result<Arc<Policy>, Failure> {
    let routes = config.routes.iter().map(|route| route.name.clone());
    let domains = config.domains.iter().map(|domain| domain.lower());
    let helpers = config.helpers.iter().map(|helper| helper.name.clone());
    let builtins = Builtins::new(domains).map_err(Failure::new)?.with_routes(routes).with_helpers(helpers);
    let compiled = Policy::compile("the proposed policy", source, &PolicyFiles::new(config), &builtins);
    compiled.map(Arc::new).map_err(|findings| {
        let text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
        told(&text, "the proposed values do not make a policy")
    })
}
