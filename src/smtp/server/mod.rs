//! The server machine of SMTP, submission and LMTP: one [`Server`] per connection, no socket, no clock.
//!
//! ```text
//! handle_bytes ─▶ frame ─▶ cmd: check ─▶ Ask ─▶ (caller) ─▶ handle_answer ─▶ cmd: proceed ─▶ replies
//! ```
//! While an ask is open no input is consumed: the caller keeps what is left and, after each answer, time-out and flushed
//! output, shows it again by `handle_bytes` (also when it is empty). Replies to commands whose asks are answered in the
//! same turn leave together. After each call the caller sends what `poll_transmit` gives, then looks at `poll_ask`.
//!
//! How it fails: what a client does wrong is answered from [`crate::wire::replies`], counted, and ends the session by 421
//! beyond the limits of [`SmtpKnobs`]; an answer that does not fit its ask is 451 and a debug assertion.

mod ask;
mod config;
mod intake;
mod read;
mod settle;
mod state;
#[cfg(test)]
mod tests;
mod verdict;

pub use ask::{Answer, Ask, HeloName, Kept, Message, MessageText, Settled};
pub use config::{SASL_LINE_OCTETS_MAX, ServerConfig, Service, SmtpKnobs, TlsOffer};
pub use state::{Counters, Greeting, Peer, PeerRights, XclientFacts};

pub(in crate::smtp) use config::REPLIES_OCTETS_HIGH;
pub(in crate::smtp) use intake::Intake;
pub(in crate::smtp) use settle::{recipient_granted, repeat, settle};
pub(in crate::smtp) use state::{Chunks, Held, OpenChunk, Pending, Skip, State, Then, Transaction};
pub(in crate::smtp) use verdict::{Refusal, Verdict, misfit};

use crate::base::address::ReversePath;
use crate::base::buf::{Input, Output};
use crate::base::envelope::{Protocol, Recipient};
use crate::base::time::{Instant, WallTime};
use crate::base::tls::TlsFacts;
use crate::smtp::cmd;
use crate::wire::replies;
use crate::wire::reply::Reply;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// One session.
#[derive(Debug)]
pub struct Server {
    pub(in crate::smtp) config: Arc<ServerConfig>,
    pub(in crate::smtp) peer: Peer,
    pub(in crate::smtp) login: Option<String>,
    pub(in crate::smtp) greeting: Option<Greeting>,
    pub(in crate::smtp) transaction: Option<Box<Transaction>>,
    pub(in crate::smtp) counters: Counters,
    pub(in crate::smtp) state: State,
    pub(in crate::smtp) standing: Standing,
    leaving: Leaving,
    started: Instant,
    /// When the client must have moved on.
    deadline: Instant,
    /// When it must have, however busy it looks.
    deadline_final: Instant,
    asks: VecDeque<Ask>,
    replies: Vec<u8>,
}

/// Whether the greeting was positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::smtp) enum Standing {
    /// It was, or is not spoken yet.
    Welcome,
    /// It was 554: only QUIT is served (RFC 5321 §3.1).
    TurnedAway,
}

/// Why the session should end at the next chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// The client will send nothing more.
    Eof,
    /// We are shutting down.
    Shutdown,
}

/// Whether looking at the input again makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::smtp) enum Flow {
    /// Something was done.
    Again,
    /// More octets are needed.
    Wait,
}

impl Server {
    /// A session with a client that has just connected (for implicit TLS: finished its handshake).
    pub fn new(config: Arc<ServerConfig>, peer: Peer, now: Instant) -> Server {
        let mut server = Server {
            config,
            peer,
            login: None,
            greeting: None,
            transaction: None,
            counters: Counters::default(),
            state: State::Closed,
            standing: Standing::Welcome,
            leaving: Leaving::No,
            started: now,
            deadline: Instant::FAR,
            deadline_final: Instant::FAR,
            asks: VecDeque::new(),
            replies: Vec::new(),
        };
        if server.peer.rights.proxy {
            server.enter(State::Proxy, now);
        } else {
            server.begin_greeting(now);
        }
        server
    }

    // --- what happened ---

    /// The client sent octets. Takes what it can; the caller keeps the rest.
    pub fn handle_bytes(&mut self, now: Instant, input: &mut Input<'_>) {
        while self.wants_input() && !input.is_empty() {
            if self.advance(now, input) == Flow::Wait {
                break;
            }
        }
        if let State::Closed | State::StartTls = self.state {
            // RFC 3207 §5: what was sent in clear behind STARTTLS must not be taken for what comes after it.
            input.consume(input.rest().len());
        }
        self.leave_after_eof();
    }

    /// The client will send nothing more. What it still waits for is answered.
    pub fn handle_eof(&mut self, _now: Instant) {
        self.leaving = Leaving::Eof;
        self.leave_after_eof();
    }

