//! What limits have counted so far: one table for all cores, of a fixed size, that outlives the policy.
//!
//! A rate is kept as GCRA: per key one number, the theoretical arrival time (TAT), the moment when all that was counted
//! will have been paid off. A key whose TAT lies in the past is as good as new, so its place can be given away; when all
//! places of a bucket are busy the one nearest to being paid off goes (`evicted` counts that). Checks take no lock; only
//! giving a place to a new key takes the lock of its shard. Connections at the same time are counted by [`Lease`]s that
//! give back when dropped, so nothing leaks.
//!
//! How it fails: a full table forgets the key nearest to its rest; a race between taking a place and counting on it may
//! count one unit on the wrong key.

use super::limit::{Bound, Rate};
use super::memory::{Memory, MemorySize};
use super::mode::Guards;
use crate::base::time::Instant;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

crate::knobs! {
    /// Counting of the policy's limits.
    pub struct LimitKnobs in "limits" {
        /// Keys (clients, users, senders …) counted at the same time, all limits together; 16 octets each.
        keys_max: usize = 262_144, unit "keys", range 1024..=268_435_456;
        /// Entries of greylisting, triplets and networks together; about 100 octets each, when they are there. The oldest
        /// go first.
        greylist_max: usize = 1_000_000, unit "entries", range 1024..=268_435_456;
        /// Addresses, networks and domains whose history is remembered; about 100 octets each, when they are there. The
        /// oldest go first.
        reputation_max: usize = 1_000_000, unit "entries", range 1024..=268_435_456;
        /// How often greylisting and history are written to the data directory, beside once at the end; what came since
        /// is forgotten in a crash.
        save_every: Duration = Duration::from_secs(300), unit "",
            range Duration::from_secs(1)..=Duration::from_secs(86_400);
    }
}

const WAYS: usize = 8; // two cache lines
const SHARDS: usize = 64; // more than cores, so that they seldom meet
/// Buckets looked at to find out how full the table is: a tenth of a millisecond.
const OCCUPANCY_BUCKETS_MAX: usize = 8192;

/// The counts of all limits.
#[derive(Debug)]
pub struct Limits {
    buckets: Box<[Bucket]>,
    claims: Box<[Mutex<()>]>,
    leases: Box<[Mutex<HashMap<u64, u32>>]>,
    secret: u64,
    evicted: AtomicU64,
    /// What outlives connections and restarts.
    pub(super) memory: Memory,
    /// What guards of rules have seen.
    pub(super) guards: Guards,
    /// How often the policy was loaded anew.
    loads: AtomicU64,
}

/// How much is remembered, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Keys of rates that are not at rest.
    pub keys: usize,
    /// Keys forgotten before they were at rest.
    pub keys_evicted: u64,
    /// Keys with connections open.
    pub leases: usize,
    /// Entries of greylisting.
    pub greylist: usize,
    /// Entries of greylisting that were forgotten because there was no room.
    pub greylist_evicted: u64,
    /// Subjects with a history.
    pub reputation: usize,
    /// Subjects forgotten because there was no room.
    pub reputation_evicted: u64,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Bucket {
    slots: [Slot; WAYS],
}

/// A key and its TAT in nanoseconds. Key zero is nobody's.
#[derive(Debug, Default)]
struct Slot {
    key: AtomicU64,
    tat: AtomicU64,
}

impl Limits {
    /// A table for about `keys_max` keys. `secret` comes from the system's randomness and keeps keys unpredictable.
    pub fn new(keys_max: usize, secret: u64) -> Arc<Limits> {
        Self::with_memory(keys_max, secret, Memory::new(MemorySize::default(), secret))
    }

