//! Where messages go: per destination a queue in order of time, a bound on deliveries at the same time, and a back-off
//! when the destination fails as a whole. How it fails: it does not.

use super::schedule::Backoff;
use crate::base::id::{Slot, Slots, SpoolId};
use crate::base::time::WallTime;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

#[derive(Debug)]
struct Destination {
    name: Arc<str>,
    /// Legs that name it.
    legs: usize,
    in_flight: u32,
    /// Failures as a whole, in a row.
    failures: u32,
    closed_until: WallTime,
    waiting: BTreeSet<(WallTime, SpoolId, u32)>,
    /// Its place in the order of all destinations.
    listed: Option<WallTime>,
}

/// All destinations that waiting messages name.
#[derive(Debug, Default)]
pub(super) struct Destinations {
    table: Slots<Destination>,
    by_name: HashMap<Arc<str>, Slot>,
    ready: BTreeSet<(WallTime, Slot)>,
    concurrency_max: u32,
}

impl Destinations {
    pub fn new(concurrency_max: u32) -> Destinations {
        Destinations { concurrency_max, ..Destinations::default() }
    }

    /// Counts a leg in; [`Destinations::leave`] counts it out.
    pub fn join(&mut self, name: &str) -> Slot {
        if let Some(slot) = self.by_name.get(name)
            && let Some(d) = self.table.get_mut(*slot)
        {
            d.legs += 1;
            return *slot;
        }
        let name: Arc<str> = name.into();
        let slot = self.table.insert(Destination {
            name: name.clone(),
            legs: 1,
            in_flight: 0,
            failures: 0,
            closed_until: WallTime::default(),
            waiting: BTreeSet::new(),
            listed: None,
        });
        self.by_name.insert(name, slot);
        slot
    }

    /// A leg is done with. The destination is forgotten with its last leg.
    pub fn leave(&mut self, slot: Slot) {
        let Some(d) = self.table.get_mut(slot) else { return };
        d.legs -= 1;
        if d.legs == 0 {
            if let Some(at) = d.listed {
                self.ready.remove(&(at, slot));
            }
            let name = d.name.clone();
            self.by_name.remove(&name);
            self.table.remove(slot);
        }
    }

    pub fn name(&self, slot: Slot) -> &str {
        self.table.get(slot).map_or("", |d| &d.name)
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn wait(&mut self, slot: Slot, due: WallTime, id: SpoolId, leg: u32) {
        if let Some(d) = self.table.get_mut(slot) {
            d.waiting.insert((due, id, leg));
        }
        self.list(slot);
    }

    pub fn unwait(&mut self, slot: Slot, due: WallTime, id: SpoolId, leg: u32) {
        if let Some(d) = self.table.get_mut(slot) {
            d.waiting.remove(&(due, id, leg));
        }
        self.list(slot);
    }

    /// When the next delivery may begin.
    pub fn next_due(&self) -> Option<WallTime> {
        self.ready.first().map(|(at, _)| *at)
    }

    /// Takes the next leg that may be delivered now; it is in flight until [`Destinations::landed`].
    pub fn take(&mut self, now: WallTime) -> Option<(SpoolId, u32)> {
        let (at, slot) = *self.ready.first()?;
        if at > now {
            return None;
        }
        let d = self.table.get_mut(slot)?;
        let (_, id, leg) = d.waiting.pop_first()?;
        d.in_flight += 1;
        self.list(slot);
        Some((id, leg))
    }

    /// A leg is no longer in flight, whatever came of it.
    pub fn landed(&mut self, slot: Slot) {
        if let Some(d) = self.table.get_mut(slot) {
            d.in_flight = d.in_flight.saturating_sub(1);
        }
        self.list(slot);
    }

    /// The destination answered.
    pub fn succeeded(&mut self, slot: Slot) {
        if let Some(d) = self.table.get_mut(slot) {
            d.failures = 0;
            d.closed_until = WallTime::default();
        }
        self.list(slot);
    }

    /// The destination failed as a whole. Deliveries that were under way together count as one failure.
    pub fn failed(&mut self, slot: Slot, now: WallTime, backoff: &Backoff, rng: &mut fastrand::Rng) {
        if let Some(d) = self.table.get_mut(slot)
            && now >= d.closed_until
        {
            d.failures = d.failures.saturating_add(1);
            d.closed_until = backoff.next(now, d.failures, rng);
        }
        self.list(slot);
    }

    /// Until when a destination is left alone.
    pub fn closed_until(&self, slot: Slot) -> Option<WallTime> {
        self.table.get(slot).filter(|d| d.failures > 0).map(|d| d.closed_until)
    }

    /// Puts the destination at its place in the order of all.
    fn list(&mut self, slot: Slot) {
        let Some(d) = self.table.get_mut(slot) else { return };
        let first = d.waiting.first().map(|(due, _, _)| *due);
        let at = match first {
            // After a failure one delivery probes; the others wait for what it says.
            Some(due) if d.failures > 0 => (d.in_flight == 0).then(|| due.max(d.closed_until)),
            Some(due) => (d.in_flight < self.concurrency_max).then_some(due),
            None => None,
        };
        if at == d.listed {
            return;
        }
        if let Some(old) = d.listed {
            self.ready.remove(&(old, slot));
        }
        d.listed = at;
        if let Some(at) = at {
            self.ready.insert((at, slot));
        }
    }
}
