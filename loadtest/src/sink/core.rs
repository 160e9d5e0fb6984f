//! One core of the sink: the loop that carries bytes between the driver and the sessions.
//!
//! How it fails: only the driver as a whole or the ledger end it.

use super::behaviour::{Behaviour, TlsOffer};
use super::session::{Next, Received, Session, Shared, Tally};
use crate::ledger::{Fate, Pen};
use crate::stop::Stop;
use crate::table::Table;
use gatepost::base::buf::Chain;
use gatepost::base::time::Instant;
use gatepost::reactor::tls::{ServerTls, Tls};
use gatepost::reactor::{Close, Done, Driver, Id, ReactorKnobs, clock};
use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

/// Longest sleep, so that the ledger reaches its file while nothing happens.
const TURN_MAX: Duration = Duration::from_millis(200);

/// How often the core looks how busy it was.
const SECOND: Duration = Duration::from_secs(1);

/// Processor time of the core's thread, and how long it waited for a processor.
type Times = (Duration, Duration);

#[derive(Default)]
struct Conn {
    session: Session,
    tls: Option<Box<Tls>>,
    sending: bool,
    /// What waits for the open send.
    queued: Chain,
    /// Set while a reply is held back; input waits here meanwhile.
    held: Option<Vec<u8>>,
    input: Vec<u8>,
    closing: bool,
    stalled: bool,
}

struct Core<'a> {
    driver: Driver,
    conns: Table<Conn>,
    behaviour: &'a Behaviour,
    tls: Option<Arc<ServerTls>>,
    tally: Tally,
    rng: fastrand::Rng,
    received: Vec<Received>,
    /// Replies held back, by when they are due; the number keeps those of one instant apart.
    held: BTreeMap<(Instant, u64), Id>,
    held_number: u64,
}

/// What a core is started with.
pub(super) struct Start<'a> {
    pub listener: TcpListener,
    pub knobs: ReactorKnobs,
    pub behaviour: &'a Behaviour,
    pub tls: Option<Arc<ServerTls>>,
    pub pen: Option<Pen>,
    pub number: usize,
}

pub(super) fn run(start: Start<'_>, stop: &Stop) -> io::Result<Tally> {
    let (mut driver, _) = Driver::open(&start.knobs)?;
    driver.listen(start.listener)?;
    stop.wake(driver.waker());
    let mut pen = start.pen;
    let mut core = Core {
        driver,
        conns: Table::default(),
        behaviour: start.behaviour,
        tls: start.tls,
        tally: Tally::default(),
        rng: crate::chance::generator(start.behaviour.seed, start.number as u64 + 1),
        received: Vec::new(),
        held: BTreeMap::new(),
        held_number: 0,
    };
    let mut batch = Vec::new();
    let mut second = (clock::now(), crate::proc::thread_times());
    while !stop.is_stopped() {
        let due = core.held.first_key_value().map(|((due, _), _)| *due);
        let wait = due.map_or(TURN_MAX, |due| (due - clock::now()).min(TURN_MAX));
        core.driver.poll(&mut batch, Some(wait))?;
        let idle = batch.is_empty();
        let now = clock::now();
        batch.drain(..).for_each(|done| core.done(done, now));
        core.release();
        core.write_down(pen.as_mut(), idle)?;
        if now.since(second.0) >= SECOND {
            second = core.busy(second, now);
        }
    }
    core.write_down(pen.as_mut(), true)?;
    Ok(core.tally)
}

