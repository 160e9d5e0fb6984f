//! A spool lane: the thread that owns one queue and its disk. It takes what has come, commits all of it with one sync,
//! answers, and hands out what is due.
//!
//! How it fails: a commit that fails refuses the messages in it (451 to their clients) and is logged as an error; the
//! queue itself decides whether it can go on. A lane that ends with a panic is reported by the main thread.

use super::{CoreMail, Message, ToKeep, deliver};
use crate::base::body::{Body, BodyShape};
use crate::base::id::SpoolId;
use crate::base::time::WallTime;
use crate::gateway::admin::{Request, Response};
use crate::gateway::core::Asker;
use crate::gateway::metrics::CommitMeter;
use crate::gateway::queue;
use crate::gateway::reports::Composer;
use crate::log::Disk;
use crate::reactor::{Id, clock};
use crate::spool::{Attempt, BodyFileId, Fate, NewMessage, Report, Spool, SpoolError, SpoolKnobs};
use crossbeam::channel::{self, Receiver, RecvTimeoutError, TrySendError};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Requests that wait at most; a core that finds the queue full answers 452.
const WAITING_MAX: usize = 8192;
/// Requests that go into one commit at most, so that its clients do not wait for ever.
const BATCH_MAX: usize = 1024;
/// Deliveries a queue has under way at most: what a core is asked to hold in memory.
const IN_FLIGHT_MAX: usize = 512;
/// Octets of bodies that were just committed and are kept for their first delivery.
const FRESH_OCTETS_MAX: u64 = 64 << 20;
/// Longest sleep: housekeeping happens at least as often.
const IDLE: Duration = Duration::from_secs(1);
/// Octets copied at a time.
const COPY_OCTETS: usize = 256 * 1024;
/// Octets that one round of housekeeping moves at most.
const COMPACT_OCTETS: u64 = 4 << 20;

/// What is asked of the lane.
pub(in crate::gateway) enum SpoolRequest {
    /// Keep a client's message; answered by [`Message::Kept`].
    Keep { asker: Asker, keep: Box<ToKeep> },
    /// Append to the scratch file of a message, or begin one; answered by [`Message::Spilled`].
    Spill { asker: Asker, file: Option<u64>, chunk: Vec<u8> },
    /// The scratch file is whole; answered by [`Message::Whole`].
    Finish { asker: Asker, file: u64, shape: BodyShape, head: Vec<u8> },
    /// Another header section for a body in a file; answered by [`Message::Whole`]. The old file goes when nobody holds it.
    Rewrite { asker: Asker, body: Box<Body>, head: Vec<u8>, shape: BodyShape },
    /// The scratch file is not wanted any more.
    Drop { file: u64 },
    /// Read from a body file; answered by [`Message::BodyRead`].
    ReadBody { leg: Id, file: u64, offset: u64, octets_max: usize },
    /// What became of an attempt.
    Settle { id: SpoolId, fates: Vec<(u32, Fate)> },
    /// An attempt that was not made after all.
    Return { id: SpoolId, recipients: Vec<u32> },
    /// From the administrator.
    Admin { request: Request, reply: channel::Sender<Response> },
    /// Commit and end.
    Stop,
}

/// A message that is due.
pub(in crate::gateway) struct Attempted {
    pub attempt: Attempt,
    pub prefix: Vec<u8>,
    pub body: Body,
    /// Number of the lane to report to.
    pub lane: usize,
}

/// What the lane tells everybody.
#[derive(Default)]
pub(in crate::gateway) struct LaneGauges {
    /// Messages in the queue.
    pub queued: AtomicU64,
    /// Messages committed since the start.
    pub committed: AtomicU64,
    /// Octets of messages that are kept for their first delivery.
    pub fresh_octets: AtomicU64,
    /// What committing cost.
    pub commits: CommitMeter,
}

/// The queue to a lane.
#[derive(Clone)]
pub(in crate::gateway) struct SpoolLane {
    requests: channel::Sender<SpoolRequest>,
    pub gauges: Arc<LaneGauges>,
}

