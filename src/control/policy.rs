//! `gatepost policy …`: golden cases, explanations, replays and tuning, on the engine that serves.
//!
//! How it fails: findings of a file with their places; a case that went wrong with its trace; exit code 1.

use crate::control::cli::{Failure, ServeArgs, print};
use crate::control::replay::{self, ReplayArgs};
use crate::control::tune::{self, TuneArgs};
use crate::gateway::policy_file::{self, PolicyFiles};
use crate::policy::{Builtins, CaseFile, Policy, reference, schema};
use clap::{Args, Subcommand};
use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to do with a policy.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "flattened arguments are documented where they are declared")]
pub enum PolicyCommand {
    /// Run golden cases: files that say what the policy must answer to whom
    Test {
        /// Case files, such as policy/edge.cases.toml; each names its policy
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Run the cases against this policy instead
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
    /// Say what the policy would answer to somebody, and why: every rule tried and what its parts evaluated to
    Explain(Box<ExplainArgs>),
    /// Judge recorded traffic again, and say what would change
    Replay(Box<ReplayArgs>),
    /// Propose limits from recorded traffic
    Tune(Box<TuneArgs>),
    /// Print the reference of facts, functions and outcomes, in Markdown
    Reference,
    /// Print the JSON Schema of policy files
    Schema,
}

/// A session to explain.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Address of the client
    #[arg(long, value_name = "ADDRESS", default_value = "203.0.113.9")]
    client: IpAddr,
    /// Listener it came to
    #[arg(long, value_name = "NAME", default_value = "mx")]
    listener: String,
    /// The connection is encrypted
    #[arg(long)]
    tls: bool,
    /// Its HELO name
    #[arg(long, value_name = "NAME", default_value = "mail.example.net")]
    helo: String,
    /// It has logged in as this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Sender; "" is the null sender
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// Recipient; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    to: Vec<String>,
    /// Whether the recipient exists, when that is known
    #[arg(long, value_name = "BOOL")]
    exists: Option<bool>,
    /// Size of the message, octets
    #[arg(long, value_name = "N")]
    size: Option<u32>,
    /// File with the header section of the message
    #[arg(long, value_name = "FILE")]
    headers: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Configuration file [default: ./gatepost.toml when it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Policy file [default: that of the configuration]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Local domain; may be repeated [default: those of the configuration]
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,
}

/// Runs a policy command.
pub fn run(command: PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Test { files, policy } => {
            let (text, failed) = test(&files, policy.as_deref())?;
            print(&text)?;
            match failed {
                0 => Ok(()),
                1 => Err(Failure::new("1 case failed")),
                n => Err(Failure::new(format!("{n} cases failed"))),
            }
        }
        PolicyCommand::Explain(args) => explain(*args),
        PolicyCommand::Replay(args) => replay::run(&args),
        PolicyCommand::Tune(args) => tune::run(&args),
        PolicyCommand::Reference => print(&reference()),
        PolicyCommand::Schema => print(&schema()),
    }
}

/// Runs case files: the reports as text, and how many cases failed.
fn test(files: &[PathBuf], policy: Option<&Path>) -> Result<(String, usize), Failure> {
    let mut text = String::new();
    let mut failed = 0;
    for path in files {
        let cases = parse_cases(path)?;
        // A case file names its policy from where it stands itself.
        let beside = |name: &String| path.parent().unwrap_or(Path::new("")).join(name);
        let named = cases.policy.as_ref().map(beside);
        let compiled = compile(policy.or(named.as_deref()), &cases.local_domains)?;
        let report = cases.run(&Arc::new(compiled));
        failed += report.results.iter().filter(|r| !r.failures.is_empty()).count();
        // Writing to a string cannot fail.
        let _ = write!(text, "{}: {report}", path.display());
    }
    Ok((text, failed))
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

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| Failure::new(format!("cannot read {}: {e}", path.display())))
}

