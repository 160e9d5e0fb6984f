//! One connection of the sender: an SMTP or LMTP client as a machine that times every message it sends.
//!
//! With pipelining a message costs one round trip: its body and the next message's envelope travel together (RFC 2920
//! §3.1 allows the content to begin a group), and a last QUIT goes with the last body. Without it, one command at a time,
//! as `smtp-source` does. How it fails: what the server refuses is an [`Outcome`]; a reply that is none ends the
//! connection with [`Next::Broken`].

use crate::message::{Factory, Message};
use gatepost::base::buf::{Chain, Segment};
use gatepost::base::time::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// Longest reply line taken (RFC 5321 §4.5.3.1.5 says 512).
const LINE_OCTETS_MAX: usize = 4096;

/// How a message is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// DATA.
    Data,
    /// BDAT when the server offers CHUNKING, DATA otherwise.
    Bdat,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Messages, as many as a connection carries.
    Mail,
    /// Recipients that are refused: MAIL, RCPT, QUIT.
    Reject,
}

/// What all connections of a run share.
#[derive(Clone, Debug)]
pub struct Script {
    /// LMTP instead of SMTP.
    pub lmtp: bool,
    /// Whether PIPELINING is used when offered.
    pub pipeline: bool,
    /// DATA or BDAT.
    pub transfer: Transfer,
    /// What connections do.
    pub work: Work,
    /// Messages after which a connection is closed; 0 keeps it.
    pub messages_per_connection: u64,
    /// Whether a message's time begins when its connection is free (closed loop), although its envelope may travel
    /// before that; in an open loop it begins with its place in the schedule.
    pub from_free: bool,
    /// `MAIL FROM:<…>` with its line end.
    pub mail: Vec<u8>,
    /// `RCPT TO:<…>` lines with their line ends.
    pub rcpts: Vec<Vec<u8>>,
    /// Makes the messages.
    pub factory: Factory,
}

/// A message to send, and since when it should have been on its way.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Its id.
    pub id: crate::message::Id,
    /// Latency counts from here.
    pub scheduled: Instant,
}

/// What the schedule has for a connection that is ready.
#[derive(Clone, Copy, Debug)]
pub enum Feed {
    /// Send this.
    Job(Job),
    /// Nothing is due; wait.
    Later,
    /// There is nothing more to come.
    Over,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// 2xx for this many recipients.
    Accepted(u32),
    /// Refused with this code.
    Refused(u16),
    /// Handed over, and no reply came.
    Unknown,
    /// The connection was lost before the message was handed over.
    NotSent,
}

/// The end of a message.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Which.
    pub job: Job,
    /// Its body's checksum.
    pub crc: u32,
    /// What became of it.
    pub verdict: Verdict,
    /// From its schedule to the last reply.
    pub latency: Duration,
}

/// What the caller has to do after an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    Wait,
    /// Nothing is due: give it a job later ([`Session::wake`]).
    Idle,
    /// Done with: close.
    Close,
    /// The server refused the whole session with this code: close.
    Refused(u16),
    /// The server said what is no reply: close.
    Broken,
}

/// Where a session reaches its surroundings.
pub struct Shared<'a> {
    /// Now.
    pub now: Instant,
    /// The run.
    pub script: &'a Script,
    /// Where jobs come from.
    pub feed: &'a mut dyn FnMut() -> Feed,
    /// Where outcomes go.
    pub outcomes: &'a mut Vec<Outcome>,
    /// What is to be sent.
    pub out: &'a mut Chain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Greeting,
    Hello,
    Mail,
    Rcpt,
    Data,
    Final,
    Reset,
    Quit,
}

