//! Greylisting: a sender and recipient that were not seen before are put off, and taken when they come again after a while.
//!
//! The client's address does not count, since tests come from many. All cores share one table. How it fails: a full table
//! takes everybody.

use gatepost::base::time::Instant;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::time::Duration;

/// Pairs remembered at most.
const PAIRS_MAX: usize = 1_000_000;

/// Who was seen, and when for the first time.
#[derive(Debug)]
pub struct Greylist {
    pause: Duration,
    seen: Mutex<HashMap<u64, Instant>>,
}

impl Greylist {
    /// Puts off for so long.
    pub fn new(pause: Duration) -> Greylist {
        Greylist { pause, seen: Mutex::default() }
    }

    /// Whether this sender may write to this recipient now.
    pub fn admits(&self, sender: &[u8], recipient: &[u8], now: Instant) -> bool {
        let mut hasher = DefaultHasher::new();
        (sender, recipient).hash(&mut hasher);
        let Ok(mut seen) = self.seen.lock() else { return true };
        if seen.len() >= PAIRS_MAX {
            return true;
        }
        let first = *seen.entry(hasher.finish()).or_insert(now);
        now.since(first) >= self.pause && first != now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_again_after_the_pause_is_taken() {
        let at = |s| Instant::ZERO + Duration::from_secs(s);
        let list = Greylist::new(Duration::from_secs(10));
        assert!(!list.admits(b"a", b"b", at(1)));
        assert!(!list.admits(b"a", b"b", at(9)), "too early");
        assert!(list.admits(b"a", b"b", at(11)));
        assert!(!list.admits(b"a", b"c", at(11)), "another recipient");
        assert!(list.admits(b"a", b"b", at(500)));
    }
}
