//! `gatepost policy replay`: what a policy would have done to recorded traffic.
//!
//! How it fails: a policy with errors is not replayed and every finding is shown; lines that cannot be read are counted and
//! the first is shown; with `--fail-on-change` a changed verdict makes the exit code 1.

mod html;
mod report;

use crate::control::cli::{Failure, ServeArgs, print};
use crate::control::journal::{Journals, Progress, SourceArgs};
use crate::control::policy::told;
use crate::gateway::config::Config;
use crate::gateway::policy_file::{self, PolicyFiles};
use crate::policy::replay::{Counts, Diff, Replay, Visitor};
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
    /// Policy file to try [default: that of the configuration]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Local domain; may be repeated [default: those of the configuration]
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Also write a report that a browser shows, with plots over time; one file, no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Exit code 1 when any verdict changes, for CI
    #[arg(long)]
    fail_on_change: bool,
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

/// Runs a replay.
pub fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let journals = args.source.open()?;
    let serve = ServeArgs::for_policy(args.source.config.clone(), args.policy.clone(), args.domain.clone());
    let config = serve.load()?.config;
    let policy = Arc::new(policy_file::load(&config).map_err(|e| told(&e, "the policy has errors"))?);
    let began = Instant::now();
    let mut diff = Diff::default();
    let window = Duration::from_secs(u64::from(args.window) * 60);
    let replay = Replay::new(policy.clone(), config.settings.limits.keys_max).with_window(window);
    let counts = play(&journals, replay, &mut diff, "replaying")?;
    let outcome = Outcome {
        policy: policy.name().to_owned(),
        version: policy.version().to_owned(),
        counts,
        diff,
        took: began.elapsed(),
        top: args.top,
    };
    if let Some(path) = &args.html {
        let fail = |e| Failure::new(format!("cannot write {}: {e}", path.display()));
        std::fs::write(path, html::page(&outcome)).map_err(fail)?;
    }
    match args.json {
        true => print(&format!("{}\n", report::json(&outcome)))?,
        false => print(&report::text(&outcome))?,
    }
    match outcome.diff.verdicts_changed {
        n if args.fail_on_change && n > 0 => Err(Failure::new(format!("{n} verdicts change"))),
        _ => Ok(()),
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
    let builtins = Builtins::new(domains).map_err(Failure::new)?.with_routes(routes);
    let compiled = Policy::compile("the proposed policy", source, &PolicyFiles::new(config), &builtins);
    compiled.map(Arc::new).map_err(|findings| {
        let text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
        told(&text, "the proposed values do not make a policy")
    })
}
