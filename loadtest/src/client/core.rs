//! One core of clients: opens connections when sessions are due, carries bytes, wakes who asked for it, counts.
//!
//! How it fails: only the driver as a whole or the ledger end it; a connection that cannot be made is counted, and
//! after it there is a pause, so that a server that is down does not turn the harness into a busy loop.

mod wire;

use super::secure::{self, Encryption, Secure};
use super::{Client, Next, Options, Pace, Sighting, Tally, Ticket, Turn};
use crate::ledger::{Fate, Pen};
use crate::live::Counters;
use crate::stop::Stop;
use crate::table::Table;
use gatepost::base::buf::Chain;
use gatepost::base::time::Instant;
use gatepost::reactor::{Close, Done, Driver, Id, ReactorKnobs, clock};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Connections of one core that may be on their way up at once; more would only overflow the server's listen queue.
const CONNECTING_MAX: usize = 256;
/// Pause after a connection could not be made.
const CONNECT_PAUSE: Duration = Duration::from_millis(50);
/// How often connections are looked through for those that take too long.
const SWEEP: Duration = Duration::from_millis(250);
/// After the end of the run, open sessions get this long to finish before they are cut off.
const GRACE: Duration = Duration::from_secs(5);
/// Messages a core remembers as written down; beyond it further ones are not, and that is an error in the report.
const SEEN_MAX: usize = 4_000_000;

pub(super) struct Start {
    pub options: Options,
    pub number: usize,
    pub cores: usize,
    pub knobs: ReactorKnobs,
    pub pen: Option<Pen>,
    pub counters: Arc<Counters>,
    pub stop: Stop,
}

struct Conn<C> {
    client: C,
    scheduled: Instant,
    opened: Instant,
    last_heard: Instant,
    /// When it wants to be woken; a timer that says another time is an old one.
    wake_at: Option<Instant>,
    up: bool,
    greeted: bool,
    closing: bool,
    sending: bool,
    queued: Chain,
    secure: Option<Box<Secure>>,
}

struct Core<'m, C> {
    driver: Driver,
    conns: Table<Conn<C>>,
    rising: usize,
    options: Options,
    number: usize,
    cores: usize,
    make: &'m dyn Fn(Ticket) -> C,
    begun: u64,
    start: Instant,
    ends: Instant,
    over: bool,
    /// Open loop: sessions made due so far, and those that wait for a connection.
    made: u64,
    due: VecDeque<Instant>,
    timers: BinaryHeap<Reverse<(Instant, u32, u32)>>,
    no_connect_before: Instant,
    tally: Tally,
    seen: Vec<Sighting>,
    written: HashSet<(u64, u64)>,
    counters: Arc<Counters>,
    rng: fastrand::Rng,
    tls: Option<secure::Start>,
}

pub(super) fn run<C: Client>(start: Start, make: &dyn Fn(Ticket) -> C) -> io::Result<Tally> {
    let Start { options, number, cores, knobs, mut pen, counters, stop } = start;
    let (driver, _) = Driver::open(&knobs)?;
    stop.wake(driver.waker());
    let name = options.tls_name.clone().unwrap_or_else(|| options.target.ip().to_string());
    let tls = match options.encryption {
        Encryption::None => None,
        _ => Some(secure::Start::new(&name).map_err(io::Error::other)?),
    };
    let began = clock::now();
    let mut core = Core {
        driver,
        conns: Table::default(),
        rising: 0,
        number,
        cores,
        make,
        begun: 0,
        start: began,
        ends: options.duration.map_or(Instant::FAR, |d| began + d),
        over: false,
        made: 0,
        due: VecDeque::new(),
        timers: BinaryHeap::new(),
        no_connect_before: Instant::ZERO,
        tally: Tally::default(),
        seen: Vec::new(),
        written: HashSet::new(),
        counters,
        rng: fastrand::Rng::with_seed(options.seed.wrapping_add(number as u64)),
        tls,
        options,
    };
    let cpu_before = crate::proc::thread_times().0;
    core.work(&stop, pen.as_mut())?;
    core.tally.cpu = crate::proc::thread_times().0.saturating_sub(cpu_before);
    Ok(core.tally)
}