impl SpoolLane {
    /// Starts the thread that owns `spool`. `core` is the inbox of the core it works for.
    pub fn start<D: Disk + Send + 'static>(
        lane: usize,
        spool: Spool<D>,
        knobs: &SpoolKnobs,
        composer: Composer,
        core: CoreMail,
    ) -> io::Result<(SpoolLane, std::thread::JoinHandle<()>)>
    where
        D::File: Send,
    {
        let (requests, queue) = channel::bounded(WAITING_MAX);
        let gauges = Arc::new(LaneGauges::default());
        let worker = Worker {
            lane,
            spool,
            lifetime: knobs.lifetime,
            composer,
            core,
            askers: HashMap::new(),
            fresh: BTreeMap::new(),
            fresh_octets: 0,
            in_flight: 0,
            stopping: false,
            gauges: gauges.clone(),
        };
        let name = format!("spool{lane}");
        let thread = std::thread::Builder::new().name(name).spawn(move || worker.run(&queue))?;
        Ok((SpoolLane { requests, gauges }, thread))
    }

    /// Puts a request into the queue; gives it back when there is no room.
    pub fn ask(&self, request: SpoolRequest) -> Result<(), Box<SpoolRequest>> {
        self.requests.try_send(request).map_err(|e| match e {
            TrySendError::Full(r) | TrySendError::Disconnected(r) => Box::new(r),
        })
    }

    /// As [`SpoolLane::ask`] for callers that may wait, and for what must not be lost.
    pub fn tell(&self, request: SpoolRequest) {
        // A lane that has ended takes nothing; what it had committed is on disk.
        let _ = self.requests.send(request);
    }
}

struct Worker<D: Disk> {
    lane: usize,
    spool: Spool<D>,
    lifetime: Duration,
    composer: Composer,
    core: CoreMail,
    /// Who waits for which message to be committed.
    askers: HashMap<SpoolId, Asker>,
    /// What was just committed, so that its first delivery need not read it back.
    fresh: BTreeMap<SpoolId, (Vec<u8>, Body)>,
    fresh_octets: u64,
    in_flight: usize,
    /// The cores are on their way out: nothing more is handed out.
    stopping: bool,
    gauges: Arc<LaneGauges>,
}

