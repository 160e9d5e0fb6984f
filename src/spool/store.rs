//! The queue over its log: staging, committing, bodies, loading. Delivery is in `queue`, reports in `report`,
//! administration in `admin`.
//!
//! How it fails: see the room's page.

use super::codec::{self, FRONT_HEAD_OCTETS, Front, KIND_MESSAGE, KIND_STATE, KIND_TOMBSTONE};
use super::destinations::Destinations;
use super::index::{Entry, LegState, legs_of};
use super::report::{Report, ReportKind};
use super::schedule::Backoff;
use super::{Room, SpoolError, SpoolKnobs};
use crate::base::address::ReversePath;
use crate::base::body::{Body, BodyFile, BodyShape, Store};
use crate::base::buf::{Chain, Segment};
use crate::base::envelope::Envelope;
use crate::base::id::{IdSource, SpoolId};
use crate::base::proof::Committed;
use crate::base::time::WallTime;
use crate::log::{BodyStore, Disk, Location, Log, LogCounters, LogError, Moving};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

/// A body that is streamed into a file of the queue's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BodyFileId(pub u64);

/// A message to be queued.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Under which id; never used before.
    pub id: SpoolId,
    /// Sender, recipients and what they asked for.
    pub envelope: Envelope,
    /// Trace header fields that go before the body.
    pub prefix: Vec<u8>,
    /// In memory, or in a file made by [`Spool::begin_body`] on the same queue.
    pub body: Body,
    /// When delivery is first tried.
    pub next_attempt: WallTime,
    /// A reason to keep it back until an administrator releases it.
    pub hold: Option<String>,
    /// For each recipient of the envelope where it goes, such as `backend:main` or `mx:example.org`.
    pub routes: Vec<String>,
}

/// What the queue holds and has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages in the queue.
    pub messages: u64,
    /// Of them, those with a delivery under way.
    pub in_flight: u64,
    /// Of them, held.
    pub held: u64,
    /// Octets of trace headers and bodies of all messages.
    pub octets: u64,
    /// Destinations they go to.
    pub destinations: u64,
    /// Messages committed.
    pub committed: u64,
    /// Messages finished: their tombstone is durable.
    pub finished: u64,
    /// Messages refused for want of room.
    pub refused: u64,
    /// What the log says.
    pub log: LogCounters,
}

pub(super) struct Staged {
    id: SpoolId,
    /// Front of the record, encoded.
    head: Vec<u8>,
    tail: Chain,
    entry: Entry,
    legs: Vec<String>,
    next_attempt: WallTime,
    /// Keeps the body file alive until the commit has decided.
    file: Option<Arc<dyn BodyFile>>,
}

/// What a result of the log's commit is about.
enum Pending {
    Message(Box<Staged>),
    State(SpoolId),
    Tombstone(SpoolId),
    Moved(Moving),
}

/// A tombstone that must stay while one of these segments does.
pub(super) struct Tombstone {
    pub at: Location,
    pub holds: SmallVec<[u32; 2]>,
}

/// The queue of one core. See the room's page.
pub struct Spool<D: Disk> {
    pub(super) log: Log<D>,
    pub(super) bodies: BodyStore<D>,
    pub(super) disk: D,
    pub(super) directory: PathBuf,
    pub(super) knobs: SpoolKnobs,
    pub(super) rng: fastrand::Rng,
    pub(super) ids: IdSource,
    pub(super) index: BTreeMap<SpoolId, Entry>,
    pub(super) destinations: Destinations,
    /// When a delay is to be told or a lifetime ends.
    pub(super) deadlines: BTreeSet<(WallTime, SpoolId)>,
    pub(super) reports_due: BTreeSet<(SpoolId, ReportKind)>,
    /// Notifications that are staged, and what they tell.
    pub(super) reporting: Vec<(SpoolId, Report)>,
    /// Messages whose state differs from what is durable.
    pub(super) changed: BTreeSet<SpoolId>,
    pub(super) tombstones: HashMap<SpoolId, Tombstone>,
    /// By segment: tombstones it makes necessary.
    pub(super) graves: HashMap<u32, Vec<SpoolId>>,
    /// Segments that still hold an outdated copy of a message.
    pub(super) copies: HashMap<SpoolId, SmallVec<[u32; 2]>>,
    pub(super) staged: Vec<Staged>,
    pub(super) staged_octets: u64,
    pub(super) moving: Vec<Moving>,
    pub(super) octets: u64,
    pub(super) free_octets: u64,
    pub(super) counters: Counters,
}

