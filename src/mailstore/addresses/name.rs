//! Names and addresses in the form in which they are compared: local parts prepared as user names are, domains as
//! A-labels.
//!
//! How it fails: [`AddressesError`] with the text and why.

use super::error::AddressesError;
use crate::base::address::{Domain, Host, Mailbox};
use crate::wire::address::{AddressError, parse_domain, parse_mailbox};
use crate::wire::prep;
use std::fmt;

/// What an entry is for, or what its target is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Name {
    /// `ann`: at every local domain.
    Bare(String),
    /// `ann@example.org`
    At {
        /// Prepared.
        local: String,
        /// A-labels in lower case.
        domain: String,
    },
    /// `@example.org`: whatever nobody else is in that domain.
    Rest(String),
}

impl Name {
    /// Reads one of the three.
    pub fn parse(text: &str) -> Result<Name, AddressesError> {
        let text = text.trim();
        if let Some(domain) = text.strip_prefix('@') {
            let domain = parse_domain(domain).map_err(|why| bad(text, why))?;
            return Ok(Name::Rest(domain_key(&domain)));
        }
        if text.contains('@') {
            return Name::of(&address(text)?).ok_or_else(|| bad(text, AddressError::Domain));
        }
        // What could be the local part of an address; quoted strings have no place in a line.
        let probe = parse_mailbox(&format!("{text}@example.org"));
        match (probe, prep::user_name(text.as_bytes())) {
            (Ok(mailbox), Ok(name)) if mailbox.local() == text => Ok(Name::Bare(name)),
            _ => Err(AddressesError::BadName { text: text.to_owned() }),
        }
    }

    /// That of an address with a domain.
    pub fn of(mailbox: &Mailbox) -> Option<Name> {
        let domain = mailbox.host().domain()?;
        Some(Name::At { local: local_key(mailbox.local()), domain: domain_key(domain) })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Bare(name) => f.write_str(name),
            Name::At { local, domain } => write!(f, "{local}@{domain}"),
            Name::Rest(domain) => write!(f, "@{domain}"),
        }
    }
}

fn bad(text: &str, why: AddressError) -> AddressesError {
    AddressesError::BadAddress { text: text.to_owned(), why }
}

/// Reads an address. Quoted local parts have no place in a line.
pub(super) fn address(text: &str) -> Result<Mailbox, AddressesError> {
    let mailbox = parse_mailbox(text).map_err(|why| bad(text, why))?;
    match mailbox.host() {
        Host::Domain(_) if !text.starts_with('"') => Ok(mailbox),
        Host::Domain(_) => Err(bad(text, AddressError::Quote)),
        Host::Ip(_) => Err(bad(text, AddressError::Literal)),
    }
}

/// A local part in the form in which accounts are named; what no account can be called stays as it is, in lower case.
pub(super) fn local_key(local: &str) -> String {
    prep::user_name(local.as_bytes()).unwrap_or_else(|_| local.to_lowercase())
}

/// A domain as A-labels in lower case (RFC 5890 §2.3.2.1), so that both of its forms are one.
pub(super) fn domain_key(domain: &Domain) -> String {
    idna::domain_to_ascii(domain.as_str()).unwrap_or_else(|_| domain.lower())
}
