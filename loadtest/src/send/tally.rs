//! What the sender has counted and timed.
//!
//! How it fails: it does not; times beyond the histogram's range count as its end, kinds of errors beyond
//! [`ERROR_KINDS_MAX`] as "other", seconds beyond [`SECONDS_MAX`] in the last one.

use super::phases::Phases;
use super::script::{Outcome, Verdict};
use crate::report::{Quantiles, Second};
use gatepost::base::time::Instant;
use gatepost::base::tls::TlsFacts;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

/// Kinds of errors counted apart.
pub const ERROR_KINDS_MAX: usize = 100;
/// Seconds of a run that are counted apart: a day.
pub const SECONDS_MAX: usize = 86_400;

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
    /// How many were timed.
    pub fn count(&self) -> u64 {
        self.0.len()
    }
    /// The quantiles that are reported.
    pub fn quantiles(&self) -> Quantiles {
        let at = |q: f64| self.0.value_at_quantile(q) as f64 / 1000.0;
        if self.0.is_empty() {
            return Quantiles::default();
        }
        Quantiles {
            count: self.0.len(),
            mean_ms: self.0.mean() / 1000.0,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: self.0.max() as f64 / 1000.0,
            points: self.points(),
        }
    }
    /// Share and milliseconds: five steps for each halving of what is left.
    fn points(&self) -> Vec<(f64, f64)> {
        // Nobody knows what would be slower than the slowest of so many, so it stands half a step before all.
        let last = 1.0 - 0.5 / self.0.len() as f64;
        let steps = self.0.iter_quantiles(5).take_while(|v| v.quantile_iterated_to() < last);
        let mut points: Vec<(f64, f64)> =
            steps.map(|v| (v.quantile_iterated_to(), v.value_iterated_to() as f64 / 1000.0)).collect();
        points.push((last, self.0.max() as f64 / 1000.0));
        points
    }
    /// Writes it as HdrHistogram's own tools do (`.hgrm`), in milliseconds.
    pub fn write_hgrm(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
        let mut total = 0;
        for v in self.0.iter_quantiles(5) {
            let (value, quantile) = (v.value_iterated_to() as f64 / 1000.0, v.quantile_iterated_to());
            total += v.count_since_last_iteration();
            write!(out, "{value:12.3} {quantile:14.12} {total:10}")?;
            if quantile < 1.0 { writeln!(out, " {:14.2}", 1.0 / (1.0 - quantile))? } else { writeln!(out)? }
        }
        let (mean, deviation) = (self.0.mean() / 1000.0, self.0.stdev() / 1000.0);
        writeln!(out, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]")?;
        writeln!(out, "#[Max     = {:12.3}, Total count    = {:12}]", self.0.max() as f64 / 1000.0, self.0.len())?;
        writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", self.0.buckets(), self.0.distinct_values())
    }
}

/// What happened in each second of the run, by when messages ended.
#[derive(Clone, Debug, Default)]
pub struct Series {
    seconds: Vec<Second>,
    /// Latencies of the last second.
    latency: Times,
}

impl Series {
    fn at(&mut self, since_start: Duration) -> &mut Second {
        let second = (since_start.as_secs() as usize).min(SECONDS_MAX - 1);
        if second >= self.seconds.len() {
            self.finish();
            self.seconds.resize_with(second + 1, Second::default);
        }
        &mut self.seconds[second]
    }

    /// Sums up the second that is under way.
    pub fn finish(&mut self) {
        if let Some(last) = self.seconds.last_mut() {
            let q = self.latency.quantiles();
            (last.p50_ms, last.p99_ms, last.max_ms) = (q.p50_ms, q.p99_ms, q.max_ms);
            self.latency.0.clear();
        }
    }

    fn add(&mut self, other: &Series) {
        if self.seconds.len() < other.seconds.len() {
            self.seconds.resize_with(other.seconds.len(), Second::default);
        }
        for (mine, others) in self.seconds.iter_mut().zip(&other.seconds) {
            mine.accepted += others.accepted;
            mine.refused += others.refused;
            mine.lost += others.lost;
            // Of two cores the worse one, since the samples are gone.
            mine.p50_ms = mine.p50_ms.max(others.p50_ms);
            mine.p99_ms = mine.p99_ms.max(others.p99_ms);
            mine.max_ms = mine.max_ms.max(others.max_ms);
        }
    }

