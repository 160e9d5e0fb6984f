//! One core of the sink: the loop that carries bytes between the driver and the sessions.
//!
//! How it fails: only the driver as a whole or the ledger end it.

use super::Behaviour;
use super::session::{Next, Received, Session, Shared, Tally};
use crate::ledger::{Fate, Pen};
use crate::stop::Stop;
use crate::table::Table;
use gatepost::base::buf::Chain;
use gatepost::base::time::Instant;
use gatepost::reactor::{Close, Done, Driver, Id, ReactorKnobs, clock};
use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::time::Duration;

/// Longest sleep, so that the ledger reaches its file while nothing happens.
const TURN_MAX: Duration = Duration::from_millis(200);

#[derive(Default)]
struct Conn {
    session: Session,
    sending: bool,
    /// Replies that wait for the open send.
    queued: Vec<u8>,
    /// Set while a reply is held back; input waits here meanwhile.
    held: Option<Vec<u8>>,
    input: Vec<u8>,
    closing: bool,
}

struct Core<'a> {
    driver: Driver,
    conns: Table<Conn>,
    behaviour: &'a Behaviour,
    tally: Tally,
    rng: fastrand::Rng,
    received: Vec<Received>,
    /// Replies held back, in the order in which they are due (the delay is the same for all).
    held: VecDeque<(Instant, Id)>,
}

pub(super) fn run(
    listener: TcpListener,
    knobs: &ReactorKnobs,
    behaviour: &Behaviour,
    mut pen: Option<Pen>,
    number: usize,
    stop: &Stop,
) -> io::Result<Tally> {
    let (mut driver, _) = Driver::open(knobs)?;
    driver.listen(listener)?;
    stop.wake(driver.waker());
    let mut core = Core {
        driver,
        conns: Table::default(),
        behaviour,
        tally: Tally::default(),
        rng: fastrand::Rng::with_seed(number as u64 + 1),
        received: Vec::new(),
        held: VecDeque::new(),
    };
    let mut batch = Vec::new();
    while !stop.is_stopped() {
        let wait = core.held.front().map_or(TURN_MAX, |(due, _)| (*due - clock::now()).min(TURN_MAX));
        core.driver.poll(&mut batch, Some(wait))?;
        let idle = batch.is_empty();
        batch.drain(..).for_each(|done| core.done(done));
        core.release();
        core.write_down(pen.as_mut(), idle)?;
    }
    core.write_down(pen.as_mut(), true)?;
    Ok(core.tally)
}

impl Core<'_> {
    fn done(&mut self, done: Done) {
        match done {
            Done::Accepted { conn, .. } => self.accepted(conn),
            Done::Recv { conn, buf } => self.input(conn, &buf),
            Done::Sent { conn, result, .. } => self.sent(conn, result.is_ok()),
            Done::RecvEnd { conn, .. } => self.close(conn, Close::Graceful),
            Done::Closed { conn } => {
                self.conns.remove(conn);
            }
            Done::AcceptFailed { error, .. } => eprintln!("sink: accept failed: {error}"),
            Done::Connected { .. } => {}
        }
    }

    fn accepted(&mut self, id: Id) {
        let mut conn = Conn::default();
        let mut out = Vec::new();
        let mut shared = Shared {
            behaviour: self.behaviour,
            tally: &mut self.tally,
            rng: &mut self.rng,
            received: &mut self.received,
        };
        conn.session.greet(&mut shared, &mut out);
        self.conns.insert(id, conn);
        self.driver.recv(id, true);
        self.say(id, out);
    }

    fn input(&mut self, id: Id, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.closing {
            return;
        }
        if conn.held.is_some() {
            conn.input.extend_from_slice(bytes);
            return;
        }
        let mut shared = Shared {
            behaviour: self.behaviour,
            tally: &mut self.tally,
            rng: &mut self.rng,
            received: &mut self.received,
        };
        let mut out = Vec::new();
        let (used, next) = conn.session.input(bytes, &mut shared, &mut out);
        match next {
            Next::Read => self.say(id, out),
            Next::Hold(delay) => {
                conn.input.extend_from_slice(&bytes[used..]);
                conn.held = Some(out);
                self.driver.recv(id, false);
                self.held.push_back((clock::now() + delay, id));
            }
            Next::Close => {
                self.say(id, out);
                self.close(id, Close::Graceful);
            }
            Next::Drop => self.close(id, Close::Reset),
        }
    }

    /// Sends what was held back long enough, and goes on where those sessions stopped.
    fn release(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let now = clock::now();
        while self.held.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, id)) = self.held.pop_front() else { return };
            let Some(conn) = self.conns.get_mut(id) else { continue };
            let Some(out) = conn.held.take() else { continue };
            let input = std::mem::take(&mut conn.input);
            self.driver.recv(id, true);
            self.say(id, out);
            if !input.is_empty() {
                self.input(id, &input);
            }
        }
    }

    fn say(&mut self, id: Id, out: Vec<u8>) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if out.is_empty() || conn.closing {
            return;
        }
        if conn.sending {
            conn.queued.extend_from_slice(&out);
            return;
        }
        conn.sending = true;
        self.driver.send(id, Chain::from(out));
    }

    fn sent(&mut self, id: Id, whole: bool) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.sending = false;
        if !whole {
            return self.close(id, Close::Reset);
        }
        if !conn.queued.is_empty() {
            conn.sending = true;
            let queued = std::mem::take(&mut conn.queued);
            self.driver.send(id, Chain::from(queued));
        }
        if conn.closing && !conn.sending {
            self.driver.close(id, Close::Graceful);
        }
    }

    fn close(&mut self, id: Id, how: Close) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        // What is queued behind an open send goes out first; `sent` closes then.
        let later = how == Close::Graceful && conn.sending && !conn.queued.is_empty();
        if !later && (!conn.closing || how == Close::Reset) {
            self.driver.close(id, how);
        }
        conn.closing = true;
    }

    fn write_down(&mut self, pen: Option<&mut Pen>, flush: bool) -> io::Result<()> {
        let Some(pen) = pen else { return Ok(()) };
        for r in self.received.drain(..) {
            pen.write(Fate::Seen, r.id, r.crc, r.recipients)?;
        }
        if flush { pen.flush() } else { Ok(()) }
    }
}
