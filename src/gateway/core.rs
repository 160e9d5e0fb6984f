//! The turn of the loop: one pinned thread that owns its listeners, its connections, its backend legs and its timers.
//!
//! A turn is: wait for completions, handle them, take messages from the lanes, give deferred answers to their machines,
//! fire what is due. Nothing here blocks. How it fails: a driver that cannot poll ends the core with its error; the
//! process then shuts down, because a gate with a dead core would silently refuse a share of its clients.

use super::access::Access;
use super::callout::{Opinion, Waiter};
use super::inbound::Inbound;
use super::lanes::{Message, SpoolRequest};
use super::levels::Looked;
use super::metrics::{CoreMeter, TurnedAway};
use super::opening::Opening;
use super::outbound::{JobEnd, Leg, Outbound};
use super::shed::Shedding;
use super::state::{Listener, Serves, Shared};
use crate::base::id::IdSource;
use crate::base::queue::Inbox;
use crate::base::time::Instant;
use crate::base::wheel::Wheel;
use crate::policy::Load;
use crate::reactor::{Close, Done, Driver, Id, clock};
use crate::relay::verify::{RecipientCache, VerifyTimes};
use crate::smtp::server::Answer;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Messages taken from the lanes in one turn, so that connections are not starved.
const MESSAGES_PER_TURN_MAX: usize = 256;
/// How often idle legs, waiting jobs and health checks are looked at.
const TICK: Duration = Duration::from_millis(250);

/// What a driver id stands for.
pub(super) enum End {
    /// A client and its machine.
    Client(Box<Inbound>),
    /// A client that reads mail, and its machine.
    Access(Box<Access>),
    /// A client before its session, on a port with implicit TLS.
    Opening(Box<Opening>),
    /// A connection to a backend.
    Leg(Box<Leg>),
}

/// Why a timer was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The machine of a connection wants to be called.
    End(Id),
    /// The regular look at pools and waiting jobs.
    Tick,
}

/// One core; see the module's head.
pub(super) struct Core {
    pub number: u16,
    pub shared: Arc<Shared>,
    pub meter: Arc<CoreMeter>,
    pub driver: Driver,
    pub now: Instant,
    pub ids: IdSource,
    pub outbound: Outbound,
    /// Answers that belong to machines other than the one being handled.
    pub answers: VecDeque<(Asker, Answer)>,
    /// Octets of bodies that clients may still have in memory.
    pub body_octets: usize,
    /// What backends have said about recipients.
    pub recipients: RecipientCache,
    /// Clients that wait for a callout, by its key.
    pub callouts: HashMap<String, Vec<Waiter>>,
    /// Callouts that have ended and whose clients are to be told.
    pub called_out: VecDeque<(Waiter, Option<Opinion>)>,
    /// Jobs of clients that have ended.
    pub ended_jobs: VecDeque<(Asker, JobEnd)>,
    /// What a spool lane could not take at once.
    pub unsaid: VecDeque<(usize, Box<SpoolRequest>)>,
    /// Secret of this core's nonces, and how many were made of it.
    secret: [u8; 32],
    ends: Vec<Option<(u32, End)>>,
    clients: usize,
    wheel: Wheel<Timer>,
    inbox: Inbox<Message>,
    pub shedding: Shedding,
    listeners: Vec<(Id, Arc<Listener>)>,
    draining: Option<Instant>,
    /// When the levels of its connections were looked at.
    pub looked: Looked,
}

/// Who asked: a connection and the number of its question, so that late answers find nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    pub conn: Id,
    pub question: u32,
}

