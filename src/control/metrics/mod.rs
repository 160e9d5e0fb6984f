//! Measures written out: OpenMetrics for Prometheus by its own client library, the older text format for whoever asks for
//! it, and the numbers of the dashboard.
//!
//! How it fails: writing to a string does not; a family that could not be written would leave its place empty.

mod overview;
#[cfg(test)]
mod tests;

pub use overview::overview;

use crate::gateway::metrics::Observed;
use crate::gateway::metrics::view::{Family, Kind, Sample, Unit, Value};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit as RegistryUnit};
use std::fmt;

/// The media type of OpenMetrics.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The media type of the older format.
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The dashboard for Grafana that fits these names.
pub const GRAFANA: &str = include_str!("grafana.json");

/// Families that were measured, for the registry to write.
#[derive(Debug)]
struct Measured(Vec<Family>);

impl Collector for Measured {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.iter().try_for_each(|family| encode_family(family, &mut encoder))
    }
}

fn encode_family(family: &Family, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let unit = match family.unit {
        Unit::None => None,
        Unit::Seconds => Some(RegistryUnit::Seconds),
        Unit::Bytes => Some(RegistryUnit::Bytes),
        Unit::Ratio => Some(RegistryUnit::Other("ratio".into())),
    };
    let kind = match family.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
        Kind::Info => MetricType::Info,
    };
    let mut metric = encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
    for Sample { labels, value } in &family.samples {
        // The library writes values as they are.
        let labels: Vec<(&str, String)> = labels.iter().map(|(name, text)| (*name, escaped(text))).collect();
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let labels = labels.as_slice();
        match family.kind {
            Kind::Info => metric.encode_info(&labels)?,
            // Without labels there are no braces either.
            _ if labels.is_empty() => return encode_value(family, value, metric),
            _ => encode_value(family, value, metric.encode_family(&labels)?)?,
        }
    }
    Ok(())
}

/// A label's value as it stands between quotes.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn encode_value(family: &Family, value: &Value, mut place: MetricEncoder<'_>) -> Result<(), fmt::Error> {
    match (family.kind, value) {
        (_, Value::Histogram(observed)) => {
            let (sum, buckets) = scaled(observed, family.unit);
            place.encode_histogram::<[(&str, &str); 0]>(sum, observed.count(), &buckets, None)
        }
        (Kind::Counter, Value::Count(n)) => ConstCounter::new(*n).encode(place),
        (Kind::Counter, other) => ConstCounter::new(other.number()).encode(place),
        (_, other) => ConstGauge::new(other.number()).encode(place),
    }
}

/// The sum and the buckets in the unit of the family: times are measured in nanoseconds.
fn scaled(observed: &Observed, unit: Unit) -> (f64, Vec<(f64, u64)>) {
    let scale = if unit == Unit::Seconds { 1e9 } else { 1.0 };
    let bounds = observed.bounds.iter().map(|bound| *bound as f64 / scale).chain([f64::MAX]);
    (observed.sum as f64 / scale, bounds.zip(observed.counts.iter().copied()).collect())
}

/// OpenMetrics.
pub fn openmetrics(families: Vec<Family>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Measured(families)));
    let mut out = String::with_capacity(64 * 1024);
    // Writing to a string cannot fail.
    let _ = text::encode(&mut out, &registry);
    out
}

/// The older format: the same, with the suffixes of samples in the names that describe them, and nothing it does not know.
pub fn classic(families: Vec<Family>) -> String {
    let names: Vec<(String, String, Kind)> =
        families.iter().map(|family| (described_name(family), family.full_name(), family.kind)).collect();
    let mut out = String::with_capacity(64 * 1024);
    for line in openmetrics(families).lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("UNIT"), ..) | (Some("#"), Some("EOF"), ..) => {}
            (Some("#"), Some(what), Some(name), Some(rest)) => {
                let found = names.iter().find(|(described, ..)| described == name);
                let full = found.map_or(name, |(_, full, _)| full);
                // It has no type for words.
                let rest = if what == "TYPE" && rest == "info" { "gauge" } else { rest };
                out.push_str(&format!("# {what} {full} {rest}\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

/// The name in the lines that describe a family: without `_total` and `_info`.
fn described_name(family: &Family) -> String {
    let full = family.full_name();
    let end = match family.kind {
        Kind::Counter => "_total",
        Kind::Info => "_info",
        Kind::Gauge | Kind::Histogram => "",
    };
    full.strip_suffix(end).unwrap_or(&full).to_owned()
}
