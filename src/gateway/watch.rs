//! What a judge tells the watchers: counts every decision, and keeps those that refuse (all of them while somebody follows)
//! for whoever asks why.
//!
//! How it fails: it does not, and never waits.

use super::admin::Decided;
use super::metrics::verdicts::Verdicts;
use super::recent::{self, Recent};
use super::state::{Listener, Shared};
use crate::base::id::SessionId;
use crate::policy::{Decision, Policy, Session, Stage, Value};
use crate::reactor::clock;
use std::net::SocketAddr;
use std::sync::Arc;

/// See the module's head.
pub(super) struct Watch {
    verdicts: Arc<Verdicts>,
    recent: Arc<Recent>,
    listener: Arc<str>,
}

impl Watch {
    /// For a session that is judged by `policy`.
    pub fn new(shared: &Shared, listener: &Listener, policy: &Arc<Policy>) -> Watch {
        Watch {
            verdicts: shared.meters.verdicts.of(policy),
            recent: shared.recent.clone(),
            listener: listener.policy_name.clone(),
        }
    }

    /// The policy has decided.
    pub fn decided<G>(&self, policy: &Session, id: SessionId, client: SocketAddr, stage: &str, decision: &Decision<G>) {
        let Ok(at) = stage.parse::<Stage>() else { return };
        let word = decision.verdict.word();
        self.verdicts.decided(recent::core(), decision.rule, at, word);
        if let Some((name, _)) = decision.reason.strip_prefix("limit ").and_then(|rest| rest.split_once(':')) {
            self.verdicts.limit_hit(recent::core(), name);
        }
        if decision.verdict.reply().is_some() || self.recent.is_followed() {
            let reply = decision.verdict.reply().map(ToString::to_string).unwrap_or_default();
            let delay_ms = u64::try_from(decision.delay.as_millis()).unwrap_or(u64::MAX);
            let (rule, reason) = (policy.rule_name(decision.rule), &*decision.reason);
            self.keep(policy, id, client, Told { stage: at, verdict: word, rule, reason, reply, delay_ms });
        }
    }

    /// Somebody else than the policy refuses with this reply; `rule` is who, in brackets.
    pub fn refused(&self, policy: &Session, id: SessionId, client: SocketAddr, stage: Stage, rule: &str, reply: &str) {
        let verdict = if reply.starts_with('4') { "defer" } else { "reject" };
        self.keep(policy, id, client, Told { stage, verdict, rule, reason: "", reply: reply.to_owned(), delay_ms: 0 });
    }

    #[cold]
    fn keep(&self, policy: &Session, id: SessionId, client: SocketAddr, told: Told<'_>) {
        let fact = |name: &str| {
            let text = policy.fact(name, |value| match value {
                Value::Text(text) => text.to_owned(),
                _ => String::new(),
            });
            text.unwrap_or_default()
        };
        // Facts of an earlier transaction or recipient do not belong to a stage before them.
        let known = |since: Stage| told.stage >= since && told.stage != Stage::Vrfy;
        let recipient = if known(Stage::Rcpt) { fact("rcpt") } else { String::new() };
        let sender = if known(Stage::Mail) { fact("sender") } else { String::new() };
        self.recent.decided(Box::new(Decided {
            number: 0,
            at_ms: clock::wall().as_millis(),
            session: id.to_string(),
            client: client.ip().to_canonical().to_string(),
            listener: self.listener.to_string(),
            stage: told.stage.word().to_owned(),
            verdict: told.verdict.to_owned(),
            rule: told.rule.to_owned(),
            reason: told.reason.to_owned(),
            reply: told.reply,
            delay_ms: told.delay_ms,
            helo: fact("helo"),
            user: fact("user"),
            sender,
            recipient,
        }));
    }
}

/// What was decided.
struct Told<'a> {
    stage: Stage,
    verdict: &'a str,
    rule: &'a str,
    reason: &'a str,
    reply: String,
    delay_ms: u64,
}
