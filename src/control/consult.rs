//! `gatepost consult NAME`: asks a helper of the configuration about a message, as a rule would, and shows its advice.
//!
//! How it fails: a helper that is not configured, a message that cannot be read, and a consultation that failed (whatever
//! `on_failure` says) are one line each; exit code 1.

use crate::base::address::Mailbox;
use crate::base::body::{Body, BodyShape};
use crate::base::id::SessionId;
use crate::base::inquiry::{Advice, Case, Edit, Finding};
use crate::control::cli::{Failure, ServeArgs, print};
use crate::control::nearest::nearest;
use crate::gateway::config::Config;
use crate::lookup::helpers::{HelperConfig, Helpers, OnFailure};
use crate::wire::address::{parse_domain, parse_mailbox};
use clap::Args;
use std::fmt::Write;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whom to ask, and about what.
#[derive(Debug, Args)]
pub struct ConsultArgs {
    /// Name of the helper: that of its section [helper.NAME]
    name: String,
    /// File with the message; - reads standard input. Without one it is asked as at RCPT
    #[arg(value_name = "MESSAGE")]
    message: Option<PathBuf>,
    /// Address of the client
    #[arg(long, value_name = "ADDRESS", default_value = "203.0.113.9")]
    client: IpAddr,
    /// Its confirmed name
    #[arg(long, value_name = "NAME")]
    client_name: Option<String>,
    /// Its HELO name
    #[arg(long, value_name = "NAME", default_value = "mail.example.net")]
    helo: String,
    /// It has logged in as this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Sender; "" is the null sender
    #[arg(long, value_name = "ADDRESS", default_value = "sender@example.net")]
    from: String,
    /// Recipient; may be repeated [default: postmaster at the first local domain]
    #[arg(long, value_name = "ADDRESS")]
    to: Vec<String>,
    /// Listener it came to
    #[arg(long, value_name = "NAME", default_value = "mx")]
    listener: String,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Configuration file [default: ./gatepost.toml when it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Asks, and prints the answer.
pub fn run(args: &ConsultArgs) -> Result<(), Failure> {
    let config = ServeArgs::for_policy(args.config.clone(), None, Vec::new()).load()?.config;
    let mut helper = find(&config, &args.name)?;
    // What is shown is the answer or the failure, not what stands in for it.
    helper.knobs.on_failure = OnFailure::Unknown;
    let case = case(args, &config, helper.knobs.message_octets_max.0)?;
    let helpers = Helpers::load(std::slice::from_ref(&helper)).map_err(Failure::new)?;
    let started = Instant::now();
    let finding = helpers.consult_now(&args.name, &case).map_err(|e| Failure::new(format!("no runtime: {e}")))?;
    match finding {
        Finding::Advice(advice) if args.json => print(&json(&advice)),
        Finding::Advice(advice) => print(&text(&advice, started.elapsed())),
        Finding::Unknown(why) => Err(Failure::new(why)),
        other => Err(Failure::new(format!("{other:?} is no advice"))),
    }
}

fn find(config: &Config, name: &str) -> Result<HelperConfig, Failure> {
    if let Some(helper) = config.helpers.iter().find(|helper| helper.name == name) {
        return Ok(helper.clone());
    }
    let names: Vec<&str> = config.helpers.iter().map(|helper| helper.name.as_str()).collect();
    let help = match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None if names.is_empty() => "the configuration has no helpers".to_owned(),
        None => format!("helpers are {}", names.join(", ")),
    };
    Err(Failure::usage(format!("there is no [helper.{name}]; {help}")))
}

fn case(args: &ConsultArgs, config: &Config, octets_max: u64) -> Result<Case, Failure> {
    let wrong = |what: &str, text: &str, why: &dyn std::fmt::Display| Failure::usage(format!("{what} {text:?}: {why}"));
    let mailbox =
        |what: &str, text: &str| -> Result<Mailbox, Failure> { parse_mailbox(text).map_err(|e| wrong(what, text, &e)) };
    let mut recipients = Vec::new();
    for text in &args.to {
        recipients.push(mailbox("--to", text)?);
    }
    if recipients.is_empty() {
        let domain = config.domains.first().unwrap_or(&config.hostname);
        recipients.push(mailbox("--to", &format!("postmaster@{domain}"))?);
    }
    let client_name = match &args.client_name {
        Some(name) => Some(parse_domain(name).map_err(|e| wrong("--client-name", name, &e))?),
        None => None,
    };
    Ok(Case {
        session: SessionId(0),
        host: config.hostname.clone(),
        listener: args.listener.as_str().into(),
        client: SocketAddr::new(args.client, 25_025),
        local: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 25),
        client_name,
        helo: args.helo.clone(),
        tls: None,
        user: args.user.clone(),
        sender: if args.from.is_empty() { None } else { Some(mailbox("--from", &args.from)?) },
        recipients,
        transaction: 1,
        spf: None,
        body: args.message.as_ref().map(|path| read(path, octets_max)).transpose()?,
    })
}

