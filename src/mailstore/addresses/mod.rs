//! Addresses: who gets the mail for a local address. Accounts, aliases, lists, what is left of a domain, and mailboxes named
//! behind a separator (`ann+lists@example.org`), kept in `DATA/addresses` beside `DATA/accounts`.
//!
//! An account that is called like an address has that address; one without domain has it at every local domain. Local
//! domains are those of the configuration and those of the file. Lists differ from aliases in that EXPN shows them.
//!
//! [`Addresses::resolve`] looks into a table in memory and never blocks; [`Addresses::refresh_if_changed`] makes a new
//! one when a file has changed, and belongs on a thread that may block. How it fails: [`AddressesError`] when a file cannot
//! be used or a change would lead mail nowhere or round; a file that broke while the server runs is reported once and the
//! last good one stays in force.

mod error;
mod file;
mod name;
mod table;
#[cfg(test)]
mod tests;

pub use error::AddressesError;
pub use table::Problem;

use crate::base::address::{Domain, Mailbox};
use crate::mailstore::accounts::{Accounts, Names};
use crate::mailstore::replaced::{ReplacedFile, Secrecy, Signature};
use crate::wire::address::{AddressError, parse_domain};
use arc_swap::ArcSwap;
use file::{Content, Entry, Line, Target};
use name::{Name, domain_key};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use table::Table;

/// Members of one alias or list, and recipients behind it in the end.
pub const MEMBERS_MAX: usize = 1000;
/// Aliases and lists that may stand behind each other.
pub const CHAIN_MAX: usize = 10;
/// Aliases and lists in all.
pub const ENTRIES_MAX: usize = 100_000;
/// Domains in the file.
pub const DOMAINS_MAX: usize = 10_000;
/// Problems that are logged one by one.
const REPORTED_MAX: usize = 20;
/// A larger file is not ours.
const FILE_OCTETS_MAX: u64 = 64 * 1024 * 1024;
/// What can stand between a user and a mailbox of it: what an address can have unquoted and account names rarely do.
const SEPARATORS: &str = "+-=!#%&*/?^_~";

crate::knobs! {
    /// Local addresses; aliases and lists themselves are kept by `gatepost alias`.
    pub struct AddressKnobs in "addresses" {
        /// What stands between a user and one of its mailboxes in an address (`ann+lists@example.org`); `""` for nothing.
        separator: String = "+".to_owned(), unit "";
        /// People that one message may be for, behind all aliases and lists it is addressed to; more is answered 452.
        people_max: usize = 10_000, unit "recipients", range 1000..=1_000_000;
    }
}

impl AddressKnobs {
    fn separator(&self) -> Result<Option<char>, AddressesError> {
        let mut chars = self.separator.chars();
        match (chars.next(), chars.next()) {
            (None, _) => Ok(None),
            (Some(c), None) if SEPARATORS.contains(c) => Ok(Some(c)),
            _ => Err(AddressesError::BadSeparator(self.separator.clone())),
        }
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// Another name; EXPN does not show what for.
    Alias,
    /// A distribution list.
    List,
}

impl AddressKind {
    /// As the file has it.
    pub fn word(self) -> &'static str {
        match self {
            AddressKind::Alias => "alias",
            AddressKind::List => "list",
        }
    }
}

/// One row of [`Addresses::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRow {
    /// What it is.
    pub kind: AddressKind,
    /// For whom.
    pub from: String,
    /// To whom.
    pub to: Vec<String>,
}

/// What a recipient's address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// Somebody of ours, or behind a name of ours; at least one of the lists has a member.
    Local {
        /// Accounts that get it.
        accounts: Vec<String>,
        /// The mailbox that sub-addressing names, when there is one account.
        mailbox: Option<String>,
        /// Addresses elsewhere that get it, too.
        remote: Vec<Mailbox>,
    },
    /// Nobody, in a domain of ours.
    Unknown,
    /// Not in a domain of ours.
    NotLocal,
}

/// The addresses of a data directory. Shared between threads; several processes may have the same directory open.
#[derive(Debug)]
pub struct Addresses {
    file: ReplacedFile,
    accounts: Arc<Accounts>,
    domains: Vec<Domain>,
    separator: Option<char>,
    table: ArcSwap<Table>,
    read: Mutex<Read>,
}

/// What the table was made of.
#[derive(Debug)]
struct Read {
    signature: Option<Signature>,
    content: Content,
    names: Names,
}

