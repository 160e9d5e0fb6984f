//! `gatepost policy explain`: what the policy answers and why, for a session that is described by flags or one that was
//! recorded.
//!
//! How it fails: flags that make no session are usage errors; a session that is not in the journal is an error that says
//! how many were looked through.

use super::{parse_source, read, told};
use crate::base::time::WallTime;
use crate::control::cli::{Failure, ServeArgs, print};
use crate::control::journal::SourceArgs;
use crate::control::policy::picture;
use crate::control::replay::play;
use crate::gateway::policy_file;
use crate::policy::replay::{Replay, Seen, Visitor};
use crate::policy::{StageTrace, Trace};
use clap::Args;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// A session to explain.
#[derive(Debug, Default, Args)]
pub struct ExplainArgs {
    /// Explain this recorded session instead: everything recorded before is played first, so that limits stand as they did
    #[arg(long, value_name = "ID", conflicts_with_all = ["client", "helo", "from", "to", "user", "facts", "header", "headers"])]
    pub session: Option<String>,
    /// Journal of the recorded session: a file or a directory; may be repeated [default: that of the configuration]
    #[arg(long, value_name = "PATH", requires = "session")]
    pub journal: Vec<PathBuf>,
    /// Address of the client
    #[arg(long, value_name = "ADDRESS")]
    pub client: Option<IpAddr>,
    /// Listener it came to
    #[arg(long, value_name = "NAME", default_value = "mx")]
    pub listener: String,
    /// The connection is encrypted
    #[arg(long)]
    pub tls: bool,
    /// Its HELO name
    #[arg(long, value_name = "NAME")]
    pub helo: Option<String>,
    /// It has logged in as this user
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Sender; "" is the null sender
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// Recipient; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub to: Vec<String>,
    /// Whether the recipient exists, when that is known
    #[arg(long, value_name = "BOOL")]
    pub exists: Option<bool>,
    /// A fact of the connection, or one that would be looked up, such as spf=fail or load.memory=97; may be repeated
    #[arg(long = "fact", value_name = "NAME=VALUE")]
    pub facts: Vec<String>,
    /// Size of the message, octets
    #[arg(long, value_name = "N")]
    pub size: Option<u32>,
    /// Header field of the message; may be repeated
    #[arg(long, value_name = "NAME: TEXT")]
    pub header: Vec<String>,
    /// File with the header section of the message
    #[arg(long, value_name = "FILE")]
    pub headers: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Only rules that matched or of which a part did
    #[arg(long)]
    pub brief: bool,
    /// Configuration file [default: ./gatepost.toml when it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Policy file [default: that of the configuration]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Local domain; may be repeated [default: those of the configuration]
    #[arg(long, value_name = "NAME")]
    pub domain: Vec<String>,
}

/// Explains.
pub fn run(args: &ExplainArgs) -> Result<(), Failure> {
    if let Some(session) = &args.session {
        return recorded(args, session);
    }
    let source = case(args)?;
    let serve = ServeArgs::for_policy(args.config.clone(), args.policy.clone(), args.domain.clone());
    let policy = policy_file::load(&serve.load()?.config).map_err(|e| told(&e, "the policy has errors"))?;
    let cases = parse_source("the arguments", &source).map_err(|findings| {
        let said = |d: &crate::policy::Diagnostic| match (&d.suggestion, d.expected.is_empty()) {
            (Some(near), _) => format!("{}; did you mean `{near}`?", d.message),
            (None, false) => format!("{}; expected {}", d.message, d.expected),
            (None, true) => d.message.clone(),
        };
        Failure::usage(findings.iter().map(said).collect::<Vec<_>>().join("; "))
    })?;
    let report = cases.run(&Arc::new(policy));
    let Some(result) = report.results.first() else { return Err(Failure::new("nothing was asked")) };
    if args.json {
        let text = serde_json::to_string(&result.trace).map_err(|e| Failure::new(e.to_string()))?;
        return print(&format!("{text}\n"));
    }
    print(&picture::trace(&result.trace, args.brief, picture::colours()))
}

