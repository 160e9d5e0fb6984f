//! The client machine: one connection to a backend that speaks SMTP (RFC 5321) or LMTP (RFC 2033). Bytes in, bytes out,
//! time as an argument; it opens nothing and reads no clock.
//!
//! ```text
//! Client::new ─▶ greeting, EHLO, STARTTLS, AUTH ─▶ Event::Ready
//!   submit(Delivery) ─▶ Event::Finished(Outcome)       the body goes out in the same flight where the backend allows it
//!   verify(sender, recipient) ─▶ Event::Verified       a callout: MAIL, RCPT, RSET
//!   quit ─▶ Event::Closed                              always the last event
//! ```
//!
//! Replies are matched to commands by one queue, [`Client::owed`]: what was said and not yet answered, in order.
//!
//! How it fails: every end of the connection — closed, broken, silent, out of order, not SMTP — gives each recipient of
//! the delivery under way a definite [`Fate`] and then [`Event::Closed`] with the reason. A recipient is
//! [`Fate::Accepted`] only by the backend's own 2xx after the last octet had been handed out.

mod callout;
mod config;
mod content;
mod emit;
mod event;
mod fit;
mod introduce;
mod opening;
#[cfg(test)]
mod tests;
mod transaction;

pub use crate::sasl::client::ClientCredentials;
pub use config::{ClientConfig, ClientKnobs, OwnName, Speaks, TlsMode};
pub use event::{ClientError, Delivery, Event, Fate, Outcome, Phase, Unity, Verification};
pub use introduce::Introduce;

use crate::base::buf::{Input, Output};
use crate::base::time::Instant;
use crate::wire::reply::Reply;
use crate::wire::response::{Capabilities, ResponseParser};
use callout::Callout;
use emit::MailFacts;
use opening::Opening;
use std::collections::VecDeque;
use std::sync::Arc;
use transaction::{Manner, Next, Senseless, Transaction};

/// One connection to a backend.
#[derive(Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    state: State,
    parser: ResponseParser,
    offered: Capabilities,
    session: Session,
    owed: VecDeque<Owed>,
    /// How many at the end of `owed` have not been handed to the driver.
    unsaid: usize,
    commands: String,
    events: VecDeque<Event>,
    timer: Timer,
}

/// What lasts from the greeting to the end of the connection.
#[derive(Debug, Default)]
struct Session {
    protection: Protection,
    authenticated: bool,
    /// The XCLIENT line that was said last.
    introduced: Option<String>,
    /// Deliveries submitted.
    transactions: u64,
}

/// Whether octets are protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Protection {
    /// In clear.
    #[default]
    Clear,
    /// In clear because the backend refused STARTTLS.
    Refused,
    /// By TLS.
    Tls,
}

/// What the connection is doing.
#[derive(Debug)]
enum State {
    Opening(Opening),
    Ready,
    /// The backend is being told about the client of this message; the line, when it has not been said yet.
    Introducing(Box<Delivery>, Option<String>),
    Delivering(Box<Transaction>),
    Verifying(Box<Callout>),
    Leaving,
    Closed,
}

/// A command whose reply has not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    /// Not a reply: the driver's word that TLS stands.
    Handshake,
    Auth,
    Xclient,
    /// EHLO after XCLIENT.
    EhloAgain,
    Mail,
    Rcpt,
    Go,
    /// After the body.
    Final,
    /// After a lone dot.
    Abort,
    CalloutMail,
    CalloutRcpt,
    Reset,
    Quit,
}

impl Owed {
    fn phase(self) -> Phase {
        match self {
            Owed::Greeting => Phase::Greeting,
            Owed::Ehlo | Owed::Helo => Phase::Ehlo,
            Owed::StartTls => Phase::StartTls,
            Owed::Handshake => Phase::Tls,
            Owed::Auth => Phase::Auth,
            Owed::Xclient | Owed::EhloAgain => Phase::Xclient,
            Owed::Mail | Owed::CalloutMail => Phase::Mail,
            Owed::Rcpt | Owed::CalloutRcpt => Phase::Rcpt,
            Owed::Go => Phase::Data,
            Owed::Final | Owed::Abort => Phase::EndOfData,
            Owed::Reset => Phase::Reset,
            Owed::Quit => Phase::Quit,
        }
    }
}

