//! What a replay changes: counted by rule, with examples, and by sender, recipient and client, in both directions.
//!
//! How it fails: it does not; everything here is bounded.

use super::Visitor;
use super::compare::{Change, Seen};
use super::live::is_taken;
use super::timeline::Timeline;
use super::top::Top;
use crate::policy::journal::Said;
use std::collections::BTreeMap;

/// Examples kept for each kind of change.
const EXAMPLES: usize = 5;
/// Kinds of changes that are told apart; a policy of a thousand rules has fewer in practice.
const FLOWS_MAX: usize = 10_000;

/// From which decision to which.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// How it changed.
    pub change: Change,
    /// At which stage.
    pub stage: &'static str,
    /// Verdict and rule then.
    pub then: (String, String),
    /// Verdict and rule now.
    pub now: (String, String),
}

/// One session that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// Which session.
    pub session: String,
    /// The client.
    pub client: String,
    /// What it called itself.
    pub helo: String,
    /// The sender.
    pub sender: String,
    /// The recipient.
    pub rcpt: String,
    /// Reply then; empty when it passed.
    pub then: String,
    /// Reply now; empty when it passes.
    pub now: String,
    /// Why now.
    pub reason: String,
    /// The fact that is missing to be sure.
    pub doubt: String,
}

/// How often, and some of them.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How often.
    pub count: u64,
    /// How many of them are in doubt.
    pub in_doubt: u64,
    /// The first ones.
    pub examples: Vec<Example>,
}

/// Who is touched by one direction of changes.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// Senders.
    pub senders: Top,
    /// Recipients.
    pub recipients: Top,
    /// Clients.
    pub clients: Top,
}

/// What a replay changes.
#[derive(Clone, Debug, Default)]
pub struct Diff {
    /// Decisions that were made both times.
    pub decisions: u64,
    /// Of these, those that are the same.
    pub same: u64,
    /// Of these, those with another verdict.
    pub verdicts_changed: u64,
    /// Decisions that the session does not come to any more.
    pub not_reached: u64,
    /// Messages that passed then.
    pub messages_then: u64,
    /// Messages that pass now.
    pub messages_now: u64,
    /// Recipients that passed then.
    pub recipients_then: u64,
    /// Recipients that pass now.
    pub recipients_now: u64,
    /// Changes by kind.
    pub flows: BTreeMap<Flow, Tally>,
    /// Messages that passed then and do not come that far now, by the stage and rule that stop them.
    pub messages_stopped: BTreeMap<(&'static str, String), u64>,
    /// Of these, messages that the backend took then: false positives of the new policy, unless it was spam.
    pub messages_delivered_stopped: u64,
    /// Decisions in doubt, by rule and missing fact.
    pub doubts: BTreeMap<(String, String), u64>,
    /// Who is touched where it became stricter.
    pub tightened: Touched,
    /// Who is touched where it became laxer.
    pub loosened: Touched,
    /// Over time.
    pub timeline: Timeline,
    /// Sessions by the version of the policy that decided then.
    pub versions: BTreeMap<String, u64>,
}

impl Visitor for Diff {
    fn began(&mut self, _: u64, policy: &str) {
        if let Some(count) = self.versions.get_mut(policy) {
            *count += 1;
        } else if self.versions.len() < FLOWS_MAX {
            self.versions.insert(policy.to_owned(), 1);
        }
    }

    fn settled(&mut self, seen: &Seen<'_>, how: &str) {
        self.messages_delivered_stopped += u64::from(seen.new.is_none() && is_taken(how));
    }

    fn decision(&mut self, seen: &Seen<'_>) {
        let then = seen.old.passes();
        let now = seen.new.is_some_and(|new| new.passes());
        let bucket = self.timeline.at(seen.at_ms);
        bucket.decisions += 1;
        bucket.refused_then += u64::from(!then);
        bucket.refused_now += u64::from(seen.new.is_some() && !now);
        match seen.stage {
            "message" => {
                bucket.messages_then += u64::from(then);
                bucket.messages_now += u64::from(now);
                self.messages_then += u64::from(then);
                self.messages_now += u64::from(now);
                if then && !now {
                    let by = seen.stopped_by.unwrap_or((seen.stage, seen.new.map_or("", |new| &*new.rule)));
                    *self.messages_stopped.entry((by.0, by.1.to_owned())).or_default() += 1;
                }
            }
            "rcpt" => {
                self.recipients_then += u64::from(then);
                self.recipients_now += u64::from(now);
            }
            _ => {}
        }
        let Some(new) = seen.new else {
            self.not_reached += 1;
            return;
        };
        self.decisions += 1;
        if let Some((rule, fact)) = seen.doubt {
            *self.doubts.entry((rule.to_owned(), fact.to_owned())).or_default() += 1;
        }
        let change = seen.change();
        if change == Change::Same {
            self.same += 1;
            return;
        }
        self.verdicts_changed += u64::from(change.is_verdict());
        let touched = match change {
            Change::Tightened => {
                bucket.tightened += 1;
                Some(&mut self.tightened)
            }
            Change::Loosened => {
                bucket.loosened += 1;
                Some(&mut self.loosened)
            }
            _ => None,
        };
        if let Some(touched) = touched {
            touched.clients.add(&seen.client.to_string());
            if !matches!(seen.stage, "connect" | "helo" | "auth" | "vrfy") {
                touched.senders.add(if seen.sender.is_empty() { "<>" } else { seen.sender });
            }
            if matches!(seen.stage, "rcpt" | "probe") {
                touched.recipients.add(seen.rcpt);
            }
        }
        let flow = Flow {
            change,
            stage: seen.stage,
            then: (seen.old.verdict.to_string(), seen.old.rule.to_string()),
            now: (new.verdict.to_string(), new.rule.to_string()),
        };
        if self.flows.len() >= FLOWS_MAX && !self.flows.contains_key(&flow) {
            return;
        }
        let tally = self.flows.entry(flow).or_default();
        tally.count += 1;
        tally.in_doubt += u64::from(seen.doubt.is_some());
        if tally.examples.len() < EXAMPLES {
            tally.examples.push(example(seen));
        }
    }
}

fn example(seen: &Seen<'_>) -> Example {
    let reply = |said: Option<&Said<'_>>| said.map_or(String::new(), |s| s.reply.to_string());
    Example {
        at_ms: seen.at_ms,
        session: seen.session.to_owned(),
        client: seen.client.to_string(),
        helo: seen.helo.to_owned(),
        sender: seen.sender.to_owned(),
        rcpt: seen.rcpt.to_owned(),
        then: reply(Some(seen.old)),
        now: reply(seen.new),
        reason: seen.new.map_or(String::new(), |s| s.reason.to_string()),
        doubt: seen.doubt.map_or(String::new(), |(_, fact)| fact.to_owned()),
    }
}
