//! `gatepost status`, `reload`, `drain` and `policy hits`: a running server in a few lines, and the orders that concern all
//! of it.
//!
//! How it fails: one line; without a server that runs there is nobody to ask.

use crate::base::knob::show_duration;
use crate::control::admin::AdminClient;
use crate::control::cli::{DataArgs, Failure, print};
use crate::control::table::{table, visible};
use crate::gateway::admin::{PolicyView, QueueSurvey, Request, Response, Status};
use clap::Args;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// How often `drain` looks whether the server has ended.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How to show something.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// Which server to order something.
#[derive(Debug, Args)]
pub struct OrderArgs {
    #[command(flatten)]
    data: DataArgs,
}

/// How to let a server end.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Do not wait until it has ended
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// The running server of a data directory.
pub fn server(data: &DataArgs) -> Result<AdminClient, Failure> {
    let directory = data.load()?.config.settings.server.data;
    match AdminClient::connect(&directory) {
        Ok(Some(client)) => Ok(client),
        Ok(None) => Err(Failure::new(format!("no server runs on {}", directory.display()))),
        Err(error) => Err(Failure::new(error.to_string())),
    }
}

/// The answer, or the failure it is.
pub fn ask(client: &mut AdminClient, request: &Request) -> Result<Response, Failure> {
    match client.call(request) {
        Ok(Response::Failed { message, .. }) => Err(Failure::new(message)),
        Ok(response) => Ok(response),
        Err(error) => Err(Failure::new(error.to_string())),
    }
}

/// The server gave an answer to another question.
pub fn unexpected(response: &Response) -> Failure {
    Failure::new(format!("the server answered something else: {response:?}"))
}

/// `gatepost status`
pub fn status(args: &ShowArgs) -> Result<(), Failure> {
    let mut client = server(&args.data)?;
    let Response::Status(status) = ask(&mut client, &Request::Status {})? else {
        return Err(Failure::new("the server did not tell its status"));
    };
    if args.json {
        return print(&(serde_json::to_string(&status).map_err(|e| Failure::new(e.to_string()))? + "\n"));
    }
    let Response::QueueSurvey(queue) = ask(&mut client, &Request::QueueSurvey {})? else {
        return Err(Failure::new("the server did not tell about its queue"));
    };
    let overview = client.read("/api/v1/overview").map_err(|e| Failure::new(e.to_string()))?;
    print(&text(&status, &queue, &overview))
}

fn text(status: &Status, queue: &QueueSurvey, overview: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<12} {}", visible(&value));
    };
    let uptime = show_duration(Duration::from_secs(status.uptime_ms / 1000));
    let draining = if status.draining { ", draining" } else { "" };
    line("gatepost", format!("{}, process {}, up {uptime}{draining}", status.version, status.pid));
    line("cores", format!("{} with {}", status.cores, status.driver));
    line("memory", format!("{} MiB", status.memory_octets >> 20));
    line("policy", format!("{} ({:.12})", status.policy, status.policy_version));
    line("connections", status.connections.to_string());
    line("messages", format!("{} accepted, {} delivered into mailboxes", status.accepted, status.delivered));
    line("refusals", total(overview, &["reject", "defer", "drop"]).to_string());
    line("queue", format!("{} messages, {} held, {} octets", queue.messages, queue.held, queue.octets));
    for destination in queue.destinations.iter().take(5) {
        line("", format!("{} for {}", destination.messages, destination.name));
    }
    for backend in overview["backends"].as_array().into_iter().flatten().filter(|b| !b["up"].is_null()) {
        let state = if backend["up"] == true { "up" } else { "set aside" };
        let of = |key: &str| backend[key].as_f64().unwrap_or_default();
        let name = format!(
            "{} {}",
            backend["pool"].as_str().unwrap_or_default(),
            backend["backend"].as_str().unwrap_or_default()
        );
        line("backend", format!("{name}: {state}, {} answers, {} failures", of("answers"), of("failures")));
    }
    line("listeners", status.listeners.join(" "));
    text
}

fn total(overview: &Value, words: &[&str]) -> u64 {
    let all = overview["verdicts"].as_array();
    let fits = |v: &&Value| v["verdict"].as_str().is_some_and(|word| words.contains(&word));
    all.into_iter().flatten().filter(fits).filter_map(|v| v["count"].as_u64()).sum()
}

/// `gatepost reload`
pub fn reload(args: &OrderArgs) -> Result<(), Failure> {
    match server(&args.data)?.call(&Request::Reload {}) {
        Ok(Response::Reloaded { version, changes, warnings }) => {
            for line in warnings.iter().flat_map(|warning| warning.lines()) {
                eprintln!("{}", visible(line));
            }
            let changes: String = changes.iter().map(|change| visible(change) + "\n").collect();
            let changes = if changes.is_empty() { "nothing is different\n".to_owned() } else { changes };
            print(&format!("{changes}reloaded; policy {version:.12} is in force for new sessions\n"))
        }
        Ok(Response::Failed { code, message }) if code == "invalid" => {
            eprintln!("{}", message.trim_end());
            Err(Failure::new("nothing was changed: what was read has errors"))
        }
        Ok(Response::Failed { message, .. }) => Err(Failure::new(message)),
        Ok(other) => Err(unexpected(&other)),
        Err(error) => Err(Failure::new(error.to_string())),
    }
}

