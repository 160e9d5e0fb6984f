//! `gatepost session ID`: a session's whole story, from what the running server keeps of it.
//!
//! How it fails: one line when nothing is kept of it (any more).

use crate::base::knob::show_duration;
use crate::base::time::WallTime;
use crate::control::cli::{DataArgs, Failure, print};
use crate::control::status::{ask, server, unexpected};
use crate::control::table::{table, visible};
use crate::gateway::admin::{Request, Response, SessionStory, StoryEvent};
use clap::Args;
use serde_json::Value;
use std::fmt::Write;
use std::time::Duration;

/// Which session, and how.
#[derive(Debug, Args)]
pub struct SessionArgs {
    /// Its id, as log lines, `tail` and the dashboard show it; without one the newest sessions are listed
    id: Option<String>,
    /// With how each decision came about: every rule tried and what its parts evaluated to
    #[arg(long)]
    trace: bool,
    /// Sessions in the list at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    lines: u32,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// Runs the command.
pub fn run(args: &SessionArgs) -> Result<(), Failure> {
    let mut client = server(&args.data)?;
    let Some(id) = &args.id else { return list(args, &mut client) };
    match ask(&mut client, &Request::Session { id: id.clone(), trace: args.trace })? {
        Response::Session(story) if args.json => {
            print(&(serde_json::to_string(&story).map_err(|e| Failure::new(e.to_string()))? + "\n"))
        }
        Response::Session(story) => print(&text(&story)),
        other => Err(unexpected(&other)),
    }
}

fn list(args: &SessionArgs, client: &mut crate::control::admin::AdminClient) -> Result<(), Failure> {
    let entries = match ask(client, &Request::Sessions { limit: args.lines })? {
        Response::Sessions { entries } => entries,
        other => return Err(unexpected(&other)),
    };
    if args.json {
        let lines = entries.iter().map(|e| serde_json::to_string(e).unwrap_or_default() + "\n");
        return print(&lines.collect::<String>());
    }
    if entries.is_empty() {
        return print("no session has ended that is kept\n");
    }
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|e| {
            vec![
                e.id.clone(),
                WallTime::from_millis(e.at_ms).rfc3339(),
                show_duration(Duration::from_millis(e.lasted_ms)),
                e.listener.clone(),
                e.client.clone(),
                e.messages.to_string(),
                e.refusals.to_string(),
                e.helo.clone(),
            ]
        })
        .collect();
    print(&table(&["SESSION", "BEGAN", "LASTED", "LISTENER", "CLIENT", "MAIL", "REFUSED", "HELO"], &rows))
}

/// The story for people.
fn text(story: &SessionStory) -> String {
    let mut text = String::new();
    let state = match story.state.as_str() {
        "open" => "goes on",
        "ended" => "has ended",
        _ => "is not kept whole",
    };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "session {} {state}", story.id);
    let _ = writeln!(text, "client  {} port {} on {}", story.client, story.port, visible(&story.listener));
    let _ = writeln!(text, "began   {}", WallTime::from_millis(story.at_ms));
    if !story.tls.is_empty() {
        let _ = writeln!(text, "tls     {}", story.tls);
    }
    if !story.policy.is_empty() {
        let _ = writeln!(text, "policy  {:.12}", story.policy);
    }
    text.push('\n');
    for event in &story.events {
        write_event(&mut text, event);
    }
    if !story.note.is_empty() {
        let _ = writeln!(text, "\n{}", visible(&story.note));
    }
    text
}

fn write_event(text: &mut String, event: &StoryEvent) {
    let at = format!("{}.{:03}", event.after_ms / 1000, event.after_ms % 1000);
    let _ = writeln!(text, "{at:>9}s  {}", visible(&event.text));
    if !event.verdict.is_empty() {
        let mut said = format!("{} by {}", event.verdict, event.rule);
        if !event.reason.is_empty() {
            let _ = write!(said, ", {}", event.reason);
        }
        if event.delay_ms > 0 {
            let _ = write!(said, ", after {}", show_duration(Duration::from_millis(event.delay_ms)));
        }
        if !event.reply.is_empty() {
            let _ = write!(said, ": {}", event.reply);
        }
        let _ = writeln!(text, "            → {}", visible(&said));
    }
    for more in &event.more {
        let _ = writeln!(text, "              {}", visible(more));
    }
    for stage in &event.trace {
        for rule in stage["rules"].as_array().into_iter().flatten() {
            let of = |value: &Value, key: &str| visible(value[key].as_str().unwrap_or_default());
            let mark = if rule["matched"] == true { '+' } else { '-' };
            let _ = writeln!(text, "              {mark} {}", of(rule, "rule"));
            for part in rule["parts"].as_array().into_iter().flatten() {
                let _ = writeln!(
                    text,
                    "                  {:<8}{}   ({})",
                    of(part, "answer"),
                    of(part, "text"),
                    of(part, "value")
                );
            }
            for effect in rule["effects"].as_array().into_iter().flatten() {
                let _ = writeln!(text, "                  => {}", visible(effect.as_str().unwrap_or_default()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_story_is_told_in_order() {
        let trace = json!({"rules": [{"rule": "no", "matched": true, "parts": [{"text": "helo == 'x'", "value": "\"x\"", "answer": "true"}], "effects": ["reject 550"]}]});
        let event = StoryEvent {
            after_ms: 1234,
            what: "rcpt".into(),
            text: "RCPT TO:<a\u{1b}@b>".into(),
            verdict: "reject".into(),
            rule: "no".into(),
            reply: "550 no".into(),
            trace: vec![trace],
            ..StoryEvent::default()
        };
        let story =
            SessionStory { id: "0ABC".into(), state: "ended".into(), events: vec![event], ..SessionStory::default() };
        let text = text(&story);
        for line in [
            "session 0ABC has ended\n",
            "    1.234s  RCPT TO:<a\\u{1b}@b>\n            → reject by no: 550 no\n",
            "              + no\n                  true    helo == 'x'   (\"x\")\n                  => reject 550\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