/// When patience ends.
#[derive(Debug, Default)]
struct Timer {
    /// For the next reply or the next block of the body.
    next: Option<Instant>,
    /// For the whole delivery.
    delivery: Option<Instant>,
    /// The time of the last call that told one.
    now: Instant,
    /// Whether nothing was handed out since that call, so that what is handed out next goes out about then.
    fresh: bool,
    /// Whether octets of a body went out at an unknown time after `next` was set (`poll_transmit` is told none): a
    /// timeout that finds this set starts anew instead.
    progress: bool,
}

/// Given back by [`Client::submit`] and [`Client::verify`] when the connection cannot take work now.
#[derive(Debug)]
pub struct NotReady<T>(pub T);

impl Client {
    /// A connection that has just been opened. `seed` is fresh randomness for the login (SCRAM nonces).
    pub fn new(config: Arc<ClientConfig>, seed: [u8; 32], now: Instant) -> Client {
        let parser = ResponseParser::new(config.knobs.response_limits());
        let mut client = Client {
            config,
            state: State::Opening(Opening::new(seed)),
            parser,
            offered: Capabilities::default(),
            session: Session::default(),
            owed: VecDeque::new(),
            unsaid: 0,
            commands: String::new(),
            events: VecDeque::new(),
            timer: Timer::default(),
        };
        client.open();
        client.rearm(now);
        client
    }

    /// What the backend offered in its last answer to EHLO or LHLO.
    pub fn capabilities(&self) -> &Capabilities {
        &self.offered
    }
    /// Whether [`Client::submit`] and [`Client::verify`] may be called.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }
    /// Whether [`Event::Closed`] has been given or is waiting.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }
    /// Whether TLS protects the connection.
    pub fn is_protected(&self) -> bool {
        self.session.protection == Protection::Tls
    }
    /// Deliveries that were submitted on this connection.
    pub fn transactions(&self) -> u64 {
        self.session.transactions
    }

    /// Hands over a message. Needs [`Client::is_ready`].
    pub fn submit(&mut self, now: Instant, delivery: Delivery) -> Result<(), NotReady<Box<Delivery>>> {
        if !self.is_ready() {
            return Err(NotReady(Box::new(delivery)));
        }
        debug_assert!(!delivery.recipients.is_empty());
        debug_assert!(delivery.recipients.iter().all(|i| (*i as usize) < delivery.envelope.recipients.len()));
        self.session.transactions += 1;
        self.introduce(now, delivery);
        self.rearm(now);
        Ok(())
    }

    /// Begins the dialogue of a message, unless it does not fit.
    fn begin(&mut self, now: Instant, delivery: Delivery) {
        match fit::message(&delivery, &self.offered, &self.config.knobs) {
            Err(reply) => {
                let refused = |i: &u32| (*i, Fate::Refused { reply: reply.clone(), at: Phase::Mail });
                let recipients = delivery.recipients.iter().map(refused).collect();
                // Nothing was said, so the connection is as it was.
                self.events.push_back(Event::Finished(Outcome { recipients, reusable: true, answered: true }));
            }
            Ok(fit) => {
                let misfits = self.misfits(&delivery);
                let transaction = Transaction::new(delivery, fit, misfits, self.manner());
                self.state = State::Delivering(Box::new(transaction));
                self.timer.delivery = Some(now + self.config.knobs.delivery_timeout);
                self.advance();
            }
        }
    }

