//! One client of the sink: the least SMTP or LMTP server that is still a correct one, as a machine.
//!
//! It answers all commands of a segment in one output, throws bodies away (or keeps each just long enough to take its
//! checksum), and misbehaves on purpose as it is told. How it fails: lines that are too long and commands out of order
//! get the protocol's reply and are counted; the session ends only where the protocol ends it.

use super::auth::{Login, Said};
use super::behaviour::{Action, Behaviour, Stage, TlsOffer, name_of};
use super::body::{Body, Scan};
pub use super::tally::Tally;
use crate::message;
use gatepost::base::time::Instant;
use std::time::Duration;

/// Longest command line taken, in octets; RFC 5321 §4.5.3.1.4 asks for 512, AUTH for 12288 (RFC 4954 §4).
const LINE_OCTETS_MAX: usize = 13_000;

/// A message the session has answered with 250, for the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its id.
    pub id: message::Id,
    /// Checksum of its body and of the header fields it was sent with.
    pub crc: u32,
    /// Recipients it was for.
    pub recipients: u32,
}

/// What the caller has to do after an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send the output, go on reading.
    Read,
    /// Send the output only after this long; what was not consumed comes again after that.
    Hold(Duration),
    /// Send the output, then begin TLS and call [`Session::tls_started`].
    StartTls,
    /// Send the output, then close.
    Close,
    /// Close at once, without the output.
    Drop,
    /// Send the output, and neither read nor say anything any more.
    Stall,
}

/// What all sessions of a core share.
pub struct Shared<'a> {
    /// Now.
    pub now: Instant,
    /// How to behave.
    pub behaviour: &'a Behaviour,
    /// What was counted.
    pub tally: &'a mut Tally,
    /// Chance.
    pub rng: &'a mut fastrand::Rng,
    /// Messages for the ledger.
    pub received: &'a mut Vec<Received>,
}

#[derive(Debug)]
enum State {
    Command,
    /// The client answers a challenge.
    Auth(Box<Login>),
    Data(Scan),
    /// Octets of this chunk left, and whether it is the last (RFC 3030 §2).
    Chunk(usize, bool),
}

/// Between MAIL and the end of data.
#[derive(Debug, Default)]
struct Transaction {
    mail: bool,
    /// Kept for greylisting only.
    sender: Vec<u8>,
    recipients: u32,
    /// Something was refused on purpose: that a pipelining client goes on with what depends on it is no error of its.
    refused: bool,
    body: Body,
}

/// One client.
#[derive(Debug)]
pub struct Session {
    state: State,
    transaction: Transaction,
    line: Vec<u8>,
    secured: bool,
    tarpit: Option<Duration>,
    logins: u64,
}

impl Default for Session {
    fn default() -> Self {
        Session::new()
    }
}

impl Session {
    /// Before the greeting.
    pub fn new() -> Session {
        Session {
            state: State::Command,
            transaction: Transaction::default(),
            line: Vec::new(),
            secured: false,
            tarpit: None,
            logins: 0,
        }
    }

