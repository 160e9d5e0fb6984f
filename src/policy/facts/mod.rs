//! The table of facts: what a rule may ask about. **A new check is a file here with its rows and a line in [`GROUPS`]**,
//! and a golden case in `policy/`.
//!
//! A fact is read from what the session has told ([`Source::Told`]), or somebody looks it up and tells it
//! ([`Source::Looked`]). How it fails: a fact nobody has told is [`Value::Unknown`].

mod authentication;
mod client;
mod content;
pub(super) mod greeting;
mod message;
mod recipient;
mod reputation;
mod score;
mod sender;
mod server;
mod session;

use super::functions;
use super::inquiries::Topic;
use super::stage::{Span, Stage};
use super::state::{State, View};
use super::value::{Given, Type, Value};
use std::collections::HashMap;
use std::sync::LazyLock;

/// Where a fact comes from.
#[derive(Clone, Copy)]
pub enum Source {
    /// Computed from what the session has told.
    Told(for<'a> fn(&View<'a>) -> Value<'a>),
    /// Told by a lookup; unknown until then.
    Looked,
}

/// One row of the table.
pub struct Fact {
    /// As rules write it.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// When it is known.
    pub known: Span,
    /// What it is, for the reference.
    pub doc: &'static str,
    /// Where it comes from.
    pub source: Source,
    /// The looked-up fact that it is computed from, if it is.
    pub input: Option<&'static str>,
    /// What must be found out for it, if anything must.
    pub asks: Option<Topic>,
    /// Whether it tells of persons: left out of journals that hide them.
    pub personal: bool,
    /// How a case file or a recorded session sets it; `None` when it follows from others.
    pub set: Option<fn(&mut State, &Given)>,
}

impl std::fmt::Debug for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Fact {
    /// A fact that follows from what the session told.
    const fn told(
        name: &'static str,
        kind: Type,
        known: Span,
        doc: &'static str,
        read: for<'a> fn(&View<'a>) -> Value<'a>,
    ) -> Fact {
        Fact { name, kind, known, doc, source: Source::Told(read), input: None, asks: None, personal: false, set: None }
    }
    /// A fact that somebody finds out.
    const fn looked(name: &'static str, kind: Type, first: Stage, asks: Topic, doc: &'static str) -> Fact {
        let (known, source, asks) = (Span::from(first), Source::Looked, Some(asks));
        Fact { name, kind, known, doc, source, input: None, asks, personal: false, set: None }
    }
    /// It tells of persons.
    const fn personal(mut self) -> Fact {
        self.personal = true;
        self
    }
    /// Adds the looked-up fact it is computed from.
    const fn computed_from(mut self, input: &'static str, asks: Topic) -> Fact {
        (self.input, self.asks) = (Some(input), Some(asks));
        self
    }
    /// Adds how it is set from outside.
    const fn settable(mut self, set: fn(&mut State, &Given)) -> Fact {
        self.set = Some(set);
        self
    }
}

/// One line per file of facts.
const GROUPS: &[&[Fact]] = &[
    client::FACTS,
    greeting::FACTS,
    session::FACTS,
    sender::FACTS,
    recipient::FACTS,
    message::FACTS,
    server::FACTS,
    authentication::FACTS,
    content::FACTS,
    score::FACTS,
    reputation::FACTS,
];

static TABLE: LazyLock<Vec<&'static Fact>> = LazyLock::new(|| GROUPS.iter().flat_map(|g| g.iter()).collect());

/// Number of a fact: its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FactId(pub(super) u16);

impl FactId {
    /// The fact of this name.
    pub fn find(name: &str) -> Option<FactId> {
        // A replay asks this for every fact of every session.
        static BY_NAME: LazyLock<HashMap<&'static str, u16>> =
            LazyLock::new(|| TABLE.iter().enumerate().map(|(i, f)| (f.name, i as u16)).collect());
        BY_NAME.get(name).map(|i| FactId(*i))
    }
    /// Its row.
    pub fn row(self) -> &'static Fact {
        TABLE[usize::from(self.0)]
    }
}

/// The type of what a case file or a recorded session may set by this name: a fact, or the value of a function that
/// somebody finds out (`dnsbl('zen')`).
pub fn settable(name: &str) -> Option<Type> {
    match FactId::find(name) {
        Some(id) => Some(id.row()).filter(|f| f.set.is_some() || matches!(f.source, Source::Looked)).map(|f| f.kind),
        None => functions::call(name).map(|(function, _)| function.kind),
    }
}

/// Every fact, in the order of the reference.
pub fn all() -> &'static [&'static Fact] {
    &TABLE
}

/// A set of facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FactSet(u128);

impl FactSet {
    /// No fact.
    pub const EMPTY: FactSet = FactSet(0);

    /// Adds one.
    pub fn insert(&mut self, id: FactId) {
        debug_assert!(id.0 < 128); // a test holds that the table fits
        self.0 |= 1 << id.0;
        if let Some(input) = id.row().input.and_then(FactId::find) {
            self.0 |= 1 << input.0;
        }
    }
    /// Adds all of `other`.
    pub fn extend(&mut self, other: FactSet) {
        self.0 |= other.0;
    }
    /// Whether the fact of this name is in it.
    pub fn contains(self, name: &str) -> bool {
        FactId::find(name).is_some_and(|id| self.0 >> id.0 & 1 == 1)
    }
    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// The names in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        TABLE.iter().enumerate().filter(move |(i, _)| self.0 >> i & 1 == 1).map(|(_, f)| f.name)
    }
    /// Only those that somebody must look up.
    pub fn lookups(self) -> FactSet {
        let looked = TABLE.iter().enumerate().filter(|(_, f)| matches!(f.source, Source::Looked));
        FactSet(self.0 & looked.map(|(i, _)| 1 << i).sum::<u128>())
    }
}

/// Helpers for [`Fact::settable`]: the checker has made sure of the type.
fn flag(given: &Given) -> bool {
    matches!(given, Given::Flag(true))
}
fn number(given: &Given) -> u64 {
    match given {
        Given::Number(n) => u64::try_from(*n).unwrap_or(0),
        _ => 0,
    }
}
fn text(given: &Given) -> &str {
    match given {
        Given::Text(t) => t,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_and_has_no_name_twice() {
        assert!(TABLE.len() <= 128);
        for (i, fact) in TABLE.iter().enumerate() {
            assert_eq!(TABLE.iter().position(|f| f.name == fact.name), Some(i), "{} is there twice", fact.name);
            assert_eq!(FactId::find(fact.name), Some(FactId(i as u16)));
            assert!(fact.doc.ends_with('.'), "{}: a sentence", fact.name);
            assert!(fact.known.first <= fact.known.last);
        }
    }

    #[test]
    fn every_fact_reads_on_an_empty_session() {
        let state = State::default();
        let view = View { state: &state, headers: b"" };
        for fact in TABLE.iter() {
            let value = match fact.source {
                Source::Told(read) => read(&view),
                Source::Looked => Value::Unknown,
            };
            let fits = match value {
                Value::Unknown => true,
                Value::Flag(_) => fact.kind == Type::Flag,
                Value::Number(_) => fact.kind.is_number(),
                Value::Score(_) => fact.kind == Type::Score,
                Value::Text(_) => fact.kind.is_text(),
                Value::Ip(_) => fact.kind == Type::Ip,
            };
            assert!(fits, "{} is {value}, not {}", fact.name, fact.kind.word());
        }
    }
}