/// The session as a golden case; what is expected of it does not matter here.
pub fn case(args: &ExplainArgs) -> Result<String, Failure> {
    let mut case = toml::Table::new();
    let mut set = |key: &str, value: toml::Value| drop(case.insert(key.to_owned(), value));
    set("name", "explain".into());
    set("client", args.client.unwrap_or([203, 0, 113, 9].into()).to_string().into());
    set("listener", args.listener.clone().into());
    set("tls", args.tls.into());
    set("helo", args.helo.clone().unwrap_or_else(|| "mail.example.net".into()).into());
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
    let mut headers = args.headers.as_ref().map_or(Ok(String::new()), |path| read(path))?;
    for field in &args.header {
        if !field.split_once(':').is_some_and(|(name, _)| !name.is_empty() && !name.contains(char::is_whitespace)) {
            return Err(Failure::usage(format!("--header {field:?}: expected \"Name: text\"")));
        }
        // Before what the file has: the first field of a name is what rules read.
        headers.insert_str(0, &format!("{field}\n"));
    }
    if !headers.is_empty() {
        set("headers", headers.into());
    }
    let mut facts = toml::Table::new();
    for fact in &args.facts {
        let Some((name, value)) = fact.split_once('=').filter(|(name, _)| !name.trim().is_empty()) else {
            return Err(Failure::usage(format!("--fact {fact:?}: expected NAME=VALUE, such as load.memory=97")));
        };
        facts.insert(name.trim().to_owned(), value.trim().into());
    }
    if !facts.is_empty() {
        set("facts", facts.into());
    }
    set("expect", toml::Table::from_iter([("verdict".to_owned(), "accept".into())]).into());
    let file = toml::Table::from_iter([("case".to_owned(), toml::Value::Array(vec![case.into()]))]);
    Ok(file.to_string())
}

/// What is kept of a recorded session.
#[derive(Default)]
struct Kept {
    text: String,
    decisions: Vec<serde_json::Value>,
    brief: bool,
    colours: bool,
    changed: u64,
}

impl Visitor for Kept {
    fn decision(&mut self, _: &Seen<'_>) {}
    fn explained(&mut self, seen: &Seen<'_>, stages: &[StageTrace]) {
        let said = |said: Option<&crate::policy::journal::Said<'_>>| match said {
            None => "not reached any more".to_owned(),
            Some(s) if s.reply.is_empty() => format!("{} by {}", s.verdict, s.rule),
            Some(s) => format!("{} {} by {}", s.verdict, s.reply, s.rule),
        };
        let differs = seen.new != Some(seen.old);
        self.changed += u64::from(differs);
        let about = match seen.stage {
            "mail" => format!(" <{}>", seen.sender),
            "rcpt" | "probe" => format!(" <{}>", seen.rcpt),
            "helo" => format!(" {}", seen.helo),
            _ => String::new(),
        };
        let then = if differs { format!("   recorded: {}", said(Some(seen.old))) } else { "   as recorded".into() };
        let at = WallTime::from_millis(seen.at_ms);
        // Writing to a string cannot fail.
        let head = format!("{at} {}{about}: {}{then}", seen.stage, said(seen.new));
        let _ = writeln!(self.text, "{}", picture::heading(&head, self.colours));
        if let Some((rule, fact)) = seen.doubt {
            let _ = writeln!(self.text, "  undecided: {rule} hangs on {fact}, which the journal does not tell");
        }
        let trace = Trace { stages: stages.to_vec() };
        self.text += &picture::rules(&trace, self.brief, self.colours);
        let json = |s: &crate::policy::journal::Said<'_>| serde_json::json!({ "verdict": s.verdict, "rule": s.rule, "reply": s.reply, "reason": s.reason });
        self.decisions.push(serde_json::json!({
            "at": at.rfc3339(), "event": seen.stage, "sender": seen.sender, "recipient": seen.rcpt,
            "recorded": json(seen.old), "now": seen.new.map(json), "trace": trace,
        }));
    }
}

fn recorded(args: &ExplainArgs, session: &str) -> Result<(), Failure> {
    let source = SourceArgs { journal: args.journal.clone(), config: args.config.clone() };
    let journals = source.open()?;
    let serve = ServeArgs::for_policy(args.config.clone(), args.policy.clone(), args.domain.clone());
    let config = serve.load()?.config;
    let policy = Arc::new(policy_file::load(&config).map_err(|e| told(&e, "the policy has errors"))?);
    let mut kept = Kept { brief: args.brief, colours: picture::colours(), ..Kept::default() };
    let replay = Replay::new(policy.clone(), config.settings.limits.keys_max).with_explained(session);
    let counts = play(&journals, replay, &mut kept, "looking")?;
    if kept.decisions.is_empty() {
        let expected = "expected an id as logs and `gatepost journal show` have it";
        return Err(Failure::new(format!("session {session} is not among {} sessions; {expected}", counts.sessions)));
    }
    if args.json {
        let found = serde_json::json!({
            "session": session, "policy": policy.name(), "version": policy.version(), "decisions": kept.decisions,
        });
        return print(&format!("{found}\n"));
    }
    let changed = match kept.changed {
        0 => "every decision is as it was recorded".to_owned(),
        n => format!("{n} decisions are not what was recorded; another policy decided then, or facts are missing"),
    };
    print(&format!(
        "session {session}, policy {} (version {})\n{}{changed}\n",
        policy.name(),
        policy.version(),
        kept.text
    ))
}
