//! When messages of an open loop are due: evenly or at random (Poisson), at a steady rate or along a curve.
//!
//! Arrivals are made in work time, where one message is due per unit on average, and bent to clock time by the curve's
//! integral; so any curve can be combined with either kind of randomness, and the mean rate is what was asked for. How it
//! fails: a curve that cannot be read is refused with its file, line and what was expected.

use crate::chance;
use fastrand::Rng;
use serde::Deserialize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Points and bursts of a curve at most.
const POINTS_MAX: usize = 100_000;
/// Highest rate a curve may ask for, per second.
const RATE_MAX: f64 = 10_000_000.0;

/// How messages follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spacing {
    /// One like the other.
    #[default]
    Constant,
    /// As independent senders do it: a Poisson process.
    Poisson,
}

impl std::str::FromStr for Spacing {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "constant" => Ok(Spacing::Constant),
            "poisson" => Ok(Spacing::Poisson),
            _ => Err(format!("expected constant or poisson, found {text:?}")),
        }
    }
}

/// How the arrivals of a run are made.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    /// Evenly or at random.
    pub spacing: Spacing,
    /// A rate that changes; steady without one.
    pub curve: Option<Arc<Curve>>,
    /// For the randomness.
    pub seed: u64,
}

/// A rate over time: straight lines between points.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    points: Vec<Point>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    at_s: f64,
    per_s: f64,
    /// Messages due before.
    before: f64,
}

/// The file, when it is TOML.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CurveFile {
    points: Vec<(f64, f64)>,
    #[serde(default)]
    burst: Vec<Burst>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Burst {
    at: f64,
    seconds: f64,
    add: f64,
}

/// Mail of a working day by hour, as a share of the mean: few at night, a peak when people come, another after lunch.
const DAY: [f64; 25] = [
    0.35, 0.28, 0.24, 0.22, 0.24, 0.32, 0.50, 0.85, 1.45, 1.90, 1.95, 1.80, 1.50, 1.55, 1.80, 1.75, 1.60, 1.35, 1.05,
    0.85, 0.75, 0.68, 0.55, 0.44, 0.35,
];
/// Newsletters go out on the hour: a minute of the day in which so many times the mean comes on top.
const DAY_BURSTS: [(f64, f64); 3] = [(7.0, 1.5), (10.0, 2.5), (17.0, 1.5)];

impl Curve {
    /// Through these points (seconds, messages per second), with bursts (start, seconds, messages per second on top).
    fn through(mut points: Vec<(f64, f64)>, bursts: &[Burst]) -> Result<Curve, String> {
        if points.len() < 2 || points.len() + bursts.len() > POINTS_MAX {
            return Err(format!("expected 2 to {POINTS_MAX} points, found {}", points.len()));
        }
        for (n, (at, rate)) in points.iter().enumerate() {
            if !at.is_finite() || !(0.0..=RATE_MAX).contains(rate) || *at < 0.0 || (n > 0 && *at < points[n - 1].0) {
                return Err(format!(
                    "point {}: expected seconds in rising order and a rate from 0 to {RATE_MAX}, found {at}, {rate}",
                    n + 1
                ));
            }
        }
        let start = points[0].0;
        points.iter_mut().for_each(|p| p.0 -= start);
        for (n, burst) in bursts.iter().enumerate() {
            let fits = burst.at >= 0.0 && burst.seconds > 0.0 && (0.0..=RATE_MAX).contains(&burst.add);
            if !fits || burst.at + burst.seconds > points[points.len() - 1].0 {
                return Err(format!("burst {}: expected at, seconds and add inside the curve", n + 1));
            }
            points = with_burst(&points, burst);
        }
        let mut curve = Curve { points: Vec::with_capacity(points.len()) };
        let mut before = 0.0;
        for (n, (at_s, per_s)) in points.iter().copied().enumerate() {
            if n > 0 {
                let last = points[n - 1];
                before += (at_s - last.0) * (per_s + last.1) / 2.0;
            }
            curve.points.push(Point { at_s, per_s, before });
        }
        if curve.messages() <= 0.0 { Err("the curve asks for no message at all".into()) } else { Ok(curve) }
    }

    /// A working day in `seconds`, with a mean of one message per second.
    pub fn day(seconds: f64) -> Curve {
        let hour = seconds / 24.0;
        let points = DAY.iter().enumerate().map(|(h, share)| (h as f64 * hour, *share)).collect();
        let burst = |(at, add): &(f64, f64)| Burst { at: at * hour, seconds: hour / 60.0, add: *add };
        let bursts: Vec<Burst> = DAY_BURSTS.iter().map(burst).collect();
        let curve = Curve::through(points, &bursts);
        // The table above is a valid curve for every positive length; anything else is a steady rate.
        let steady = Curve { points: vec![Point { at_s: 0.0, per_s: 1.0, before: 0.0 }] };
        curve.map_or(steady, |c| c.with_mean(1.0))
    }