impl<D: Disk> Worker<D> {
    fn run(mut self, requests: &Receiver<SpoolRequest>) {
        let mut tidied = clock::now();
        loop {
            let first = match requests.recv_timeout(self.sleep()) {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let idle = first.is_none();
            let mut stop = false;
            // Whatever queued while the last sync ran is the next batch: no timer, no wait.
            for request in first.into_iter().chain(requests.try_iter().take(BATCH_MAX)) {
                stop |= matches!(request, SpoolRequest::Stop);
                self.handle(request);
            }
            let now = clock::wall();
            self.spool.expire(now);
            self.report(now);
            self.commit();
            if !self.stopping {
                self.hand_out(now);
            }
            // A lane that always has something to do would never be idle, and its dead segments and files stay.
            if idle || clock::now().since(tidied) >= IDLE {
                tidied = clock::now();
                if let Err(error) = self.spool.compact(COMPACT_OCTETS) {
                    tracing::error!(lane = self.lane, %error, "cannot tidy the queue");
                }
            }
            if stop {
                self.commit();
                break;
            }
        }
    }

    fn sleep(&self) -> Duration {
        let full = self.in_flight >= IN_FLIGHT_MAX;
        let due = self.spool.next_due().filter(|_| !full);
        due.map_or(IDLE, |at| at.since(clock::wall()).min(IDLE))
    }

    fn handle(&mut self, request: SpoolRequest) {
        match request {
            SpoolRequest::Keep { asker, keep } => self.keep(asker, *keep),
            SpoolRequest::Spill { asker, file, chunk } => {
                let result = self.spill(file, &chunk).map_err(|e| e.to_string());
                deliver(&self.core, Message::Spilled { asker, result });
            }
            SpoolRequest::Finish { asker, file, shape, head } => {
                let result = self.spool.finish_body(BodyFileId(file), shape, head).map_err(|e| e.to_string());
                deliver(&self.core, Message::Whole { asker, result });
            }
            SpoolRequest::Rewrite { asker, body, head, shape } => {
                let result = self.rewrite(&body, head, shape).map_err(|e| e.to_string());
                deliver(&self.core, Message::Whole { asker, result });
            }
            SpoolRequest::Drop { file } => self.spool.drop_body(BodyFileId(file)),
            SpoolRequest::ReadBody { leg, file, offset, octets_max } => {
                let part = self.spool.read_body(file, offset, octets_max).map_err(io::Error::other);
                deliver(&self.core, Message::BodyRead { leg, offset, part });
            }
            SpoolRequest::Settle { id, fates } => {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.spool.settle(id, fates, clock::wall());
            }
            SpoolRequest::Return { id, recipients } => {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.spool.return_attempt(id, &recipients);
                self.stopping = true;
            }
            SpoolRequest::Admin { request, reply } => {
                let lifetime_ms = self.lifetime.as_millis() as u64;
                let answer = queue::answer(&mut self.spool, &request, lifetime_ms, clock::wall());
                // Orders are durable before they are confirmed.
                self.commit();
                let answer = answer.unwrap_or_else(|| Response::failed("invalid", "not a request for a queue"));
                let _ = reply.send(answer);
            }
            SpoolRequest::Stop => {}
        }
    }

    fn keep(&mut self, asker: Asker, keep: ToKeep) {
        let id = keep.id;
        let message = NewMessage {
            id,
            envelope: keep.envelope,
            prefix: keep.prefix.clone(),
            body: keep.body.clone(),
            next_attempt: clock::wall(),
            hold: keep.hold.clone(),
            routes: keep.destinations,
        };
        match self.spool.stage(message) {
            Ok(()) => {
                self.askers.insert(id, asker);
                if keep.hold.is_none() {
                    self.fresh_octets += octets_of(&keep.prefix, &keep.body);
                    self.fresh.insert(id, (keep.prefix, keep.body));
                }
            }
            Err(error) => self.kept(asker, Err(error)),
        }
    }

    fn kept(&self, asker: Asker, result: Result<crate::base::proof::Committed, SpoolError>) {
        if let Err(error) = &result {
            match error {
                SpoolError::Full(_) => tracing::warn!(lane = self.lane, %error, "message refused"),
                _ => tracing::error!(lane = self.lane, %error, "message not kept"),
            }
        }
        deliver(&self.core, Message::Kept { asker, result });
    }

    fn spill(&mut self, file: Option<u64>, chunk: &[u8]) -> Result<u64, SpoolError> {
        let id = match file {
            Some(id) => BodyFileId(id),
            None => self.spool.begin_body()?,
        };
        if let Err(error) = self.spool.append_body(id, chunk) {
            self.spool.drop_body(id);
            return Err(error);
        }
        Ok(id.0)
    }

    /// Copies a body into another file, with another header section.
    fn rewrite(&mut self, body: &Body, head: Vec<u8>, shape: BodyShape) -> Result<Body, SpoolError> {
        let crate::base::body::Store::File { file, .. } = &body.store else { return Ok(body.clone()) };
        let new = self.spool.begin_body()?;
        let copied = self.copy_below(file.id(), body.shape.header_octets, &head, new);
        if let Err(error) = copied {
            self.spool.drop_body(new);
            return Err(error);
        }
        self.spool.finish_body(new, shape, head)
    }

    fn copy_below(&mut self, from: u64, mut at: u64, head: &[u8], to: BodyFileId) -> Result<(), SpoolError> {
        self.spool.append_body(to, head)?;
        loop {
            let piece = self.spool.read_body(from, at, COPY_OCTETS)?;
            if piece.is_empty() {
                return Ok(());
            }
            self.spool.append_body(to, &piece)?;
            at += piece.len() as u64;
        }
    }

    fn commit(&mut self) {
        if !self.spool.needs_commit() {
            return;
        }
        let began = clock::now();
        let results = self.spool.commit();
        let failed = results.iter().any(|(_, result)| result.is_err());
        self.gauges.commits.committed(results.len(), clock::now().since(began), failed);
        for (id, result) in results {
            if result.is_err()
                && let Some((prefix, body)) = self.fresh.remove(&id)
            {
                self.fresh_octets -= octets_of(&prefix, &body);
            }
            match self.askers.remove(&id) {
                Some(asker) => self.kept(asker, result),
                None => {
                    if let Err(error) = result {
                        tracing::error!(lane = self.lane, %id, %error, "report not kept; it will be made again");
                    }
                }
            }
        }
        let (queued, committed) = self.spool.tally();
        self.gauges.queued.store(queued, Ordering::Relaxed);
        self.gauges.committed.store(committed, Ordering::Relaxed);
        self.gauges.fresh_octets.store(self.fresh_octets, Ordering::Relaxed);
    }

    /// Gives what is due to the core.
    fn hand_out(&mut self, now: WallTime) {
        let room = IN_FLIGHT_MAX.saturating_sub(self.in_flight);
        for attempt in self.spool.take_due(now, room) {
            let id = attempt.id;
            let loaded = match self.fresh.remove(&id) {
                Some((prefix, body)) => {
                    self.fresh_octets -= octets_of(&prefix, &body);
                    Ok((prefix, body))
                }
                None => self.spool.load(id).map(|(_, prefix, body)| (prefix, body)),
            };
            match loaded {
                Ok((prefix, body)) => {
                    self.in_flight += 1;
                    let attempted = Attempted { attempt, prefix, body, lane: self.lane };
                    deliver(&self.core, Message::Deliver(Box::new(attempted)));
                }
                Err(error) => {
                    tracing::error!(lane = self.lane, %id, %error, "cannot read a queued message; it is held");
                    self.spool.return_attempt(id, &attempt.recipients);
                    if let Err(error) = self.spool.hold(id, &error.to_string()) {
                        tracing::error!(lane = self.lane, %id, %error, "cannot hold it either");
                    }
                }
            }
        }
        // What waits for its turn is kept as long as there is room, the oldest goes first; it is read back then.
        while self.fresh_octets > FRESH_OCTETS_MAX {
            let Some((_, (prefix, body))) = self.fresh.pop_first() else { break };
            self.fresh_octets -= octets_of(&prefix, &body);
        }
    }

    /// Makes the notifications that are due (RFC 3461 §5).
    fn report(&mut self, now: WallTime) {
        for report in self.spool.take_reports(BATCH_MAX) {
            let notification = self.compose(&report, now);
            if let Err(error) = self.spool.stage_report(report, notification) {
                tracing::error!(lane = self.lane, %error, "cannot keep a report to a sender");
            }
        }
    }

    fn compose(&mut self, report: &Report, now: WallTime) -> Option<NewMessage> {
        let (envelope, prefix, body) = match self.spool.load(report.id) {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(id = %report.id, %error, "cannot read the message that a report is about");
                return None;
            }
        };
        let mut original = prefix;
        original.extend(self.original(&body));
        let whole = original.len() as u64 >= body.shape.octets;
        self.composer.compose(report, &envelope, &original, whole, now)
    }

    /// As much of the original as a report may return.
    fn original(&self, body: &Body) -> Vec<u8> {
        let max = self.composer.original_octets_max();
        match &body.store {
            crate::base::body::Store::File { file, .. } if body.shape.octets <= max as u64 => {
                self.spool.read_body(file.id(), 0, max).unwrap_or_else(|_| body.head())
            }
            crate::base::body::Store::File { .. } => body.head(),
            crate::base::body::Store::Memory(_) => body.to_vec().unwrap_or_default(),
        }
    }
}

/// What a message that is kept for its first delivery takes in memory; one whose body is in a file hardly any.
fn octets_of(prefix: &[u8], body: &Body) -> u64 {
    let body = match &body.store {
        crate::base::body::Store::Memory(_) => body.shape.octets,
        crate::base::body::Store::File { head, .. } => head.len() as u64,
    };
    prefix.len() as u64 + body
}
