//! One recorded session played on the engine: every event as far as the session would have come.
//!
//! What the policy refuses now though it passed then ends what the client could still do: the recipient, the transaction,
//! the greeting or the connection. What it lets pass now though it was refused then goes on as recorded; what the client
//! would have done next nobody knows. How it fails: it does not.

use super::Visitor;
use super::compare::Seen;
use crate::base::time::{Instant, WallTime};
use crate::policy::decision::Decision;
use crate::policy::journal::{Event, Head, Headers, Said, Tls, What, section, withheld};
use crate::policy::limits::Limits;
use crate::policy::memory::Prior;
use crate::policy::recording::said;
use crate::policy::rules::Policy;
use crate::policy::session::{Authentication, Session};
use crate::policy::state::{ClientFacts, TlsFacts};
use crate::policy::tune::{Demand, Ledger};
use crate::policy::value::Given;
use parking_lot::Mutex;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How far the session still comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Closed {
    /// As recorded.
    Nothing,
    /// The next event, which belongs to a recipient that was refused before.
    Recipient,
    /// Until the next MAIL.
    Transaction,
    /// Until the next HELO that passes.
    Greeting,
    /// For good.
    Connection,
}

/// What the visitor must know, and what the playing needs.
pub(in crate::policy) struct Live {
    session: Session,
    opened: Instant,
    at_ms: u64,
    name: String,
    client: IpAddr,
    helo: String,
    sender: String,
    rcpt: String,
    message_id: String,
    closed: Closed,
    /// Stage and rule that closed it.
    stopped_by: (&'static str, String),
    /// Recipients that passed then and now.
    passed: (u64, u64),
    /// The recipient decided last does not pass any more.
    last_refused: bool,
    /// The header section of the message, as far as it was kept.
    section: Vec<u8>,
    /// Stages of the trace that the visitor has heard of, when it hears of them.
    explained: Option<usize>,
}

/// Buffers of a session that is over, empty.
#[derive(Default)]
pub(in crate::policy) struct Spare {
    state: [String; 5],
    texts: [String; 6],
    section: Vec<u8>,
    listener: Option<Arc<str>>,
}

impl Live {
    /// A session that begins as the line says; buffers of one that is over are used again.
    pub(in crate::policy) fn new(head: &Head<'_>, policy: &Arc<Policy>, limits: &Arc<Limits>, spare: Spare) -> Live {
        let opened = Instant::from_nanos(head.start_ns);
        let listener = spare.listener.filter(|known| **known == *head.listener);
        let client = ClientFacts {
            client: SocketAddr::new(head.client, head.port),
            listener: listener.unwrap_or_else(|| (&*head.listener).into()),
            tls: head.tls.as_ref().map(tls),
        };
        let wall = WallTime::from_millis(head.at_ms);
        let mut session = Session::new(policy.clone(), limits.clone(), client, opened, wall);
        session.load = head.loads;
        session.state.give_buffers(spare.state);
        for name in &head.missing {
            session.state.missing.add(name);
        }
        session.state.missing.miss_unasked(); // until the line tells it
        if head.hashed {
            session.state.missing.mask_persons();
        }
        let [mut name, helo, sender, rcpt, message_id, stopped_by] = spare.texts;
        name.push_str(&head.session);
        Live {
            session,
            opened,
            at_ms: head.at_ms,
            name,
            client: head.client,
            helo,
            sender,
            rcpt,
            message_id,
            closed: Closed::Nothing,
            stopped_by: ("", stopped_by),
            passed: (0, 0),
            last_refused: false,
            section: spare.section,
            explained: None,
        }
    }

    /// The connection is closed: what the session held comes back, its buffers are for another one.
    pub(super) fn over(mut self) -> Spare {
        let mut texts = [self.name, self.helo, self.sender, self.rcpt, self.message_id, self.stopped_by.1];
        texts.iter_mut().for_each(String::clear);
        self.section.clear();
        Spare {
            state: self.session.state.take_buffers(),
            texts,
            section: self.section,
            listener: Some(self.session.state.peer.facts.listener.clone()),
        }
    }

    /// The session's id.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn gather_demand(&mut self, ledger: &Arc<Mutex<Ledger>>) {
        self.session.demand = Some(Box::new(Demand::new(ledger.clone())));
    }

    /// Tells the visitor how decisions come about.
    pub(super) fn explain(&mut self) {
        self.session.explain();
        self.explained = Some(0);
    }

    /// Plays an event.
    pub(in crate::policy) fn play(&mut self, event: &Event<'_>, visitor: &mut impl Visitor) {
        let prior = event.said.as_ref().map_or("", |said| &said.prior);
        if !prior.is_empty() {
            self.session.state.priors = prior.lines().filter_map(Prior::parse).collect();
        }
        self.play_known(event, visitor);
        self.session.state.priors.clear();
    }