/// Reads a message; one octet more than may be told is enough.
fn read(path: &PathBuf, octets_max: u64) -> Result<Body, Failure> {
    let fail = |e: std::io::Error| Failure::new(format!("cannot read {}: {e}", path.display()));
    let mut octets = Vec::new();
    let source: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(path).map_err(fail)?),
    };
    source.take(octets_max.saturating_add(1)).read_to_end(&mut octets).map_err(fail)?;
    Ok(body(&octets))
}

/// The message as the wire would have it: lines of a file end in LF, here in CRLF.
fn body(octets: &[u8]) -> Body {
    let mut lines = Vec::with_capacity(octets.len() + octets.len() / 32);
    for (at, b) in octets.iter().enumerate() {
        if *b == b'\n' && (at == 0 || octets[at - 1] != b'\r') {
            lines.push(b'\r');
        }
        lines.push(*b);
    }
    let header = memchr::memmem::find(&lines, b"\r\n\r\n").map_or(lines.len(), |at| at + 4);
    let shape = BodyShape {
        octets: lines.len() as u64,
        header_octets: header as u64,
        eight_bit: !lines.is_ascii(),
        ends_with_crlf: lines.is_empty() || lines.ends_with(b"\r\n"),
        ..BodyShape::default()
    };
    Body::memory(shape, vec![Arc::new(lines)])
}

fn text(advice: &Advice, took: Duration) -> String {
    let mut out = format!("action   {}\n", advice.action.word());
    // Writing to a String cannot fail.
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "{name:<9}{value}");
    };
    for reply in advice.reply.iter().flat_map(|reply| reply.lines()) {
        line("reply", &reply);
    }
    match (advice.score, advice.threshold) {
        (Some(score), Some(threshold)) => line("score", &format!("{score} of {threshold}")),
        (Some(score), None) => line("score", &score),
        _ => {}
    }
    if !advice.symbols.is_empty() {
        line("symbols", &advice.symbols.join(" "));
    }
    for edit in &advice.edits {
        line("edit", &edit_words(edit));
    }
    line("took", &format!("{:.1} ms", took.as_secs_f64() * 1000.0));
    out
}

fn edit_words(edit: &Edit) -> String {
    match edit {
        Edit::AddField { name, value } => format!("add {name}: {value}"),
        Edit::InsertField { at, name, value } => format!("insert at {at} {name}: {value}"),
        Edit::ChangeField { occurrence, name, value: Some(value) } => format!("change {name} #{occurrence}: {value}"),
        Edit::ChangeField { occurrence, name, value: None } => format!("remove {name} #{occurrence}"),
        Edit::ReplaceBody(octets) => format!("replace the body by {} octets", octets.len()),
        Edit::ChangeSender(Some(sender)) => format!("change the sender to {sender}"),
        Edit::ChangeSender(None) => "change the sender to the null sender".to_owned(),
        Edit::AddRecipient(mailbox) => format!("add recipient {mailbox}"),
        Edit::RemoveRecipient(mailbox) => format!("remove recipient {mailbox}"),
    }
}

fn json(advice: &Advice) -> String {
    let edits: Vec<String> = advice.edits.iter().map(edit_words).collect();
    let value = serde_json::json!({
        "action": advice.action.word(),
        "reply": advice.reply,
        "score": advice.score,
        "threshold": advice.threshold,
        "symbols": advice.symbols,
        "edits": edits,
    });
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::inquiry::Action;

    #[test]
    fn files_become_messages() {
        let body = body(b"Subject: x\n\nline\r\nlast");
        assert_eq!(body.to_vec().unwrap(), b"Subject: x\r\n\r\nline\r\nlast");
        assert_eq!((body.shape.octets, body.shape.header_octets, body.shape.ends_with_crlf), (24, 14, false));
    }

    #[test]
    fn advice_in_words() {
        let advice = Advice {
            action: Action::Reject,
            reply: Some("550 5.7.1 one\ntwo".into()),
            score: Some(20.5),
            threshold: Some(15.0),
            symbols: vec!["A".into(), "B".into()],
            edits: vec![Edit::AddField { name: "X".into(), value: "y".into() }, Edit::ChangeSender(None)],
        };
        assert_eq!(
            text(&advice, Duration::from_micros(1500)),
            "action   reject\nreply    550 5.7.1 one\nreply    two\nscore    20.5 of 15\nsymbols  A B\nedit     add X: y\n\
             edit     change the sender to the null sender\ntook     1.5 ms\n"
        );
        let value: serde_json::Value = serde_json::from_str(&json(&advice)).unwrap();
        assert_eq!((&value["action"], &value["score"]), (&"reject".into(), &20.5.into()));
    }
}
