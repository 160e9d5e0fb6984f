//! [`Session`]: state and dispatch of one connection.
//!
//! While an ask is open, or while what was said waits for a slow reader, no input is consumed: the caller keeps what is
//! left and, after each answer, time-out and flushed output, shows it again by `handle_bytes` (also when it is empty).
//! After each call the caller sends what `poll_transmit` gives, then looks at `poll_ask`. How it fails: see
//! [`crate::imap`].

mod finish;
mod read;
mod update;

pub(in crate::imap) use finish::{Ending, Updates};
pub(in crate::imap) use read::{Taken, take_line};

use super::ask::{Answer, Ask};
use super::config::{ImapPeer, ImapSettings, LOGIN_LITERAL_OCTETS_MAX, OUTPUT_OCTETS_HIGH};
use super::out::Outbox;
use super::state::{Counters, Enabled, Mailbox, Phase, State};
use super::upload::Upload;
use super::{cmd, ext};
use crate::base::buf::{Input, Output};
use crate::base::mailbox::ask::{Change, Query, Reply, StoreAsk, StoreError};
use crate::base::mailbox::{AccountId, MailboxId};
use crate::base::time::{Instant, WallTime};
use crate::base::tls::TlsFacts;
use crate::wire::imap::{FrameLimits, Framer, Mode};
use std::collections::VecDeque;
use std::sync::Arc;

/// One session.
#[derive(Debug)]
pub struct Session {
    pub(in crate::imap) settings: Arc<ImapSettings>,
    pub(in crate::imap) peer: Box<ImapPeer>,
    pub(in crate::imap) user: Option<Box<str>>,
    pub(in crate::imap) client_id: Option<Box<str>>,
    pub(in crate::imap) state: State,
    pub(in crate::imap) enabled: Enabled,
    pub(in crate::imap) counters: Counters,
    pub(in crate::imap) phase: Phase,
    pub(in crate::imap) out: Outbox,
    pub(in crate::imap) upload: Option<Box<Upload>>,
    framer: Framer,
    asks: VecDeque<Ask>,
    leaving: Leaving,
    started: Instant,
    now: Instant,
    /// When the client last sent or took anything.
    moved: Instant,
    /// It has taken something since, at a time that was not told.
    moved_since: bool,
    /// News waits for a client in IDLE to take what it was told before.
    behind: bool,
}

/// Why the session should end at the next chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// The client has ended its side.
    Eof,
    /// The service ends.
    Shutdown,
}

/// Whether more can be done with what has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::imap) enum Flow {
    Again,
    Wait,
}

impl Session {
    /// A session with a client that has just connected; greets it.
    pub fn new(settings: Arc<ImapSettings>, peer: ImapPeer, now: Instant) -> Session {
        let limits = FrameLimits { literal_octets_max: LOGIN_LITERAL_OCTETS_MAX, ..FrameLimits::default() };
        let mut session = Session {
            settings,
            peer: Box::new(peer),
            user: None,
            client_id: None,
            state: State::NotAuthenticated,
            enabled: Enabled::default(),
            counters: Counters::default(),
            phase: Phase::Command,
            out: Outbox::default(),
            upload: None,
            framer: Framer::new(limits),
            asks: VecDeque::new(),
            leaving: Leaving::No,
            started: now,
            now,
            moved: now,
            moved_since: false,
            behind: false,
        };
        // RFC 9051 §7.1.5: the greeting; CAPABILITY in it saves the client a round trip.
        let greeting = format!("* OK [{}] {} IMAP ready", ext::capability(&session), session.settings.hostname);
        session.out.line(&greeting);
        session
    }

    // --- what happened ---

    /// The client sent octets. Takes what it can; the caller keeps the rest.
    pub fn handle_bytes(&mut self, now: Instant, input: &mut Input<'_>) {
        self.now = now;
        if !input.is_empty() && self.wants_input() {
            (self.moved, self.moved_since) = (now, false);
        }
        while self.wants_input() && !input.is_empty() {
            if self.advance(input) == Flow::Wait {
                break;
            }
            self.turn();
        }
        if let Phase::Closed | Phase::StartTls = self.phase {
            // RFC 9051 §6.2.1: what was sent in clear behind STARTTLS must not be taken for what comes after it.
            input.consume(input.rest().len());
        }
        self.leave_after_eof();
    }

    /// The open ask is answered.
    pub fn handle_answer(&mut self, now: Instant, answer: Answer) {
        self.now = now;
        match std::mem::replace(&mut self.phase, Phase::Command) {
            Phase::Asked(then) => {
                self.moved = now;
                then(self, answer);
                self.turn();
            }
            other => {
                debug_assert!(matches!(other, Phase::Closed), "an answer, but no ask is open: {answer:?}");
                self.phase = other;
            }
        }
    }

