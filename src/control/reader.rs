//! From TOML with spans to knobs: reads a table into any [`Section`], and reports every unknown key, wrong type and
//! value out of range with its place and the near miss.
//!
//! How it fails: it collects [`Diagnostic`]s and goes on, so that one run shows everything.

use crate::base::knob::{Knob, KnobError, Raw, Section};
use crate::control::diagnostic::{Diagnostic, Source};
use crate::control::nearest::nearest;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where in the text something stands, in octets.
pub type Span = Range<usize>;

/// What was written in a table: its header and the values of its keys.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The header of the table.
    pub header: Span,
    values: BTreeMap<String, Span>,
    items: BTreeMap<String, Vec<Span>>,
}

impl Seen {
    /// Where the value of `key` stands; the header when it was not written.
    pub fn span(&self, key: &str) -> Span {
        self.values.get(key).unwrap_or(&self.header).clone()
    }
    /// Where item `index` of the list `key` stands.
    pub fn item(&self, key: &str, index: usize) -> Span {
        self.items.get(key).and_then(|items| items.get(index)).cloned().unwrap_or_else(|| self.span(key))
    }
    /// Whether `key` was written.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }
}

/// Reads tables of one file.
#[derive(Debug)]
pub struct Reader<'s> {
    source: &'s Source,
    base: PathBuf,
    /// Every knob of every section, to say where a misplaced key belongs.
    everywhere: &'s [(String, Knob)],
    /// What was found wrong so far.
    pub diagnostics: Vec<Diagnostic>,
}

impl<'s> Reader<'s> {
    /// A reader of `source`; relative paths in it are relative to `base`. `everywhere` has every knob with the header
    /// of its section.
    pub fn new(source: &'s Source, base: &Path, everywhere: &'s [(String, Knob)]) -> Reader<'s> {
        Reader { source, base: base.to_owned(), everywhere, diagnostics: Vec::new() }
    }

    /// Reports an error.
    pub fn error(&mut self, span: Span, message: impl Into<String>, help: Option<String>) {
        self.diagnostics.push(Diagnostic::error(self.source.place(span), message).with_help(help));
    }

    /// Reports a warning.
    pub fn warning(&mut self, span: Span, message: impl Into<String>, help: Option<String>) {
        self.diagnostics.push(Diagnostic::warning(self.source.place(span), message).with_help(help));
    }

    /// Reads `table`, which stands under `header` such as `[[listener]]`, into `knobs`; `nested` are keys of tables in
    /// it that the caller reads himself.
    pub fn section(
        &mut self,
        table: &DeTable<'_>,
        header: &str,
        at: Span,
        knobs: &mut dyn Section,
        nested: &[&str],
    ) -> Seen {
        let rows = knobs.rows();
        let mut seen = Seen { header: at, ..Seen::default() };
        for (key, value) in in_order(table) {
            let name: &str = key.get_ref();
            if nested.contains(&name) {
                continue;
            }
            let Some(row) = rows.iter().find(|row| row.name == name) else {
                self.unknown_key(name, key.span(), header, &rows, nested);
                continue;
            };
            seen.values.insert(name.to_owned(), value.span());
            if let DeValue::Array(items) = value.get_ref() {
                seen.items.insert(name.to_owned(), items.iter().map(Spanned::span).collect());
            }
            self.knob(row, header, value, knobs);
        }
        seen
    }

    fn unknown_key(&mut self, name: &str, at: Span, header: &str, rows: &[Knob], nested: &[&str]) {
        let here = rows.iter().map(|row| row.name).chain(nested.iter().copied());
        let help = match nearest(name, here) {
            Some(near) => Some(format!("did you mean {near:?}?")),
            None => self.home_of(name).map(|home| format!("{name:?} belongs in {home}")),
        };
        self.error(at, format!("unknown key {name:?} in {header}"), help);
    }

    /// The header of the section that has a knob of this name, when there is just one.
    pub fn home_of(&self, name: &str) -> Option<&'s str> {
        let mut homes = self.everywhere.iter().filter(|(_, knob)| knob.name == name).map(|(home, _)| home.as_str());
        homes.next().filter(|_| homes.next().is_none())
    }

    fn knob(&mut self, row: &Knob, header: &str, value: &Spanned<DeValue<'_>>, knobs: &mut dyn Section) {
        let raw = match self.raw(row, value) {
            Ok(raw) => raw,
            Err((span, found)) => {
                self.error(span, format!("expected {} for {:?} in {header}, found {found}", kind(row), row.name), None);
                return;
            }
        };
        let Err(error) = knobs.set_knob(row.name, &raw) else { return };
        for (span, message) in offences(row, value, &raw, knobs, error) {
            let help = word_near(&message);
            self.error(span, format!("{:?} in {header}: {message}", row.name), help);
        }
    }

    /// The value as knobs take it, or the place and kind of what no knob can be.
    fn raw(&self, row: &Knob, value: &Spanned<DeValue<'_>>) -> Result<Raw, (Span, String)> {
        let fail = |found: &str| Err((value.span(), found.to_owned()));
        match value.get_ref() {
            DeValue::String(text) if row.names_files => {
                Ok(Raw::Text(self.base.join(text.as_ref()).to_string_lossy().into_owned()))
            }
            DeValue::String(text) => Ok(Raw::Text(text.to_string())),
            DeValue::Boolean(value) => Ok(Raw::Bool(*value)),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Ok(Raw::Integer(number)),
                Err(_) => fail("a number that is too large"),
            },
            DeValue::Array(items) => Ok(Raw::List(items.iter().map(|i| self.raw(row, i)).collect::<Result<_, _>>()?)),
            DeValue::Float(_) => fail("a number with a fraction"),
            DeValue::Datetime(_) => fail("a date"),
            DeValue::Table(_) => fail("a table"),
        }
    }

    /// The tables of `[[header]]`, or a diagnostic when it is something else.
    pub fn tables<'t, 'i>(&mut self, value: &'t Spanned<DeValue<'i>>, header: &str) -> Vec<(Span, &'t DeTable<'i>)> {
        let DeValue::Array(items) = value.get_ref() else {
            let help = Some(format!("write it as [[{header}]]"));
            self.error(value.span(), format!("{header:?} is a list of tables, found {}", found(value)), help);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => tables.push((item.span(), table)),
                _ => self.error(item.span(), format!("expected a table in [[{header}]], found {}", found(item)), None),
            }
        }
        tables
    }

    /// The tables of `[header.NAME]` in the order of the file, or diagnostics when it is something else.
    pub fn named<'t, 'i>(
        &mut self,
        value: &'t Spanned<DeValue<'i>>,
        header: &str,
    ) -> Vec<(String, Span, &'t DeTable<'i>)> {
        let Some(table) = self.table(value, header, &format!("[{header}.NAME]")) else { return Vec::new() };
        let mut tables = Vec::new();
        for (key, item) in in_order(table) {
            let name: &str = key.get_ref();
            match item.get_ref() {
                DeValue::Table(table) if is_name(name) => tables.push((name.to_owned(), key.span(), table)),
                DeValue::Table(_) => {
                    self.error(key.span(), format!("{name:?} is no name: letters, digits, - and _, at most 64"), None);
                }
                _ => {
                    let help = Some(format!("write it below a header such as [{header}.main]"));
                    self.error(key.span(), format!("{name:?} stands in [{header}] without a name"), help);
                }
            }
        }
        tables
    }

    /// The table that `value` is, or a diagnostic.
    pub fn table<'t, 'i>(
        &mut self,
        value: &'t Spanned<DeValue<'i>>,
        name: &str,
        shape: &str,
    ) -> Option<&'t DeTable<'i>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => {
                let help = Some(format!("write it as {shape}"));
                self.error(value.span(), format!("{name:?} is a section, found {}", found(value)), help);
                None
            }
        }
    }
}

