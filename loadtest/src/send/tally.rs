//! What the sender has counted and timed.
//!
//! How it fails: it does not; times beyond the histogram's range count as its end.

use super::session::{Outcome, Verdict};
use gatepost::base::time::Instant;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

/// Times from one microsecond to ten minutes, to three digits.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

const TIME_MAX_US: u64 = 600_000_000;

impl Default for Times {
    fn default() -> Self {
        // The bounds are constants within the crate's documented range (low >= 1, high >= 2 * low, digits <= 5).
        Times(Histogram::new_with_bounds(1, TIME_MAX_US, 3).expect("constant bounds"))
    }
}

impl Times {
    /// Adds one.
    pub fn record(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(TIME_MAX_US);
        self.0.saturating_record(us.clamp(1, TIME_MAX_US));
    }
    /// Adds another core's.
    pub fn add(&mut self, other: &Times) {
        // Both have the same bounds, so nothing can be out of range.
        let _ = self.0.add(&other.0);
    }
    /// The quantiles that are reported.
    pub fn quantiles(&self) -> crate::report::Quantiles {
        let at = |q: f64| self.0.value_at_quantile(q) as f64 / 1000.0;
        if self.0.is_empty() {
            return crate::report::Quantiles::default();
        }
        crate::report::Quantiles {
            count: self.0.len(),
            mean_ms: self.0.mean() / 1000.0,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: self.0.max() as f64 / 1000.0,
        }
    }
}

/// One core's, then everybody's.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Connections that were established.
    pub sessions: u64,
    /// Messages accepted (in a test of refusals: sessions whose recipient was refused as it should be).
    pub accepted: u64,
    /// Recipients of those.
    pub recipients: u64,
    /// Messages refused.
    pub refused: u64,
    /// Messages handed over without a reply.
    pub unknown: u64,
    /// Messages whose connection was lost before.
    pub not_sent: u64,
    /// Most connections that were up at once.
    pub held_max: u64,
    /// From schedule to last reply.
    pub latency: Times,
    /// From connect to the reply to EHLO.
    pub setup: Times,
    /// How late the harness itself noticed that a message was due.
    pub late: Times,
    /// Refusals by code.
    pub replies: BTreeMap<u16, u64>,
    /// Everything else that went wrong, by what it was.
    pub errors: BTreeMap<String, u64>,
    /// When the last message ended.
    pub last: Instant,
    /// From the start to the last message's end.
    pub elapsed: Duration,
    /// Processor time of the core's thread.
    pub cpu: Duration,
}

impl Tally {
    pub(super) fn error(&mut self, what: String) {
        *self.errors.entry(what).or_insert(0) += 1;
    }
    pub(super) fn reply(&mut self, code: u16) {
        *self.replies.entry(code).or_insert(0) += 1;
    }
    pub(super) fn count(&mut self, outcome: &Outcome, refusal_wanted: bool) {
        match outcome.verdict {
            Verdict::Accepted(_) if refusal_wanted => self.refused += 1,
            Verdict::Accepted(recipients) => {
                self.accepted += 1;
                self.recipients += u64::from(recipients);
                self.latency.record(outcome.latency);
            }
            Verdict::Refused(code) => {
                self.reply(code);
                if refusal_wanted {
                    self.accepted += 1;
                    self.latency.record(outcome.latency);
                } else {
                    self.refused += 1;
                }
            }
            Verdict::Unknown => self.unknown += 1,
            Verdict::NotSent => self.not_sent += 1,
        }
    }

    /// Adds another core's. Cores run side by side, so the longest time is the run's.
    pub fn add(&mut self, other: &Tally) {
        self.sessions += other.sessions;
        self.accepted += other.accepted;
        self.recipients += other.recipients;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.not_sent += other.not_sent;
        self.held_max += other.held_max;
        self.latency.add(&other.latency);
        self.setup.add(&other.setup);
        self.late.add(&other.late);
        other.replies.iter().for_each(|(code, n)| *self.replies.entry(*code).or_insert(0) += n);
        other.errors.iter().for_each(|(what, n)| *self.errors.entry(what.clone()).or_insert(0) += n);
        self.elapsed = self.elapsed.max(other.elapsed);
        self.cpu += other.cpu;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_in_same_quantiles_out() {
        let mut t = Times::default();
        (1..=1000).for_each(|ms| t.record(Duration::from_millis(ms)));
        let mut twice = t.clone();
        twice.add(&t);
        let q = twice.quantiles();
        assert_eq!(q.count, 2000);
        for (got, want) in
            [(q.p50_ms, 500.0), (q.p90_ms, 900.0), (q.p99_ms, 990.0), (q.max_ms, 1000.0), (q.mean_ms, 500.5)]
        {
            assert!((got - want).abs() <= want / 500.0, "{got} for {want}");
        }
        t.record(Duration::from_secs(100_000));
        assert!((t.quantiles().max_ms - 600_000.0).abs() < 1000.0);
    }
}