    /// The time of [`Session::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if self.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        if self.moved_since {
            (self.moved, self.moved_since) = (now, false);
        } else if let Phase::Drain(_) = self.phase {
            // Who does not read what was asked for would not read a BYE.
            self.close();
        } else {
            // RFC 9051 §5.4
            self.bye("Autologout; idle for too long");
        }
    }

    /// Something happened to the mailbox that is being watched.
    pub fn handle_notice(&mut self, now: Instant, mailbox: MailboxId) {
        self.now = now;
        self.counters.notices += 1;
        if let State::Selected(_, selected) = &mut self.state
            && selected.id == mailbox
        {
            selected.noticed = true;
            if let Phase::Idle { .. } = self.phase {
                // A client that reads nothing is told when it does.
                self.behind = !self.out.is_empty();
                self.tell_idler();
            }
        }
    }

    /// TLS is in force after [`Ask::StartTls`].
    pub fn tls_started(&mut self, now: Instant, facts: TlsFacts) {
        debug_assert!(matches!(self.phase, Phase::StartTls));
        (self.now, self.moved) = (now, now);
        if let Phase::StartTls = self.phase {
            self.peer.tls = Some(facts);
            self.phase = Phase::Command;
        }
    }

    /// The client will send nothing more. What it still waits for is answered.
    pub fn handle_eof(&mut self, now: Instant) {
        self.now = now;
        self.leaving = Leaving::Eof;
        self.leave_after_eof();
    }

    /// The service ends: BYE when the command in progress is done.
    pub fn shutdown(&mut self, now: Instant) {
        self.now = now;
        self.leaving = Leaving::Shutdown;
        match self.phase {
            Phase::Command | Phase::Sasl { .. } | Phase::Idle { .. } => self.bye("the server is going down"),
            Phase::StartTls | Phase::Deflate => self.close(),
            Phase::Asked(_) | Phase::Drain(_) | Phase::Closed => {}
        }
    }

    // --- what to do ---

    /// The next question or instruction.
    pub fn poll_ask(&mut self) -> Option<Ask> {
        let ask = self.asks.pop_front();
        match ask {
            Some(Ask::StartDeflate) => self.phase = Phase::Command,
            None if self.asks.capacity() > 0 && !matches!(self.phase, Phase::Asked(_)) => self.asks = VecDeque::new(),
            _ => {}
        }
        ask
    }

    /// Moves responses to the wire, up to the high-water mark. The next part of a FETCH is asked for when all of the
    /// former has gone.
    pub fn poll_transmit(&mut self, out: &mut Output) {
        loop {
            let before = self.out.octets();
            self.out.drain(out);
            if self.out.octets() < before {
                self.moved_since = !self.out.is_empty() || matches!(self.phase, Phase::Drain(_));
            }
            if self.out.is_empty() && matches!(self.phase, Phase::Idle { .. }) && std::mem::take(&mut self.behind) {
                self.tell_idler();
            }
            if out.is_full() || !self.out.is_empty() || !matches!(self.phase, Phase::Drain(_)) {
                break;
            }
            self.turn();
        }
        self.out.shrink();
    }

    /// When [`Session::handle_timeout`] is due. None while an ask is open: how long that may take is the caller's care.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let knobs = &self.settings.knobs;
        match self.phase {
            Phase::Asked(_) | Phase::Closed => None,
            _ if matches!(self.state, State::NotAuthenticated) => Some(self.started + knobs.login_timeout),
            _ if !self.out.is_empty() || !self.framer.is_idle() => Some(self.moved + knobs.command_timeout),
            Phase::Drain(_) => Some(self.moved + knobs.command_timeout),
            _ => Some(self.moved + knobs.idle_timeout),
        }
    }

    /// Whether octets of the client would be taken now. When not, the caller stops receiving.
    pub fn wants_input(&self) -> bool {
        matches!(self.phase, Phase::Command | Phase::Sasl { .. } | Phase::Idle { .. })
            && self.out.octets() < OUTPUT_OCTETS_HIGH
    }

    // --- what is known ---

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }
    /// The client.
    pub fn peer(&self) -> &ImapPeer {
        &self.peer
    }
    /// Who has logged in.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }
    /// What the client said of itself by ID (RFC 2971): name and version.
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }
    /// The mailbox that is selected.
    pub fn selected(&self) -> Option<MailboxId> {
        self.mailbox().map(|m| m.id)
    }
    /// Whether the client waits in IDLE.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle { .. })
    }
    /// Octets of memory that messages and responses take up.
    pub fn memory_octets(&self) -> usize {
        self.out.memory_octets() + self.upload.as_ref().map_or(0, |u| u.memory_octets())
    }
}

/// For the commands.
impl Session {
    pub(in crate::imap) fn account(&self) -> Option<AccountId> {
        match self.state {
            State::Authenticated(account) | State::Selected(account, _) => Some(account),
            State::NotAuthenticated | State::Logout => None,
        }
    }

