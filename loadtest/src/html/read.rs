//! Results of every kind, read into one shape: curves of latency, lines over time, numbers with their spread, errors.
//!
//! How it fails: JSON that is none of our results is an error that lists what was expected.

use serde_json::Value;
use std::collections::BTreeMap;

/// Latency of one kind of client: share of all that is faster, and milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Whose.
    pub name: String,
    /// Of whom it is a step or command; the whole stands by itself.
    pub part_of: Option<String>,
    /// Points, by growing share.
    pub points: Vec<(f64, f64)>,
}

/// Something over time, or over the rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What.
    pub name: String,
    /// Which chart it belongs to.
    pub group: &'static str,
    /// Points, by growing x.
    pub points: Vec<(f64, f64)>,
}

/// Servers side by side at one job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bars {
    /// What the bars say, with its unit.
    pub title: String,
    /// The job.
    pub job: String,
    /// Each server with its value.
    pub bars: Vec<(String, f64)>,
}

/// One result.
#[derive(Clone, Debug, Default)]
pub struct Doc {
    /// What the reader calls it: the file's name.
    pub label: String,
    /// What was measured.
    pub title: String,
    /// Where.
    pub machine: Option<String>,
    /// Latency.
    pub curves: Vec<Curve>,
    /// Over time.
    pub lines: Vec<Line>,
    /// Servers side by side: charts of bars, each with its title, unit and bars.
    pub bars: Vec<Bars>,
    /// Every number, once for each run.
    pub numbers: BTreeMap<String, Vec<f64>>,
    /// What went wrong, and how often.
    pub errors: BTreeMap<String, f64>,
    /// Expectations: text, whether it held, what was found.
    pub verdicts: Vec<(String, bool, String)>,
    /// What the reader must know before believing any of it.
    pub notes: Vec<String>,
    /// What was not measured, and why.
    pub left_out: Vec<String>,
}

/// Reads a result.
pub fn doc(label: &str, value: &Value) -> Result<Doc, String> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut doc = Doc { label: label.to_owned(), machine: text("machine"), ..Doc::default() };
    if value.get("scenario").is_some() {
        doc.title = text("title").unwrap_or_default();
        scenario(&mut doc, value);
    } else if let Some(rows) = value.get("rows").and_then(Value::as_array) {
        doc.title = "Servers side by side".into();
        rows.iter().for_each(|row| measured(&mut doc, row));
        if let Some(found) = value.get("mailstore").filter(|m| m.is_object()) {
            mailstores(&mut doc, found);
        }
        for why in value.get("skipped").and_then(Value::as_array).into_iter().flatten() {
            doc.left_out.extend(why.as_str().map(str::to_owned));
        }
    } else if value.get("stores").is_some() {
        doc.title = "Mailstores side by side".into();
        mailstores(&mut doc, value);
    } else if value.get("points").is_some() && value.get("capacity").is_some() {
        doc.title = format!("Capacity: {}", text("title").unwrap_or_default());
        capacity(&mut doc, value);
    } else if value.get("latency").is_some() {
        doc.title = text("kind").or(text("loop_kind")).unwrap_or_default();
        client(&mut doc, "", value);
    } else {
        return Err("expected a result of send, read, attack, scenario, capacity, compare or mailstore".into());
    }
    Ok(doc)
}

impl Doc {
    fn number(&mut self, name: &str, value: Option<f64>) {
        if let Some(value) = value.filter(|v| v.is_finite()) {
            self.numbers.entry(name.to_owned()).or_default().push(value);
        }
    }
    fn bar(&mut self, title: &str, job: &str, server: &str, value: Option<f64>) {
        let Some(value) = value.filter(|v| v.is_finite()) else { return };
        let bar = (server.to_owned(), value);
        match self.bars.iter_mut().find(|b| b.title == title && b.job == job) {
            Some(known) => known.bars.push(bar),
            None => self.bars.push(Bars { title: title.to_owned(), job: job.to_owned(), bars: vec![bar] }),
        }
    }
    fn curve(&mut self, name: &str, part_of: Option<&str>, quantiles: &Value) {
        let points = points_of(quantiles);
        if !points.is_empty() {
            self.curves.push(Curve { name: name.to_owned(), part_of: part_of.map(str::to_owned), points });
        }
    }
}

