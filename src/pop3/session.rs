//! [`Session`]: the calls of its caller, time, and what the commands need to speak and to ask.
//!
//! How it fails: see [`crate::pop3`].

use super::ask::{Answer, Ask};
use super::cmd;
use super::maildrop::Maildrop;
use super::settings::Pop3Settings;
use super::state::{Counters, Leaving, Pending, Phase, Pop3Peer, State};
use crate::base::buf::{Chain, Input, Output};
use crate::base::mailbox::AccountId;
use crate::base::mailbox::ask::{Change, Query, StoreAsk};
use crate::base::time::{Instant, WallTime};
use crate::base::tls::TlsFacts;
use crate::sasl::apop;
use crate::wire::pop3::replies::{self, Response};
use std::collections::VecDeque;
use std::sync::Arc;

/// Octets of responses that may wait for the wire; beyond them no further command is read.
pub(super) const OUTPUT_OCTETS_HIGH: usize = 16 * 1024;

/// One session.
#[derive(Debug)]
pub struct Session {
    pub(super) settings: Arc<Pop3Settings>,
    pub(super) peer: Pop3Peer,
    pub(super) phase: Phase,
    pub(super) state: State,
    pub(super) counters: Counters,
    /// UTF8 was said (RFC 6856 §2).
    pub(super) utf8: bool,
    /// Who has logged in.
    login: Option<String>,
    /// The timestamp of the greeting, where APOP is offered.
    pub(super) timestamp: Option<Box<str>>,
    pub(super) leaving: Leaving,
    started: Instant,
    /// When the client must have moved on.
    deadline: Instant,
    /// Output was taken since the deadline was set.
    moved: bool,
    asks: VecDeque<Ask>,
    pub(super) out: Chain,
}

impl Session {
    /// A session with a client that has just connected (for implicit TLS: finished its handshake). Greets it.
    pub fn new(settings: Arc<Pop3Settings>, peer: Pop3Peer, now: Instant) -> Session {
        let hostname = settings.hostname.as_str();
        let timestamp = settings.knobs.apop.then(|| apop::timestamp(&peer.nonce_seed, peer.connected, hostname));
        let greeting = replies::greeting(hostname, timestamp.as_deref());
        let mut session = Session {
            timestamp: timestamp.map(Into::into),
            settings,
            peer,
            phase: Phase::Authorization { claim: None },
            state: State::Command,
            counters: Counters::default(),
            utf8: false,
            login: None,
            leaving: Leaving::No,
            started: now,
            deadline: now,
            moved: false,
            asks: VecDeque::new(),
            out: Chain::new(),
        };
        session.respond(now, &greeting);
        session
    }

    // --- what happened ---

    /// The client sent octets. Takes what it can; the caller keeps the rest.
    pub fn handle_bytes(&mut self, now: Instant, input: &mut Input<'_>) {
        while self.wants_input() && !input.is_empty() {
            if !self.advance(now, input) {
                break;
            }
        }
        if let State::Closed | State::StartTls = self.state {
            // What was sent in clear behind STLS must not be taken for what comes after it (RFC 2595 §4).
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
            State::Asked(pending) => {
                self.touch(now);
                cmd::proceed(self, now, pending, answer);
            }
            other => {
                debug_assert!(matches!(other, State::Closed), "an answer, but no ask is open: {answer:?}");
                self.state = other;
            }
        }
    }

    /// The time of [`Session::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        if self.moved && matches!(self.state, State::Listing(_) | State::Text(_)) {
            return self.touch(now); // a slow reader is no silent one
        }
        // RFC 1939 §3: closed without UPDATE and without a word.
        self.close();
    }

    /// TLS is in force after [`Ask::StartTls`].
    pub fn tls_started(&mut self, now: Instant, facts: TlsFacts) {
        debug_assert!(matches!(self.state, State::StartTls));
        if let State::StartTls = self.state {
            self.peer.tls = Some(facts);
            self.await_command(now);
        }
    }

    /// The service ends: `-ERR` at the next command boundary. Nothing is deleted.
    pub fn shutdown(&mut self, _now: Instant) {
        self.leaving = Leaving::Shutdown;
        match self.state {
            State::StartTls => self.close(),
            State::Command | State::SkipLine | State::Sasl(_) => self.dismiss(&replies::shutting_down()),
            _ => {}
        }
    }

    // --- what to do ---

    /// The next question or instruction.
    pub fn poll_ask(&mut self) -> Option<Ask> {
        self.asks.pop_front()
    }

    /// Moves responses to the wire, and goes on with a long one as far as there is room.
    pub fn poll_transmit(&mut self, out: &mut Output) {
        while !out.is_full() {
            if !self.out.is_empty() {
                self.moved = true;
                out.append(std::mem::take(&mut self.out));
            } else if !self.send_more() {
                break;
            }
        }
    }

    /// When [`Session::handle_timeout`] is due. None while an ask is open: how long that may take is the caller's care.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match (&self.state, &self.phase) {
            (State::Asked(_) | State::Closed, _) => None,
            (_, Phase::Authorization { .. }) => Some(self.started + self.settings.knobs.login_timeout),
            (_, Phase::Transaction(_)) => Some(self.deadline),
        }
    }

    /// Whether octets of the client would be taken now. When not, the caller stops receiving.
    pub fn wants_input(&self) -> bool {
        matches!(self.state, State::Command | State::SkipLine | State::Sasl(_))
            && self.out.octets() < OUTPUT_OCTETS_HIGH
    }

    // --- what is known ---

    /// The client.
    pub fn peer(&self) -> &Pop3Peer {
        &self.peer
    }
    /// Who has logged in.
    pub fn user(&self) -> Option<&str> {
        self.login.as_deref()
    }
    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}