    /// The same with what was remembered before.
    pub fn with_memory(keys_max: usize, secret: u64, memory: Memory) -> Arc<Limits> {
        let buckets = (keys_max / WAYS).next_power_of_two().clamp(SHARDS, 1 << 26);
        Arc::new(Limits {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            claims: (0..SHARDS).map(|_| Mutex::new(())).collect(),
            leases: (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect(),
            secret,
            evicted: AtomicU64::new(0),
            memory,
            guards: Guards::default(),
            loads: AtomicU64::new(0),
        })
    }

    /// The secret that goes into keys.
    pub fn secret(&self) -> u64 {
        self.secret
    }
    /// Keys that were forgotten before they had paid off because the table was full. Not zero: raise `keys_max`.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// What outlives connections and restarts.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }
    /// The policy was loaded anew: guards of rules begin anew in the sessions that begin from now on.
    pub fn reloaded(&self) {
        self.loads.fetch_add(1, Ordering::Relaxed);
    }
    /// How often it was.
    pub fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }
    /// How much is remembered at `now`. Walks through everything: for metrics, not for each message.
    pub fn remembered(&self, now: Instant) -> Remembered {
        let busy =
            |slot: &&Slot| slot.key.load(Ordering::Relaxed) != 0 && slot.tat.load(Ordering::Relaxed) > now.as_nanos();
        Remembered {
            keys: self.buckets.iter().flat_map(|bucket| &bucket.slots).filter(busy).count(),
            keys_evicted: self.evicted(),
            leases: self.leases.iter().map(|shard| shard.lock().len()).sum(),
            greylist: self.memory.greylist.len(),
            greylist_evicted: self.memory.greylist.evicted(),
            reputation: self.memory.reputation.len(),
            reputation_evicted: self.memory.reputation.evicted(),
        }
    }

    /// How much of the bound the key has in use, in percent: 0 after a rest, 100 when one more unit is too much.
    pub fn used_percent(&self, key: u64, bound: Bound, now: Instant) -> u64 {
        let (used, all) = match bound {
            Bound::Rate(rate) => {
                let tat = self.find(key).map_or(0, |slot| slot.tat.load(Ordering::Relaxed));
                (tat.saturating_sub(now.as_nanos()), rate.cost_ns(rate.burst))
            }
            Bound::AtOnce(most) => {
                let open = self.lease_shard(key).lock().get(&key).copied().unwrap_or(0);
                (u64::from(open), u64::from(most))
            }
        };
        u64::try_from(u128::from(used) * 100 / u128::from(all.max(1))).unwrap_or(u64::MAX)
    }

    /// Keys that are counted now, and for how many there is room. Of a large table a part is looked at.
    pub fn occupancy(&self, now: Instant) -> (u64, u64) {
        let step = self.buckets.len().div_ceil(OCCUPANCY_BUCKETS_MAX).max(1);
        let looked_at = self.buckets.iter().step_by(step);
        let busy =
            |slot: &&Slot| slot.key.load(Ordering::Relaxed) != 0 && slot.tat.load(Ordering::Relaxed) > now.as_nanos();
        let used: usize = looked_at.map(|bucket| bucket.slots.iter().filter(busy).count()).sum();
        ((used * step) as u64, (self.buckets.len() * WAYS) as u64)
    }

    /// Whether `n` more would pass, without counting them; else how long until they do.
    pub fn check(&self, key: u64, rate: &Rate, n: u64, now: Instant) -> Result<(), Duration> {
        let tat = self.find(key).map_or(0, |slot| slot.tat.load(Ordering::Relaxed));
        advance(tat, rate, n, now).map(|_| ())
    }

    /// Counts `n` if they pass; else how long until they would.
    pub fn take(&self, key: u64, rate: &Rate, n: u64, now: Instant) -> Result<(), Duration> {
        let slot = self.find(key).unwrap_or_else(|| self.claim(key, now));
        let mut tat = slot.tat.load(Ordering::Relaxed);
        loop {
            let next = advance(tat, rate, n, now)?;
            match slot.tat.compare_exchange_weak(tat, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(seen) => tat = seen,
            }
        }
    }

