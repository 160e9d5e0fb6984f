//! Placeholders in commands, files and options: `{mx}`, `{sink}`, `{dir}`, `{gatepost}`, `{io}`, `{ms}`.
//!
//! How it fails: a placeholder that stands for nothing is an error that lists those that do.

use std::collections::BTreeMap;

/// What the placeholders stand for.
#[derive(Clone, Debug, Default)]
pub struct Places(pub BTreeMap<String, String>);

impl Places {
    /// Adds one.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.0.insert(name.to_owned(), value.to_string());
    }

    /// `text` with its placeholders filled in; `{{` is a brace.
    pub fn fill(&self, text: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            filled.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('{') {
                filled.push('{');
                rest = after;
                continue;
            }
            let name = rest.split('}').next().unwrap_or_default();
            // A brace around anything but a plain name is text: shell, JSON and the {} of a user pattern have them.
            let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if !is_name || name.len() == rest.len() {
                filled.push('{');
                continue;
            }
            let known = || self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            filled.push_str(
                self.0
                    .get(name)
                    .ok_or_else(|| format!("{{{name}}} stands for nothing here; expected one of {}", known()))?,
            );
            rest = &rest[name.len() + 1..];
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_and_braces_stay() {
        let mut places = Places::default();
        places.set("mx", "127.0.0.1:25");
        places.set("pop3", "127.0.0.1:110");
        assert_eq!(places.fill("{pop3}{3}").unwrap(), "127.0.0.1:110{3}");
        assert_eq!(places.fill("a {mx}b {{mx} u{}@x {\"a\": 1} {").unwrap(), "a 127.0.0.1:25b {mx} u{}@x {\"a\": 1} {");
        let why = places.fill("{mxx}").unwrap_err();
        assert!(why.contains("{mxx}") && why.contains("expected one of mx"), "{why}");
    }
}
