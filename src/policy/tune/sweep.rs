//! Scores and thresholds from mail whose outcome is known: how well the sum of points tells spam from ham, at which
//! threshold, and which points would tell it better.
//!
//! Two thirds of the samples are looked at to choose, the last third to say what the choice is worth on mail it has not
//! seen. How it fails: without both spam and ham there is nothing to tell apart, and no proposal.

use std::collections::{BTreeMap, HashMap};

/// Samples that are kept; of more, an even part.
pub const SAMPLES_MAX: usize = 200_000;
/// What a ham refused weighs against a spam passed, unless told otherwise.
pub const HAM_WEIGHT: f64 = 100.0;
/// Rounds over all rules.
const ROUNDS_MAX: usize = 10;
/// What a rule's points are tried with, in percent of what they are.
const TRIED_PERCENT: [i64; 9] = [100, 0, 25, 50, 75, 125, 150, 200, 300];
/// Points of one curve that are shown.
const CURVE_POINTS: usize = 40;

/// A message whose outcome is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What its reader thinks.
    pub spam: bool,
    /// Points by rule, in thousandths.
    pub points: Vec<(u32, i64)>,
}

impl Sample {
    fn total(&self, percent: &HashMap<u32, i64>) -> i64 {
        let scaled = |(rule, points): &(u32, i64)| points.saturating_mul(*percent.get(rule).unwrap_or(&100)) / 100;
        self.points.iter().map(scaled).fold(0, i64::saturating_add)
    }
}

/// A threshold and what it would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// In thousandths; reached by sums that are as high.
    pub threshold: i64,
    /// Spam that reaches it.
    pub spam: u64,
    /// Ham that reaches it.
    pub ham: u64,
}

/// How sums of points tell spam from ham.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Curve {
    /// All spam.
    pub spam: u64,
    /// All ham.
    pub ham: u64,
    /// From the highest threshold to the lowest.
    pub points: Vec<Point>,
}

impl Curve {
    /// The curve of samples, with the points of rules at these percentages.
    fn of<'s>(samples: impl Iterator<Item = &'s Sample>, percent: &HashMap<u32, i64>) -> Curve {
        let mut sums: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
        let mut curve = Curve::default();
        for sample in samples {
            let at = sums.entry(sample.total(percent)).or_default();
            match sample.spam {
                true => (at.0, curve.spam) = (at.0 + 1, curve.spam + 1),
                false => (at.1, curve.ham) = (at.1 + 1, curve.ham + 1),
            }
        }
        let (mut spam, mut ham) = (0, 0);
        for (threshold, (s, h)) in sums.into_iter().rev() {
            (spam, ham) = (spam + s, ham + h);
            curve.points.push(Point { threshold, spam, ham });
        }
        curve
    }
    /// The lowest threshold above nothing that touches at most so large a share of ham.
    pub fn best(&self, ham_share: f64) -> Option<Point> {
        let most = (self.ham as f64 * ham_share).floor() as u64;
        self.points.iter().copied().rfind(|p| p.threshold > 0 && p.ham <= most)
    }
    /// What a threshold does.
    pub fn at(&self, threshold: i64) -> Point {
        let reached = self.points.iter().take_while(|p| p.threshold >= threshold).last();
        Point { threshold, ..reached.copied().unwrap_or_default() }
    }
    /// The curve in a number of points that people can look at; the ends stay.
    pub fn shown(&self) -> Vec<Point> {
        let step = self.points.len().div_ceil(CURVE_POINTS).max(1);
        let last = self.points.len().saturating_sub(1);
        self.points.iter().enumerate().filter(|(i, _)| i % step == 0 || *i == last).map(|(_, p)| *p).collect()
    }
}

/// What is proposed for one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Index of the rule.
    pub rule: u32,
    /// Spam it added points to, and ham.
    pub hits: (u64, u64),
    /// Its points in percent of what they are.
    pub percent: i64,
}

/// What came of a sweep.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Swept {
    /// The points as they are, on all samples.
    pub now: Curve,
    /// On the samples that were not looked at: as they are, and as proposed.
    pub unseen: (Curve, Curve),
    /// Rules by index.
    pub weights: Vec<Weight>,
}

