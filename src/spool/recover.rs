//! Opening the queue: its records are read back in the order they were written and boiled down to what is waiting.
//!
//! How it fails: [`SpoolError`] when the directory cannot be used at all; what could not be read is in [`Recovery`], and a
//! message whose body file is missing is held with the reason.

use super::codec::{Front, KIND_MESSAGE, KIND_STATE, KIND_TOMBSTONE, State};
use super::destinations::Destinations;
use super::index::{Entry, LegState, legs_of};
use super::store::{Counters, Spool};
use super::{SpoolError, SpoolKnobs};
use crate::base::address::ReversePath;
use crate::base::id::{IdSource, SpoolId};
use crate::base::time::WallTime;
use crate::log::{self, BodyStore, Disk, Location, Log, LogOptions, Recovered};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// What the log says: torn tails, damage.
    pub log: log::Recovery,
    /// Messages waiting.
    pub messages: usize,
    /// Whole records that made no sense (written by another version?).
    pub foreign_records: usize,
    /// Body files that no message names. Removed, unless something was damaged.
    pub orphan_bodies: usize,
    /// Messages whose body file is missing or short; they are held.
    pub bodies_missing: Vec<SpoolId>,
}

impl Recovery {
    /// Whether anything acknowledged may have been lost: a reason to shout.
    pub fn is_damaged(&self) -> bool {
        self.log.is_damaged() || self.foreign_records > 0 || !self.bodies_missing.is_empty()
    }
}

/// What the log says about one id.
#[derive(Default)]
struct Found {
    /// The newest copy, and its entry without legs.
    message: Option<(u64, Location, Box<Front>)>,
    /// All copies.
    copies: Vec<Location>,
    state: Option<(u64, Location, State)>,
    states: Vec<Location>,
    tombstones: Vec<(u64, Location)>,
}

impl<D: Disk> Spool<D> {
    /// Opens the queue in `directory` (of core number `core`), making it when it is not there. `rng` is for jitter.
    pub fn open(
        disk: D,
        directory: &Path,
        knobs: SpoolKnobs,
        core: u16,
        now: WallTime,
        rng: fastrand::Rng,
    ) -> Result<(Spool<D>, Recovery), SpoolError> {
        let options =
            LogOptions { segment_octets: knobs.segment_octets.0 & !4095, spares_max: knobs.segments_spare_max };
        let mut found: BTreeMap<SpoolId, Found> = BTreeMap::new();
        let mut foreign = Vec::new();
        let (log, recovery) = Log::open(disk.clone(), directory, options, &mut |record| {
            if let Err(at) = sort(&mut found, &record) {
                foreign.push(at);
            }
        })?;
        let mut recovery = Recovery { log: recovery, foreign_records: foreign.len(), ..Recovery::default() };
        let mut named: HashMap<u64, u32> = HashMap::new();
        let alive = found.values().filter(|f| f.tombstones.is_empty()).filter_map(|f| f.message.as_ref());
        alive.filter_map(|(_, _, m)| m.file).for_each(|file| *named.entry(file).or_default() += 1);
        let kept = |id: u64| named.get(&id).copied().unwrap_or(0);
        let (bodies, orphans) = BodyStore::open(disk.clone(), directory, &kept, !recovery.is_damaged())?;
        recovery.orphan_bodies = orphans.len();
        let free_octets =
            disk.free_octets(directory).map_err(|e| log::LogError::disk("asking for room in", directory, &e))?;
        let mut spool = Spool {
            log,
            bodies,
            disk,
            directory: directory.to_owned(),
            destinations: Destinations::new(knobs.per_destination_concurrency_max),
            knobs,
            rng,
            ids: IdSource::new(core, now),
            index: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            reports_due: BTreeSet::new(),
            reporting: Vec::new(),
            changed: BTreeSet::new(),
            tombstones: HashMap::new(),
            graves: HashMap::new(),
            copies: HashMap::new(),
            staged: Vec::new(),
            staged_octets: 0,
            moving: Vec::new(),
            octets: 0,
            free_octets,
            counters: Counters::default(),
        };
        for (id, found) in found {
            spool.restore(id, found, &mut recovery);
        }
        recovery.messages = spool.index.len();
        Ok((spool, recovery))
    }