    fn play_known(&mut self, event: &Event<'_>, visitor: &mut impl Visitor) {
        let now = self.opened + Duration::from_nanos(event.after_ns);
        self.follow(&event.what);
        if !self.reaches(&event.what) {
            return self.missed(event, visitor);
        }
        match &event.what {
            What::Fact { name, value } => self.fact(name, value.as_ref().map_or(Given::Unknown, |v| v.given())),
            What::Tls(facts) => self.session.tls_started(tls(facts)),
            What::Reset => self.session.reset(),
            What::Refused => {
                self.passed = (self.passed.0.saturating_sub(1), self.passed.1.saturating_sub(1));
                self.session.recipient_refused();
            }
            What::Shadow { .. } => {}
            What::Settled { how, reply } => {
                self.session.learn_settled(how, reply);
                if let (true, Some(demand)) = (is_taken(how), &mut self.session.demand) {
                    demand.taken();
                }
                let passed = Said::passed_by_default();
                visitor.settled(&self.seen(event, &passed, Some(&passed), None), how);
            }
            What::Connect { early_talker, load } => {
                self.session.set_load(*load);
                let d = self.session.connect(now, *early_talker);
                self.heard(event, &d, visitor);
            }
            What::Helo { name, extended } => {
                let d = self.session.helo(now, name, *extended);
                self.heard(event, &d, visitor);
            }
            What::Auth { user } => {
                let outcome = user.as_deref().map_or(Authentication::Failed, Authentication::Succeeded);
                let d = self.session.auth(now, outcome);
                self.heard(event, &d, visitor);
            }
            What::Mail { .. } => {
                let d = self.session.replay_mail(now, &event.what);
                self.heard(event, &d, visitor);
            }
            What::Probe { to } => self.probe(now, event, to, visitor),
            What::Rcpt { to, exists } => {
                let d = self.session.replay_rcpt(now, to, *exists);
                self.heard(event, &d, visitor);
            }
            What::Data(headers) => {
                let d = self.data(now, headers);
                self.heard(event, &d, visitor);
            }
            What::Message(shape) => {
                let kept = std::mem::take(&mut self.section);
                let d = self.session.message(now, shape, &kept);
                self.section = kept;
                self.heard(event, &d, visitor);
            }
            What::Vrfy { argument } => {
                let d = self.session.vrfy(now, argument);
                self.heard(event, &d, visitor);
            }
        }
    }

    /// Keeps what reports say about the session.
    fn follow(&mut self, what: &What<'_>) {
        let put = |text: &mut String, value: &str| {
            text.clear();
            text.push_str(value);
        };
        match what {
            What::Helo { name, .. } => put(&mut self.helo, name),
            What::Mail { sender, .. } => {
                put(&mut self.sender, sender);
                self.rcpt.clear();
                self.message_id.clear();
                self.passed = (0, 0);
            }
            What::Data(headers) => {
                let id =
                    headers.fields.iter().find(|(name, _)| name == "message-id").and_then(|(_, text)| text.as_deref());
                put(&mut self.message_id, id.unwrap_or_default());
            }
            What::Probe { to } | What::Rcpt { to, .. } => put(&mut self.rcpt, to),
            _ => {}
        }
    }

    /// Whether the session still comes as far as this event.
    fn reaches(&mut self, what: &What<'_>) -> bool {
        match (self.closed, what) {
            (Closed::Connection, _) => false,
            (_, What::Helo { .. }) => self.open(),
            (_, What::Fact { .. } | What::Tls(_) | What::Connect { .. }) => true,
            (Closed::Greeting, _) => false,
            (_, What::Mail { .. } | What::Reset) => self.open(),
            (_, What::Auth { .. } | What::Vrfy { .. }) => true,
            (Closed::Transaction, _) => false,
            (Closed::Recipient, What::Rcpt { .. }) => {
                self.closed = Closed::Nothing;
                self.last_refused = true;
                false
            }
            (_, What::Refused) if self.last_refused => false,
            // Recipients passed then and none does now: there is no message.
            (_, What::Data(_)) if self.passed.0 > 0 && self.passed.1 == 0 => {
                self.closed = Closed::Transaction;
                false
            }
            _ => true,
        }
    }

    fn open(&mut self) -> bool {
        self.closed = Closed::Nothing;
        self.last_refused = false;
        true
    }

    /// An event that the session does not come to any more.
    fn missed(&mut self, event: &Event<'_>, visitor: &mut impl Visitor) {
        let default = Said::passed_by_default();
        let old = event.said.as_ref().unwrap_or(&default);
        if matches!(event.what, What::Rcpt { .. }) && old.passes() {
            self.passed.0 += 1;
        }
        if matches!(event.what, What::Refused) {
            self.passed.0 = self.passed.0.saturating_sub(1);
        }
        match &event.what {
            What::Settled { how, .. } => visitor.settled(&self.seen(event, old, None, None), how),
            what if what.is_asked() => {
                visitor.decision(&self.seen(event, old, None, None));
                self.tell_trace(event, old, None, None, visitor);
            }
            _ => {}
        }
    }

