//! Correct logins remembered, so that a client that logs in for every message does not cost argon2 each time.
//!
//! An entry is a hash, keyed by a random key of this process, of user, password and the account's verifier: it cannot be
//! turned back, is worthless in another process, and a changed password or removed account no longer finds it. Entries
//! live for a fixed time from the full check, are bounded in number (the oldest goes first) and are never on disk.
//!
//! How it fails: it does not; a forgotten login is checked in full.

use crate::base::time::Instant;
use aws_lc_rs::hmac;
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::time::Duration;

/// What an entry is found by.
pub type LoginKey = [u8; 32];

/// The cache. Insertion order is order of expiry, since all live equally long.
pub struct LoginCache {
    key: hmac::Key,
    entries: HashSet<LoginKey>,
    order: VecDeque<(Instant, LoginKey)>,
    entries_max: usize,
    time: Duration,
}

impl fmt::Debug for LoginCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginCache {{ entries: {} }}", self.entries.len())
    }
}

impl LoginCache {
    /// An empty cache; `key` must be random and stay in this process. A `time` of zero remembers nothing.
    pub fn new(key: [u8; 32], entries_max: usize, time: Duration) -> LoginCache {
        LoginCache {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            entries: HashSet::new(),
            order: VecDeque::new(),
            entries_max,
            time,
        }
    }

    /// The key of a login: `verifier` must change whenever the password does (a salted hash does).
    pub fn key(&self, user: &str, password: &str, verifier: &str) -> LoginKey {
        let mut mac = hmac::Context::with_key(&self.key);
        for part in [user, password, verifier] {
            mac.update(&(part.len() as u64).to_be_bytes()); // so that parts cannot flow into each other
            mac.update(part.as_bytes());
        }
        let mut key = LoginKey::default();
        key.copy_from_slice(mac.sign().as_ref());
        key
    }

    /// Whether this login was correct not long ago.
    pub fn contains(&mut self, key: &LoginKey, now: Instant) -> bool {
        self.expire(now);
        self.entries.contains(key)
    }

    /// Remembers a correct login.
    pub fn insert(&mut self, key: LoginKey, now: Instant) {
        self.expire(now);
        if self.time.is_zero() || !self.entries.insert(key) {
            return;
        }
        self.order.push_back((now + self.time, key));
        while self.order.len() > self.entries_max {
            self.drop_oldest();
        }
    }

    /// Entries at the moment.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(end, _)| *end <= now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.entries.remove(&key);
        }
    }
}