impl<D: Disk> Spool<D> {
    /// Stages a message for the next [`Spool::commit`], or refuses it before anything is written.
    pub fn stage(&mut self, message: NewMessage) -> Result<(), SpoolError> {
        if let Err(room) = self.room_for(&message) {
            self.counters.refused += 1;
            return Err(SpoolError::Full(room));
        }
        self.stage_essential(message)
    }

    /// Stages a message whatever the limits say (notifications).
    pub(super) fn stage_essential(&mut self, message: NewMessage) -> Result<(), SpoolError> {
        let NewMessage { id, envelope, prefix, body, next_attempt, hold, routes } = message;
        if routes.len() != envelope.recipients.len() || routes.is_empty() {
            return Err(SpoolError::Misuse("expected one route for each of at least one recipient"));
        }
        if self.index.contains_key(&id) || self.staged.iter().any(|s| s.id == id) {
            return Err(SpoolError::Misuse("expected an id that was never used"));
        }
        let octets = body.shape.octets + prefix.len() as u64;
        let (file, tail) = self.place_body(&body)?;
        let file_id = file.as_ref().map(|f| f.id());
        let (recipients, legs) = legs_of(&envelope, &routes);
        let front = Front { shape: body.shape, file: file_id, next_attempt, hold, routes, prefix, envelope };
        let mut head = Vec::with_capacity(Log::<D>::HEAD_ROOM + 512 + front.prefix.len());
        head.resize(Log::<D>::HEAD_ROOM, 0);
        front.encode(&mut head);
        let in_record = (head.len() + tail.octets()) as u64;
        let octets_max = self.log.payload_octets_max();
        if in_record > octets_max {
            return Err(LogError::TooLarge { octets: in_record, octets_max }.into());
        }
        let entry = Entry {
            at: Location { segment: 0, offset: 0, octets: 0 },
            state_at: None,
            received: front.envelope.origin.received,
            octets,
            body: file_id,
            null_sender: front.envelope.sender == ReversePath::Null,
            hold: front.hold.map(String::into_boxed_str),
            legs: SmallVec::new(),
            recipients,
            deadline: None,
            over: false,
        };
        self.staged_octets += octets;
        self.staged.push(Staged { id, head, tail, entry, legs, next_attempt, file });
        Ok(())
    }

    /// Where a body goes: behind the front, or into a file.
    fn place_body(&mut self, body: &Body) -> Result<(Option<Arc<dyn BodyFile>>, Chain), SpoolError> {
        let chunks = match &body.store {
            Store::File { file, .. } => {
                if self.bodies.octets_of(file.id()) != Some(body.shape.octets) {
                    return Err(SpoolError::Misuse("expected a body file of this queue with the octets of its shape"));
                }
                return Ok((Some(file.clone()), Chain::new()));
            }
            Store::Memory(chunks) => chunks,
        };
        if body.shape.octets <= self.knobs.body_inline_octets_max.0 {
            let mut tail = Chain::new();
            chunks.iter().for_each(|c| tail.push(Segment::shared(c.clone())));
            return Ok((None, tail));
        }
        let id = self.begin_body()?;
        let file: Arc<dyn BodyFile> = self.bodies.handle(id.0)?;
        for chunk in chunks {
            self.bodies.append(id.0, chunk)?;
        }
        Ok((Some(file), Chain::new()))
    }