    /// Second by second.
    pub fn seconds(&self) -> &[Second] {
        &self.seconds
    }
}

/// One core's, then everybody's.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Connections that were established.
    pub sessions: u64,
    /// Handshakes by version, resumed ones apart.
    pub tls_sessions: BTreeMap<String, u64>,
    /// Messages accepted (in a test of refusals: sessions whose recipient was refused as it should be; of logins: logins).
    pub accepted: u64,
    /// Recipients of those.
    pub recipients: u64,
    /// Octets of those, as they were made.
    pub octets: u64,
    /// Messages refused.
    pub refused: u64,
    /// Messages handed over without a reply.
    pub unknown: u64,
    /// Messages whose connection was lost before.
    pub not_sent: u64,
    /// Tries that were put off with 4xx and made again.
    pub retried: u64,
    /// Most connections that were up at once.
    pub held_max: u64,
    /// From schedule to last reply.
    pub latency: Times,
    /// From connect until a message may be sent.
    pub setup: Times,
    /// Single steps.
    pub phases: Phases,
    /// How late the harness itself noticed that a message was due.
    pub late: Times,
    /// How long each turn of the loop took: a reply may have been noticed so much later than it came.
    pub turn: Times,
    /// Second by second.
    pub series: Series,
    /// Refusals by code.
    pub replies: BTreeMap<u16, u64>,
    /// Everything else that went wrong, by what it was.
    pub errors: BTreeMap<String, u64>,
    /// When the last message ended.
    pub last: Instant,
    /// From the start to the last message's end.
    pub elapsed: Duration,
    /// From the start to the end of the core's loop.
    pub ran: Duration,
    /// Processor time of the core's thread.
    pub cpu: Duration,
    /// How long the core's thread wanted to run and was not let.
    pub cpu_wait: Duration,
}

impl Tally {
    pub(super) fn error(&mut self, what: String) {
        let known = self.errors.contains_key(&what) || self.errors.len() < ERROR_KINDS_MAX;
        *self.errors.entry(if known { what } else { "other".to_owned() }).or_insert(0) += 1;
    }
    pub(super) fn reply(&mut self, code: u16) {
        *self.replies.entry(code).or_insert(0) += 1;
    }
    pub(super) fn tls(&mut self, facts: Option<&TlsFacts>) {
        let name = facts.map_or("unknown".to_owned(), |f| {
            if f.resumed { format!("{} resumed", f.version) } else { f.version.to_owned() }
        });
        *self.tls_sessions.entry(name).or_insert(0) += 1;
    }
    /// Counts the end of a message; whether it was what was wanted.
    pub(super) fn count(&mut self, outcome: &Outcome, refusal_wanted: bool, since_start: Duration) -> bool {
        let second = self.series.at(since_start);
        let good = match outcome.verdict {
            Verdict::Accepted(_) => !refusal_wanted,
            Verdict::Refused(_) => refusal_wanted,
            Verdict::Unknown | Verdict::NotSent => {
                second.lost += 1;
                *if outcome.verdict == Verdict::Unknown { &mut self.unknown } else { &mut self.not_sent } += 1;
                return false;
            }
        };
        if good {
            second.accepted += 1;
            self.accepted += 1;
            self.octets += outcome.octets as u64;
            self.latency.record(outcome.latency);
            self.series.latency.record(outcome.latency);
        } else {
            second.refused += 1;
            self.refused += 1;
        }
        match outcome.verdict {
            Verdict::Accepted(recipients) if good => self.recipients += u64::from(recipients),
            Verdict::Refused(code) => self.reply(code),
            _ => {}
        }
        good
    }

