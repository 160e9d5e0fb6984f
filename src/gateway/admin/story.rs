//! The story of a session, from its record: who came, what was said, what was decided and how that came about.
//!
//! How it fails: a record that cannot be read is left out; a story says when it is not whole.

use super::{Decided, SessionEntry, SessionStory, StoryEvent};
use crate::gateway::recent::Recorded;
use crate::policy::journal::{self, Event, Said, What};
use crate::policy::replay::explain;
use crate::policy::{Policy, StageTrace};
use std::sync::Arc;

/// Said with every trace.
const NOTE: &str = "How the decisions come about is found by judging the record again with the policy that is in force now, with \
                    limits counted from zero; what was decided then stands beside each event.";

/// The story of a session from its parts; `None` when there are none that can be read.
pub fn story(parts: &[Recorded], policy: Option<&Arc<Policy>>) -> Option<SessionStory> {
    let mut story = SessionStory { state: "partial".into(), ..SessionStory::default() };
    let mut places = Vec::new();
    let mut readable: Vec<&str> = Vec::new();
    for part in parts {
        let Ok((head, end)) = journal::read_line(&part.line, &mut places) else { continue };
        if readable.is_empty() {
            story.id = head.session.to_string();
            story.at_ms = head.at_ms;
            story.client = head.client.to_string();
            story.port = head.port;
            story.listener = head.listener.to_string();
            story.tls = head.tls.as_ref().map(|tls| format!("{} {}", tls.version, tls.cipher)).unwrap_or_default();
            story.policy = head.policy.to_string();
        }
        let whole = parts.first().is_some_and(|first| first.part == 0);
        story.state = match (whole, end.more) {
            (false, _) => "partial",
            (true, true) => "open",
            (true, false) => "ended",
        }
        .into();
        readable.push(&part.line);
        // An event that the line's reader has found can be read.
        story.events.extend(places.iter().filter_map(|place| journal::read_event(&part.line, place)).map(|e| told(&e)));
    }
    if readable.is_empty() {
        return None;
    }
    if let Some(policy) = policy {
        add_traces(&mut story, &readable, policy);
    }
    Some(story)
}

fn add_traces(story: &mut SessionStory, parts: &[&str], policy: &Arc<Policy>) {
    let Ok(traces) = explain(parts, policy) else { return };
    let value = |trace: StageTrace| serde_json::to_value(trace).unwrap_or_default();
    for (event, traces) in story.events.iter_mut().zip(traces) {
        event.trace = traces.into_iter().map(value).collect();
    }
    story.note = NOTE.into();
    if story.policy != policy.version() {
        story.note.push_str(" The policy has changed since.");
    }
}

/// What is known of a session whose record is not kept: its refusals.
pub fn from_decisions(id: &str, decisions: &[Arc<Decided>]) -> Option<SessionStory> {
    let first = decisions.first()?;
    let event = |d: &Arc<Decided>| StoryEvent {
        after_ms: d.at_ms.saturating_sub(first.at_ms),
        what: d.stage.clone(),
        text: match d.stage.as_str() {
            "rcpt" => format!("MAIL FROM:<{}>, RCPT TO:<{}>", d.sender, d.recipient),
            "mail" => format!("MAIL FROM:<{}>", d.sender),
            "helo" => format!("EHLO {}", d.helo),
            _ => String::new(),
        },
        verdict: d.verdict.clone(),
        rule: d.rule.clone(),
        reason: d.reason.clone(),
        reply: d.reply.clone(),
        delay_ms: d.delay_ms,
        ..StoryEvent::default()
    };
    Some(SessionStory {
        id: id.to_owned(),
        state: "partial".into(),
        at_ms: first.at_ms,
        client: first.client.clone(),
        listener: first.listener.clone(),
        events: decisions.iter().map(event).collect(),
        note: "Only the refusals of this session are kept.".into(),
        ..SessionStory::default()
    })
}

/// The session in one line of a list.
pub fn entry(recorded: &Recorded) -> Option<SessionEntry> {
    let mut places = Vec::new();
    let (head, end) = journal::read_line(&recorded.line, &mut places).ok()?;
    let mut entry = SessionEntry {
        id: head.session.to_string(),
        at_ms: head.at_ms,
        lasted_ms: end.after_ns / 1_000_000,
        client: head.client.to_string(),
        listener: head.listener.to_string(),
        ..SessionEntry::default()
    };
    for event in places.iter().filter_map(|place| journal::read_event(&recorded.line, place)) {
        entry.refusals += u64::from(event.said.as_ref().is_some_and(|said| !said.passes()));
        match event.what {
            What::Helo { name, .. } => entry.helo = name.into_owned(),
            What::Settled { how, .. } => entry.messages += u64::from(how != "refused"),
            _ => {}
        }
    }
    Some(entry)
}

