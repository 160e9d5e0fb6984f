//! The outcome of a replay as one page for a browser: no network, no script, plots as SVG.
//!
//! How it fails: it does not; what senders wrote is escaped.

use super::Outcome;
use super::report::by_weight;
use crate::base::time::WallTime;
use crate::control::table::visible;
use crate::policy::replay::{Bucket, Touched};
use std::fmt::Write;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--line:#d0d7de;--then:#8c959f;--now:#0969da;--strict:#cf222e;--lax:#1a7f37}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--line:#30363d;--then:#8b949e;--now:#58a6ff;--strict:#ff7b72;--lax:#3fb950}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}th,td{border-bottom:1px solid var(--line);padding:.25rem .6rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.strict{color:var(--strict)}.lax{color:var(--lax)}small{opacity:.75}svg{width:100%;height:auto}
.key span{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em}details{margin:.2rem 0}code{font-size:.9em}";

/// The page: every policy in its turn, and all of them beside each other where there are several.
pub fn page(outcomes: &[Outcome]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Policy replay</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n\
         <h1>Policy replay</h1>\n"
    );
    let beside = super::report::comparison(outcomes);
    if !beside.is_empty() {
        out += &format!("<pre>{}</pre>\n", escape_lines(&beside));
    }
    outcomes.iter().for_each(|outcome| out += &section(outcome));
    out + "</body></html>\n"
}

fn section(outcome: &Outcome) -> String {
    let (diff, counts) = (&outcome.diff, &outcome.counts);
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<p><code>{}</code>, version <code>{}</code>: {} sessions of {} runs.</p>",
        escape(&outcome.policy),
        escape(&outcome.version),
        counts.sessions,
        counts.runs
    );
    let rows = [
        ("messages that pass", diff.messages_then, diff.messages_now),
        ("recipients that pass", diff.recipients_then, diff.recipients_now),
    ];
    out +=
        "<table><tr><th></th><th class=\"n\">then</th><th class=\"n\">now</th><th class=\"n\">difference</th></tr>\n";
    for (name, then, now) in rows {
        let delta = now as i64 - then as i64;
        let class = match delta {
            0 => "n",
            d if d < 0 => "n strict",
            _ => "n lax",
        };
        let _ = writeln!(
            out,
            "<tr><td>{name}</td><td class=\"n\">{then}</td><td class=\"n\">{now}</td><td class=\"{class}\">{delta:+}</td></tr>"
        );
    }
    let _ = writeln!(
        out,
        "</table><p>{} of {} decisions are the same, {} change their verdict, {} are not reached any more. \
         {} messages that were delivered then are stopped. {} lines of the journal were not read.</p>",
        diff.same,
        diff.decisions,
        diff.verdicts_changed,
        diff.not_reached,
        diff.messages_delivered_stopped,
        counts.unread()
    );
    let then_now = [("then", "var(--then)"), ("now", "var(--now)")];
    out += &plot(outcome, "Messages that pass", then_now, |b| [b.messages_then, b.messages_now]);
    out += &plot(outcome, "Refusals", then_now, |b| [b.refused_then, b.refused_now]);
    let both = [("stricter", "var(--strict)"), ("laxer", "var(--lax)")];
    out += &plot(outcome, "Changed verdicts", both, |b| [b.tightened, b.loosened]);
    out += &changes(outcome);
    out += &touched("Stricter for", &diff.tightened, outcome.top);
    out += &touched("Laxer for", &diff.loosened, outcome.top);
    if !diff.doubts.is_empty() {
        out += "<h2>Undecided</h2><p>The journal does not tell the fact, so the rule may have decided otherwise.</p>\
                <table><tr><th class=\"n\">decisions</th><th>rule</th><th>fact</th></tr>\n";
        for ((rule, fact), count) in &diff.doubts {
            let _ = writeln!(
                out,
                "<tr><td class=\"n\">{count}</td><td>{}</td><td>{}</td></tr>",
                escape(rule),
                escape(fact)
            );
        }
        out += "</table>";
    }
    out
}

/// Size of a plot in its own units.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 24.0;