impl Addresses {
    /// Opens `dir/addresses`; no file means no aliases. `domains` are the local domains of the configuration. What leads
    /// nowhere or round in the file is logged and left out: [`Addresses::problems`].
    pub fn open(
        dir: &Path,
        accounts: Arc<Accounts>,
        knobs: &AddressKnobs,
        domains: Vec<Domain>,
    ) -> Result<Addresses, AddressesError> {
        let separator = knobs.separator()?;
        let file = ReplacedFile::new(dir, "addresses", FILE_OCTETS_MAX, Secrecy::Open)?;
        let (signature, content) = load(&file)?;
        let names = accounts.names();
        let table = Table::new(&content, &names, &domains, separator);
        report(&table, &[]);
        let read = Mutex::new(Read { signature, content, names });
        Ok(Addresses { file, accounts, domains, separator, table: ArcSwap::from_pointee(table), read })
    }

    /// Where they are kept.
    pub fn path(&self) -> PathBuf {
        self.file.path().to_owned()
    }

    /// Reads again what has changed, aliases or accounts. Looks at two files; may block on disk.
    pub fn refresh_if_changed(&self) {
        let mut read = self.read.lock();
        let (signature, names) = (self.file.signature(), self.accounts.names());
        if signature == read.signature && names.is_same_reading(&read.names) {
            return;
        }
        if signature != read.signature {
            match load(&self.file) {
                Ok((signature, content)) => {
                    tracing::info!(path = %self.file.path().display(), "addresses read again");
                    (read.signature, read.content) = (signature, content);
                }
                Err(e) => {
                    tracing::error!("{e}; the addresses read before stay in force");
                    read.signature = signature; // so that it is said once, until the file changes again
                }
            }
        }
        read.names = names;
        self.publish(&read);
    }

    /// Who gets mail for this address. In memory; never blocks.
    pub fn resolve(&self, address: &Mailbox) -> Resolved {
        self.table.load().resolve(address)
    }

    /// The address by which an account, and nobody else, is reached; `None` when there is none, because an alias stands in
    /// front of it or it has no domain. In memory; never blocks.
    pub fn own_address(&self, account: &str) -> Option<Mailbox> {
        self.table.load().own_address(account)
    }

    /// Whether mail to this domain is for us. In memory; never blocks.
    pub fn is_local_domain(&self, domain: &Domain) -> bool {
        self.table.load().is_local_domain(domain)
    }

    /// The members of a list, as addresses, by its address or name (EXPN, RFC 5321 §3.5.1); `None` when it is no list. In
    /// memory; never blocks.
    pub fn expand(&self, list: &str) -> Option<Vec<String>> {
        self.table.load().list_members(list)
    }

    /// What leads nowhere or round.
    pub fn problems(&self) -> Vec<Problem> {
        self.table.load().problems.clone()
    }

    /// Every alias and list, in the order of the file.
    pub fn list(&self) -> Vec<AddressRow> {
        self.refresh_if_changed();
        let row = |entry: &Entry| AddressRow {
            kind: entry.kind,
            from: entry.from.to_string(),
            to: entry.to.iter().map(ToString::to_string).collect(),
        };
        self.read.lock().content.entries().map(row).collect()
    }

    /// The local domains: those of the configuration, then those of the file.
    pub fn domains(&self) -> Vec<String> {
        self.refresh_if_changed();
        let mut all: Vec<String> = self.domains.iter().map(domain_key).collect();
        for domain in self.read.lock().content.domains() {
            if !all.iter().any(|known| known == domain) {
                all.push(domain.to_owned());
            }
        }
        all
    }

