//! The judge of a session: tells the policy what happens, turns its decisions into answers for the machine, and writes
//! one line per decision that refuses (every decision at debug level).
//!
//! How it fails: it does not; a lookup that failed leaves its fact unknown, and the policy says what that means.

use super::results::Checks;
use super::state::{Listener, Shared};
use super::watch::Watch;
use crate::base::address::{Domain, ReversePath};
use crate::base::body::{Body, BodyShape};
use crate::base::envelope::{MailParameters, Recipient};
use crate::base::id::SessionId;
use crate::base::inquiry::{Edit, Finding, Inquiry, Spf};
use crate::base::proof::{DiscardGrant, RelayGrant};
use crate::base::time::Instant;
use crate::base::tls::TlsFacts;
use crate::policy::{
    Authentication, ClientFacts, Decision, Difference, Faults, Given, Guarded, Load, Session, Stage, Verdict,
};
use crate::smtp::server::{Answer, Ask, Counters, HeloName, Peer};
use crate::wire::replies;
use crate::wire::reply::Reply;
use smallvec::SmallVec;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// See the module's head.
pub(super) struct Judge {
    policy: Session,
    watch: Watch,
    id: SessionId,
    /// Who is being judged.
    client: SocketAddr,
    early_talker: bool,
    /// Whether the policy knows of the session's TLS.
    encrypted: bool,
    /// The client's confirmed name, once it was looked up.
    name: Option<Domain>,
    /// What was found out, for Authentication-Results.
    checks: Checks,
}

/// The policy's word on a recipient: its grant and how long the client waits for the reply, or the refusal.
pub(super) type Passage = Result<(RelayGrant, Duration), Answer>;

/// What the policy says about a whole message.
pub(super) enum Sentence {
    /// It goes on.
    Pass {
        /// Fields to put on top of it.
        tags: Vec<(String, String)>,
        /// A route that overrides those of the recipients.
        route: Option<Arc<str>>,
        /// Kept back for an administrator, and why.
        quarantine: Option<Arc<str>>,
    },
    /// Accepted and thrown away.
    Discard(DiscardGrant),
    /// This is the answer.
    Answer(Answer),
}

impl Judge {
    pub fn new(shared: &Shared, listener: &Listener, peer: &Peer, now: Instant) -> Judge {
        let policy = new_session(shared, listener, peer, now);
        Judge {
            watch: Watch::new(shared, listener, policy.policy()),
            policy,
            id: peer.session,
            client: peer.client,
            early_talker: false,
            encrypted: peer.tls.is_some(),
            name: None,
            checks: Checks::default(),
        }
    }

    /// Who is being judged.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Before the greeting. PROXY and XCLIENT change who the client is: then it is judged anew, and `true` says that what
    /// was asked for the other one is of no use.
    pub fn client_is(
        &mut self,
        shared: &Shared,
        listener: &Listener,
        peer: &Peer,
        early_talker: bool,
        now: Instant,
    ) -> bool {
        self.early_talker = early_talker;
        let another = peer.client != self.client || peer.xclient.is_some();
        if another {
            self.client = peer.client;
            self.policy = new_session(shared, listener, peer, now);
            self.name = None;
            self.checks = Checks::default();
            self.watch = Watch::new(shared, listener, self.policy.policy());
        }
        if let Some(told) = &peer.xclient {
            self.name = told.name.as_deref().and_then(|n| crate::wire::address::parse_domain(n).ok());
            let name = self.name.as_ref().map(Domain::lower).unwrap_or_default();
            let set = self.policy.set_fact("client.ptr", Given::Text(name));
            debug_assert!(set.is_ok(), "client.ptr is a fact that is found out");
        }
        self.policy.connect_told(early_talker);
        another
    }

