//! Delivery: what is due, what became of it, what has waited too long.
//!
//! How it fails: a message whose record cannot be read is held with the reason instead of being handed out; settling a
//! message that is gone (an administrator removed it meanwhile) does nothing.

use super::codec::kept_reply;
use super::index::{Entry, Status};
use super::report::ReportKind;
use super::store::Spool;
use crate::base::envelope::Envelope;
use crate::base::id::SpoolId;
use crate::base::knob::show_duration;
use crate::base::time::WallTime;
use crate::log::Disk;
use crate::wire::reply::{Enhanced, Reply};
use std::sync::Arc;

/// A delivery to be made: the recipients of one message that go to one destination. In flight until it is settled.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Which message.
    pub id: SpoolId,
    /// Its envelope.
    pub envelope: Arc<Envelope>,
    /// Indexes of the recipients to deliver to.
    pub recipients: Vec<u32>,
    /// Where to.
    pub destination: String,
    /// The how-manieth attempt for these recipients, from 1.
    pub attempt: u32,
}

/// What a delivery came to for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The next hop has taken it.
    Delivered {
        /// What it said.
        reply: Reply,
        /// Whether it was given the DSN parameters, and so reports success itself (RFC 3461 §5.2.2).
        dsn_passed_on: bool,
    },
    /// Refused for good.
    Failed {
        /// What the next hop said, or we in its place.
        reply: Reply,
    },
    /// Not now.
    Deferred {
        /// What the next hop said, or we in its place.
        reply: Reply,
        /// Whom it is about.
        scope: Scope,
    },
}

/// Whether a deferral says something about other messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Only this message or recipient (greylisting, mailbox full).
    Message,
    /// The destination as a whole (no connection, 421): it is left alone for a while.
    Destination,
}

/// What follows from settling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Nobody is left to deliver to or to tell; the message leaves the queue with the next commit.
    pub finished: bool,
    /// [`Spool::take_reports`] has something.
    pub reports_due: bool,
}

impl<D: Disk> Spool<D> {
    /// When [`Spool::take_due`], [`Spool::expire`] or both next have something to do.
    pub fn next_due(&self) -> Option<WallTime> {
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        [self.destinations.next_due(), deadline].into_iter().flatten().min()
    }

