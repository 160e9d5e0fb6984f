//! `gatepost policy check`: errors of policy files with their places, and lints.
//!
//! How it fails: a file with errors, or with `--deny-lints` one with warnings, makes the exit code 1; hints never do.

use super::{read, told};
use crate::control::cli::{Failure, ServeArgs, print};
use crate::gateway::config::Config;
use crate::gateway::policy_file::PolicyFiles;
use crate::policy::{Builtins, Diagnostic, Policy, Severity, lint};
use clap::Args;
use std::path::{Path, PathBuf};

/// Which policies, and how to tell.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Policy files [default: that of the configuration]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Exit code 1 when there is a warning, for CI
    #[arg(long)]
    deny_lints: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Configuration file: its domains and routes are known to the policy [default: ./gatepost.toml when it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Local domain; may be repeated [default: those of the configuration]
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,
}

/// Runs the check.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let serve = ServeArgs::for_policy(args.config.clone(), None, args.domain.clone());
    let configured = serve.file().is_some();
    let config = serve.load()?.config;
    let mut all = Vec::new();
    match args.files.is_empty() {
        true => all.extend(one(&config, config.settings.server.policy.as_deref(), true)?),
        false => {
            for file in &args.files {
                // A policy that stands by itself may name routes of a configuration that is not here.
                all.extend(one(&config, Some(file), configured)?);
            }
        }
    }
    let count = |severity| all.iter().filter(|d| d.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    match args.json {
        true => print(&format!("{}\n", json(&all, errors, warnings)))?,
        false => {
            let told: String = all.iter().map(|d| format!("{d}\n\n")).collect();
            let files = if args.files.len() > 1 { format!("{} files: ", args.files.len()) } else { String::new() };
            print(&format!("{told}{files}{errors} errors, {warnings} warnings, {} hints\n", count(Severity::Hint)))?;
        }
    }
    match (errors, warnings) {
        (0, 0) => Ok(()),
        (0, n) if args.deny_lints => Err(Failure::new(format!("{n} warnings are denied"))),
        (0, _) => Ok(()),
        (n, _) => Err(Failure::new(format!("the policy has {n} error{}", if n == 1 { "" } else { "s" }))),
    }
}

/// Everything that is found in one policy.
pub(super) fn one(config: &Config, path: Option<&Path>, routes: bool) -> Result<Vec<Diagnostic>, Failure> {
    let (name, source) = match path {
        Some(path) => (path.display().to_string(), read(path)?),
        None => ("edge.toml (compiled in)".to_owned(), Policy::DEFAULT.to_owned()),
    };
    let domains: Vec<String> = config.domains.iter().map(|d| d.lower()).collect();
    let mut builtins = Builtins::new(&domains).map_err(Failure::new)?;
    if routes {
        builtins = builtins.with_routes(config.routes.iter().map(|r| r.name.clone()).collect::<Vec<_>>());
    }
    let here = domains.first().map_or("example.test", String::as_str);
    match lint(&name, &source, &PolicyFiles::beside(path), &builtins, here) {
        Ok(linted) => Ok(linted.findings),
        Err(errors) if errors.is_empty() => Err(told("", "the policy has errors")),
        Err(errors) => Ok(errors),
    }
}

fn json(findings: &[Diagnostic], errors: usize, warnings: usize) -> serde_json::Value {
    let all = findings.iter().map(|d| {
        serde_json::json!({
            "severity": d.severity.word(), "code": d.code, "file": d.file, "line": d.line, "column": d.column,
            "word": d.word, "message": d.message, "expected": d.expected, "suggestion": d.suggestion, "help": d.help,
        })
    });
    serde_json::json!({ "errors": errors, "warnings": warnings, "findings": all.collect::<Vec<_>>() })
}
