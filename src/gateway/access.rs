//! A client that reads mail: its pipe, its POP3 or IMAP machine, and where it stands with questions that are out.
//!
//! The same turn as [`inbound`](super::inbound): bytes in, asks answered or sent to a lane, bytes out. The policy judges
//! these clients at `connect` and `auth`, with `listener` as `pop3` or `imap`. How it fails: whatever breaks the connection
//! ends it, with its maildrop lock and its watch on a mailbox; an answer that comes later finds nobody.

use super::core::{Asker, Core, End};
use super::judge::Judge;
use super::lanes::SpoolRequest;
use super::pipe::{Machine, Pipe};
use super::state::{Listener, Serves};
use crate::base::body::{Body, BodyShape};
use crate::base::buf::{Chain, Input, Output};
use crate::base::id::SessionId;
use crate::base::mailbox::ask::{Reply, StoreAsk, StoreError};
use crate::base::mailbox::{AccountId, MailboxId};
use crate::base::time::Instant;
use crate::base::tls::TlsFacts;
use crate::policy::Lease;
use crate::reactor::{Close, End as Ended, Id, clock};
use crate::sasl::server::{SaslAnswer, SaslAsk};
use crate::smtp::server::{Answer as SmtpAnswer, Peer, PeerRights};
use crate::wire::pop3::replies::login_delay_text;
use crate::wire::replies;
use crate::{imap, pop3};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Accounts whose last login is remembered for LOGIN-DELAY; beyond them it is not asked for.
const LOGINS_REMEMBERED_MAX: usize = 100_000;

/// See the module's head.
pub(super) struct Access {
    pub(super) pipe: Pipe,
    machine: Protocol,
    judge: Judge,
    session: SessionId,
    /// Number of the question that is out, if one is.
    question: u32,
    /// An answer that the policy delays, and when it is due.
    delayed: Option<(Instant, Told)>,
    /// When the client is greeted, where the policy lets it wait; nothing is said and read before.
    greets_at: Option<Instant>,
    /// What it hears then instead of a greeting, where the policy turned it away.
    parting: Option<Chain>,
    /// The scratch file of the message that is being appended.
    scratch: Option<u64>,
    /// The mailbox it wants to hear of.
    watching: Option<MailboxId>,
    /// The maildrop it has for itself.
    locked: Option<AccountId>,
    /// The client's place among its connections.
    _lease: Option<Lease>,
}

/// The machines, which differ in grammar but not in what they need.
enum Protocol {
    Imap(Box<imap::Session>),
    Pop3(Box<pop3::Session>),
}

/// What a machine wants.
enum Want {
    Sasl(SaslAsk),
    Authenticated(String),
    AuthFailed(u32),
    Store(StoreAsk),
    Spill { first: bool, chunk: Vec<u8> },
    SpillEnd { shape: BodyShape, head: Vec<u8> },
    SpillDrop,
    Watch(Option<MailboxId>),
    Lock(AccountId),
    Unlock,
    StartTls,
    StartDeflate,
    Close,
}

/// What a machine is told.
pub(super) enum Told {
    Sasl(SaslAnswer),
    Go,
    Refuse(String),
    Store(Result<Reply, StoreError>),
    Spilled(Result<(), StoreError>),
    Spilt(Result<Body, StoreError>),
    Locked(bool),
}

macro_rules! each {
    ($self:ident, $machine:ident => $call:expr) => {
        match $self {
            Protocol::Imap($machine) => $call,
            Protocol::Pop3($machine) => $call,
        }
    };
}

impl Machine for Protocol {
    fn handle_bytes(&mut self, now: Instant, input: &mut Input<'_>) {
        each!(self, m => m.handle_bytes(now, input));
    }
    fn poll_transmit(&mut self, out: &mut Output) {
        each!(self, m => m.poll_transmit(out));
    }
    fn wants_input(&self) -> bool {
        each!(self, m => m.wants_input())
    }
    fn tls_started(&mut self, now: Instant, facts: TlsFacts) {
        each!(self, m => m.tls_started(now, facts));
    }
}

impl Protocol {
    fn poll_ask(&mut self) -> Option<Want> {
        match self {
            Protocol::Imap(m) => m.poll_ask().map(Want::from),
            Protocol::Pop3(m) => m.poll_ask().map(Want::from),
        }
    }

