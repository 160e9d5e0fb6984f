//! Who is met most often, counted in bounded memory.
//!
//! How it fails: beyond [`Top::KEYS_MAX`] different keys new ones are counted together as others.

use std::collections::HashMap;

/// Counts by key.
#[derive(Clone, Debug, Default)]
pub struct Top {
    counts: HashMap<String, u64>,
    others: u64,
}

impl Top {
    /// Different keys, at most.
    pub const KEYS_MAX: usize = 100_000;

    /// Counts one.
    pub fn add(&mut self, key: &str) {
        if let Some(count) = self.counts.get_mut(key) {
            *count += 1;
        } else if self.counts.len() < Self::KEYS_MAX {
            self.counts.insert(key.to_owned(), 1);
        } else {
            self.others += 1;
        }
    }
    /// Different keys.
    pub fn len(&self) -> usize {
        self.counts.len()
    }
    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
    /// What was counted beyond the keys that fit.
    pub fn others(&self) -> u64 {
        self.others
    }
    /// The `n` most frequent, most frequent first.
    pub fn first(&self, n: usize) -> Vec<(&str, u64)> {
        let mut all: Vec<(&str, u64)> = self.counts.iter().map(|(k, c)| (k.as_str(), *c)).collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        all.truncate(n);
        all
    }
}