impl Core {
    pub fn new(number: u16, shared: Arc<Shared>, driver: Driver, inbox: Inbox<Message>) -> Core {
        let ids = IdSource::new(number, clock::wall());
        let outbound = Outbound::new(&shared);
        let knobs = &shared.config.settings.relay;
        let recipients = RecipientCache::new(VerifyTimes::from(knobs), knobs.verify_entries_max);
        let mut secret = [0; 32];
        // Without randomness nobody could log in by a challenge; everything else works.
        if aws_lc_rs::rand::fill(&mut secret).is_err() {
            tracing::error!(core = number, "the system has no randomness: nonces can be guessed");
        }
        Core {
            number,
            meter: shared.meters.cores[usize::from(number)].clone(),
            shared,
            driver,
            now: clock::now(),
            ids,
            outbound,
            answers: VecDeque::new(),
            body_octets: 0,
            recipients,
            callouts: HashMap::new(),
            called_out: VecDeque::new(),
            ended_jobs: VecDeque::new(),
            unsaid: VecDeque::new(),
            secret,
            ends: Vec::new(),
            clients: 0,
            wheel: Wheel::new(clock::now()),
            inbox,
            shedding: Shedding::default(),
            listeners: Vec::new(),
            draining: None,
            looked: Looked::default(),
        }
    }

    /// Takes a listener into the loop.
    pub fn listen(&mut self, socket: std::net::TcpListener, listener: Arc<Listener>) -> io::Result<()> {
        let id = self.driver.listen(socket)?;
        self.listeners.push((id, listener));
        Ok(())
    }

    /// Turns until shutdown has drained the connections. `turns` counts, so that others see a core that stands still.
    pub fn run(&mut self, turns: &AtomicU64) -> io::Result<()> {
        let mut done = Vec::with_capacity(256);
        let mut due = Vec::new();
        self.wheel.arm(Timer::Tick, self.now + TICK);
        while !self.is_drained() {
            let timeout = self.sleep_at_most();
            self.driver.poll(&mut done, timeout)?;
            self.inbox.after_sleep();
            turns.fetch_add(1, Ordering::Relaxed);
            self.now = clock::now();
            let events = done.len();
            done.drain(..).for_each(|event| self.completed(event));
            for _ in 0..MESSAGES_PER_TURN_MAX {
                let Some(message) = self.inbox.pop() else { break };
                self.message(message);
            }
            self.give_answers();
            self.wheel.expired(self.now, &mut due);
            due.drain(..).for_each(|timer| self.fired(timer));
            self.give_answers();
            self.meter.turn(clock::now().since(self.now), events);
        }
        Ok(())
    }

    fn sleep_at_most(&mut self) -> Option<Duration> {
        if !self.inbox.before_sleep() {
            return Some(Duration::ZERO);
        }
        self.wheel.next().map(|at| at.since(clock::now()))
    }

    fn completed(&mut self, event: Done) {
        match event {
            Done::Accepted { listener, conn, peer, local } => self.accepted(listener, conn, peer, local),
            Done::AcceptFailed { error, .. } => {
                tracing::warn!(core = self.number, %error, "accept failed; trying again shortly");
            }
            Done::Recv { conn, buf } => {
                let end = self.take(conn);
                self.count_received(end.as_ref(), buf.len());
                match end {
                    Some(End::Client(c)) => self.client_received(c, &buf),
                    Some(End::Access(a)) => self.access_received(a, &buf),
                    Some(End::Leg(l)) => self.leg_received(l, &buf),
                    Some(End::Opening(o)) => self.opening_received(o, &buf),
                    None => {}
                }
            }
            Done::RecvEnd { conn, why } => match self.take(conn) {
                Some(End::Client(c)) => self.client_ended(c, why),
                Some(End::Access(a)) => self.access_ended(a, why),
                Some(End::Leg(l)) => self.leg_ended(l, why),
                Some(End::Opening(o)) => self.opening_ended(o, why),
                None => {}
            },
            Done::Sent { conn, result, .. } => {
                let mut end = self.take(conn);
                self.count_sent(end.as_mut());
                match end {
                    Some(End::Client(c)) => self.client_sent(c, result),
                    Some(End::Access(a)) => self.access_sent(a, result),
                    Some(End::Leg(l)) => self.leg_sent(l, result),
                    Some(End::Opening(o)) => self.opening_sent(o, result),
                    None => {}
                }
            }
            Done::Connected { conn, result } => {
                if let Some(End::Leg(l)) = self.take(conn) {
                    self.leg_connected(l, result);
                }
            }
            Done::Closed { conn } => self.closed(conn),
        }
    }

