//! The time of day and the time that passed, as the store asks for it; tests set it. How it fails: it does not; a clock
//! before 1970 is 1970.

use crate::base::time::WallTime;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Clones are the same clock.
#[derive(Clone, Debug)]
pub(super) enum Clock {
    /// The machine's.
    System(Instant),
    /// Milliseconds, set by a test.
    #[cfg_attr(not(test), allow(dead_code, reason = "only tests set the time"))]
    Set(Arc<AtomicU64>),
}

impl Clock {
    pub fn system() -> Clock {
        Clock::System(Instant::now())
    }

    pub fn now(&self) -> WallTime {
        match self {
            Clock::System(_) => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                WallTime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Clock::Set(millis) => WallTime::from_millis(millis.load(Ordering::Relaxed)),
        }
    }

    /// Time since the store was opened.
    pub fn elapsed(&self) -> Duration {
        match self {
            Clock::System(start) => start.elapsed(),
            Clock::Set(millis) => Duration::from_millis(millis.load(Ordering::Relaxed)),
        }
    }
}
