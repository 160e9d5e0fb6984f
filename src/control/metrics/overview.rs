//! Everything in numbers for the dashboard and `gatepost top`, as one JSON value. Counters only grow; whoever draws makes
//! rates of their differences.
//!
//! How it fails: it does not; a family that is not measured is an empty part.

use crate::gateway::admin::{Decided, Status};
use crate::gateway::metrics::view::{Family, Unit, Value as Number};
use crate::gateway::recent::Recent;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// Rules, clients and destinations in each list at most.
const TOP: usize = 20;
/// Series of verdicts at most, those with most decisions first.
const VERDICTS_MAX: usize = 200;
/// Refusals that the lists of clients and rules are made of.
const REFUSALS_LOOKED_AT: usize = 2000;

/// The value, from what was measured and what happened lately.
pub fn overview(at_ms: u64, status: &Status, families: &[Family], recent: &Recent) -> Value {
    let of = |name: &str| families.iter().find(|family| family.name == name);
    let by = |name: &str, label: &str| by_label(of(name), label);
    let sum = |name: &str| of(name).map_or(0.0, |family| family.sum(&[]));
    let refusals = recent.latest(REFUSALS_LOOKED_AT, |d| !matches!(d.verdict.as_str(), "accept" | "discard"));
    json!({
        "at_ms": at_ms,
        "status": status,
        "sessions": by("gatepost_sessions", "service"),
        "connections_refused": by("gatepost_connections_refused", "reason"),
        "messages": by("gatepost_messages", "outcome"),
        "received": by("gatepost_received", "peer"),
        "sent": by("gatepost_sent", "peer"),
        "logins": by("gatepost_logins", "result"),
        "lookups": by("gatepost_lookups", "source"),
        "verdicts": verdicts(of("gatepost_verdicts")),
        "limits": by("gatepost_limit_hits", "limit"),
        "latency": {
            "reply": merged(of("gatepost_message_reply")),
            "backend": merged(of("gatepost_backend_answer")),
            "commit": merged(of("gatepost_commit")),
            "sync": merged(of("gatepost_sync")),
            "turn": merged(of("gatepost_core_turn")),
        },
        "batch": merged(of("gatepost_commit_batch")),
        "queue": {
            "states": by("gatepost_queue_messages", "state"),
            "octets": sum("gatepost_queue_size"),
            "destinations": destinations(of("gatepost_queue_destination_messages"), of("gatepost_queue_destination_oldest_age")),
            "ages": by("gatepost_queue_age_messages", "age"),
        },
        "backends": backends(families),
        "backend_connections": by("gatepost_backend_connections", "state"),
        "jobs_waiting": sum("gatepost_backend_jobs_waiting"),
        "cores": cores(families),
        "memory": by("gatepost_memory", "consumer"),
        "process": {
            "resident": sum("process_resident_memory"),
            "cpu_seconds": sum("process_cpu"),
            "open_fds": sum("process_open_fds"),
            "max_fds": sum("process_max_fds"),
        },
        "mailboxes": { "messages": sum("gatepost_mailbox_messages"), "octets": sum("gatepost_mailbox_size"),
            "delivered": sum("gatepost_mailbox_deliveries") },
        "journal_lost": sum("gatepost_journal_lost_lines"),
        "missed": recent.missed(),
        "top": { "clients": most(&refusals, |d| &d.client), "rules": most(&refusals, |d| &d.rule),
            "recipients": most(&refusals, |d| &d.recipient) },
    })
}

