//! Lists: named sets of networks, domains, addresses and words, written in the policy file or in files of their own.
//!
//! How it fails: every line that cannot be read is an error with its file, line and column; a list is never half loaded.

use super::diagnostic::Diagnostic;
use super::networks::{Networks, parse_network};
use super::texts::{DomainEntry, EXACT, TextSet};
use super::value::{Type, Value};
use ipnet::IpNet;

crate::knob_words! {
    /// What the lines of a list are.
    pub enum Kind {
        /// IP networks and addresses.
        Networks = "networks",
        /// Domain names.
        Domains = "domains",
        /// Mail addresses.
        Addresses = "addresses",
        /// Any other word: user names, local parts, listener names.
        Words = "words",
    }
}

impl Kind {
    /// What `entry` most likely is: a network, an address (it has an `@`), a domain (it has a dot), or a word.
    pub fn guess(entry: &str) -> Kind {
        if parse_network(entry).is_ok() || entry.parse::<IpNet>().is_ok() {
            Kind::Networks
        } else if entry.contains('@') {
            Kind::Addresses
        } else if entry.contains('.') || entry.starts_with('[') {
            Kind::Domains
        } else {
            Kind::Words
        }
    }
}

/// Entries as they are read, before a [`List`] is made of them.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    networks: Vec<IpNet>,
    domains: Vec<DomainEntry>,
    addresses: Vec<String>,
    words: Vec<String>,
}

impl Entries {
    /// Adds one entry of a known kind; the error says what was expected.
    pub fn add(&mut self, kind: Kind, entry: &str) -> Result<(), String> {
        if entry.len() > TextSet::OCTETS_MAX {
            return Err(format!("an entry of {} octets; expected at most {}", entry.len(), TextSet::OCTETS_MAX));
        }
        match kind {
            Kind::Networks => self.networks.push(parse_network(entry)?),
            Kind::Domains => self.domains.push(DomainEntry::parse(entry)?),
            Kind::Addresses => self.addresses.push(normal_address(entry)?),
            Kind::Words => self.words.push(entry.to_lowercase()),
        }
        Ok(())
    }

    /// Reads a list file: one entry per line, `#` begins a comment. `kind` says what the lines are, else it is guessed.
    pub fn read_file(&mut self, path: &str, text: &str, kind: Option<Kind>, errors: &mut Vec<Diagnostic>) {
        const ERRORS_MAX: usize = 20; // a wrong file altogether should not print a million lines
        let mut at = 0;
        let mut failed = 0;
        for line in text.split_inclusive('\n') {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if !entry.is_empty() {
                let added = self.add(kind.unwrap_or_else(|| Kind::guess(entry)), entry);
                if let Err(message) = added {
                    let start = at + (entry.as_ptr() as usize - line.as_ptr() as usize);
                    errors.push(Diagnostic::at(path, text, start..start + entry.len(), message));
                    failed += 1;
                    if failed == ERRORS_MAX {
                        return;
                    }
                }
            }
            at += line.len();
        }
    }
}

/// A mail address in lower case; the domain with A-labels.
fn normal_address(entry: &str) -> Result<String, String> {
    let expected = || format!("expected an address such as ann@example.org, found {entry:?}");
    let (local, domain) = entry.rsplit_once('@').ok_or_else(expected)?;
    let domain = super::texts::normal_domain(domain).ok_or_else(expected)?;
    if local.is_empty() || local.chars().any(|c| c.is_control()) {
        return Err(expected());
    }
    Ok(format!("{}@{domain}", local.to_lowercase()))
}

/// A list, ready to be asked.
#[derive(Debug)]
pub struct List {
    networks: Networks,
    domains: TextSet,
    addresses: TextSet,
    words: TextSet,
    /// Whether entries can appear later without the policy file changing.
    pub from_file: bool,
}

impl List {
    /// Makes the list.
    pub fn new(entries: Entries, from_file: bool) -> List {
        List {
            networks: Networks::new(entries.networks),
            domains: TextSet::new(entries.domains.into_iter().map(|d| (d.name, d.reach))),
            addresses: TextSet::new(entries.addresses.into_iter().map(|a| (a, EXACT))),
            words: TextSet::new(entries.words.into_iter().map(|w| (w, EXACT))),
            from_file,
        }
    }

    /// Whether the list has entries that a fact of `kind` can be compared with.
    pub fn serves(&self, kind: Type) -> bool {
        match kind {
            Type::Ip => !self.networks.is_empty(),
            Type::Domain => !self.domains.is_empty() || !self.words.is_empty(),
            Type::Address => !self.addresses.is_empty() || !self.domains.is_empty(),
            Type::Text => !self.words.is_empty() || !self.domains.is_empty() || !self.addresses.is_empty(),
            Type::Texts => self.serves(Type::Text),
            Type::Domains => self.serves(Type::Domain),
            Type::Flag | Type::Number | Type::Octets | Type::Duration | Type::Score => false,
        }
    }

    /// Whether a fact of `kind` with this value is in the list. An empty text never is.
    pub fn contains(&self, kind: Type, value: Value<'_>) -> bool {
        match (kind, value) {
            (_, Value::Ip(ip)) => self.networks.contains(ip),
            (Type::Domain, Value::Text(t)) => self.domains.covers_domain(t) || self.words.contains(t),
            (Type::Address, Value::Text(t)) => {
                let domain = t.rsplit_once('@').map_or("", |(_, d)| d);
                self.addresses.contains(t) || self.domains.covers_domain(domain)
            }
            // User names and HELO words may look like anything, so all texts of the list count, as they stand.
            (_, Value::Text(t)) => {
                !t.is_empty() && (self.words.contains(t) || self.addresses.contains(t) || self.domains.contains(t))
            }
            _ => false,
        }
    }

    /// Entries in all, after merging.
    pub fn len(&self) -> usize {
        self.networks.len() + self.domains.len() + self.addresses.len() + self.words.len()
    }
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> List {
        let (mut entries, mut errors) = (Entries::default(), Vec::new());
        entries.read_file("l", text, None, &mut errors);
        assert_eq!(errors, []);
        List::new(entries, true)
    }

    #[test]
    fn every_kind_of_line_finds_its_fact() {
        let l = list("# hosts\n192.0.2.0/24\n\n.example.org # partner\nAnn@Example.net\nann\n");
        let text = Value::Text;
        assert!(l.contains(Type::Ip, Value::Ip("192.0.2.7".parse().unwrap())));
        assert!(l.contains(Type::Domain, text("mx.example.org")));
        assert!(
            l.contains(Type::Address, text("bob@Example.org")) && l.contains(Type::Address, text("ANN@example.net"))
        );
        assert!(!l.contains(Type::Address, text("bob@example.net")) && !l.contains(Type::Address, text("")));
        assert!(l.contains(Type::Text, text("ANN")) && !l.contains(Type::Text, text("")));
        assert!(!l.contains(Type::Ip, Value::Unknown));
    }

    #[test]
    fn a_bad_line_is_named() {
        let (mut entries, mut errors) = (Entries::default(), Vec::new());
        entries.read_file("hosts.txt", "10.0.0.0/8\n  192.0.2.1/24\n", Some(Kind::Networks), &mut errors);
        assert_eq!((errors[0].line, errors[0].column, errors[0].word.as_str()), (2, 3, "192.0.2.1/24"));
        assert!(errors[0].message.contains("192.0.2.0/24"));
        errors.clear();
        entries.read_file("x", &"?? ?\n".repeat(1000), Some(Kind::Domains), &mut errors);
        assert_eq!(errors.len(), 20);
    }
}