/// Which values are to blame: single items of a list where they can be told apart, else the whole.
fn offences(
    row: &Knob,
    value: &Spanned<DeValue<'_>>,
    raw: &Raw,
    knobs: &mut dyn Section,
    error: KnobError,
) -> Vec<(Span, String)> {
    let mut offences = Vec::new();
    if let (DeValue::Array(items), Raw::List(raws)) = (value.get_ref(), raw) {
        for (item, raw) in items.iter().zip(raws) {
            // The knob keeps a good item for a moment; the file is refused anyway.
            if let Err(KnobError::Invalid(message)) = knobs.set_knob(row.name, &Raw::List(vec![raw.clone()])) {
                offences.push((item.span(), message));
            }
        }
    }
    if offences.is_empty() {
        let message = match error {
            KnobError::Invalid(message) => message,
            KnobError::Unknown => format!("unknown key {:?}", row.name),
        };
        offences.push((value.span(), message));
    }
    offences
}

/// The keys of a table in the order of the file (the map sorts them by name).
pub fn in_order<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(&'t Spanned<toml::de::DeString<'i>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// "expected one of a, b, c, found \"x\"": the word that is nearest to x.
fn word_near(message: &str) -> Option<String> {
    let (words, found) = message.strip_prefix("expected one of ")?.rsplit_once(", found ")?;
    let near = nearest(found.trim_matches('"'), words.split(", "))?;
    Some(format!("did you mean {near:?}?"))
}

fn kind(row: &Knob) -> String {
    let article = if row.kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    match row.kind {
        "networks" => "networks".to_owned(),
        kind => format!("{article} {kind}"),
    }
}

fn found(value: &Spanned<DeValue<'_>>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Names of routes, pools and listeners appear in logs, queue keys and flags.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}