#[derive(Debug)]
struct Transaction {
    job: Job,
    message: Message,
    asked: u32,
    accepted: u32,
    /// Final replies still to come, and how many were good.
    finals: u32,
    delivered: u32,
    refusal: Option<u16>,
    handed_over: bool,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    expect: VecDeque<Expect>,
    /// At most two: the one whose body is under way, and the one whose envelope follows it.
    transactions: VecDeque<Transaction>,
    line: Vec<u8>,
    started: u64,
    pipelining: bool,
    chunking: bool,
    ready: bool,
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
            expect: VecDeque::from([Expect::Greeting]),
            transactions: VecDeque::with_capacity(2),
            line: Vec::new(),
            started: 0,
            pipelining: false,
            chunking: false,
            ready: false,
        }
    }

    /// Whether EHLO has been answered.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether nothing but the reply to QUIT is missing.
    pub fn is_parting(&self) -> bool {
        self.transactions.is_empty() && self.expect.front().is_none_or(|e| *e == Expect::Quit)
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
        for t in std::mem::take(&mut self.transactions) {
            let verdict = if t.handed_over { Verdict::Unknown } else { Verdict::NotSent };
            t.end(verdict, shared);
        }
    }

    fn reply_line(&mut self, line: &[u8], shared: &mut Shared<'_>) -> Next {
        let (Some(code), Some(last)) = (code(line), line.get(3).map(|b| *b != b'-')) else { return Next::Broken };
        if self.expect.front() == Some(&Expect::Hello) && code == 250 {
            self.extension(&line[4..]);
        }
        if !last {
            return Next::Wait;
        }
        match self.expect.pop_front() {
            Some(expected) => self.reply(expected, code, shared),
            None => Next::Refused(code), // 421 out of turn (RFC 5321 §3.8)
        }
    }

    fn extension(&mut self, text: &[u8]) {
        let word = text.split(|b| b.is_ascii_whitespace()).next().unwrap_or_default();
        self.pipelining |= word.eq_ignore_ascii_case(b"PIPELINING");
        self.chunking |= word.eq_ignore_ascii_case(b"CHUNKING");
    }

    fn reply(&mut self, expected: Expect, code: u16, shared: &mut Shared<'_>) -> Next {
        match expected {
            Expect::Greeting | Expect::Hello if code / 100 != 2 => Next::Refused(code),
            Expect::Greeting => {
                shared.out.push_bytes(if shared.script.lmtp {
                    b"LHLO load.example.test\r\n"
                } else {
                    b"EHLO load.example.test\r\n"
                });
                self.expect.push_back(Expect::Hello);
                Next::Wait
            }
            Expect::Hello => {
                self.ready = true;
                self.pipelining &= shared.script.pipeline;
                self.chunking &= shared.script.transfer == Transfer::Bdat;
                self.proceed(shared)
            }
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

    fn may_start(&self, script: &Script) -> bool {
        script.messages_per_connection == 0 || self.started < script.messages_per_connection
    }

    /// Begins the next message, or waits, or says goodbye.
    fn proceed(&mut self, shared: &mut Shared<'_>) -> Next {
        if self.expect.back() == Some(&Expect::Quit) {
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

    fn quit(&mut self, shared: &mut Shared<'_>) -> Next {
        shared.out.push_bytes(b"QUIT\r\n");
        self.expect.push_back(Expect::Quit);
        Next::Wait
    }

    fn start(&mut self, job: Job, shared: &mut Shared<'_>) {
        self.started += 1;
        let script = shared.script;
        let mut t = Transaction {
            job,
            message: script.factory.message(job.id),
            asked: 0,
            accepted: 0,
            finals: 0,
            delivered: 0,
            refusal: None,
            handed_over: false,
        };
        shared.out.push_bytes(&script.mail);
        self.expect.push_back(Expect::Mail);
        if self.pipelining {
            script.rcpts.iter().for_each(|r| shared.out.push_bytes(r));
            self.expect.extend(script.rcpts.iter().map(|_| Expect::Rcpt));
            t.asked = script.rcpts.len() as u32;
            self.end_of_envelope(&mut t, shared);
        }
        self.transactions.push_back(t);
    }

    /// What follows the recipients in the same group.
    fn end_of_envelope(&mut self, t: &mut Transaction, shared: &mut Shared<'_>) {
        match shared.script.work {
            Work::Reject => {
                self.quit(shared);
            }
            Work::Mail if self.chunking && !shared.script.lmtp => {
                shared.out.push_bytes(format!("BDAT {} LAST\r\n", t.message.octets).as_bytes());
                t.push_body(shared.out);
                t.finals = 1;
                self.expect.push_back(Expect::Final);
            }
            Work::Mail => {
                shared.out.push_bytes(b"DATA\r\n");
                self.expect.push_back(Expect::Data);
            }
        }
    }

    fn mail_reply(&mut self, code: u16, shared: &mut Shared<'_>) -> Next {
        let Some(t) = self.transactions.back_mut() else { return Next::Broken };
        if code / 100 != 2 {
            t.refusal.get_or_insert(code);
        }
        match (self.pipelining, code / 100) {
            (true, _) => Next::Wait,
            (false, 2) => self.next_rcpt(shared),
            (false, _) => self.refused(shared),
        }
    }

    fn next_rcpt(&mut self, shared: &mut Shared<'_>) -> Next {
        let Some(t) = self.transactions.back_mut() else { return Next::Broken };
        let Some(rcpt) = shared.script.rcpts.get(t.asked as usize) else { return Next::Broken };
        t.asked += 1;
        shared.out.push_bytes(rcpt);
        self.expect.push_back(Expect::Rcpt);
        Next::Wait
    }

    fn rcpt_reply(&mut self, code: u16, shared: &mut Shared<'_>) -> Next {
        let Some(t) = self.transactions.back_mut() else { return Next::Broken };
        if code / 100 == 2 {
            t.accepted += 1;
        } else {
            t.refusal.get_or_insert(code);
        }
        let all = shared.script.rcpts.len() as u32;
        if shared.script.work == Work::Reject && (!self.pipelining || self.expect.front() != Some(&Expect::Rcpt)) {
            return self.reject_done(all, shared);
        }
        if self.pipelining {
            return Next::Wait;
        }
        if t.asked < all {
            return self.next_rcpt(shared);
        }
        if t.accepted == 0 {
            return self.refused(shared);
        }
        if self.chunking {
            let mut t = self.transactions.pop_back();
            if let Some(t) = &mut t {
                self.end_of_envelope(t, shared);
            }
            self.transactions.extend(t);
        } else {
            shared.out.push_bytes(b"DATA\r\n");
            self.expect.push_back(Expect::Data);
        }
        Next::Wait
    }

    /// In a test of refusals the last answer to RCPT is the end of the message.
    fn reject_done(&mut self, all: u32, shared: &mut Shared<'_>) -> Next {
        let Some(t) = self.transactions.back_mut() else { return Next::Broken };
        if t.asked < all {
            return self.next_rcpt(shared);
        }
        let Some(t) = self.transactions.pop_back() else { return Next::Broken };
        let verdict = t.refusal.map_or(Verdict::Accepted(0), Verdict::Refused);
        t.end(verdict, shared);
        if self.pipelining { Next::Wait } else { self.quit(shared) }
    }

    fn data_reply(&mut self, code: u16, shared: &mut Shared<'_>) -> Next {
        let Some(t) = self.transactions.back_mut() else { return Next::Broken };
        if code != 354 {
            t.refusal.get_or_insert(code);
            return self.refused(shared);
        }
        if t.accepted == 0 {
            // RFC 2920 §3.1: a server that takes DATA without recipients gets an empty message.
            t.finals = 1;
        } else {
            t.push_body(shared.out);
            t.finals = if shared.script.lmtp { t.accepted } else { 1 };
        }
        let finals = t.finals;
        shared.out.push(Segment::Static(b".\r\n"));
        (0..finals).for_each(|_| self.expect.push_back(Expect::Final));
        // The next envelope, or the farewell, rides along.
        if !self.pipelining || self.expect.back() == Some(&Expect::Quit) {
            return Next::Wait;
        }
        if !self.may_start(shared.script) {
            return self.quit(shared);
        }
        if let Feed::Job(job) = (shared.feed)() {
            self.start(job, shared);
        }
        Next::Wait
    }

    fn final_reply(&mut self, code: u16, shared: &mut Shared<'_>) -> Next {
        let Some(t) = self.transactions.front_mut() else { return Next::Broken };
        t.finals = t.finals.saturating_sub(1);
        if code / 100 == 2 {
            t.delivered += 1;
        } else {
            t.refusal.get_or_insert(code);
        }
        if t.finals > 0 {
            return Next::Wait;
        }
        let Some(t) = self.transactions.pop_front() else { return Next::Broken };
        // One reply stands for all recipients, except in LMTP (RFC 2033 §4.2).
        let recipients = if shared.script.lmtp { t.delivered } else { t.accepted };
        let accepted = t.delivered > 0 && t.accepted > 0;
        let bad_chunk = self.chunking && !accepted;
        let verdict =
            if accepted { Verdict::Accepted(recipients) } else { Verdict::Refused(t.refusal.unwrap_or(code)) };
        t.end(verdict, shared);
        if let Some(following) = self.transactions.front_mut() {
            if shared.script.from_free {
                following.job.scheduled = shared.now;
            }
            return Next::Wait;
        }
        if bad_chunk {
            return self.reset(shared);
        }
        self.proceed(shared)
    }

    /// The newest message was refused before its body: RSET, and in the same group what comes next.
    fn refused(&mut self, shared: &mut Shared<'_>) -> Next {
        let Some(t) = self.transactions.pop_back() else { return Next::Broken };
        let code = t.refusal.unwrap_or_default();
        t.end(Verdict::Refused(code), shared);
        if shared.script.work == Work::Reject {
            return self.quit(shared);
        }
        self.reset(shared)
    }

    fn reset(&mut self, shared: &mut Shared<'_>) -> Next {
        shared.out.push_bytes(b"RSET\r\n");
        self.expect.push_back(Expect::Reset);
        Next::Wait
    }
}

impl Transaction {
    fn push_body(&mut self, out: &mut Chain) {
        self.handed_over = true;
        out.push_bytes(&self.message.head);
        out.push(self.message.filling.clone());
    }

    fn end(&self, verdict: Verdict, shared: &mut Shared<'_>) {
        let latency = shared.now.since(self.job.scheduled);
        shared.outcomes.push(Outcome { job: self.job, crc: self.message.crc, verdict, latency });
    }
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
