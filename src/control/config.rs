//! Reads the configuration: a file (or none), then the flags, then what must hold between them.
//!
//! How it fails: [`load`] returns every diagnostic at once when one of them is an error; warnings come with the result.

use crate::base::knob::{KnobError, Raw, Section};
use crate::control::diagnostic::{Diagnostic, Source, usable};
use crate::control::log::LogKnobs;
use crate::control::nearest::nearest;
use crate::control::reader::{Reader, Seen, Span, in_order};
use crate::control::{resolve, sections};
use crate::gateway::config::{CertificateKnobs, Config, ListenerKnobs, Settings};
use crate::gateway::targets::{BackendKnobs, PoolKnobs, RouteKnobs};
use crate::lookup::helpers::HelperKnobs;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// A configuration file may be so large and no larger: somebody named the wrong file.
const FILE_OCTETS_MAX: u64 = 4 << 20;

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// For the gateway.
    pub config: Config,
    /// For the log.
    pub log: LogKnobs,
    /// What is probably not meant.
    pub warnings: Vec<Diagnostic>,
}

/// One knob set by a flag.
#[derive(Clone, Debug)]
pub struct Override {
    /// The flag, for messages.
    pub flag: String,
    /// The section.
    pub section: String,
    /// The key.
    pub key: String,
    /// The value.
    pub value: Raw,
}

/// What the flags say.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Knobs, in the order they are applied.
    pub knobs: Vec<Override>,
    /// `HOST:PORT` or `lmtp:HOST:PORT` of backends that take everything.
    pub backends: Vec<String>,
    /// `NAME=ADDRESS` or `NAME=off` for listeners.
    pub listen: Vec<String>,
    /// First port of the four default listeners.
    pub port_base: Option<u16>,
}

impl Overrides {
    /// The flag that set this knob, if any did.
    pub fn flag(&self, section: &str, key: &str) -> Option<&str> {
        self.knobs.iter().rev().find(|o| o.section == section && o.key == key).map(|o| o.flag.as_str())
    }
}

/// A named pool as it was read.
#[derive(Debug)]
pub struct DraftPool {
    /// Its name.
    pub name: String,
    /// Its knobs.
    pub knobs: PoolKnobs,
    /// Where they were written.
    pub seen: Seen,
    /// Its backends.
    pub backends: Vec<(BackendKnobs, Seen)>,
}

/// What was read, before anything between sections is checked.
#[derive(Debug, Default)]
pub struct Draft {
    /// Sections that come once.
    pub settings: Settings,
    /// `[log]`
    pub log: LogKnobs,
    /// Where those were written.
    pub seen: BTreeMap<&'static str, Seen>,
    /// `[[listener]]`
    pub listeners: Vec<(ListenerKnobs, Seen)>,
    /// `[pool.NAME]`
    pub pools: Vec<DraftPool>,
    /// `[route.NAME]`
    pub routes: Vec<(String, RouteKnobs, Seen)>,
    /// `[helper.NAME]`
    pub helpers: Vec<(String, HelperKnobs, Seen)>,
    /// `[[tls.certificate]]`
    pub certificates: Vec<(CertificateKnobs, Seen)>,
}

/// Reads `file` (none = defaults) and applies the flags.
pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Loaded, Vec<Diagnostic>> {
    let text = match file {
        Some(path) => read_text(path).map_err(|message| vec![Diagnostic::flag(message)])?,
        None => String::new(),
    };
    load_text(file, &text, overrides)
}

/// Reads `text` as if it stood in `file`.
pub fn load_text(file: Option<&Path>, text: &str, overrides: &Overrides) -> Result<Loaded, Vec<Diagnostic>> {
    let name = file.map_or_else(|| "gatepost.toml".to_owned(), |path| path.display().to_string());
    let base = file.and_then(Path::parent).unwrap_or(Path::new(""));
    let source = Source::new(name, text);
    let everywhere = sections::every_knob();
    let mut reader = Reader::new(&source, base, &everywhere);

    let (table, errors) = DeTable::parse_recoverable(source.text());
    if !errors.is_empty() {
        // What a broken syntax leaves of a table would only bring follow-up errors.
        let diagnostics = errors.iter().map(|e| Diagnostic::error(source.place(e.span().unwrap_or(0..0)), e.message()));
        return Err(diagnostics.collect());
    }
    let mut draft = Draft::default();
    read_document(&mut reader, table.get_ref(), &mut draft);
    apply_flags(&mut reader.diagnostics, &mut draft, overrides);
    let config = resolve::resolve(&mut reader, &draft, overrides, file.map(PathBuf::from));
    let mut diagnostics = reader.diagnostics;
    diagnostics.sort_by_key(|d| d.place.as_ref().map(|p| (p.line, p.column)));
    match config {
        Some(config) if usable(&diagnostics) => Ok(Loaded { config, log: draft.log, warnings: diagnostics }),
        _ => Err(diagnostics),
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let fail = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(|e| fail(&e))?;
    let mut bytes = Vec::new();
    file.take(FILE_OCTETS_MAX + 1).read_to_end(&mut bytes).map_err(|e| fail(&e))?;
    if bytes.len() as u64 > FILE_OCTETS_MAX {
        return Err(fail(&"it is larger than 4 MiB and so no configuration file"));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        fail(&format!("line {line} is not UTF-8"))
    })
}