    /// Counts `n` though they do not pass, up to a full burst of debt: for what has happened already, such as failures.
    pub fn charge(&self, key: u64, rate: &Rate, n: u64, now: Instant) {
        let slot = self.find(key).unwrap_or_else(|| self.claim(key, now));
        let ceiling = now.as_nanos().saturating_add(rate.cost_ns(rate.burst));
        let _ = slot.tat.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tat| {
            Some(tat.max(now.as_nanos()).saturating_add(rate.cost_ns(n)).min(ceiling))
        });
    }

    /// Takes back what [`Limits::take`] counted.
    pub fn give_back(&self, key: u64, rate: &Rate, n: u64) {
        if let Some(slot) = self.find(key) {
            let cost = rate.cost_ns(n.min(rate.burst));
            let _ = slot.tat.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tat| Some(tat.saturating_sub(cost)));
        }
    }

    /// Whether fewer than `most` leases of the key are out.
    pub fn has_room(&self, key: u64, most: u32) -> bool {
        self.lease_shard(key).lock().get(&key).is_none_or(|n| *n < most)
    }

    /// A lease, unless `most` are out already.
    pub fn lease(self: &Arc<Limits>, key: u64, most: u32) -> Option<Lease> {
        let mut shard = self.lease_shard(key).lock();
        let count = shard.entry(key).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(shard);
        Some(Lease { limits: self.clone(), key })
    }

    fn bucket(&self, key: u64) -> &Bucket {
        &self.buckets[key as usize & (self.buckets.len() - 1)]
    }
    fn lease_shard(&self, key: u64) -> &Mutex<HashMap<u64, u32>> {
        &self.leases[(key >> 58) as usize % SHARDS]
    }

    fn find(&self, key: u64) -> Option<&Slot> {
        let key = key.max(1);
        self.bucket(key).slots.iter().find(|s| s.key.load(Ordering::Acquire) == key)
    }

    /// Gives the key a place: one that is paid off, else the one that will be first.
    #[cold]
    fn claim(&self, key: u64, now: Instant) -> &Slot {
        let key = key.max(1);
        let bucket = self.bucket(key);
        let _claim = self.claims[key as usize % SHARDS].lock();
        if let Some(slot) = self.find(key) {
            return slot; // another core was faster
        }
        let slot = bucket.slots.iter().min_by_key(|s| s.tat.load(Ordering::Relaxed)).unwrap_or(&bucket.slots[0]);
        if slot.tat.load(Ordering::Relaxed) > now.as_nanos() {
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        // Nobody finds the place between the two stores; who found it before may count one unit on the new key.
        slot.key.store(0, Ordering::Release);
        slot.tat.store(0, Ordering::Release);
        slot.key.store(key, Ordering::Release);
        slot
    }
}

/// GCRA: the new TAT after `n` units, or how long to wait. More than a burst at once passes after a full rest, like a
/// burst; else it could never pass.
fn advance(tat: u64, rate: &Rate, n: u64, now: Instant) -> Result<u64, Duration> {
    let now = now.as_nanos();
    let next = tat.max(now).saturating_add(rate.cost_ns(n.min(rate.burst)));
    let latest = now.saturating_add(rate.cost_ns(rate.burst));
    if next <= latest { Ok(next) } else { Err(Duration::from_nanos(next - latest)) }
}

/// One of the things that happen at the same time; over when dropped.
#[derive(Debug)]
pub struct Lease {
    limits: Arc<Limits>,
    key: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut shard = self.limits.lease_shard(self.key).lock();
        if let Some(count) = shard.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(units: u64, period_ns: u64, burst: u64) -> Rate {
        Rate { units, period_ns, burst }
    }

    #[test]
    fn a_burst_then_the_rate() {
        let limits = Limits::new(1024, 7);
        let r = rate(1, 1000, 3);
        let at = Instant::from_nanos;
        for _ in 0..3 {
            assert_eq!(limits.take(5, &r, 1, at(10_000)), Ok(()));
        }
        assert_eq!(limits.check(5, &r, 1, at(10_000)), Err(Duration::from_nanos(1000)));
        assert_eq!(limits.take(5, &r, 1, at(10_999)), Err(Duration::from_nanos(1)));
        assert_eq!(limits.take(6, &r, 1, at(10_999)), Ok(()));
        assert_eq!(limits.take(5, &r, 1, at(11_000)), Ok(()));
        limits.give_back(5, &r, 1);
        assert_eq!(limits.take(5, &r, 1, at(11_000)), Ok(()));
        // More than the burst passes after a full rest, and then nothing.
        let used = |limits: &Limits, ns| limits.used_percent(5, Bound::Rate(r), at(ns));
        assert_eq!((used(&limits, 11_000), used(&limits, 12_500), used(&limits, 99_000)), (100, 50, 0));
        assert_eq!(limits.take(9, &r, 100, at(50)), Ok(()));
        assert!(limits.take(9, &r, 1, at(50)).is_err());
    }