    /// Recipients, by place, that cannot be told to this backend in this transaction.
    fn misfits(&self, delivery: &Delivery) -> Vec<(usize, Reply)> {
        let mut misfits = Vec::new();
        let mut fitting = 0;
        for (place, index) in delivery.recipients.iter().enumerate() {
            let mailbox = &delivery.envelope.recipients[*index as usize].mailbox;
            if let Err(reply) = fit::recipient(mailbox.is_international(), &self.offered) {
                misfits.push((place, reply));
                continue;
            }
            fitting += 1;
            if let Some(rcptmax) = self.offered.limits.rcptmax.filter(|max| fitting > *max) {
                misfits.push((place, fit::one_too_many(rcptmax)));
            }
        }
        misfits
    }

    fn manner(&self) -> Manner {
        Manner {
            pipelining: self.offered.pipelining,
            chunking: self.offered.chunking,
            lmtp: self.config.speaks == Speaks::Lmtp,
            rcpt_window_max: self.config.knobs.rcpt_window_max,
            flight_octets_max: self.config.knobs.flight_octets_max.0,
        }
    }

    /// The answer to [`Event::NeedBody`]: at most as many octets as were asked for, and whether they are the last.
    pub fn supply_body(&mut self, now: Instant, bytes: Vec<u8>, last: bool) {
        let State::Delivering(transaction) = &mut self.state else { return };
        let Some(content) = &mut transaction.content else { return };
        if let Err(text) = content.supply(bytes, last) {
            return self.fail(ClientError::Abandoned(text));
        }
        self.want_body();
        self.rearm(now);
        self.timer.fresh = false; // the driver may still be busy with the octets before
    }

    /// The rest of the body cannot be had. What was begun cannot be taken back but by closing the connection.
    pub fn abandon(&mut self, reason: impl Into<String>) {
        self.fail(ClientError::Abandoned(reason.into()));
    }

    /// Says QUIT when nothing is under way, and ends the connection in any case.
    pub fn quit(&mut self, now: Instant) {
        match self.state {
            State::Ready => {
                self.say(Owed::Quit, "QUIT\r\n");
                self.state = State::Leaving;
                self.rearm(now);
            }
            State::Leaving | State::Closed => {}
            _ => self.fail(ClientError::Quit),
        }
    }

    /// The backend said something. Takes all whole replies off `input`.
    pub fn handle_bytes(&mut self, now: Instant, input: &mut Input<'_>) {
        self.timer.now = now;
        let mut heard = false;
        while !self.is_closed() {
            if self.owed.front() == Some(&Owed::Handshake) {
                if !input.is_empty() {
                    self.fail(ClientError::TlsInjection);
                }
                break;
            }
            match self.parser.next(input) {
                Ok(Some(reply)) => {
                    heard = true;
                    self.handle_reply(reply);
                }
                Ok(None) => break,
                Err(error) => self.fail(ClientError::Malformed(error)),
            }
        }
        if self.is_closed() {
            input.consume(input.rest().len());
        }
        // A backend has so long for a reply, not for the next octet of one; nor is being called without news any news.
        if heard || self.is_closed() {
            self.rearm(now);
        }
    }

    /// The backend closed its side.
    pub fn handle_eof(&mut self, _now: Instant) {
        let at = self.phase();
        self.fail(ClientError::Eof { at });
    }

    /// The system reported an error on the connection.
    pub fn handle_error(&mut self, _now: Instant, text: impl Into<String>) {
        self.fail(ClientError::Io(text.into()));
    }

