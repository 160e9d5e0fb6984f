//! Results as a table for people: text, or Markdown for the README, with the ratios that are promised.
//!
//! How it fails: it does not; what was not measured is a dash.

use super::trial::Trial;
use super::{Measured, Row};
use std::fmt::Write as _;

/// One trial, while it runs.
pub fn line(trial: &Trial) -> String {
    if let Some(octets) = trial.memory_octets_per_connection {
        return format!("{} connections held, {octets:.0} octets each", trial.send.held_max);
    }
    let trouble = if trial.send.errors.is_empty() && trial.send.unknown + trial.send.not_sent == 0 {
        String::new()
    } else {
        format!(", {} without reply, {} not sent, {:?}", trial.send.unknown, trial.send.not_sent, trial.send.errors)
    };
    let lost = if trial.lost + trial.duplicated + trial.corrupted == 0 {
        String::new()
    } else {
        format!(", {} lost, {} twice, {} changed", trial.lost, trial.duplicated, trial.corrupted)
    };
    let limit = trial.send.harness_limit.as_ref().map_or(String::new(), |why| format!(" ({why})"));
    format!(
        "{:.0}/s, {:.1} us CPU each, p99 {:.1} ms{lost}{trouble}{limit}",
        trial.send.messages_per_s, trial.server_cpu_us_per_message, trial.send.latency.p99_ms
    )
}

const COLUMNS: usize = 12;

const HEAD: [&str; COLUMNS] = [
    "job",
    "server",
    "per second",
    "CPU µs each",
    "system calls each",
    "syncs each",
    "switches each",
    "memory MiB",
    "p50 / p99 ms",
    "lost",
    "octets per connection",
    "note",
];

fn cells(row: &Row) -> [String; COLUMNS] {
    let held = row.memory_octets.is_some();
    let none = || "–".to_owned();
    [
        row.what.clone(),
        row.peer.clone(),
        if held {
            none()
        } else {
            format!("{:.0} ({:.0}–{:.0})", row.rate_per_s.median, row.rate_per_s.low, row.rate_per_s.high)
        },
        if held || row.peer == "direct" {
            none()
        } else {
            format!("{:.1} ({:.1}–{:.1})", row.cpu_us.median, row.cpu_us.low, row.cpu_us.high)
        },
        row.syscalls.map_or_else(none, |n| format!("{n:.1}")),
        row.syncs.map_or_else(none, |n| format!("{n:.2}")),
        row.context_switches.map_or_else(none, |n| format!("{n:.1}")),
        if row.memory_octets_peak == 0 {
            none()
        } else {
            format!("{:.1}", row.memory_octets_peak as f64 / 1_048_576.0)
        },
        if held { none() } else { format!("{:.1} / {:.1}", row.latency_ms.0, row.latency_ms.1) },
        if held { none() } else { row.lost.to_string() },
        row.memory_octets.map_or_else(none, |m| format!("{:.0}", m.median)),
        row.harness_limit.clone().map_or_else(String::new, |why| format!("harness limit: {why}")),
    ]
}

/// The gateway against each other server at the same work, medians of the same run.
pub fn ratios(measured: &Measured) -> Vec<String> {
    let mut lines = Vec::new();
    for gate in measured.rows.iter().filter(|r| r.peer == "gatepost") {
        for other in measured.rows.iter().filter(|r| r.what == gate.what && r.peer != "gatepost" && r.peer != "direct")
        {
            let mut parts = Vec::new();
            let mut part = |name: &str, ours: f64, theirs: f64| {
                if ours > 0.0 && theirs > 0.0 {
                    parts.push(format!("{:.2}x the {name}", ours / theirs));
                }
            };
            part("rate", gate.rate_per_s.median, other.rate_per_s.median);
            part("CPU each", gate.cpu_us.median, other.cpu_us.median);
            part("system calls", gate.syscalls.unwrap_or_default(), other.syscalls.unwrap_or_default());
            let memory = |r: &Row| r.memory_octets.map_or(0.0, |m| m.median);
            part("memory per connection", memory(gate), memory(other));
            if !parts.is_empty() {
                lines.push(format!("{}: gatepost has {} of {}", gate.what, parts.join(", "), other.peer));
            }
        }
    }
    lines
}