    /// Begins a body that is streamed into a file.
    pub fn begin_body(&mut self) -> Result<BodyFileId, SpoolError> {
        if !self.disk_has_room(0) {
            return Err(SpoolError::Full(Room::Disk));
        }
        loop {
            let id = self.ids.next_id();
            match self.bodies.begin(id) {
                Ok(()) => return Ok(BodyFileId(id)),
                // The clock stood still or was set back between two runs.
                Err(LogError::Disk { kind: std::io::ErrorKind::AlreadyExists, .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Adds octets to a body.
    pub fn append_body(&mut self, id: BodyFileId, octets: &[u8]) -> Result<(), SpoolError> {
        let n = octets.len() as u64;
        if self.octets + self.staged_octets + n > self.knobs.octets_max.0 {
            return Err(SpoolError::Full(Room::Octets));
        }
        if !self.disk_has_room(n) {
            return Err(SpoolError::Full(Room::Disk));
        }
        self.bodies.append(id.0, octets)?;
        self.free_octets = self.free_octets.saturating_sub(n);
        Ok(())
    }

    /// Ends a body: a value to stage, to read from with [`Spool::read_body`], or to drop (which removes the file).
    /// `head` repeats its first octets.
    pub fn finish_body(&mut self, id: BodyFileId, shape: BodyShape, head: Vec<u8>) -> Result<Body, SpoolError> {
        if self.bodies.octets_of(id.0) != Some(shape.octets) {
            return Err(SpoolError::Misuse("expected the shape of the octets that were appended"));
        }
        let file = self.bodies.handle(id.0)?;
        Ok(Body { shape, store: Store::File { file, head: Arc::new(head) } })
    }

    /// Gives up a body that was not finished.
    pub fn drop_body(&mut self, id: BodyFileId) {
        self.bodies.give_up(id.0);
    }

    /// Reads from a body file (that of a finished body or of a loaded message), at most `octets_max`; empty at the end.
    pub fn read_body(&self, file: u64, offset: u64, octets_max: usize) -> Result<Vec<u8>, SpoolError> {
        Ok(self.bodies.read(file, offset, octets_max)?)
    }

    /// Whether a commit would write anything.
    pub fn needs_commit(&self) -> bool {
        !(self.staged.is_empty() && self.changed.is_empty() && self.moving.is_empty())
    }

    /// Makes everything staged and changed durable, with one write and one sync. One answer per staged message.
    pub fn commit(&mut self) -> Vec<(SpoolId, Result<Committed, SpoolError>)> {
        self.bodies.sweep();
        let mut answers = Vec::with_capacity(self.staged.len());
        let mut pending: Vec<Pending> = self.moving.drain(..).map(Pending::Moved).collect();
        self.append_staged(&mut pending, &mut answers);
        self.append_changed(&mut pending);
        let results = self.log.commit();
        debug_assert_eq!(results.len(), pending.len());
        for (pending, result) in pending.into_iter().zip(results) {
            self.settle_pending(pending, result, &mut answers);
        }
        self.reporting.clear();
        self.look_around();
        answers
    }

    fn append_staged(
        &mut self,
        pending: &mut Vec<Pending>,
        answers: &mut Vec<(SpoolId, Result<Committed, SpoolError>)>,
    ) {
        let staged = std::mem::take(&mut self.staged);
        self.staged_octets = 0;
        // A body is durable before the record that names it.
        let files: Vec<u64> = staged.iter().filter_map(|s| s.entry.body).collect();
        let synced: HashMap<u64, LogError> =
            files.iter().filter_map(|id| Some((*id, self.bodies.sync(*id).err()?))).collect();
        let named = if files.is_empty() { Ok(()) } else { self.bodies.sync_names() };
        for mut message in staged {
            let fault = message.entry.body.and_then(|id| synced.get(&id).cloned().or(named.clone().err()));
            let (head, tail) = (std::mem::take(&mut message.head), std::mem::take(&mut message.tail));
            let appended = match fault {
                Some(e) => Err(e),
                None => self.log.append(KIND_MESSAGE, message.id.0, head, tail),
            };
            match appended {
                Ok(index) => {
                    debug_assert_eq!(index, pending.len());
                    pending.push(Pending::Message(Box::new(message)));
                }
                Err(e) => {
                    self.report_failed(message.id);
                    answers.push((message.id, Err(e.into())));
                }
            }
        }
    }

    /// States and tombstones come after the messages: a notification stands before the news that it was sent.
    fn append_changed(&mut self, pending: &mut Vec<Pending>) {
        for id in std::mem::take(&mut self.changed) {
            let Some(entry) = self.index.get(&id) else { continue };
            let mut head = vec![0; Log::<D>::HEAD_ROOM];
            let kind = if entry.over {
                KIND_TOMBSTONE
            } else {
                codec::encode_state(entry, |leg| self.destinations.name(entry.legs[leg].destination), &mut head);
                KIND_STATE
            };
            let over = entry.over;
            match self.log.append(kind, id.0, head, Chain::new()) {
                Ok(_) => pending.push(if over { Pending::Tombstone(id) } else { Pending::State(id) }),
                // Only a state of more than a segment; the former one stays in force.
                Err(_) => debug_assert!(false, "a state larger than a segment"),
            }
        }
    }

    fn settle_pending(
        &mut self,
        pending: Pending,
        result: Result<Location, LogError>,
        answers: &mut Vec<(SpoolId, Result<Committed, SpoolError>)>,
    ) {
        match (pending, result) {
            (Pending::Message(staged), Ok(at)) => {
                answers.push((staged.id, Ok(Committed::after_sync(staged.id))));
                self.admit(*staged, at);
            }
            (Pending::Message(staged), Err(e)) => {
                self.report_failed(staged.id);
                answers.push((staged.id, Err(e.into())));
            }
            (Pending::State(id), Ok(at)) => {
                let Some(entry) = self.index.get_mut(&id) else { return self.log.release(at) };
                if let Some(old) = entry.state_at.replace(at) {
                    self.log.release(old);
                }
            }
            (Pending::Tombstone(id), Ok(at)) => self.bury(id, at),
            (Pending::State(id) | Pending::Tombstone(id), Err(_)) => {
                self.changed.insert(id);
            }
            (Pending::Moved(moving), Ok(to)) => self.moved(moving, to),
            (Pending::Moved(_), Err(_)) => {}
        }
    }

    fn report_failed(&mut self, notification: SpoolId) {
        if let Some(i) = self.reporting.iter().position(|(id, _)| *id == notification) {
            let (_, report) = self.reporting.swap_remove(i);
            self.report_again(&report);
        }
    }

    /// A staged message is durable: it takes its place in the index.
    fn admit(&mut self, staged: Staged, at: Location) {
        let Staged { id, mut entry, legs, next_attempt, file, .. } = staged;
        entry.at = at;
        if let Some(body) = entry.body {
            self.bodies.keep(body);
        }
        drop(file);
        self.counters.committed += 1;
        for name in legs {
            let destination = self.destinations.join(&name);
            entry.legs.push(LegState { destination, due: next_attempt, attempts: 0, in_flight: false });
        }
        self.insert(id, entry);
    }

    /// Puts an entry with its legs into all orders.
    pub(super) fn insert(&mut self, id: SpoolId, entry: Entry) {
        self.octets += entry.octets;
        self.index.insert(id, entry);
        self.enqueue(id);
        self.set_deadline(id);
    }

    /// A tombstone is durable: the message is gone.
    fn bury(&mut self, id: SpoolId, at: Location) {
        let Some(entry) = self.index.remove(&id) else { return self.log.release(at) };
        self.counters.finished += 1;
        self.octets -= entry.octets;
        for leg in &entry.legs {
            if leg.in_flight {
                self.destinations.landed(leg.destination);
            }
            self.destinations.leave(leg.destination);
        }
        self.log.release(entry.at);
        if let Some(state) = entry.state_at {
            self.log.release(state);
        }
        if let Some(body) = entry.body {
            self.bodies.give_up(body);
        }
        let mut holds = self.copies.remove(&id).unwrap_or_default();
        holds.push(entry.at.segment);
        self.keep_tombstone(id, at, holds);
    }

    /// Keeps a tombstone as long as one of `holds` exists; one that stands in the same segment goes with it.
    pub(super) fn keep_tombstone(&mut self, id: SpoolId, at: Location, mut holds: SmallVec<[u32; 2]>) {
        holds.sort_unstable();
        holds.dedup();
        holds.retain(|segment| *segment != at.segment);
        if holds.is_empty() {
            return self.log.release(at);
        }
        holds.iter().for_each(|segment| self.graves.entry(*segment).or_default().push(id));
        self.tombstones.insert(id, Tombstone { at, holds });
    }

    /// A live record has a durable copy at the tail.
    fn moved(&mut self, moving: Moving, to: Location) {
        let Moving { from, kind, id, .. } = moving;
        let id = SpoolId(id);
        let current = match kind {
            KIND_MESSAGE => self.index.get_mut(&id).map(|e| &mut e.at).filter(|at| **at == from),
            KIND_STATE => self.index.get_mut(&id).and_then(|e| e.state_at.as_mut()).filter(|at| **at == from),
            _ => self.tombstones.get_mut(&id).map(|t| &mut t.at).filter(|at| **at == from),
        };
        let Some(current) = current else {
            debug_assert!(false, "a record moved that nobody owns");
            return self.log.release(to);
        };
        *current = to;
        self.log.release(from);
        match kind {
            KIND_MESSAGE => self.copies.entry(id).or_default().push(from.segment),
            KIND_TOMBSTONE => {
                // The segment it stood in may hold the message too, which is why it was not counted so far.
                if let Some(tombstone) = self.tombstones.get_mut(&id) {
                    tombstone.holds.push(from.segment);
                    self.graves.entry(from.segment).or_default().push(id);
                }
            }
            _ => {}
        }
    }

    /// Housekeeping for an idle moment: gives back dead segments, stages copies of what is left in nearly dead ones (at
    /// most about `budget_octets`; the next commit makes them durable), has a spare segment made.
    pub fn compact(&mut self, budget_octets: u64) -> Result<(), SpoolError> {
        self.look_around();
        let freed = self.log.collect()?;
        for segment in &freed {
            for id in self.graves.remove(segment).unwrap_or_default() {
                if let Some(tombstone) = self.tombstones.get_mut(&id) {
                    tombstone.holds.retain(|s| s != segment);
                    if tombstone.holds.is_empty() {
                        let at = tombstone.at;
                        self.tombstones.remove(&id);
                        self.log.release(at);
                    }
                }
            }
        }
        if !freed.is_empty() {
            self.copies.retain(|_, segments| {
                segments.retain(|s| !freed.contains(s));
                !segments.is_empty()
            });
        }
        self.log.prepare();
        if self.moving.is_empty() && self.log.staged_octets() == 0 {
            let index = &self.index;
            // A message that is over needs no copy: its tombstone is on its way.
            let movable = &mut |_: u8, id: u64| index.get(&SpoolId(id)).is_none_or(|e| !e.over);
            let done = self.log.compact(budget_octets, movable);
            self.moving = done.moving;
            for at in done.damaged {
                self.hold_damaged(at);
            }
        }
        Ok(())
    }

    /// A record turned out to be unreadable: its message is held and says so.
    fn hold_damaged(&mut self, at: Location) {
        let owner = self.index.iter().find(|(_, e)| e.at == at).map(|(id, _)| *id);
        if let Some(id) = owner {
            let _ = self.hold(id, &LogError::Damaged { at }.to_string());
        }
    }

    /// Reads the front of a message's record.
    pub(super) fn front(&self, id: SpoolId) -> Result<Front, SpoolError> {
        const FIRST_OCTETS: usize = 4096;
        let at = self.index.get(&id).ok_or(SpoolError::Unknown(id))?.at;
        let damaged = || SpoolError::Log(LogError::Damaged { at });
        let mut bytes = self.log.read_front(at, FIRST_OCTETS)?;
        debug_assert!(bytes.len() >= FRONT_HEAD_OCTETS || at.octets < FIRST_OCTETS as u32);
        let octets = Front::octets(&bytes).ok_or_else(damaged)?;
        if octets > bytes.len() {
            bytes = self.log.read_front(at, octets)?;
        }
        Front::decode(&bytes).map_err(|_| damaged())
    }

    /// Reads a message back: envelope, trace headers and body (large ones by [`Spool::read_body`]).
    pub fn load(&mut self, id: SpoolId) -> Result<(Arc<Envelope>, Vec<u8>, Body), SpoolError> {
        const HEAD_OCTETS_MAX: u64 = 256 * 1024;
        let at = self.index.get(&id).ok_or(SpoolError::Unknown(id))?.at;
        let mut bytes = self.log.read(at)?;
        let damaged = || SpoolError::Log(LogError::Damaged { at });
        let front = Front::decode(&bytes).map_err(|_| damaged())?;
        let body = match front.file {
            None => {
                bytes.drain(..Front::octets(&bytes).unwrap_or(0));
                if bytes.len() as u64 != front.shape.octets {
                    return Err(damaged());
                }
                Body::memory(front.shape, vec![Arc::new(bytes)])
            }
            Some(file) => {
                let head_octets = front.shape.header_octets.min(HEAD_OCTETS_MAX) as usize;
                let head = Arc::new(self.bodies.read(file, 0, head_octets)?);
                Body { shape: front.shape, store: Store::File { file: self.bodies.handle(file)?, head } }
            }
        };
        Ok((Arc::new(front.envelope), front.prefix, body))
    }

    /// What it holds and has done.
    pub fn counters(&self) -> Counters {
        let in_flight = self.index.values().filter(|e| e.legs.iter().any(|l| l.in_flight)).count();
        Counters {
            messages: self.index.values().filter(|e| !e.over).count() as u64,
            in_flight: in_flight as u64,
            held: self.index.values().filter(|e| e.hold.is_some()).count() as u64,
            octets: self.octets,
            destinations: self.destinations.len() as u64,
            log: self.log.counters(),
            ..self.counters
        }
    }

    /// Messages in the queue and messages committed since it was opened, at no cost.
    pub fn tally(&self) -> (u64, u64) {
        (self.index.len() as u64, self.counters.committed)
    }

    pub(super) fn message_backoff(&self) -> Backoff {
        let k = &self.knobs;
        Backoff {
            first: k.retry_first,
            max: k.retry_max,
            growth_percent: k.retry_growth_percent,
            jitter_percent: k.jitter_percent,
        }
    }

    pub(super) fn destination_backoff(&self) -> Backoff {
        let k = &self.knobs;
        Backoff { first: k.destination_retry_first, max: k.destination_retry_max, ..self.message_backoff() }
    }
}

impl<D: Disk> std::fmt::Debug for Spool<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").field("directory", &self.directory).field("counters", &self.counters()).finish()
    }
}
