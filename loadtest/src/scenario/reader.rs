//! TOML with places: values out of tables, and findings where one is not what it should be.
//!
//! How it fails: every finding goes into the list, so that all are told at once.

use gatepost::base::knob::parse_duration;
use gatepost::policy::Diagnostic;
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Longest duration in a scenario.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// A file that is being read, and what was found wrong in it so far.
pub(super) struct Reader<'a> {
    /// Its name for findings.
    pub file: &'a str,
    /// Its text.
    pub text: &'a str,
    /// In order of discovery.
    pub findings: Vec<Diagnostic>,
}

type Value<'v> = Spanned<DeValue<'v>>;

impl Reader<'_> {
    /// A finding at octets of the file.
    pub fn find(&mut self, at: Range<usize>, message: String, expected: &str) {
        self.findings.push(Diagnostic::at(self.file, self.text, at, message).expected(expected));
    }

    /// Complains about keys that are not known.
    pub fn keys(&mut self, table: &DeTable<'_>, place: &str, known: &[&str]) {
        for key in table.keys() {
            let word: &str = key.get_ref().as_ref();
            if !known.contains(&word) {
                let finding =
                    Diagnostic::at(self.file, self.text, key.span(), format!("unknown key `{word}` in {place}"));
                self.findings.push(finding.expected(known.join(", ")).near(word, known.iter().copied()));
            }
        }
    }

    /// Complains about a value.
    pub fn wrong(&mut self, value: &Value<'_>, key: &str, expected: &str) {
        self.find(value.span(), format!("`{key}` has the wrong type or value"), expected);
    }

    /// The string under `key`.
    pub fn string(&mut self, table: &DeTable<'_>, key: &str) -> Option<String> {
        let value = table.get(key)?;
        let text = value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong(value, key, "a string");
        }
        text
    }

    /// The truth under `key`.
    pub fn boolean(&mut self, table: &DeTable<'_>, key: &str) -> Option<bool> {
        let value = table.get(key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong(value, key, "true or false");
        }
        found
    }

    /// The strings under `key`.
    pub fn strings(&mut self, table: &DeTable<'_>, key: &str) -> Vec<String> {
        let Some(value) = table.get(key) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Array(items) if items.iter().all(|i| i.get_ref().is_str()) => {
                items.iter().filter_map(|i| i.get_ref().as_str().map(str::to_owned)).collect()
            }
            _ => {
                self.wrong(value, key, "an array of strings");
                Vec::new()
            }
        }
    }

    /// The number under `key`, within bounds.
    pub fn number(&mut self, table: &DeTable<'_>, key: &str, least: f64, most: f64) -> Option<f64> {
        let value = table.get(key)?;
        let number = number_of(value.get_ref()).filter(|n| (least..=most).contains(n));
        if number.is_none() {
            self.wrong(value, key, &format!("a number from {least} to {most}"));
        }
        number
    }

    /// The duration under `key`.
    pub fn duration(&mut self, table: &DeTable<'_>, key: &str) -> Option<Duration> {
        let value = table.get(key)?;
        let found = value.get_ref().as_str().and_then(parse_duration).filter(|d| !d.is_zero() && *d <= DURATION_MAX);
        if found.is_none() {
            self.wrong(value, key, "a duration from \"1ms\" to \"24h\", such as \"60s\"");
        }
        found
    }

    /// The table under `key`.
    pub fn table<'t, 'v>(&mut self, table: &'t DeTable<'v>, key: &str) -> Option<&'t DeTable<'v>> {
        let value = table.get(key)?;
        let found = value.get_ref().as_table();
        if found.is_none() {
            self.wrong(value, key, "a table");
        }
        found
    }

    /// The tables under `key`, with their places.
    pub fn tables<'t, 'v>(&mut self, table: &'t DeTable<'v>, key: &str) -> Vec<(Range<usize>, &'t DeTable<'v>)> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let items = value.get_ref().as_array();
        let found: Vec<_> =
            items.into_iter().flatten().filter_map(|i| Some((i.span(), i.get_ref().as_table()?))).collect();
        if items.is_none_or(|i| i.len() != found.len()) {
            self.wrong(value, key, "tables");
        }
        found
    }
}

/// A number of either kind.
pub(super) fn number_of(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(i) => i64::from_str_radix(i.as_str(), i.radix()).ok().map(|n| n as f64),
        DeValue::Float(f) => f.as_str().parse().ok(),
        _ => None,
    }
}