    fn accepted(&mut self, listener: Id, conn: Id, peer: SocketAddr, local: SocketAddr) {
        let Some(config) = self.listeners.iter().find(|(id, _)| *id == listener).map(|(_, l)| l.clone()) else {
            self.driver.close(conn, Close::Reset);
            return;
        };
        let full = self.clients >= self.shared.connections_per_core_max || self.shedding.refuses();
        let lease = self.shared.client_lease(peer.ip());
        if full || lease.is_err() || self.draining.is_some() {
            // In place of the greeting (RFC 5321 §3.1: 421). Costs a write, no session.
            let why = match (self.draining.is_some(), full) {
                (true, _) => TurnedAway::Draining,
                (false, true) => TurnedAway::Full,
                (false, false) => TurnedAway::PerClient,
            };
            self.meter.turned_away[why as usize].add(1);
            self.driver.send(conn, config.busy.clone());
            self.driver.close(conn, Close::Graceful);
            return;
        }
        self.clients += 1;
        self.meter.connections.set(self.clients as u64);
        self.shared.counters.clients.fetch_add(1, Ordering::Relaxed);
        let lease = lease.unwrap_or_default();
        // SMTP reads the PROXY header itself; it may come before the greeting only (RFC 5321 §3.1 has clients wait).
        let proxied = self.shared.config.settings.server.proxy_from.contains(peer.ip());
        match (&config.serves, config.tls_from_start) {
            (_, true) => self.opening_accepted(config, conn, peer, local, lease),
            (Serves::Smtp(server), false) => {
                let server = server.clone();
                self.client_accepted((config, server), conn, peer, local, lease);
            }
            (Serves::Imap(_) | Serves::Pop3(_), false) if proxied => {
                self.opening_accepted(config, conn, peer, local, lease);
            }
            (Serves::Imap(_) | Serves::Pop3(_), false) => self.access_accepted(config, conn, peer, local, lease),
        }
    }

    fn closed(&mut self, conn: Id) {
        match self.take(conn) {
            Some(End::Client(c)) => {
                self.client_gone();
                self.client_closed(c);
            }
            Some(End::Access(a)) => {
                self.client_gone();
                self.access_closed(a);
            }
            Some(End::Opening(_)) => self.client_gone(),
            Some(End::Leg(l)) => self.leg_closed(l),
            None => {}
        }
    }

    pub(super) fn client_gone(&mut self) {
        self.clients -= 1;
        self.meter.connections.set(self.clients as u64);
        self.shared.counters.clients.fetch_sub(1, Ordering::Relaxed);
    }

    fn fired(&mut self, timer: Timer) {
        match timer {
            Timer::Tick => {
                self.tell_unsaid();
                self.tick_outbound();
                self.shed();
                self.publish_levels();
                self.wheel.arm(Timer::Tick, self.now + TICK);
            }
            Timer::End(conn) => match self.take(conn) {
                Some(End::Client(c)) => self.client_fired(c),
                Some(End::Access(a)) => self.access_fired(a),
                Some(End::Leg(l)) => self.leg_fired(l),
                Some(End::Opening(o)) => self.opening_fired(o),
                None => {}
            },
        }
    }

    /// Gives machines the answers that were found while others were being handled.
    fn give_answers(&mut self) {
        loop {
            while let Some((asker, answer)) = self.answers.pop_front() {
                match self.take(asker.conn) {
                    Some(End::Client(c)) => self.client_answered(c, asker.question, answer),
                    Some(other) => self.put(asker.conn, other),
                    None => {}
                }
            }
            self.settle_ended_jobs();
            self.answer_callouts();
            if self.answers.is_empty() && self.ended_jobs.is_empty() && self.called_out.is_empty() {
                return;
            }
        }
    }

