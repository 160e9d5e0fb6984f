//! One client of the sink: the least SMTP or LMTP server that is still a correct one, as a machine.
//!
//! It answers all commands of a segment in one output, throws bodies away (or keeps each just long enough to take its
//! checksum), and misbehaves on purpose as it is told. How it fails: lines that are too long and commands out of order
//! get the protocol's reply and are counted; the session ends only where the protocol ends it.

use super::Behaviour;
use crate::message;
use std::time::Duration;

/// Longest command line taken, in octets; RFC 5321 §4.5.3.1.4 asks for 512, extensions for more.
const LINE_OCTETS_MAX: usize = 4096;
/// Bodies longer than this are not kept for the ledger, which then has no line for them (they are counted).
const KEPT_OCTETS_MAX: usize = 256 << 20;

/// What all sessions of a core have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    /// Connections.
    pub sessions: u64,
    /// Messages answered with 250.
    pub messages: u64,
    /// Recipients of those.
    pub recipients: u64,
    /// Octets of those, as they were on the wire.
    pub octets: u64,
    /// Recipients refused with 550.
    pub rejected: u64,
    /// Recipients put off with 450.
    pub deferred: u64,
    /// Connections dropped instead of a reply.
    pub disconnected: u64,
    /// Commands out of order, unknown or malformed.
    pub errors: u64,
    /// Messages without a readable id, when a ledger is kept.
    pub unmarked: u64,
}

impl Tally {
    /// Adds what another core counted.
    pub fn add(&mut self, other: &Tally) {
        self.sessions += other.sessions;
        self.messages += other.messages;
        self.recipients += other.recipients;
        self.octets += other.octets;
        self.rejected += other.rejected;
        self.deferred += other.deferred;
        self.disconnected += other.disconnected;
        self.errors += other.errors;
        self.unmarked += other.unmarked;
    }
}

/// A message the session has answered with 250, for the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its id.
    pub id: message::Id,
    /// CRC32C of its body.
    pub crc: u32,
    /// Recipients it was for.
    pub recipients: u32,
}

/// What the caller has to do after an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send the output, go on reading.
    Read,
    /// Send the output only after this long; what was not consumed comes again after [`Session::resume`].
    Hold(Duration),
    /// Send the output, then close.
    Close,
    /// Close at once, without the output.
    Drop,
}

/// What all sessions of a core share.
pub struct Shared<'a> {
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
    Data(Scan),
    /// Octets of this chunk left, and whether it is the last (RFC 3030 §2).
    Chunk(usize, bool),
}

/// The last octets seen, to find an end of data that is cut in two.
#[derive(Debug)]
struct Scan {
    tail: [u8; 4],
    tail_len: usize,
}

/// Between MAIL and the end of data.
#[derive(Debug, Default)]
struct Transaction {
    mail: bool,
    recipients: u32,
    octets: usize,
    kept: Vec<u8>,
    too_long: bool,
}

/// One client.
#[derive(Debug)]
pub struct Session {
    state: State,
    transaction: Transaction,
    line: Vec<u8>,
}

impl Default for Session {
    fn default() -> Self {
        Session::new()
    }
}

impl Session {
    /// Before the greeting.
    pub fn new() -> Session {
        Session { state: State::Command, transaction: Transaction::default(), line: Vec::new() }
    }

    /// What the server says first.
    pub fn greet(&mut self, shared: &mut Shared<'_>, out: &mut Vec<u8>) {
        shared.tally.sessions += 1;
        out.extend_from_slice(shared.behaviour.greeting.as_bytes());
    }