    /// What the server says first; under implicit TLS after the handshake.
    pub fn greet(&mut self, shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Next {
        shared.tally.sessions += 1;
        let tarpit = shared.behaviour.tarpit.filter(|t| t.share >= 1.0 || shared.rng.f64() < t.share);
        self.tarpit = tarpit.map(|t| t.pause);
        shared.tally.tarpitted += u64::from(tarpit.is_some());
        if let Some(next) = strike(Stage::Connect, shared, out) {
            return next;
        }
        out.extend_from_slice(shared.behaviour.greeting.as_bytes());
        self.slowed(Next::Read)
    }

    /// The handshake is over.
    pub fn tls_started(&mut self) {
        self.secured = true;
        // RFC 3207 §4.2: what was said before does not count.
        self.transaction = Transaction::default();
        self.line.clear();
    }

    /// The client said `input`; returns how much of it was consumed (all of it unless [`Next`] stops) and what is next.
    pub fn input(&mut self, input: &[u8], shared: &mut Shared<'_>, out: &mut Vec<u8>) -> (usize, Next) {
        let mut at = 0;
        while at < input.len() {
            let (used, next) = match self.state {
                State::Command | State::Auth(_) => self.command_octets(&input[at..], shared, out),
                State::Data(_) => self.data_octets(&input[at..], shared, out),
                State::Chunk(..) => self.chunk_octets(&input[at..], shared, out),
            };
            debug_assert!(used > 0 && used <= input.len() - at);
            at += used;
            if next != Next::Read {
                return (at, next);
            }
        }
        (at, Next::Read)
    }

    fn slowed(&self, next: Next) -> Next {
        match (next, self.tarpit) {
            (Next::Read, Some(pause)) => Next::Hold(pause),
            _ => next,
        }
    }

    fn command_octets(&mut self, input: &[u8], shared: &mut Shared<'_>, out: &mut Vec<u8>) -> (usize, Next) {
        let Some(end) = memchr::memchr(b'\n', input) else {
            let room = LINE_OCTETS_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&input[..input.len().min(room)]);
            return (input.len(), Next::Read);
        };
        shared.tally.commands += 1;
        let next = if self.line.is_empty() {
            self.command(trim(&input[..end]), shared, out)
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(&input[..end]);
            self.command(trim(&line), shared, out)
        };
        (end + 1, self.slowed(next))
    }

