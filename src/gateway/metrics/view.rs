//! Measures as they are shown: families with samples, in the manner of OpenMetrics, whatever writes them out.
//!
//! How it fails: it does not.

use super::Observed;

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total` where it is written out.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
    /// Words about the server; always 1.
    Info,
}

/// The unit, the last word of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things: no word.
    None,
    /// `_seconds`
    Seconds,
    /// `_bytes`
    Bytes,
    /// `_ratio`
    Ratio,
}

/// One measure with all its series.
#[derive(Clone, Debug)]
pub struct Family {
    /// Its name without unit and `_total`.
    pub name: &'static str,
    /// What it is.
    pub help: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// Its kind.
    pub kind: Kind,
    /// Its series.
    pub samples: Vec<Sample>,
}

/// One series.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: Value,
}

/// A number or a histogram.
#[derive(Clone, Debug)]
pub enum Value {
    /// Of a counter that counts things or octets.
    Count(u64),
    /// Of a gauge, or of a counter of seconds.
    Number(f64),
    /// Of a histogram; bounds and sum are nanoseconds where the unit is seconds.
    Histogram(Observed),
}

impl Value {
    /// As one number: a histogram's is how many values it has.
    pub fn number(&self) -> f64 {
        match self {
            Value::Count(n) => *n as f64,
            Value::Number(n) => *n,
            Value::Histogram(h) => h.count() as f64,
        }
    }
}

impl Family {
    /// A counter.
    pub fn counter(name: &'static str, help: &'static str) -> Family {
        Family { name, help, unit: Unit::None, kind: Kind::Counter, samples: Vec::new() }
    }
    /// A gauge.
    pub fn gauge(name: &'static str, help: &'static str) -> Family {
        Family { kind: Kind::Gauge, ..Family::counter(name, help) }
    }
    /// A histogram.
    pub fn histogram(name: &'static str, help: &'static str) -> Family {
        Family { kind: Kind::Histogram, ..Family::counter(name, help) }
    }
    /// Words.
    pub fn info(name: &'static str, help: &'static str) -> Family {
        Family { kind: Kind::Info, ..Family::counter(name, help) }
    }
    /// The same with a unit.
    pub fn unit(self, unit: Unit) -> Family {
        Family { unit, ..self }
    }
    /// The same with a series of a counter.
    pub fn count(self, labels: &[(&'static str, &str)], n: u64) -> Family {
        self.with(labels, Value::Count(n))
    }
    /// The same with a series.
    pub fn number(self, labels: &[(&'static str, &str)], n: f64) -> Family {
        self.with(labels, Value::Number(n))
    }
    /// The same with a series of a histogram.
    pub fn observed(self, labels: &[(&'static str, &str)], observed: Observed) -> Family {
        self.with(labels, Value::Histogram(observed))
    }

    fn with(mut self, labels: &[(&'static str, &str)], value: Value) -> Family {
        let labels = labels.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        self.samples.push(Sample { labels, value });
        self
    }

    /// The whole name, as it is written for Prometheus.
    pub fn full_name(&self) -> String {
        let unit = match self.unit {
            Unit::None => "",
            Unit::Seconds => "_seconds",
            Unit::Bytes => "_bytes",
            Unit::Ratio => "_ratio",
        };
        let end = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{}{unit}{end}", self.name)
    }

    /// Sum of the series whose labels have these values.
    pub fn sum(&self, labels: &[(&str, &str)]) -> f64 {
        let fits =
            |s: &&Sample| labels.iter().all(|(n, v)| s.labels.iter().any(|(name, value)| name == n && value == v));
        self.samples.iter().filter(fits).map(|s| s.value.number()).sum()
    }
}