    /// The open ask is answered.
    pub fn handle_answer(&mut self, now: Instant, answer: Answer) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Asked(pending) => cmd::proceed(self, now, pending, answer),
            other => {
                debug_assert!(matches!(other, State::Closed), "an answer, but no ask is open: {answer:?}");
                self.state = other;
            }
        }
    }

    /// The time of [`Server::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Held(held) => self.speak(now, held.replies, held.then),
            State::Greet => self.ask(Ask::Connect { early_talker: false }, Pending::Connect),
            // Nobody who understands SMTP has spoken yet.
            State::Proxy | State::StartTls => self.close(),
            _ => self.dismiss(&replies::timed_out()),
        }
    }

    /// The rights of the client behind a PROXY header or XCLIENT, which has none until they are given: for a caller that
    /// is asked [`Ask::Connect`] and sees another address in [`Server::peer`].
    pub fn entitle(&mut self, rights: PeerRights) {
        self.peer.rights = rights;
    }

    /// TLS is in force after [`Ask::StartTls`].
    pub fn tls_started(&mut self, now: Instant, facts: TlsFacts) {
        debug_assert!(matches!(self.state, State::StartTls));
        if let State::StartTls = self.state {
            self.peer.tls = Some(facts);
            self.enter(State::Command, now);
        }
    }

    /// The service ends: 421 at the next command boundary (RFC 5321 §3.8).
    pub fn shutdown(&mut self, _now: Instant) {
        self.leaving = Leaving::Shutdown;
        match self.state {
            State::Proxy | State::StartTls => self.close(),
            State::Greet | State::Command | State::SkipLine { .. } | State::Sasl(_) => {
                self.dismiss(&replies::shutting_down());
            }
            _ => {}
        }
    }

    // --- what to do ---

    /// The next question or instruction.
    pub fn poll_ask(&mut self) -> Option<Ask> {
        self.asks.pop_front()
    }

    /// Moves replies to the wire.
    pub fn poll_transmit(&mut self, out: &mut Output) {
        if !self.replies.is_empty() && !out.is_full() {
            out.extend(&self.replies);
            self.replies = Vec::new();
        }
    }

    /// When [`Server::handle_timeout`] is due. None while an ask is open: how long that may take is the caller's care.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Asked(_) | State::Closed => None,
            State::Held(held) => Some(held.until),
            _ => Some(self.deadline.min(self.deadline_final)),
        }
    }

    /// Whether octets of the client would be taken now. When not, the caller stops receiving.
    pub fn wants_input(&self) -> bool {
        !matches!(self.state, State::Asked(_) | State::Held(_) | State::StartTls | State::Closed)
            && self.replies.len() < REPLIES_OCTETS_HIGH
    }

    // --- what is known ---

    /// The client.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
    /// The last hello.
    pub fn greeting(&self) -> Option<&Greeting> {
        self.greeting.as_ref()
    }
    /// Who has logged in.
    pub fn user(&self) -> Option<&str> {
        self.login.as_deref()
    }
    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }
    /// The open transaction: its sender, and its recipients accepted so far.
    pub fn transaction(&self) -> Option<(&ReversePath, &[Recipient])> {
        self.transaction.as_ref().map(|t| (&t.sender, &*t.recipients))
    }
    /// Whether a transaction is open.
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }
    /// Octets of memory that message text takes up.
    pub fn memory_octets(&self) -> usize {
        let open = match &self.state {
            State::Data(i) | State::Asked(Pending::SpillData(i) | Pending::SpillEnd(i)) => i.memory_octets(),
            State::Chunk(c) | State::Asked(Pending::SpillChunk(c)) => c.intake.memory_octets(),
            _ => 0,
        };
        let between = match self.transaction.as_ref().map(|t| &t.chunks) {
            Some(Chunks::Open(i)) => i.memory_octets(),
            _ => 0,
        };
        open + between + self.replies.capacity()
    }
    /// The `with` word of a message received now (RFC 3848).
    pub fn protocol(&self) -> Protocol {
        Protocol {
            lmtp: self.config.service == Service::Lmtp,
            extended: self.is_extended(),
            tls: self.peer.tls.is_some(),
            authenticated: self.login.is_some(),
            utf8: self.transaction.as_ref().is_some_and(|t| t.parameters.smtputf8),
        }
    }
}

/// For the commands.
impl Server {
    pub(in crate::smtp) fn is_extended(&self) -> bool {
        self.greeting.as_ref().is_some_and(|g| g.extended)
    }

    pub(in crate::smtp) fn wall_time(&self, now: Instant) -> WallTime {
        self.peer.connected + (now - self.started)
    }