    fn handle_answer(&mut self, now: Instant, told: Told) {
        match self {
            Protocol::Imap(m) => m.handle_answer(
                now,
                match told {
                    Told::Sasl(answer) => imap::Answer::Sasl(answer),
                    Told::Refuse(why) => imap::Answer::Refuse(why),
                    Told::Store(result) => imap::Answer::Store(result),
                    Told::Spilled(result) => imap::Answer::Spilled(result),
                    Told::Spilt(result) => imap::Answer::Spilt(result),
                    Told::Go | Told::Locked(_) => imap::Answer::Go,
                },
            ),
            Protocol::Pop3(m) => m.handle_answer(
                now,
                match told {
                    Told::Sasl(answer) => pop3::Answer::Sasl(answer),
                    Told::Refuse(why) => pop3::Answer::Refuse(why),
                    Told::Store(result) => pop3::Answer::Store(result),
                    Told::Locked(got) => pop3::Answer::Locked(got),
                    // It appends nothing.
                    Told::Go | Told::Spilled(_) | Told::Spilt(_) => pop3::Answer::Go,
                },
            ),
        }
    }

    fn handle_notice(&mut self, now: Instant, mailbox: MailboxId) {
        // A maildrop is frozen for its session (RFC 1939 §5).
        if let Protocol::Imap(m) = self {
            m.handle_notice(now, mailbox);
        }
    }
}

impl From<imap::Ask> for Want {
    fn from(ask: imap::Ask) -> Want {
        match ask {
            imap::Ask::Sasl(ask) => Want::Sasl(ask),
            imap::Ask::Authenticated { user } => Want::Authenticated(user),
            imap::Ask::AuthFailed { failures } => Want::AuthFailed(failures),
            imap::Ask::Store(ask) => Want::Store(ask),
            imap::Ask::Spill { first, chunk } => Want::Spill { first, chunk },
            imap::Ask::SpillEnd { shape, head } => Want::SpillEnd { shape, head },
            imap::Ask::SpillDrop => Want::SpillDrop,
            imap::Ask::Watch(mailbox) => Want::Watch(mailbox),
            imap::Ask::StartTls => Want::StartTls,
            imap::Ask::StartDeflate => Want::StartDeflate,
            imap::Ask::Close => Want::Close,
        }
    }
}

impl From<pop3::Ask> for Want {
    fn from(ask: pop3::Ask) -> Want {
        match ask {
            pop3::Ask::Sasl(ask) => Want::Sasl(ask),
            pop3::Ask::Authenticated { user } => Want::Authenticated(user),
            pop3::Ask::AuthFailed { failures } => Want::AuthFailed(failures),
            pop3::Ask::Store(ask) => Want::Store(ask),
            pop3::Ask::Lock(account) => Want::Lock(account),
            pop3::Ask::Unlock => Want::Unlock,
            pop3::Ask::StartTls => Want::StartTls,
            pop3::Ask::Close => Want::Close,
        }
    }
}

impl Access {
    /// The session's id.
    pub(super) fn session(&self) -> SessionId {
        self.session
    }
    /// The session's judge.
    pub(super) fn judge(&self) -> &Judge {
        &self.judge
    }
}

impl Core {
    /// A client came to a port that begins in clear.
    pub(super) fn access_accepted(
        &mut self,
        listener: Arc<Listener>,
        conn: Id,
        client: SocketAddr,
        local: SocketAddr,
        lease: Option<Lease>,
    ) {
        let mut pipe = Pipe::new(conn);
        pipe.receive(&mut self.driver, true);
        self.access_begin(pipe, &listener, client, local, None, lease);
    }

