//! One line per event, for people or as JSON. Values may come from a hostile peer: nothing in them starts a new line,
//! steers a terminal or breaks out of a JSON string.
//!
//! How it fails: it does not.

use crate::base::time::WallTime;
use std::cell::RefCell;
use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// Octets of one line at most; the rest is cut and marked.
const LINE_OCTETS_MAX: usize = 16 * 1024;

thread_local! {
    /// Reused by all lines of a thread.
    static SCRATCH: RefCell<String> = const { RefCell::new(String::new()) };
}

/// `2026-11-23T12:32:01.042Z INFO  decision  refused session=… rule=relay-denied`
pub fn human(event: &Event<'_>, now: WallTime, colours: bool) -> String {
    let mut line = String::with_capacity(256);
    let (word, colour) = match *event.metadata().level() {
        Level::ERROR => ("ERROR", "31"),
        Level::WARN => ("WARN", "33"),
        Level::INFO => ("INFO", "32"),
        Level::DEBUG => ("DEBUG", "36"),
        Level::TRACE => ("TRACE", "35"),
    };
    let target = event.metadata().target();
    let target = target.strip_prefix("gatepost::").unwrap_or(target);
    // Writing to a string cannot fail.
    let _ = match colours {
        true => write!(line, "{now} \u{1b}[{colour}m{word:<5}\u{1b}[0m {target:<9}"),
        false => write!(line, "{now} {word:<5} {target:<9}"),
    };
    let mut visitor = Human { line: &mut line, at: Part::Message };
    event.record(&mut visitor);
    visitor.at = Part::Fields;
    event.record(&mut visitor);
    end(line, "…")
}

/// `{"time":"…","level":"info","target":"decision","message":"…","rule":"relay-denied"}`
pub fn json(event: &Event<'_>, now: WallTime) -> String {
    let mut line = String::with_capacity(320);
    let level = event.metadata().level().as_str().to_ascii_lowercase();
    let _ = write!(line, "{{\"time\":\"{now}\",\"level\":\"{level}\",\"target\":");
    json_string(&mut line, event.metadata().target());
    let mut visitor = Json { line: &mut line };
    event.record(&mut visitor);
    line.push_str("}\n");
    line
}

fn end(mut line: String, mark: &str) -> String {
    if line.len() > LINE_OCTETS_MAX {
        let cut = (0..=LINE_OCTETS_MAX).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        line.truncate(cut);
        line.push_str(mark);
    }
    line.push('\n');
    line
}

/// The message comes first, wherever it stands among the fields.
#[derive(PartialEq)]
enum Part {
    Message,
    Fields,
}

struct Human<'a> {
    line: &'a mut String,
    at: Part,
}

impl Human<'_> {
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut String)) {
        let is_message = field.name() == "message";
        if is_message != (self.at == Part::Message) || self.line.len() > LINE_OCTETS_MAX {
            return;
        }
        self.line.push(' ');
        if !is_message {
            self.line.push_str(field.name());
            self.line.push('=');
        }
        value(self.line);
    }
}

impl Visit for Human<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let bare = field.name() == "message";
        self.field(field, |line| if bare { clean(line, value) } else { word(line, value) });
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, |line| show(line, format_args!("{value}")));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, |line| show(line, format_args!("{value}")));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, |line| show(line, format_args!("{value}")));
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let bare = field.name() == "message";
        self.field(field, |line| {
            with_text(value, |text| if bare { clean(line, text) } else { word(line, text) });
        });
    }
}

/// Appends. Writing to a string cannot fail.
fn show(line: &mut String, value: fmt::Arguments<'_>) {
    let _ = line.write_fmt(value);
}

/// Runs `f` on what `value` writes, without an allocation per value.
fn with_text(value: &dyn fmt::Debug, f: impl FnOnce(&str)) {
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut text) => {
            text.clear();
            let _ = write!(text, "{value:?}");
            f(&text);
            text.shrink_to(LINE_OCTETS_MAX);
        }
        // A value that logs while it is written.
        Err(_) => f(&format!("{value:?}")),
    });
}

/// A value that stands behind `=`: quoted when it would not be one word.
fn word(line: &mut String, value: &str) {
    let plain = |c: char| !c.is_whitespace() && c != '"' && c != '=';
    if !value.is_empty() && value.chars().all(plain) {
        clean(line, value);
        return;
    }
    line.push('"');
    for c in value.chars() {
        match c {
            '"' => line.push_str("\\\""),
            c => clean_char(line, c),
        }
    }
    line.push('"');
}

fn clean(line: &mut String, text: &str) {
    text.chars().for_each(|c| clean_char(line, c));
}

/// Controls, line separators and the characters that turn the direction of writing are escaped.
fn clean_char(line: &mut String, c: char) {
    match c {
        '\n' => line.push_str("\\n"),
        '\r' => line.push_str("\\r"),
        '\t' => line.push_str("\\t"),
        c if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
            let _ = write!(line, "\\u{{{:x}}}", c as u32);
        }
        c => line.push(c),
    }
}

struct Json<'a> {
    line: &'a mut String,
}

impl Json<'_> {
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut String)) {
        if self.line.len() > LINE_OCTETS_MAX {
            return;
        }
        // A field must not hide the line's own.
        let own = matches!(field.name(), "time" | "level" | "target");
        self.line.push(',');
        json_string(self.line, &if own { format!("{}_", field.name()) } else { field.name().to_owned() });
        self.line.push(':');
        value(self.line);
    }
}

impl Visit for Json<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, |line| json_string(line, value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, |line| show(line, format_args!("{value}")));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, |line| show(line, format_args!("{value}")));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, |line| show(line, format_args!("{value}")));
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, |line| with_text(value, |text| json_string(line, text)));
    }
}

/// A JSON string (RFC 8259 §7), cut where a line would get too long.
fn json_string(line: &mut String, text: &str) {
    let mut end = text.len().min(LINE_OCTETS_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    line.push('"');
    for c in text[..end].chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if c.is_control() => show(line, format_args!("\\u{:04x}", c as u32)),
            c => line.push(c),
        }
    }
    line.push('"');
}
