//! The text of an SPF record, read into terms (RFC 7208 §4.6, §5, §6, §12).
//!
//! How it fails: any offence anywhere in the record makes the whole record [`Broken`] with the term (RFC 7208 §4.6: a
//! syntax error ends the check with "permerror", also behind a term that would have matched).

use super::macros::MacroString;
use crate::base::inquiry::Verified;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Terms of a record at most. Only ten can ask for something; this bounds the rest.
const TERMS_MAX: usize = 300;

/// A term that is not what the grammar wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken(pub String);

/// A record that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub directives: Vec<Directive>,
    pub redirect: Option<MacroString>,
    pub explain: Option<MacroString>,
}

/// A mechanism, and what it says when it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directive {
    pub result: Verified,
    pub mechanism: Mechanism,
}

/// The mechanisms of RFC 7208 §5. A name that is not given is the domain being checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    All,
    Include(MacroString),
    A(Option<MacroString>, Prefixes),
    Mx(Option<MacroString>, Prefixes),
    Ptr(Option<MacroString>),
    Ip4(Ipv4Addr, u8),
    Ip6(Ipv6Addr, u8),
    Exists(MacroString),
}

/// How much of an address counts, for each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefixes {
    pub v4: u8,
    pub v6: u8,
}

/// Whether a TXT record is an SPF record at all (RFC 7208 §4.5): the version, alone or with a space behind it.
pub(super) fn is_spf(text: &[u8]) -> bool {
    const VERSION: &[u8] = b"v=spf1";
    text.len() >= VERSION.len()
        && text[..VERSION.len()].eq_ignore_ascii_case(VERSION)
        && matches!(text.get(VERSION.len()), None | Some(b' '))
}

impl Record {
    /// Reads the text of a record for which [`is_spf`] holds.
    pub(super) fn parse(text: &[u8]) -> Result<Record, Broken> {
        let text = std::str::from_utf8(text).ok().filter(|t| t.is_ascii());
        let text = text.ok_or_else(|| Broken("octets outside of US-ASCII".into()))?;
        let mut record = Record::default();
        for (n, term) in text.split(' ').skip(1).filter(|t| !t.is_empty()).enumerate() {
            if n >= TERMS_MAX {
                return Err(Broken(format!("more than {TERMS_MAX} terms")));
            }
            record.add(term).ok_or_else(|| Broken(term.chars().take(80).collect()))?;
        }
        Ok(record)
    }

    fn add(&mut self, term: &str) -> Option<()> {
        if let Some((name, value)) = modifier(term) {
            let slot = match name.to_ascii_lowercase().as_str() {
                "redirect" => &mut self.redirect,
                "exp" => &mut self.explain,
                // RFC 7208 §6: unknown modifiers are ignored, but for their syntax.
                _ => return MacroString::parse(value, true).map(drop),
            };
            // RFC 7208 §6: each at most once.
            return match slot.replace(MacroString::domain_spec(value)?) {
                None => Some(()),
                Some(_) => None,
            };
        }
        let (result, rest) = match term.as_bytes().first()? {
            b'+' => (Verified::Pass, &term[1..]),
            b'-' => (Verified::Fail, &term[1..]),
            b'~' => (Verified::Softfail, &term[1..]),
            b'?' => (Verified::Neutral, &term[1..]),
            _ => (Verified::Pass, term),
        };
        self.directives.push(Directive { result, mechanism: Mechanism::parse(rest)? });
        Some(())
    }
}

/// `name=value`, where the name is one (RFC 7208 §12: `ALPHA *( ALPHA / DIGIT / "-" / "_" / "." )`).
fn modifier(term: &str) -> Option<(&str, &str)> {
    let (name, value) = term.split_once('=')?;
    let named = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    named.then_some((name, value))
}

