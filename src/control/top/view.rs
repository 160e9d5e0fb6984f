//! What `gatepost top` draws: two looks make rates, and the last minutes make a curve.
//!
//! How it fails: it does not; what a look does not tell is drawn as nothing.

use crate::base::knob::show_duration;
use crate::control::table::visible;
use ratatui::Frame;
use ratatui::backend::TestBackend;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table};
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;

/// Points of the curve.
const HISTORY: usize = 240;

/// Two looks and what was before.
#[derive(Default)]
pub struct Model {
    before: Value,
    now: Value,
    messages: VecDeque<u64>,
    pub paused: bool,
}

impl Model {
    /// A new look.
    pub fn look(&mut self, overview: Value) {
        self.before = std::mem::replace(&mut self.now, overview);
        if !self.before.is_null() {
            self.messages.push_back(self.rate_of(|o| sum(&o["messages"])).round() as u64);
            if self.messages.len() > HISTORY {
                self.messages.pop_front();
            }
        }
    }

    fn seconds(&self) -> f64 {
        let at = |o: &Value| o["at_ms"].as_f64().unwrap_or_default();
        (at(&self.now) - at(&self.before)) / 1000.0
    }

    /// Growth in a second.
    fn rate_of(&self, number: impl Fn(&Value) -> f64) -> f64 {
        let seconds = self.seconds();
        if self.before.is_null() || seconds <= 0.0 {
            0.0
        } else {
            (number(&self.now) - number(&self.before)).max(0.0) / seconds
        }
    }
}

fn sum(value: &Value) -> f64 {
    value.as_object().into_iter().flatten().filter_map(|(_, n)| n.as_f64()).sum()
}

fn verdicts(overview: &Value, words: &[&str]) -> f64 {
    let fits = |v: &&Value| v["verdict"].as_str().is_some_and(|word| words.contains(&word));
    overview["verdicts"].as_array().into_iter().flatten().filter(fits).filter_map(|v| v["count"].as_f64()).sum()
}

/// A number in four or five characters.
fn short(n: f64) -> String {
    match n {
        n if n >= 1e9 => format!("{:.1}G", n / 1e9),
        n if n >= 1e6 => format!("{:.1}M", n / 1e6),
        n if n >= 1e4 => format!("{:.0}k", n / 1e3),
        n if n >= 10.0 || n == n.trunc() => format!("{n:.0}"),
        n => format!("{n:.1}"),
    }
}

fn seconds(s: f64) -> String {
    if s.is_nan() || s <= 0.0 {
        return "–".into();
    }
    match s {
        s if s < 0.001 => format!("{:.0}µs", s * 1e6),
        s if s < 1.0 => format!("{:.1}ms", s * 1e3),
        s => format!("{s:.2}s"),
    }
}

