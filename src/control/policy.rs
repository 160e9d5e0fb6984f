//! `gatepost policy …`: lints, golden cases, explanations, replays and tuning, on the engine that serves.
//!
//! How it fails: findings of a file with their places; a case that went wrong with its trace; exit code 1.

mod explain;
mod golden;
mod lints;
mod picture;

use crate::control::cli::{Failure, print};
use crate::control::replay::{self, ReplayArgs};
use crate::control::shadow::{self, ShadowArgs};
use crate::control::status::{self, ShowArgs};
use crate::control::tune::{self, TuneArgs};
use crate::gateway::policy_file::PolicyFiles;
use crate::policy::{Builtins, CaseFile, Diagnostic, Policy, reference, schema};
use clap::Subcommand;
use explain::ExplainArgs;
use golden::TestArgs;
use lints::CheckArgs;
use std::path::Path;

/// What to do with a policy.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "flattened arguments are documented where they are declared")]
pub enum PolicyCommand {
    /// Say what is wrong in policy files, and what is probably not meant: rules that never apply, open relays, …
    Check(Box<CheckArgs>),
    /// Run golden cases: files that say what the policy must answer to whom
    Test(Box<TestArgs>),
    /// Say what the policy would answer to somebody, or answered in a recorded session, and why: every rule tried and what
    /// its parts evaluated to
    Explain(Box<ExplainArgs>),
    /// Show how often each rule of the running server's policy has decided
    Hits(ShowArgs),
    /// Judge recorded traffic again, and say what would change
    Replay(Box<ReplayArgs>),
    /// Propose limits from recorded traffic
    Tune(Box<TuneArgs>),
    /// Have a second policy decide beside the one that serves, and see where they differ
    Shadow(Box<ShadowArgs>),
    /// Print the reference of facts, functions and outcomes, in Markdown
    Reference,
    /// Print the JSON Schema of policy files
    Schema,
}

/// Runs a policy command.
pub fn run(command: PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Check(args) => lints::run(&args),
        PolicyCommand::Test(args) => golden::run(&args),
        PolicyCommand::Explain(args) => explain::run(&args),
        PolicyCommand::Hits(args) => status::hits(&args),
        PolicyCommand::Replay(args) => replay::run(&args),
        PolicyCommand::Tune(args) => tune::run(&args),
        PolicyCommand::Shadow(args) => shadow::run(&args),
        PolicyCommand::Reference => print(&reference()),
        PolicyCommand::Schema => print(&schema()),
    }
}

/// One line is the failure itself; findings with their places are shown first and summed up in `summary`.
pub fn told(error: &str, summary: &str) -> Failure {
    let error = error.trim_end();
    if !error.contains('\n') {
        return Failure::new(error);
    }
    eprintln!("{error}");
    Failure::new(summary)
}

/// Reads a text file.
pub fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| Failure::new(format!("cannot read {}: {e}", path.display())))
}

/// A server that reads the file meanwhile sees the old one or the new one.
pub fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let fail = |e: std::io::Error| Failure::new(format!("cannot write {}: {e}", path.display()));
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let permissions = std::fs::metadata(path).map_err(fail)?.permissions();
    std::fs::write(&beside, text).map_err(fail)?;
    std::fs::set_permissions(&beside, permissions).map_err(fail)?;
    std::fs::rename(&beside, path).map_err(fail)
}

fn parse_source(name: &str, source: &str) -> Result<CaseFile, Vec<Diagnostic>> {
    CaseFile::parse(name, source)
}

fn parse_cases(path: &Path) -> Result<CaseFile, Failure> {
    parse_source(&path.display().to_string(), &read(path)?).map_err(|findings| {
        findings.iter().for_each(|finding| eprintln!("{finding}"));
        Failure::new(format!("{} cannot be used", path.display()))
    })
}

/// Compiles a policy with the local domains of the cases; none is the one compiled in.
fn compile(path: Option<&Path>, domains: &[String]) -> Result<Policy, Failure> {
    let builtins = Builtins::new(domains).map_err(Failure::new)?;
    let (name, source) = match path {
        Some(path) => (path.display().to_string(), read(path)?),
        None => ("edge.toml (compiled in)".to_owned(), Policy::DEFAULT.to_owned()),
    };
    Policy::compile(&name, &source, &PolicyFiles::beside(path), &builtins).map_err(|findings| {
        findings.iter().for_each(|finding| eprintln!("{finding}"));
        Failure::new(format!("the policy {name} has errors"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::Arc;

    fn args() -> ExplainArgs {
        ExplainArgs {
            listener: "mx".into(),
            helo: Some("x".into()),
            from: Some("a\"\\\u{1}b@example.net".into()),
            to: vec!["b@elsewhere.example".into()],
            exists: Some(true),
            size: Some(1000),
            ..ExplainArgs::default()
        }
    }

    #[test]
    fn arguments_become_a_session() {
        let case = |args: &ExplainArgs| explain::case(args).map_err(|e| e.to_string());
        // A sender that is no address is refused with its name, whatever is in it.
        let findings = CaseFile::parse("x", &case(&args()).unwrap()).unwrap_err();
        assert_eq!(findings.len(), 1, "{findings:?}");
        let plain = ExplainArgs { from: Some("a@example.net".into()), ..args() };
        let ask = |args: &ExplainArgs| {
            let cases = CaseFile::parse("x", &case(args).unwrap()).map_err(|f| format!("{f:?}")).unwrap();
            let policy = Arc::new(compile(None, &["example.test".into()]).map_err(|e| e.to_string()).unwrap());
            let report = cases.run(&policy);
            let last = report.results[0].trace.stages.last().unwrap().clone();
            (last.stage, last.decided_by, last.verdict)
        };
        let (stage, rule, verdict) = ask(&plain);
        assert_eq!((stage, rule.as_str()), ("rcpt", "relay-denied"));
        assert!(verdict.contains("550 5.7.1"), "{verdict}");
        let busy = ExplainArgs { facts: vec!["load.memory = 97".into()], ..plain };
        assert_eq!(ask(&busy).1, "busy");
        let bad = ExplainArgs { facts: vec!["load.memory".into()], ..args() };
        assert!(case(&bad).unwrap_err().contains("NAME=VALUE"));
        let bad = ExplainArgs { header: vec!["Subject".into()], ..args() };
        assert!(case(&bad).unwrap_err().contains("Name: text"));
    }

    #[test]
    fn shipped_cases_pass_from_where_they_stand() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("policy");
        let files: Vec<PathBuf> = ["edge", "strict"].iter().map(|n| dir.join(format!("{n}.cases.toml"))).collect();
        let outcome = golden::test(&files, None, false).map_err(|e| e.to_string()).unwrap();
        assert_eq!(outcome.failed, 0, "{}", outcome.text);
        let other = golden::test(&files[..1], Some(&dir.join("submission-only.toml")), false);
        let other = other.map_err(|e| e.to_string()).unwrap();
        assert!(other.failed > 5 && other.text.contains("FAILED a stranger may not relay"), "{}", other.text);
        let none = golden::test(&[dir.join("nowhere.toml")], None, false).err().unwrap().to_string();
        assert!(none.starts_with("cannot read"), "{none}");
    }
}