fn told(event: &Event<'_>) -> StoryEvent {
    let passed = Said::passed_by_default();
    let asked = event.what.is_asked();
    let said = event.said.as_ref().or(asked.then_some(&passed));
    let mut told = StoryEvent {
        after_ms: event.after_ns / 1_000_000,
        what: event.what.word().to_owned(),
        text: text(&event.what),
        ..StoryEvent::default()
    };
    let Some(said) = said else { return told };
    told.verdict = said.verdict.to_string();
    told.rule = said.rule.to_string();
    told.reason = said.reason.to_string();
    told.reply = said.reply.to_string();
    told.delay_ms = said.delay_ms;
    let more = [("route", &said.route), ("quarantine", &said.quarantine), ("fields", &said.tags)];
    told.more = more.iter().filter(|(_, t)| !t.is_empty()).map(|(what, text)| format!("{what}: {text}")).collect();
    told
}

/// What happened, as a person would say it.
fn text(what: &What<'_>) -> String {
    match what {
        What::Fact { name, value: None } => format!("{name} could not be found out"),
        What::Fact { name, value: Some(value) } => format!("{name} = {}", fact(value)),
        What::Connect { early_talker: true, .. } => "connected, and spoke before the greeting".into(),
        What::Connect { .. } => "connected".into(),
        What::Helo { name, extended } => format!("{} {name}", if *extended { "EHLO" } else { "HELO" }),
        What::Tls(tls) => format!("STARTTLS: {} {}", tls.version, tls.cipher),
        What::Auth { user: Some(user) } => format!("logged in as {user}"),
        What::Auth { user: None } => "a login failed".into(),
        What::Mail { sender, size, .. } => {
            let size = size.map(|n| format!(" SIZE={n}")).unwrap_or_default();
            format!("MAIL FROM:<{sender}>{size}")
        }
        What::Probe { to } => format!("<{to}>: asked before it is looked up"),
        What::Rcpt { to, exists } => {
            let known = match exists {
                Some(true) => " (exists)",
                Some(false) => " (does not exist)",
                None => "",
            };
            format!("RCPT TO:<{to}>{known}")
        }
        What::Refused => "the recipient was refused all the same: nobody here, or its backend does not take it".into(),
        What::Data(headers) => {
            let subject =
                headers.fields.iter().find(|(name, _)| name == "subject").and_then(|(_, text)| text.as_deref());
            let subject = subject.map(|text| format!(", subject: {}", text.trim())).unwrap_or_default();
            format!("header section of {} octets{subject}", headers.octets)
        }
        What::Message(shape) => format!("message of {} octets", shape.octets),
        What::Vrfy { argument } => format!("VRFY or EXPN {argument}"),
        What::Reset => "the transaction is over".into(),
        What::Settled { how, reply } if reply.is_empty() => format!("message {how}"),
        What::Settled { how, reply } => format!("message {how}: {reply}"),
        #[allow(unreachable_patterns, reason = "events of later versions")]
        other => other.word().into(),
    }
}

fn fact(value: &journal::Told<'_>) -> String {
    use journal::Told;
    match value {
        Told::Flag(flag) => flag.to_string(),
        Told::Number(n) => n.to_string(),
        Told::Text(text) => format!("{text:?}"),
        Told::Ip(ip) => ip.to_string(),
        #[allow(unreachable_patterns, reason = "values of later versions")]
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(part: u64, more: bool) -> Recorded {
        let mut line = Vec::new();
        let head = journal::Head { session: "S".into(), part, at_ms: 5, ..journal::Head::default() };
        journal::begin(&head, &mut line);
        let what = What::Rcpt { to: "bob@example.test".into(), exists: Some(true) };
        let said =
            Some(Said { verdict: "reject".into(), rule: "no".into(), reply: "550 no".into(), ..Said::default() });
        journal::write_event(&Event { after_ns: 7_000_000, seq: 1, what, said }, &mut line);
        journal::write_event(
            &Event { after_ns: 9_000_000, seq: 2, what: What::Helo { name: "x".into(), extended: true }, said: None },
            &mut line,
        );
        journal::end(9_000_000, 3, more, &mut line);
        Recorded { session: "S".into(), part, at_ms: 5, line: String::from_utf8(line).unwrap().into() }
    }

    #[test]
    fn a_story_says_whether_it_is_whole() {
        let state = |parts: &[Recorded]| story(parts, None).map(|s| (s.state, s.events.len()));
        assert_eq!(state(&[recorded(0, false)]), Some(("ended".into(), 2)));
        assert_eq!(state(&[recorded(0, true)]), Some(("open".into(), 2)));
        assert_eq!(state(&[recorded(0, true), recorded(1, false)]), Some(("ended".into(), 4)));
        assert_eq!(state(&[recorded(1, false)]), Some(("partial".into(), 2)));
        assert_eq!(state(&[]), None);
        let told = story(&[recorded(0, false)], None).unwrap();
        assert_eq!(
            (told.events[0].verdict.as_str(), told.events[0].text.as_str()),
            ("reject", "RCPT TO:<bob@example.test> (exists)")
        );
        assert_eq!((told.events[1].verdict.as_str(), told.events[1].rule.as_str()), ("accept", "default"));
        let line = entry(&recorded(0, false)).unwrap();
        assert_eq!((line.refusals, line.lasted_ms, line.helo.as_str()), (1, 9, "x"));
    }
}
