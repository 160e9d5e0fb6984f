//! What is asked of limits, by key.
//!
//! A rate is asked for in units per its period; what matters is the most that a key wanted in one period (counted from its
//! first unit on). Concurrency is asked for in places; what matters is the most at once. How it fails: beyond
//! [`Ledger::KEYS_MAX`] keys of a limit, new ones are only counted.

use crate::base::time::Instant;
use crate::policy::limit::{Bound, Counts, Limit};
use crate::policy::program::Observer;
use crate::policy::state::View;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

/// Keys of one session whose good end is remembered, at most.
const TOUCHED_MAX: usize = 64;

/// What one key of a limit wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyDemand {
    /// The key in words.
    pub words: String,
    /// Units in all.
    pub total: u64,
    /// The most in one period, or at once.
    pub peak: u64,
    /// Messages of sessions of this key that the backend or the queue took.
    pub taken: u64,
    /// Units that were refused then, by whatever rule.
    pub refused_then: u64,
    began_ns: u64,
    current: u64,
}

/// What was asked of one limit.
#[derive(Clone, Debug, Default)]
pub struct LimitDemand {
    /// By key.
    pub keys: HashMap<u64, KeyDemand>,
    /// Units of keys that did not fit.
    pub others: u64,
}

/// What was asked of every limit, in the order of the policy.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// One entry a limit that was asked.
    pub limits: Vec<LimitDemand>,
}

impl Ledger {
    /// Keys of one limit that are told apart, at most.
    pub const KEYS_MAX: usize = 1 << 20;

    /// An empty one, to be shared with a replay.
    pub fn shared() -> Arc<Mutex<Ledger>> {
        Arc::new(Mutex::new(Ledger::default()))
    }

    fn key(&mut self, limit: usize, key: u64, words: impl FnOnce() -> String) -> Option<&mut KeyDemand> {
        if self.limits.len() <= limit {
            self.limits.resize(limit + 1, LimitDemand::default());
        }
        let demand = &mut self.limits[limit];
        if demand.keys.len() >= Self::KEYS_MAX && !demand.keys.contains_key(&key) {
            demand.others += 1;
            return None;
        }
        Some(demand.keys.entry(key).or_insert_with(|| KeyDemand { words: words(), ..KeyDemand::default() }))
    }
}

/// What a decision asks for, until it is known whether it passes.
#[derive(Debug)]
struct Ask {
    limit: usize,
    key: u64,
    units: u64,
    period_ns: u64,
    counts: Counts,
}

/// The demand of one session.
#[derive(Debug)]
pub struct Demand {
    ledger: Arc<Mutex<Ledger>>,
    asks: SmallVec<[Ask; 4]>,
    touched: SmallVec<[(usize, u64); 8]>,
    held: SmallVec<[(usize, u64); 2]>,
}

impl Observer for Demand {
    const WATCHES: bool = false;
    const IGNORES_LIMITS: bool = true;

    fn limit(&mut self, index: usize, limit: &Limit, key: u64, units: u64, view: &View<'_>) {
        let period_ns = match limit.bound {
            Bound::Rate(rate) => rate.period_ns,
            Bound::AtOnce(_) => 0,
        };
        // Makes the key, so that it has its words.
        self.ledger.lock().key(index, key, || limit.key_words(view));
        self.asks.push(Ask { limit: index, key, units, period_ns, counts: limit.counts });
    }
}

impl Demand {
    /// For a session.
    pub fn new(ledger: Arc<Mutex<Ledger>>) -> Demand {
        Demand { ledger, asks: SmallVec::new(), touched: SmallVec::new(), held: SmallVec::new() }
    }

    /// The decision is made. As the server counts: what is refused by another rule is not counted, failures of
    /// authentication are.
    pub fn decided(&mut self, now: Instant, passes: bool, passed_then: bool) {
        let mut ledger = self.ledger.lock();
        for ask in self.asks.drain(..) {
            if !passes && ask.counts != Counts::AuthFailure {
                continue;
            }
            let Some(key) = ledger.key(ask.limit, ask.key, String::new) else { continue };
            key.total = key.total.saturating_add(ask.units);
            key.refused_then += u64::from(!passed_then);
            if ask.counts == Counts::Concurrency {
                key.current += 1;
                self.held.push((ask.limit, ask.key));
            } else if key.total == ask.units || now.as_nanos() >= key.began_ns.saturating_add(ask.period_ns) {
                (key.began_ns, key.current) = (now.as_nanos(), ask.units);
            } else {
                key.current = key.current.saturating_add(ask.units);
            }
            key.peak = key.peak.max(key.current);
            if self.touched.len() < TOUCHED_MAX && !self.touched.contains(&(ask.limit, ask.key)) {
                self.touched.push((ask.limit, ask.key));
            }
        }
    }

    /// The backend or the queue took a message of the session.
    pub fn taken(&mut self) {
        let mut ledger = self.ledger.lock();
        for (limit, key) in &self.touched {
            if let Some(key) = ledger.key(*limit, *key, String::new) {
                key.taken += 1;
            }
        }
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        let mut ledger = self.ledger.lock();
        for (limit, key) in self.held.drain(..) {
            if let Some(key) = ledger.key(limit, key, String::new) {
                key.current = key.current.saturating_sub(1);
            }
        }
    }
}