    fn command(&mut self, line: &[u8], shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Next {
        if line.len() >= LINE_OCTETS_MAX {
            return self.wrong(b"500 5.5.2 line too long\r\n", shared, out);
        }
        if let State::Auth(login) = std::mem::replace(&mut self.state, State::Command) {
            let Some(accounts) = &shared.behaviour.accounts else { return Next::Close };
            let (login, said) = login.respond(line, accounts);
            return self.login_said(login, said, shared, out);
        }
        let mut verb = [0u8; 4];
        let n = line.len().min(4);
        verb[..n].copy_from_slice(&line[..n]);
        verb.make_ascii_uppercase();
        let struck = match &verb {
            b"EHLO" | b"LHLO" | b"HELO" => strike(Stage::Ehlo, shared, out),
            b"STAR" => strike(Stage::StartTls, shared, out),
            b"AUTH" => strike(Stage::Auth, shared, out),
            b"MAIL" => strike(Stage::Mail, shared, out),
            b"DATA" => strike(Stage::Data, shared, out),
            _ => None,
        };
        if let Some(next) = struck {
            self.transaction.refused = true;
            return next;
        }
        match &verb {
            b"EHLO" | b"LHLO" if self.secured => self.hello(out, &shared.behaviour.extensions_secured),
            b"EHLO" | b"LHLO" => self.hello(out, &shared.behaviour.extensions),
            b"HELO" => self.hello(out, "250 sink\r\n"),
            b"STAR" => self.starttls(line, shared, out),
            b"AUTH" => self.auth(line, shared, out),
            b"MAIL" => self.mail(line, shared, out),
            b"RCPT" => self.rcpt(line, shared, out),
            b"DATA" => self.data(shared, out),
            b"BDAT" => self.bdat(line, shared, out),
            b"RSET" => self.hello(out, "250 2.0.0 reset\r\n"),
            b"NOOP" => {
                out.extend_from_slice(b"250 2.0.0 ok\r\n");
                Next::Read
            }
            b"QUIT" => {
                out.extend_from_slice(b"221 2.0.0 bye\r\n");
                Next::Close
            }
            _ => self.wrong(b"500 5.5.1 unknown command\r\n", shared, out),
        }
    }

    /// EHLO, HELO, LHLO and RSET end the transaction (RFC 5321 §4.1.4).
    fn hello(&mut self, out: &mut Vec<u8>, reply: &str) -> Next {
        self.transaction = Transaction::default();
        out.extend_from_slice(reply.as_bytes());
        Next::Read
    }

    fn wrong(&mut self, reply: &[u8], shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Next {
        shared.tally.errors += u64::from(!self.transaction.refused);
        out.extend_from_slice(reply);
        Next::Read
    }

    fn starttls(&mut self, line: &[u8], shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Next {
        if !line.eq_ignore_ascii_case(b"STARTTLS") || self.secured || shared.behaviour.tls != TlsOffer::StartTls {
            return self.wrong(b"503 5.5.1 no TLS now\r\n", shared, out);
        }
        out.extend_from_slice(b"220 2.0.0 go ahead\r\n");
        Next::StartTls
    }

    fn auth(&mut self, line: &[u8], shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Next {
        let (Some(accounts), false) = (&shared.behaviour.accounts, self.transaction.mail) else {
            return self.wrong(b"503 5.5.1 no AUTH now\r\n", shared, out);
        };
        self.logins += 1;
        let argument = String::from_utf8_lossy(&line[4..]);
        // Nonces differ by the number of the session, too.
        let attempt = shared.tally.sessions << 16 | (self.logins & 0xffff);
        let (login, said) = Login::start(&argument, accounts, attempt);
        self.login_said(login, said, shared, out)
    }

    fn login_said(&mut self, login: Option<Login>, said: Said, shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Next {
        match said {
            Said::Challenge(text) => out.extend_from_slice(text.as_bytes()),
            Said::Over(good, text) => {
                *if good { &mut shared.tally.logins } else { &mut shared.tally.logins_refused } += 1;
                out.extend_from_slice(text.as_bytes());
            }
        }
        if let Some(login) = login {
            self.state = State::Auth(Box::new(login));
        }
        Next::Read
    }

    fn mail(&mut self, line: &[u8], shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Next {
        if self.transaction.mail {
            return self.wrong(b"503 5.5.1 nested MAIL\r\n", shared, out);
        }
        self.transaction.mail = true;
        if shared.behaviour.greylist.is_some() {
            self.transaction.sender = line.to_vec();
        }
        out.extend_from_slice(b"250 2.1.0 sender ok\r\n");
        Next::Read
    }

    fn rcpt(&mut self, line: &[u8], shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Next {
        if !self.transaction.mail {
            return self.wrong(b"503 5.5.1 MAIL first\r\n", shared, out);
        }
        if let Some(next) = strike(Stage::Rcpt, shared, out) {
            self.transaction.refused = true;
            return next;
        }
        if let Some(list) = &shared.behaviour.greylist
            && !list.admits(&self.transaction.sender, line, shared.now)
        {
            shared.tally.greylisted += 1;
            self.transaction.refused = true;
            out.extend_from_slice(b"451 4.7.1 greylisted, try again later\r\n");
            return Next::Read;
        }
        self.transaction.recipients += 1;
        out.extend_from_slice(b"250 2.1.5 recipient ok\r\n");
        Next::Read
    }

    fn data(&mut self, shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Next {
        if self.transaction.recipients == 0 {
            let reply: &[u8] =
                if self.transaction.mail { b"554 5.5.1 no valid recipients\r\n" } else { b"503 5.5.1 MAIL first\r\n" };
            return self.wrong(reply, shared, out);
        }
        self.state = State::Data(Scan::new());
        out.extend_from_slice(b"354 go ahead\r\n");
        Next::Read
    }

    fn bdat(&mut self, line: &[u8], shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Next {
        let text = String::from_utf8_lossy(&line[4..]);
        let mut words = text.split_ascii_whitespace();
        let size = words.next().and_then(|n| n.parse::<usize>().ok());
        let last = words.next().is_some_and(|w| w.eq_ignore_ascii_case("LAST"));
        let Some(size) = size.filter(|_| shared.behaviour.chunking) else {
            // Without a size nobody knows where commands go on (RFC 3030 §2): the session is over.
            self.wrong(b"501 5.5.4 expected BDAT octets [LAST]\r\n", shared, out);
            return Next::Close;
        };
        self.state = State::Chunk(size, last);
        if size == 0 { self.chunk_end(last, shared, out) } else { Next::Read }
    }

    fn chunk_octets(&mut self, input: &[u8], shared: &mut Shared<'_>, out: &mut Vec<u8>) -> (usize, Next) {
        let State::Chunk(left, last) = self.state else { return (input.len(), Next::Close) };
        let used = left.min(input.len());
        self.transaction.body.add(&input[..used], shared.behaviour.ledger);
        self.state = State::Chunk(left - used, last);
        (used, if used == left { self.chunk_end(last, shared, out) } else { Next::Read })
    }

    fn chunk_end(&mut self, last: bool, shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Next {
        self.state = State::Command;
        if self.transaction.recipients == 0 {
            return self.wrong(b"503 5.5.1 no valid recipients\r\n", shared, out);
        }
        if last {
            return self.finish(shared, out);
        }
        out.extend_from_slice(b"250 2.0.0 chunk ok\r\n");
        Next::Read
    }

    fn data_octets(&mut self, input: &[u8], shared: &mut Shared<'_>, out: &mut Vec<u8>) -> (usize, Next) {
        let State::Data(scan) = &mut self.state else { return (input.len(), Next::Close) };
        let ledger = shared.behaviour.ledger;
        let Some(used) = scan.end_of_data(input) else {
            self.transaction.body.add(input, ledger);
            return (input.len(), Next::Read);
        };
        self.transaction.body.add(&input[..used], ledger);
        self.transaction.body.end_of_data();
        self.state = State::Command;
        (used, self.finish(shared, out))
    }

    /// The whole message is here: counts it, writes it down, replies (RFC 2033 §4.2: in LMTP once per recipient).
    fn finish(&mut self, shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Next {
        let transaction = std::mem::take(&mut self.transaction);
        let b = shared.behaviour;
        let replies = if b.lmtp { transaction.recipients } else { 1 };
        let begun = out.len();
        let struck = b.strike(Stage::Body, shared.rng);
        if let Some(next) = struck.and_then(|action| carry_out(action, Stage::Body, shared, out)) {
            let reply = out[begun..].to_vec();
            (1..replies).for_each(|_| out.extend_from_slice(&reply));
            return next;
        }
        shared.tally.messages += 1;
        shared.tally.recipients += u64::from(transaction.recipients);
        shared.tally.octets += transaction.body.octets as u64;
        if b.ledger {
            match transaction.body.received(transaction.recipients) {
                Some(received) => write_down(received, struck, shared.received),
                None => shared.tally.unmarked += 1,
            }
        }
        (0..replies).for_each(|_| out.extend_from_slice(b"250 2.0.0 kept\r\n"));
        let delay = b.delay.draw(shared.rng);
        if delay.is_zero() { self.slowed(Next::Read) } else { Next::Hold(delay) }
    }
}

/// A message for the ledger, or what somebody who lies about it would write.
fn write_down(received: Received, lie: Option<Action>, ledger: &mut Vec<Received>) {
    match lie {
        Some(Action::Lose) => {}
        Some(Action::Double) => ledger.extend([received; 2]),
        Some(Action::Spoil) => ledger.push(Received { crc: !received.crc, ..received }),
        _ => ledger.push(received),
    }
}

/// Whether something goes wrong on purpose here: then its reply is in `out`, and it is counted.
fn strike(stage: Stage, shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Option<Next> {
    let action = shared.behaviour.strike(stage, shared.rng)?;
    carry_out(action, stage, shared, out)
}

/// What goes wrong is said and counted; lies about a message show in the ledger only.
fn carry_out(action: Action, stage: Stage, shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Option<Next> {
    let tally = &mut *shared.tally;
    *tally.faults.entry(name_of(stage, action)).or_insert(0) += 1;
    Some(match action {
        Action::Reply(code) => {
            tally.rejected += u64::from(stage == Stage::Rcpt && code >= 500);
            tally.deferred += u64::from(stage == Stage::Rcpt && code < 500);
            let text = match code {
                550 => "5.1.1 no such user".to_owned(),
                450 => "4.2.1 try again later".to_owned(),
                421 => "4.3.2 closing".to_owned(),
                code => format!("{}.0.0 refused on purpose", code / 100),
            };
            out.extend_from_slice(format!("{code} {text}\r\n").as_bytes());
            if code == 421 || (stage == Stage::Connect) { Next::Close } else { Next::Read }
        }
        Action::Drop => {
            tally.disconnected += 1;
            Next::Drop
        }
        Action::Stall => {
            tally.stalled += 1;
            Next::Stall
        }
        Action::Lose | Action::Double | Action::Spoil => return None,
    })
}

fn trim(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
