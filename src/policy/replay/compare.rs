//! A decision then and now.
//!
//! How it fails: it does not.

use crate::policy::journal::Said;
use std::net::IpAddr;

/// How a decision has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// Not at all.
    Same,
    /// It passed and does not any more.
    Tightened,
    /// It was refused and passes.
    Loosened,
    /// Refused both times, but for good then and for now later, or the other way round, or with another code.
    Refusal,
    /// The same verdict by another rule, or with another text, delay, route or tag.
    Detail,
}

impl Change {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Change::Same => "same",
            Change::Tightened => "tightened",
            Change::Loosened => "loosened",
            Change::Refusal => "other refusal",
            Change::Detail => "other detail",
        }
    }
    /// Whether somebody outside gets another verdict.
    pub fn is_verdict(self) -> bool {
        matches!(self, Change::Tightened | Change::Loosened | Change::Refusal)
    }
}

/// A decision that was played.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// Which session.
    pub session: &'a str,
    /// The client.
    pub client: IpAddr,
    /// What it called itself.
    pub helo: &'a str,
    /// The sender of the message, or empty.
    pub sender: &'a str,
    /// The recipient, at `probe` and `rcpt`; else the last one that passed, or empty.
    pub rcpt: &'a str,
    /// Message-ID of the message, from its header section on, where it was kept.
    pub message_id: &'a str,
    /// The event's word: the stage, or `probe`.
    pub stage: &'static str,
    /// As recorded.
    pub old: &'a Said<'a>,
    /// As the policy says now; `None` when the session does not come that far any more.
    pub new: Option<&'a Said<'a>>,
    /// The stage and rule that keep it from coming that far.
    pub stopped_by: Option<(&'static str, &'a str)>,
    /// The rule that may have decided otherwise and the fact that is missing.
    pub doubt: Option<(&'a str, &'a str)>,
}

impl Seen<'_> {
    /// How it changed. What is not reached any more is no change of its own: what stopped it is.
    pub fn change(&self) -> Change {
        self.new.map_or(Change::Same, |new| compare(self.old, new))
    }
}

/// Compares two decisions. A record that does not know its rule (made from another server's log) is compared by verdict.
pub fn compare(old: &Said<'_>, new: &Said<'_>) -> Change {
    match (old.passes(), new.passes()) {
        (true, false) => Change::Tightened,
        (false, true) => Change::Loosened,
        (false, false) if old.verdict != new.verdict || code(old) != code(new) => {
            // A foreign server's words for a refusal are its own.
            if old.rule.is_empty() && (old.verdict == "reject") == (new.verdict == "reject") {
                Change::Same
            } else {
                Change::Refusal
            }
        }
        (true, true) if old.verdict != new.verdict && !old.rule.is_empty() => Change::Detail,
        _ if old.rule.is_empty() || same(old, new) => Change::Same,
        _ => Change::Detail,
    }
}

/// Whether both say the same. What was remembered from before the run is input, not decision.
fn same(old: &Said<'_>, new: &Said<'_>) -> bool {
    let said = |s: &Said<'_>| (s.delay_ms, s.points);
    said(old) == said(new)
        && old.verdict == new.verdict
        && old.rule == new.rule
        && old.reply == new.reply
        && old.reason == new.reason
        && old.route == new.route
        && old.quarantine == new.quarantine
        && old.tags == new.tags
        && old.added == new.added
        && old.would == new.would
        && old.guard == new.guard
}

fn code<'s>(said: &'s Said<'_>) -> &'s str {
    said.reply.get(..3).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_names() {
        let said = |verdict: &'static str, rule: &'static str, reply: &'static str| Said {
            verdict: verdict.into(),
            rule: rule.into(),
            reply: reply.into(),
            ..Said::default()
        };
        let pass = Said::passed_by_default();
        let no = said("reject", "r", "550 5.7.1 no");
        assert_eq!(compare(&pass, &pass), Change::Same);
        assert_eq!(compare(&pass, &no), Change::Tightened);
        assert_eq!(compare(&no, &pass), Change::Loosened);
        assert_eq!(compare(&no, &said("defer", "r", "450 4.7.1 no")), Change::Refusal);
        assert_eq!(compare(&no, &said("reject", "r", "554 5.7.1 no")), Change::Refusal);
        assert_eq!(compare(&no, &said("reject", "other", "550 5.7.1 no")), Change::Detail);
        assert_eq!(compare(&said("reject", "", "554 5.7.1 NOQUEUE"), &no), Change::Same);
        assert_eq!(compare(&said("accept", "", ""), &said("accept", "x", "")), Change::Same);
    }
}
