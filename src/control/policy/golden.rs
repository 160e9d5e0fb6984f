//! `gatepost policy test`: golden cases run on the engine that serves.
//!
//! How it fails: a case that goes wrong is shown with the difference and its trace, and makes the exit code 1; with
//! `--update` what came is written into the file instead, and the exit code is 0.

use super::{compile, parse_cases, read};
use crate::control::cli::{Failure, print};
use crate::policy::{CaseFile, Report};
use clap::Args;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which cases, and what to do about those that fail.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Case files, such as policy/edge.cases.toml; each names its policy
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Run the cases against this policy instead
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Write what came into the files, which keep their comments and layout
    #[arg(long)]
    pub update: bool,
    /// Exit code 1 when a rule is reached by no case of any file, for CI
    #[arg(long)]
    pub deny_uncovered: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// What came of the files.
#[derive(Default)]
pub struct Outcome {
    /// For people.
    pub text: String,
    /// Cases that failed.
    pub failed: usize,
    /// Of every policy, the rules that no case reached.
    pub uncovered: BTreeMap<String, BTreeSet<String>>,
    reports: Vec<serde_json::Value>,
    updated: usize,
}

/// Runs the cases.
pub fn run(args: &TestArgs) -> Result<(), Failure> {
    let outcome = test(&args.files, args.policy.as_deref(), args.update)?;
    match args.json {
        true => print(&format!("{}\n", json(&outcome)))?,
        false => print(&outcome.text)?,
    }
    if outcome.updated > 0 {
        eprintln!("gatepost: {} expectations are rewritten; look at what changed before you keep it", outcome.updated);
    }
    let uncovered: usize = outcome.uncovered.values().map(BTreeSet::len).sum();
    match outcome.failed {
        0 if args.deny_uncovered && uncovered > 0 => {
            Err(Failure::new(format!("{uncovered} rules are reached by no case")))
        }
        0 => Ok(()),
        1 => Err(Failure::new("1 case failed")),
        n => Err(Failure::new(format!("{n} cases failed"))),
    }
}

/// Runs case files.
pub fn test(files: &[PathBuf], policy: Option<&Path>, update: bool) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    for path in files {
        let cases = parse_cases(path)?;
        // A case file names its policy from where it stands itself.
        let beside = |name: &String| path.parent().unwrap_or(Path::new("")).join(name);
        let named = cases.policy.as_ref().map(beside);
        let policy = Arc::new(compile(policy.or(named.as_deref()), &cases.local_domains)?);
        let report = cases.run(&policy);
        let failed = report.results.iter().filter(|r| !r.failures.is_empty()).count();
        // Several files may test one policy: a rule is reached by any of them.
        let missed: BTreeSet<String> = report.uncovered.iter().cloned().collect();
        let uncovered = outcome.uncovered.entry(policy.name().to_owned()).or_insert_with(|| missed.clone());
        uncovered.retain(|rule| missed.contains(rule));
        // Writing to a string cannot fail.
        let _ = write!(outcome.text, "{}: {report}", path.display());
        outcome.reports.push(report_json(path, policy.name(), &report));
        match update && failed > 0 {
            true => outcome.updated += rewrite(path, &report)?,
            false => outcome.failed += failed,
        }
    }
    Ok(outcome)
}

fn rewrite(path: &Path, report: &Report) -> Result<usize, Failure> {
    let (text, changed) =
        CaseFile::update(&read(path)?, report).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
    super::replace(path, &text)?;
    Ok(changed)
}

fn report_json(path: &Path, policy: &str, report: &Report) -> serde_json::Value {
    let cases = report.results.iter().map(|r| {
        let failures = r
            .failures
            .iter()
            .map(|m| serde_json::json!({ "key": m.key, "expected": m.expected, "came": m.came, "stage": m.stage }));
        let decided = r.decided.as_ref().map(|(stage, texts)| {
            let texts = texts.iter().filter(|(_, v)| !v.is_empty());
            let mut map: serde_json::Map<_, _> =
                texts.map(|(k, v)| ((*k).to_owned(), serde_json::Value::from(v.as_str()))).collect();
            map.insert("stage".into(), stage.word().into());
            map
        });
        let trace = (!r.failures.is_empty()).then_some(&r.trace);
        serde_json::json!({
            "name": r.name, "line": r.line, "passed": r.failures.is_empty(), "failures": failures.collect::<Vec<_>>(),
            "decided": decided, "trace": trace,
        })
    });
    serde_json::json!({
        "file": path.display().to_string(), "policy": policy, "cases": cases.collect::<Vec<_>>(),
        "rules": report.rules, "uncovered": report.uncovered,
    })
}

fn json(outcome: &Outcome) -> serde_json::Value {
    serde_json::json!({
        "failed": outcome.failed, "updated": outcome.updated, "files": outcome.reports, "uncovered": outcome.uncovered,
    })
}