fn label<'a>(labels: &'a [(&'static str, String)], name: &str) -> &'a str {
    labels.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
}

fn by_label(family: Option<&Family>, name: &str) -> Value {
    let mut sums: Map<String, Value> = Map::new();
    for sample in family.map_or(&[][..], |family| &family.samples) {
        let key = label(&sample.labels, name).to_owned();
        let before = sums.get(&key).and_then(Value::as_f64).unwrap_or_default();
        sums.insert(key, json!(before + sample.value.number()));
    }
    Value::Object(sums)
}

/// A histogram over all series: bounds in seconds where it is of times.
fn merged(family: Option<&Family>) -> Value {
    let Some(family) = family else { return Value::Null };
    let scale = if family.unit == Unit::Seconds { 1e9 } else { 1.0 };
    let mut all: Option<crate::gateway::metrics::Observed> = None;
    for sample in &family.samples {
        if let Number::Histogram(observed) = &sample.value {
            match &mut all {
                Some(all) => all.merge(observed),
                None => all = Some(observed.clone()),
            }
        }
    }
    all.map_or(Value::Null, |all| {
        let bounds: Vec<f64> = all.bounds.iter().map(|bound| *bound as f64 / scale).collect();
        json!({ "bounds": bounds, "counts": all.counts, "sum": all.sum as f64 / scale })
    })
}

fn verdicts(family: Option<&Family>) -> Value {
    let mut all: Vec<(u64, Value)> = Vec::new();
    for sample in family.map_or(&[][..], |family| &family.samples) {
        let of = |name| label(&sample.labels, name);
        let n = sample.value.number() as u64;
        all.push((n, json!({ "stage": of("stage"), "rule": of("rule"), "verdict": of("verdict"), "count": n })));
    }
    all.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    all.truncate(VERDICTS_MAX);
    all.into_iter().map(|(_, value)| value).collect()
}

fn destinations(messages: Option<&Family>, ages: Option<&Family>) -> Value {
    let samples = messages.map_or(&[][..], |family| &family.samples);
    let row = |sample: &crate::gateway::metrics::view::Sample| {
        let name = label(&sample.labels, "destination");
        let oldest = ages.map_or(0.0, |family| family.sum(&[("destination", name)]));
        json!({ "name": name, "messages": sample.value.number(), "oldest_s": oldest })
    };
    samples.iter().map(row).collect()
}

fn backends(families: &[Family]) -> Value {
    let of = |name: &str| families.iter().find(|family| family.name == name);
    let Some(answers) = of("gatepost_backend_answers") else { return json!([]) };
    let row = |sample: &crate::gateway::metrics::view::Sample| {
        let (pool, backend) = (label(&sample.labels, "pool"), label(&sample.labels, "backend"));
        let labels = [("pool", pool), ("backend", backend)];
        let sum = |name: &str| of(name).map_or(0.0, |family| family.sum(&labels));
        let known = of("gatepost_backend_up").is_some_and(|f| {
            f.samples.iter().any(|s| label(&s.labels, "backend") == backend && label(&s.labels, "pool") == pool)
        });
        let time = of("gatepost_backend_answer").map(|family| {
            let samples = family
                .samples
                .iter()
                .filter(|s| label(&s.labels, "backend") == backend && label(&s.labels, "pool") == pool);
            Family { samples: samples.cloned().collect(), ..family.clone() }
        });
        json!({
            "pool": pool,
            "backend": backend,
            "up": if known { json!(sum("gatepost_backend_up") > 0.0) } else { Value::Null },
            "answers": sample.value.number(),
            "failures": sum("gatepost_backend_failures"),
            "connects": sum("gatepost_backend_connects"),
            "time": merged(time.as_ref()),
        })
    };
    answers.samples.iter().map(row).collect()
}

fn cores(families: &[Family]) -> Value {
    let of = |name: &str| families.iter().find(|family| family.name == name);
    let Some(busy) = of("gatepost_core_busy") else { return json!([]) };
    let row = |sample: &crate::gateway::metrics::view::Sample| {
        let core = label(&sample.labels, "core");
        let sum = |name: &str| of(name).map_or(0.0, |family| family.sum(&[("core", core)]));
        json!({
            "core": core,
            "busy_s": sample.value.number(),
            "turns": sum("gatepost_core_turns"),
            "events": sum("gatepost_core_events"),
            "connections": sum("gatepost_core_connections"),
        })
    };
    busy.samples.iter().map(row).collect()
}

/// What occurs most often among refusals.
fn most(refusals: &[Arc<Decided>], key: impl Fn(&Decided) -> &str) -> Value {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for refusal in refusals {
        let key = key(refusal);
        if !key.is_empty() {
            *counts.entry(key).or_default() += 1;
        }
    }
    let mut all: Vec<(&str, u64)> = counts.into_iter().collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    all.truncate(TOP);
    all.into_iter().map(|(name, n)| json!({ "name": name, "count": n })).collect()
}