    #[test]
    fn a_full_table_forgets_who_is_nearest_to_rest() {
        let limits = Limits::new(1024, 0);
        let r = rate(1, 1_000_000, 1000);
        let now = Instant::from_nanos(1);
        let buckets = limits.buckets.len() as u64;
        let keys: Vec<u64> = (1..=WAYS as u64 + 1).map(|i| i * buckets).collect(); // all in bucket 0
        for (i, key) in keys.iter().enumerate() {
            limits.take(*key, &r, 1 + i as u64, now).unwrap();
        }
        assert_eq!(limits.evicted(), 1);
        assert!(limits.find(keys[0]).is_none() && limits.find(keys[1]).is_some());
        // Later all are paid off: places are free and nothing is evicted.
        limits.take(keys[0], &r, 1, Instant::from_nanos(1_000_000_000)).unwrap();
        assert_eq!(limits.evicted(), 1);
    }

    #[test]
    fn occupancy_is_what_is_still_to_be_paid_off() {
        let limits = Limits::new(8192 * WAYS * 4, 0);
        let r = rate(1, 1_000_000, 1000);
        // Every bucket has one key, so that any part of them tells the same.
        (0..limits.buckets.len() as u64).for_each(|n| limits.take(n + 1, &r, 1, Instant::from_nanos(1)).unwrap());
        let (used, places) = limits.occupancy(Instant::from_nanos(2));
        assert_eq!((used, places), (limits.buckets.len() as u64, (limits.buckets.len() * WAYS) as u64));
        assert_eq!(limits.occupancy(Instant::from_nanos(10_000_000)).0, 0);
    }

    #[test]
    fn leases_come_back() {
        let limits = Limits::new(1024, 0);
        let a = limits.lease(3, 2).unwrap();
        let _b = limits.lease(3, 2).unwrap();
        assert!(limits.lease(3, 2).is_none() && !limits.has_room(3, 2));
        assert_eq!(limits.used_percent(3, Bound::AtOnce(2), Instant::ZERO), 100);
        assert_eq!(limits.remembered(Instant::ZERO), Remembered { leases: 1, ..Remembered::default() });
        drop(a);
        assert!(limits.has_room(3, 2) && limits.lease(3, 2).is_some());
    }

    #[test]
    fn cores_side_by_side_take_no_more_than_there_is() {
        let limits = Limits::new(1024, 0);
        let r = rate(1, 1_000_000_000, 1000);
        let taken: usize = std::thread::scope(|s| {
            let run = || (0..1000).filter(|_| limits.take(77, &r, 1, Instant::from_nanos(5)).is_ok()).count();
            let threads: Vec<_> = (0..4).map(|_| s.spawn(run)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(taken, 1000);
    }

    proptest! {
        /// The naive twin: a bucket of tokens refilled at every question.
        #[test]
        fn gcra_is_a_token_bucket(burst in 1u64..20, asks in prop::collection::vec((0u64..5000, 1u64..4), 1..200)) {
            let limits = Limits::new(1024, 0);
            let r = rate(1, 1000, burst);
            let (mut tokens_ns, mut last, mut now) = (burst * 1000, 0, 0);
            for (wait, n) in asks {
                now += wait;
                let n = n.min(burst);
                tokens_ns = (tokens_ns + now - last).min(burst * 1000);
                last = now;
                let naive = tokens_ns >= n * 1000;
                if naive {
                    tokens_ns -= n * 1000;
                }
                prop_assert_eq!(limits.take(42, &r, n, Instant::from_nanos(now)).is_ok(), naive);
            }
        }
    }
}