    /// Adds an alias or list, or members to one that is there.
    pub fn add(&self, kind: AddressKind, from: &str, to: &[String]) -> Result<(), AddressesError> {
        let from = Name::parse(from)?;
        let targets = to.iter().map(|text| Target::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if kind == AddressKind::List && matches!(from, Name::Rest(_)) {
            return Err(AddressesError::BadName { text: from.to_string() });
        }
        self.change(|content| {
            if let Name::At { domain, .. } | Name::Rest(domain) = &from
                && !self.domains.iter().any(|known| domain_key(known) == *domain)
                && !content.has_domain(domain)
            {
                return Err(AddressesError::NotLocal { domain: domain.clone() });
            }
            match content.entry(&from).map(|entry| entry.kind) {
                Some(known) if known != kind => {
                    return Err(AddressesError::Exists { what: format!("the {} {from}", known.word()) });
                }
                Some(_) => {}
                None => content.lines.push(Line::Entry(Entry { kind, from: from.clone(), to: Vec::new() })),
            }
            for target in targets {
                add_member(content, &from, target)?;
            }
            Ok(())
        })
    }

    /// Takes members out of an alias or list; without members, or with the last of them, all of it.
    pub fn remove(&self, from: &str, members: &[String]) -> Result<(), AddressesError> {
        let from = Name::parse(from)?;
        let members = members.iter().map(|text| Target::parse(text)).collect::<Result<Vec<_>, _>>()?;
        self.change(|content| {
            let unknown = |what: String| AddressesError::Unknown { what };
            let entry = content.entry_mut(&from).ok_or_else(|| unknown(format!("alias or list {from}")))?;
            for member in &members {
                let at = entry.to.iter().position(|target| target.name() == member.name());
                entry.to.remove(at.ok_or_else(|| unknown(format!("member {member} of {from}")))?);
            }
            if members.is_empty() || entry.to.is_empty() {
                content.lines.retain(|line| !matches!(line, Line::Entry(entry) if entry.from == from));
            }
            Ok(())
        })
    }

    /// Adds a local domain.
    pub fn add_domain(&self, domain: &str) -> Result<(), AddressesError> {
        let domain = parsed(domain)?;
        self.change(|content| {
            if content.has_domain(&domain) || self.domains.iter().any(|known| domain_key(known) == domain) {
                return Err(AddressesError::Exists { what: format!("the domain {domain}") });
            }
            // Domains stand together, in front of what needs them.
            let at = content.lines.iter().rposition(|line| matches!(line, Line::Domain(_)));
            let at = at.or_else(|| content.lines.iter().rposition(|line| matches!(line, Line::Other(_))));
            content.lines.insert(at.map_or(0, |at| at + 1), Line::Domain(domain));
            Ok(())
        })
    }

    /// Removes a local domain that the file has.
    pub fn remove_domain(&self, domain: &str) -> Result<(), AddressesError> {
        let domain = parsed(domain)?;
        self.change(|content| {
            if !content.has_domain(&domain) {
                return Err(AddressesError::Unknown { what: format!("domain {domain} in {}", self.path().display()) });
            }
            content.lines.retain(|line| !matches!(line, Line::Domain(known) if *known == domain));
            Ok(())
        })
    }

    /// Reads, changes and replaces the file under its lock. A change that brings a new problem is not made.
    fn change(&self, edit: impl FnOnce(&mut Content) -> Result<(), AddressesError>) -> Result<(), AddressesError> {
        let lock = self.file.lock()?;
        let (_, before) = load(&self.file)?;
        let names = self.accounts.names();
        let mut content = before.clone();
        edit(&mut content)?;
        let known: HashSet<Problem> =
            Table::new(&before, &names, &self.domains, self.separator).problems.into_iter().collect();
        let problems = Table::new(&content, &names, &self.domains, self.separator).problems;
        if let Some(problem) = problems.into_iter().find(|problem| !known.contains(problem)) {
            return Err(AddressesError::Refused(problem));
        }
        let text = content.emit();
        Content::parse(self.file.path(), &text)?; // what is written can be read
        let signature = self.file.store(&lock, &text)?;
        let mut read = self.read.lock();
        *read = Read { signature, content, names };
        self.publish(&read);
        Ok(())
    }

    fn publish(&self, read: &Read) {
        let table = Table::new(&read.content, &read.names, &self.domains, self.separator);
        report(&table, &self.table.load().problems);
        self.table.store(Arc::new(table));
    }
}

fn load(file: &ReplacedFile) -> Result<(Option<Signature>, Content), AddressesError> {
    match file.load()? {
        Some((signature, text)) => Ok((Some(signature), Content::parse(file.path(), &text)?)),
        None => Ok((None, Content::new())),
    }
}

fn parsed(domain: &str) -> Result<String, AddressesError> {
    let why = |why: AddressError| AddressesError::BadAddress { text: domain.to_owned(), why };
    parse_domain(domain).map(|domain| domain_key(&domain)).map_err(why)
}

fn add_member(content: &mut Content, from: &Name, target: Target) -> Result<(), AddressesError> {
    let Some(entry) = content.entry_mut(from) else { return Ok(()) };
    if entry.to.iter().any(|known| known.name() == target.name()) {
        return Err(AddressesError::Exists { what: format!("{target} in {from}") });
    }
    if entry.to.len() == MEMBERS_MAX {
        return Err(AddressesError::TooMany { from: from.to_string(), members_max: MEMBERS_MAX });
    }
    entry.to.push(target);
    Ok(())
}

/// Says what was not known before, up to [`REPORTED_MAX`].
fn report(table: &Table, known: &[Problem]) {
    let known: HashSet<&Problem> = known.iter().collect();
    let mut new = table.problems.iter().filter(|problem| !known.contains(problem));
    for problem in new.by_ref().take(REPORTED_MAX) {
        tracing::error!("addresses: {problem}; that part is left out");
    }
    let more = new.count();
    if more > 0 {
        tracing::error!("addresses: {more} more problems; `gatepost alias list` shows them");
    }
}