impl<C: Client> Core<'_, C> {
    fn work(&mut self, stop: &Stop, mut pen: Option<&mut Pen>) -> io::Result<()> {
        let mut batch = Vec::new();
        let mut sweep_at = self.start + SWEEP;
        let mut cut_at = Instant::FAR;
        loop {
            let now = clock::now();
            if !self.over && (stop.is_stopped() || now >= self.ends) {
                self.over = true;
                self.tally.not_begun += self.due.len() as u64;
                self.due.clear();
                cut_at = now + GRACE;
                self.finish_all(now);
            }
            self.tick(now);
            self.open_connections(now);
            self.wake_due(now);
            if self.conns.len() == 0 && self.is_done() {
                break;
            }
            if now >= cut_at {
                self.each(|_| true, now, "not over when the run was");
                cut_at = Instant::FAR;
            }
            if now >= sweep_at {
                let timeout = self.options.timeout;
                self.each(|c| c.wake_at.is_none() && now.since(c.last_heard) > timeout, now, "timed out");
                sweep_at = now + SWEEP;
            }
            let wait = self.wait(now, sweep_at.min(cut_at));
            self.driver.poll(&mut batch, Some(wait))?;
            let now = clock::now();
            batch.drain(..).for_each(|done| self.done(done, now));
            self.write_down(pen.as_deref_mut())?;
        }
        self.tally.elapsed = self.tally.last.max(self.start).since(self.start);
        pen.map_or(Ok(()), Pen::flush)
    }

    fn left(&self) -> u64 {
        self.options.sessions.unwrap_or(u64::MAX).saturating_sub(self.begun)
    }

    fn is_done(&self) -> bool {
        self.over || self.left() == 0
    }

    fn place(&self, rate: f64) -> Instant {
        self.start + Duration::from_secs_f64(self.made as f64 / rate)
    }

    fn tick(&mut self, now: Instant) {
        let Pace::Open(rate) = self.options.pace else { return };
        while !self.over && self.made < self.options.sessions.unwrap_or(u64::MAX) {
            let place = self.place(rate);
            if place > now || place >= self.ends {
                return;
            }
            self.made += 1;
            self.tally.late.record(now.since(place));
            self.due.push_back(place);
        }
    }

    /// How long nothing is due.
    fn wait(&self, now: Instant, at_most: Instant) -> Duration {
        let mut until = at_most.min(if self.over { Instant::FAR } else { self.ends });
        if let Pace::Open(rate) = self.options.pace
            && !self.over
            && self.made < self.options.sessions.unwrap_or(u64::MAX)
        {
            until = until.min(self.place(rate));
        }
        if let Some(Reverse((at, ..))) = self.timers.peek() {
            until = until.min(*at);
        }
        if self.no_connect_before > now {
            until = until.min(self.no_connect_before);
        }
        until - now
    }

    fn open_connections(&mut self, now: Instant) {
        while now >= self.no_connect_before
            && self.rising < CONNECTING_MAX
            && self.conns.len() < self.options.connections
            && !self.is_done()
        {
            let scheduled = match self.options.pace {
                Pace::Closed => now,
                Pace::Open(_) => match self.due.front() {
                    Some(place) => *place,
                    None => return,
                },
            };
            let global = self.begun * self.cores as u64 + self.number as u64;
            let source = self.options.sources.as_ref().map(|s| s.nth(global));
            let id = match self.driver.connect(self.options.target, source) {
                Ok(id) => id,
                Err(e) => return self.connect_failed(&e, now),
            };
            self.due.pop_front();
            let ticket = Ticket { number: self.begun, core: self.number, cores: self.cores };
            self.begun += 1;
            self.rising += 1;
            self.counters.begun();
            let conn = Conn {
                client: (self.make)(ticket),
                scheduled,
                opened: now,
                last_heard: now,
                wake_at: None,
                up: false,
                greeted: false,
                closing: false,
                sending: false,
                queued: Chain::new(),
                secure: Secure::new(self.options.encryption),
            };
            self.conns.insert(id, conn);
        }
    }

    fn connect_failed(&mut self, error: &io::Error, now: Instant) {
        self.tally.error(&format!("connect: {error}"));
        self.counters.error();
        self.no_connect_before = now + CONNECT_PAUSE;
    }

    fn wake_due(&mut self, now: Instant) {
        while let Some(Reverse((at, index, generation))) = self.timers.peek().copied() {
            if at > now {
                return;
            }
            self.timers.pop();
            let id = Id { index, generation };
            let Some(conn) = self.conns.get_mut(id) else { continue };
            if conn.wake_at == Some(at) && !conn.closing {
                conn.wake_at = None;
                conn.last_heard = now;
                self.drive(id, now, |client, turn| client.wake(turn));
            }
        }
    }

    /// At the end of the run everybody who waits for a time is woken, so that it can say goodbye.
    fn finish_all(&mut self, now: Instant) {
        let waiting: Vec<Id> = self.conns.iter_mut().filter(|(_, c)| c.wake_at.is_some()).map(|(id, _)| id).collect();
        for id in waiting {
            if let Some(conn) = self.conns.get_mut(id) {
                conn.wake_at = None;
            }
            self.drive(id, now, |client, turn| client.wake(turn));
        }
    }

    fn done(&mut self, done: Done, now: Instant) {
        match done {
            Done::Connected { conn, result } => self.connected(conn, result, now),
            Done::Recv { conn, buf } => {
                let Some(c) = self.conns.get_mut(conn).filter(|c| !c.closing) else { return };
                c.last_heard = now;
                if c.secure.is_some() { self.unseal(conn, &buf, now) } else { self.heard(conn, &buf, now) }
            }
            Done::Sent { conn, result, .. } => self.sent(conn, result.is_ok()),
            Done::RecvEnd { conn, .. } => self.ended(conn, now),
            Done::Closed { conn } => {
                self.conns.remove(conn);
            }
            Done::Accepted { .. } | Done::AcceptFailed { .. } => {}
        }
    }

    fn connected(&mut self, id: Id, result: io::Result<()>, now: Instant) {
        let Some(conn) = self.conns.get_mut(id).filter(|c| !c.closing) else { return };
        match result {
            Ok(()) => {
                conn.up = true;
                conn.last_heard = now;
                self.rising -= 1;
                self.tally.connected += 1;
                let up = (self.conns.len() - self.rising) as u64;
                self.tally.held_max = self.tally.held_max.max(up);
                self.driver.recv(id, true);
                if self.options.encryption == Encryption::None {
                    return self.drive(id, now, |client, turn| client.connected(turn));
                }
                self.seal(id, now);
            }
            Err(e) => {
                self.connect_failed(&e, now);
                self.tally.failed += 1;
                self.tally.last = now;
                self.close(id, Close::Reset);
            }
        }
    }

    fn drive(&mut self, id: Id, now: Instant, step: impl FnOnce(&mut C, &mut Turn<'_>) -> Next) {
        let Some(conn) = self.conns.get_mut(id).filter(|c| !c.closing) else { return };
        let mut out = Vec::new();
        let mut turn = Turn {
            now,
            over: self.over,
            out: &mut out,
            tally: &mut self.tally,
            seen: &mut self.seen,
            rng: &mut self.rng,
        };
        let mut next = step(&mut conn.client, &mut turn);
        // A run that is over lets nobody sleep: who asks for a pause is asked what else there is.
        if let (true, Next::WakeAt(_)) = (self.over, next) {
            next = conn.client.wake(&mut turn);
        }
        match next {
            Next::WakeAt(at) if !self.over => {
                conn.wake_at = Some(at);
                self.timers.push(Reverse((at, id.index, id.generation)));
            }
            _ => conn.wake_at = None,
        }
        self.say(id, out);
        match next {
            Next::Wait | Next::WakeAt(_) => {}
            Next::Close => self.finished(id, Close::Graceful, now),
            Next::Drop => self.finished(id, Close::Reset, now),
            Next::Broken(why) => self.fail(id, why, now),
        }
    }

    /// The session ended as it should.
    fn finished(&mut self, id: Id, how: Close, now: Instant) {
        let Some(conn) = self.conns.get_mut(id).filter(|c| !c.closing) else { return };
        let time = now.since(conn.scheduled);
        self.tally.sessions += 1;
        self.tally.last = now;
        self.tally.session.record(time);
        self.counters.done(time);
        self.close(id, how);
    }

    fn fail(&mut self, id: Id, why: &str, now: Instant) {
        self.tally.error(why);
        self.tally.failed += 1;
        self.tally.last = now;
        self.counters.error();
        self.close(id, Close::Reset);
    }

    fn ended(&mut self, id: Id, now: Instant) {
        let Some(conn) = self.conns.get_mut(id).filter(|c| !c.closing) else { return };
        let mut out = Vec::new();
        let mut turn = Turn {
            now,
            over: self.over,
            out: &mut out,
            tally: &mut self.tally,
            seen: &mut self.seen,
            rng: &mut self.rng,
        };
        if conn.client.ended(&mut turn) {
            self.finished(id, Close::Graceful, now);
        } else {
            self.fail(id, "closed by the server", now);
        }
    }

    /// Cuts off everybody of whom `which` is true.
    fn each(&mut self, which: impl Fn(&Conn<C>) -> bool, now: Instant, why: &str) {
        let found: Vec<Id> = self.conns.iter_mut().filter(|(_, c)| !c.closing && which(c)).map(|(id, _)| id).collect();
        found.into_iter().for_each(|id| self.fail(id, why, now));
    }

    /// Counts messages read and writes down each message of each mailbox once, however often it is read.
    fn write_down(&mut self, mut pen: Option<&mut Pen>) -> io::Result<()> {
        for s in std::mem::take(&mut self.seen) {
            self.counters.message();
            let Some((id, crc)) = s.message else {
                self.tally.unmarked += 1;
                continue;
            };
            self.tally.messages += 1;
            let Some(pen) = pen.as_deref_mut() else { continue };
            if self.written.len() >= SEEN_MAX {
                self.tally.error("more messages than a reader's ledger takes");
            } else if self.written.insert((s.user, s.mark)) {
                pen.write(Fate::Seen, id, crc, 1)?;
            }
        }
        Ok(())
    }
}
