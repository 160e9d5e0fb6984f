//! Counts over time in a bounded number of buckets: when the journal is long, buckets grow.
//!
//! How it fails: what lies before the first bucket is counted in it.

/// Buckets at most; more cannot be told apart in a plot.
const BUCKETS_MAX: usize = 400;
/// Width at the beginning.
const WIDTH_MS: u64 = 60_000;

/// What happened in a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Decisions that were recorded.
    pub decisions: u64,
    /// Messages that passed then.
    pub messages_then: u64,
    /// Messages that pass now.
    pub messages_now: u64,
    /// Refusals then.
    pub refused_then: u64,
    /// Refusals now.
    pub refused_now: u64,
    /// Decisions that became stricter.
    pub tightened: u64,
    /// Decisions that became laxer.
    pub loosened: u64,
}

impl Bucket {
    fn add(&mut self, other: &Bucket) {
        self.decisions += other.decisions;
        self.messages_then += other.messages_then;
        self.messages_now += other.messages_now;
        self.refused_then += other.refused_then;
        self.refused_now += other.refused_now;
        self.tightened += other.tightened;
        self.loosened += other.loosened;
    }
}

/// Buckets from the first event on.
#[derive(Clone, Debug)]
pub struct Timeline {
    start_ms: Option<u64>,
    width_ms: u64,
    buckets: Vec<Bucket>,
}

impl Default for Timeline {
    fn default() -> Timeline {
        Timeline { start_ms: None, width_ms: WIDTH_MS, buckets: Vec::new() }
    }
}

impl Timeline {
    /// The bucket of a time.
    pub fn at(&mut self, ms: u64) -> &mut Bucket {
        let start = *self.start_ms.get_or_insert(ms - ms % WIDTH_MS);
        let index = |width: u64| (ms.saturating_sub(start) / width) as usize;
        while index(self.width_ms) >= BUCKETS_MAX {
            self.halve();
        }
        let i = index(self.width_ms);
        if self.buckets.len() <= i {
            self.buckets.resize(i + 1, Bucket::default());
        }
        &mut self.buckets[i]
    }

    fn halve(&mut self) {
        let pairs = self.buckets.chunks(2).map(|pair| {
            let mut sum = pair[0];
            pair.iter().skip(1).for_each(|b| sum.add(b));
            sum
        });
        self.buckets = pairs.collect();
        self.width_ms = self.width_ms.saturating_mul(2);
    }

    /// When the first bucket begins, milliseconds since 1970.
    pub fn start_ms(&self) -> u64 {
        self.start_ms.unwrap_or(0)
    }
    /// Width of a bucket.
    pub fn width_ms(&self) -> u64 {
        self.width_ms
    }
    /// The buckets, in order, without gaps.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_grow_with_the_journal_and_lose_nothing() {
        let mut timeline = Timeline::default();
        let start = 1_795_435_200_000;
        for minute in 0..10_000 {
            timeline.at(start + minute * 60_000).decisions += 1;
        }
        timeline.at(0).decisions += 1;
        assert!(timeline.buckets().len() <= BUCKETS_MAX && timeline.width_ms() == 32 * 60_000);
        assert_eq!(timeline.buckets().iter().map(|b| b.decisions).sum::<u64>(), 10_001);
        timeline.at(u64::MAX).decisions += 1;
        assert!(timeline.buckets().len() <= BUCKETS_MAX);
    }
}