    /// Begins a session, unless the policy says no.
    pub(super) fn access_begin(
        &mut self,
        pipe: Pipe,
        listener: &Listener,
        client: SocketAddr,
        local: SocketAddr,
        tls: Option<TlsFacts>,
        lease: Option<Lease>,
    ) {
        let session = SessionId(self.ids.next_id());
        let connected = clock::wall();
        let nonce_seed = self.entropy();
        let protected = self.shared.config.settings.server.protected.contains(client.ip());
        let rights = PeerRights { protected, ..PeerRights::default() };
        let peer = Peer { session, client, local, connected, tls, rights, nonce_seed, xclient: None };
        self.meter.sessions[listener.service as usize].add(1);
        let mut judge = Judge::new(&self.shared, listener, &peer, self.now);
        // The policy's line is in the log; under TLS the handshake was all that a refused client gets.
        let word = |reply: &crate::wire::reply::Reply| match &peer.tls {
            None => parting(&listener.serves, &reply.text()),
            Some(_) => Chain::new(),
        };
        let (after, parting) = match judge.connect(self.now, self.load()) {
            SmtpAnswer::Refuse { reply, after, .. } if after.is_zero() => {
                let word = word(&reply);
                if !word.is_empty() {
                    self.driver.send(pipe.id, word);
                }
                self.driver.close(pipe.id, Close::Graceful);
                return self.client_gone();
            }
            SmtpAnswer::Refuse { reply, after, .. } => (after, Some(word(&reply))),
            SmtpAnswer::GoAfter(after) => (after, None),
            _ => (Duration::ZERO, None),
        };
        let greets_at = (!after.is_zero()).then(|| self.now + after);
        let Peer { tls, .. } = peer;
        let machine = match &listener.serves {
            Serves::Imap(settings) => {
                let peer = imap::ImapPeer { session, client, local, connected, tls, protected, nonce_seed };
                Protocol::Imap(Box::new(imap::Session::new(settings.clone(), peer, self.now)))
            }
            Serves::Pop3(settings) => {
                let rpop = settings.knobs.allows_rpop(client);
                let peer = pop3::Pop3Peer { session, client, local, connected, tls, protected, rpop, nonce_seed };
                Protocol::Pop3(Box::new(pop3::Session::new(settings.clone(), peer, self.now)))
            }
            Serves::Smtp(_) => unreachable!("SMTP clients are inbound"),
        };
        let access = Box::new(Access {
            pipe,
            machine,
            judge,
            session,
            question: 0,
            delayed: None,
            greets_at,
            parting,
            scratch: None,
            watching: None,
            locked: None,
            _lease: lease,
        });
        self.access_drive(access);
    }

    pub(super) fn access_received(&mut self, mut access: Box<Access>, bytes: &[u8]) {
        if access.pipe.is_closing() {
            return self.put(access.pipe.id, End::Access(access));
        }
        if let Err(error) = access.pipe.received(self.now, &mut access.machine, bytes) {
            tracing::info!(session = %access.session, %error, "TLS or compression failed");
            access.pipe.close_after_flush(&mut self.driver, &mut access.machine);
            return self.put(access.pipe.id, End::Access(access));
        }
        self.access_drive(access);
    }

    pub(super) fn access_ended(&mut self, mut access: Box<Access>, why: Ended) {
        match why {
            Ended::Eof => {
                let machine = &mut access.machine;
                each!(machine, m => m.handle_eof(self.now));
                self.access_drive(access);
            }
            Ended::Failed(error) => {
                tracing::debug!(session = %access.session, %error, "connection broke");
                access.pipe.close_now(&mut self.driver);
                self.put(access.pipe.id, End::Access(access));
            }
        }
    }

    pub(super) fn access_sent(&mut self, mut access: Box<Access>, result: io::Result<()>) {
        access.pipe.sent();
        if result.is_err() {
            access.pipe.close_now(&mut self.driver);
            return self.put(access.pipe.id, End::Access(access));
        }
        self.access_drive(access);
    }

    pub(super) fn access_fired(&mut self, mut access: Box<Access>) {
        access.pipe.fired();
        if access.delayed.as_ref().is_some_and(|(at, _)| *at <= self.now)
            && let Some((_, told)) = access.delayed.take()
        {
            access.machine.handle_answer(self.now, told);
        }
        let machine = &mut access.machine;
        if each!(machine, m => m.poll_timeout()).is_some_and(|at| at <= self.now) {
            each!(machine, m => m.handle_timeout(self.now));
        }
        self.access_drive(access);
    }

    pub(super) fn access_shutdown(&mut self, mut access: Box<Access>) {
        let machine = &mut access.machine;
        each!(machine, m => m.shutdown(self.now));
        self.access_drive(access);
    }

    pub(super) fn access_closed(&mut self, mut access: Box<Access>) {
        self.drop_scratch(&mut access);
        if let Some(lanes) = &self.shared.mailboxes {
            lanes.watch(self.number, access.pipe.id, access.watching, None);
            access.locked.into_iter().for_each(|account| lanes.unlock(account));
        }
        let machine = &access.machine;
        each!(machine, m => tracing::debug!(session = %access.session, counters = ?m.counters(), "session over"));
    }