impl Core<'_> {
    /// How busy the core was since `then`; where the next second begins.
    fn busy(&mut self, then: (Instant, Times), now: Instant) -> (Instant, Times) {
        let times = crate::proc::thread_times();
        let taken = times.0.saturating_sub(then.1.0) + times.1.saturating_sub(then.1.1);
        let share = taken.as_secs_f64() / now.since(then.0).as_secs_f64().max(1e-9);
        self.tally.busiest_second_permille = self.tally.busiest_second_permille.max((share * 1000.0) as u64);
        (now, times)
    }

    fn done(&mut self, done: Done, now: Instant) {
        match done {
            Done::Accepted { conn, .. } => self.accepted(conn, now),
            Done::Recv { conn, buf } => self.arrived(conn, &buf, now),
            Done::Sent { conn, result, .. } => self.sent(conn, result.is_ok()),
            Done::RecvEnd { conn, .. } => self.close(conn, Close::Graceful),
            Done::Closed { conn } => {
                self.conns.remove(conn);
            }
            Done::AcceptFailed { error, .. } => eprintln!("sink: accept failed: {error}"),
            Done::Connected { .. } => {}
        }
    }

    fn accepted(&mut self, id: Id, now: Instant) {
        self.conns.insert(id, Conn::default());
        self.driver.recv(id, true);
        if self.behaviour.tls == TlsOffer::Implicit {
            self.start_tls(id);
        } else {
            self.drive(id, now, &[], true);
        }
    }

    fn start_tls(&mut self, id: Id) {
        if let (Some(conn), Some(tls)) = (self.conns.get_mut(id), &self.tls) {
            conn.tls = Some(Box::new(Tls::server(tls.clone())));
        }
    }

    /// Octets from the wire.
    fn arrived(&mut self, id: Id, bytes: &[u8], now: Instant) {
        let Some(conn) = self.conns.get_mut(id).filter(|c| !c.closing && !c.stalled) else { return };
        let Some(tls) = &mut conn.tls else { return self.input(id, bytes, now) };
        let mut plain = Vec::new();
        let mut wire = Chain::new();
        let state = tls.received(bytes, &mut plain);
        tls.pending(&mut wire);
        self.send(id, wire);
        let Ok(state) = state else {
            self.tally.tls_failures += 1;
            return self.close(id, Close::Graceful);
        };
        if state.handshake_done_now {
            self.tally.tls_sessions += 1;
            if let Some(conn) = self.conns.get_mut(id) {
                conn.session.tls_started();
            }
            if self.behaviour.tls == TlsOffer::Implicit {
                self.drive(id, now, &[], true);
            }
        }
        if !plain.is_empty() {
            self.input(id, &plain, now);
        }
        if state.peer_closed {
            self.close(id, Close::Graceful);
        }
    }

    /// Words of the client.
    fn input(&mut self, id: Id, bytes: &[u8], now: Instant) {
        let Some(conn) = self.conns.get_mut(id).filter(|c| !c.closing && !c.stalled) else { return };
        if conn.held.is_some() {
            conn.input.extend_from_slice(bytes);
            return;
        }
        self.drive(id, now, bytes, false);
    }

    /// Lets the session greet, or gives it what the client said.
    fn drive(&mut self, id: Id, now: Instant, bytes: &[u8], greet: bool) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let mut shared = Shared {
            now,
            behaviour: self.behaviour,
            tally: &mut self.tally,
            rng: &mut self.rng,
            received: &mut self.received,
        };
        let mut out = Vec::new();
        let (used, next) = match greet {
            true => (0, conn.session.greet(&mut shared, &mut out)),
            false => conn.session.input(bytes, &mut shared, &mut out),
        };
        match next {
            Next::Read => self.say(id, out),
            Next::Hold(delay) => {
                conn.input.extend_from_slice(&bytes[used..]);
                conn.held = Some(out);
                self.driver.recv(id, false);
                self.held_number += 1;
                self.held.insert((now + delay, self.held_number), id);
            }
            Next::StartTls => {
                // What came with the command is no handshake; RFC 3207 §4 has the client wait for the reply.
                self.tally.errors += u64::from(used < bytes.len());
                self.say(id, out);
                self.start_tls(id);
            }
            Next::Close => {
                self.say(id, out);
                self.close(id, Close::Graceful);
            }
            Next::Drop => self.close(id, Close::Reset),
            Next::Stall => {
                conn.stalled = true;
                self.driver.recv(id, false);
                self.say(id, out);
            }
        }
    }

    /// Sends what was held back long enough, and goes on where those sessions stopped.
    fn release(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let now = clock::now();
        while let Some(entry) = self.held.first_entry().filter(|e| e.key().0 <= now) {
            let id = entry.remove();
            let Some(conn) = self.conns.get_mut(id) else { continue };
            let Some(out) = conn.held.take() else { continue };
            let input = std::mem::take(&mut conn.input);
            self.driver.recv(id, true);
            self.say(id, out);
            if !input.is_empty() {
                self.input(id, &input, now);
            }
        }
    }

    fn say(&mut self, id: Id, out: Vec<u8>) {
        let Some(conn) = self.conns.get_mut(id).filter(|_| !out.is_empty()) else { return };
        let mut wire = Chain::from(out);
        if let Some(tls) = &mut conn.tls {
            let plain = std::mem::take(&mut wire);
            tls.send(&plain, &mut wire);
        }
        self.send(id, wire);
    }

    fn send(&mut self, id: Id, wire: Chain) {
        let Some(conn) = self.conns.get_mut(id).filter(|c| !c.closing && !wire.is_empty()) else { return };
        if conn.sending {
            conn.queued.append(wire);
            return;
        }
        conn.sending = true;
        self.driver.send(id, wire);
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
            self.driver.send(id, queued);
        }
        if conn.closing && !conn.sending {
            self.driver.close(id, Close::Graceful);
        }
    }

    fn close(&mut self, id: Id, how: Close) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if how == Close::Graceful
            && !conn.closing
            && let Some(tls) = &mut conn.tls
        {
            let mut wire = Chain::new();
            tls.close(&mut wire);
            self.send(id, wire);
        }
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
