//! `gatepost journal show`: lines of a journal, as they are, chosen by who, when and what was decided.
//!
//! How it fails: lines that cannot be read are counted on standard error; nothing found is no failure.

use super::{Progress, SourceArgs};
use crate::control::cli::{Failure, print};
use crate::control::when;
use crate::policy::journal::{Event, Head, Place, What, read_event, read_line};
use crate::policy::parse_network;
use clap::Args;
use ipnet::IpNet;

/// Which lines.
#[derive(Debug, Default, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Only this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Only clients of this address or network
    #[arg(long, value_name = "NETWORK", value_parser = parse_network)]
    client: Option<IpNet>,
    /// Only with a sender that has this text in it; "" is the null sender
    #[arg(long, value_name = "TEXT")]
    sender: Option<String>,
    /// Only with a recipient that has this text in it
    #[arg(long, value_name = "TEXT")]
    rcpt: Option<String>,
    /// Only with this verdict: accept, reject, defer, drop or discard (of that recipient, where --rcpt is given)
    #[arg(long, value_name = "WORD", value_parser = ["accept", "reject", "defer", "drop", "discard"])]
    verdict: Option<String>,
    /// Only where this rule decided
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// Only sessions that began then or later: 2026-11-23T12:00:00Z, 2026-11-23, or how long ago, such as 2d
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    since: Option<u64>,
    /// Only sessions that began before
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    until: Option<u64>,
    /// At most so many lines
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Only say how many there are
    #[arg(long)]
    count: bool,
}

/// Shows lines.
pub fn run(args: &ShowArgs) -> Result<(), Failure> {
    let journals = args.source.open()?;
    let (mut unread, mut found) = (0u64, 0u64);
    let mut places = Vec::new();
    journals.lines(&Progress::hidden(), |line| {
        let read = line.as_ref().and_then(|line| Some((line, read_line(line, &mut places).ok()?)));
        let Some((line, (head, _))) = read else {
            unread += 1;
            return Ok(());
        };
        if !args.wants(&head) || !args.wants_events(line, &places) || args.limit.is_some_and(|n| found >= n) {
            return Ok(());
        }
        found += 1;
        match args.count {
            true => Ok(()),
            false => print(&format!("{line}\n")),
        }
    })?;
    if args.count {
        print(&format!("{found}\n"))?;
    }
    if unread > 0 {
        eprintln!("gatepost: {unread} lines are torn or no lines of a journal");
    }
    Ok(())
}

impl ShowArgs {
    fn wants(&self, head: &Head<'_>) -> bool {
        self.session.as_ref().is_none_or(|id| head.session.eq_ignore_ascii_case(id))
            && self.client.as_ref().is_none_or(|net| net.contains(&head.client))
            && self.since.is_none_or(|since| head.at_ms >= since)
            && self.until.is_none_or(|until| head.at_ms < until)
    }

    /// Whether some event is what is wanted, of the sender and recipient that are wanted.
    fn wants_events(&self, line: &str, places: &[Place]) -> bool {
        if self.sender.is_none() && self.rcpt.is_none() && self.verdict.is_none() && self.rule.is_none() {
            return true;
        }
        let mut sender_fits = self.sender.is_none();
        places.iter().filter_map(|place| read_event(line, place)).any(|event| {
            if let (What::Mail { sender, .. }, Some(wanted)) = (&event.what, &self.sender) {
                sender_fits = if wanted.is_empty() { sender.is_empty() } else { has(sender, wanted) };
            }
            sender_fits && self.wants_event(&event)
        })
    }

    fn wants_event(&self, event: &Event<'_>) -> bool {
        let rcpt = match (&event.what, &self.rcpt) {
            (_, None) => true,
            (What::Rcpt { to, .. } | What::Probe { to }, Some(wanted)) => has(to, wanted),
            _ => false,
        };
        let asked = event.what.is_asked();
        // A probe that passes has decided nothing yet.
        let decided = asked && !(matches!(event.what, What::Probe { .. }) && event.said.is_none());
        let said = |word: &str, of: fn(&crate::policy::journal::Said<'_>) -> String, default: &str| {
            decided && event.said.as_ref().map_or(default.to_owned(), of) == word
        };
        rcpt && self.verdict.as_ref().is_none_or(|w| said(w, |s| s.verdict.to_string(), "accept"))
            && self.rule.as_ref().is_none_or(|w| said(w, |s| s.rule.to_string(), "default"))
    }
}

fn has(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"v":1,"run":"r","session":"S1","at_ms":1795435200000,"start_ns":1,"seq":1,"policy":"p","listener":"mx","client":"192.0.2.9","port":1,"events":[{"event":"connect","after_ns":1,"seq":1,"load":[1,2,3]},{"event":"mail","after_ns":2,"seq":2,"from":"Ann@example.net","load":[1,2,3]},{"event":"probe","after_ns":3,"seq":3,"to":"bob@example.test"},{"event":"rcpt","after_ns":4,"seq":4,"to":"bob@example.test"},{"event":"rcpt","after_ns":5,"seq":5,"to":"eve@example.test","verdict":"reject","rule":"unknown","reply":"550 5.1.1 no"}],"end":{"after_ns":9,"seq":9}}"#;

    fn shown(args: ShowArgs) -> bool {
        let mut places = Vec::new();
        let (head, _) = read_line(LINE, &mut places).unwrap();
        args.wants(&head) && args.wants_events(LINE, &places)
    }

    #[test]
    fn filters_are_about_the_same_event() {
        let text = |t: &str| Some(t.to_owned());
        let none = ShowArgs::default;
        assert!(shown(none()));
        assert!(shown(ShowArgs { session: text("s1"), client: "192.0.2.0/24".parse().ok(), ..none() }));
        assert!(!shown(ShowArgs { client: "192.0.3.0/24".parse().ok(), ..none() }));
        assert!(shown(ShowArgs { rcpt: text("EVE@"), verdict: text("reject"), ..none() }));
        assert!(!shown(ShowArgs { rcpt: text("bob@"), verdict: text("reject"), ..none() }));
        assert!(shown(ShowArgs { rcpt: text("bob@"), verdict: text("accept"), rule: text("default"), ..none() }));
        assert!(shown(ShowArgs { sender: text("ann@"), rule: text("unknown"), ..none() }));
        assert!(!shown(ShowArgs { sender: text(""), ..none() }) && !shown(ShowArgs { rule: text("other"), ..none() }));
        assert!(shown(ShowArgs { since: Some(1_795_435_200_000), until: Some(1_795_435_200_001), ..none() }));
        assert!(!shown(ShowArgs { since: Some(1_795_435_200_001), ..none() }));
        assert!(!shown(ShowArgs { until: Some(1_795_435_200_000), ..none() }));
    }
}