    fn restore(&mut self, id: SpoolId, found: Found, recovery: &mut Recovery) {
        let Found { message, copies, state, states, mut tombstones } = found;
        let newest_state = state.as_ref().map(|(_, at, _)| *at);
        tombstones.sort_unstable();
        if let Some((_, newest)) = tombstones.pop() {
            tombstones.iter().for_each(|(_, at)| self.log.release(*at));
            copies.iter().chain(&states).for_each(|at| self.log.release(*at));
            return self.keep_tombstone(id, newest, copies.iter().map(|at| at.segment).collect());
        }
        let Some((_, at, front)) = message else {
            // The message is finished and its segment gone; its tombstone was let go with it.
            return states.iter().for_each(|at| self.log.release(*at));
        };
        copies.iter().filter(|c| **c != at).for_each(|c| self.log.release(*c));
        states.iter().filter(|s| Some(**s) != newest_state).for_each(|s| self.log.release(*s));
        let mut outdated: SmallVec<[u32; 2]> = copies.iter().filter(|c| **c != at).map(|c| c.segment).collect();
        outdated.dedup();
        if !outdated.is_empty() {
            self.copies.insert(id, outdated);
        }
        let mut entry = self.entry_of(&front, at, newest_state, state.map(|(_, _, s)| s));
        let missing = front.file.is_some_and(|f| self.bodies.octets_of(f) != Some(front.shape.octets));
        if missing {
            recovery.bodies_missing.push(id);
            entry.hold = Some("its body file is missing or short".into());
        }
        let due: Vec<_> = entry.recipients.iter().filter_map(|r| r.due).collect();
        self.reports_due.extend(due.into_iter().map(|kind| (id, kind)));
        self.insert(id, entry);
        if self.index.get(&id).is_some_and(|e| e.recipients.iter().all(super::index::RecipientState::is_over)) {
            self.mark(id);
        }
    }

    fn entry_of(&mut self, front: &Front, at: Location, state_at: Option<Location>, state: Option<State>) -> Entry {
        let (mut recipients, names) = legs_of(&front.envelope, &front.routes);
        let mut entry = Entry {
            at,
            state_at,
            received: front.envelope.origin.received,
            octets: front.shape.octets + front.prefix.len() as u64,
            body: front.file,
            null_sender: front.envelope.sender == ReversePath::Null,
            hold: front.hold.as_deref().map(Into::into),
            legs: SmallVec::new(),
            recipients: SmallVec::new(),
            deadline: None,
            over: false,
        };
        // A state of another shape is not of this message; better delivered twice than not at all.
        let state = state.filter(|s| s.recipients.len() == recipients.len());
        if let Some(state) = state {
            entry.hold = state.hold.map(String::into_boxed_str);
            for (r, snapshot) in recipients.iter_mut().zip(state.recipients) {
                r.leg = snapshot.leg;
                r.status = snapshot.status;
                r.due = snapshot.due;
                r.delay_told = snapshot.delay_told;
                r.reply = snapshot.reply.map(Box::new);
            }
            for leg in state.legs {
                let destination = self.destinations.join(&leg.destination);
                entry.legs.push(LegState { destination, due: leg.due, attempts: leg.attempts, in_flight: false });
            }
        } else {
            for name in names {
                let destination = self.destinations.join(&name);
                entry.legs.push(LegState { destination, due: front.next_attempt, attempts: 0, in_flight: false });
            }
        }
        entry.recipients = recipients;
        entry
    }
}

/// Adds a record to what is known of its id; the error is a record that makes no sense, which stays where it is.
fn sort(found: &mut BTreeMap<SpoolId, Found>, record: &Recovered<'_>) -> Result<(), Location> {
    let at = record.at;
    match record.kind {
        KIND_MESSAGE => {
            let mut front = Front::decode(record.payload).map_err(|_| at)?;
            if front.routes.len() != front.envelope.recipients.len() {
                return Err(at);
            }
            front.prefix.shrink_to_fit();
            let f = found.entry(SpoolId(record.id)).or_default();
            f.copies.push(at);
            if f.message.as_ref().is_none_or(|(sequence, _, _)| *sequence < record.sequence) {
                f.message = Some((record.sequence, at, Box::new(front)));
            }
        }
        KIND_STATE => {
            let state = State::decode(record.payload).map_err(|_| at)?;
            let f = found.entry(SpoolId(record.id)).or_default();
            f.states.push(at);
            if f.state.as_ref().is_none_or(|(sequence, _, _)| *sequence < record.sequence) {
                f.state = Some((record.sequence, at, state));
            }
        }
        KIND_TOMBSTONE => found.entry(SpoolId(record.id)).or_default().tombstones.push((record.sequence, at)),
        _ => return Err(at),
    }
    Ok(())
}