/// `gatepost drain`
pub fn drain(args: &DrainArgs) -> Result<(), Failure> {
    let config = args.data.load()?.config;
    let grace = config.settings.server.shutdown_grace;
    let mut client = server(&args.data)?;
    let Response::Status(status) = ask(&mut client, &Request::Status {})? else {
        return Err(Failure::new("the server did not tell its status"));
    };
    ask(&mut client, &Request::Drain {})?;
    print(&format!(
        "process {} accepts nobody any more; {} connections may go on for up to {}\n",
        status.pid,
        status.connections,
        show_duration(grace)
    ))?;
    if args.no_wait {
        return Ok(());
    }
    // What is synced at the end takes its time as well.
    let until = Instant::now() + grace + Duration::from_secs(30);
    let data = &config.settings.server.data;
    while AdminClient::connect(data).is_ok_and(|client| client.is_some()) {
        if Instant::now() > until {
            return Err(Failure::new(format!("process {} still runs; its log says what it waits for", status.pid)));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    print("it has ended\n")
}

/// `gatepost policy hits`
pub fn hits(args: &ShowArgs) -> Result<(), Failure> {
    let policy = match ask(&mut server(&args.data)?, &Request::Policy {})? {
        Response::Policy(policy) => policy,
        other => return Err(unexpected(&other)),
    };
    if args.json {
        return print(&(serde_json::to_string(&policy).map_err(|e| Failure::new(e.to_string()))? + "\n"));
    }
    print(&hits_text(&policy))
}

fn hits_text(policy: &PolicyView) -> String {
    let shown = |hits: &BTreeMap<String, u64>| {
        hits.iter().map(|(word, n)| format!("{n} {word}")).collect::<Vec<_>>().join(", ")
    };
    let mut rows: Vec<Vec<String>> = policy
        .rules
        .iter()
        .map(|rule| {
            let all: u64 = rule.hits.values().sum();
            vec![all.to_string(), rule.stage.clone(), rule.name.clone(), shown(&rule.hits), rule.then.join("; ")]
        })
        .collect();
    for (what, n) in &policy.defaults {
        let (stage, verdict) = what.split_once(' ').unwrap_or((what, ""));
        rows.push(vec![n.to_string(), stage.to_owned(), "default".to_owned(), format!("{n} {verdict}"), String::new()]);
    }
    let mut text = table(&["HITS", "STAGE", "RULE", "VERDICTS", "THEN"], &rows);
    if !policy.limits.is_empty() {
        let rows: Vec<Vec<String>> =
            policy.limits.iter().map(|l| vec![l.hits.to_string(), l.name.clone(), l.bound.clone()]).collect();
        text.push('\n');
        text.push_str(&table(&["REFUSED", "LIMIT", "BOUND"], &rows));
    }
    let _ = writeln!(text, "\n{} ({:.12}); counted since the server started", visible(&policy.name), policy.version);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::admin::{LimitView, RuleView};
    use serde_json::json;

    #[test]
    fn hits_stand_beside_their_rules() {
        let rule = |name: &str, hits: &[(&str, u64)]| RuleView {
            name: name.into(),
            stage: "rcpt".into(),
            then: vec!["reject".into()],
            hits: hits.iter().map(|(w, n)| ((*w).to_owned(), *n)).collect(),
            ..RuleView::default()
        };
        let policy = PolicyView {
            name: "p.toml".into(),
            version: "0123456789abcdef".into(),
            rules: vec![rule("a", &[("reject", 3), ("defer", 1)]), rule("b", &[])],
            defaults: BTreeMap::from([("mail accept".to_owned(), 9)]),
            limits: vec![LimitView { name: "few".into(), bound: "1/hour per client".into(), hits: 2 }],
            ..PolicyView::default()
        };
        let text = hits_text(&policy);
        assert!(text.contains("4     rcpt   a        1 defer, 3 reject  reject\n"), "{text}");
        assert!(text.contains("0     rcpt   b") && text.contains("9     mail   default  9 accept"), "{text}");
        assert!(text.contains("2        few    1/hour per client") && text.contains("p.toml (0123456789ab)"), "{text}");
    }

    #[test]
    fn a_server_in_a_few_lines() {
        let overview = json!({
            "verdicts": [{"verdict": "reject", "count": 3}, {"verdict": "accept", "count": 5}],
            "backends": [{"pool": "main", "backend": "10.0.0.1:25", "up": false, "answers": 7.0, "failures": 2.0}],
        });
        let status = Status { version: "1".into(), driver: "epoll".into(), draining: true, ..Status::default() };
        let text = text(&status, &QueueSurvey::default(), &overview);
        assert!(text.contains("refusals     3\n") && text.contains("main 10.0.0.1:25: set aside, 7 answers"), "{text}");
        assert!(text.contains("draining"), "{text}");
    }
}
