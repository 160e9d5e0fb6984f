//! Values for limits from what their keys wanted.
//!
//! The value is the demand of nearly all good keys (a quantile of those whose mail was taken), with headroom, rounded up
//! to a number a person would write. How it fails: a limit without keys has no proposal.

use super::demand::{Ledger, LimitDemand};
use crate::policy::limit::{Bound, Counts, Limit};
use crate::policy::rules::Policy;

/// What a proposal rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Basis {
    /// Share of good keys that must not be touched, below 1.
    pub quantile: f64,
    /// What they get beyond their peak, at least 1.
    pub headroom: f64,
}

impl Default for Basis {
    fn default() -> Basis {
        Basis { quantile: 0.999, headroom: 2.0 }
    }
}

/// How peaks are distributed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Keys.
    pub keys: usize,
    /// Half of them wanted no more.
    pub p50: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1000.
    pub p999: u64,
    /// None wanted more.
    pub max: u64,
}

/// A proposal for one limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The limit.
    pub limit: String,
    /// What it counts.
    pub counts: Counts,
    /// As it stands: `60/minute per client`.
    pub shown: String,
    /// Units per period, or places at once, as they are.
    pub now: u64,
    /// The same as proposed; `None` without data.
    pub proposed: Option<u64>,
    /// The burst as proposed, for rates whose burst is not the rate's.
    pub burst: Option<u64>,
    /// All keys.
    pub all: Spread,
    /// Keys of which the backend or the queue took mail.
    pub good: Spread,
    /// Keys that the present value touches, and the proposed one, by their peaks.
    pub touched: (usize, usize),
    /// Of these, good ones.
    pub good_touched: (usize, usize),
    /// The greediest keys: words, peak, whether good.
    pub greediest: Vec<(String, u64, bool)>,
}

/// Keys named in a proposal.
const GREEDIEST: usize = 10;

/// Makes a proposal for every limit of the policy.
pub fn propose(policy: &Policy, ledger: &Ledger, basis: &Basis) -> Vec<Proposal> {
    let empty = LimitDemand::default();
    let demand = |i: usize| ledger.limits.get(i).unwrap_or(&empty);
    policy.limits.iter().enumerate().map(|(i, limit)| proposal(limit, demand(i), basis)).collect()
}

fn proposal(limit: &Limit, demand: &LimitDemand, basis: &Basis) -> Proposal {
    let mut all: Vec<u64> = demand.keys.values().filter(|k| k.total > 0).map(|k| k.peak).collect();
    let mut good: Vec<u64> = demand.keys.values().filter(|k| k.total > 0 && k.taken > 0).map(|k| k.peak).collect();
    all.sort_unstable();
    good.sort_unstable();
    let (now, burst_now) = match limit.bound {
        Bound::Rate(rate) => (rate.units, rate.burst),
        Bound::AtOnce(most) => (u64::from(most), u64::from(most)),
    };
    // Without a word on what became of the mail, everybody is good.
    let base = if good.is_empty() { &all } else { &good };
    let wanted = (!base.is_empty()).then(|| quantile(base, basis.quantile) as f64 * basis.headroom);
    let proposed = wanted.map(|w| nice(w.ceil().max(1.0) as u64));
    let burst = match (limit.bound, proposed) {
        (Bound::Rate(_), Some(units)) if burst_now != now => {
            // A burst keeps its proportion to the rate.
            Some(nice((units as f64 * burst_now as f64 / now as f64).ceil() as u64))
        }
        _ => None,
    };
    // A rate lets its burst pass at once; what touches a key is more than that in one period.
    let above = |peaks: &[u64], most: u64| peaks.iter().filter(|p| **p > most).count();
    let most = |value: Option<u64>, burst: u64| value.map_or(burst, |v| v.max(burst));
    let (then, after) = (now.max(burst_now), most(proposed, burst.or(proposed).unwrap_or(burst_now)));
    let mut greediest: Vec<_> = demand.keys.values().map(|k| (k.words.clone(), k.peak, k.taken > 0)).collect();
    greediest.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    greediest.truncate(GREEDIEST);
    Proposal {
        limit: limit.name.clone(),
        counts: limit.counts,
        shown: limit.shown.clone(),
        now,
        proposed,
        burst,
        all: spread(&all),
        good: spread(&good),
        touched: (above(&all, then), above(&all, after)),
        good_touched: (above(&good, then), above(&good, after)),
        greediest,
    }
}

fn spread(sorted: &[u64]) -> Spread {
    let at = |q: f64| if sorted.is_empty() { 0 } else { quantile(sorted, q) };
    Spread { keys: sorted.len(), p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) }
}

/// The smallest value that so large a share does not exceed.
fn quantile(sorted: &[u64], share: f64) -> u64 {
    let rank = (sorted.len() as f64 * share.clamp(0.0, 1.0)).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// Rounded up to 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6 or 8 times a power of ten.
fn nice(value: u64) -> u64 {
    const STEPS: [u64; 10] = [10, 12, 15, 20, 25, 30, 40, 50, 60, 80];
    if value <= 10 {
        return value.max(1);
    }
    let mut power = 1u64;
    while power.saturating_mul(100) < value {
        power = power.saturating_mul(10);
    }
    STEPS.iter().map(|s| s.saturating_mul(power)).find(|n| *n >= value).unwrap_or(power.saturating_mul(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_up_to_what_people_write() {
        for (value, expected) in [
            (0, 1),
            (3, 3),
            (10, 10),
            (11, 12),
            (13, 15),
            (61, 80),
            (81, 100),
            (100, 100),
            (101, 120),
            (999, 1000),
            (1001, 1200),
        ] {
            assert_eq!(nice(value), expected, "{value}");
        }
        assert!(nice(u64::MAX) > 1 << 60);
    }

    #[test]
    fn quantiles() {
        let sorted: Vec<u64> = (1..=1000).collect();
        assert_eq!((quantile(&sorted, 0.999), quantile(&sorted, 0.5), quantile(&sorted, 1.0)), (999, 500, 1000));
        assert_eq!(quantile(&[7], 0.5), 7);
        assert_eq!(spread(&[]), Spread::default());
    }
}
