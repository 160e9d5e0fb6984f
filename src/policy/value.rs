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
        /// A number with up to three decimals, such as a sum of weights; kept as thousandths.
        Score = "score",
        /// Text, compared without regard to ASCII case.
        Text = "text",
        /// Several texts, one a line: a condition holds when it holds for one of them.
        Texts = "texts",
        /// Several domains, one a line: a condition holds when it holds for one of them.
        Domains = "domains",
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
        matches!(self, Type::Text | Type::Domain | Type::Address | Type::Texts | Type::Domains)
    }
    /// Whether it is several texts, one a line.
    pub fn is_plural(self) -> bool {
        matches!(self, Type::Texts | Type::Domains)
    }
    /// The type of one of them.
    pub fn singular(self) -> Type {
        match self {
            Type::Texts => Type::Text,
            Type::Domains => Type::Domain,
            other => other,
        }
    }
    /// Whether it is kept as a number.
    pub fn is_number(self) -> bool {
        matches!(self, Type::Number | Type::Octets | Type::Duration | Type::Score)
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
    /// A score, in thousandths.
    Score(i64),
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
            Value::Score(n) => f.write_str(&show_thousandths(*n)),
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
    /// A score, in thousandths.
    Score(i64),
    /// Text; several are separated by line feeds.
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
            Given::Score(n) => Value::Score(*n),
            Given::Text(t) => Value::Text(t),
            Given::Ip(ip) => Value::Ip(*ip),
        }
    }
    /// Whether it can stand for a fact of `kind`.
    pub fn fits(&self, kind: Type) -> bool {
        match self {
            Given::Unknown => true,
            Given::Flag(_) => kind == Type::Flag,
            Given::Number(_) => kind.is_number() && kind != Type::Score,
            Given::Score(_) => kind == Type::Score,
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
            Type::Score => parse_thousandths(text).map(Given::Score),
            Type::Text | Type::Domain | Type::Address | Type::Texts | Type::Domains => {
                Some(Given::Text(text.to_owned()))
            }
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
            Type::Score => "a number such as 4.5",
            Type::Text | Type::Texts => "a text such as 'word'",
            Type::Domain | Type::Domains => "a domain such as 'example.org'",
            Type::Address => "an address such as 'ann@example.org'",
            Type::Ip => "an IP address such as 192.0.2.1",
        }
    }
}

/// Thousandths as a person writes them: `4.5`, `-2`, `0.125`.
pub fn show_thousandths(n: i64) -> String {
    let (sign, n) = (if n < 0 { "-" } else { "" }, n.unsigned_abs());
    let text = format!("{sign}{}.{:03}", n / 1000, n % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Reads a number with at most three decimals; `None` when it is none or too large.
pub fn parse_thousandths(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(part) || part.len() > 3 {
        return None;
    }
    let part: i64 = format!("{part:0<3}").parse().ok()?;
    let n = whole.parse::<i64>().ok()?.checked_mul(1000)?.checked_add(part)?;
    Some(if negative { -n } else { n })
}

/// Thousandths of a number that somebody else computed; `None` when it is none or too large to mean anything.
pub fn thousandths(n: f64) -> Option<i64> {
    (n.is_finite() && n.abs() < 1e12).then(|| (n * 1000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scores_as_people_write_them() {
        for (text, n) in [("4.5", 4500), ("-2", -2000), ("0.125", 125), ("+1.50", 1500), ("0", 0), ("-0.5", -500)] {
            assert_eq!(parse_thousandths(text), Some(n), "{text}");
        }
        for bad in ["", ".5", "5.", "1.2345", "x", "1e3", "--1", "99999999999999999999"] {
            assert_eq!(parse_thousandths(bad), None, "{bad}");
        }
        assert_eq!((thousandths(2.5), thousandths(f64::NAN), thousandths(1e300)), (Some(2500), None, None));
    }

    proptest! {
        #[test]
        fn showing_and_reading_are_inverses(n in -1_000_000_000_000i64..1_000_000_000_000) {
            prop_assert_eq!(parse_thousandths(&show_thousandths(n)), Some(n));
        }
    }
}