/// Looks for points that tell better at this threshold.
pub fn sweep(samples: &[Sample], threshold: i64, ham_weight: f64) -> Swept {
    let as_is = HashMap::new();
    // Scattered, since mail may come in a pattern; and the same each time.
    let put_aside = |i: usize| ((i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % 3 == 2;
    let seen: Vec<&Sample> = samples.iter().enumerate().filter(|(i, _)| !put_aside(*i)).map(|(_, s)| s).collect();
    let unseen = || samples.iter().enumerate().filter(|(i, _)| put_aside(*i)).map(|(_, s)| s);
    let mut by_rule: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (i, sample) in seen.iter().enumerate() {
        for (rule, _) in &sample.points {
            let of = by_rule.entry(*rule).or_default();
            if of.last() != Some(&i) {
                of.push(i);
            }
        }
    }
    let now = Curve::of(samples.iter(), &as_is);
    let mut percent: HashMap<u32, i64> = HashMap::new();
    if now.spam > 0 && now.ham > 0 {
        descend(&seen, &by_rule, threshold, ham_weight, &mut percent);
    }
    let hits = |rule: u32| {
        let mut hits = (0, 0);
        for sample in samples.iter().filter(|s| s.points.iter().any(|(r, _)| *r == rule)) {
            if sample.spam { hits.0 += 1 } else { hits.1 += 1 }
        }
        hits
    };
    let weights =
        by_rule.keys().map(|r| Weight { rule: *r, hits: hits(*r), percent: *percent.get(r).unwrap_or(&100) }).collect();
    Swept { now, unseen: (Curve::of(unseen(), &as_is), Curve::of(unseen(), &percent)), weights }
}

/// One rule after the other gets the points with which the fewest samples are on the wrong side; again, until nothing
/// changes. A change must be worth more than the noise of one sample.
fn descend(
    seen: &[&Sample],
    by_rule: &BTreeMap<u32, Vec<usize>>,
    threshold: i64,
    ham_weight: f64,
    percent: &mut HashMap<u32, i64>,
) {
    let cost_of = |sample: &Sample, total: i64| match (sample.spam, total >= threshold) {
        (true, false) => 1.0,
        (false, true) => ham_weight,
        _ => 0.0,
    };
    let mut totals: Vec<i64> = seen.iter().map(|s| s.total(percent)).collect();
    for _ in 0..ROUNDS_MAX {
        let mut changed = false;
        for (rule, of) in by_rule {
            let points = |sample: &Sample, percent: i64| {
                let own = sample.points.iter().filter(|(r, _)| r == rule).map(|(_, p)| p.saturating_mul(percent) / 100);
                own.fold(0, i64::saturating_add)
            };
            let present = *percent.get(rule).unwrap_or(&100);
            let cost = |tried: i64| -> f64 {
                let moved = |i: &usize| {
                    let total = totals[*i] - points(seen[*i], present) + points(seen[*i], tried);
                    cost_of(seen[*i], total)
                };
                of.iter().map(moved).sum()
            };
            let stays = cost(present);
            let best =
                TRIED_PERCENT.iter().copied().map(|tried| (cost(tried), tried)).min_by(|a, b| a.0.total_cmp(&b.0));
            if let Some((less, tried)) = best.filter(|(less, tried)| *tried != present && *less + 1.5 < stays) {
                debug_assert!(less < stays);
                for i in of {
                    totals[*i] += points(seen[*i], tried) - points(seen[*i], present);
                }
                percent.insert(*rule, tried);
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule 0 is right, rule 1 adds to ham as often as to spam, rule 2 adds too little.
    fn samples() -> Vec<Sample> {
        (0..900)
            .map(|i| {
                let spam = i % 3 == 0;
                let mut points = Vec::new();
                if spam && i % 2 == 0 {
                    points.push((0, 6000));
                }
                if i % 7 == 0 {
                    points.push((1, 5000));
                }
                if spam && i % 5 != 0 {
                    points.push((2, 2000));
                }
                Sample { spam, points }
            })
            .collect()
    }

    #[test]
    fn the_curve_counts_from_above() {
        let curve = Curve::of(samples().iter(), &HashMap::new());
        assert_eq!((curve.spam, curve.ham), (300, 600));
        assert!(curve.points.windows(2).all(|p| p[0].threshold > p[1].threshold && p[0].spam <= p[1].spam));
        let last = curve.points.last().unwrap();
        assert_eq!((last.spam, last.ham), (300, 600));
        // 5 points alone are the ham that rule 1 hits; above it there is none.
        let none = curve.best(0.0).unwrap();
        assert_eq!(
            (none.threshold, none.ham, curve.at(5001), curve.at(none.threshold)),
            (6000, 0, Point { threshold: 5001, ..none }, none)
        );
        assert!(curve.best(0.2).unwrap().ham > 0 && curve.best(0.2).unwrap().spam > none.spam);
        assert_eq!(Curve::default().best(0.5), None);
        assert!(curve.shown().len() <= CURVE_POINTS + 1);
    }

    #[test]
    fn points_move_to_where_they_tell_better_on_mail_not_looked_at() {
        let samples = samples();
        let swept = sweep(&samples, 5000, 10.0);
        let percent = |rule| swept.weights.iter().find(|w| w.rule == rule).unwrap().percent;
        assert!(percent(1) < 100 && percent(2) > 100 && percent(0) >= 100, "{:?}", swept.weights);
        let (before, after) = (swept.unseen.0.at(5000), swept.unseen.1.at(5000));
        assert!(after.ham < before.ham && after.spam > before.spam, "{before:?} {after:?}");
        assert_eq!(swept.weights[1].hits.0 + swept.weights[1].hits.1, 129);
        // Only spam: nothing to tell apart, nothing proposed.
        let spam: Vec<Sample> = samples.into_iter().filter(|s| s.spam).collect();
        assert!(sweep(&spam, 5000, 10.0).weights.iter().all(|w| w.percent == 100));
    }
}