    /// The client said `input`; returns how much of it was consumed (all of it unless [`Next`] stops) and what is next.
    pub fn input(&mut self, input: &[u8], shared: &mut Shared<'_>, out: &mut Vec<u8>) -> (usize, Next) {
        let mut at = 0;
        while at < input.len() {
            let (used, next) = match self.state {
                State::Command => self.command_octets(&input[at..], shared, out),
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

    fn command_octets(&mut self, input: &[u8], shared: &mut Shared<'_>, out: &mut Vec<u8>) -> (usize, Next) {
        let Some(end) = memchr::memchr(b'\n', input) else {
            let room = LINE_OCTETS_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&input[..input.len().min(room)]);
            return (input.len(), Next::Read);
        };
        let next = if self.line.is_empty() {
            self.command(trim(&input[..end]), shared, out)
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(&input[..end]);
            self.command(trim(&line), shared, out)
        };
        (end + 1, next)
    }

    fn command(&mut self, line: &[u8], shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Next {
        if line.len() >= LINE_OCTETS_MAX {
            return self.wrong(b"500 5.5.2 line too long\r\n", shared, out);
        }
        let mut verb = [0u8; 4];
        let n = line.len().min(4);
        verb[..n].copy_from_slice(&line[..n]);
        verb.make_ascii_uppercase();
        match &verb {
            b"EHLO" | b"LHLO" => self.hello(out, &shared.behaviour.extensions),
            b"HELO" => self.hello(out, "250 sink\r\n"),
            b"MAIL" => self.mail(shared, out),
            b"RCPT" => self.rcpt(shared, out),
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
        shared.tally.errors += 1;
        out.extend_from_slice(reply);
        Next::Read
    }

    fn mail(&mut self, shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Next {
        if self.transaction.mail {
            return self.wrong(b"503 5.5.1 nested MAIL\r\n", shared, out);
        }
        self.transaction.mail = true;
        out.extend_from_slice(b"250 2.1.0 sender ok\r\n");
        Next::Read
    }

    fn rcpt(&mut self, shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Next {
        if !self.transaction.mail {
            return self.wrong(b"503 5.5.1 MAIL first\r\n", shared, out);
        }
        let b = shared.behaviour;
        // One throw of the dice for both, so that the shares are of all recipients.
        let dice = if b.reject_rcpt + b.defer > 0.0 { shared.rng.f64() } else { 1.0 };
        if dice < b.reject_rcpt {
            shared.tally.rejected += 1;
            out.extend_from_slice(b"550 5.1.1 no such user\r\n");
        } else if dice < b.reject_rcpt + b.defer {
            shared.tally.deferred += 1;
            out.extend_from_slice(b"450 4.2.1 try again later\r\n");
        } else {
            self.transaction.recipients += 1;
            out.extend_from_slice(b"250 2.1.5 recipient ok\r\n");
        }
        Next::Read
    }

    fn data(&mut self, shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Next {
        if self.transaction.recipients == 0 {
            let reply: &[u8] =
                if self.transaction.mail { b"554 5.5.1 no valid recipients\r\n" } else { b"503 5.5.1 MAIL first\r\n" };
            return self.wrong(reply, shared, out);
        }
        // The CRLF that ended DATA counts for an end of data right away (RFC 5321 §4.1.1.4).
        self.state = State::Data(Scan { tail: [b'\r', b'\n', 0, 0], tail_len: 2 });
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
        self.keep(&input[..used], shared.behaviour.ledger);
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
        let Some(used) = scan.end_of_data(input) else {
            self.keep(input, shared.behaviour.ledger);
            return (input.len(), Next::Read);
        };
        self.keep(&input[..used], shared.behaviour.ledger);
        let kept = &mut self.transaction.kept;
        if !kept.is_empty() {
            kept.truncate(kept.len().saturating_sub(3)); // ".\r\n"
            unstuff(kept);
        }
        self.state = State::Command;
        (used, self.finish(shared, out))
    }

    fn keep(&mut self, octets: &[u8], ledger: bool) {
        let t = &mut self.transaction;
        t.octets += octets.len();
        if ledger && t.kept.len() + octets.len() <= KEPT_OCTETS_MAX {
            t.kept.extend_from_slice(octets);
        } else {
            t.too_long |= ledger;
        }
    }

    /// The whole message is here: counts it, writes it down, replies (RFC 2033 §4.2: in LMTP once per recipient).
    fn finish(&mut self, shared: &mut Shared<'_>, out: &mut Vec<u8>) -> Next {
        let transaction = std::mem::take(&mut self.transaction);
        let b = shared.behaviour;
        if b.disconnect > 0.0 && shared.rng.f64() < b.disconnect {
            shared.tally.disconnected += 1;
            return Next::Drop;
        }
        shared.tally.messages += 1;
        shared.tally.recipients += u64::from(transaction.recipients);
        shared.tally.octets += transaction.octets as u64;
        if b.ledger {
            match transaction.received() {
                Some(received) => shared.received.push(received),
                None => shared.tally.unmarked += 1,
            }
        }
        let replies = if b.lmtp { transaction.recipients } else { 1 };
        (0..replies).for_each(|_| out.extend_from_slice(b"250 2.0.0 kept\r\n"));
        if b.delay.is_zero() { Next::Read } else { Next::Hold(b.delay) }
    }
}

impl Transaction {
    fn received(&self) -> Option<Received> {
        if self.too_long {
            return None;
        }
        let (header, body) = message::split(&self.kept);
        Some(Received { id: message::id_in(header)?, crc: crc32c::crc32c(body), recipients: self.recipients })
    }
}

impl Scan {
    /// Octets of `input` up to and with the end of data, when it is in there (RFC 5321 §4.1.1.4: CRLF . CRLF, nothing else).
    fn end_of_data(&mut self, input: &[u8]) -> Option<usize> {
        const END: &[u8] = b"\r\n.\r\n";
        let mut seam = [0u8; 8];
        let head = input.len().min(4);
        seam[..self.tail_len].copy_from_slice(&self.tail[..self.tail_len]);
        seam[self.tail_len..self.tail_len + head].copy_from_slice(&input[..head]);
        let seam = &seam[..self.tail_len + head];
        if let Some(at) = memchr::memmem::find(seam, END) {
            return Some(at + END.len() - self.tail_len);
        }
        if let Some(at) = memchr::memmem::find(input, END) {
            return Some(at + END.len());
        }
        let rest = if input.len() >= 4 { &input[input.len() - 4..] } else { &seam[seam.len().saturating_sub(4)..] };
        let mut tail = [0u8; 4];
        tail[..rest.len()].copy_from_slice(rest);
        (self.tail, self.tail_len) = (tail, rest.len());
        None
    }
}

fn trim(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Takes the dot off the front of every line that begins with one (RFC 5321 §4.5.2).
fn unstuff(message: &mut Vec<u8>) {
    if !message.starts_with(b".") && memchr::memmem::find(message, b"\r\n.").is_none() {
        return;
    }
    let mut line_start = true;
    let mut previous = 0;
    message.retain(|b| {
        let drop = line_start && *b == b'.';
        line_start = previous == b'\r' && *b == b'\n';
        previous = *b;
        !drop
    });
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
