//! One core of the sender: opens connections, hands messages out, carries bytes, counts.
//!
//! How it fails: only the driver as a whole or the ledger end it; a connection that cannot be made is counted and tried
//! again after a pause, so that a server that is down does not turn the harness into a busy loop.

use super::schedule::{Pace, Schedule};
use super::session::{Next, Outcome, Script, Session, Shared, Verdict, Work};
use super::tally::Tally;
use crate::ledger::{Fate, Pen};
use crate::stop::Stop;
use crate::table::Table;
use crate::target::Sources;
use gatepost::base::buf::Chain;
use gatepost::base::time::Instant;
use gatepost::reactor::{Close, Done, Driver, End, Id, ReactorKnobs, clock};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Connections of one core that may be on their way up at once; more would only overflow the server's listen queue.
const CONNECTING_MAX: usize = 256;
/// Pause after a connection could not be made.
const CONNECT_PAUSE: Duration = Duration::from_millis(50);
/// How often connections are looked through for those that take too long.
const SWEEP: Duration = Duration::from_millis(250);

/// What a core is started with.
pub(super) struct Start {
    pub target: SocketAddr,
    pub knobs: ReactorKnobs,
    pub script: Arc<Script>,
    pub schedule: Schedule,
    pub pace: Pace,
    pub connections: usize,
    pub sources: Option<Sources>,
    pub first_source: u64,
    pub timeout: Duration,
    pub pen: Option<Pen>,
    pub stop: Stop,
}

struct Conn {
    session: Session,
    opened: Instant,
    last_heard: Instant,
    up: bool,
    idle: bool,
    closing: bool,
    sending: bool,
    queued: Chain,
}

struct Core {
    driver: Driver,
    conns: Table<Conn>,
    idle: Vec<Id>,
    /// Connections whose EHLO has not been answered.
    rising: usize,
    script: Arc<Script>,
    schedule: Schedule,
    tally: Tally,
    outcomes: Vec<Outcome>,
    aim: Aim,
    no_connect_before: Instant,
    opened: u64,
}

/// What of [`Start`] is looked at during the run.
struct Aim {
    target: SocketAddr,
    pace: Pace,
    connections: usize,
    sources: Option<Sources>,
    first_source: u64,
    timeout: Duration,
}

pub(super) fn run(start: Start) -> io::Result<Tally> {
    let Start { target, knobs, script, schedule, pace, connections, sources, first_source, timeout, mut pen, stop } =
        start;
    let (driver, _) = Driver::open(&knobs)?;
    stop.wake(driver.waker());
    let mut core = Core {
        driver,
        conns: Table::default(),
        idle: Vec::new(),
        rising: 0,
        script,
        schedule,
        tally: Tally::default(),
        outcomes: Vec::new(),
        aim: Aim { target, pace, connections, sources, first_source, timeout },
        no_connect_before: Instant::ZERO,
        opened: 0,
    };
    let cpu_before = crate::proc::thread_cpu();
    core.work(&stop, pen.as_mut())?;
    core.tally.cpu = crate::proc::thread_cpu().saturating_sub(cpu_before);
    Ok(core.tally)
}

impl Core {
    fn work(&mut self, stop: &Stop, mut pen: Option<&mut Pen>) -> io::Result<()> {
        let began = clock::now();
        let mut batch = Vec::new();
        let mut sweep_at = began + SWEEP;
        loop {
            let now = clock::now();
            if stop.is_stopped() {
                self.schedule.stop();
            }
            let late = &mut self.tally.late;
            self.schedule.tick(now, |d| late.record(d));
            self.open_connections(now)?;
            self.wake_idle(now);
            if self.conns.len() == 0
                && !self.schedule.wants()
                && self.schedule.next().is_none_or(|_| self.schedule.left() == 0)
            {
                break;
            }
            if now >= sweep_at {
                self.sweep(now);
                sweep_at = now + SWEEP;
            }
            self.driver.poll(&mut batch, Some(self.wait(now, sweep_at)))?;
            let now = clock::now();
            batch.drain(..).for_each(|done| self.done(done, now));
            self.account(now, pen.as_deref_mut())?;
        }
        self.tally.elapsed = self.tally.last.max(began).since(began);
        pen.map_or(Ok(()), Pen::flush)
    }

