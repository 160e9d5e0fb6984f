//! What the server counts about itself: one [`CoreMeter`] for each core and meters for the lanes, each written by its one
//! thread with plain loads and stores and read by whoever asks; nothing is shared while mail flows, a scrape sums.
//!
//! How it fails: it does not; a reader may see one counter a moment older than another.

pub mod disk;
pub mod verdicts;
pub mod view;

use super::targets::RouteMode;
use crate::smtp::server::Settled;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that one thread writes. The writer pays a load and a store, no locked instruction.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds; only the thread that owns the count may.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
    /// Sets a level; only the thread that owns the count may.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
    /// What it is now, from any thread.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of waits for other machines, nanoseconds: 100 µs to 2 minutes.
pub const WAITS_NS: &[u64] = &[
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    120_000_000_000,
];
/// Upper bounds of turns of a loop, nanoseconds: 5 µs to 1 s.
pub const TURNS_NS: &[u64] = &[
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    50_000_000,
    250_000_000,
    1_000_000_000,
];
/// Upper bounds of things done at once.
pub const BATCHES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
/// Upper bounds of sizes of messages, octets: 1 KiB to 64 MiB.
pub const SIZES: &[u64] = &[1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20];

/// A histogram that one thread writes.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    counts: Box<[Count]>,
    sum: Count,
}

impl Histogram {
    /// One with these upper bounds, in rising order; what is larger than all goes into a place of its own.
    pub fn new(bounds: &'static [u64]) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| Count::default()).collect();
        Histogram { bounds, counts, sum: Count::default() }
    }
    /// Counts a value, in the unit of the bounds.
    #[inline]
    pub fn observe(&self, value: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.counts[place].add(1);
        self.sum.add(value);
    }
    /// Counts a time.
    #[inline]
    pub fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }
    /// What it holds.
    pub fn read(&self) -> Observed {
        let counts = self.counts.iter().map(Count::read).collect();
        Observed { bounds: self.bounds, counts, sum: self.sum.read() }
    }
}

/// A histogram as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Upper bounds of the places.
    pub bounds: &'static [u64],
    /// How many values each place has; the last is for what exceeds every bound.
    pub counts: Vec<u64>,
    /// Sum of the values.
    pub sum: u64,
}

impl Observed {
    /// Adds another with the same bounds.
    pub fn merge(&mut self, other: &Observed) {
        debug_assert_eq!(self.bounds, other.bounds);
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self.sum = self.sum.wrapping_add(other.sum);
    }
    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What a client connection was turned away for, before any session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// `server.connections_max` was reached.
    Full,
    /// `server.connections_per_client_max` was reached.
    PerClient,
    /// The server is on its way out.
    Draining,
}

impl TurnedAway {
    /// Words of all, in the order of their numbers.
    pub const WORDS: [&'static str; 3] = ["full", "per-client", "draining"];
}

/// Words for what became of a message, as the settlement says them.
pub const SETTLED: [&str; 6] = ["queued", "delivered", "stored", "discarded", "refused", "per-recipient"];
/// Services of listeners, in the order of [`super::config::Service`].
pub const SERVICES: [&str; 5] = ["mx", "submission", "lmtp", "pop3", "imap"];

/// Counters of a backend, on one core.
#[derive(Debug)]
pub struct BackendMeter {
    /// From handing a message or question to a connection until its answer.
    pub answer: Histogram,
    /// Answers that came.
    pub answered: Count,
    /// Connections that could not be had or broke before they were of use.
    pub failed: Count,
    /// Connections made.
    pub connected: Count,
}

impl Default for BackendMeter {
    fn default() -> Self {
        let zero = Count::default;
        BackendMeter { answer: Histogram::new(WAITS_NS), answered: zero(), failed: zero(), connected: zero() }
    }
}

/// Counters of one core. Aligned so that two cores never write to one line.
#[derive(Debug)]
#[repr(align(128))]
pub struct CoreMeter {
    /// Sessions begun, by service.
    pub sessions: [Count; SERVICES.len()],
    /// Connections turned away, by [`TurnedAway`].
    pub turned_away: [Count; TurnedAway::WORDS.len()],
    /// Client connections open now.
    pub connections: Count,
    /// Octets from clients and to clients, as they are on the wire.
    pub client_octets: [Count; 2],
    /// Octets from backends and to backends.
    pub backend_octets: [Count; 2],
    /// Logins that succeeded, and that failed.
    pub logins: [Count; 2],
    /// What became of messages, by [`SETTLED`].
    pub settled: [Count; SETTLED.len()],
    /// Octets of messages whose end was reached.
    pub message_octets: Histogram,
    /// From the end of data to its reply.
    pub settle_time: Histogram,
    /// Recipients of messages that were taken.
    pub recipients: Count,
    /// Turns of the loop.
    pub turns: Count,
    /// Completions handled.
    pub events: Count,
    /// Nanoseconds in which the core did something.
    pub busy_ns: Count,
    /// How long turns took: what everybody else on the core waits at most.
    pub turn_time: Histogram,
    /// Octets reserved for bodies of clients now.
    pub body_octets: Count,
    /// Verdicts of backends about recipients in the cache now.
    pub recipients_cached: Count,
    /// Connections to backends now, and of those the idle ones.
    pub legs: [Count; 2],
    /// Jobs that wait for a connection now.
    pub jobs_waiting: Count,
    /// Octets in the buffers of connections now.
    pub buffer_octets: Count,
    /// Connections under TLS now.
    pub tls_connections: Count,
    /// Backends of pools: by pool, then by place.
    pub backends: Vec<Vec<BackendMeter>>,
    /// All hosts that are found by lookups.
    pub found: BackendMeter,
}

impl CoreMeter {
    /// A meter for a core; `pools` are the numbers of backends.
    pub fn new(pools: &[usize]) -> CoreMeter {
        CoreMeter {
            sessions: Default::default(),
            turned_away: Default::default(),
            connections: Count::default(),
            client_octets: Default::default(),
            backend_octets: Default::default(),
            logins: Default::default(),
            settled: Default::default(),
            message_octets: Histogram::new(SIZES),
            settle_time: Histogram::new(WAITS_NS),
            recipients: Count::default(),
            turns: Count::default(),
            events: Count::default(),
            busy_ns: Count::default(),
            turn_time: Histogram::new(TURNS_NS),
            body_octets: Count::default(),
            recipients_cached: Count::default(),
            legs: Default::default(),
            jobs_waiting: Count::default(),
            buffer_octets: Count::default(),
            tls_connections: Count::default(),
            backends: pools.iter().map(|n| (0..*n).map(|_| BackendMeter::default()).collect()).collect(),
            found: BackendMeter::default(),
        }
    }