    /// Reads TOML (`points = [[seconds, rate], …]`, `[[burst]]` with at, seconds, add) or CSV (`seconds,rate` lines).
    pub fn from_file(path: &Path) -> Result<Curve, String> {
        let named = |what: String| format!("curve {}: {what}", path.display());
        let text = std::fs::read_to_string(path).map_err(|e| named(e.to_string()))?;
        if path.extension().is_some_and(|e| e == "toml") {
            let file: CurveFile = toml::from_str(&text).map_err(|e| named(e.to_string()))?;
            return Curve::through(file.points, &file.burst).map_err(named);
        }
        let mut points = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            // A first line of words names the columns.
            if line.is_empty() || (points.is_empty() && line.starts_with(|c: char| c.is_ascii_alphabetic())) {
                continue;
            }
            let point = line.split_once(',').and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
            let wrong = || named(format!("line {}: expected \"seconds,rate\", found {line:?}", number + 1));
            points.push(point.ok_or_else(wrong)?);
        }
        Curve::through(points, &[]).map_err(named)
    }

    /// How long it is.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.points.last().map_or(0.0, |p| p.at_s))
    }

    /// How many messages it asks for.
    pub fn messages(&self) -> f64 {
        self.points.last().map_or(0.0, |p| p.before)
    }

    /// Messages per second, over all of it.
    pub fn mean(&self) -> f64 {
        self.messages() / self.duration().as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The same shape with this mean.
    pub fn with_mean(mut self, mean: f64) -> Curve {
        let factor = mean / self.mean();
        self.points.iter_mut().for_each(|p| {
            p.per_s *= factor;
            p.before *= factor;
        });
        self
    }

    /// When so many messages have been due; `None` beyond the end. `from` is a hint: the segment to begin the search
    /// with, moved along, since arrivals come in order.
    fn when(&self, due: f64, from: &mut usize) -> Option<f64> {
        while self.points.get(*from + 1)?.before <= due {
            *from += 1;
        }
        let (a, b) = (self.points[*from], self.points[*from + 1]);
        let left = due - a.before;
        let slope = (b.per_s - a.per_s) / (b.at_s - a.at_s);
        // left = a.per_s * t + slope * t² / 2, solved in the form that does not cancel.
        let root = (a.per_s * a.per_s + 2.0 * slope * left).max(0.0).sqrt();
        let t = 2.0 * left / (a.per_s + root);
        Some(if t.is_finite() { a.at_s + t } else { a.at_s })
    }
}

/// The points with a burst on top: a step up and a step down.
fn with_burst(points: &[(f64, f64)], burst: &Burst) -> Vec<(f64, f64)> {
    let (from, to) = (burst.at, burst.at + burst.seconds);
    let rate_at = |at: f64| {
        let next = points.partition_point(|p| p.0 <= at).min(points.len() - 1).max(1);
        let (a, b) = (points[next - 1], points[next]);
        if b.0 > a.0 { a.1 + (b.1 - a.1) * ((at - a.0) / (b.0 - a.0)).clamp(0.0, 1.0) } else { b.1 }
    };
    let mut out: Vec<(f64, f64)> = points.iter().copied().filter(|p| p.0 <= from).collect();
    out.extend([(from, rate_at(from)), (from, rate_at(from) + burst.add)]);
    out.extend(points.iter().copied().filter(|p| p.0 > from && p.0 < to).map(|(at, rate)| (at, rate + burst.add)));
    out.extend([(to, rate_at(to) + burst.add), (to, rate_at(to))]);
    out.extend(points.iter().copied().filter(|p| p.0 >= to));
    out
}

/// The times at which messages of one core are due, from 0 on, one after the other.
#[derive(Debug)]
pub(super) struct Times {
    spacing: Spacing,
    curve: Option<Arc<Curve>>,
    rng: Rng,
    /// Of all cores together.
    rate: f64,
    cores: f64,
    /// Work time of the next message.
    due: f64,
    segment: usize,
}

impl Times {
    /// Those of one of `cores` cores that share `rate`.
    pub fn new(arrivals: &Arrivals, rate: f64, core: usize, cores: usize) -> Times {
        let mut rng = chance::generator(arrivals.seed, core as u64 + 1);
        let cores = cores.max(1) as f64;
        // Evenly spaced cores take turns; independent ones are independent from the start.
        let due = match arrivals.spacing {
            Spacing::Constant => core as f64,
            Spacing::Poisson => chance::exponential(&mut rng) * cores,
        };
        Times { spacing: arrivals.spacing, curve: arrivals.curve.clone(), rng, rate, cores, due, segment: 0 }
    }