fn read_document(reader: &mut Reader<'_>, document: &DeTable<'_>, draft: &mut Draft) {
    for (key, value) in in_order(document) {
        let name: &str = key.get_ref();
        match name {
            "listener" => {
                for (at, table) in reader.tables(value, name) {
                    let mut knobs = ListenerKnobs::default();
                    let seen = reader.section(table, "[[listener]]", at, &mut knobs, &[]);
                    draft.listeners.push((knobs, seen));
                }
            }
            "route" => {
                for (name, at, table) in reader.named(value, "route") {
                    let mut knobs = RouteKnobs::default();
                    let seen = reader.section(table, &format!("[route.{name}]"), at, &mut knobs, &[]);
                    draft.routes.push((name, knobs, seen));
                }
            }
            "helper" => {
                for (name, at, table) in reader.named(value, "helper") {
                    let mut knobs = HelperKnobs::default();
                    let seen = reader.section(table, &format!("[helper.{name}]"), at, &mut knobs, &[]);
                    draft.helpers.push((name, knobs, seen));
                }
            }
            "pool" => {
                for (name, at, table) in reader.named(value, "pool") {
                    let pool = read_pool(reader, name, at, table);
                    draft.pools.push(pool);
                }
            }
            _ => read_plain(reader, name, key.span(), value, draft),
        }
    }
}

fn read_pool(reader: &mut Reader<'_>, name: String, at: Span, table: &DeTable<'_>) -> DraftPool {
    let mut knobs = PoolKnobs::default();
    let seen = reader.section(table, &format!("[pool.{name}]"), at, &mut knobs, &["backend"]);
    let mut backends = Vec::new();
    if let Some(value) = table.get("backend") {
        let header = format!("pool.{name}.backend");
        for (at, table) in reader.tables(value, &header) {
            let mut knobs = BackendKnobs::default();
            let seen = reader.section(table, &format!("[[{header}]]"), at, &mut knobs, &[]);
            backends.push((knobs, seen));
        }
    }
    DraftPool { name, knobs, seen, backends }
}

/// Tables inside plain sections, which have readers of their own.
const CERTIFICATE: (&str, &str) = ("tls", "certificate");

fn read_plain(
    reader: &mut Reader<'_>,
    name: &str,
    at: Span,
    value: &toml::Spanned<toml::de::DeValue<'_>>,
    draft: &mut Draft,
) {
    let Draft { settings, log, seen, certificates, .. } = draft;
    let mut plain = sections::plain(settings, log);
    let known: Vec<&str> =
        plain.iter().map(|s| s.name()).chain(["listener", "route", "pool", "helper", CERTIFICATE.0]).collect();
    let section = plain.iter_mut().find(|section| section.name() == name);
    if section.is_none() && name != CERTIFICATE.0 {
        unknown_section(reader, name, at, value, &known);
        return;
    }
    let Some(table) = reader.table(value, name, &format!("[{name}]")) else { return };
    let nested: &[&str] = if name == CERTIFICATE.0 { &[CERTIFICATE.1] } else { &[] };
    match section {
        Some(section) => {
            let keys = reader.section(table, &format!("[{name}]"), at, &mut **section, nested);
            seen.insert(section.name(), keys);
        }
        None => {
            reader.section(table, &format!("[{name}]"), at, &mut Nothing, nested);
        }
    }
    if name == CERTIFICATE.0
        && let Some(value) = table.get(CERTIFICATE.1)
    {
        for (at, table) in reader.tables(value, "tls.certificate") {
            let mut knobs = CertificateKnobs::default();
            let keys = reader.section(table, "[[tls.certificate]]", at, &mut knobs, &[]);
            certificates.push((knobs, keys));
        }
    }
}

fn unknown_section(
    reader: &mut Reader<'_>,
    name: &str,
    at: Span,
    value: &toml::Spanned<toml::de::DeValue<'_>>,
    known: &[&str],
) {
    if !value.get_ref().is_table() && !value.get_ref().is_array()
        || value.get_ref().as_array().is_some_and(|items| items.iter().all(|i| !i.get_ref().is_table()))
    {
        let help = reader.home_of(name).map(|home| format!("{name:?} belongs in {home}"));
        reader.error(at, format!("{name:?} stands in no section"), help);
        return;
    }
    let help = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("sections are {}", known.join(", ")),
    };
    reader.error(at, format!("unknown section {name:?}"), Some(help));
}

/// A section without knobs.
struct Nothing;

impl Section for Nothing {
    fn name(&self) -> &'static str {
        ""
    }
    fn doc(&self) -> String {
        String::new()
    }
    fn set_knob(&mut self, _: &str, _: &Raw) -> Result<(), KnobError> {
        Err(KnobError::Unknown)
    }
    fn rows(&self) -> Vec<crate::base::knob::Knob> {
        Vec::new()
    }
}

fn apply_flags(diagnostics: &mut Vec<Diagnostic>, draft: &mut Draft, overrides: &Overrides) {
    let Draft { settings, log, .. } = draft;
    let mut plain = sections::plain(settings, log);
    let names: Vec<&str> = plain.iter().map(|s| s.name()).collect();
    for Override { flag, section, key, value } in &overrides.knobs {
        let Some(found) = plain.iter_mut().find(|s| s.name() == section) else {
            let help = nearest(section, names.iter().copied()).map(|near| format!("did you mean {near:?}?"));
            diagnostics.push(Diagnostic::flag(format!("{flag}: unknown section {section:?}")).with_help(help));
            continue;
        };
        let failed = match found.set_knob(key, value) {
            Ok(()) => continue,
            Err(KnobError::Invalid(message)) => Diagnostic::flag(format!("{flag}: {message}")),
            Err(KnobError::Unknown) => {
                let rows = found.rows();
                let help = nearest(key, rows.iter().map(|row| row.name)).map(|near| format!("did you mean {near:?}?"));
                Diagnostic::flag(format!("{flag}: unknown key {key:?} in [{section}]")).with_help(help)
            }
        };
        diagnostics.push(failed);
    }
}

#[cfg(test)]
mod tests;
