//! The file `addresses`: lines that people can write, too.
//!
//! ```text
//! # a comment stays where it is
//! domain example.org
//! alias sales@example.org -> ann, bob@example.org
//! alias postmaster -> ann
//! alias @example.org -> ann
//! list team@example.org -> ann, carol@example.net
//! ```
//! A name without domain stands for that name at every local domain; `@domain` takes what nobody else is. How it fails:
//! [`AddressesError::Corrupt`] with the line.

use super::error::AddressesError;
use super::name::{Name, address, domain_key};
use super::{AddressKind, DOMAINS_MAX, ENTRIES_MAX, MEMBERS_MAX};
use crate::base::address::Mailbox;
use crate::wire::address::parse_domain;
use std::fmt;
use std::path::Path;

/// What a new file begins with.
const HEAD: &str = "# Addresses of Gatepost. `gatepost alias` changes this file, and so may you.";

/// A member: where mail for an entry goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An account, or a name that is an entry itself.
    Bare(String),
    /// An address, here or elsewhere.
    Address(Mailbox),
}

impl Target {
    pub fn parse(text: &str) -> Result<Target, AddressesError> {
        match Name::parse(text)? {
            Name::Bare(name) => Ok(Target::Bare(name)),
            Name::At { .. } => address(text.trim()).map(Target::Address),
            Name::Rest(_) => Err(AddressesError::BadName { text: text.to_owned() }),
        }
    }

    /// What it is compared by.
    pub fn name(&self) -> Option<Name> {
        match self {
            Target::Bare(name) => Some(Name::Bare(name.clone())),
            Target::Address(mailbox) => Name::of(mailbox),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Bare(name) => f.write_str(name),
            Target::Address(mailbox) => mailbox.fmt(f),
        }
    }
}

/// A line that says where mail goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub kind: AddressKind,
    pub from: Name,
    pub to: Vec<Target>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> ", self.kind.word(), self.from)?;
        for (i, target) in self.to.iter().enumerate() {
            write!(f, "{}{target}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A comment, or nothing.
    Other(String),
    Domain(String),
    Entry(Entry),
}

/// What the file says, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub lines: Vec<Line>,
}

impl Content {
    /// Reads the text of `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Content, AddressesError> {
        let mut content = Content::default();
        for (at, line) in text.lines().enumerate() {
            let corrupt = |what: String| AddressesError::Corrupt { path: path.to_owned(), line: at + 1, what };
            let line = parse_line(line).map_err(corrupt)?;
            let twice = match &line {
                Line::Domain(domain) => content.has_domain(domain).then(|| domain.clone()),
                Line::Entry(entry) => content.entry(&entry.from).map(|e| e.from.to_string()),
                Line::Other(_) => None,
            };
            if let Some(what) = twice {
                return Err(corrupt(format!("{what} stands here twice")));
            }
            content.lines.push(line);
        }
        content.check_size().map_err(|what| AddressesError::Corrupt { path: path.to_owned(), line: 1, what })?;
        Ok(content)
    }

    /// The text of the file.
    pub fn emit(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            text += &match line {
                Line::Other(text) => format!("{text}\n"),
                Line::Domain(domain) => format!("domain {domain}\n"),
                Line::Entry(entry) => format!("{entry}\n"),
            };
        }
        text
    }

    /// A file that is not there yet.
    pub fn new() -> Content {
        Content { lines: vec![Line::Other(HEAD.to_owned())] }
    }

    pub fn check_size(&self) -> Result<(), String> {
        if self.entries().count() > ENTRIES_MAX {
            return Err(format!("there are more than {ENTRIES_MAX} aliases and lists"));
        }
        if self.domains().count() > DOMAINS_MAX {
            return Err(format!("there are more than {DOMAINS_MAX} domains"));
        }
        Ok(())
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.lines.iter().filter_map(|line| if let Line::Entry(entry) = line { Some(entry) } else { None })
    }
    pub fn entry(&self, from: &Name) -> Option<&Entry> {
        self.entries().find(|entry| entry.from == *from)
    }
    pub fn entry_mut(&mut self, from: &Name) -> Option<&mut Entry> {
        let mut entries =
            self.lines.iter_mut().filter_map(|line| if let Line::Entry(entry) = line { Some(entry) } else { None });
        entries.find(|entry| entry.from == *from)
    }
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| if let Line::Domain(domain) = line { Some(domain.as_str()) } else { None })
    }
    pub fn has_domain(&self, domain: &str) -> bool {
        self.domains().any(|known| known == domain)
    }
}

fn parse_line(line: &str) -> Result<Line, String> {
    let trimmed = line.trim();
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return Ok(Line::Other(line.to_owned()));
    }
    let (word, rest) = trimmed.split_once([' ', '\t']).unwrap_or((trimmed, ""));
    let kind = match word {
        "domain" => {
            let domain = parse_domain(rest.trim()).map_err(|why| format!("{rest:?} is no domain: {why}"))?;
            return Ok(Line::Domain(domain_key(&domain)));
        }
        "alias" => AddressKind::Alias,
        "list" => AddressKind::List,
        _ => return Err(format!("expected domain, alias, list or a comment, found {word:?}")),
    };
    let (from, to) = rest.split_once("->").ok_or("expected FROM -> TO, TO, …")?;
    let from = Name::parse(from).map_err(|e| e.to_string())?;
    if kind == AddressKind::List && matches!(from, Name::Rest(_)) {
        return Err("a whole domain can be an alias, but no list".into());
    }
    let mut targets: Vec<Target> = Vec::new();
    for text in to.split(',') {
        let target = Target::parse(text).map_err(|e| e.to_string())?;
        if targets.len() == MEMBERS_MAX {
            return Err(format!("{from} has more than {MEMBERS_MAX} members"));
        }
        targets.push(target);
    }
    Ok(Line::Entry(Entry { kind, from, to: targets }))
}
