//! One core of the sender: opens connections, hands messages out, carries bytes, counts.
//!
//! How it fails: only the driver as a whole or the ledger end it; a connection that cannot be made is counted and tried
//! again after a pause, so that a server that is down does not turn the harness into a busy loop. When for the longest
//! silence allowed no session got as far as its first message, what is left is given up.

use super::conn::{Conn, TlsStart};
use super::phases::Phase;
use super::schedule::Schedule;
use super::script::{Feed, Job, Next, Outcome, Script, Shared, Verdict, Work};
use super::session::Session;
use super::tally::Tally;
use crate::ledger::{Fate, Pen};
use crate::live::Counters;
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
    pub knobs: ReactorKnobs,
    pub script: Arc<Script>,
    pub schedule: Schedule,
    pub aim: Aim,
    pub tls: Option<TlsStart>,
    pub pen: Option<Pen>,
    pub counters: Option<Arc<Counters>>,
    pub stop: Stop,
}

/// Where connections go, and how many.
pub(super) struct Aim {
    pub target: SocketAddr,
    pub connections: usize,
    /// Pause between two connections.
    pub connect_pause: Duration,
    pub sources: Option<Sources>,
    /// Number of the core's first connection.
    pub first_connection: u64,
    /// Longest silence.
    pub timeout: Duration,
    /// How often, and after what pause, a message that was put off (4xx) is tried again.
    pub retries: u32,
    pub retry_pause: Duration,
}

struct Core {
    driver: Driver,
    conns: Table<Conn>,
    idle: Vec<Id>,
    /// Connections that may not send messages yet.
    rising: usize,
    script: Arc<Script>,
    schedule: Schedule,
    tally: Tally,
    outcomes: Vec<Outcome>,
    aim: Aim,
    tls: Option<TlsStart>,
    counters: Option<Arc<Counters>>,
    plain: Vec<u8>,
    no_connect_before: Instant,
    opened: u64,
    /// When there was nothing to do, or a session became ready, for the last time.
    last_good: Instant,
}

pub(super) fn run(start: Start) -> io::Result<Tally> {
    let Start { knobs, script, schedule, aim, tls, mut pen, counters, stop } = start;
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
        aim,
        tls,
        counters,
        plain: Vec::new(),
        no_connect_before: Instant::ZERO,
        opened: 0,
        last_good: clock::now(),
    };
    let before = crate::proc::thread_times();
    core.work(&stop, pen.as_mut())?;
    let after = crate::proc::thread_times();
    core.tally.cpu = after.0.saturating_sub(before.0);
    core.tally.cpu_wait = after.1.saturating_sub(before.1);
    Ok(core.tally)
}

