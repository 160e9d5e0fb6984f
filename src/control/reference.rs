//! The reference page (`CONFIGURATION.md`) and the annotated default file, made from the knobs' own declarations.
//!
//! How it fails: it does not.

use crate::base::knob::Knob;
use crate::control::sections::{self, Entry, Shape};
use std::fmt::Write;

const HEAD: &str = "\
# Configuration

<!-- Made by `gatepost config reference > CONFIGURATION.md`; a test compares. Edit the declarations, not this page. -->

`gatepost serve --config gatepost.toml` reads one TOML file and the policy file it names. Without `--config`,
`./gatepost.toml` is read when it exists; without any file the defaults below hold, on 127.0.0.1.
`gatepost check --config gatepost.toml` says everything that is wrong, with line, column and the word, and starts nothing.
Editors can check a file against `policy/gatepost.schema.json` (`gatepost config schema`).

Sizes are octets, as a number or `\"64KiB\"`, `\"25MiB\"`, `\"1GB\"`; durations are `\"500ms\"`, `\"30s\"`, `\"5m\"`, `\"1h30m\"`, `\"5d\"`;
a list of one may be written without brackets. Relative paths in the file are relative to its directory.
Any knob of a section that comes once can be set for one start: `--set smtp.recipients_max=50`.
";

/// The reference page, in Markdown.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    for entry in sections::all() {
        // Writing to a string cannot fail.
        let _ = write!(page, "\n## `{}`\n\n{}\n\n", entry.header(), entry.doc);
        if entry.rows.is_empty() {
            continue;
        }
        page.push_str("| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
        for row in &entry.rows {
            let default = if row.default.is_empty() { "–".to_owned() } else { format!("`{}`", row.default) };
            let meaning = cell(&row.doc);
            let _ = writeln!(page, "| `{}` | {} | {} | {meaning} |", row.name, cell(&value(row)), cell(&default));
        }
    }
    page
}

/// Kind, range and unit of a knob's value.
fn value(row: &Knob) -> String {
    let mut text = match row.kind {
        "word" => words(&row.schema),
        kind => kind.to_owned(),
    };
    let range = row.range.to_string();
    if !range.is_empty() {
        text = format!("{text}, {range}");
    }
    if !row.unit.is_empty() && row.unit != row.kind {
        text = format!("{text} ({})", row.unit);
    }
    text
}

/// The words of an enum, from its schema.
fn words(schema: &str) -> String {
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap_or_default();
    let words = schema["enum"].as_array().map(Vec::as_slice).unwrap_or_default();
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ")
}

/// A cell is one line and has no bars of its own.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// A file in which every knob stands with its default, commented out.
pub fn default_file() -> String {
    let mut file = "\
# Gatepost's configuration. Everything here is commented out and shows its default; `gatepost check` checks a file,
# CONFIGURATION.md is the reference.
"
    .to_owned();
    for entry in sections::all() {
        file.push('\n');
        comment(&mut file, &entry.doc);
        let mark = if entry.shape == Shape::Plain { "" } else { "# " };
        let _ = writeln!(file, "{mark}{}", header_with_name(&entry));
        for row in &entry.rows {
            file.push('\n');
            comment(&mut file, &row.doc);
            let limits = value(row);
            let _ = writeln!(file, "# ({limits})");
            let default = if row.default.is_empty() { "…" } else { &row.default };
            let _ = writeln!(file, "# {} = {default}", row.name);
        }
    }
    file
}

fn header_with_name(entry: &Entry) -> String {
    entry.header().replace("NAME", "main")
}

fn comment(file: &mut String, text: &str) {
    for line in text.lines() {
        let _ = writeln!(file, "# {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config::{Overrides, load_text};

    #[test]
    fn the_page_in_the_tree_is_the_page_of_the_program() {
        let there = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/CONFIGURATION.md")).unwrap();
        assert!(there == page(), "run `gatepost config reference > CONFIGURATION.md`");
    }

    #[test]
    fn every_knob_is_on_the_page() {
        let page = page();
        for (header, knob) in sections::every_knob() {
            let (_, rest) = page.split_once(&format!("## `{header}`")).unwrap();
            assert!(rest.contains(&format!("| `{}` |", knob.name)), "{header} {}", knob.name);
        }
    }

    #[test]
    fn the_default_file_says_what_holds_without_it() {
        // As it is, and with the defaults of the plain sections uncommented.
        let file = default_file();
        let mut plain = true;
        let uncommented: String = file
            .lines()
            .map(|line| {
                if line.trim_start_matches("# ").starts_with('[') {
                    plain = !line.starts_with('#');
                }
                let knob = line.strip_prefix("# ").filter(|l| l.contains(" = ") && !l.ends_with('…'));
                let key = knob.map_or("", |l| l.split(" = ").next().unwrap());
                let is_knob = sections::every_knob().iter().any(|(_, k)| k.name == key);
                let line = if plain && is_knob { knob.unwrap() } else { line };
                format!("{line}\n")
            })
            .collect();
        assert!(uncommented.contains("\nconnections_max = "), "{uncommented}");
        for text in [file, uncommented] {
            let loaded = load_text(None, &text, &Overrides::default())
                .map_err(|d| crate::control::diagnostic::render(&d))
                .unwrap();
            let defaults = load_text(None, "", &Overrides::default()).unwrap();
            assert_eq!(format!("{:?}", loaded.config), format!("{:?}", defaults.config));
            assert_eq!(format!("{:?}", loaded.log), format!("{:?}", defaults.log));
        }
    }
}
