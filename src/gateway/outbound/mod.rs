//! Backend legs and the jobs they do: which connection carries what, who waits for one, and when nobody should wait longer.
//!
//! A destination has idle legs, legs being opened, and a bounded queue of jobs. An idle leg takes a job at once (the
//! hottest first); otherwise one more leg is opened up to the limit. How it fails: a job whose destination cannot be
//! reached in time ends as [`JobEnd::Unavailable`] with the last reason, one that can never be delivered as
//! [`JobEnd::Refused`]; its owner decides what that means (a reply to a client, the next attempt for the spool).

mod destination;
mod finding;
mod leg;

pub(super) use destination::{Candidate, Destination, Limits, Next};
pub(super) use leg::Leg;

use super::core::{Asker, Core, End};
use super::deliver::Attempt;
use super::lanes::LookupTo;
use super::routing::Key;
use super::state::Shared;
use crate::base::address::{Mailbox, ReversePath};
use crate::base::time::Instant;
use crate::lookup;
use crate::reactor::Id;
use crate::relay::pool::Trouble;
use crate::smtp::client::{Client, Delivery, Outcome, Speaks, Verification};
use crate::wire::reply::Reply;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What is to be done on a leg.
#[derive(Clone, Debug)]
pub(super) enum Task {
    /// Hand over a message.
    Deliver(Box<Delivery>),
    /// Ask whether a recipient would be taken.
    Verify {
        /// MAIL FROM of the question; null, as it makes no bounces.
        sender: ReversePath,
        /// Who.
        recipient: Mailbox,
    },
}

/// Who wants to know how it ended.
#[derive(Clone, Debug)]
pub(super) enum Owner {
    /// A client waits for its reply after end of data.
    Client(Asker),
    /// Clients wait for a reply to RCPT; the key of the question.
    Callout(String),
    /// The spool: an attempt to report back about.
    Spool(Box<Attempt>),
}

/// Work for a destination.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub owner: Owner,
    pub to: Key,
    pub task: Task,
    /// How often it met a connection that was closed under it.
    pub tries: u8,
    /// When nobody should wait for a connection any longer.
    pub give_up: Instant,
}

/// How a job ended.
#[derive(Debug)]
pub(super) enum JobEnd {
    /// The backend answered.
    Finished {
        /// What.
        outcome: Outcome,
        /// Whether it takes over the duty to report (RFC 3461).
        dsn: bool,
        /// What it speaks.
        speaks: Speaks,
    },
    /// The backend answered a callout.
    Verified(Verification),
    /// No connection could be had, or it broke before the message was out.
    Unavailable(String),
    /// There is nobody to deliver to, and trying again does not help (RFC 7505, RFC 5321 §5.1).
    Refused(Reply),
}

/// All destinations of a core.
pub(super) struct Outbound {
    pub(super) destinations: Vec<Destination>,
    by_key: HashMap<Key, usize>,
    jobs_waiting_max: usize,
    /// Jobs on legs or waiting.
    busy: usize,
}

/// Destinations a core remembers that come from MX lookups; the idle ones go first.
const DESTINATIONS_MAX: usize = 10_000;

impl Outbound {
    pub fn new(shared: &Arc<Shared>) -> Outbound {
        Outbound {
            destinations: Vec::new(),
            by_key: HashMap::new(),
            jobs_waiting_max: shared.config.settings.relay.jobs_waiting_max,
            busy: 0,
        }
    }

    /// Connections, those of them without a job, and jobs that wait for one.
    pub fn levels(&self) -> (usize, usize, usize) {
        let count = |of: &dyn Fn(&Destination) -> usize| self.destinations.iter().map(of).sum();
        (count(&|d| d.open), count(&|d| d.idle.len()), count(&|d| d.waiting.len()))
    }

    /// Whether nothing is under way.
    pub fn is_quiet(&self) -> bool {
        self.busy == 0
    }