    /// Tells what was judged since it was told last.
    fn tell_trace(
        &mut self,
        event: &Event<'_>,
        old: &Said<'_>,
        new: Option<&Said<'_>>,
        doubt: Option<(&str, &str)>,
        visitor: &mut impl Visitor,
    ) {
        let Some(heard) = self.explained else { return };
        let stages = self.session.trace().map_or(&[][..], |trace| &trace.stages);
        visitor.explained(&self.seen(event, old, new, doubt), stages.get(heard..).unwrap_or_default());
        self.explained = Some(stages.len());
    }

    fn fact(&mut self, name: &str, value: Given) {
        self.session.state.missing.remove(name);
        // A fact that this version does not have or that has another type now: then no rule asks for it.
        let _ = self.session.set_fact(name, value);
    }

    /// The policy is asked before the recipient is looked up. What it lets pass now, though it refused it then, was never
    /// looked up: whether it exists is not known.
    fn probe(&mut self, now: Instant, event: &Event<'_>, to: &str, visitor: &mut impl Visitor) {
        let then_passed = event.said.as_ref().is_none_or(Said::passes);
        match (self.session.replay_probe(now, to), then_passed) {
            (Some(d), _) => {
                self.heard(event, &d, visitor);
                if then_passed {
                    self.closed = Closed::Recipient.max(self.closed);
                }
            }
            (None, true) => {
                self.session.state.missing.settle();
                let passed = Said::passed_by_default();
                visitor.decision(&self.seen(event, &passed, Some(&passed), None));
                self.tell_trace(event, &passed, Some(&passed), None, visitor);
            }
            (None, false) => {
                self.session.state.missing.add("rcpt.exists");
                let d = self.session.replay_rcpt(now, to, None);
                self.heard(event, &d, visitor);
                self.session.state.missing.remove("rcpt.exists");
            }
        }
    }

    fn data(&mut self, now: Instant, headers: &Headers<'_>) -> Decision {
        self.session.state.missing.headers(withheld(headers), headers.cut);
        let mut kept = std::mem::take(&mut self.section);
        section(headers, &mut kept);
        let d = self.session.replay_data(now, headers, &kept);
        self.section = kept;
        d
    }

    /// A decision was made: it is told, and what it means for the rest of the session is kept.
    fn heard<G>(&mut self, event: &Event<'_>, decision: &Decision<G>, visitor: &mut impl Visitor) {
        let policy = self.session.policy().clone();
        let new = said(&policy, decision).unwrap_or_else(Said::passed_by_default);
        let default = Said::passed_by_default();
        let old = event.said.as_ref().unwrap_or(&default);
        let doubt = self.session.state.missing.take_doubt().map(|doubt| {
            let rule = policy.rules().get(doubt.rule as usize).map_or("default", |r| &*r.name);
            (rule, doubt.word())
        });
        if let Some(demand) = &mut self.session.demand {
            demand.decided(self.opened + Duration::from_nanos(event.after_ns), new.passes(), old.passes());
        }
        visitor.decision(&self.seen(event, old, Some(&new), doubt));
        self.tell_trace(event, old, Some(&new), doubt, visitor);
        self.go_on(&event.what, old, &new);
    }

    fn go_on(&mut self, what: &What<'_>, old: &Said<'_>, new: &Said<'_>) {
        let lost = old.passes() && !new.passes();
        if let What::Rcpt { .. } | What::Probe { .. } = what {
            let counts = matches!(what, What::Rcpt { .. }) || !old.passes();
            self.passed.0 += u64::from(counts && old.passes());
            self.passed.1 += u64::from(counts && new.passes());
            self.last_refused = !new.passes();
        }
        if !lost {
            return;
        }
        let level = match what {
            _ if new.verdict == "drop" || new.reply.starts_with("421") => Closed::Connection,
            What::Connect { .. } => Closed::Connection,
            What::Helo { .. } => Closed::Greeting,
            What::Mail { .. } | What::Data(_) | What::Message(_) => Closed::Transaction,
            _ => Closed::Nothing,
        };
        self.closed = self.closed.max(level);
        self.stopped_by.0 = what.word();
        self.stopped_by.1.clear();
        self.stopped_by.1.push_str(&new.rule);
    }

    fn seen<'a>(
        &'a self,
        event: &Event<'_>,
        old: &'a Said<'a>,
        new: Option<&'a Said<'a>>,
        doubt: Option<(&'a str, &'a str)>,
    ) -> Seen<'a> {
        Seen {
            at_ms: self.at_ms.saturating_add(event.after_ns / 1_000_000),
            session: &self.name,
            client: self.client,
            helo: &self.helo,
            sender: &self.sender,
            rcpt: &self.rcpt,
            message_id: &self.message_id,
            stage: event.what.word(),
            old,
            new,
            stopped_by: new.is_none().then_some((self.stopped_by.0, &*self.stopped_by.1)),
            doubt,
        }
    }
}

/// Whether a settlement means that the message was wanted: the backend or the queue took it.
pub(super) fn is_taken(how: &str) -> bool {
    matches!(how, "delivered" | "queued" | "per recipient")
}

fn tls(facts: &Tls<'_>) -> TlsFacts {
    TlsFacts {
        version: facts.version.to_string(),
        cipher: facts.cipher.to_string(),
        client_name: facts.client_name.to_string(),
    }
}
