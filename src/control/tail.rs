//! `gatepost tail`: follows decisions as they are made.
//!
//! How it fails: one line when there is no server or it ends; decisions that came too fast are told in a line of their own.

use crate::base::time::WallTime;
use crate::control::api;
use crate::control::cli::{Failure, print};
use crate::control::status::server;
use crate::control::table::visible;
use crate::control::{cli::DataArgs, status};
use crate::gateway::admin::{Decided, DecisionFilter, Request, Response};
use clap::Args;
use std::io::{IsTerminal, Write};

/// What to follow, and how.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Only where the rule's name, the reason or the reply has this in it, such as greylist
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only decisions of this rule; * stands for anything
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// Only about this recipient, such as bob@example.org or *@example.org
    #[arg(long, value_name = "ADDRESS")]
    rcpt: Option<String>,
    /// Only about mail from this sender
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// Only about this client: an address or a network
    #[arg(long, value_name = "ADDRESS")]
    client: Option<String>,
    /// accept, reject, defer, drop, discard; refused = all that refuse; all [default: refused]
    #[arg(long, value_name = "WORD")]
    verdict: Option<String>,
    /// Only at this stage, such as rcpt
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// Only of this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Begin with so many earlier ones
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: u32,
    /// Show the earlier ones and end
    #[arg(long)]
    no_follow: bool,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// Words of verdicts.
const VERDICTS: [&str; 7] = ["all", "refused", "accept", "reject", "defer", "drop", "discard"];

impl TailArgs {
    fn filter(&self) -> Result<DecisionFilter, Failure> {
        let verdict = self.verdict.as_deref().unwrap_or("refused");
        if !VERDICTS.contains(&verdict) {
            return Err(Failure::usage(format!("--verdict {verdict}: expected one of {}", VERDICTS.join(", "))));
        }
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Ok(DecisionFilter {
            reason: text(&self.reason),
            rule: text(&self.rule),
            rcpt: text(&self.rcpt),
            sender: text(&self.from),
            client: text(&self.client),
            verdict: if verdict == "all" { String::new() } else { verdict.to_owned() },
            stage: text(&self.stage),
            session: text(&self.session),
            q: String::new(),
        })
    }
}

/// Runs the command.
pub fn run(args: &TailArgs) -> Result<(), Failure> {
    let filter = args.filter()?;
    let mut client = server(&args.data)?;
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let line = |decided: &Decided| -> String {
        if args.json { serde_json::to_string(decided).unwrap_or_default() + "\n" } else { shown(decided, colours) }
    };
    if args.no_follow {
        return match status::ask(&mut client, &Request::Decisions { filter, limit: args.lines })? {
            Response::Decisions { entries, .. } => print(&entries.iter().rev().map(line).collect::<String>()),
            other => Err(status::unexpected(&other)),
        };
    }
    let mut query = api::filter_pairs(&filter);
    query.push(("history", args.lines.to_string()));
    let path = format!("/api/v1/live{}", api::pairs(&query));
    let followed = client.follow(&path, |name, data| match name {
        "decision" => match serde_json::from_str::<Decided>(data) {
            // Whoever stopped reading has seen enough.
            Ok(decided) => write_line(&line(&decided)),
            Err(_) => true,
        },
        "missed" => {
            eprintln!("gatepost: {data} decisions came too fast to be shown");
            true
        }
        _ => true,
    });
    followed.map_err(|error| Failure::new(error.to_string()))?;
    Ok(())
}

/// False when nobody reads any more.
fn write_line(line: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// A decision in a line.
fn shown(d: &Decided, colours: bool) -> String {
    let colour = match d.verdict.as_str() {
        "accept" | "discard" => "32",
        "defer" => "33",
        _ => "31",
    };
    let verdict = if colours { format!("\u{1b}[{colour}m{}\u{1b}[0m", d.verdict) } else { d.verdict.clone() };
    let mut rest = String::new();
    let mut add = |text: String| {
        rest.push(' ');
        rest.push_str(&visible(&text));
    };
    add(format!("by {}", d.rule));
    add(format!("at {}", d.stage));
    add(format!("client={}", d.client));
    for (name, value) in [("helo", &d.helo), ("user", &d.user)] {
        if !value.is_empty() {
            add(format!("{name}={value}"));
        }
    }
    if !d.sender.is_empty() || !d.recipient.is_empty() {
        add(format!("from=<{}>", d.sender));
    }
    if !d.recipient.is_empty() {
        add(format!("to=<{}>", d.recipient));
    }
    if !d.reason.is_empty() {
        add(format!("reason={:?}", d.reason));
    }
    if !d.reply.is_empty() {
        add(format!("reply={:?}", d.reply));
    }
    format!("{} {} {verdict}{rest}\n", WallTime::from_millis(d.at_ms).rfc3339(), d.session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_a_line_that_cannot_steer_the_terminal() {
        let d = Decided {
            at_ms: 1_795_435_200_000,
            session: "0ABC".into(),
            verdict: "reject".into(),
            rule: "no".into(),
            stage: "rcpt".into(),
            client: "192.0.2.1".into(),
            helo: "x\u{1b}[2J".into(),
            recipient: "bob@example.test".into(),
            ..Decided::default()
        };
        let line = shown(&d, false);
        assert!(
            line.ends_with(
                "0ABC reject by no at rcpt client=192.0.2.1 helo=x\\u{1b}[2J from=<> to=<bob@example.test>\n"
            ),
            "{line}"
        );
        assert!(shown(&d, true).contains("\u{1b}[31mreject\u{1b}[0m"));
    }
}
