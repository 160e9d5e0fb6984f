//! A cache of answers that all cores read, bounded in entries and in octets (a sender's domain may have TXT records of
//! 64 KiB): sharded, evicting by second chance, time as an argument.
//!
//! How it fails: it does not; a full shard forgets its oldest answer that nobody has asked for since the last round.

use super::question::{Answer, Key, Source};
use crate::base::time::Instant;
use parking_lot::RwLock;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};

/// Shards: enough that cores reading side by side rarely meet, few enough that small caches still work.
const SHARDS: usize = 16;

struct Entry {
    answer: Answer,
    octets: usize,
    until: Instant,
    asked_again: AtomicBool,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<Key, Entry>,
    /// Keys in order of arrival; every key of `entries` is in it exactly once.
    order: VecDeque<Key>,
    /// Sum over `entries`.
    octets: usize,
}

/// Answers with the time until which they are good.
pub struct Cache {
    shards: [RwLock<Shard>; SHARDS],
    entries_max: usize,
    octets_max: usize,
    hasher: RandomState,
}

impl Cache {
    /// A cache of at most about `entries_max` answers with `octets_max` octets in all (both rounded up to a multiple of
    /// the shards); 0 keeps nothing.
    pub fn new(entries_max: usize, octets_max: usize) -> Cache {
        Cache {
            shards: Default::default(),
            entries_max: entries_max.div_ceil(SHARDS),
            octets_max: octets_max.div_ceil(SHARDS),
            hasher: RandomState::new(),
        }
    }

    fn shard(&self, key: &Key) -> &RwLock<Shard> {
        // The hash is keyed, so that nobody outside can aim at one shard.
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    /// The answer, when there is one that is still good at `now`.
    pub(crate) fn get(&self, key: &Key, now: Instant) -> Option<Answer> {
        let shard = self.shard(key).read();
        let entry = shard.entries.get(key).filter(|e| now < e.until)?;
        entry.asked_again.store(true, Ordering::Relaxed);
        Some(Answer { ttl: entry.until - now, source: Source::Cache, ..entry.answer.clone() })
    }

    /// Keeps `answer` for its TTL from `now`.
    pub(crate) fn put(&self, key: &Key, answer: &Answer, now: Instant) {
        let octets = answer.octets() + key.octets();
        if self.entries_max == 0 || answer.ttl.is_zero() || octets > self.octets_max {
            return;
        }
        let until = now + answer.ttl;
        let entry = Entry { answer: answer.clone(), octets, until, asked_again: AtomicBool::new(false) };
        let mut shard = self.shard(key).write();
        shard.octets += octets;
        match shard.entries.insert(key.clone(), entry) {
            Some(before) => shard.octets -= before.octets,
            None => shard.order.push_back(key.clone()),
        }
        while shard.entries.len() > self.entries_max || shard.octets > self.octets_max {
            shard.evict(now);
        }
        debug_assert_eq!(shard.entries.len(), shard.order.len());
    }

    /// Octets kept, about.
    pub fn octets(&self) -> usize {
        self.shards.iter().map(|s| s.read().octets).sum()
    }

    /// Answers kept, good or stale.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.read().entries.len()).sum()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything (after a reload of the configuration).
    pub fn clear(&self) {
        self.shards.iter().for_each(|s| *s.write() = Shard::default());
    }
}

impl Shard {
    /// Drops the first answer in order that is stale or was not asked for since it was last passed over. Ends, because a
    /// passed-over answer loses its mark: at most one round.
    fn evict(&mut self, now: Instant) {
        while let Some(key) = self.order.pop_front() {
            match self.entries.get(&key) {
                Some(e) if now < e.until && e.asked_again.swap(false, Ordering::Relaxed) => self.order.push_back(key),
                _ => {
                    let gone = self.entries.remove(&key);
                    self.octets -= gone.map_or(0, |entry| entry.octets);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::question::{Found, Miss};
    use super::*;
    use std::time::Duration;

    fn answer(secs: u64) -> Answer {
        Answer { result: Err(Miss::NoName), ttl: Duration::from_secs(secs), source: Source::Dns }
    }
    fn key(n: usize) -> Key {
        Key::Mx(format!("d{n}.test").into())
    }
    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn an_answer_ages_and_goes() {
        let c = Cache::new(100, 1 << 20);
        c.put(&key(1), &answer(10), at(0));
        let got = c.get(&key(1), at(4)).unwrap();
        assert_eq!((got.ttl, got.source), (Duration::from_secs(6), Source::Cache));
        assert_eq!(c.get(&key(1), at(10)), None);
        assert_eq!(c.get(&Key::Txt("d1.test".into()), at(0)), None);
        c.put(&key(2), &answer(0), at(0));
        assert_eq!(c.get(&key(2), at(0)), None);
        assert_eq!(c.len(), 1);
    }

    #[test]
    fn it_never_grows_past_its_bound_and_keeps_what_is_used() {
        let c = Cache::new(160, 1 << 20);
        let hot = Key::Addresses("hot.test".into());
        let found = Answer { result: Ok(Found::Addresses([[127, 0, 0, 1].into()].into())), ..answer(1000) };
        c.put(&hot, &found, at(0));
        for n in 0..10_000 {
            c.put(&key(n), &answer(1000), at(1));
            assert!(c.get(&hot, at(1)).is_some(), "evicted after {n}");
        }
        assert!(c.len() <= 160 && c.len() > 100, "{}", c.len());
        c.clear();
        assert!(c.is_empty());
    }

    #[test]
    fn large_answers_do_not_fill_the_memory() {
        let c = Cache::new(10_000, 160_000);
        let texts =
            |octets: usize| Answer { result: Ok(Found::Texts([vec![b'x'; octets].into()].into())), ..answer(1000) };
        for n in 0..1_000 {
            c.put(&key(n), &texts(2_000), at(1));
            assert!(c.octets() <= 160_000);
        }
        assert!(c.len() > 20);
        c.put(&key(5_000), &texts(20_000), at(1));
        assert_eq!(c.get(&key(5_000), at(1)), None, "larger than a shard may be");
        c.put(&key(6_000), &texts(5_000), at(1));
        let before = c.octets();
        c.put(&key(6_000), &texts(10), at(1));
        assert!(c.octets() < before, "the smaller one has replaced the larger");
        c.clear();
        assert_eq!((c.octets(), c.len()), (0, 0));
    }

    #[test]
    fn a_cache_of_nothing_keeps_nothing() {
        let c = Cache::new(0, 1 << 20);
        c.put(&key(1), &answer(10), at(0));
        assert!(c.is_empty());
    }

    #[test]
    fn a_replaced_answer_counts_once() {
        let c = Cache::new(16, 1 << 20);
        for n in 0..100 {
            c.put(&key(1), &answer(10 + n), at(0));
        }
        assert_eq!(c.len(), 1);
        assert_eq!(c.get(&key(1), at(0)).unwrap().ttl, Duration::from_secs(109));
    }
}
