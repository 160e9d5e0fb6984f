//! The values of facts: their types, a borrowed form for evaluation and an owned form for what is told from outside.
//!
//! How it fails: [`Given::parse`] says what was expected.

use std::fmt;
use std::net::IpAddr;

crate::knob_words! {
    /// The type of a fact or of an expression's part.
    pub enum Type {
        /// true or false
        Flag = "flag",
        /// A whole number.
        Number = "number",
        /// A number of octets: `10MiB`.
        Octets = "octets",
        /// A time: `5m`.
        Duration = "duration",
        /// Text, compared without regard to ASCII case.
        Text = "text",
        /// A domain name or address literal; a list's `domains` apply.
        Domain = "domain",
        /// A mail address; a list's `addresses` and `domains` apply.
        Address = "address",
        /// An IP address; a list's `networks` apply.
        Ip = "ip",
    }
}

impl Type {
    /// Whether it is kept as text.
    pub fn is_text(self) -> bool {
        matches!(self, Type::Text | Type::Domain | Type::Address)
    }
    /// Whether it is kept as a number.
    pub fn is_number(self) -> bool {
        matches!(self, Type::Number | Type::Octets | Type::Duration)
    }
}

/// A fact as rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Nobody has found out (yet). No condition on it holds, neither it nor its opposite.
    Unknown,
    /// true or false
    Flag(bool),
    /// A number, octets, or a duration in milliseconds.
    Number(i64),
    /// Text; empty when there is none (null sender, no user).
    Text(&'a str),
    /// An address; IPv4-mapped IPv6 has been made IPv4.
    Ip(IpAddr),
}

impl Value<'_> {
    /// From a count of anything.
    pub fn count(n: u64) -> Value<'static> {
        Value::Number(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Unknown => f.write_str("unknown"),
            Value::Flag(b) => b.fmt(f),
            Value::Number(n) => n.fmt(f),
            Value::Text(t) => write!(f, "{t:?}"),
            Value::Ip(ip) => ip.fmt(f),
        }
    }
}

/// A value told from outside: by a lookup, a case file, a recorded session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// Looked for and not to be had (a lookup that failed).
    Unknown,
    /// true or false
    Flag(bool),
    /// A number, octets, or a duration in milliseconds.
    Number(i64),
    /// Text.
    Text(String),
    /// An address.
    Ip(IpAddr),
}

impl Given {
    /// As rules see it.
    pub fn value(&self) -> Value<'_> {
        match self {
            Given::Unknown => Value::Unknown,
            Given::Flag(b) => Value::Flag(*b),
            Given::Number(n) => Value::Number(*n),
            Given::Text(t) => Value::Text(t),
            Given::Ip(ip) => Value::Ip(*ip),
        }
    }
    /// Whether it can stand for a fact of `kind`.
    pub fn fits(&self, kind: Type) -> bool {
        match self {
            Given::Unknown => true,
            Given::Flag(_) => kind == Type::Flag,
            Given::Number(_) => kind.is_number(),
            Given::Text(_) => kind.is_text(),
            Given::Ip(_) => kind == Type::Ip,
        }
    }
    /// Reads a value of `kind` as a person writes it: `true`, `42`, `10MiB`, `5m`, `192.0.2.1`, `unknown`, text.
    pub fn parse(kind: Type, text: &str) -> Result<Given, String> {
        use crate::base::knob::{KnobType, Octets, Raw, parse_duration};
        if text == "unknown" {
            return Ok(Given::Unknown);
        }
        let number = |n: u64| Given::Number(i64::try_from(n).unwrap_or(i64::MAX));
        let parsed = match kind {
            Type::Flag => text.parse().ok().map(Given::Flag),
            Type::Number => text.parse().ok().map(Given::Number),
            Type::Octets => Octets::parse(&Raw::Text(text.into())).ok().map(|o| number(o.0)),
            Type::Duration => parse_duration(text).map(|d| number(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))),
            Type::Text | Type::Domain | Type::Address => Some(Given::Text(text.to_owned())),
            Type::Ip => text.parse::<IpAddr>().ok().map(|ip| Given::Ip(ip.to_canonical())),
        };
        parsed.ok_or_else(|| format!("expected {} or `unknown`, found {text:?}", kind.example()))
    }
}

impl Type {
    /// What a value of the type looks like, for messages.
    pub fn example(self) -> &'static str {
        match self {
            Type::Flag => "true or false",
            Type::Number => "a number such as 5",
            Type::Octets => "a size such as 10MiB",
            Type::Duration => "a duration such as 30s or 5m",
            Type::Text => "a text such as 'word'",
            Type::Domain => "a domain such as 'example.org'",
            Type::Address => "an address such as 'ann@example.org'",
            Type::Ip => "an IP address such as 192.0.2.1",
        }
    }
}