    /// The next one; `None` after the end of the curve.
    pub fn next(&mut self) -> Option<Duration> {
        let at = match &self.curve {
            None => self.due / self.rate,
            Some(curve) => curve.when(self.due, &mut self.segment)?,
        };
        self.due += match self.spacing {
            Spacing::Constant => self.cores,
            Spacing::Poisson => chance::exponential(&mut self.rng) * self.cores,
        };
        Duration::try_from_secs_f64(at).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(arrivals: &Arrivals, rate: f64, cores: usize, until_s: f64) -> Vec<f64> {
        let mut all: Vec<f64> = (0..cores)
            .flat_map(|core| {
                let mut times = Times::new(arrivals, rate, core, cores);
                std::iter::from_fn(move || times.next()).map(|d| d.as_secs_f64()).take_while(move |s| *s < until_s)
            })
            .collect();
        all.sort_by(f64::total_cmp);
        all
    }

    fn within(times: &[f64], from: f64, to: f64) -> usize {
        times.iter().filter(|t| (from..to).contains(*t)).count()
    }

    #[test]
    fn constant_arrivals_are_evenly_spaced_over_all_cores() {
        let times = all(&Arrivals::default(), 100.0, 3, 2.0);
        assert_eq!(times.len(), 200);
        assert!(times.windows(2).all(|w| (w[1] - w[0] - 0.01).abs() < 1e-6));
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_gaps_of_independent_senders() {
        let arrivals = Arrivals { spacing: Spacing::Poisson, seed: 5, ..Arrivals::default() };
        let times = all(&arrivals, 1000.0, 2, 50.0);
        assert!((49_000..51_000).contains(&times.len()), "{}", times.len());
        let gaps: Vec<f64> = times.windows(2).map(|w| w[1] - w[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "deviation and mean of an exponential are the same");
        assert_eq!(times, all(&arrivals, 1000.0, 2, 50.0), "the same seed gives the same run");
    }

    #[test]
    fn a_curve_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let csv = dir.path().join("c.csv");
        std::fs::write(&csv, "seconds,rate\n0,0\n10,200 # up\n10,50\n20,50\n").unwrap();
        let curve = Curve::from_file(&csv).unwrap();
        assert_eq!((curve.messages(), curve.mean(), curve.duration()), (1500.0, 75.0, Duration::from_secs(20)));
        for (spacing, slack) in [(Spacing::Constant, 3), (Spacing::Poisson, 120)] {
            let arrivals = Arrivals { spacing, curve: Some(Arc::new(curve.clone())), seed: 1 };
            let times = all(&arrivals, 0.0, 2, 1e9);
            assert!(times.len().abs_diff(1500) <= slack, "{}", times.len());
            assert!(within(&times, 0.0, 5.0).abs_diff(250) <= slack, "{}", within(&times, 0.0, 5.0));
            assert!(within(&times, 5.0, 10.0).abs_diff(750) <= slack);
            assert!(within(&times, 10.0, 20.0).abs_diff(500) <= slack);
        }
        let toml = dir.path().join("c.toml");
        std::fs::write(&toml, "points = [[0, 10], [100, 10]]\n[[burst]]\nat = 50\nseconds = 1\nadd = 500\n").unwrap();
        let curve = Curve::from_file(&toml).unwrap();
        assert!((curve.messages() - 1500.0).abs() < 1e-6);
        let times = all(&Arrivals { curve: Some(Arc::new(curve)), ..Arrivals::default() }, 0.0, 1, 1e9);
        assert!(within(&times, 50.0, 51.0).abs_diff(510) <= 2 && within(&times, 0.0, 50.0).abs_diff(500) <= 2);
    }

    #[test]
    fn a_day_has_its_mean_and_its_morning() {
        let day = Curve::day(600.0).with_mean(20.0);
        assert!((day.mean() - 20.0).abs() < 1e-9 && (day.messages() - 12_000.0).abs() < 1e-6);
        let times = all(&Arrivals { curve: Some(Arc::new(day)), ..Arrivals::default() }, 0.0, 1, 1e9);
        let hour = |h: f64| within(&times, h * 25.0, (h + 1.0) * 25.0);
        assert!(hour(9.0) > 6 * hour(3.0), "{} {}", hour(9.0), hour(3.0));
        assert!(within(&times, 250.0, 250.4) > 2 * within(&times, 251.0, 251.4), "a burst at ten o'clock");
    }

    #[test]
    fn what_is_no_curve_is_refused_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text, wanted) in [
            ("a.csv", "0,1\nten,5\n", "line 2: expected"),
            ("b.csv", "0,1\n", "expected 2 to"),
            ("c.csv", "5,1\n3,1\n", "point 2: expected seconds in rising order"),
            ("d.csv", "0,0\n3,0\n", "no message at all"),
            ("e.toml", "points = [[0, 1], [5, 1]]\nburts = 3\n", "unknown field"),
            ("f.toml", "points = [[0, 1], [5, 1]]\n[[burst]]\nat = 5\nseconds = 1\nadd = 1\n", "burst 1: expected"),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            let said = Curve::from_file(&path).unwrap_err();
            assert!(said.contains(wanted) && said.contains(name), "{said}");
        }
    }
}