    /// Adds another core's. Cores run side by side, so the longest time is the run's.
    pub fn add(&mut self, other: &Tally) {
        self.sessions += other.sessions;
        self.accepted += other.accepted;
        self.recipients += other.recipients;
        self.octets += other.octets;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.not_sent += other.not_sent;
        self.retried += other.retried;
        self.held_max += other.held_max;
        self.latency.add(&other.latency);
        self.setup.add(&other.setup);
        self.phases.add(&other.phases);
        self.late.add(&other.late);
        self.turn.add(&other.turn);
        self.series.add(&other.series);
        other.tls_sessions.iter().for_each(|(kind, n)| *self.tls_sessions.entry(kind.clone()).or_insert(0) += n);
        other.replies.iter().for_each(|(code, n)| *self.replies.entry(*code).or_insert(0) += n);
        other.errors.iter().for_each(|(what, n)| *self.errors.entry(what.clone()).or_insert(0) += n);
        self.elapsed = self.elapsed.max(other.elapsed);
        self.ran = self.ran.max(other.ran);
        self.cpu += other.cpu;
        self.cpu_wait += other.cpu_wait;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Id;
    use crate::send::script::Job;

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
        assert!(q.points.len() > 20 && q.points.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1));
        for (share, ms) in q.points {
            assert!((ms / 1000.0 - share).abs() < 0.002, "{share} {ms}");
        }
        t.record(Duration::from_secs(100_000));
        assert!((t.quantiles().max_ms - 600_000.0).abs() < 1000.0);
    }

    #[test]
    fn hgrm_is_what_other_tools_read() {
        let mut t = Times::default();
        (1..=100).for_each(|ms| t.record(Duration::from_millis(ms)));
        let mut out = Vec::new();
        t.write_hgrm(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let rows: Vec<Vec<f64>> = text
            .lines()
            .filter(|l| !l.is_empty() && !l.starts_with('#') && !l.contains("Value"))
            .map(|l| l.split_whitespace().map(|w| w.parse().unwrap()).collect())
            .collect();
        assert!(rows.len() > 10 && rows.windows(2).all(|w| w[0][0] <= w[1][0] && w[0][2] <= w[1][2]), "{text}");
        let half = rows.iter().find(|r| (r[1] - 0.5).abs() < 1e-9).unwrap();
        assert!((half[0] - 50.0).abs() < 0.1 && half[2] == 50.0 && half[3] == 2.0, "{half:?}");
        assert_eq!(rows.last().unwrap()[2], 100.0);
        assert!(text.contains("Total count    =          100]"), "{text}");
    }

    #[test]
    fn seconds_are_counted_by_when_messages_end() {
        let outcome = |verdict, ms| Outcome {
            job: Job::new(Id { run: 0, core: 0, seq: 0 }, Instant::ZERO),
            crc: 0,
            octets: 10,
            verdict,
            latency: Duration::from_millis(ms),
        };
        let mut t = Tally::default();
        t.count(&outcome(Verdict::Accepted(1), 5), false, Duration::from_millis(300));
        t.count(&outcome(Verdict::Accepted(1), 50), false, Duration::from_millis(2100));
        t.count(&outcome(Verdict::Refused(450), 50), false, Duration::from_millis(2900));
        t.count(&outcome(Verdict::Unknown, 50), false, Duration::from_secs(1_000_000));
        t.series.finish();
        let seconds = t.series.seconds();
        assert_eq!(seconds.len(), SECONDS_MAX);
        let counts: Vec<_> = seconds[..3].iter().map(|s| (s.accepted, s.refused, s.max_ms.round())).collect();
        assert_eq!(counts, [(1, 0, 5.0), (0, 0, 0.0), (1, 1, 50.0)]);
        assert_eq!((seconds[SECONDS_MAX - 1].lost, t.accepted, t.octets, t.unknown), (1, 2, 20, 1));
    }

    #[test]
    fn kinds_of_errors_are_bounded() {
        let mut t = Tally::default();
        (0..500).for_each(|n| t.error(format!("e{n}")));
        assert_eq!((t.errors.len(), t.errors["other"]), (ERROR_KINDS_MAX + 1, 400));
    }
}