    /// An answer came for a question that was out; late ones are for questions that are not.
    pub(super) fn access_answered(&mut self, mut access: Box<Access>, question: u32, told: Told) {
        if access.question == question {
            access.question = access.question.wrapping_add(1);
            access.machine.handle_answer(self.now, told);
        }
        self.access_drive(access);
    }

    /// A mailbox it watches has changed.
    pub(super) fn access_touched(&mut self, mut access: Box<Access>, mailbox: MailboxId) {
        if access.watching == Some(mailbox) {
            access.machine.handle_notice(self.now, mailbox);
        }
        self.access_drive(access);
    }

    /// The spool lane wrote a piece of an appended message.
    pub(super) fn access_spilled(&mut self, mut access: Box<Access>, asker: Asker, result: Result<u64, String>) {
        if access.question != asker.question {
            self.put(asker.conn, End::Access(access));
            return self.unwanted(result);
        }
        let told = match result {
            Ok(file) => {
                access.scratch = Some(file);
                Ok(())
            }
            Err(error) => {
                tracing::error!(session = %access.session, error, "cannot keep a large message");
                Err(StoreError::DiskFull)
            }
        };
        self.access_answered(access, asker.question, Told::Spilled(told));
    }

    /// The spool lane has made a spilled message whole.
    pub(super) fn access_whole(&mut self, access: Box<Access>, asker: Asker, result: Result<Body, String>) {
        let told = result.map_err(|error| {
            tracing::error!(session = %access.session, error, "cannot keep a large message");
            StoreError::Failed
        });
        self.access_answered(access, asker.question, Told::Spilt(told));
    }

    /// Lets the machine go as far as it can: asks, left bytes, output, deadline.
    fn access_drive(&mut self, mut access: Box<Access>) {
        if let Some(at) = access.greets_at.filter(|at| *at > self.now) {
            access.pipe.balance(&mut self.driver);
            if let Some(at) = access.pipe.deadline_to_arm(Some(at)) {
                self.arm(access.pipe.id, at);
            }
            return self.put(access.pipe.id, End::Access(access));
        }
        access.greets_at = None;
        if let Some(word) = access.parting.take() {
            access.pipe.part(&mut self.driver, word);
            return self.put(access.pipe.id, End::Access(access));
        }
        loop {
            let mut moved = access.pipe.feed(self.now, &mut access.machine);
            if let Some(error) = access.pipe.fault() {
                tracing::info!(session = %access.session, error, "compression failed");
                access.pipe.close_now(&mut self.driver);
                break;
            }
            moved |= self.access_asks(&mut access);
            // What is said makes room for more: a long answer asks for its next part.
            access.pipe.flush(&mut self.driver, &mut access.machine);
            moved |= self.access_asks(&mut access);
            if !moved {
                break;
            }
        }
        if !access.pipe.is_closing() {
            access.pipe.balance(&mut self.driver);
        }
        let machine = &access.machine;
        let wanted = each!(machine, m => m.poll_timeout());
        let delayed = access.delayed.as_ref().map(|(at, _)| *at);
        let next = wanted.into_iter().chain(delayed).min();
        if let Some(at) = access.pipe.deadline_to_arm(next) {
            self.arm(access.pipe.id, at);
        }
        self.put(access.pipe.id, End::Access(access));
    }

    /// Whether the machine had anything to ask.
    fn access_asks(&mut self, access: &mut Access) -> bool {
        let mut asked = false;
        while let Some(want) = access.machine.poll_ask() {
            asked = true;
            if let Some(told) = self.access_wants(access, want) {
                access.machine.handle_answer(self.now, told);
            }
        }
        asked
    }

