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

use super::limit::Rate;
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
    }
}

const WAYS: usize = 8; // two cache lines
const SHARDS: usize = 64; // more than cores, so that they seldom meet

/// The counts of all limits.
#[derive(Debug)]
pub struct Limits {
    buckets: Box<[Bucket]>,
    claims: Box<[Mutex<()>]>,
    leases: Box<[Mutex<HashMap<u64, u32>>]>,
    secret: u64,
    evicted: AtomicU64,
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
        let buckets = (keys_max / WAYS).next_power_of_two().clamp(SHARDS, 1 << 26);
        Arc::new(Limits {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            claims: (0..SHARDS).map(|_| Mutex::new(())).collect(),
            leases: (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect(),
            secret,
            evicted: AtomicU64::new(0),
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
    fn leases_come_back() {
        let limits = Limits::new(1024, 0);
        let a = limits.lease(3, 2).unwrap();
        let _b = limits.lease(3, 2).unwrap();
        assert!(limits.lease(3, 2).is_none() && !limits.has_room(3, 2));
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
