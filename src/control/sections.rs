//! Every section a configuration file can have, in the order of the reference page.
//!
//! Plain sections are rows of the `settings!` table in `gateway::config`; sections that come several times are rows of
//! [`TEMPLATES`] here. How it fails: it does not.

use crate::base::knob::{Knob, Section};
use crate::control::log::LogKnobs;
use crate::gateway::config::{CertificateKnobs, ListenerKnobs, Settings};
use crate::gateway::targets::{BackendKnobs, PoolKnobs, RouteKnobs};
use crate::lookup::helpers::HelperKnobs;

/// How a section is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `[name]`, once.
    Plain,
    /// `[[name]]`, any number.
    List,
    /// `[name.NAME]`, any number, each with a name.
    Named,
    /// `[[name.NAME.key]]`, any number in each named table.
    ListInNamed,
}

/// A section with its knobs.
#[derive(Clone, Debug)]
pub struct Entry {
    /// How it is written.
    pub shape: Shape,
    /// Keys that lead to it, `NAME` standing for any name.
    pub path: Vec<String>,
    /// What it is about.
    pub doc: String,
    /// Its knobs.
    pub rows: Vec<Knob>,
}

impl Entry {
    fn of(shape: Shape, section: &dyn Section) -> Entry {
        let path = section.name().split('.').map(str::to_owned).collect();
        Entry { shape, path, doc: section.doc(), rows: section.rows() }
    }

    /// As it is written, such as `[[pool.NAME.backend]]`.
    pub fn header(&self) -> String {
        let path = self.path.join(".");
        match self.shape {
            Shape::Plain | Shape::Named => format!("[{path}]"),
            Shape::List | Shape::ListInNamed => format!("[[{path}]]"),
        }
    }
}

/// Makes a section with its defaults.
type Make = fn() -> Box<dyn Section>;

/// Sections that come several times: a new one is one row.
const TEMPLATES: &[(Shape, Make)] = &[
    (Shape::List, || Box::new(ListenerKnobs::default())),
    (Shape::Named, || Box::new(RouteKnobs::default())),
    (Shape::Named, || Box::new(PoolKnobs::default())),
    (Shape::ListInNamed, || Box::new(BackendKnobs::default())),
    (Shape::Named, || Box::new(HelperKnobs::default())),
    (Shape::List, || Box::new(CertificateKnobs::default())),
];

/// Every section.
pub fn all() -> Vec<Entry> {
    let mut settings = Settings::default();
    let mut log = LogKnobs::default();
    let plain = plain(&mut settings, &mut log);
    let plain: Vec<Entry> = plain.into_iter().map(|section| Entry::of(Shape::Plain, section)).collect();
    let (server, others) = plain.split_at(1);
    let templates = TEMPLATES.iter().map(|(shape, make)| Entry::of(*shape, make().as_ref()));
    server.iter().cloned().chain(templates).chain(others.iter().cloned()).collect()
}

/// The sections that come once, for reading.
pub fn plain<'a>(settings: &'a mut Settings, log: &'a mut LogKnobs) -> Vec<&'a mut dyn Section> {
    let mut sections = settings.sections();
    sections.push(log);
    sections
}

/// Every knob with the header of its section.
pub fn every_knob() -> Vec<(String, Knob)> {
    all()
        .into_iter()
        .flat_map(|entry| entry.rows.iter().map(|row| (entry.header(), row.clone())).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_knob_is_documented_and_every_header_is_its_own() {
        let mut headers = Vec::new();
        for entry in all() {
            assert!(!headers.contains(&entry.header()), "{} twice", entry.header());
            headers.push(entry.header());
            assert!(entry.doc.len() > 10, "{} has no doc", entry.header());
            for row in &entry.rows {
                assert!(row.doc.len() > 5, "{} {} has no doc", entry.header(), row.name);
            }
        }
    }
}