fn heading(measured: &Measured) -> String {
    format!(
        "{}; servers on {} core(s), messages of {}, {} x {} s each, in turns; median (lowest–highest)",
        measured.machine, measured.server_cores, measured.size, measured.rounds, measured.seconds
    )
}

/// For the README.
pub fn markdown(measured: &Measured) -> String {
    let mut out = format!("{}.\n\n| {} |\n|{}\n", heading(measured), HEAD.join(" | "), " --- |".repeat(HEAD.len()));
    measured.rows.iter().for_each(|row| {
        // Writing to a String does not fail.
        let _ = writeln!(out, "| {} |", cells(row).join(" | "));
    });
    out.push('\n');
    ratios(measured).iter().chain(&measured.skipped).for_each(|l| {
        let _ = writeln!(out, "- {l}");
    });
    stores(measured, out)
}

fn stores(measured: &Measured, mut out: String) -> String {
    if let Some(found) = &measured.mailstore {
        out.push('\n');
        out.push_str(&crate::mailstore::table(found));
    }
    out
}

/// For a terminal.
pub fn text(measured: &Measured) -> String {
    let rows: Vec<[String; COLUMNS]> =
        std::iter::once(HEAD.map(str::to_owned)).chain(measured.rows.iter().map(cells)).collect();
    let width = |n: usize| rows.iter().map(|r| r[n].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut out = heading(measured) + "\n\n";
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(out, "{cell:<width$}  ");
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out.push('\n');
    ratios(measured).iter().chain(&measured.skipped).for_each(|l| {
        let _ = writeln!(out, "{l}");
    });
    stores(measured, out)
}

#[cfg(test)]
mod tests {
    use super::super::Spread;
    use super::*;

    fn row(peer: &str, rate: f64, cpu: f64, note: Option<&str>) -> Row {
        let spread = |n: f64| Spread { median: n, low: n, high: n };
        Row {
            what: "cut-through".into(),
            peer: peer.into(),
            version: None,
            syncs: Some(0.5),
            context_switches: None,
            memory_octets_peak: 3 << 20,
            lost: 0,
            duplicated: 0,
            rate_per_s: spread(rate),
            cpu_us: spread(cpu),
            syscalls: Some(cpu / 10.0),
            memory_octets: None,
            latency_ms: (1.0, 2.0),
            harness_limit: note.map(str::to_owned),
            trials: Vec::new(),
        }
    }

    #[test]
    fn the_table_quotes_ratios_of_one_run() {
        let measured = Measured {
            machine: "a machine".into(),
            date: "2026-01-01".into(),
            mailstore: None,
            server_cores: 1,
            rounds: 3,
            seconds: 5.0,
            size: "10KiB".into(),
            rows: vec![row("gatepost", 300.0, 50.0, None), row("postfix", 100.0, 2000.0, Some("too slow"))],
            skipped: vec!["skipped: cut-through haproxy: haproxy not found".into()],
        };
        let text = markdown(&measured);
        assert!(
            text.contains("| cut-through | gatepost | 300 (300–300) | 50.0 (50.0–50.0) | 5.0 | 0.50 | – | 3.0 | 1.0 / 2.0 | 0 | – |  |"),
            "{text}"
        );
        assert!(text.contains("harness limit: too slow"), "{text}");
        assert!(
            text.contains(
                "- cut-through: gatepost has 3.00x the rate, 0.03x the CPU each, 0.03x the system calls of postfix"
            ),
            "{text}"
        );
        assert!(text.contains("- skipped: cut-through haproxy"), "{text}");
        assert!(super::text(&measured).contains("postfix"));
    }
}