    /// How long nothing is due.
    fn wait(&self, now: Instant, sweep_at: Instant) -> Duration {
        let mut until = sweep_at;
        if let Some(next) = self.schedule.next() {
            until = until.min(next);
        }
        if self.no_connect_before > now {
            until = until.min(self.no_connect_before);
        }
        until - now
    }

    fn open_connections(&mut self, now: Instant) -> io::Result<()> {
        while self.wants_connection(now) {
            let source = self.aim.sources.as_ref().map(|s| s.nth(self.aim.first_source + self.opened));
            self.opened += 1;
            match self.driver.connect(self.aim.target, source) {
                Ok(id) => {
                    self.rising += 1;
                    self.conns.insert(id, Conn::new(now));
                }
                Err(e) => self.connect_failed(&e, now),
            }
        }
        Ok(())
    }

    fn wants_connection(&self, now: Instant) -> bool {
        if now < self.no_connect_before || self.rising >= CONNECTING_MAX || self.conns.len() >= self.aim.connections {
            return false;
        }
        match self.aim.pace {
            Pace::Closed => self.schedule.wants() && (self.rising as u64) < self.schedule.left(),
            Pace::Open(_) => self.schedule.waiting() > self.rising + self.idle.len(),
            Pace::Hold => self.schedule.wants(),
        }
    }

    fn connect_failed(&mut self, error: &io::Error, now: Instant) {
        self.tally.error(format!("connect: {error}"));
        self.no_connect_before = now + CONNECT_PAUSE;
    }

    /// Gives due messages to idle connections, and says goodbye on all of them at the end.
    fn wake_idle(&mut self, now: Instant) {
        let over = self.schedule.next().is_none() || (self.schedule.left() == 0 && self.schedule.waiting() == 0);
        while over || self.schedule.waiting() > 0 {
            let Some(id) = self.idle.pop() else { return };
            let Some(conn) = self.conns.get_mut(id).filter(|c| c.idle && !c.closing) else { continue };
            conn.idle = false;
            self.drive(id, now, |session, shared| session.wake(shared));
        }
    }

    fn done(&mut self, done: Done, now: Instant) {
        match done {
            Done::Connected { conn, result } => self.connected(conn, result, now),
            Done::Recv { conn, buf } => {
                let Some(c) = self.conns.get_mut(conn).filter(|c| !c.closing) else { return };
                c.last_heard = now;
                self.drive(conn, now, |session, shared| session.input(&buf, shared));
            }
            Done::Sent { conn, result, .. } => self.sent(conn, result.is_ok()),
            Done::RecvEnd { conn, why } => {
                let what = match why {
                    End::Eof => "closed by the server".to_owned(),
                    End::Failed(e) => e.to_string(),
                };
                self.lose(conn, &what, Close::Graceful, now);
            }
            Done::Closed { conn } => {
                self.conns.remove(conn);
            }
            Done::Accepted { .. } | Done::AcceptFailed { .. } => {}
        }
    }