    /// The meter of a backend: `pool` is its place among the pools, `None` for hosts that were found.
    pub fn backend(&self, pool: Option<(usize, usize)>) -> &BackendMeter {
        let known = pool.and_then(|(pool, place)| self.backends.get(pool)?.get(place));
        known.unwrap_or(&self.found)
    }

    /// Counts a message that has been settled by its route's `mode`.
    pub(super) fn message_settled(
        &self,
        settled: &Settled,
        mode: RouteMode,
        recipients: usize,
        octets: u64,
        time: Duration,
    ) {
        let place = match settled {
            Settled::Committed(_) if mode == RouteMode::Mailbox => 2,
            Settled::Committed(_) => 0,
            Settled::Accepted(_) => 1,
            Settled::Discarded(_) => 3,
            Settled::Refused(_) => 4,
            Settled::PerRecipient(_) => 5,
        };
        self.settled[place].add(1);
        self.message_octets.observe(octets);
        self.settle_time.observe_time(time);
        if place != 4 {
            self.recipients.add(recipients as u64);
        }
    }

    /// Counts a turn that was busy for so long and handled so many completions.
    #[inline]
    pub fn turn(&self, busy: Duration, events: usize) {
        self.turns.add(1);
        self.events.add(events as u64);
        self.busy_ns.add(u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX));
        self.turn_time.observe_time(busy);
    }
}

/// Counters of a lane that commits.
#[derive(Debug)]
pub struct CommitMeter {
    /// Requests that one commit served.
    pub batch: Histogram,
    /// Time of a commit, writing and syncing.
    pub commit_time: Histogram,
    /// Commits in which something was refused.
    pub failed: Count,
}

impl Default for CommitMeter {
    fn default() -> Self {
        CommitMeter { batch: Histogram::new(BATCHES), commit_time: Histogram::new(WAITS_NS), failed: Count::default() }
    }
}

impl CommitMeter {
    /// Counts a commit.
    pub fn committed(&self, requests: usize, time: Duration, failed: bool) {
        self.batch.observe(requests as u64);
        self.commit_time.observe_time(time);
        self.failed.add(u64::from(failed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_where_their_bound_is() {
        let h = Histogram::new(BATCHES);
        for value in [0, 1, 2, 3, 1024, 1025, u64::MAX] {
            h.observe(value);
        }
        let read = h.read();
        assert_eq!((read.counts[0], read.counts[1], read.counts[2]), (2, 1, 1));
        assert_eq!((read.counts[10], read.counts[11], read.count()), (1, 2, 7));
        let mut twice = read.clone();
        twice.merge(&read);
        assert_eq!(twice.count(), 14);
        for bounds in [WAITS_NS, TURNS_NS, BATCHES, SIZES] {
            assert!(bounds.windows(2).all(|w| w[0] < w[1]), "{bounds:?}");
        }
    }

    #[test]
    fn a_backend_nobody_knows_counts_among_the_found() {
        let meter = CoreMeter::new(&[2]);
        meter.backend(Some((0, 1))).failed.add(1);
        meter.backend(Some((7, 0))).failed.add(1);
        meter.backend(None).failed.add(1);
        assert_eq!((meter.backends[0][1].failed.read(), meter.found.failed.read()), (1, 2));
    }
}