fn parse_cases(path: &Path) -> Result<CaseFile, Failure> {
    CaseFile::parse(&path.display().to_string(), &read(path)?).map_err(|findings| {
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

fn explain(args: ExplainArgs) -> Result<(), Failure> {
    let source = case(&args)?;
    let (json, serve) = (args.json, ServeArgs::for_policy(args.config, args.policy, args.domain));
    let policy = policy_file::load(&serve.load()?.config).map_err(|e| told(&e, "the policy has errors"))?;
    let cases = CaseFile::parse("the arguments", &source).map_err(|findings| {
        let said: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
        Failure::usage(said.join("; "))
    })?;
    let report = cases.run(&Arc::new(policy));
    let Some(result) = report.results.first() else { return Err(Failure::new("nothing was asked")) };
    if json {
        let text = serde_json::to_string(&result.trace).map_err(|e| Failure::new(e.to_string()))?;
        return print(&format!("{text}\n"));
    }
    let mut text = result.trace.to_string();
    if let Some(last) = result.trace.stages.last() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} at {}, by {}", last.verdict, last.stage, last.decided_by);
    }
    print(&text)
}

/// The session as a golden case; what is expected of it does not matter here.
fn case(args: &ExplainArgs) -> Result<String, Failure> {
    let mut case = toml::Table::new();
    let mut set = |key: &str, value: toml::Value| drop(case.insert(key.to_owned(), value));
    set("name", "explain".into());
    set("client", args.client.to_string().into());
    set("listener", args.listener.clone().into());
    set("tls", args.tls.into());
    set("helo", args.helo.clone().into());
    let texts = [("user", &args.user), ("from", &args.from)];
    for (key, value) in texts.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))) {
        set(key, value.into());
    }
    if !args.to.is_empty() {
        set("to", args.to.clone().into());
    }
    if let Some(exists) = args.exists {
        set("exists", exists.into());
    }
    if let Some(size) = args.size {
        set("size", i64::from(size).into());
    }
    if let Some(path) = &args.headers {
        set("headers", read(path)?.into());
    }
    set("expect", toml::Table::from_iter([("verdict".to_owned(), "accept".into())]).into());
    let file = toml::Table::from_iter([("case".to_owned(), toml::Value::Array(vec![case.into()]))]);
    Ok(file.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> ExplainArgs {
        ExplainArgs {
            client: IpAddr::from([203, 0, 113, 9]),
            listener: "mx".into(),
            tls: false,
            helo: "x".into(),
            user: None,
            from: Some("a\"\\\u{1}b@example.net".into()),
            to: vec!["b@elsewhere.example".into()],
            exists: Some(true),
            size: Some(1000),
            headers: None,
            json: false,
            config: None,
            policy: None,
            domain: Vec::new(),
        }
    }

    #[test]
    fn arguments_become_a_session() {
        // A sender that is no address is refused with its name, whatever is in it.
        let findings = CaseFile::parse("x", &case(&args()).unwrap()).unwrap_err();
        assert_eq!(findings.len(), 1, "{findings:?}");
        let plain = ExplainArgs { from: Some("a@example.net".into()), ..args() };
        let cases = CaseFile::parse("x", &case(&plain).unwrap()).map_err(|f| format!("{f:?}")).unwrap();
        let report = cases.run(&Arc::new(compile(None, &["example.test".into()]).unwrap()));
        let last = report.results[0].trace.stages.last().unwrap();
        assert_eq!((last.stage, last.decided_by.as_str()), ("rcpt", "relay-denied"));
        assert!(last.verdict.contains("550 5.7.1"), "{}", last.verdict);
    }

    #[test]
    fn shipped_cases_pass_from_where_they_stand() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("policy");
        let files: Vec<PathBuf> = ["edge", "strict"].iter().map(|n| dir.join(format!("{n}.cases.toml"))).collect();
        let (text, failed) = test(&files, None).unwrap();
        assert_eq!(failed, 0, "{text}");
        let (text, failed) = test(&files[..1], Some(&dir.join("submission-only.toml"))).unwrap();
        assert!(failed > 5 && text.contains("FAILED a stranger may not relay"), "{text}");
        assert!(test(&[dir.join("nowhere.toml")], None).unwrap_err().to_string().starts_with("cannot read"));
    }
}