    /// Answers a question of a machine, or sends it where it will be answered.
    fn access_wants(&mut self, access: &mut Access, want: Want) -> Option<Told> {
        let asker = Asker { conn: access.pipe.id, question: access.question };
        match want {
            Want::Sasl(ask) => self.shared.passwords.ask(self.number, asker, ask).map(Told::Sasl),
            Want::Authenticated(user) => {
                if let Some(why) = self.too_soon(access, &user) {
                    return Some(Told::Refuse(why));
                }
                self.meter.logins[0].add(1);
                let answer = access.judge.authenticated(self.now, &user);
                self.in_time(access, answer)
            }
            Want::AuthFailed(failures) => {
                self.meter.logins[1].add(1);
                let answer = access.judge.auth_failed(self.now, failures);
                self.in_time(access, answer)
            }
            Want::Store(ask) => match &self.shared.mailboxes {
                Some(lanes) => lanes.ask(self.number, asker, ask).map(Told::Store),
                None => Some(Told::Store(Err(StoreError::Failed))),
            },
            Want::Spill { first, chunk } => {
                let file = if first { None } else { access.scratch };
                let sent = self.ask_spool(SpoolRequest::Spill { asker, file, chunk });
                sent.err().map(|_| Told::Spilled(Err(StoreError::Busy)))
            }
            Want::SpillEnd { shape, head } => {
                // From here on the body's own handle keeps the file.
                let Some(file) = access.scratch.take() else { return Some(Told::Spilt(Err(StoreError::Failed))) };
                let sent = self.ask_spool(SpoolRequest::Finish { asker, file, shape, head });
                sent.err().map(|_| {
                    access.scratch = Some(file);
                    Told::Spilt(Err(StoreError::Busy))
                })
            }
            Want::SpillDrop => {
                self.drop_scratch(access);
                None
            }
            Want::Watch(mailbox) => {
                if let Some(lanes) = &self.shared.mailboxes {
                    lanes.watch(self.number, access.pipe.id, access.watching, mailbox);
                    access.watching = mailbox;
                }
                None
            }
            Want::Lock(account) => {
                let got = self.shared.mailboxes.as_ref().is_some_and(|lanes| lanes.lock(account));
                access.locked = got.then_some(account);
                Some(Told::Locked(got))
            }
            Want::Unlock => {
                if let (Some(lanes), Some(account)) = (&self.shared.mailboxes, access.locked.take()) {
                    lanes.unlock(account);
                }
                None
            }
            Want::StartTls => {
                access.pipe.say(&mut self.driver, &mut access.machine);
                let tls = self.server_tls();
                access.pipe.start_tls(tls);
                None
            }
            Want::StartDeflate => {
                access.pipe.say(&mut self.driver, &mut access.machine);
                access.pipe.start_deflate();
                None
            }
            Want::Close => {
                access.pipe.close_after_flush(&mut self.driver, &mut access.machine);
                None
            }
        }
    }

    /// What a POP3 client hears that logs in again before LOGIN-DELAY is over (RFC 2449 §6.5).
    fn too_soon(&self, access: &Access, user: &str) -> Option<String> {
        let Protocol::Pop3(_) = &access.machine else { return None };
        let delay = self.shared.config.settings.pop3.login_delay;
        if delay.is_zero() {
            return None;
        }
        let mut last = self.shared.last_pop3_logins.lock();
        if last.len() >= LOGINS_REMEMBERED_MAX {
            last.retain(|_, at| self.now.since(*at) < delay);
        }
        let waited = last.get(user).map(|at| self.now.since(*at));
        match waited {
            Some(waited) if waited < delay => Some(login_delay_text(delay.as_millis().div_ceil(1000) as u64)),
            _ if last.len() >= LOGINS_REMEMBERED_MAX => None,
            _ => {
                last.insert(user.to_owned(), self.now);
                None
            }
        }
    }

    /// The policy's word for a machine, when its time has come.
    fn in_time(&mut self, access: &mut Access, answer: SmtpAnswer) -> Option<Told> {
        let (told, after) = match answer {
            SmtpAnswer::Go => (Told::Go, Duration::ZERO),
            SmtpAnswer::GoAfter(after) => (Told::Go, after),
            SmtpAnswer::Refuse { reply, after, .. } => (Told::Refuse(reply.text()), after),
            // No word on a login: whoever is not let in stays out.
            _ => (Told::Refuse(replies::local_error().text()), Duration::ZERO),
        };
        if after.is_zero() {
            return Some(told);
        }
        access.delayed = Some((self.now + after, told));
        None
    }

    fn drop_scratch(&mut self, access: &mut Access) {
        if let Some(file) = access.scratch.take() {
            self.tell_spool(usize::from(self.number), SpoolRequest::Drop { file });
        }
    }
}

/// The last word to a client that gets no session, in the words of its protocol.
pub(super) fn parting(serves: &Serves, why: &str) -> Chain {
    let text = match serves {
        Serves::Imap(_) => format!("* BYE {why}\r\n"),
        Serves::Pop3(_) => format!("-ERR {why}\r\n"),
        Serves::Smtp(_) => String::new(),
    };
    Chain::from(text.into_bytes())
}