/// For the commands.
impl Session {
    pub(super) fn wall_time(&self, now: Instant) -> WallTime {
        self.peer.connected + (now - self.started)
    }

    /// Whether passwords may be sent.
    pub(super) fn is_protected(&self) -> bool {
        self.peer.protected || self.peer.tls.is_some()
    }

    /// The maildrop, in the TRANSACTION state.
    pub(super) fn maildrop(&mut self) -> Option<&mut Maildrop> {
        match &mut self.phase {
            Phase::Authorization { .. } => None,
            Phase::Transaction(maildrop) => Some(maildrop),
        }
    }

    /// Enters the TRANSACTION state (RFC 1939 §5).
    pub(super) fn begin_transaction(&mut self, now: Instant, user: String, maildrop: Box<Maildrop>) {
        self.login = Some(user);
        let response = replies::maildrop(maildrop.count(), maildrop.total());
        self.phase = Phase::Transaction(maildrop);
        self.respond(now, &response);
    }

    /// Asks, and stops reading until the answer.
    pub(super) fn ask(&mut self, ask: Ask, pending: Pending) {
        self.asks.push_back(ask);
        self.state = State::Asked(pending);
    }

    pub(super) fn ask_query(&mut self, account: AccountId, query: Query, pending: Pending) {
        self.ask(Ask::Store(StoreAsk::Query(account, query)), pending);
    }

    pub(super) fn ask_change(&mut self, account: AccountId, change: Change, pending: Pending) {
        self.ask(Ask::Store(StoreAsk::Change(account, change)), pending);
    }

    /// An ask that needs no answer.
    pub(super) fn instruct(&mut self, ask: Ask) {
        self.asks.push_back(ask);
    }

    /// A status line alone.
    pub(super) fn say(&mut self, response: &Response) {
        let mut line = Vec::with_capacity(64);
        response.emit(&mut line);
        self.out.push_bytes(&line);
    }

    /// A status line, then the next command.
    pub(super) fn respond(&mut self, now: Instant, response: &Response) {
        self.say(response);
        self.await_command(now);
    }

    /// A status line to something malformed, unknown or misplaced.
    pub(super) fn refuse(&mut self, now: Instant, response: &Response) {
        self.counters.errors += 1;
        if self.counters.errors > self.settings.knobs.errors_max {
            return self.dismiss(&replies::too_many_errors());
        }
        self.respond(now, response);
    }

    /// The end of a command.
    pub(super) fn await_command(&mut self, now: Instant) {
        self.enter(now, State::Command);
        if self.leaving == Leaving::Shutdown {
            self.dismiss(&replies::shutting_down());
        }
    }

    pub(super) fn enter(&mut self, now: Instant, state: State) {
        self.touch(now);
        self.state = state;
    }

    /// The client has been heard, or has been answered.
    pub(super) fn touch(&mut self, now: Instant) {
        self.moved = false;
        self.deadline = now + self.settings.knobs.timeout;
    }

    /// A last word, then the end.
    pub(super) fn dismiss(&mut self, response: &Response) {
        self.say(response);
        self.close();
    }

    /// Closes when everything is sent.
    pub(super) fn close(&mut self) {
        self.state = State::Closed;
        self.asks.push_back(Ask::Close);
    }

    /// After the end of the input nothing that waits for the client can go on. Responses are still sent.
    fn leave_after_eof(&mut self) {
        if self.leaving == Leaving::Eof && self.wants_input() {
            self.close();
        }
    }

    /// The answer is to another question than the one that was asked: a fault of the caller.
    pub(super) fn misfit(&mut self, now: Instant, answer: &Answer) {
        debug_assert!(false, "the answer does not fit the ask: {answer:?}");
        self.respond(now, &replies::local_error());
    }
}