impl Core {
    fn work(&mut self, stop: &Stop, mut pen: Option<&mut Pen>) -> io::Result<()> {
        let began = clock::now();
        let mut turned = began;
        let mut batch = Vec::new();
        let mut sweep_at = began + SWEEP;
        loop {
            let now = clock::now();
            self.tally.turn.record(now.since(turned));
            if stop.is_stopped() {
                self.schedule.stop();
            }
            let late = &mut self.tally.late;
            self.schedule.tick(now, |d| late.record(d));
            self.open_connections(now);
            self.wake_idle(now);
            if self.conns.len() == 0 && self.schedule.is_done() {
                break;
            }
            if now >= sweep_at {
                self.sweep(now);
                sweep_at = now + SWEEP;
            }
            self.driver.poll(&mut batch, Some(self.wait(now, sweep_at)))?;
            turned = clock::now();
            batch.drain(..).for_each(|done| self.done(done, turned));
            self.account(turned, began, pen.as_deref_mut())?;
        }
        self.tally.series.finish();
        self.tally.elapsed = self.tally.last.max(began).since(began);
        self.tally.ran = clock::now().since(began);
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

    fn open_connections(&mut self, now: Instant) {
        while self.wants_connection(now) {
            let number = self.aim.first_connection + self.opened;
            let source = self.aim.sources.as_ref().map(|s| s.nth(number));
            self.opened += 1;
            if !self.aim.connect_pause.is_zero() {
                self.no_connect_before = now + self.aim.connect_pause;
            }
            match self.driver.connect(self.aim.target, source) {
                Ok(id) => {
                    self.rising += 1;
                    let plan = self.script.openings.plan(self.script.seed, number);
                    self.conns.insert(id, Conn::new(plan, now));
                }
                Err(e) => self.connect_failed(&e, now),
            }
        }
    }

    fn wants_connection(&self, now: Instant) -> bool {
        if now < self.no_connect_before || self.rising >= CONNECTING_MAX || self.conns.len() >= self.aim.connections {
            return false;
        }
        self.schedule.is_holding() || self.schedule.ready() > (self.rising + self.idle.len()) as u64
    }

    fn connect_failed(&mut self, error: &io::Error, now: Instant) {
        self.tally.error(format!("connect: {error}"));
        self.no_connect_before = now + CONNECT_PAUSE;
    }

    /// Gives due messages to idle connections, and says goodbye on all of them at the end.
    fn wake_idle(&mut self, now: Instant) {
        while self.schedule.waiting() > 0 || self.schedule.is_done() {
            let Some(id) = self.idle.pop() else { return };
            let Some(conn) = self.conns.get_mut(id).filter(|c| c.idle && !c.closing) else { continue };
            conn.idle = false;
            conn.last_heard = now;
            self.drive(id, now, |session, shared| session.wake(shared));
        }
    }

    fn done(&mut self, done: Done, now: Instant) {
        match done {
            Done::Connected { conn, result } => self.connected(conn, result, now),
            Done::Recv { conn, buf } => self.received(conn, &buf, now),
            Done::Sent { conn, result, .. } => {
                if let Some(chain) = self.conns.get_mut(conn).and_then(|c| c.sent(result.is_ok())) {
                    self.driver.send(conn, chain);
                }
            }
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
        if let Err(e) = result {
            self.connect_failed(&e, now);
            return self.close(id, Close::Reset);
        }
        conn.last_heard = now;
        conn.session.greeting_from(now);
        self.tally.sessions += 1;
        self.tally.phases.record(Phase::Connect, now.since(conn.opened));
        self.driver.recv(id, true);
        if conn.implicit {
            self.start_tls(id, now);
        }
    }

    fn start_tls(&mut self, id: Id, now: Instant) {
        let (Some(conn), Some(start)) = (self.conns.get_mut(id), &self.tls) else { return };
        let mut out = Chain::new();
        let begun = conn.start_tls(start, now, &mut out);
        self.send(id, out);
        if let Err(why) = begun {
            self.lose(id, &why, Close::Reset, now);
        }
    }

    fn received(&mut self, id: Id, bytes: &[u8], now: Instant) {
        let Some(conn) = self.conns.get_mut(id).filter(|c| !c.closing) else { return };
        conn.last_heard = now;
        if !conn.is_secure() {
            return self.drive(id, now, |session, shared| session.input(bytes, shared));
        }
        let mut plain = std::mem::take(&mut self.plain);
        let mut out = Chain::new();
        let arrived = conn.received(bytes, &mut plain, &mut out);
        self.send(id, out);
        if let Some((began, facts)) = arrived.handshake {
            self.tally.phases.record(Phase::Tls, now.since(began));
            self.tally.tls(facts.as_ref());
            let binding = facts.map(|f| f.channel_binding);
            self.drive(id, now, |session, shared| session.tls_started(binding, shared));
        }
        if !plain.is_empty() {
            self.drive(id, now, |session, shared| session.input(&plain, shared));
        }
        if let Some(why) = arrived.end {
            self.lose(id, &why, Close::Graceful, now);
        }
        plain.clear();
        self.plain = plain;
    }

    /// Runs the session, sends what it says, does what it asks for.
    fn drive(&mut self, id: Id, now: Instant, step: impl FnOnce(&mut Session, &mut Shared<'_>) -> Next) {
        let full = self.conns.len() >= self.aim.connections;
        let Some(conn) = self.conns.get_mut(id).filter(|c| !c.closing) else { return };
        let was_ready = conn.session.is_ready();
        let mut out = Chain::new();
        // A closed loop's first message includes the connection, when every message has its own.
        let fresh = self.script.messages_per_connection == 1 || self.script.work == Work::Login;
        let since = if fresh { conn.opened } else { now };
        let chain = self.script.from_free || full;
        let (schedule, counters) = (&mut self.schedule, &self.counters);
        let mut feed = || {
            let feed = schedule.feed(since);
            if let (Some(counters), Feed::Job(Job { tries: 0, .. })) = (counters, &feed) {
                counters.begun();
            }
            feed
        };
        let mut shared = Shared {
            now,
            script: &self.script,
            feed: &mut feed,
            chain,
            outcomes: &mut self.outcomes,
            phases: &mut self.tally.phases,
            out: &mut out,
        };
        let next = step(&mut conn.session, &mut shared);
        let wire = conn.encrypted(out);
        if !was_ready && conn.session.is_ready() {
            self.rising -= 1;
            self.last_good = now;
            self.tally.setup.record(now.since(conn.opened));
            self.tally.held_max = self.tally.held_max.max((self.conns.len() - self.rising) as u64);
        }
        self.send(id, wire);
        match next {
            Next::Wait => {}
            Next::Idle => {
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.idle = true;
                    self.idle.push(id);
                }
            }
            Next::StartTls => self.start_tls(id, now),
            Next::Close => self.close(id, Close::Graceful),
            Next::Refused(code) => {
                self.tally.reply(code);
                self.lose(id, "session refused", Close::Graceful, now);
                self.no_connect_before = now + CONNECT_PAUSE;
            }
            Next::Unfit(why) => {
                self.lose(id, why, Close::Graceful, now);
                self.no_connect_before = now + CONNECT_PAUSE;
            }
            Next::Broken => self.lose(id, "malformed reply", Close::Reset, now),
        }
    }

    fn send(&mut self, id: Id, wire: Chain) {
        let Some(conn) = self.conns.get_mut(id).filter(|c| !c.closing) else { return };
        if let Some(chain) = conn.queue(wire) {
            self.driver.send(id, chain);
        }
    }

    /// The connection ended before its time.
    fn lose(&mut self, id: Id, why: &str, how: Close, now: Instant) {
        let Some(conn) = self.conns.get_mut(id).filter(|c| !c.closing) else { return };
        let mut out = Chain::new();
        let mut feed = || Feed::Over;
        let before = self.outcomes.len();
        let mut shared = Shared {
            now,
            script: &self.script,
            feed: &mut feed,
            chain: false,
            outcomes: &mut self.outcomes,
            phases: &mut self.tally.phases,
            out: &mut out,
        };
        conn.session.lost(&mut shared);
        // After its farewell the server may close without another word.
        if self.outcomes.len() > before || !conn.session.is_parting() {
            self.tally.error(why.to_owned());
        }
        self.close(id, how);
    }

    fn close(&mut self, id: Id, how: Close) {
        let Some(conn) = self.conns.get_mut(id).filter(|c| !c.closing) else { return };
        if how == Close::Graceful {
            let farewell = conn.farewell();
            self.send(id, farewell);
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.closing = true;
        if !conn.session.is_ready() {
            self.rising -= 1;
        }
        self.driver.close(id, how);
    }

    /// Ends what has been silent for too long, and the run when no session is of any use for so long.
    fn sweep(&mut self, now: Instant) {
        let timeout = self.aim.timeout;
        let late: Vec<Id> = self
            .conns
            .iter_mut()
            .filter(|(_, c)| !c.closing && !c.idle && now.since(c.last_heard) > timeout)
            .map(|(id, _)| id)
            .collect();
        late.into_iter().for_each(|id| self.lose(id, "timed out", Close::Reset, now));
        if self.schedule.ready() == 0 || self.conns.len() > self.rising {
            self.last_good = now;
        } else if now.since(self.last_good) > timeout {
            self.tally.error("gave up: no session came up".into());
            self.tally.not_sent += self.schedule.waiting() as u64;
            self.schedule.stop();
        }
    }

    /// Counts what has ended, and writes it down; what was put off is tried again.
    fn account(&mut self, now: Instant, began: Instant, mut pen: Option<&mut Pen>) -> io::Result<()> {
        if self.outcomes.is_empty() {
            return Ok(());
        }
        self.tally.last = now;
        let rcpts = self.script.envelopes.recipients();
        let outcomes = std::mem::take(&mut self.outcomes);
        for o in &outcomes {
            let again = matches!(o.verdict, Verdict::Refused(400..=499)) && o.job.tries < self.aim.retries;
            if again && self.schedule.put_off(o.job, now + self.aim.retry_pause) {
                self.tally.retried += 1;
                continue;
            }
            let good = self.tally.count(o, self.script.work == Work::Reject, now.since(began));
            if let Some(counters) = &self.counters {
                if good { counters.done(o.latency) } else { counters.error() }
            }
            let (fate, recipients) = match o.verdict {
                _ if self.script.work == Work::Login => continue,
                Verdict::Accepted(n) => (Fate::Accepted, n),
                Verdict::Refused(_) | Verdict::NotSent => (Fate::Refused, rcpts),
                Verdict::Unknown => (Fate::Unknown, rcpts),
            };
            if let Some(pen) = pen.as_deref_mut() {
                pen.write(fate, o.job.id, o.crc, recipients)?;
            }
        }
        self.outcomes = outcomes;
        self.outcomes.clear();
        Ok(())
    }
}
