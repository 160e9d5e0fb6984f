//! What an administrator does with the queue: look, retry, hold, release, remove, route anew. The same on a running
//! server and on a stopped one's directory. How it fails: [`SpoolError::Unknown`]; changes are durable with the next
//! commit.

use super::SpoolError;
use super::index::{Status, legs_of};
use super::store::Spool;
use crate::base::envelope::Envelope;
use crate::base::id::SpoolId;
use crate::base::time::WallTime;
use crate::log::Disk;
use crate::wire::reply::Reply;
use std::collections::HashMap;
use std::ops::Bound;

/// Which messages to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All.
    All,
    /// Those that are held.
    Held,
    /// Those that were tried and deferred.
    Deferred,
    /// Those with recipients waiting for this destination.
    Destination(String),
}

/// Which messages to retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// One.
    Message(SpoolId),
    /// All.
    All,
    /// Those waiting for this destination.
    Destination(String),
}

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Id.
    pub id: SpoolId,
    /// When it came.
    pub received: WallTime,
    /// Octets of trace headers and body.
    pub octets: u64,
    /// MAIL FROM without brackets; `None` when the record cannot be read.
    pub sender: Option<String>,
    /// Recipients in all.
    pub recipients: usize,
    /// Of them, those still to be delivered to.
    pub waiting: usize,
    /// Attempts so far (the most of any destination).
    pub attempts: u32,
    /// When it is next tried; `None` when held or in flight.
    pub next_attempt: Option<WallTime>,
    /// Whether a delivery is under way.
    pub in_flight: bool,
    /// Why it is held.
    pub hold: Option<String>,
    /// Where it goes.
    pub destinations: Vec<String>,
    /// What delayed it last.
    pub reply: Option<Reply>,
}

/// Everything about one message but its body.
#[derive(Clone, Debug)]
pub struct Details {
    /// As in the list.
    pub summary: Summary,
    /// Its envelope.
    pub envelope: Envelope,
    /// Trace headers.
    pub prefix: Vec<u8>,
    /// By destination.
    pub legs: Vec<Leg>,
    /// In the order of the envelope.
    pub recipients: Vec<RecipientDetails>,
}

/// How delivery to one destination stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Where to.
    pub destination: String,
    /// When it is next tried.
    pub due: WallTime,
    /// Attempts so far.
    pub attempts: u32,
    /// Whether one is under way.
    pub in_flight: bool,
    /// Until when the destination is left alone because it failed as a whole.
    pub closed_until: Option<WallTime>,
}

/// How delivery to one recipient stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientDetails {
    /// What became of it.
    pub status: Status,
    /// Index into [`Details::legs`].
    pub leg: usize,
    /// What decided or delayed it.
    pub reply: Option<Reply>,
}

/// What waits, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Messages in the queue.
    pub messages: u64,
    /// Of them held.
    pub held: u64,
    /// Of them with a delivery under way.
    pub in_flight: u64,
    /// Octets of all.
    pub octets: u64,
    /// By destination: messages with a recipient that waits for it, and when the oldest of them was accepted.
    pub destinations: Vec<(String, u64, WallTime)>,
    /// Messages by age, by the bounds that were asked for.
    pub ages: Vec<u64>,
}

impl<D: Disk> Spool<D> {
    /// Looks at every message in the queue: some 100 ns each. `ages_ms` are upper bounds in rising order; what is older than
    /// all of them counts with the last.
    pub fn survey(&self, now: WallTime, ages_ms: &[u64]) -> Survey {
        let mut survey = Survey { octets: self.octets, ages: vec![0; ages_ms.len()], ..Survey::default() };
        let mut by_destination: HashMap<crate::base::id::Slot, (u64, WallTime)> = HashMap::new();
        for entry in self.index.values().filter(|e| !e.over) {
            survey.messages += 1;
            survey.held += u64::from(entry.hold.is_some());
            survey.in_flight += u64::from(entry.legs.iter().any(|l| l.in_flight));
            let age_ms = u64::try_from(now.since(entry.received).as_millis()).unwrap_or(u64::MAX);
            let place = ages_ms.partition_point(|bound| *bound <= age_ms).min(ages_ms.len().saturating_sub(1));
            if let Some(count) = survey.ages.get_mut(place) {
                *count += 1;
            }
            for (i, leg) in entry.legs.iter().enumerate() {
                if entry.waiting(i as u32).next().is_some() {
                    let known = by_destination.entry(leg.destination).or_insert((0, entry.received));
                    known.0 += 1;
                    known.1 = known.1.min(entry.received);
                }
            }
        }
        let named = |(slot, (n, oldest))| (self.destinations.name(slot).to_owned(), n, oldest);
        survey.destinations = by_destination.into_iter().map(named).collect();
        survey
    }