    fn connected(&mut self, id: Id, result: io::Result<()>, now: Instant) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        match result {
            Ok(()) => {
                conn.up = true;
                conn.last_heard = now;
                self.tally.sessions += 1;
                self.driver.recv(id, true);
            }
            Err(e) => {
                self.connect_failed(&e, now);
                self.close(id, Close::Reset);
            }
        }
    }

    /// Runs the session, sends what it says, does what it asks for.
    fn drive(&mut self, id: Id, now: Instant, step: impl FnOnce(&mut Session, &mut Shared<'_>) -> Next) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let was_ready = conn.session.is_ready();
        let mut out = Chain::new();
        // A closed loop's first message includes the connection, when every message has its own.
        let since = if self.script.messages_per_connection == 1 { conn.opened } else { now };
        let schedule = &mut self.schedule;
        let mut feed = || schedule.feed(since);
        let mut shared =
            Shared { now, script: &self.script, feed: &mut feed, outcomes: &mut self.outcomes, out: &mut out };
        let next = step(&mut conn.session, &mut shared);
        if !was_ready && conn.session.is_ready() {
            self.rising -= 1;
            self.tally.setup.record(now.since(conn.opened));
            self.tally.held_max = self.tally.held_max.max((self.conns.len() - self.rising) as u64);
        }
        self.say(id, out);
        match next {
            Next::Wait => {}
            Next::Idle => {
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.idle = true;
                    self.idle.push(id);
                }
            }
            Next::Close => self.close(id, Close::Graceful),
            Next::Refused(code) => {
                self.tally.reply(code);
                self.lose(id, "session refused", Close::Graceful, now);
                self.no_connect_before = now + CONNECT_PAUSE;
            }
            Next::Broken => self.lose(id, "malformed reply", Close::Reset, now),
        }
    }

    fn say(&mut self, id: Id, out: Chain) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if out.is_empty() || conn.closing {
            return;
        }
        if conn.sending {
            return conn.queued.append(out);
        }
        conn.sending = true;
        self.driver.send(id, out);
    }

    fn sent(&mut self, id: Id, whole: bool) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.sending = false;
        // A failed send shows as the end of reception, too, with what the server still said before.
        if whole && !conn.queued.is_empty() && !conn.closing {
            conn.sending = true;
            let queued = std::mem::take(&mut conn.queued);
            self.driver.send(id, queued);
        }
    }

    /// The connection ended before its time.
    fn lose(&mut self, id: Id, why: &str, how: Close, now: Instant) {
        let Some(conn) = self.conns.get_mut(id).filter(|c| !c.closing) else { return };
        let mut out = Chain::new();
        let mut feed = || super::session::Feed::Over;
        let before = self.outcomes.len();
        let mut shared =
            Shared { now, script: &self.script, feed: &mut feed, outcomes: &mut self.outcomes, out: &mut out };
        conn.session.lost(&mut shared);
        // After its farewell the server may close without another word.
        if self.outcomes.len() > before || !conn.session.is_parting() {
            self.tally.error(why.to_owned());
        }
        self.close(id, how);
    }

    fn close(&mut self, id: Id, how: Close) {
        let Some(conn) = self.conns.get_mut(id).filter(|c| !c.closing) else { return };
        conn.closing = true;
        if !conn.session.is_ready() {
            self.rising -= 1;
        }
        self.driver.close(id, how);
    }

    /// Ends what has been silent for too long.
    fn sweep(&mut self, now: Instant) {
        let timeout = self.aim.timeout;
        let late: Vec<Id> = self
            .conns
            .iter_mut()
            .filter(|(_, c)| !c.closing && !c.idle && now.since(c.last_heard) > timeout)
            .map(|(id, _)| id)
            .collect();
        late.into_iter().for_each(|id| self.lose(id, "timed out", Close::Reset, now));
    }

    /// Counts what has ended, and writes it down.
    fn account(&mut self, now: Instant, pen: Option<&mut Pen>) -> io::Result<()> {
        if self.outcomes.is_empty() {
            return Ok(());
        }
        self.tally.last = now;
        let rcpts = self.script.rcpts.len() as u32;
        let reject = self.script.work == Work::Reject;
        for o in &self.outcomes {
            self.tally.count(o, reject);
        }
        if let Some(pen) = pen {
            for o in &self.outcomes {
                let (fate, recipients) = match o.verdict {
                    Verdict::Accepted(n) => (Fate::Accepted, n),
                    Verdict::Refused(_) | Verdict::NotSent => (Fate::Refused, rcpts),
                    Verdict::Unknown => (Fate::Unknown, rcpts),
                };
                pen.write(fate, o.job.id, o.crc, recipients)?;
            }
        }
        self.outcomes.clear();
        Ok(())
    }
}

impl Conn {
    fn new(now: Instant) -> Conn {
        Conn {
            session: Session::new(),
            opened: now,
            last_heard: now,
            up: false,
            idle: false,
            closing: false,
            sending: false,
            queued: Chain::new(),
        }
    }
}