/// Points of a histogram, when the result has them, else its quantiles.
fn points_of(quantiles: &Value) -> Vec<(f64, f64)> {
    let number = |key: &str| quantiles.get(key).and_then(Value::as_f64);
    let count = number("count").unwrap_or(0.0);
    if count <= 0.0 {
        return Vec::new();
    }
    if let Some(list) = quantiles.get("points").and_then(Value::as_array) {
        let pair = |p: &Value| Some((p.get(0)?.as_f64()?, p.get(1)?.as_f64()?));
        return list.iter().filter_map(pair).collect();
    }
    // Beyond one in as many as there were, a quantile is only the maximum again.
    let known = [("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99), ("p999_ms", 0.999)];
    let mut points: Vec<(f64, f64)> = known
        .into_iter()
        .filter(|(_, share)| (1.0 - share) * count >= 1.0 || *share <= 0.5)
        .filter_map(|(key, share)| Some((share, number(key)?)))
        .collect();
    points.extend(number("max_ms").map(|ms| (1.0 - 0.5 / count, ms)));
    points
}

fn client(doc: &mut Doc, name: &str, report: &Value) {
    let titled = |what: &str| if name.is_empty() { what.to_owned() } else { format!("{name}: {what}") };
    let number = |path: &str| path.split('.').try_fold(report, |v, key| v.get(key)).and_then(Value::as_f64);
    for (what, path) in [
        ("messages per second", "messages_per_s"),
        ("sessions per second", "sessions_per_s"),
        ("p50, ms", "latency.p50_ms"),
        ("p90, ms", "latency.p90_ms"),
        ("p99, ms", "latency.p99_ms"),
        ("p99.9, ms", "latency.p999_ms"),
        ("longest, ms", "latency.max_ms"),
        ("refused", "refused"),
        ("CPU of the clients, s", "cpu_s"),
    ] {
        doc.number(&titled(what), number(path));
    }
    let whole = if name.is_empty() { "latency" } else { name };
    doc.curve(whole, None, report.get("latency").unwrap_or(&Value::Null));
    for list in ["commands", "phases"] {
        let Some(commands) = report.get(list).and_then(Value::as_object) else { continue };
        for (command, quantiles) in commands {
            doc.curve(command, Some(whole), quantiles);
            doc.number(&titled(&format!("{command} p99, ms")), quantiles.get("p99_ms").and_then(Value::as_f64));
        }
    }
    for (list, what) in [("errors", "error"), ("replies", "reply")] {
        for (kind, n) in report.get(list).and_then(Value::as_object).into_iter().flatten() {
            *doc.errors.entry(titled(&format!("{what} {kind}"))).or_insert(0.0) += n.as_f64().unwrap_or(0.0);
        }
    }
    // A sender counts by itself what ended in each second, from when it began.
    let begins = number("begins_s").unwrap_or(0.0);
    let seconds = report.get("seconds").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (group, key) in
        [("Rate, per second", "accepted"), ("Refused, per second", "refused"), ("p99 in each second, ms", "p99_ms")]
    {
        let value = |(n, second): (usize, &Value)| Some((begins + n as f64, second.get(key)?.as_f64()?));
        let points: Vec<(f64, f64)> = seconds.iter().enumerate().filter_map(value).collect();
        if points.iter().any(|(_, value)| *value > 0.0) {
            let name = if name.is_empty() { "sender" } else { name };
            doc.lines.push(Line { name: name.to_owned(), group, points });
        }
    }
    if let Some(why) = report.get("harness_limit").and_then(Value::as_str) {
        let note = format!("{}: {why}", titled("the harness was the limit"));
        if !doc.notes.contains(&note) {
            doc.notes.push(note);
        }
    }
}

fn scenario(doc: &mut Doc, value: &Value) {
    let trials = value.get("trials").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (n, trial) in trials.iter().enumerate() {
        let (curves, lines) = (doc.curves.len(), doc.lines.len());
        for (name, report) in trial.get("clients").and_then(Value::as_object).into_iter().flatten() {
            client(doc, name, report);
        }
        // Curves and lines of the last run only; several on top of each other are not read by anybody.
        if n + 1 < trials.len() {
            doc.curves.truncate(curves);
            doc.lines.truncate(lines);
        } else {
            timeline(doc, trial);
        }
        let server = |key: &str| trial.get("server").and_then(|s| s.get(key)).and_then(Value::as_f64);
        doc.number("server: CPU, s", server("cpu_s"));
        doc.number("server: memory at most, MiB", server("memory_octets_max").map(|o| o / 1_048_576.0));
        doc.number("server: restarts", server("restarts"));
        for key in ["accepted", "lost", "duplicated", "corrupted_messages", "reordered_messages"] {
            let found = trial.get("ledger").and_then(|l| l.get(key)).and_then(Value::as_f64);
            doc.number(&format!("ledger: {}", key.replace('_', " ")), found);
        }
    }
    for v in value.get("verdicts").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| v.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let passed = v.get("passed").and_then(Value::as_bool).unwrap_or(false);
        doc.verdicts.push((text("text"), passed, text("found")));
    }
}

fn timeline(doc: &mut Doc, trial: &Value) {
    let mut lines: BTreeMap<(&'static str, String), Vec<(f64, f64)>> = BTreeMap::new();
    for sample in trial.get("timeline").and_then(Value::as_array).into_iter().flatten() {
        let Some(at) = sample.get("at_s").and_then(Value::as_f64) else { continue };
        let mut add = |group: &'static str, name: &str, value: Option<f64>| {
            if let Some(value) = value {
                lines.entry((group, name.to_owned())).or_default().push((at, value));
            }
        };
        let number = |key: &str| sample.get(key).and_then(Value::as_f64);
        add("Server CPU, cores", "server", number("server_cpu"));
        add("Server memory, MiB", "server", number("server_memory_octets").map(|o| o / 1_048_576.0));
        // Who has counted its own seconds has done so better.
        let counted = |name: &str| trial.get("clients").and_then(|c| c.get(name)?.get("seconds")).is_some();
        let points = sample.get("clients").and_then(Value::as_object).into_iter().flatten();
        for (name, point) in points.filter(|(name, _)| !counted(name)) {
            let of = |key: &str| point.get(key).and_then(Value::as_f64);
            add("Rate, per second", name, of("done_per_s"));
            add("Errors, per second", name, of("errors_per_s"));
        }
    }
    // What never happened needs no picture.
    lines.retain(|_, points| points.iter().any(|(_, value)| *value > 0.0));
    doc.lines.extend(lines.into_iter().map(|((group, name), points)| Line { name, group, points }));
}

fn capacity(doc: &mut Doc, value: &Value) {
    doc.number("capacity, per second", value.get("capacity").and_then(Value::as_f64));
    if let Some(why) = value.get("at_least").and_then(Value::as_str) {
        doc.notes.push(format!("the capacity is at least that: {why}"));
    }
    let mut tried: Vec<&Value> = value.get("points").and_then(Value::as_array).into_iter().flatten().collect();
    let number = |p: &Value, key: &str| p.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    tried.sort_by(|a, b| number(a, "rate").total_cmp(&number(b, "rate")));
    for (group, name, key) in [
        ("Latency by rate, ms", "p50", "p50_ms"),
        ("Latency by rate, ms", "p99", "p99_ms"),
        ("Server CPU by rate, cores", "server", "server_cpu"),
        ("Rate reached by rate asked for", "reached", "reached"),
    ] {
        let points = tried.iter().map(|p| (number(p, "rate"), number(p, key))).collect();
        doc.lines.push(Line { name: name.to_owned(), group, points });
    }
    for p in &tried {
        let held = p.get("held").and_then(Value::as_bool).unwrap_or(false);
        let why = p.get("why").and_then(Value::as_str).unwrap_or_default();
        let limit = p.get("harness_limit").and_then(Value::as_str).map(|l| format!("; the harness was late: {l}"));
        let rate = format!("{} per second", super::chart::short(number(p, "rate")));
        doc.verdicts.push((rate, held, format!("{why}{}", limit.unwrap_or_default())));
    }
}

/// A row of `compare`: each trial is a value, so that the spread comes from them.
fn measured(doc: &mut Doc, row: &Value) {
    let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
    let (job, peer) = (text("what"), text("peer"));
    let name = format!("{job} {peer}");
    for trial in row.get("trials").and_then(Value::as_array).into_iter().flatten() {
        let number = |path: &str| path.split('.').try_fold(trial, |v, key| v.get(key)).and_then(Value::as_f64);
        doc.number(&format!("{name}: messages per second"), number("send.messages_per_s"));
        doc.number(&format!("{name}: server CPU per message, µs"), number("server_cpu_us_per_message"));
        doc.number(&format!("{name}: context switches per message"), number("context_switches_per_message"));
        doc.number(&format!("{name}: p99, ms"), number("send.latency.p99_ms"));
    }
    let number = |path: &str| path.split('.').try_fold(row, |v, key| v.get(key)).and_then(Value::as_f64);
    doc.number(&format!("{name}: system calls per message"), number("syscalls"));
    doc.number(&format!("{name}: syncs per message"), number("syncs"));
    doc.number(&format!("{name}: lost"), number("lost"));
    let held = number("memory_octets.median").map(|o| o / 1024.0);
    doc.number(&format!("{name}: memory of a connection, KiB"), held);
    if held.is_some() {
        doc.bar("Memory of an idle connection, KiB", &job, &peer, held);
    } else {
        doc.bar("Messages per second", &job, &peer, number("rate_per_s.median"));
        // The harness itself has no server whose time could be shown.
        doc.bar("Server CPU per message, µs", &job, &peer, number("cpu_us.median").filter(|us| *us > 0.0));
    }
    let trials = row.get("trials").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let latency = |t: &Value| t.get("send").and_then(|s| s.get("latency")).cloned();
    // A kept result has the distribution of its middle trial only.
    let whole = |l: &Value| l.get("points").and_then(Value::as_array).is_some_and(|p| !p.is_empty());
    let all: Vec<Value> = trials.iter().filter_map(latency).collect();
    if held.is_none()
        && let Some(latency) = all.iter().find(|l| whole(l)).or(all.last())
    {
        doc.curve(&peer, Some(&job), latency);
    }
    if let Some(why) = row.get("harness_limit").and_then(Value::as_str) {
        doc.notes.push(format!("{name}: the harness was the limit: {why}"));
    }
}

/// Figures of mailstores: a chart of bars for each of the rates and times, numbers for all.
fn mailstores(doc: &mut Doc, value: &Value) {
    for store in value.get("stores").and_then(Value::as_array).into_iter().flatten() {
        let name = store.get(0).and_then(Value::as_str).unwrap_or("?");
        for figure in store.get(1).and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| figure.get(key).and_then(Value::as_str).unwrap_or_default();
            let (job, unit, value) = (text("job"), text("unit"), figure.get("value").and_then(Value::as_f64));
            doc.number(&format!("{name}: {job}, {unit}"), value);
            if let Some(job) = job.strip_suffix(", CPU") {
                doc.bar("Mailstore: server CPU, ms", job, name, value);
            } else if let Some(job) = job.strip_suffix(", time") {
                doc.bar("Mailstore: time, ms", job, name, value);
            }
        }
    }
    for why in value.get("skipped").and_then(Value::as_array).into_iter().flatten() {
        doc.left_out.extend(why.as_str().map(str::to_owned).filter(|w| !doc.left_out.contains(w)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_scenario_of_two_runs_has_a_spread_and_one_set_of_curves() {
        let run = |p50: f64| {
            json!({
                "clients": {"good": {"latency": {"count": 5000, "p50_ms": p50, "p90_ms": 2.0, "p99_ms": 3.0, "p999_ms": 4.0, "max_ms": 9.0},
                                     "errors": {"timed out": 2}, "messages_per_s": 10.0,
                                     "begins_s": 4.0, "seconds": [{"accepted": 9, "refused": 0}, {"accepted": 11, "refused": 0}]}},
                "server": {"cpu_s": 1.0, "memory_octets_max": 1048576, "restarts": 0},
                "ledger": {"lost": 0},
                "timeline": [{"at_s": 0.0, "server_cpu": 0.1, "server_memory_octets": 5}, {"at_s": 0.5, "server_cpu": 0.2, "server_memory_octets": 5}]
            })
        };
        let value = json!({"scenario": "x", "title": "T", "machine": "m", "trials": [run(1.0), run(1.5)],
                           "verdicts": [{"text": "lost = 0", "passed": true, "found": "lost 0"}]});
        let doc = doc("a", &value).unwrap();
        assert_eq!(doc.numbers["good: p50, ms"], [1.0, 1.5]);
        assert_eq!((doc.curves.len(), doc.curves[0].points.len()), (1, 5));
        assert_eq!(doc.errors["good: error timed out"], 4.0);
        assert_eq!(doc.lines.iter().find(|l| l.group == "Server CPU, cores").unwrap().points, [(0.0, 0.1), (0.5, 0.2)]);
        let rates: Vec<_> = doc.lines.iter().filter(|l| l.group.contains("per second")).collect();
        assert_eq!((rates.len(), &rates[0].points), (1, &vec![(4.0, 9.0), (5.0, 11.0)]));
        assert!(doc.verdicts[0].1 && doc.machine.as_deref() == Some("m"));
    }

    #[test]
    fn few_values_have_no_far_quantiles() {
        let q = json!({"count": 50, "p50_ms": 1.0, "p90_ms": 2.0, "p99_ms": 3.0, "p999_ms": 3.0, "max_ms": 3.0});
        assert_eq!(points_of(&q), [(0.5, 1.0), (0.9, 2.0), (0.99, 3.0)]);
        let own = json!({"count": 50, "points": [[0.5, 1.0], [0.75, 1.5]]});
        assert_eq!(points_of(&own), [(0.5, 1.0), (0.75, 1.5)]);
        assert!(points_of(&json!({"count": 0, "p50_ms": 0.0})).is_empty());
    }

    #[test]
    fn servers_stand_side_by_side() {
        let trial = |rate: f64, points: Value| {
            json!({"send": {"messages_per_s": rate, "latency": {"count": 100, "p50_ms": 1.0, "p99_ms": 2.0, "max_ms": 3.0, "points": points}},
                   "server_cpu_us_per_message": 50.0})
        };
        let row = |peer: &str, rate: f64| {
            json!({"what": "spool", "peer": peer, "rate_per_s": {"median": rate}, "cpu_us": {"median": 50.0}, "syscalls": 9.0,
                   "syncs": 0.1, "lost": 0, "trials": [trial(rate, json!([])), trial(rate, json!([[0.5, 1.0], [0.9, 2.0]]))]})
        };
        let figure = json!({"job": "IMAP SELECT, CPU", "value": 0.07, "unit": "ms"});
        let value = json!({"machine": "m", "rows": [row("gatepost", 900.0), row("exim", 90.0)], "skipped": ["skipped: stalwart: no"],
                           "mailstore": {"stores": [["gatepost", [figure]], ["dovecot-maildir", [figure]]], "skipped": []}});
        let doc = doc("a", &value).unwrap();
        let titles: Vec<_> = doc.bars.iter().map(|b| (b.title.as_str(), b.job.as_str(), b.bars.len())).collect();
        assert_eq!(
            titles,
            [
                ("Messages per second", "spool", 2),
                ("Server CPU per message, µs", "spool", 2),
                ("Mailstore: server CPU, ms", "IMAP SELECT", 2)
            ]
        );
        assert_eq!(doc.bars[0].bars[1], ("exim".to_owned(), 90.0));
        assert_eq!((doc.curves[0].part_of.as_deref(), doc.curves[0].points.len()), (Some("spool"), 2));
        assert_eq!(doc.left_out, ["skipped: stalwart: no"]);
        assert_eq!(doc.numbers["spool exim: syncs per message"], [0.1]);
        let alone =
            super::doc("b", &json!({"machine": "m", "messages": 5, "stores": [["gatepost", [figure]]], "skipped": []}));
        assert_eq!(alone.unwrap().bars[0].job, "IMAP SELECT");
    }

    #[test]
    fn what_is_no_result_is_told() {
        assert!(doc("a", &json!({"hello": 1})).unwrap_err().contains("expected a result"));
        assert!(doc("a", &json!([1])).is_err());
    }
}
