//! The two clocks of the house. Pure rooms are handed these values; only this file reads them.
//!
//! How it fails: it does not. A wall clock set before 1970 reads as the epoch.

use crate::base::time::{Instant, WallTime};
use std::sync::OnceLock;
use std::time::SystemTime;

static START: OnceLock<std::time::Instant> = OnceLock::new();

/// Monotonic time since the first reading in this process (CLOCK_MONOTONIC; the same origin on every thread).
pub fn now() -> Instant {
    let start = START.get_or_init(std::time::Instant::now);
    Instant::from_nanos(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// Calendar time, to the millisecond.
pub fn wall() -> WallTime {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_moves_forward_and_starts_at_the_process() {
        let a = super::now();
        let b = std::thread::spawn(super::now).join().unwrap();
        assert!(b >= a, "one origin for every thread");
        assert!(super::wall().as_secs() > 1_700_000_000);
    }
}