    /// Messages behind `after` in order of id (which is that of age), at most `limit`.
    pub fn list(&self, filter: &Filter, after: Option<SpoolId>, limit: usize) -> Vec<Summary> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let ids = self.index.range((from, Bound::Unbounded)).filter(|(id, e)| !e.over && self.matches(**id, filter));
        ids.take(limit).filter_map(|(id, _)| self.summary(*id)).collect()
    }

    fn matches(&self, id: SpoolId, filter: &Filter) -> bool {
        let Some(entry) = self.index.get(&id) else { return false };
        match filter {
            Filter::All => true,
            Filter::Held => entry.hold.is_some(),
            Filter::Deferred => entry.is_waiting() && entry.legs.iter().any(|l| l.attempts > 0),
            Filter::Destination(name) => entry.legs.iter().enumerate().any(|(i, leg)| {
                self.destinations.name(leg.destination) == name && entry.waiting(i as u32).next().is_some()
            }),
        }
    }

    fn summary(&self, id: SpoolId) -> Option<Summary> {
        let entry = self.index.get(&id)?;
        let open = |(i, _): &(usize, &super::index::LegState)| entry.waiting(*i as u32).next().is_some();
        let in_flight = entry.legs.iter().any(|l| l.in_flight);
        let waiting_legs = entry.legs.iter().enumerate().filter(open).filter(|(_, l)| !l.in_flight);
        let next_attempt = waiting_legs.map(|(_, l)| l.due).min().filter(|_| entry.hold.is_none());
        Some(Summary {
            id,
            received: entry.received,
            octets: entry.octets,
            sender: self.front(id).ok().map(|f| f.envelope.sender.to_string()),
            recipients: entry.recipients.len(),
            waiting: entry.recipients.iter().filter(|r| r.status == Status::Waiting).count(),
            attempts: entry.legs.iter().map(|l| l.attempts).max().unwrap_or(0),
            next_attempt,
            in_flight,
            hold: entry.hold.as_deref().map(str::to_owned),
            destinations: entry.legs.iter().map(|l| self.destinations.name(l.destination).to_owned()).collect(),
            reply: entry.recipients.iter().rev().find_map(|r| r.reply.as_deref().cloned()),
        })
    }

    /// Everything about one message but its body (which [`Spool::load`] has).
    pub fn show(&self, id: SpoolId) -> Result<Details, SpoolError> {
        let entry = self.index.get(&id).filter(|e| !e.over).ok_or(SpoolError::Unknown(id))?;
        let front = self.front(id)?;
        let legs = entry.legs.iter().map(|l| Leg {
            destination: self.destinations.name(l.destination).to_owned(),
            due: l.due,
            attempts: l.attempts,
            in_flight: l.in_flight,
            closed_until: self.destinations.closed_until(l.destination),
        });
        let recipients = entry.recipients.iter().map(|r| RecipientDetails {
            status: r.status,
            leg: r.leg as usize,
            reply: r.reply.as_deref().cloned(),
        });
        Ok(Details {
            summary: self.summary(id).ok_or(SpoolError::Unknown(id))?,
            envelope: front.envelope,
            prefix: front.prefix,
            legs: legs.collect(),
            recipients: recipients.collect(),
        })
    }

    /// Makes messages due now, and forgets what was held against their destinations. Held ones stay held. Returns how
    /// many are concerned.
    pub fn retry(&mut self, selection: &Selection, now: WallTime) -> Result<usize, SpoolError> {
        let ids: Vec<SpoolId> = match selection {
            Selection::Message(id) => {
                self.index.get(id).filter(|e| !e.over).ok_or(SpoolError::Unknown(*id))?;
                vec![*id]
            }
            Selection::All => self.index.iter().filter(|(_, e)| !e.over).map(|(id, _)| *id).collect(),
            Selection::Destination(name) => {
                let filter = Filter::Destination(name.clone());
                self.index.keys().copied().filter(|id| self.matches(*id, &filter)).collect()
            }
        };
        for id in &ids {
            self.unwait(*id);
            let Some(entry) = self.index.get_mut(id) else { continue };
            let mut changed = false;
            for leg in entry.legs.iter_mut().filter(|l| !l.in_flight) {
                changed |= leg.due > now;
                leg.due = leg.due.min(now);
                self.destinations.succeeded(leg.destination);
            }
            self.enqueue(*id);
            if changed {
                self.mark(*id);
            }
        }
        Ok(ids.len())
    }

    /// Keeps a message back until it is released. A delivery that is under way goes on.
    pub fn hold(&mut self, id: SpoolId, reason: &str) -> Result<(), SpoolError> {
        self.index.get(&id).filter(|e| !e.over).ok_or(SpoolError::Unknown(id))?;
        self.unwait(id);
        if let Some(entry) = self.index.get_mut(&id) {
            entry.hold = Some(reason.into());
        }
        self.set_deadline(id);
        self.mark(id);
        Ok(())
    }

    /// Lets a held message go; it is due at once.
    pub fn release(&mut self, id: SpoolId, now: WallTime) -> Result<(), SpoolError> {
        let entry = self.index.get_mut(&id).filter(|e| !e.over).ok_or(SpoolError::Unknown(id))?;
        entry.hold = None;
        entry.legs.iter_mut().filter(|l| !l.in_flight).for_each(|l| l.due = l.due.min(now));
        self.enqueue(id);
        self.set_deadline(id);
        self.mark(id);
        Ok(())
    }

    /// Takes a message out of the queue without telling anybody. A delivery that is under way may still succeed.
    pub fn remove(&mut self, id: SpoolId) -> Result<(), SpoolError> {
        self.index.get(&id).filter(|e| !e.over).ok_or(SpoolError::Unknown(id))?;
        self.unwait(id);
        if let Some(entry) = self.index.get_mut(&id) {
            for r in &mut entry.recipients {
                (r.due, r.taken) = (None, None);
                if r.status == Status::Waiting {
                    r.status = Status::Removed;
                }
            }
        }
        self.mark(id);
        self.set_deadline(id);
        Ok(())
    }

    /// Routes the waiting recipients anew, one route for each recipient of the envelope: after a change of the
    /// configuration the old destinations may be gone. Not while a delivery is under way.
    pub fn reroute(&mut self, id: SpoolId, routes: &[String], now: WallTime) -> Result<(), SpoolError> {
        let envelope = self.front(id)?.envelope;
        let entry = self.index.get(&id).filter(|e| !e.over).ok_or(SpoolError::Unknown(id))?;
        if routes.len() != entry.recipients.len() {
            return Err(SpoolError::Misuse("expected one route for each recipient"));
        }
        if entry.legs.iter().any(|l| l.in_flight) {
            return Err(SpoolError::Misuse("expected no delivery under way"));
        }
        self.unwait(id);
        let (fresh, names) = legs_of(&envelope, routes);
        let joined: Vec<_> = names.iter().map(|n| self.destinations.join(n)).collect();
        let Some(entry) = self.index.get_mut(&id) else { return Ok(()) };
        let attempts = entry.legs.iter().map(|l| l.attempts).max().unwrap_or(0);
        let old = std::mem::take(&mut entry.legs);
        old.iter().for_each(|l| self.destinations.leave(l.destination));
        entry.legs = joined
            .into_iter()
            .map(|destination| super::index::LegState { destination, due: now, attempts, in_flight: false })
            .collect();
        entry.recipients.iter_mut().zip(fresh).for_each(|(r, f)| r.leg = f.leg);
        self.enqueue(id);
        self.set_deadline(id);
        self.mark(id);
        Ok(())
    }
}
