//! Connections that wait for the next message.
//!
//! How it fails: it does not; what is too old or too much is closed.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Idle connections, the one used last on top.
#[derive(Debug)]
pub(super) struct Idle<C> {
    kept: Mutex<Vec<(Instant, C)>>,
    max: usize,
    time_max: Duration,
}

impl<C> Idle<C> {
    pub(super) fn new(max: usize, time_max: Duration) -> Idle<C> {
        Idle { kept: Mutex::new(Vec::new()), max, time_max }
    }

    /// The one used last, if it is young enough.
    pub(super) fn take(&self) -> Option<C> {
        let now = Instant::now();
        let mut kept = self.kept.lock();
        // They stand in the order of their age: those at the front have been idle for longest.
        let old = kept.partition_point(|(since, _)| now.duration_since(*since) >= self.time_max);
        kept.drain(..old);
        kept.pop().map(|(_, connection)| connection)
    }

    /// Keeps it for the next message.
    pub(super) fn put(&self, connection: C) {
        let mut kept = self.kept.lock();
        if kept.len() < self.max && !self.time_max.is_zero() {
            kept.push((Instant::now(), connection));
        }
    }

    /// Closes all of them: the helper has gone meanwhile.
    pub(super) fn clear(&self) {
        self.kept.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_in_number_and_age() {
        let idle = Idle::new(2, Duration::from_secs(60));
        [1, 2, 3].into_iter().for_each(|n| idle.put(n));
        assert_eq!((idle.take(), idle.take(), idle.take()), (Some(2), Some(1), None));
        idle.put(4);
        idle.clear();
        assert_eq!(idle.take(), None);
        let brief = Idle::new(2, Duration::from_millis(1));
        brief.put(1);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(brief.take(), None);
        let never = Idle::new(2, Duration::ZERO);
        never.put(1);
        assert_eq!(never.take(), None);
    }
}