/// Two lines over time.
fn plot(outcome: &Outcome, title: &str, keys: [(&str, &str); 2], values: fn(&Bucket) -> [u64; 2]) -> String {
    let timeline = &outcome.diff.timeline;
    let buckets = timeline.buckets();
    let most = buckets.iter().flat_map(values).max().unwrap_or(0);
    let mut out = format!("<h2>{title}</h2>");
    if most == 0 {
        return out + "<p>None.</p>\n";
    }
    let x = |i: usize| LEFT + (WIDTH - LEFT) * i as f64 / buckets.len().max(1) as f64;
    let y = |n: u64| (HEIGHT - BOTTOM) * (1.0 - n as f64 / most as f64) + 6.0;
    let minutes = timeline.width_ms() / 60_000;
    let _ = write!(
        out,
        "<p class=\"key\"><small>in {minutes} minutes</small><span style=\"background:{}\"></span>{}\
         <span style=\"background:{}\"></span>{}</p><svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{title}\">",
        keys[0].1,
        keys[0].0,
        keys[1].1,
        keys[1].0,
        HEIGHT + 10.0
    );
    for share in [0.0, 0.5, 1.0] {
        let value = (most as f64 * share).round() as u64;
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"var(--line)\"/>\
             <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\" font-size=\"12\" fill=\"currentColor\">{value}</text>",
            y(value),
            LEFT - 6.0,
            y(value) + 4.0
        );
    }
    for i in (0..buckets.len()).step_by(buckets.len().div_ceil(6).max(1)) {
        let at = WallTime::from_millis(timeline.start_ms() + i as u64 * timeline.width_ms()).rfc3339();
        let label = at.get(5..16).unwrap_or_default().replace('T', " ");
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"12\" fill=\"currentColor\">{label}</text>",
            x(i),
            HEIGHT + 6.0
        );
    }
    for (line, (_, colour)) in keys.iter().enumerate() {
        let mut points = String::new();
        for (i, bucket) in buckets.iter().enumerate() {
            // Steps, so that a single bucket can be seen too.
            let level = y(values(bucket)[line]);
            let _ = write!(points, "{:.1},{level:.1} {:.1},{level:.1} ", x(i), x(i + 1));
        }
        let _ = write!(out, "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\"/>");
    }
    out + "</svg>\n"
}

fn changes(outcome: &Outcome) -> String {
    let flows = by_weight(outcome);
    if flows.is_empty() {
        return "<h2>Changes</h2><p>None.</p>\n".to_owned();
    }
    let mut out = String::from(
        "<h2>Changes</h2><table><tr><th class=\"n\">times</th><th>what</th><th>stage</th><th>then</th><th>now</th></tr>\n",
    );
    for (flow, tally) in flows {
        let class = match flow.change.word() {
            "tightened" => "strict",
            "loosened" => "lax",
            _ => "",
        };
        let _ = write!(
            out,
            "<tr><td class=\"n\">{}</td><td class=\"{class}\">{}</td><td>{}</td><td>{} <code>{}</code></td><td>{} <code>{}</code>\
             <details><summary><small>examples</small></summary>",
            tally.count,
            flow.change.word(),
            flow.stage,
            escape(&flow.then.0),
            escape(&flow.then.1),
            escape(&flow.now.0),
            escape(&flow.now.1)
        );
        for e in &tally.examples {
            let _ = write!(
                out,
                "<p><small>{} {} {} {} &lt;{}&gt; → &lt;{}&gt;<br>{} {}</small></p>",
                WallTime::from_millis(e.at_ms),
                escape(&e.session),
                escape(&e.client),
                escape(&e.helo),
                escape(&e.sender),
                escape(&e.rcpt),
                escape(if e.now.is_empty() { &e.then } else { &e.now }),
                escape(&e.reason)
            );
        }
        out += "</details></td></tr>\n";
    }
    out + "</table>\n"
}

fn touched(title: &str, touched: &Touched, n: usize) -> String {
    let mut out = String::new();
    for (top, what) in
        [(&touched.clients, "clients"), (&touched.senders, "senders"), (&touched.recipients, "recipients")]
    {
        if top.is_empty() {
            continue;
        }
        let _ = writeln!(out, "<h2>{title} {} {what}</h2><table>", top.len());
        for (key, count) in top.first(n) {
            let _ = writeln!(out, "<tr><td class=\"n\">{count}</td><td>{}</td></tr>", escape(key));
        }
        out += "</table>";
    }
    out
}

fn escape_lines(text: &str) -> String {
    text.lines().map(|line| escape(line) + "\n").collect()
}

fn escape(text: &str) -> String {
    visible(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
