//! What can be asked and what can be answered.
//!
//! How it fails: nothing here fails; a name that no name server could know is turned into [`Miss::NoName`] by
//! [`Question::key`] returning `None`.

use crate::base::address::Domain;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A question to the lookup lane. Names are always fully qualified.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// The mail exchangers of a domain, as they are recorded (RFC 5321 §5.1).
    Mx(Domain),
    /// The addresses of a host; AAAA and A together.
    Addresses(Domain),
    /// The names an address is recorded under; anybody can claim any name there.
    Ptr(IpAddr),
    /// The name of a client, confirmed: a PTR name that resolves back to the address (RFC 8601 §3, "iprev").
    ClientName(IpAddr),
    /// The texts of a name, strings of one record joined (RFC 7208 §3.3).
    Txt(Domain),
}

impl Question {
    /// The question in one spelling, so that equal questions share a query and a cache entry: names in lower-case
    /// A-labels. `None` when the name cannot be in the DNS at all.
    pub(crate) fn key(&self) -> Option<Key> {
        Some(match self {
            Question::Mx(d) => Key::Mx(ascii(d)?),
            Question::Addresses(d) => Key::Addresses(ascii(d)?),
            Question::Ptr(ip) => Key::Ptr(ip.to_canonical()),
            Question::ClientName(ip) => Key::ClientName(ip.to_canonical()),
            Question::Txt(d) => Key::Txt(ascii(d)?),
        })
    }
}

/// A question in its one spelling: names in lower case, in A-labels, without a final dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Mx(Box<str>),
    /// A and AAAA together.
    Addresses(Box<str>),
    /// A alone: lists (RFC 5782 §2.1), `exists` (RFC 7208 §5.7), the confirmation of an IPv4 client.
    A(Box<str>),
    /// AAAA alone.
    Aaaa(Box<str>),
    Ptr(IpAddr),
    ClientName(IpAddr),
    Txt(Box<str>),
}

impl Key {
    /// What it takes in memory, about: it stands in a table and in a queue.
    pub(crate) fn octets(&self) -> usize {
        let name = match self {
            Key::Mx(n) | Key::Addresses(n) | Key::A(n) | Key::Aaaa(n) | Key::Txt(n) => n.len(),
            Key::Ptr(_) | Key::ClientName(_) => 0,
        };
        2 * (size_of::<Key>() + name)
    }

    /// The addresses of `name` of the family that `ip` has.
    pub(crate) fn of_family(ip: IpAddr, name: &str) -> Key {
        let name = name.to_ascii_lowercase().into();
        if ip.is_ipv4() { Key::A(name) } else { Key::Aaaa(name) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Mx(n) => write!(f, "MX {n}"),
            Key::Addresses(n) => write!(f, "addresses {n}"),
            Key::A(n) => write!(f, "A {n}"),
            Key::Aaaa(n) => write!(f, "AAAA {n}"),
            Key::Ptr(ip) => write!(f, "PTR {ip}"),
            Key::ClientName(ip) => write!(f, "client name {ip}"),
            Key::Txt(n) => write!(f, "TXT {n}"),
        }
    }
}

/// Lower-case A-labels without a final dot; `None` for what RFC 1035 §2.3.4 cannot carry.
pub(crate) fn ascii(domain: &Domain) -> Option<Box<str>> {
    let text = domain.as_str().strip_suffix('.').unwrap_or(domain.as_str());
    let name = match text.is_ascii() {
        true => text.to_ascii_lowercase(),
        false => idna::domain_to_ascii(text).ok()?,
    };
    is_host_name(&name).then(|| name.into())
}

/// Whether `name` is made of labels of letters, digits, hyphens and underscores (RFC 1035 §2.3.4 lengths; underscores
/// because SPF, DKIM and DMARC records and some real hosts have them).
pub(crate) fn is_host_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

/// Whether `name` can be asked for at all: labels of 1 to 63 octets, 253 in all (RFC 1035 §2.3.4). What the macros of an
/// SPF record make is a name by these rules only.
pub(crate) fn is_dns_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name
            .split('.')
            .all(|label| (1..=63).contains(&label.len()) && label.bytes().all(|b| (b' '..=b'~').contains(&b)))
}

/// A mail exchanger as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MxRecord {
    /// Lower is tried first.
    pub preference: u16,
    /// The host; `None` is the root, which says that the domain takes no mail when it stands alone (RFC 7505).
    pub exchange: Option<Domain>,
}

