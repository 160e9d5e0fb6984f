//! Addresses as values that can only be valid: [`Domain`], [`Host`], [`Mailbox`], [`ReversePath`].
//!
//! `wire::address` holds the grammar and is the one maker outside this file's codec. How it fails: it does not; the
//! constructors are for callers that have just checked the grammar, and assert it in debug builds.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

/// A domain name of RFC 5321 §4.1.2 (or RFC 6531 U-labels), as it was written. Compares without regard to ASCII case.
#[derive(Clone, Debug)]
pub struct Domain(Box<str>);

impl Domain {
    /// Octets in a domain at most (RFC 5321 §4.5.3.1.2).
    pub const OCTETS_MAX: usize = 255;

    /// For a caller that has checked the grammar.
    pub(crate) fn from_checked(text: &str) -> Domain {
        debug_assert!(!text.is_empty() && text.len() <= Self::OCTETS_MAX);
        debug_assert!(!text.bytes().any(|b| b <= b' ' || b == b'@' || b == b'<' || b == b'>'));
        Domain(text.into())
    }
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// In lower case, for tables.
    pub fn lower(&self) -> String {
        self.0.to_lowercase()
    }
    /// Whether it needs SMTPUTF8.
    pub fn is_international(&self) -> bool {
        !self.0.is_ascii()
    }
}

impl PartialEq for Domain {
    fn eq(&self, other: &Domain) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}
impl Eq for Domain {}
impl Hash for Domain {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.bytes().for_each(|b| state.write_u8(b.to_ascii_lowercase()));
    }
}
impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What stands behind the `@`, or names a host in HELO.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name.
    Domain(Domain),
    /// An address literal: `[192.0.2.1]`, `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3).
    Ip(IpAddr),
}

impl Host {
    /// The name, when it is one.
    pub fn domain(&self) -> Option<&Domain> {
        match self {
            Host::Domain(d) => Some(d),
            Host::Ip(_) => None,
        }
    }
    /// In lower case, for tables; literals as they are written on the wire.
    pub fn lower(&self) -> String {
        match self {
            Host::Domain(d) => d.lower(),
            Host::Ip(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Domain(d) => d.fmt(f),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "[{ip}]"),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[IPv6:{ip}]"),
        }
    }
}

/// Local part and host. `Display` writes it as the wire wants it, quoting the local part where needed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mailbox {
    local: Box<str>,
    host: Host,
}

impl Mailbox {
    /// Octets in a local part at most (RFC 5321 §4.5.3.1.1).
    pub const LOCAL_OCTETS_MAX: usize = 64;

    /// For a caller that has checked the grammar; `local` without quotes and escapes.
    pub(crate) fn from_checked(local: &str, host: Host) -> Mailbox {
        debug_assert!(!local.bytes().any(|b| b < b' ' || b == 0x7f));
        Mailbox { local: local.into(), host }
    }
    /// The local part without quotes and escapes; its case matters (RFC 5321 §2.4).
    pub fn local(&self) -> &str {
        &self.local
    }
    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }
    /// Whether it needs SMTPUTF8 (RFC 6531 §3.3).
    pub fn is_international(&self) -> bool {
        !self.local.is_ascii() || self.host.domain().is_some_and(Domain::is_international)
    }
    /// In lower case and unquoted, `local@host`, for tables and keys.
    pub fn lower(&self) -> String {
        format!("{}@{}", self.local.to_lowercase(), self.host.lower())
    }
    /// Whether a local part can be written as a dot-string (RFC 5321 §4.1.2), else it is quoted.
    fn is_dot_string(local: &str) -> bool {
        !local.is_empty()
            && local.split('.').all(|atom| {
                !atom.is_empty()
                    && atom
                        .chars()
                        .all(|c| !c.is_ascii() || c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c))
            })
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if Self::is_dot_string(&self.local) {
            return write!(f, "{}@{}", self.local, self.host);
        }
        f.write_str("\"")?;
        for c in self.local.chars() {
            if c == '"' || c == '\\' {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        write!(f, "\"@{}", self.host)
    }
}

/// What stands in MAIL FROM: a mailbox, or nothing for notifications (RFC 5321 §4.5.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`
    Null,
    /// `<local@host>`
    Mailbox(Mailbox),
}

impl ReversePath {
    /// The mailbox, unless it is the null path.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            ReversePath::Null => None,
            ReversePath::Mailbox(m) => Some(m),
        }
    }
}

impl fmt::Display for ReversePath {
    /// Without the angle brackets; empty for the null path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReversePath::Null => Ok(()),
            ReversePath::Mailbox(m) => m.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_compare_without_case_and_local_parts_with_it() {
        let a = Mailbox::from_checked("Ann", Host::Domain(Domain::from_checked("Example.ORG")));
        let b = Mailbox::from_checked("Ann", Host::Domain(Domain::from_checked("example.org")));
        let c = Mailbox::from_checked("ann", Host::Domain(Domain::from_checked("example.org")));
        assert_eq!(a, b);
        assert_ne!(b, c);
        assert_eq!(a.lower(), "ann@example.org");
    }

    #[test]
    fn quoting_where_the_grammar_wants_it() {
        let host = Host::Ip("2001:db8::1".parse().unwrap());
        assert_eq!(Mailbox::from_checked("a b\"c", host.clone()).to_string(), "\"a b\\\"c\"@[IPv6:2001:db8::1]");
        assert_eq!(Mailbox::from_checked("a..b", host.clone()).to_string(), "\"a..b\"@[IPv6:2001:db8::1]");
        assert_eq!(Mailbox::from_checked("o'neil+x", host).to_string(), "o'neil+x@[IPv6:2001:db8::1]");
    }
}
