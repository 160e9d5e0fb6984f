//! Traces as tables for a terminal, in colour where that is wanted.
//!
//! How it fails: it does not. What a sender wrote cannot steer the terminal it is shown on.

use crate::control::table::visible;
use crate::policy::Trace;
use std::fmt::Write;
use std::io::IsTerminal;

/// Characters of a value that are shown.
const VALUE_CHARS_MAX: usize = 60;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

/// Whether standard output is a terminal and nobody minds (no-color.org).
pub fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

fn paint(text: &str, colour: &str, colours: bool) -> String {
    if colours && !colour.is_empty() { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// A line above a decision's rules, in the colour of its verdict.
pub fn heading(text: &str, colours: bool) -> String {
    let text = visible(text);
    let word = |w: &str| text.split([' ', ':']).any(|t| t == w);
    let colour = match () {
        () if word("reject") || word("drop") => "1;31",
        () if word("defer") => "1;33",
        () if word("refuse") => "1;31",
        () => BOLD,
    };
    paint(&text, colour, colours)
}

/// Every decision with its rules.
pub fn trace(trace: &Trace, brief: bool, colours: bool) -> String {
    let mut out = String::new();
    for stage in &trace.stages {
        let head = format!("{}: {} by {}", stage.stage, stage.verdict, stage.decided_by);
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}", heading(&head, colours));
        out += &rules(&Trace { stages: vec![stage.clone()] }, brief, colours);
    }
    if let Some(last) = trace.stages.last() {
        let _ = writeln!(out, "{} at {}, by {}", visible(&last.verdict), last.stage, visible(&last.decided_by));
    }
    out
}

/// One row of the table: cells and their colours.
type Row = [(String, &'static str); 4];

/// The rules of decisions: what each part asked, the value it saw and its answer, and what the rule did.
pub fn rules(trace: &Trace, brief: bool, colours: bool) -> String {
    let mut rows: Vec<Row> = Vec::new();
    for rule in trace.stages.iter().flat_map(|s| &s.rules) {
        let any = rule.matched || !rule.effects.is_empty() || rule.parts.iter().any(|p| p.answer == "true");
        if brief && !any {
            continue;
        }
        let colour = if rule.matched { GREEN } else { DIM };
        let mark = if rule.matched { "+" } else { "-" };
        let mut name = (format!("  {mark} {}", visible(&rule.rule)), colour);
        for part in &rule.parts {
            let answer = match part.answer {
                "true" => GREEN,
                "unknown" => YELLOW,
                _ => DIM,
            };
            rows.push([
                std::mem::take(&mut name),
                (visible(&part.text), ""),
                (short(&part.value), ""),
                (part.answer.to_owned(), answer),
            ]);
        }
        if !name.0.is_empty() {
            let always = if rule.matched { "(always)" } else { "" };
            rows.push([name, (always.to_owned(), DIM), (String::new(), ""), (String::new(), "")]);
        }
        for effect in &rule.effects {
            let refuses = ["reject", "drop", "exceeded"].iter().any(|w| effect.contains(w));
            let colour = if refuses { RED } else { GREEN };
            let row = [
                (String::new(), ""),
                (format!("=> {}", visible(effect)), colour),
                (String::new(), ""),
                (String::new(), ""),
            ];
            rows.push(row);
        }
    }
    layout(&rows, colours)
}

/// Columns as wide as their widest cell; what an effect says may be longer than its column.
fn layout(rows: &[Row], colours: bool) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|r| &r[column].0).filter(|c| !c.starts_with("=> "));
        cells.map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2), 0];
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (i, (text, colour)) in row.iter().enumerate() {
            let rest_is_empty = row[i + 1..].iter().all(|(t, _)| t.is_empty());
            line += &paint(text, if text.is_empty() { "" } else { colour }, colours);
            if rest_is_empty {
                break;
            }
            let pad = widths[i].saturating_sub(text.chars().count()) + 2;
            line.extend(std::iter::repeat_n(' ', pad));
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

fn short(value: &str) -> String {
    let shown = visible(value);
    match shown.char_indices().nth(VALUE_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &shown[..at]),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Part, RuleTrace, StageTrace};

    #[test]
    fn a_table_with_and_without_colour() {
        let part = |text: &str, value: &str, answer| Part { text: text.into(), value: value.into(), answer };
        let rule = |name: &str, matched, parts, effects: &[&str]| RuleTrace {
            rule: name.into(),
            matched,
            parts,
            effects: effects.iter().map(|e| (*e).to_owned()).collect(),
        };
        let shown = Trace {
            stages: vec![StageTrace {
                stage: "rcpt",
                rules: vec![
                    rule("known", false, vec![part("rcpt.exists == false", "unknown", "unknown")], &[]),
                    rule("relay", true, vec![part("rcpt.domain", "\"\u{1b}[31m\"", "true")], &["reject 550 no"]),
                    rule("rest", true, vec![], &[]),
                ],
                decided_by: "relay".into(),
                verdict: "refuse 550 no".into(),
            }],
        };
        let plain = trace(&shown, false, false);
        assert_eq!(
            plain,
            "rcpt: refuse 550 no by relay\n\
             \x20 - known  rcpt.exists == false  unknown       unknown\n\
             \x20 + relay  rcpt.domain           \"\\u{1b}[31m\"  true\n\
             \x20          => reject 550 no\n\
             \x20 + rest   (always)\n\
             refuse 550 no at rcpt, by relay\n"
        );
        let coloured = trace(&shown, false, true);
        assert!(coloured.contains("\u{1b}[32mtrue\u{1b}[0m") && !coloured.contains("\u{1b}[31m\""), "{coloured:?}");
        assert!(!trace(&shown, true, false).contains("known"));
    }
}