/// The quantile of what a histogram has gained between two looks: the upper bound of its place.
fn quantile(before: &Value, now: &Value, q: f64) -> f64 {
    let counts =
        |h: &Value| -> Vec<f64> { h["counts"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect() };
    let (old, new) = (counts(before), counts(now));
    let gained: Vec<f64> = new.iter().enumerate().map(|(i, n)| n - old.get(i).copied().unwrap_or_default()).collect();
    let all: f64 = gained.iter().sum();
    if all <= 0.0 {
        return f64::NAN;
    }
    let mut seen = 0.0;
    for (i, n) in gained.iter().enumerate() {
        seen += n;
        if seen >= all * q {
            return now["bounds"][i].as_f64().unwrap_or(f64::INFINITY);
        }
    }
    f64::NAN
}

/// One look as text, without colours.
pub fn text(model: &Model, (width, height): (u16, u16)) -> String {
    let Ok(mut terminal) = ratatui::Terminal::new(TestBackend::new(width, height)) else { return String::new() };
    if terminal.draw(|frame| draw(frame, model)).is_err() {
        return String::new();
    }
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..height {
        let line: String =
            (0..width).filter_map(|x| buffer.cell((x, y)).map(|cell| cell.symbol().to_owned())).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, model: &Model) {
    let rows = Layout::vertical([
        Constraint::Length(4),
        Constraint::Length(6),
        Constraint::Min(8),
        Constraint::Min(7),
        Constraint::Length(1),
    ]);
    let [head, curve, middle, low, foot] = rows.areas(frame.area());
    frame.render_widget(Paragraph::new(summary(model)), head);
    let newest: Vec<u64> = model.messages.iter().rev().take(usize::from(curve.width)).rev().copied().collect();
    let title = format!(" messages a second (at most {}) ", newest.iter().max().copied().unwrap_or_default());
    frame.render_widget(
        Sparkline::default()
            .block(Block::default().borders(Borders::TOP).title(title))
            .data(&newest)
            .style(Style::new().fg(Color::Cyan)),
        curve,
    );
    let [left, right] = Layout::horizontal([Constraint::Percentage(58), Constraint::Percentage(42)]).areas(middle);
    rules(frame, model, left);
    backends(frame, model, right);
    let [left, centre, right] =
        Layout::horizontal([Constraint::Percentage(34), Constraint::Percentage(33), Constraint::Percentage(33)])
            .areas(low);
    top(frame, &model.now["top"]["clients"], " clients refused most ", left);
    queue(frame, model, centre);
    latency(frame, model, right);
    let keys = if model.paused { "paused · p goes on · q ends" } else { "q ends · p pauses" };
    frame.render_widget(Paragraph::new(keys).style(Style::new().add_modifier(Modifier::DIM)), foot);
}

fn summary(model: &Model) -> Vec<Line<'static>> {
    let status = &model.now["status"];
    let text = |key: &str| visible(status[key].as_str().unwrap_or_default());
    let number = |key: &str| status[key].as_f64().unwrap_or_default();
    let bold = |s: String| Span::styled(s, Style::new().add_modifier(Modifier::BOLD));
    let uptime = show_duration(Duration::from_secs(number("uptime_ms") as u64 / 1000));
    let draining = if status["draining"] == true { "  DRAINING" } else { "" };
    let cores = model.now["cores"].as_array().cloned().unwrap_or_default();
    let busy: Vec<String> = cores
        .iter()
        .enumerate()
        .map(|(i, _)| {
            format!("{:.0}%", model.rate_of(|o| o["cores"][i]["busy_s"].as_f64().unwrap_or_default()) * 100.0)
        })
        .collect();
    let refusals = |o: &Value| verdicts(o, &["reject", "defer", "drop"]);
    let messages = |o: &Value| sum(&o["messages"]);
    let octets = |key: &'static str| move |o: &Value| sum(&o[key]);
    vec![
        Line::from(vec![
            bold(format!("gatepost {}", text("version"))),
            format!("  {}  up {uptime}  policy {:.12}{draining}", text("driver"), text("policy_version")).into(),
        ]),
        Line::from(vec![
            "messages ".into(),
            bold(format!("{}/s", short(model.rate_of(messages)))),
            "  sessions ".into(),
            bold(format!("{}/s", short(model.rate_of(|o| sum(&o["sessions"]))))),
            "  refusals ".into(),
            bold(format!("{}/s", short(model.rate_of(refusals)))),
            format!(
                "  in {}B/s  out {}B/s",
                short(model.rate_of(octets("received"))),
                short(model.rate_of(octets("sent")))
            )
            .into(),
        ]),
        Line::from(vec![
            "connections ".into(),
            bold(short(number("connections"))),
            "  queue ".into(),
            bold(short(number("queued"))),
            format!("  memory {}B", short(number("memory_octets"))).into(),
            format!("  cores {}", busy.join(" ")).into(),
        ]),
    ]
}

fn block(title: &str) -> Block<'static> {
    Block::default().borders(Borders::TOP).title(title.to_owned())
}