    /// The client's name as Received shows it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_ref().map(Domain::as_str)
    }

    pub fn connect(&mut self, now: Instant, load: Load) -> Answer {
        self.policy.set_load(load);
        let decision = self.policy.connect(now, self.early_talker);
        self.answer("connect", decision)
    }

    /// What is asked for is told before it is decided, so that what it needs can be found out.
    pub fn told(&mut self, ask: &Ask) {
        if !self.policy.asks_anything() {
            return;
        }
        match ask {
            Ask::Helo { name, extended } => {
                self.checks.begin_greeting();
                self.policy.helo_told(&name.text, *extended);
            }
            Ask::Mail { sender, parameters } => {
                self.checks.begin_message();
                self.policy.mail_told(sender, parameters);
            }
            Ask::Rcpt { recipient } => self.policy.rcpt_told(recipient),
            _ => {}
        }
    }

    /// The message has come.
    pub fn message_told(&mut self, body: &Body) {
        if self.policy.asks_anything() {
            self.policy.message_told(body);
        }
    }

    /// How the client keeps to the protocol.
    pub fn faults(&mut self, counters: &Counters) {
        self.policy.faults(Faults {
            errors: counters.errors.into(),
            pipelining: counters.improper_pipelining.into(),
            bare_lf: counters.bare_line_feeds.into(),
            foreign: counters.foreign_commands.into(),
        });
    }

    /// What is to be found out now, at VRFY and EXPN for them alone.
    pub fn inquiries(&mut self, ask: Option<&Ask>) -> SmallVec<[Inquiry; 4]> {
        match ask {
            Some(Ask::Vrfy { .. } | Ask::Expn { .. }) => self.policy.vrfy_told(),
            _ => self.policy.inquiries(),
        }
    }

    /// Whether a decision has to wait for what is being found out.
    pub fn awaits(&self, stage: Stage) -> bool {
        self.policy.awaits(stage)
    }

    /// Something was found out.
    pub fn found(&mut self, inquiry: &Inquiry, finding: &Finding) {
        if let Finding::Reverse { confirmed, .. } = finding {
            self.name = confirmed.clone();
        }
        if let Finding::Unknown(why) = finding {
            tracing::debug!(session = %self.id, ?inquiry, %why, "could not be found out");
        }
        self.checks.found(inquiry, finding);
        self.policy.found(inquiry, finding);
    }

    /// What was found out.
    pub fn checks(&self) -> &Checks {
        &self.checks
    }
    /// What SPF said of the sender.
    pub fn spf(&self) -> Option<&Spf> {
        self.policy.spf()
    }
    /// The client's confirmed name.
    pub fn client_name(&self) -> Option<&Domain> {
        self.name.as_ref()
    }
    /// The changes that helpers want and rules obey.
    pub fn edits(&self) -> Vec<Edit> {
        self.policy.edits()
    }

    pub fn helo(&mut self, now: Instant, name: &HeloName, extended: bool) -> Answer {
        let decision = self.policy.helo(now, &name.text, extended);
        self.answer("helo", decision)
    }

    /// The session is encrypted from now on, or has been all the time; whether it was not before.
    pub fn tls_is(&mut self, facts: Option<&TlsFacts>) -> bool {
        let Some(facts) = facts.filter(|_| !self.encrypted) else { return false };
        self.encrypted = true;
        self.checks.begin_greeting();
        self.policy.tls_started(policy_tls(facts));
        true
    }

    pub fn authenticated(&mut self, now: Instant, user: &str) -> Answer {
        let decision = self.policy.auth(now, Authentication::Succeeded(user));
        tracing::info!(target: "login", session = %self.id, user, "logged in");
        self.answer("auth", decision)
    }

    pub fn auth_failed(&mut self, now: Instant, failures: u32) -> Answer {
        let decision = self.policy.auth(now, Authentication::Failed);
        tracing::info!(target: "login", session = %self.id, failures, "login failed");
        // Guessing costs time, more with every guess.
        let patience = Duration::from_secs(u64::from(failures.min(10)));
        match self.answer("auth", decision) {
            Answer::Go => Answer::GoAfter(patience),
            Answer::GoAfter(delay) => Answer::GoAfter(delay.max(patience)),
            Answer::Refuse { reply, after, close } => Answer::Refuse { reply, after: after.max(patience), close },
            other => other,
        }
    }

    pub fn mail(&mut self, now: Instant, sender: &ReversePath, parameters: &MailParameters, load: Load) -> Answer {
        self.policy.set_load(load);
        let decision = self.policy.mail(now, sender, parameters);
        self.answer("mail", decision)
    }

    /// Whether the policy would refuse the recipient whatever its backend says about it.
    pub fn refuses(&mut self, now: Instant, recipient: &Recipient) -> Option<Answer> {
        let decision = self.policy.probe_rcpt(now, recipient)?;
        Some(self.answer("rcpt", decision))
    }

    /// The policy's word on a recipient, with the route it names.
    pub fn rcpt(&mut self, now: Instant, recipient: &Recipient, exists: Option<bool>) -> (Passage, Option<Arc<str>>) {
        let decision = self.policy.rcpt(now, recipient, exists);
        self.log("rcpt", &decision);
        let (delay, route) = (decision.delay, decision.route.clone());
        let word = match decision.verdict {
            Verdict::Accept(grant) => Ok((grant, delay)),
            Verdict::Refuse(reply) => Err(refusal(reply, delay, false)),
            Verdict::Drop(reply) => Err(refusal(reply, delay, true)),
            // A discard is pronounced on the whole message; until then the recipient is taken like any other.
            Verdict::Discard(_) => Err(refusal(replies::local_error(), delay, false)),
        };
        (word, route)
    }

    /// A table or the backend refuses a recipient that the policy had accepted.
    pub fn recipient_refused(&mut self, reply: &Reply) {
        self.watch.refused(&self.policy, self.id, self.client, Stage::Rcpt, "(recipient)", &reply.to_string());
        self.policy.recipient_refused();
    }

    /// The policy's word on a whole message: first its header section, then all of it.
    pub fn message(&mut self, now: Instant, shape: &BodyShape, headers: &[u8]) -> Sentence {
        let decision = self.policy.data(now, headers);
        self.log("data", &decision);
        match decision.verdict {
            Verdict::Accept(()) => {}
            other => return sentence(other, decision.delay),
        }
        let waited = decision.delay;
        let decision = self.policy.message(now, shape, headers);
        self.log("message", &decision);
        let delay = waited + decision.delay;
        match decision.verdict {
            Verdict::Accept(()) => {
                let Decision { tags, route, quarantine, .. } = decision;
                Sentence::Pass { tags, route, quarantine }
            }
            other => sentence(other, delay),
        }
    }

    /// VRFY and EXPN: open to those the policy trusts, who hear what is `known`.
    pub fn verify(&mut self, now: Instant, argument: &str, known: Option<Reply>) -> Answer {
        let decision = self.policy.vrfy(now, argument);
        self.log("vrfy", &decision);
        match decision.verdict {
            Verdict::Accept(()) => Answer::Verified(known.unwrap_or_else(replies::cannot_verify)),
            Verdict::Refuse(reply) if reply.is_positive() => Answer::Verified(reply),
            other => self.to_answer(other, decision.delay),
        }
    }

    /// The session's record as far as it goes.
    pub fn so_far(&self) -> Option<Vec<u8>> {
        self.policy.recorded_so_far()
    }

    /// What became of the message, for the journal.
    pub fn settled(&mut self, now: Instant, how: &str, reply: Option<&str>) {
        if let ("refused", Some(reply)) = (how, reply) {
            self.watch.refused(&self.policy, self.id, self.client, Stage::Message, "(destination)", reply);
        }
        self.policy.settled(now, how, reply.unwrap_or_default());
    }

    /// The transaction is over.
    pub fn reset(&mut self) {
        self.checks.begin_message();
        self.policy.reset();
    }

    fn answer(&mut self, stage: &str, decision: Decision) -> Answer {
        self.log(stage, &decision);
        self.to_answer(decision.verdict, decision.delay)
    }

    fn to_answer(&self, verdict: Verdict, delay: Duration) -> Answer {
        match verdict {
            Verdict::Accept(()) if delay.is_zero() => Answer::Go,
            Verdict::Accept(()) => Answer::GoAfter(delay),
            // Discard takes effect on the whole message.
            Verdict::Discard(_) => Answer::GoAfter(delay),
            Verdict::Refuse(reply) => refusal(reply, delay, false),
            Verdict::Drop(reply) => refusal(reply, delay, true),
        }
    }

    fn log<G>(&mut self, stage: &str, decision: &Decision<G>) {
        self.log_differences();
        self.watch.decided(&self.policy, self.id, self.client, stage, decision);
        let (session, rule) = (self.id, self.policy.rule_name(decision.rule));
        let (verdict, reason, policy) = (decision.verdict.word(), &*decision.reason, self.policy.policy().version());
        self.log_modes(stage, decision);
        match decision.verdict.reply() {
            Some(reply) => {
                tracing::info!(target: "decision", %session, stage, verdict, rule, reason, %reply, client = %self.client.ip(), policy, "refused");
            }
            None => tracing::debug!(target: "decision", %session, stage, verdict, rule, reason, policy, "passed"),
        }
    }

    /// Where the second policy decides otherwise.
    fn log_differences(&mut self) {
        let (session, client) = (self.id, self.client.ip());
        for Difference { stage, change, then, now } in self.policy.take_differences() {
            tracing::info!(target: "shadow", %session, stage, change, then, now, %client, "differs");
        }
    }

    /// What rules that only observe would have done, and what guards did to theirs.
    fn log_modes<G>(&self, stage: &str, decision: &Decision<G>) {
        let (session, client) = (self.id, self.client.ip());
        for would in &decision.would {
            let (rule, what) = (self.policy.rule_name(would.rule), &*would.what);
            tracing::info!(target: "decision", %session, stage, rule, what, %client, "would");
        }
        if let Some((rule, what)) = decision.guard {
            let (rule, now) = (self.policy.rule_name(rule), what.word());
            match what {
                Guarded::Observes => {
                    tracing::warn!(target: "policy", %session, stage, rule, now, %client, "the guard of a rule: it would refuse too much of what must pass");
                }
                Guarded::Acts => tracing::info!(target: "policy", %session, stage, rule, now, "the guard of a rule"),
            }
        }
    }
}

