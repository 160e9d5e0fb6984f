//! The policy file as text with places: TOML values with spans, and the way from an offset inside a string value back
//! to its octet in the file.
//!
//! How it fails: everything wrong becomes a [`Diagnostic`]; reading goes on so that all findings are reported at once.

use super::diagnostic::Diagnostic;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file being read, and what was found wrong in it so far.
pub struct Reader<'s> {
    /// Its name for messages.
    pub file: &'s str,
    /// Its text.
    pub text: &'s str,
    /// Errors and warnings, in order of discovery.
    pub findings: Vec<Diagnostic>,
}

/// A string value and where it stands.
#[derive(Clone, Debug)]
pub struct Located {
    /// The value.
    pub text: String,
    /// The literal with its quotes in the file.
    pub span: Range<usize>,
}

/// A table of the file.
pub type Table<'s> = DeTable<'s>;

impl<'s> Reader<'s> {
    /// A reader of `text`.
    pub fn new(file: &'s str, text: &'s str) -> Reader<'s> {
        Reader { file, text, findings: Vec::new() }
    }

    /// Parses the file; syntax errors become findings.
    pub fn parse(&mut self) -> DeTable<'s> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for e in errors {
            let span = e.span().unwrap_or(0..0);
            self.findings.push(Diagnostic::at(self.file, self.text, span, format!("not TOML: {}", e.message())));
        }
        table.into_inner()
    }

    /// A finding at an octet range of the file, to be completed by the caller.
    pub fn at(&self, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::at(self.file, self.text, span, message)
    }
    /// A finding at a range inside a string value.
    pub fn inside(&self, value: &Located, range: Range<usize>, message: impl Into<String>) -> Diagnostic {
        let raw = &self.text[value.span.clone()];
        let start = value.span.start + raw_offset(raw, range.start);
        let end = value.span.start + raw_offset(raw, range.end);
        self.at(start..end.max(start), message)
    }
    /// Records a finding.
    pub fn report(&mut self, finding: Diagnostic) {
        self.findings.push(finding);
    }

    /// Complains about keys that are not in `known`.
    pub fn known_keys(&mut self, table: &Table<'_>, place: &str, known: &[&str]) {
        for key in table.keys() {
            if !known.contains(&key.get_ref().as_ref()) {
                let word = key.get_ref().as_ref();
                let finding = self
                    .at(key.span(), format!("unknown key `{word}` in {place}"))
                    .expected(known.join(", "))
                    .near(word, known.iter().copied());
                self.report(finding);
            }
        }
    }

    /// The string under `key`, if there is one; anything else there is reported.
    pub fn string(&mut self, table: &Table<'_>, key: &str) -> Option<Located> {
        let value = table.get(key)?;
        self.as_string(value, key)
    }

    fn as_string(&mut self, value: &Spanned<DeValue<'_>>, key: &str) -> Option<Located> {
        match value.get_ref() {
            DeValue::String(s) => Some(Located { text: s.to_string(), span: value.span() }),
            other => {
                let found = other.type_str();
                self.wrong_type(value, key, "a string", found);
                None
            }
        }
    }

    /// The strings under `key`: one, or an array of them; empty when the key is absent.
    pub fn strings(&mut self, table: &Table<'_>, key: &str) -> Vec<Located> {
        match table.get(key).map(|v| (v, v.get_ref())) {
            None => Vec::new(),
            Some((_, DeValue::Array(items))) => items.iter().filter_map(|i| self.as_string(i, key)).collect(),
            Some((value, _)) => self.as_string(value, key).into_iter().collect(),
        }
    }

    /// The whole number under `key`.
    pub fn integer(&mut self, table: &Table<'_>, key: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = table.get(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(i) => u64::from_str_radix(i.as_str(), i.radix()).ok().filter(|n| range.contains(n)),
            _ => None,
        };
        if number.is_none() {
            let what = format!("a whole number from {} to {}", range.start(), range.end());
            let found = value.get_ref().type_str();
            self.wrong_type(value, key, &what, found);
        }
        number
    }

    /// The boolean under `key`.
    pub fn boolean(&mut self, table: &Table<'_>, key: &str) -> Option<bool> {
        let value = table.get(key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong_type(value, key, "true or false", value.get_ref().type_str());
        }
        found
    }

    /// The table under `key`.
    pub fn table<'t, 'x>(&mut self, table: &'t Table<'x>, key: &str) -> Option<&'t Table<'x>> {
        let value = table.get(key)?;
        let found = value.get_ref().as_table();
        if found.is_none() {
            self.wrong_type(value, key, "a table", value.get_ref().type_str());
        }
        found
    }

    /// The array of tables under `key`, with their places.
    pub fn tables<'t, 'x>(&mut self, table: &'t Table<'x>, key: &str) -> Vec<(Range<usize>, &'t Table<'x>)> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(value, key, &format!("tables, each begun by [[{key}]]"), value.get_ref().type_str());
            return Vec::new();
        };
        let mut found = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_table() {
                Some(t) => found.push((item.span(), t)),
                None => self.wrong_type(item, key, "a table", item.get_ref().type_str()),
            }
        }
        found
    }

    /// Reports a value of the wrong type.
    pub fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, key: &str, expected: &str, found: &str) {
        let finding = self.at(value.span(), format!("`{key}` has the wrong type or value: {found}")).expected(expected);
        self.report(finding);
    }
}

/// The offset in a TOML string literal, quotes included, of octet `decoded` of its value.
fn raw_offset(raw: &str, decoded: usize) -> usize {
    let (quote, escapes) = match raw {
        r if r.starts_with("\"\"\"") => (3, true),
        r if r.starts_with("'''") => (3, false),
        r if r.starts_with('\'') => (1, false),
        r if r.starts_with('"') => (1, true),
        // A file that is broken here; what is found in it has been found by recovering.
        _ => (0, false),
    };
    let mut at = quote;
    if quote == 3 {
        // A line end right behind the opening quotes is not part of the value.
        at += if raw[at..].starts_with("\r\n") { 2 } else { usize::from(raw[at..].starts_with('\n')) };
    }
    let mut seen = 0;
    while seen < decoded && at < raw.len() {
        let (used, made) = if escapes { unit(&raw[at..]) } else { plain(&raw[at..]) };
        at += used;
        seen += made;
    }
    at.min(raw.len())
}

fn plain(rest: &str) -> (usize, usize) {
    let n = rest.chars().next().map_or(1, char::len_utf8);
    (n, n)
}

/// Octets of the literal and of the value that the next character or escape takes.
fn unit(rest: &str) -> (usize, usize) {
    if !rest.starts_with('\\') {
        return plain(rest);
    }
    let digits = match rest.as_bytes().get(1) {
        Some(b'x') => 2,
        Some(b'u') => 4,
        Some(b'U') => 8,
        Some(b'\n' | b'\r' | b' ' | b'\t') => {
            // A line continuation swallows all white space.
            return (1 + rest[1..].len() - rest[1..].trim_start().len(), 0);
        }
        _ => return (2, 1),
    };
    let code = rest.get(2..2 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    (2 + digits, code.and_then(char::from_u32).map_or(1, char::len_utf8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_escapes() {
        for (raw, decoded) in [
            (r#""a\"b é\u00e9x""#, "a\"b ééx"),
            ("'''\nabx'''", "abx"),
            ("\"\"\"a\\\n   bx\"\"\"", "abx"),
            ("'x'", "x"),
        ] {
            assert_eq!(raw.find('x'), Some(raw_offset(raw, decoded.find('x').unwrap())), "{raw}");
        }
    }
}
