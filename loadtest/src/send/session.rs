//! One connection of the sender: an SMTP or LMTP client as a machine that times every message it sends and every reply.
//!
//! With pipelining a message costs one round trip: its body and the next message's envelope travel together (RFC 2920
//! §3.1 allows the content to begin a group), and a last QUIT goes with the last body. Without it, one command at a time,
//! as `smtp-source` does. What happens before the first message is in `opening`, messages are in `transaction`. How it
//! fails: what the server refuses is an [`Outcome`]; a reply that is none ends the connection with [`Next::Broken`].

use super::opening::Opening;
use super::phases::Phase;
pub use super::script::*;
use crate::message::Message;
use gatepost::base::time::Instant;
use std::collections::VecDeque;
use std::sync::Arc;

/// Longest reply line taken (RFC 5321 §4.5.3.1.5 says 512; challenges of SASL may be longer).
const LINE_OCTETS_MAX: usize = 16 * 1024;

/// A reply that is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    Greeting,
    Hello,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    Final,
    Reset,
    Quit,
}

#[derive(Debug)]
pub(super) struct Transaction {
    pub job: Job,
    pub lines: Arc<Lines>,
    pub message: Message,
    pub asked: u32,
    pub accepted: u32,
    /// Final replies still to come, and how many were good.
    pub finals: u32,
    pub delivered: u32,
    pub refusal: Option<u16>,
    pub handed_over: bool,
}

/// What the server offers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offered {
    pub pipelining: bool,
    pub chunking: bool,
    pub eight_bit: bool,
    pub starttls: bool,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    /// Replies that are owed, and since when.
    expect: VecDeque<(Expect, Instant)>,
    /// At most two: the one whose body is under way, and the one whose envelope follows it.
    pub(super) transactions: VecDeque<Transaction>,
    line: Vec<u8>,
    started: u64,
    pub(super) offered: Offered,
    /// Gone when the first message may be sent.
    pub(super) opening: Option<Box<Opening>>,
}

impl Session {
    /// Of a connection that stands since `now`. With implicit TLS the greeting counts from [`Session::tls_started`].
    pub fn new(plan: Plan, now: Instant) -> Session {
        Session {
            expect: VecDeque::from([(Expect::Greeting, now)]),
            transactions: VecDeque::with_capacity(2),
            line: Vec::new(),
            started: 0,
            offered: Offered::default(),
            opening: Some(Box::new(Opening::new(plan))),
        }
    }

    /// Whether messages may be sent: greeting, EHLO, TLS and login are done. A login that is itself what is tested counts
    /// as a message.
    pub fn is_ready(&self) -> bool {
        self.opening.as_ref().is_none_or(|opening| opening.job.is_some())
    }

    /// Whether nothing but the reply to QUIT is missing, or nothing at all.
    pub fn is_parting(&self) -> bool {
        // An idle session may be closed by the server as well.
        let nothing_else = self.expects_next().map_or(self.is_ready(), |e| e == Expect::Quit);
        self.transactions.is_empty() && nothing_else
    }

