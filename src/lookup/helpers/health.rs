//! Whether a helper is asked at all, and what the log hears of its failures: a circuit breaker and a report once a
//! minute.
//!
//! How it fails: it does not.

use super::failure::Failure;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Time between two reports of failures.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// How often the time aside may double.
const DOUBLINGS_MAX: u32 = 4;

/// What is known of a helper.
#[derive(Debug)]
pub(super) struct Health {
    failures_max: u32,
    retry_after: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Failures since the last answer.
    in_a_row: u32,
    /// Asked again from then on; `None` while it is well.
    aside_until: Option<Instant>,
    /// How often the time aside has doubled.
    doublings: u32,
    /// Whether one consultation is trying.
    trying: bool,
    /// When failures were last reported, and what has happened since.
    reported: Option<Instant>,
    asked: u64,
    failed: u64,
    /// Whether a report was made and no recovery since.
    sick: bool,
}

/// The right to ask. Dropped unused, somebody else may try.
#[derive(Debug)]
pub(super) struct Admitted<'a> {
    health: &'a Health,
    tries: bool,
}

/// What the log is to hear now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// Failures since the last report, out of how many consultations.
    Failing {
        /// How many.
        failed: u64,
        /// Out of how many.
        asked: u64,
    },
    /// It answers again, and how many failures there were that had not been reported.
    Recovered {
        /// How many.
        failed: u64,
    },
}

impl Health {
    pub(super) fn new(failures_max: u32, retry_after: Duration) -> Health {
        Health { failures_max, retry_after, state: Mutex::default() }
    }

    /// Whether it may be asked now.
    pub(super) fn admit(&self, now: Instant) -> Result<Admitted<'_>, Failure> {
        let mut state = self.state.lock();
        let Some(until) = state.aside_until else { return Ok(Admitted { health: self, tries: false }) };
        if state.trying || now < until {
            return Err(Failure::Aside(until.saturating_duration_since(now)));
        }
        state.trying = true;
        Ok(Admitted { health: self, tries: true })
    }

    /// How a consultation went; what the log is to hear of it.
    pub(super) fn settle(
        &self,
        admitted: Option<Admitted<'_>>,
        failure: Option<&Failure>,
        now: Instant,
    ) -> Option<Report> {
        drop(admitted);
        let mut state = self.state.lock();
        state.asked += 1;
        let Some(failure) = failure else {
            (state.in_a_row, state.aside_until, state.doublings) = (0, None, 0);
            if !std::mem::take(&mut state.sick) {
                return None;
            }
            state.asked = 0;
            return Some(Report::Recovered { failed: std::mem::take(&mut state.failed) });
        };
        state.failed += 1;
        if failure.is_its_fault() {
            self.note_failure(&mut state, now);
        }
        if state.reported.is_some_and(|at| now < at + REPORT_INTERVAL) {
            return None;
        }
        (state.reported, state.sick) = (Some(now), true);
        let (failed, asked) = (std::mem::take(&mut state.failed), std::mem::take(&mut state.asked));
        Some(Report::Failing { failed, asked })
    }

    fn note_failure(&self, state: &mut State, now: Instant) {
        state.in_a_row = state.in_a_row.saturating_add(1);
        if state.in_a_row < self.failures_max {
            return;
        }
        match state.aside_until {
            // Those that were under way when it was set aside say nothing new.
            Some(until) if now < until => return,
            Some(_) => state.doublings = (state.doublings + 1).min(DOUBLINGS_MAX),
            None => {}
        }
        state.aside_until = Some(now + self.retry_after * (1 << state.doublings));
    }

    /// Whether it is set aside.
    pub(super) fn is_aside(&self) -> bool {
        self.state.lock().aside_until.is_some()
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if self.tries {
            self.health.state.lock().trying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: Failure = Failure::Closed("answer");

    fn fail(health: &Health, now: Instant) -> Option<Report> {
        let admitted = health.admit(now).unwrap();
        health.settle(Some(admitted), Some(&CLOSED), now)
    }

    #[test]
    fn set_aside_tried_once_and_welcome_again() {
        let health = Health::new(2, Duration::from_secs(10));
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        fail(&health, at(0));
        assert!(!health.is_aside());
        fail(&health, at(1));
        assert_eq!(health.admit(at(2)).unwrap_err(), Failure::Aside(Duration::from_secs(9)));
        // One tries, the others do not wait for it.
        let trying = health.admit(at(11)).unwrap();
        assert_eq!(health.admit(at(11)).unwrap_err(), Failure::Aside(Duration::ZERO));
        health.settle(Some(trying), Some(&CLOSED), at(12));
        assert_eq!(health.admit(at(13)).unwrap_err(), Failure::Aside(Duration::from_secs(19)), "doubled");
        // Who is given up while it tries leaves the place to the next.
        drop(health.admit(at(40)).unwrap());
        let trying = health.admit(at(40)).unwrap();
        health.settle(Some(trying), None, at(40));
        assert!(!health.is_aside());
        fail(&health, at(41));
        assert!(!health.is_aside(), "failures count from the last answer");
    }

    #[test]
    fn the_time_aside_has_an_end() {
        let health = Health::new(1, Duration::from_secs(1));
        let mut now = Instant::now();
        for _ in 0..10 {
            fail(&health, now);
            now += Duration::from_secs(1000);
        }
        fail(&health, now);
        assert_eq!(health.admit(now).unwrap_err(), Failure::Aside(Duration::from_secs(16)));
    }

    #[test]
    fn reported_once_a_minute_with_counts() {
        let health = Health::new(1000, Duration::from_secs(1));
        let start = Instant::now();
        assert_eq!(fail(&health, start), Some(Report::Failing { failed: 1, asked: 1 }));
        for n in 0..50 {
            assert_eq!(fail(&health, start + Duration::from_secs(n)), None);
        }
        assert_eq!(health.settle(None, None, start), Some(Report::Recovered { failed: 50 }));
        assert_eq!(health.settle(None, None, start), None, "said once");
        let minute = start + REPORT_INTERVAL;
        assert_eq!(fail(&health, minute), Some(Report::Failing { failed: 1, asked: 2 }));
    }

    #[test]
    fn what_is_not_its_fault_does_not_count_against_it() {
        let health = Health::new(1, Duration::from_secs(1));
        let now = Instant::now();
        for failure in [Failure::Busy(3), Failure::Body("gone".into()), Failure::Aside(Duration::ZERO)] {
            health.settle(None, Some(&failure), now);
        }
        assert!(!health.is_aside());
    }
}