    /// Takes deliveries that are due, oldest first, within the bounds of their destinations.
    pub fn take_due(&mut self, now: WallTime, max: usize) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        while attempts.len() < max {
            let Some((id, leg)) = self.destinations.take(now) else { break };
            let front = self.front(id);
            let Some(entry) = self.index.get_mut(&id) else { continue };
            let Some(state) = entry.legs.get_mut(leg as usize) else { continue };
            state.in_flight = true;
            let (attempt, destination) = (state.attempts + 1, state.destination);
            let recipients: Vec<u32> = entry.waiting(leg).collect();
            match front {
                Ok(front) => attempts.push(Attempt {
                    id,
                    envelope: Arc::new(front.envelope),
                    recipients,
                    destination: self.destinations.name(destination).to_owned(),
                    attempt,
                }),
                Err(e) => {
                    self.return_attempt(id, &recipients);
                    let _ = self.hold(id, &e.to_string());
                }
            }
        }
        attempts
    }

    /// An attempt was not made after all (shutdown, no connection to spare): the recipients wait again, uncounted.
    pub fn return_attempt(&mut self, id: SpoolId, recipients: &[u32]) {
        self.land(id, recipients);
        self.enqueue(id);
        self.set_deadline(id);
    }

    /// Notes what an attempt came to. Durable with the next commit.
    pub fn settle(&mut self, id: SpoolId, fates: Vec<(u32, Fate)>, now: WallTime) -> Settled {
        let recipients: Vec<u32> = fates.iter().map(|(r, _)| *r).collect();
        let failed_whole = fates.iter().any(|(_, f)| matches!(f, Fate::Deferred { scope: Scope::Destination, .. }));
        let legs = self.land(id, &recipients);
        if self.index.get(&id).is_none_or(|e| e.over) {
            return Settled { finished: true, reports_due: !self.reports_due.is_empty() };
        }
        fates.into_iter().for_each(|(recipient, fate)| self.apply(id, recipient, fate));
        let (retry, close) = (self.message_backoff(), self.destination_backoff());
        for leg in legs {
            let Some(state) = self.index.get_mut(&id).and_then(|e| e.legs.get_mut(leg as usize)) else { continue };
            state.attempts = state.attempts.saturating_add(1);
            state.due = retry.next(now, state.attempts, &mut self.rng);
            let destination = state.destination;
            if failed_whole {
                self.destinations.failed(destination, now, &close, &mut self.rng);
            } else {
                self.destinations.succeeded(destination);
            }
        }
        self.enqueue(id);
        self.set_deadline(id);
        self.mark(id);
        let finished = self.index.get(&id).is_none_or(|e| e.over);
        Settled { finished, reports_due: !self.reports_due.is_empty() }
    }

    fn apply(&mut self, id: SpoolId, recipient: u32, fate: Fate) {
        let Some(entry) = self.index.get_mut(&id) else { return };
        let Some(state) = entry.recipients.get_mut(recipient as usize) else {
            debug_assert!(false, "settled a recipient the message does not have");
            return;
        };
        if state.status != Status::Waiting {
            return;
        }
        let report = match fate {
            Fate::Delivered { reply, dsn_passed_on } => {
                state.status = Status::Delivered;
                state.reply = Some(kept_reply(reply));
                (!dsn_passed_on).then_some(ReportKind::Success)
            }
            Fate::Failed { reply } => {
                state.status = Status::Failed;
                state.reply = Some(kept_reply(reply));
                Some(ReportKind::Failure)
            }
            Fate::Deferred { reply, .. } => {
                state.reply = Some(kept_reply(reply));
                None
            }
        };
        if state.status != Status::Waiting {
            state.due = None; // a delay need not be told any more
        }
        if let Some(kind) = report {
            self.note_report(id, recipient, kind);
        }
    }

    /// Ends the flight of the legs these recipients are in; returns those legs.
    fn land(&mut self, id: SpoolId, recipients: &[u32]) -> Vec<u32> {
        let Some(entry) = self.index.get_mut(&id) else { return Vec::new() };
        let mut legs: Vec<u32> =
            recipients.iter().filter_map(|r| entry.recipients.get(*r as usize)).map(|r| r.leg).collect();
        legs.sort_unstable();
        legs.dedup();
        legs.retain(|leg| {
            let Some(state) = entry.legs.get_mut(*leg as usize).filter(|l| l.in_flight) else { return false };
            state.in_flight = false;
            self.destinations.landed(state.destination);
            true
        });
        legs
    }

    /// Tells senders of what is late, and gives up what has waited for its lifetime. Durable with the next commit.
    /// Returns how many messages were given up. Held messages do not age.
    pub fn expire(&mut self, now: WallTime) -> usize {
        let mut reached = Vec::new();
        while let Some((at, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, id));
            if let Some(entry) = self.index.get_mut(&id) {
                entry.deadline = None;
                reached.push(id);
            }
        }
        reached.into_iter().filter(|id| self.expire_one(*id, now)).count()
    }

    /// Whether the message was given up.
    fn expire_one(&mut self, id: SpoolId, now: WallTime) -> bool {
        let Some(entry) = self.index.get(&id) else { return false };
        let waiting = |(_, r): &(usize, &super::index::RecipientState)| r.status == Status::Waiting;
        let dead = now >= entry.received + self.knobs.lifetime;
        let concerned: Vec<u32> = entry
            .recipients
            .iter()
            .enumerate()
            .filter(waiting)
            .filter(|(_, r)| !dead || !entry.legs[r.leg as usize].in_flight)
            .map(|(i, _)| i as u32)
            .collect();
        if dead {
            self.unwait(id);
            for recipient in &concerned {
                self.give_up(id, *recipient);
            }
            self.enqueue(id); // legs of recipients that are in flight are not waiting anyway
        } else {
            concerned.iter().for_each(|recipient| self.note_report(id, *recipient, ReportKind::Delay));
        }
        self.set_deadline(id);
        self.mark(id);
        dead && !concerned.is_empty()
    }

    fn give_up(&mut self, id: SpoolId, recipient: u32) {
        let lifetime = show_duration(self.knobs.lifetime);
        let Some(state) = self.index.get_mut(&id).and_then(|e| e.recipients.get_mut(recipient as usize)) else {
            return;
        };
        // RFC 3463 §3.5: X.4.7, delivery time expired.
        let mut reply = Reply::new(451, Some(Enhanced(4, 4, 7)), format!("not delivered within {lifetime}"));
        if let Some(last) = state.reply.take() {
            reply.lines.push(format!("last: {last}").into());
        }
        self.apply(id, recipient, Fate::Failed { reply });
    }

    /// Notes that a message's state must be written, and whether there is anything left to do about it.
    pub(super) fn mark(&mut self, id: SpoolId) {
        if let Some(entry) = self.index.get_mut(&id) {
            if entry.recipients.iter().all(super::index::RecipientState::is_over) {
                entry.over = true;
            }
            self.changed.insert(id);
        }
    }

    /// Puts the legs that wait, and are not held, into the order of their destinations.
    pub(super) fn enqueue(&mut self, id: SpoolId) {
        let Some(entry) = self.index.get(&id) else { return };
        if entry.hold.is_some() || entry.over {
            return;
        }
        for (i, leg) in entry.legs.iter().enumerate().filter(|(_, l)| !l.in_flight) {
            if entry.waiting(i as u32).next().is_some() {
                self.destinations.wait(leg.destination, leg.due, id, i as u32);
            }
        }
    }

    /// Takes all legs of a message out of the orders of their destinations.
    pub(super) fn unwait(&mut self, id: SpoolId) {
        let Some(entry) = self.index.get(&id) else { return };
        for (i, leg) in entry.legs.iter().enumerate() {
            self.destinations.unwait(leg.destination, leg.due, id, i as u32);
        }
    }

    /// Puts a message at its place in the order of deadlines.
    pub(super) fn set_deadline(&mut self, id: SpoolId) {
        let Some(entry) = self.index.get_mut(&id) else { return };
        let deadline = next_deadline(entry, self.knobs.delay_warning, self.knobs.lifetime);
        if deadline == entry.deadline {
            return;
        }
        if let Some(old) = entry.deadline {
            self.deadlines.remove(&(old, id));
        }
        entry.deadline = deadline;
        if let Some(at) = deadline {
            self.deadlines.insert((at, id));
        }
    }
}

/// When a delay is to be told or the lifetime ends, whichever comes first and still matters.
fn next_deadline(entry: &Entry, delay_warning: std::time::Duration, lifetime: std::time::Duration) -> Option<WallTime> {
    if entry.hold.is_some() || entry.over {
        return None;
    }
    let waiting = || entry.recipients.iter().filter(|r| r.status == Status::Waiting);
    let to_warn = !entry.null_sender
        && waiting().any(|r| r.wants.wants(ReportKind::Delay) && !r.delay_told && r.due.is_none() && r.taken.is_none());
    let warn = (to_warn && delay_warning < lifetime).then(|| entry.received + delay_warning);
    // What is in flight at the end of its lifetime gets its last chance; settling sets the deadline again.
    let idle = waiting().any(|r| !entry.legs[r.leg as usize].in_flight);
    let end = idle.then(|| entry.received + lifetime);
    [warn, end].into_iter().flatten().min()
}