fn sentence(verdict: Verdict, delay: Duration) -> Sentence {
    match verdict {
        Verdict::Discard(grant) => Sentence::Discard(grant),
        Verdict::Refuse(reply) => Sentence::Answer(refusal(reply, delay, false)),
        Verdict::Drop(reply) => Sentence::Answer(refusal(reply, delay, true)),
        Verdict::Accept(()) => Sentence::Pass { tags: Vec::new(), route: None, quarantine: None },
    }
}

fn refusal(reply: Reply, after: Duration, close: bool) -> Answer {
    Answer::Refuse { close: close || reply.code == 421, reply, after }
}

fn new_session(shared: &Shared, listener: &Listener, peer: &Peer, now: Instant) -> Session {
    let client = ClientFacts {
        client: peer.client,
        listener: listener.policy_name.clone(),
        tls: peer.tls.as_ref().map(policy_tls),
    };
    let mut session = Session::new(shared.policy.load_full(), shared.limits.clone(), client, now, peer.connected);
    if let Some(run) = shared.journal.as_ref().map(|journal| &journal.run).or_else(|| shared.recent.run()) {
        session.record(run, peer.session);
    }
    if let Some(shadow) = shared.shadow.load_full() {
        session.shadow(&shadow);
    }
    session
}

fn policy_tls(facts: &TlsFacts) -> crate::policy::TlsFacts {
    crate::policy::TlsFacts {
        version: facts.version.to_owned(),
        cipher: facts.cipher.to_owned(),
        client_name: facts.client_identity.clone().unwrap_or_default(),
    }
}