    /// The server said `input`.
    pub fn input(&mut self, input: &[u8], shared: &mut Shared<'_>) -> Next {
        let mut rest = input;
        let mut next = Next::Wait;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end + 1);
            rest = after;
            let step = if self.line.is_empty() {
                self.reply_line(line, shared)
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                self.reply_line(&whole, shared)
            };
            match step {
                Next::Wait => {}
                Next::Idle => next = Next::Idle,
                // RFC 3207 §4: the next octets are the handshake's; words in between are somebody else's.
                Next::StartTls if !rest.is_empty() => return Next::Broken,
                end => return end,
            }
        }
        if self.line.len() + rest.len() > LINE_OCTETS_MAX {
            return Next::Broken;
        }
        self.line.extend_from_slice(rest);
        next
    }

    /// A job may be due now; only for a session that was idle.
    pub fn wake(&mut self, shared: &mut Shared<'_>) -> Next {
        self.proceed(shared)
    }

    /// The connection is gone: what was handed over without a reply is unknown, the rest was not sent.
    pub fn lost(&mut self, shared: &mut Shared<'_>) {
        if let Some(job) = self.opening.as_mut().and_then(|opening| opening.job.take()) {
            self.opening = None;
            Opening::end_login(job, Verdict::NotSent, shared);
        }
        for t in std::mem::take(&mut self.transactions) {
            let verdict = if t.handed_over { Verdict::Unknown } else { Verdict::NotSent };
            t.end(verdict, shared);
        }
    }

    pub(super) fn expect(&mut self, what: Expect, now: Instant) {
        self.expect.push_back((what, now));
    }

    /// What the reply after this one is for.
    pub(super) fn expects_next(&self) -> Option<Expect> {
        self.expect.front().map(|(e, _)| *e)
    }

    /// What the last reply is for.
    pub(super) fn expects_last(&self) -> Option<Expect> {
        self.expect.back().map(|(e, _)| *e)
    }

    /// The greeting counts from here.
    pub(super) fn greeting_from(&mut self, now: Instant) {
        self.expect.iter_mut().filter(|(e, _)| *e == Expect::Greeting).for_each(|(_, since)| *since = now);
    }

    fn reply_line(&mut self, line: &[u8], shared: &mut Shared<'_>) -> Next {
        let (Some(code), Some(last)) = (code(line), line.get(3).map(|b| *b != b'-')) else { return Next::Broken };
        if self.expects_next() == Some(Expect::Hello) && code == 250 {
            self.extension(&line[4..]);
        }
        if !last {
            return Next::Wait;
        }
        match self.expect.pop_front() {
            Some((expected, since)) => self.reply(expected, since, code, &line[4..], shared),
            None => Next::Refused(code), // 421 out of turn (RFC 5321 §3.8)
        }
    }

    fn reply(&mut self, expected: Expect, since: Instant, code: u16, text: &[u8], shared: &mut Shared<'_>) -> Next {
        if let Some(phase) = phase(expected).filter(|_| code != 334) {
            shared.phases.record(phase, shared.now.since(since));
        }
        match expected {
            Expect::Greeting => self.greeting(code, shared),
            Expect::Hello => self.hello_reply(code, shared),
            Expect::StartTls => self.starttls_reply(code),
            Expect::Auth => self.auth_reply(code, text, since, shared),
            Expect::Mail => self.mail_reply(code, shared),
            Expect::Rcpt => self.rcpt_reply(code, shared),
            Expect::Data => self.data_reply(code, shared),
            Expect::Final => self.final_reply(code, shared),
            Expect::Reset => {
                if self.transactions.is_empty() {
                    self.proceed(shared)
                } else {
                    Next::Wait
                }
            }
            Expect::Quit => Next::Close,
        }
    }

    pub(super) fn may_start(&self, script: &Script) -> bool {
        script.messages_per_connection == 0 || self.started < script.messages_per_connection
    }

    /// Begins the next message, or waits, or says goodbye.
    pub(super) fn proceed(&mut self, shared: &mut Shared<'_>) -> Next {
        if self.expects_last() == Some(Expect::Quit) {
            return Next::Wait;
        }
        if !self.may_start(shared.script) {
            return self.quit(shared);
        }
        match (shared.feed)() {
            Feed::Job(job) => {
                self.start(job, shared);
                Next::Wait
            }
            Feed::Later => Next::Idle,
            Feed::Over => self.quit(shared),
        }
    }

    pub(super) fn quit(&mut self, shared: &mut Shared<'_>) -> Next {
        shared.out.push_bytes(b"QUIT\r\n");
        self.expect(Expect::Quit, shared.now);
        Next::Wait
    }

    pub(super) fn start(&mut self, job: Job, shared: &mut Shared<'_>) {
        self.started += 1;
        let script = shared.script;
        let mut rng = job.generator(script.seed);
        let lines = script.envelopes.draw(&mut rng);
        let message = script.factory.message(job.id, &lines.from, &lines.to, &mut rng);
        let mut t = Transaction {
            job,
            lines,
            message,
            asked: 0,
            accepted: 0,
            finals: 0,
            delivered: 0,
            refusal: None,
            handed_over: false,
        };
        shared.out.push_bytes(&t.lines.mail);
        let eight_bit = self.offered.eight_bit && t.message.is_eight_bit();
        shared.out.push_bytes(if eight_bit { b" BODY=8BITMIME\r\n" } else { b"\r\n" }); // RFC 6152 §2
        self.expect(Expect::Mail, shared.now);
        if self.offered.pipelining {
            t.lines.rcpts.iter().for_each(|r| shared.out.push_bytes(r));
            t.asked = t.lines.rcpts.len() as u32;
            (0..t.asked).for_each(|_| self.expect(Expect::Rcpt, shared.now));
            self.end_of_envelope(&mut t, shared);
        }
        self.transactions.push_back(t);
    }
}

/// Under which name the time of a reply is kept.
fn phase(expected: Expect) -> Option<Phase> {
    Some(match expected {
        Expect::Greeting => Phase::Greeting,
        Expect::Hello => Phase::Ehlo,
        Expect::StartTls => Phase::StartTls,
        Expect::Auth => Phase::Auth,
        Expect::Mail => Phase::Mail,
        Expect::Rcpt => Phase::Rcpt,
        Expect::Data => Phase::Data,
        Expect::Final => Phase::Final,
        Expect::Reset | Expect::Quit => return None,
    })
}

/// The three digits of a reply line.
fn code(line: &[u8]) -> Option<u16> {
    let digits = line.get(..3)?;
    if !(b'2'..=b'5').contains(&digits[0]) || !digits.iter().all(u8::is_ascii_digit) || line.len() < 5 {
        return None;
    }
    Some(digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0')))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