fn head(words: &[&'static str]) -> Row<'static> {
    Row::new(words.iter().map(|word| Cell::from(*word)).collect::<Vec<_>>())
        .style(Style::new().add_modifier(Modifier::DIM))
}

fn rules(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let key = |v: &Value| (v["rule"].clone(), v["stage"].clone(), v["verdict"].clone());
    let before: std::collections::HashMap<_, _> = model.before["verdicts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|v| (format!("{:?}", key(v)), v["count"].as_f64().unwrap_or_default()))
        .collect();
    let seconds = model.seconds().max(0.001);
    let mut rows: Vec<(f64, f64, &Value)> = Vec::new();
    for v in model.now["verdicts"].as_array().into_iter().flatten() {
        let count = v["count"].as_f64().unwrap_or_default();
        let old = before.get(&format!("{:?}", key(v))).copied().unwrap_or_default();
        let rate = if model.before.is_null() { 0.0 } else { (count - old).max(0.0) / seconds };
        rows.push((rate, count, v));
    }
    rows.sort_by(|a, b| (b.0, b.1).partial_cmp(&(a.0, a.1)).unwrap_or(std::cmp::Ordering::Equal));
    let rows = rows.into_iter().take(usize::from(area.height)).map(|(rate, count, v)| {
        let text = |name: &str| visible(v[name].as_str().unwrap_or_default());
        let colour = match v["verdict"].as_str() {
            Some("accept" | "discard") => Color::Green,
            Some("defer") => Color::Yellow,
            _ => Color::Red,
        };
        Row::new(vec![
            Cell::from(short(rate)),
            Cell::from(short(count)),
            Cell::from(text("verdict")).style(Style::new().fg(colour)),
            Cell::from(text("stage")),
            Cell::from(text("rule")),
        ])
    });
    let widths = [
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Min(10),
    ];
    let table = Table::new(rows, widths).header(head(&["/s", "all", "verdict", "stage", "rule"]));
    frame.render_widget(table.block(block(" decisions by rule ")), area);
}

fn backends(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let all = model.now["backends"].as_array().cloned().unwrap_or_default();
    let rows = all.iter().enumerate().map(|(i, b)| {
        let (state, colour) = match b["up"].as_bool() {
            Some(true) => ("up", Color::Green),
            Some(false) => ("aside", Color::Red),
            None => ("", Color::Reset),
        };
        let p99 = quantile(&model.before["backends"][i]["time"], &b["time"], 0.99);
        let rate = model.rate_of(|o| o["backends"][i]["answers"].as_f64().unwrap_or_default());
        Row::new(vec![
            Cell::from(state).style(Style::new().fg(colour)),
            Cell::from(short(rate)),
            Cell::from(seconds(p99)),
            Cell::from(visible(b["backend"].as_str().unwrap_or_default())),
        ])
    });
    let widths = [Constraint::Length(6), Constraint::Length(6), Constraint::Length(8), Constraint::Min(10)];
    let table = Table::new(rows, widths).header(head(&["", "/s", "p99", "backend"]));
    frame.render_widget(table.block(block(" backends ")), area);
}

fn top(frame: &mut Frame<'_>, list: &Value, title: &str, area: Rect) {
    let rows = list.as_array().into_iter().flatten().map(|row| {
        Row::new(vec![
            short(row["count"].as_f64().unwrap_or_default()),
            visible(row["name"].as_str().unwrap_or_default()),
        ])
    });
    let table = Table::new(rows, [Constraint::Length(6), Constraint::Min(10)]);
    frame.render_widget(table.block(block(title)), area);
}

fn queue(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let all = model.now["queue"]["destinations"].as_array();
    let rows = all.into_iter().flatten().map(|d| {
        let age = show_duration(Duration::from_secs(d["oldest_s"].as_f64().unwrap_or_default() as u64));
        Row::new(vec![
            short(d["messages"].as_f64().unwrap_or_default()),
            age,
            visible(d["name"].as_str().unwrap_or_default()),
        ])
    });
    let widths = [Constraint::Length(6), Constraint::Length(9), Constraint::Min(10)];
    frame.render_widget(Table::new(rows, widths).block(block(" queue: messages, oldest, destination ")), area);
}

fn latency(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let names = [
        ("reply", "end of mail to reply"),
        ("backend", "backend"),
        ("commit", "commit"),
        ("sync", "fdatasync"),
        ("turn", "turn of a core"),
    ];
    let rows = names.iter().map(|(key, what)| {
        let of = |q| seconds(quantile(&model.before["latency"][*key], &model.now["latency"][*key], q));
        Row::new(vec![of(0.5), of(0.99), (*what).to_owned()])
    });
    let widths = [Constraint::Length(8), Constraint::Length(8), Constraint::Min(10)];
    let table = Table::new(rows, widths).header(head(&["p50", "p99", ""]));
    frame.render_widget(table.block(block(" time ")), area);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn look(at_ms: u64, n: u64) -> Value {
        json!({
            "at_ms": at_ms,
            "status": {"version": "9", "driver": "epoll", "uptime_ms": 61000, "connections": 12, "queued": 3, "memory_octets": 20_000_000, "policy_version": "abcdef0123456789"},
            "messages": {"queued": n}, "sessions": {"mx": 2 * n}, "received": {"client": 1000 * n}, "sent": {"client": 10},
            "verdicts": [{"rule": "spam\u{1b}", "stage": "rcpt", "verdict": "reject", "count": n}, {"rule": "default", "stage": "mail", "verdict": "accept", "count": 5}],
            "cores": [{"busy_s": n as f64 / 200.0}],
            "backends": [{"pool": "main", "backend": "10.0.0.1:25", "up": false, "answers": n, "time": {"bounds": [0.001, 0.1], "counts": [0, n, 0]}}],
            "queue": {"destinations": [{"name": "mx:example.org", "messages": 3, "oldest_s": 90}]},
            "latency": {"commit": {"bounds": [0.001, 0.1], "counts": [n, 0, 0]}},
            "top": {"clients": [{"name": "192.0.2.1", "count": 4}]},
        })
    }

    #[test]
    fn two_looks_make_rates() {
        let mut model = Model::default();
        model.look(look(1000, 0));
        model.look(look(3000, 100));
        let text = text(&model, (110, 40));
        for part in [
            "gatepost 9",
            "up 1m1s",
            "messages 50/s",
            "sessions 100/s",
            "refusals 50/s",
            "cores 25%",
            "reject",
            "spam\\u{1b}",
            "aside",
            "100.0ms",
            "10.0.0.1:25",
            "mx:example.org",
            "1m30s",
            "192.0.2.1",
            "q ends",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        for (width, height) in [(1, 1), (20, 5), (200, 60)] {
            let mut model = Model::default();
            assert!(!text(&model, (width, height)).is_empty());
            model.look(json!({}));
            model.look(json!({"verdicts": [{}], "backends": [{}], "cores": [{}]}));
            assert!(!text(&model, (width, height)).is_empty());
        }
    }
}