    fn find(&mut self, key: &Key, shared: &Arc<Shared>, now: Instant) -> usize {
        if let Some(index) = self.by_key.get(key) {
            return *index;
        }
        let index = self.destinations.len();
        self.destinations.push(Destination::new(key.clone(), shared, now));
        self.by_key.insert(key.clone(), index);
        index
    }

    fn next_job(&mut self, destination: usize) -> Option<Job> {
        self.destinations[destination].waiting.pop_front()
    }

    /// Remembers an idle leg; false when enough are kept.
    fn leg_idle(&mut self, destination: usize, id: Id) -> bool {
        let d = &mut self.destinations[destination];
        let keep = d.idle.len() < d.limits.idle_max;
        if keep {
            d.idle.push(id);
        }
        keep
    }

    fn leg_opened(&mut self, leg: &Leg, now: Instant) {
        let d = &mut self.destinations[leg.destination];
        d.opening = d.opening.saturating_sub(1);
        d.opened(&leg.candidate, now);
    }

    fn leg_answered(&mut self, leg: &Leg, outcome: &Outcome, now: Instant) {
        self.destinations[leg.destination].answered(&leg.candidate, outcome, now);
    }

    fn leg_lost(&mut self, leg: &mut Leg, reason: &str, trouble: Trouble, now: Instant) {
        let d = &mut self.destinations[leg.destination];
        if !leg.served {
            d.opening = d.opening.saturating_sub(1);
            d.failed(&leg.candidate, reason, trouble, now);
            tracing::warn!(destination = %d.key, backend = %leg.candidate, reason, "backend failed");
        }
        d.idle.retain(|id| *id != leg.id());
    }

    fn leg_gone(&mut self, leg: &Leg) {
        let d = &mut self.destinations[leg.destination];
        d.open = d.open.saturating_sub(1);
        d.released(&leg.candidate);
        d.idle.retain(|id| *id != leg.id());
    }

    /// Whether a leg has done its work: it has carried as much as it may, or it goes to a standby that is not needed now.
    fn is_worn(&self, leg: &Leg, now: Instant) -> bool {
        if self.destinations[leg.destination].is_outdone(&leg.candidate, now) {
            return true;
        }
        let max = self.destinations[leg.destination].limits.messages_per_connection_max as u64;
        max > 0 && leg.messages() >= max
    }
}

impl Core {
    /// Gives a job to an idle leg, or queues it and opens one. Ends it at once when the queue is full.
    pub(super) fn submit(&mut self, job: Job) {
        let index = self.outbound.find(&job.to, &self.shared, self.now);
        self.outbound.busy += usize::from(job.tries == 0);
        while let Some(id) = self.outbound.destinations[index].idle.pop() {
            if let Some(End::Leg(leg)) = self.take(id) {
                return self.leg_start(leg, job);
            }
        }
        let waiting = &mut self.outbound.destinations[index].waiting;
        if waiting.len() >= self.outbound.jobs_waiting_max {
            return self.job_ended(job.owner, JobEnd::Unavailable("too many messages wait for this backend".into()));
        }
        waiting.push_back(job);
        self.supply(index);
    }

    /// Opens legs for the jobs that wait, or ends the jobs when there is nobody to connect to.
    fn supply(&mut self, index: usize) {
        loop {
            let d = &mut self.outbound.destinations[index];
            if d.opening >= d.waiting.len() || d.open >= d.limits.connections_max {
                return;
            }
            match d.next(self.now) {
                Next::Connect(candidate) => self.open_leg(index, candidate),
                Next::Ask(question) => return self.ask_about(index, question),
                Next::Wait => return,
                Next::Nobody(reason) => return self.end_waiting(index, || JobEnd::Unavailable(reason.clone())),
                Next::Never(reply) => return self.end_waiting(index, || JobEnd::Refused(reply.clone())),
            }
        }
    }