    pub(in crate::imap) fn mailbox(&self) -> Option<&Mailbox> {
        match &self.state {
            State::Selected(_, mailbox) => Some(mailbox),
            _ => None,
        }
    }

    pub(in crate::imap) fn mailbox_mut(&mut self) -> Option<&mut Mailbox> {
        match &mut self.state {
            State::Selected(_, mailbox) => Some(mailbox),
            _ => None,
        }
    }

    /// How mailbox names are written (RFC 9051 §5.1, RFC 6855 §3).
    pub(in crate::imap) fn mode(&self) -> Mode {
        Mode { utf8: self.enabled.utf8 || self.enabled.rev2 }
    }

    pub(in crate::imap) fn wall_time(&self) -> WallTime {
        self.peer.connected + (self.now - self.started)
    }

    /// An instruction that needs no answer.
    pub(in crate::imap) fn instruct(&mut self, ask: Ask) {
        self.asks.push_back(ask);
    }

    /// Asks, and stops reading until the answer.
    pub(in crate::imap) fn ask(&mut self, ask: Ask, then: impl FnOnce(&mut Session, Answer) + Send + 'static) {
        debug_assert!(!matches!(self.phase, Phase::Asked(_)), "an ask is open");
        self.asks.push_back(ask);
        self.phase = Phase::Asked(Box::new(then));
    }

    /// Asks the store something that changes nothing.
    pub(in crate::imap) fn query(
        &mut self,
        query: Query,
        then: impl FnOnce(&mut Session, Result<Reply, StoreError>) + Send + 'static,
    ) {
        match self.account() {
            Some(account) => self.ask_store(StoreAsk::Query(account, query), then),
            None => then(self, Err(StoreError::NoSuchAccount)),
        }
    }

    /// Has the store change something.
    pub(in crate::imap) fn change(
        &mut self,
        change: Change,
        then: impl FnOnce(&mut Session, Result<Reply, StoreError>) + Send + 'static,
    ) {
        match self.account() {
            Some(account) => self.ask_store(StoreAsk::Change(account, change), then),
            None => then(self, Err(StoreError::NoSuchAccount)),
        }
    }

    pub(in crate::imap) fn ask_store(
        &mut self,
        ask: StoreAsk,
        then: impl FnOnce(&mut Session, Result<Reply, StoreError>) + Send + 'static,
    ) {
        self.ask(Ask::Store(ask), |session, answer| match answer {
            Answer::Store(reply) => then(session, reply),
            other => {
                debug_assert!(false, "not an answer of the store: {other:?}");
                then(session, Err(StoreError::Failed));
            }
        });
    }

    /// The login is done: commands may be larger now.
    pub(in crate::imap) fn widen_limits(&mut self) {
        let literal_octets_max = self.settings.knobs.inline_literal_octets_max.0;
        self.framer = Framer::new(FrameLimits { literal_octets_max, ..FrameLimits::default() });
    }

    fn tell_idler(&mut self) {
        if !self.behind {
            cmd::idle::tell(self);
            self.turn();
        }
    }

    /// Goes on with what waited for room in the output, while there is any.
    fn turn(&mut self) {
        while self.out.is_empty() && matches!(self.phase, Phase::Drain(_)) {
            if let Phase::Drain(resume) = std::mem::replace(&mut self.phase, Phase::Command) {
                resume(self);
            }
        }
    }

    /// Drops the messages of a command, whole or not.
    pub(in crate::imap) fn drop_upload(&mut self) {
        if self.upload.take().is_some_and(|upload| upload.has_scratch()) {
            self.asks.push_back(Ask::SpillDrop);
        }
    }

    /// Says BYE and closes (RFC 9051 §7.1.5).
    pub(in crate::imap) fn bye(&mut self, why: &str) {
        self.out.line(&format!("* BYE {why}"));
        self.close();
    }

    /// Closes when everything is sent.
    pub(in crate::imap) fn close(&mut self) {
        self.drop_upload();
        self.deselect();
        (self.state, self.phase) = (State::Logout, Phase::Closed);
        self.asks.push_back(Ask::Close);
    }

    /// Leaves the selected mailbox; true when there was one.
    pub(in crate::imap) fn deselect(&mut self) -> bool {
        match std::mem::replace(&mut self.state, State::Logout) {
            State::Selected(account, _) => {
                self.state = State::Authenticated(account);
                self.asks.push_back(Ask::Watch(None));
                true
            }
            other => {
                self.state = other;
                false
            }
        }
    }

    /// After the end of the input nothing that waits for the client can go on.
    fn leave_after_eof(&mut self) {
        if self.leaving == Leaving::Eof && self.wants_input() {
            self.close();
        }
    }
}