    /// Asks, and stops reading until the answer.
    pub(in crate::smtp) fn ask(&mut self, ask: Ask, pending: Pending) {
        self.asks.push_back(ask);
        self.state = State::Asked(pending);
    }

    /// One reply, then the next command.
    pub(in crate::smtp) fn respond(&mut self, now: Instant, reply: Reply) {
        self.speak(now, vec![reply], Then::Command);
    }

    /// Replies, at once or later, and what follows them.
    pub(in crate::smtp) fn respond_after(&mut self, now: Instant, after: Duration, replies: Vec<Reply>, then: Then) {
        if after.is_zero() {
            self.speak(now, replies, then);
        } else {
            self.state = State::Held(Box::new(Held { until: now + after, replies, then }));
        }
    }

    /// A refusal of the policy.
    pub(in crate::smtp) fn refuse(&mut self, now: Instant, refusal: Refusal) {
        let then = if refusal.close { Then::Close } else { Then::Command };
        self.respond_after(now, refusal.after, vec![refusal.reply], then);
    }

    fn speak(&mut self, now: Instant, replies: Vec<Reply>, then: Then) {
        // RFC 5321 §3.8: 421 says that the connection ends.
        let ends = replies.iter().any(|r| r.code == 421);
        // One command is one error, however many recipients hear of it. "Not now" is none while others of the same
        // message are accepted: a long list with a few unlucky recipients must get through.
        let has_recipients = self.transaction.as_ref().is_some_and(|t| !t.recipients.is_empty());
        if replies.iter().any(|r| r.is_permanent() || r.is_transient() && !has_recipients) {
            self.counters.errors += 1;
            self.counters.errors_without_mail += 1;
        }
        replies.iter().for_each(|r| self.say(r));
        match then {
            _ if ends => self.close(),
            Then::Close => self.close(),
            _ if self.counters.errors_without_mail > self.config.knobs.errors_max => {
                self.dismiss(&replies::too_many_errors())
            }
            Then::Data(intake) => self.enter(State::Data(intake), now),
            Then::Sasl(exchange) => self.enter(State::Sasl(exchange), now),
            Then::Command if self.leaving == Leaving::Shutdown => self.dismiss(&replies::shutting_down()),
            Then::Command => self.enter(State::Command, now),
        }
    }

    fn say(&mut self, reply: &Reply) {
        // RFC 2034 §4: enhanced codes for those who said EHLO.
        reply.emit(self.is_extended(), &mut self.replies);
    }

    /// Waits for what `state` says, with its time-outs.
    pub(in crate::smtp) fn enter(&mut self, state: State, now: Instant) {
        let k = &self.config.knobs;
        (self.deadline, self.deadline_final) = match &state {
            State::Proxy => (now + k.proxy_timeout, Instant::FAR),
            State::Greet => (now + k.greet_delay, Instant::FAR),
            State::Data(intake) => (now + k.data_timeout, intake.started + k.message_timeout),
            State::Chunk(chunk) => (now + k.data_timeout, chunk.intake.started + k.message_timeout),
            State::Swallow(_) => (now + k.data_timeout, now + k.message_timeout),
            _ => (now + k.command_timeout, Instant::FAR),
        };
        self.state = state;
    }

    /// Goes on waiting for the same thing; octets of it have come.
    pub(in crate::smtp) fn stay(&mut self, state: State, now: Instant) {
        self.deadline = now + self.config.knobs.data_timeout;
        self.state = state;
    }

    /// Drops the transaction, and with it everything it brought.
    pub(in crate::smtp) fn end_transaction(&mut self) {
        if self.transaction.take().is_some() {
            self.asks.push_back(Ask::Reset);
        }
    }

    /// Says 421 and closes.
    pub(in crate::smtp) fn dismiss(&mut self, reply: &Reply) {
        self.say(reply);
        self.close();
    }

    /// Closes when everything is sent.
    pub(in crate::smtp) fn close(&mut self) {
        self.end_transaction();
        self.state = State::Closed;
        self.asks.push_back(Ask::Close);
    }

    /// Drops everything learnt before TLS (RFC 3207 §4.2).
    pub(in crate::smtp) fn start_tls(&mut self, now: Instant, reply: &Reply) {
        self.say(reply);
        self.forget_client();
        self.enter(State::StartTls, now);
        self.asks.push_back(Ask::StartTls);
    }

    /// Forgets what the client said of itself.
    pub(in crate::smtp) fn forget_client(&mut self) {
        self.end_transaction();
        self.greeting = None;
        self.login = None;
    }

    /// The pause before the greeting, or the question whether to greet.
    pub(in crate::smtp) fn begin_greeting(&mut self, now: Instant) {
        if self.config.knobs.greet_delay.is_zero() {
            self.ask(Ask::Connect { early_talker: false }, Pending::Connect);
        } else {
            self.enter(State::Greet, now);
        }
    }
}
