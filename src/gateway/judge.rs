//! The judge of a session: tells the policy what happens, turns its decisions into answers for the machine, and writes
//! one line per decision that refuses (every decision at debug level).
//!
//! How it fails: it does not; a lookup that failed leaves its fact unknown, and the policy says what that means.

use super::state::{Listener, Shared};
use crate::base::address::Domain;
use crate::base::address::ReversePath;
use crate::base::body::BodyShape;
use crate::base::envelope::{MailParameters, Recipient};
use crate::base::id::SessionId;
use crate::base::proof::{DiscardGrant, RelayGrant};
use crate::base::time::Instant;
use crate::base::tls::TlsFacts;
use crate::lookup;
use crate::policy::{Authentication, ClientFacts, Decision, Given, Load, Session, Stage, Verdict};
use crate::smtp::server::{Answer, HeloName, Peer};
use crate::wire::replies;
use crate::wire::reply::Reply;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// See the module's head.
pub(super) struct Judge {
    policy: Session,
    id: SessionId,
    /// Who is being judged.
    client: SocketAddr,
    early_talker: bool,
    /// Whether the policy knows of the session's TLS.
    encrypted: bool,
    /// The client's confirmed name, once it was looked up.
    name: Option<Domain>,
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
            policy,
            id: peer.session,
            client: peer.client,
            early_talker: false,
            encrypted: peer.tls.is_some(),
            name: None,
        }
    }

    /// Who is being judged.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Before the greeting. PROXY and XCLIENT change who the client is: then it is judged anew.
    pub fn client_is(&mut self, shared: &Shared, listener: &Listener, peer: &Peer, early_talker: bool, now: Instant) {
        self.early_talker = early_talker;
        if peer.client != self.client || peer.xclient.is_some() {
            self.client = peer.client;
            self.policy = new_session(shared, listener, peer, now);
        }
        if let Some(told) = &peer.xclient {
            self.name = told.name.as_deref().and_then(|n| crate::wire::address::parse_domain(n).ok());
            let name = self.name.as_ref().map(Domain::lower).unwrap_or_default();
            self.set_name(&name);
        }
    }

    /// What must be looked up before the client is judged, if any rule can ask for it.
    pub fn wanted_name(&self, peer: &Peer) -> Option<lookup::Question> {
        let wanted = peer.xclient.is_none() && self.policy.policy().needs(Stage::Connect).contains("client.ptr");
        wanted.then(|| lookup::Question::ClientName(peer.client.ip()))
    }

    pub fn client_name(&mut self, answer: &lookup::Answer) {
        self.name = answer.confirmed_name().cloned();
        match (&self.name, answer.miss()) {
            (Some(name), _) => self.set_name(&name.lower()),
            // The journal tells a lookup that failed from one that nobody made.
            (None, Some(miss)) if !miss.is_certain() => self.set_ptr(Given::Unknown),
            (None, _) => self.set_name(""),
        }
    }

    fn set_name(&mut self, name: &str) {
        self.set_ptr(Given::Text(name.to_owned()));
    }

    fn set_ptr(&mut self, name: Given) {
        let set = self.policy.set_fact("client.ptr", name);
        debug_assert!(set.is_ok(), "client.ptr is a fact that is looked up");
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

    pub fn helo(&mut self, now: Instant, name: &HeloName, extended: bool) -> Answer {
        let decision = self.policy.helo(now, &name.text, extended);
        self.answer("helo", decision)
    }

    /// The session is encrypted from now on, or has been all the time.
    pub fn tls_is(&mut self, facts: Option<&TlsFacts>) {
        if let (false, Some(facts)) = (self.encrypted, facts) {
            self.encrypted = true;
            self.policy.tls_started(policy_tls(facts));
        }
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

    /// The backend refused a recipient that the policy had accepted.
    pub fn recipient_refused(&mut self) {
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

    /// What became of the message, for the journal.
    pub fn settled(&mut self, now: Instant, how: &str, reply: Option<&str>) {
        self.policy.settled(now, how, reply.unwrap_or_default());
    }

    /// The transaction is over.
    pub fn reset(&mut self) {
        self.policy.reset();
    }

    fn answer(&self, stage: &str, decision: Decision) -> Answer {
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

    fn log<G>(&self, stage: &str, decision: &Decision<G>) {
        let (session, rule) = (self.id, self.policy.rule_name(decision.rule));
        let (verdict, reason) = (decision.verdict.word(), &*decision.reason);
        match decision.verdict.reply() {
            Some(reply) => {
                tracing::info!(target: "decision", %session, stage, verdict, rule, reason, %reply, client = %self.client.ip(), "refused");
            }
            None => tracing::debug!(target: "decision", %session, stage, verdict, rule, reason, "passed"),
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
    if let Some(journal) = &shared.journal {
        session.record(&journal.run, peer.session);
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