impl Mechanism {
    fn parse(text: &str) -> Option<Mechanism> {
        let end = text.find([':', '/']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let argument = rest.strip_prefix(':');
        Some(match name.to_ascii_lowercase().as_str() {
            "all" if rest.is_empty() => Mechanism::All,
            "include" => Mechanism::Include(MacroString::domain_spec(argument?)?),
            "exists" => Mechanism::Exists(MacroString::domain_spec(argument?)?),
            "a" => {
                let (name, prefixes) = name_and_prefixes(rest)?;
                Mechanism::A(name, prefixes)
            }
            "mx" => {
                let (name, prefixes) = name_and_prefixes(rest)?;
                Mechanism::Mx(name, prefixes)
            }
            "ptr" if rest.is_empty() => Mechanism::Ptr(None),
            "ptr" => Mechanism::Ptr(Some(MacroString::domain_spec(argument?)?)),
            "ip4" => {
                let (ip, length) = network(argument?, 32)?;
                Mechanism::Ip4(ip.parse().ok()?, length)
            }
            "ip6" => {
                let (ip, length) = network(argument?, 128)?;
                Mechanism::Ip6(ip.parse().ok()?, length)
            }
            _ => return None,
        })
    }
}

fn network(text: &str, most: u8) -> Option<(&str, u8)> {
    match text.split_once('/') {
        Some((ip, length)) => Some((ip, number(length, most)?)),
        None => Some((text, most)),
    }
}

/// `[":" domain-spec] ["/" ip4-cidr-length] ["//" ip6-cidr-length]`. Lengths are taken from the end, since a slash may
/// stand in a macro.
fn name_and_prefixes(rest: &str) -> Option<(Option<MacroString>, Prefixes)> {
    let mut prefixes = Prefixes { v4: 32, v6: 128 };
    let mut front = rest;
    if let Some((before, length)) = front.rsplit_once("//")
        && let Some(length) = number(length, 128)
    {
        (front, prefixes.v6) = (before, length);
    }
    if let Some((before, length)) = front.rsplit_once('/')
        && length.bytes().all(|b| b.is_ascii_digit())
        && !length.is_empty()
    {
        (front, prefixes.v4) = (before, number(length, 32)?);
    }
    let name = match front {
        "" => None,
        named => Some(MacroString::domain_spec(named.strip_prefix(':')?)?),
    };
    Some((name, prefixes))
}

/// A number without leading zeros, up to `most`.
fn number(text: &str, most: u8) -> Option<u8> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten().filter(|n| *n <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(text: &str) -> bool {
        Record::parse(text.as_bytes()).is_err()
    }

    #[test]
    fn versions() {
        for (text, is) in [
            ("v=spf1", true),
            ("V=SPF1 -all", true),
            ("v=spf10 -all", false),
            ("v=spf1-all", false),
            ("v=spf", false),
            ("", false),
        ] {
            assert_eq!(is_spf(text.as_bytes()), is, "{text}");
        }
    }

    #[test]
    fn terms_of_every_kind() {
        let r = Record::parse(
            b"v=spf1 +a ~mx:mx.test/24//64 ?ptr:x.test -ip4:192.0.2.0/24 ip6:2001:db8::/32 exists:%{ir}.x.test \
              include:i.test A/8 a//96 -ALL redirect=r.test exp=e.test moo=%{c}",
        )
        .unwrap();
        assert_eq!(r.directives.len(), 10);
        let mx = &r.directives[1];
        assert_eq!(mx.result, Verified::Softfail);
        assert!(matches!(mx.mechanism, Mechanism::Mx(Some(_), Prefixes { v4: 24, v6: 64 })));
        assert!(matches!(r.directives[8].mechanism, Mechanism::A(None, Prefixes { v4: 32, v6: 96 })));
        assert_eq!(r.directives[9], Directive { result: Verified::Fail, mechanism: Mechanism::All });
        assert!(r.redirect.is_some() && r.explain.is_some());
    }

    #[test]
    fn what_the_grammar_does_not_have_is_broken() {
        for bad in [
            "v=spf1 all:x",
            "v=spf1 all/8",
            "v=spf1 include",
            "v=spf1 include:",
            "v=spf1 exists",
            "v=spf1 a/33",
            "v=spf1 a/024",
            "v=spf1 a//129",
            "v=spf1 a/",
            "v=spf1 a:",
            "v=spf1 a:/24",
            "v=spf1 a:example.com/",
            "v=spf1 a:111.222.33.44",
            "v=spf1 ip4:1.2.3",
            "v=spf1 ip4:1.2.3.4/33",
            "v=spf1 ip4",
            "v=spf1 ip6:1.2.3.4",
            "v=spf1 ptr/0",
            "v=spf1 ptr:",
            "v=spf1 foo",
            "v=spf1 --all",
            "v=spf1 redirect=a.test redirect=a.test",
            "v=spf1 exp=",
            "v=spf1 moo=%a",
            "v=spf1 exists:%{x}.test",
            "v=spf1 exists:%{d0}.test",
            "v=spf1 -all\u{a0}",
            "v=spf1 a:museum",
        ] {
            assert!(broken(bad), "{bad}");
        }
        assert!(broken(&format!("v=spf1{}", " a".repeat(TERMS_MAX + 1))));
        assert!(!broken("v=spf1  a:%{d1/}  -all "), "spaces, and a slash in a macro");
    }
}
