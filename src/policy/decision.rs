//! What the policy decided, with the rule and the reason.
//!
//! How it fails: it does not.

use super::memory::Prior;
use super::rules::RuleId;
use super::score::Added;
use crate::base::proof::DiscardGrant;
use crate::wire::reply::Reply;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// What the policy decided about one command. `G` is the proof that accepting carries: `RelayGrant` at RCPT, nothing
/// elsewhere.
#[derive(Debug)]
pub struct Decision<G = ()> {
    /// What happens.
    pub verdict: Verdict<G>,
    /// Which rule said so; its name is [`super::Session::rule_name`].
    pub rule: RuleId,
    /// Why, where there is more to say than the rule's name.
    pub reason: Cow<'static, str>,
    /// How long to keep the client waiting before the reply.
    pub delay: Duration,
    /// Header fields to put on top of the message; filled by `message` only.
    pub tags: Vec<(String, String)>,
    /// The route: at `rcpt` that of the recipient, at `message` one that overrides the recipients' routes.
    pub route: Option<Arc<str>>,
    /// Keep the message aside, for this reason; filled by `message` only.
    pub quarantine: Option<Arc<str>>,
    /// Points so far, in thousandths.
    pub score: i64,
    /// Points that this decision added.
    pub scores: SmallVec<[Added; 2]>,
    /// What rules that only observe would have done.
    pub would: Vec<Would>,
    /// A guard that has just made its rule observe, or let it act again.
    pub guard: Option<(RuleId, Guarded)>,
    /// What was remembered from before this run and had a part in it; for the journal.
    pub priors: Vec<Prior>,
}

/// What a rule would have done, had it not been one that observes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Would {
    /// Which rule.
    pub rule: RuleId,
    /// The outcome, as the file writes it.
    pub what: String,
}

/// What a guard did to its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded {
    /// It observes from now on: it would have refused too much of what must pass.
    Observes,
    /// It acts again.
    Acts,
}

impl Guarded {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Guarded::Observes => "observes",
            Guarded::Acts => "acts again",
        }
    }
}

/// What happens.
#[derive(Debug)]
pub enum Verdict<G = ()> {
    /// It passes.
    Accept(G),
    /// Answer this, 4xx or 5xx (VRFY: also 252).
    Refuse(Reply),
    /// Answer this and close the connection.
    Drop(Reply),
    /// Say 250 after the message and throw it away.
    Discard(DiscardGrant),
}

impl<G> Verdict<G> {
    /// Whether it passes, be it only to be thrown away.
    pub fn passes(&self) -> bool {
        matches!(self, Verdict::Accept(_) | Verdict::Discard(_))
    }
    /// The reply of a refusal.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Verdict::Refuse(reply) | Verdict::Drop(reply) => Some(reply),
            Verdict::Accept(_) | Verdict::Discard(_) => None,
        }
    }
    /// In one word: `accept`, `reject`, `defer`, `drop`, `discard`.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Accept(_) => "accept",
            Verdict::Refuse(r) if r.is_transient() => "defer",
            Verdict::Refuse(_) => "reject",
            Verdict::Drop(_) => "drop",
            Verdict::Discard(_) => "discard",
        }
    }
}
