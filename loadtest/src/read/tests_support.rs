//! Dialogues for the tests of machines: `s` is what the server says, `c` what the client must answer.
//!
//! How it fails: a client that says something else panics with both.

#![allow(clippy::unwrap_used, missing_docs, reason = "for tests only")]

use super::{Do, Task};
use crate::client::{Client, Next, Sighting, Tally, Turn};
use crate::message::{Factory, Id};
use crate::size::Sizes;
use gatepost::base::buf::Chain;
use gatepost::base::time::Instant;
use std::time::Duration;

/// A task that does this once, as user 0.
pub fn task(what: Do) -> Task {
    Task {
        user: 0,
        name: "u1".into(),
        password: "secret".into(),
        what,
        rounds: 1,
        pause: Duration::ZERO,
        delete: false,
        mailbox: "INBOX".into(),
    }
}

/// A message of ours of about this size: its id, its text, the checksum of its body.
pub fn ours(octets: u64) -> (Id, String, u32) {
    let id = Id { run: 3, core: 1, seq: 9 };
    let factory = Factory::made(Sizes::Fixed(octets));
    let message = factory.message(id, "a@x.test", "b@x.test", &mut fastrand::Rng::with_seed(1));
    let mut out = Chain::new();
    message.push_into(&mut out, false);
    (id, String::from_utf8(out.to_vec()).unwrap(), message.crc)
}

/// A dialogue with one client.
pub struct Play<C> {
    client: C,
    /// Octets of a piece in which the server's words arrive; 0 is whole.
    cut: usize,
    now: Instant,
    over: bool,
    out: Vec<u8>,
    next: Next,
    pub tally: Tally,
    pub seen: Vec<Sighting>,
    rng: fastrand::Rng,
}

impl<C: Client> Play<C> {
    /// Whole, octet by octet, and in odd pieces.
    pub const CUTS: [usize; 4] = [0, 1, 3, 17];

    pub fn new(client: C, cut: usize) -> Play<C> {
        let (tally, seen) = (Tally::default(), Vec::new());
        let rng = fastrand::Rng::with_seed(7);
        let mut play = Play {
            client,
            cut,
            now: Instant::ZERO + Duration::from_secs(1),
            over: false,
            out: Vec::new(),
            next: Next::Wait,
            tally,
            seen,
            rng,
        };
        play.step(|client, turn| client.connected(turn));
        play
    }

    fn step(&mut self, step: impl FnOnce(&mut C, &mut Turn<'_>) -> Next) {
        self.now = self.now + Duration::from_millis(1);
        let mut turn = Turn {
            now: self.now,
            over: self.over,
            out: &mut self.out,
            tally: &mut self.tally,
            seen: &mut self.seen,
            rng: &mut self.rng,
        };
        self.next = step(&mut self.client, &mut turn);
    }

    /// The server says a line (or several).
    pub fn s(&mut self, line: &str) -> &mut Self {
        assert_eq!(String::from_utf8_lossy(&self.out), "", "before the server said {line:?}");
        let bytes = format!("{line}\r\n").into_bytes();
        let size = if self.cut == 0 { bytes.len() } else { self.cut };
        for piece in bytes.chunks(size) {
            self.step(|client, turn| client.input(piece, turn));
        }
        self
    }

    /// The client has said exactly this.
    pub fn c(&mut self, line: &str) -> &mut Self {
        let said = String::from_utf8_lossy(&std::mem::take(&mut self.out)).into_owned();
        assert_eq!(said, format!("{line}\r\n"), "{:?}", self.next);
        self
    }

    /// The client has said something that begins like this.
    pub fn c_begins(&mut self, start: &str) -> &mut Self {
        let said = String::from_utf8_lossy(&std::mem::take(&mut self.out)).into_owned();
        assert!(said.starts_with(start), "expected {start:?}, found {said:?}");
        self
    }

    /// The client has said exactly these octets.
    pub fn c_is(&mut self, octets: &str) -> &mut Self {
        assert_eq!(String::from_utf8_lossy(&std::mem::take(&mut self.out)), octets, "{:?}", self.next);
        self
    }

    /// The client has said these octets, and now the server says a line.
    pub fn s_while(&mut self, octets: &str, line: &str) -> &mut Self {
        self.c_is(octets).s(line)
    }

    /// The client asked to be woken in that many seconds.
    pub fn sleeps(&mut self, seconds: u64) -> &mut Self {
        assert_eq!(self.next, Next::WakeAt(self.now + Duration::from_secs(seconds)));
        self
    }

    pub fn wake(&mut self) -> &mut Self {
        self.step(|client, turn| client.wake(turn));
        self
    }

    /// The run is over from here on.
    pub fn over(&mut self) -> &mut Self {
        self.over = true;
        self
    }

    /// The server closes; whether that is in order.
    pub fn eof(&mut self) -> bool {
        let mut fine = false;
        self.step(|client, turn| {
            fine = client.ended(turn);
            Next::Close
        });
        fine
    }

    pub fn ends(&mut self, next: Next) -> &mut Self {
        assert_eq!(self.next, next);
        self
    }
}