/// What is known about the name of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientName {
    /// The first recorded name that resolves back to the address.
    pub confirmed: Option<Domain>,
    /// Every recorded name that was looked at, confirmed or not.
    pub claimed: Arc<[Domain]>,
}

/// Records that were found; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// For [`Question::Mx`], in the order of the answer.
    Mx(Arc<[MxRecord]>),
    /// For [`Question::Addresses`], IPv6 before IPv4, without repeats.
    Addresses(Arc<[IpAddr]>),
    /// For [`Question::Ptr`].
    Names(Arc<[Domain]>),
    /// For [`Question::ClientName`].
    Client(ClientName),
    /// For [`Question::Txt`]; octets, since nobody promises UTF-8.
    Texts(Arc<[Box<[u8]>]>),
}

/// Why there are no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The name does not exist (NXDOMAIN). Asking again does not help.
    NoName,
    /// The name exists without such records. Asking again does not help.
    NoRecords,
    /// It could not be found out. Asking later can help.
    Temporary(Trouble),
}

impl Miss {
    /// Whether it is certain that there is nothing: no such name or no such records.
    pub fn is_certain(self) -> bool {
        !matches!(self, Miss::Temporary(_))
    }
}

/// What stood in the way of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No name server answered in time.
    Timeout,
    /// A name server answered with this response code (RFC 1035 §4.1.1: 2 is SERVFAIL, 5 REFUSED).
    Response(u16),
    /// The name servers could not be reached.
    Unreachable,
    /// The answer made no sense, or named only hosts that cannot exist.
    Malformed,
    /// Too many questions are waiting.
    QueueFull,
    /// No name server is configured.
    NoServers,
    /// The lane has stopped.
    Stopped,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Timeout => f.write_str("no name server answered in time"),
            Trouble::Response(2) => f.write_str("the name server answered SERVFAIL"),
            Trouble::Response(5) => f.write_str("the name server answered REFUSED"),
            Trouble::Response(code) => write!(f, "the name server answered with response code {code}"),
            Trouble::Unreachable => f.write_str("the name servers cannot be reached"),
            Trouble::Malformed => f.write_str("the name server's answer makes no sense"),
            Trouble::QueueFull => f.write_str("too many lookups are waiting"),
            Trouble::NoServers => f.write_str("no name server is configured"),
            Trouble::Stopped => f.write_str("the lookup lane has stopped"),
        }
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Miss::NoName => f.write_str("no such name"),
            Miss::NoRecords => f.write_str("no such records"),
            Miss::Temporary(t) => t.fmt(f),
        }
    }
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The configuration.
    Static,
    /// An earlier answer that is still good.
    Cache,
    /// A name server, just now.
    Dns,
    /// Nobody was asked: the name is impossible, the queue full, the lane gone.
    Lane,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The records, or why there are none.
    pub result: Result<Found, Miss>,
    /// For how long it stays good.
    pub ttl: Duration,
    /// Where it comes from.
    pub source: Source,
}

impl Answer {
    /// What it takes in memory, about.
    pub(crate) fn octets(&self) -> usize {
        let names = |names: &[Domain]| names.iter().map(|n| n.as_str().len() + 16).sum::<usize>();
        size_of::<Answer>()
            + match &self.result {
                Ok(Found::Mx(records)) => {
                    records.iter().map(|r| r.exchange.as_ref().map_or(0, |d| d.as_str().len()) + 24).sum()
                }
                Ok(Found::Addresses(ips)) => ips.len() * size_of::<IpAddr>(),
                Ok(Found::Names(claimed)) => names(claimed),
                Ok(Found::Client(client)) => names(&client.claimed) + 64,
                Ok(Found::Texts(texts)) => texts.iter().map(|t| t.len() + 16).sum(),
                Err(_) => 0,
            }
    }

    pub(crate) fn trouble(trouble: Trouble) -> Answer {
        Answer { result: Err(Miss::Temporary(trouble)), ttl: Duration::ZERO, source: Source::Lane }
    }

    /// The addresses, when that was the question and there are any.
    pub fn addresses(&self) -> &[IpAddr] {
        match &self.result {
            Ok(Found::Addresses(a)) => a,
            _ => &[],
        }
    }
    /// The confirmed name, when that was the question and there is one.
    pub fn confirmed_name(&self) -> Option<&Domain> {
        match &self.result {
            Ok(Found::Client(c)) => c.confirmed.as_ref(),
            _ => None,
        }
    }
    /// What to say when there is nothing: the miss, if it is one.
    pub fn miss(&self) -> Option<Miss> {
        self.result.as_ref().err().copied()
    }
}