    fn open_leg(&mut self, index: usize, candidate: Candidate) {
        let id = match self.driver.connect(candidate.address, None) {
            Ok(id) => id,
            Err(error) => {
                let d = &mut self.outbound.destinations[index];
                d.failed(&candidate, &error.to_string(), Trouble::Unreachable, self.now);
                d.released(&candidate);
                return;
            }
        };
        let d = &mut self.outbound.destinations[index];
        d.opening += 1;
        d.open += 1;
        let pool = d.pool_place(&candidate);
        let client = Client::new(d.client_of(&candidate), self.entropy(), self.now);
        let leg = Leg::new(id, client, index, candidate, pool, self.now);
        // A backend that does not answer the SYN is noticed by the client machine's greeting timeout, or sooner by this.
        self.arm(id, self.now + self.shared.config.settings.relay.connect_timeout);
        self.put(id, End::Leg(Box::new(leg)));
    }

    fn ask_about(&mut self, index: usize, question: lookup::Question) {
        if let Some(answer) = self.ask_lookup(LookupTo::Destination(index), &question) {
            self.destination_answered(index, answer);
        }
    }

    /// The lookup lane answered a question of a destination.
    pub(super) fn destination_answered(&mut self, index: usize, answer: lookup::Answer) {
        if let Some(d) = self.outbound.destinations.get_mut(index) {
            d.learn(&answer, self.now);
            self.supply(index);
        }
    }

    fn end_waiting(&mut self, index: usize, end: impl Fn() -> JobEnd) {
        let waiting = std::mem::take(&mut self.outbound.destinations[index].waiting);
        for job in waiting {
            self.job_ended(job.owner, end());
        }
    }

    /// Tells the owner.
    fn job_ended(&mut self, owner: Owner, end: JobEnd) {
        self.outbound.busy = self.outbound.busy.saturating_sub(1);
        match owner {
            Owner::Client(asker) => self.settle_ended(asker, end),
            Owner::Callout(key) => self.callout_ended(key, end),
            Owner::Spool(attempt) => self.attempt_ended(*attempt, end),
        }
    }

    /// Four times a second: jobs nobody should wait for any longer, legs idle for too long, backends due for a probe.
    pub(super) fn tick_outbound(&mut self) {
        for index in 0..self.outbound.destinations.len() {
            self.give_up_waiting(index);
            self.close_idle(index);
            for candidate in self.outbound.destinations[index].due_checks(self.now) {
                self.open_leg(index, candidate);
            }
            self.supply(index);
        }
        self.forget_destinations();
    }

    fn give_up_waiting(&mut self, index: usize) {
        let now = self.now;
        let d = &mut self.outbound.destinations[index];
        if d.waiting.iter().all(|job| job.give_up > now) {
            return;
        }
        let reason = d.last_reason().to_owned();
        let (late, still): (VecDeque<Job>, VecDeque<Job>) =
            std::mem::take(&mut d.waiting).into_iter().partition(|job| job.give_up <= now);
        d.waiting = still;
        for job in late {
            self.job_ended(job.owner, JobEnd::Unavailable(reason.clone()));
        }
    }

    fn close_idle(&mut self, index: usize) {
        let d = &self.outbound.destinations[index];
        let limit = d.limits.idle_time_max;
        // The oldest stand first: the list is used from its end.
        let Some(oldest) = d.idle.first().copied() else { return };
        match self.take(oldest) {
            Some(End::Leg(leg)) if self.now.since(leg.idle_since) >= limit => {
                self.outbound.destinations[index].idle.remove(0);
                self.leg_quit(leg);
            }
            Some(end) => self.put(oldest, end),
            None => {
                self.outbound.destinations[index].idle.remove(0);
            }
        }
    }

    /// Destinations made by MX lookups would grow for ever; when there are too many, the unused are dropped.
    fn forget_destinations(&mut self) {
        if self.outbound.destinations.len() <= DESTINATIONS_MAX {
            return;
        }
        // Indexes are held by legs, so only a tail of unused destinations can go.
        while let Some(last) = self.outbound.destinations.last() {
            if last.open > 0 || !last.waiting.is_empty() || last.is_asking() {
                return;
            }
            let key = last.key.clone();
            self.outbound.by_key.remove(&key);
            self.outbound.destinations.pop();
        }
    }
}