    /// The time of [`Client::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        let spent = self.timer.delivery.is_some_and(|at| now >= at);
        if self.timer.progress && !spent {
            return self.rearm(now);
        }
        let at = self.phase();
        let starved = matches!(&self.state, State::Delivering(t) if t.content.as_ref().is_some_and(|c| c.is_starved()));
        self.fail(match starved {
            true => ClientError::Abandoned("its next octets did not come in time".into()),
            false => ClientError::TimedOut { at },
        });
    }

    /// When to call [`Client::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match (self.timer.next, self.timer.delivery) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (next, delivery) => next.or(delivery),
        }
    }

    /// What happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What to send. Stops when `out` is full; call again when it has been sent.
    pub fn poll_transmit(&mut self, out: &mut Output) {
        if !self.commands.is_empty() {
            out.extend(self.commands.as_bytes());
            self.commands.clear();
        }
        self.unsaid = 0;
        if let State::Delivering(transaction) = &mut self.state
            && let Some(content) = &mut transaction.content
            && !content.is_finished()
        {
            let moved = content.fill(out);
            self.want_body();
            if moved && self.timer.fresh {
                self.rearm(self.timer.now);
            } else {
                self.timer.progress |= moved;
            }
        }
        self.timer.fresh = false;
    }

    fn want_body(&mut self) {
        if let State::Delivering(transaction) = &mut self.state
            && let Some(content) = &mut transaction.content
            && let Some((offset, octets_max)) = content.want(self.config.knobs.file_read_octets)
        {
            self.events.push_back(Event::NeedBody { offset, octets_max });
        }
    }

    /// Where in the dialogue we are: the oldest command without a reply.
    fn phase(&self) -> Phase {
        match (self.owed.front(), &self.state) {
            (Some(Owed::Final), State::Delivering(t)) if t.is_sending() => Phase::Body,
            (Some(owed), _) => owed.phase(),
            (None, _) => Phase::Idle,
        }
    }

    fn say(&mut self, owed: Owed, line: &str) {
        self.commands.push_str(line);
        self.expect(owed);
    }

    fn expect(&mut self, owed: Owed) {
        self.owed.push_back(owed);
        self.unsaid += 1;
    }

    /// Sets the time for the next thing to happen.
    fn rearm(&mut self, now: Instant) {
        self.timer.progress = false;
        self.timer.now = now;
        self.timer.fresh = true;
        if !matches!(self.state, State::Delivering(_)) {
            self.timer.delivery = None;
        }
        let phase = match &self.state {
            State::Closed => None,
            State::Delivering(t) if t.is_sending() => Some(Phase::Body),
            _ => self.owed.front().map(|owed| owed.phase()),
        };
        self.timer.next = phase.map(|phase| now + self.config.knobs.timeout(phase));
    }

    fn handle_reply(&mut self, reply: Reply) {
        if reply.code == 421 {
            return self.service_closing(reply); // RFC 5321 §3.8: may come in the place of any reply
        }
        if self.owed.len() <= self.unsaid {
            return self.fail(ClientError::Unsolicited(reply));
        }
        let Some(owed) = self.owed.front().copied() else { return };
        // LMTP gives several replies to one end of data; the others are taken off the queue by their one reply.
        if owed != Owed::Final {
            self.owed.pop_front();
        }
        match owed {
            Owed::Reset if reply.is_positive() => {
                self.introduce_now();
                self.advance();
            }
            Owed::Reset => self.fail(ClientError::Senseless { at: Phase::Reset, reply }),
            Owed::Quit => self.fail(ClientError::Quit),
            Owed::Mail | Owed::Rcpt | Owed::Go | Owed::Final | Owed::Abort => self.delivery_reply(owed, reply),
            Owed::CalloutMail | Owed::CalloutRcpt => self.callout_reply(owed, reply),
            Owed::Xclient | Owed::EhloAgain => self.xclient_reply(self.timer.now, owed, reply),
            _ => self.opening_reply(owed, reply),
        }
    }

    fn delivery_reply(&mut self, owed: Owed, reply: Reply) {
        let at = self.phase();
        let State::Delivering(transaction) = &mut self.state else { return };
        let kept = reply.clone();
        let result = match owed {
            Owed::Mail => transaction.mail_reply(reply),
            Owed::Rcpt => transaction.rcpt_reply(reply),
            Owed::Go => match transaction.go_reply(reply) {
                Ok(true) => {
                    self.say(Owed::Abort, ".\r\n");
                    Ok(())
                }
                Ok(false) if transaction.content.is_some() => {
                    self.expect(Owed::Final);
                    self.want_body();
                    Ok(())
                }
                other => other.map(|_| ()),
            },
            Owed::Final => match transaction.final_reply(reply) {
                Ok(true) if transaction.is_sending() => {
                    // A no in the midst of the body: what follows would be taken for commands (RFC 5321 §4.1.1.4).
                    return self.fail(ClientError::Unwelcome { at: Phase::Body, reply: kept });
                }
                Ok(true) => {
                    self.owed.pop_front();
                    Ok(())
                }
                other => other.map(|_| ()),
            },
            _ => {
                transaction.abort_reply();
                Ok(())
            }
        };
        match result {
            Ok(()) => self.advance(),
            Err(Senseless) => {
                let at = if owed == Owed::Final { at } else { owed.phase() };
                self.fail(ClientError::Senseless { at, reply: kept });
            }
        }
    }

    /// Says whatever may be said now.
    fn advance(&mut self) {
        loop {
            let owed = self.owed.len();
            let next = match &mut self.state {
                State::Delivering(transaction) => transaction.next(owed),
                State::Verifying(_) => return self.advance_callout(),
                _ => return,
            };
            match next {
                Next::Wait => return,
                Next::Over { reset } => return self.conclude(reset),
                Next::Data => self.say(Owed::Go, "DATA\r\n"),
                Next::Mail | Next::Rcpt(_) | Next::Bdat => self.say_of_transaction(&next),
            }
        }
    }

    fn say_of_transaction(&mut self, next: &Next) {
        let State::Delivering(transaction) = &self.state else { return };
        let fit = transaction.fit;
        let owed = match next {
            Next::Mail => {
                let facts = MailFacts {
                    parameters: &transaction.envelope().parameters,
                    octets: fit.octets,
                    body: fit.body,
                    smtputf8: fit.smtputf8,
                    authenticated: self.session.authenticated,
                };
                emit::mail(&transaction.envelope().sender, &facts, &self.offered, &mut self.commands);
                Owed::Mail
            }
            Next::Rcpt(place) => {
                emit::rcpt(transaction.recipient(*place), fit.smtputf8, &self.offered, &mut self.commands);
                Owed::Rcpt
            }
            _ => {
                emit::bdat_last(fit.octets, &mut self.commands);
                Owed::Final
            }
        };
        self.expect(owed);
        if owed == Owed::Final {
            self.want_body();
        }
    }

    /// The delivery is over and the connection in order.
    fn conclude(&mut self, reset: bool) {
        let State::Delivering(transaction) = std::mem::replace(&mut self.state, State::Ready) else { return };
        if reset {
            self.say(Owed::Reset, "RSET\r\n");
        }
        // RFC 9422 §4.1: MAILMAX transactions in a session.
        let spent = self.offered.limits.mailmax.is_some_and(|max| self.session.transactions >= max);
        self.events.push_back(Event::Finished(transaction.outcome(!spent)));
    }

    /// The backend said 421.
    fn service_closing(&mut self, reply: Reply) {
        let at = self.phase();
        match &mut self.state {
            State::Delivering(transaction) => transaction.closing(reply.clone(), at),
            State::Verifying(callout) => callout.unable(reply.clone()),
            _ => {}
        }
        self.fail(ClientError::ServiceClosing(reply));
    }

    /// Ends everything.
    fn fail(&mut self, error: ClientError) {
        let at = match &error {
            ClientError::Senseless { at, .. } | ClientError::Unwelcome { at, .. } => *at,
            _ => self.phase(),
        };
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => return,
            State::Delivering(mut transaction) => {
                transaction.lost(at, &error);
                self.events.push_back(Event::Finished(transaction.outcome(false)));
            }
            State::Introducing(delivery, _) => {
                self.events.push_back(Event::Finished(introduce::not_begun(&delivery, at, &error)));
            }
            State::Verifying(callout) => self.events.push_back(Event::Verified(callout.lost(&error))),
            State::Leaving => {
                self.events.push_back(Event::Closed(ClientError::Quit));
                return self.silence();
            }
            State::Opening(_) | State::Ready => {}
        }
        self.events.push_back(Event::Closed(error));
        self.silence();
    }

    fn silence(&mut self) {
        self.owed.clear();
        self.unsaid = 0;
        self.commands.clear();
        self.timer = Timer::default();
    }
}
