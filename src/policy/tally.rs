//! What rules and limits of a policy have done since it was loaded, for metrics: one number per rule and limit, whoever the
//! clients are, so their count is that of the file.
//!
//! How it fails: it does not; numbers are relaxed, and begin anew with each load.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCounts {
    /// Times its condition held and it acted.
    pub hits: u64,
    /// Times it would have acted but only observes.
    pub would_hits: u64,
    /// Times it refused.
    pub refused: u64,
}

/// Counts of a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitCounts {
    /// Times it was looked at and let pass.
    pub passed: u64,
    /// Times it was exceeded.
    pub exceeded: u64,
    /// Times it was exceeded for a rule that only observes.
    pub would_exceed: u64,
    /// The most that any key has used of it since the last look at these counts, in percent.
    pub peak_percent: u64,
}

impl LimitCounts {
    /// What the busiest key had left, in percent.
    pub fn headroom_percent(&self) -> u64 {
        100u64.saturating_sub(self.peak_percent)
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Tally {
    rules: Box<[[AtomicU64; 3]]>,
    limits: Box<[[AtomicU64; 4]]>,
}

impl Tally {
    /// For so many rules and limits.
    pub fn new(rules: usize, limits: usize) -> Tally {
        Tally {
            rules: (0..rules).map(|_| Default::default()).collect(),
            limits: (0..limits).map(|_| Default::default()).collect(),
        }
    }

    /// A rule acted, or would have.
    #[inline]
    pub fn hit(&self, rule: u32, acted: bool) {
        if let Some(counts) = self.rules.get(rule as usize) {
            counts[usize::from(!acted)].fetch_add(1, Ordering::Relaxed);
        }
    }
    /// A rule refused.
    #[inline]
    pub fn refused(&self, rule: u32) {
        if let Some(counts) = self.rules.get(rule as usize) {
            counts[2].fetch_add(1, Ordering::Relaxed);
        }
    }
    /// A limit let pass, with so much of it in use by this key.
    #[inline]
    pub fn passed(&self, limit: usize, percent: u64) {
        if let Some(counts) = self.limits.get(limit) {
            counts[0].fetch_add(1, Ordering::Relaxed);
            counts[3].fetch_max(percent, Ordering::Relaxed);
        }
    }
    /// A limit was exceeded.
    pub fn exceeded(&self, limit: usize, observed: bool) {
        if let Some(counts) = self.limits.get(limit) {
            counts[1 + usize::from(observed)].fetch_add(1, Ordering::Relaxed);
            counts[3].fetch_max(100, Ordering::Relaxed);
        }
    }

    /// Counts of a rule, by its index.
    pub fn rule(&self, rule: usize) -> RuleCounts {
        let [hits, would_hits, refused] = self.rules.get(rule).map_or([0; 3], read);
        RuleCounts { hits, would_hits, refused }
    }
    /// Counts of a limit, by its index. The peak begins anew.
    pub fn limit(&self, limit: usize) -> LimitCounts {
        let [passed, exceeded, would_exceed, peak_percent] = self.limits.get(limit).map_or([0; 4], read);
        if let Some(counts) = self.limits.get(limit) {
            counts[3].store(0, Ordering::Relaxed);
        }
        LimitCounts { passed, exceeded, would_exceed, peak_percent }
    }
}

fn read<const N: usize>(counts: &[AtomicU64; N]) -> [u64; N] {
    std::array::from_fn(|i| counts[i].load(Ordering::Relaxed))
}