    /// Fresh secret octets for one connection: they only feed keyed hashes, so counting is enough.
    pub fn entropy(&mut self) -> [u8; 32] {
        let mut counter = [0; 8];
        counter.copy_from_slice(&self.secret[..8]);
        self.secret[..8].copy_from_slice(&u64::from_le_bytes(counter).wrapping_add(1).to_le_bytes());
        self.secret
    }

    /// How busy the server is, for the policy.
    pub fn load(&self) -> Load {
        Load {
            connections: self.shared.counters.clients.load(Ordering::Relaxed),
            memory_percent: (self.body_octets * 100 / self.shared.body_octets_per_core_max.max(1)) as u64,
            queued: self.shared.queued(),
        }
    }

    /// Files a deadline of a connection.
    pub fn arm(&mut self, conn: Id, at: Instant) {
        self.wheel.arm(Timer::End(conn), at);
    }

    /// Takes an end out of the table while it is handled; [`Core::put`] brings it back.
    pub fn take(&mut self, conn: Id) -> Option<End> {
        let entry = self.ends.get_mut(conn.index as usize)?;
        if entry.as_ref().is_none_or(|(generation, _)| *generation != conn.generation) {
            return None;
        }
        entry.take().map(|(_, end)| end)
    }

    /// See [`Core::take`].
    pub fn put(&mut self, conn: Id, end: End) {
        let index = conn.index as usize;
        if index >= self.ends.len() {
            self.ends.resize_with(index + 1, || None);
        }
        // The driver uses a slot again as soon as it has reported the end of its connection; that report may still be
        // waiting in this turn's batch.
        if let Some((generation, _)) = &self.ends[index]
            && *generation != conn.generation
        {
            let generation = *generation;
            self.closed(Id { index: conn.index, generation });
        }
        self.ends[index] = Some((conn.generation, end));
    }

    /// Stops accepting; clients are told at their next command, and what is left at `until` is closed.
    pub fn drain(&mut self, until: Instant) {
        if self.draining.is_some() {
            return;
        }
        self.draining = Some(until);
        for (id, _) in std::mem::take(&mut self.listeners) {
            self.driver.unlisten(id);
        }
        let clients: Vec<Id> = self.client_ids().collect();
        for conn in clients {
            match self.take(conn) {
                Some(End::Client(c)) => self.client_shutdown(c),
                Some(End::Access(a)) => self.access_shutdown(a),
                Some(other) => self.put(conn, other),
                None => {}
            }
        }
    }

    /// Everything connected, with its id.
    pub fn ends(&self) -> impl Iterator<Item = (Id, &End)> + '_ {
        self.ends.iter().enumerate().filter_map(|(index, entry)| {
            let (generation, end) = entry.as_ref()?;
            Some((Id { index: index as u32, generation: *generation }, end))
        })
    }
    /// The ports, with their ids.
    pub fn listeners(&self) -> impl Iterator<Item = &(Id, Arc<Listener>)> {
        self.listeners.iter()
    }

    fn client_ids(&self) -> impl Iterator<Item = Id> + '_ {
        self.ends.iter().enumerate().filter_map(|(index, entry)| match entry {
            Some((generation, End::Client(_) | End::Access(_))) => {
                Some(Id { index: index as u32, generation: *generation })
            }
            _ => None,
        })
    }

    /// Everybody it is connected with.
    pub(super) fn ends_mut(&mut self) -> impl Iterator<Item = &mut End> + '_ {
        self.ends.iter_mut().flatten().map(|(_, end)| end)
    }

    /// Whether the core is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    fn is_drained(&self) -> bool {
        match self.draining {
            None => false,
            Some(until) => (self.clients == 0 && self.outbound.is_quiet()) || self.now >= until,
        }
    }
}
