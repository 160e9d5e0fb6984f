//! Conventions of names and units; what is written is read by the tools of Prometheus.

use super::*;
use crate::gateway::metrics::BATCHES;
use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

fn families() -> Vec<Family> {
    let observed = Observed { bounds: BATCHES, counts: vec![1; BATCHES.len() + 1], sum: 5_000_000_000 };
    vec![
        Family::info("gatepost_build", "The program.").number(&[("version", "1"), ("driver", "x")], 1.0),
        Family::counter("gatepost_messages", "Messages.")
            .count(&[("outcome", "a\"b\\c\nd")], 7)
            .count(&[("outcome", "")], 0),
        Family::counter("gatepost_core_busy", "Time.").unit(Unit::Seconds).number(&[("core", "0")], 1.5),
        Family::gauge("gatepost_connections", "Open.").number(&[], 3.0),
        Family::histogram("gatepost_commit", "Time.").unit(Unit::Seconds).observed(&[("log", "spool")], observed),
    ]
}

#[test]
fn samples_stand_under_their_names() {
    let text = openmetrics(families());
    for line in [
        "# TYPE gatepost_messages counter",
        "gatepost_messages_total{outcome=\"a\\\"b\\\\c\\nd\"} 7",
        "# UNIT gatepost_core_busy_seconds seconds",
        "gatepost_core_busy_seconds_total{core=\"0\"} 1.5",
        "gatepost_build_info{version=\"1\",driver=\"x\"} 1",
        "gatepost_connections 3.0",
        "gatepost_commit_seconds_bucket{le=\"+Inf\",log=\"spool\"} 12",
        "gatepost_commit_seconds_sum{log=\"spool\"} 5.0",
        "# EOF",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    let text = classic(families());
    assert!(text.contains("# TYPE gatepost_messages_total counter\n"), "{text}");
    assert!(
        text.contains("# TYPE gatepost_build_info gauge\n") && !text.contains("EOF") && !text.contains("UNIT"),
        "{text}"
    );
}

/// What holds for every family, here and of a running server.
pub fn conventions(text: &str) {
    let mut described: BTreeSet<String> = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
        let words: Vec<&str> = line.split(' ').collect();
        let (name, kind) = (words[2], words[3]);
        assert!(described.insert(name.to_owned()), "{name} is described twice");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
        assert!(name.starts_with("gatepost_") || name.starts_with("process_"), "{name}");
        assert!(!name.contains("milli") && !name.contains("_ms") && !name.contains("octets"), "{name}: base units");
        let help = text.lines().find_map(|l| l.strip_prefix(&format!("# HELP {name} "))).unwrap_or_default();
        assert!(help.len() > 4 && help.ends_with('.') && !help.ends_with(".."), "{name}: {help:?}");
        if kind == "counter" {
            assert!(!name.ends_with("_total"), "{name} has the suffix twice");
        }
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let known = |suffix: &str| name.strip_suffix(suffix).is_some_and(|base| described.contains(base));
        let found =
            described.contains(name) || ["_total", "_info", "_bucket", "_sum", "_count"].iter().any(|s| known(s));
        assert!(found, "{line} is described nowhere");
    }
}

#[test]
fn names_follow_the_conventions() {
    conventions(&openmetrics(families()));
}

#[test]
fn promtool_finds_nothing() {
    let there = Command::new("promtool").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("GATEPOST_REQUIRE_PEERS").is_none_or(|v| v != "1"), "missing peer: promtool");
        eprintln!("skipped: promtool is not here");
        return;
    }
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(classic(families()).as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success() && said.stdout.is_empty() && said.stderr.is_empty(), "{said:?}");
}

#[test]
fn the_grafana_dashboard_asks_for_what_there_is() {
    let dashboard: serde_json::Value = serde_json::from_str(GRAFANA).unwrap();
    let mut asked = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(panel["title"].as_str().is_some_and(|t| !t.is_empty()));
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            asked.extend(words.filter(|w| w.starts_with("gatepost_") || w.starts_with("process_")).map(str::to_owned));
        }
    }
    assert!(asked.len() > 15, "{asked:?}");
    let source = concat!(include_str!("../../gateway/observe.rs"), include_str!("../../gateway/process.rs"));
    for name in asked {
        let base = ["_bucket", "_sum", "_count", "_total", "_info", "_seconds", "_bytes", "_ratio"]
            .iter()
            .fold(name.clone(), |name, suffix| name.strip_suffix(suffix).map(str::to_owned).unwrap_or(name));
        assert!(source.contains(&format!("\"{base}\"")), "{name}: no family {base}");
    }
}
