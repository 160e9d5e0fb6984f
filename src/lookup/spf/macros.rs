//! Macros in SPF records (RFC 7208 §7): read once, expanded for each check.
//!
//! How it fails: what the grammar does not have is `None` at reading; expanding always gives a text, which may not be a
//! name: the caller looks.

use std::fmt::Write;
use std::net::IpAddr;

/// Octets an expansion may have; what is longer is cut from the left for a name (RFC 7208 §7.3) and ends an explanation.
const EXPANDED_MAX: usize = 4096;
/// Octets of a name (RFC 7208 §7.3).
const NAME_MAX: usize = 253;

/// A text with macros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MacroString(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Macro(Macro),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Macro {
    letter: char,
    /// Written in upper case: its value is escaped for a URL.
    escape: bool,
    /// How many parts from the right are kept; 0 keeps all.
    keep: usize,
    reverse: bool,
    delimiters: String,
}

/// What macros stand for.
#[derive(Clone, Debug)]
pub(super) struct Values<'a> {
    pub ip: IpAddr,
    pub local: &'a str,
    pub sender_domain: &'a str,
    /// The domain being checked.
    pub domain: &'a str,
    pub helo: &'a str,
    /// Our own name.
    pub host: &'a str,
    /// The confirmed name of the address, found out where a text needs it.
    pub confirmed: &'a str,
    /// Seconds since 1970.
    pub seconds: u64,
}

impl MacroString {
    /// A `macro-string` (RFC 7208 §7.1); `explaining` allows the letters that only explanations have.
    pub(super) fn parse(text: &str, explaining: bool) -> Option<MacroString> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            if c != '%' {
                // Visible characters; spaces stand in explanations only (explain-string).
                if !(c.is_ascii_graphic() || (explaining && c == ' ')) {
                    return None;
                }
                plain.push(c);
                continue;
            }
            let next = rest.chars().next()?;
            rest = &rest[next.len_utf8()..];
            match next {
                '%' => plain.push('%'),
                '_' => plain.push(' '),
                '-' => plain.push_str("%20"),
                '{' => {
                    let (inside, behind) = rest.split_once('}')?;
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(Part::Macro(Macro::parse(inside, explaining)?));
                    rest = behind;
                }
                _ => return None,
            }
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Some(MacroString(parts))
    }

    /// A `domain-spec`: a macro-string that ends in a top label or in a macro.
    pub(super) fn domain_spec(text: &str) -> Option<MacroString> {
        let spec = MacroString::parse(text, false)?;
        let ends_well = match spec.0.last()? {
            Part::Macro(_) => true,
            // `%%`, `%_` and `%-` are macro-expands too.
            Part::Text(_) if ["%%", "%_", "%-"].iter().any(|end| text.ends_with(end)) => true,
            Part::Text(end) => {
                let end = end.strip_suffix('.').unwrap_or(end);
                let (_, label) = end.rsplit_once('.')?;
                is_top_label(label)
            }
        };
        ends_well.then_some(spec)
    }

    /// Whether it needs the confirmed name of the client.
    pub(super) fn needs_confirmed(&self) -> bool {
        self.0.iter().any(|p| matches!(p, Part::Macro(m) if m.letter == 'p'))
    }

    /// As a text; `None` when it grows too long.
    pub(super) fn expand(&self, values: &Values) -> Option<String> {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Macro(m) => m.expand(values, &mut out),
            }
            if out.len() > EXPANDED_MAX {
                return None;
            }
        }
        Some(out)
    }

    /// As a name: without a final dot, cut to 253 octets by leaving out labels on the left (RFC 7208 §7.3).
    pub(super) fn expand_name(&self, values: &Values) -> Option<String> {
        let mut name = self.expand(values)?;
        if name.ends_with('.') {
            name.pop();
        }
        while name.len() > NAME_MAX {
            let dot = name.find('.')?;
            name.drain(..=dot);
        }
        Some(name)
    }
}

/// `( *alphanum ALPHA *alphanum ) / ( 1*alphanum "-" *( alphanum / "-" ) alphanum )` (RFC 7208 §7.1).
fn is_top_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !label.is_empty()
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
        && !label.bytes().all(|b| b.is_ascii_digit())
}

impl Macro {
    fn parse(inside: &str, explaining: bool) -> Option<Macro> {
        let first = inside.chars().next()?;
        let letter = first.to_ascii_lowercase();
        let known = "slodiphv".contains(letter) || (explaining && "crt".contains(letter));
        if !known {
            return None;
        }
        let rest = &inside[first.len_utf8()..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (count, mut rest) = rest.split_at(digits);
        let keep = match count {
            "" => 0,
            // Any larger number keeps all just as well.
            count => count.parse::<usize>().unwrap_or(usize::MAX),
        };
        // RFC 7208 §7.1: the number must not be zero.
        if !count.is_empty() && keep == 0 {
            return None;
        }
        let reverse = rest.starts_with(['r', 'R']);
        if reverse {
            rest = &rest[1..];
        }
        rest.chars().all(|c| ".-+,/_=".contains(c)).then(|| Macro {
            letter,
            escape: first.is_ascii_uppercase(),
            keep,
            reverse,
            delimiters: if rest.is_empty() { ".".into() } else { rest.into() },
        })
    }

    fn expand(&self, values: &Values, out: &mut String) {
        let value = self.value(values);
        let mut parts: Vec<&str> = value.split(|c: char| self.delimiters.contains(c)).collect();
        if self.reverse {
            parts.reverse();
        }
        if self.keep > 0 && self.keep < parts.len() {
            parts.drain(..parts.len() - self.keep);
        }
        let text = parts.join(".");
        if !self.escape {
            out.push_str(&text);
            return;
        }
        for b in text.bytes() {
            // RFC 3986 §2.3: what needs no escape.
            match b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                true => out.push(char::from(b)),
                false => drop(write!(out, "%{b:02X}")), // writing to a string cannot fail
            }
        }
    }

    fn value(&self, v: &Values) -> String {
        match self.letter {
            's' => format!("{}@{}", v.local, v.sender_domain),
            'l' => v.local.to_owned(),
            'o' => v.sender_domain.to_owned(),
            'd' => v.domain.to_owned(),
            'i' => match v.ip {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => {
                    let nibbles = ip.octets().into_iter().flat_map(|o| [o >> 4, o & 15]);
                    nibbles.map(|n| format!("{n:x}")).collect::<Vec<_>>().join(".")
                }
            },
            'p' => v.confirmed.to_owned(),
            'h' => v.helo.to_owned(),
            'v' => if v.ip.is_ipv4() { "in-addr" } else { "ip6" }.to_owned(),
            'c' => v.ip.to_string(),
            'r' => v.host.to_owned(),
            't' => v.seconds.to_string(),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(ip: &str) -> Values<'static> {
        Values {
            ip: ip.parse().unwrap(),
            local: "strong-bad",
            sender_domain: "email.example.com",
            domain: "email.example.com",
            helo: "mail.example.com",
            host: "mx.test",
            confirmed: "mx.example.org",
            seconds: 7,
        }
    }

    #[test]
    fn the_examples_of_rfc_7208_section_7_4() {
        for (text, want) in [
            ("%{s}", "strong-bad@email.example.com"),
            ("%{o}", "email.example.com"),
            ("%{d}", "email.example.com"),
            ("%{d4}", "email.example.com"),
            ("%{d3}", "email.example.com"),
            ("%{d2}", "example.com"),
            ("%{d1}", "com"),
            ("%{dr}", "com.example.email"),
            ("%{d2r}", "example.email"),
            ("%{l}", "strong-bad"),
            ("%{l-}", "strong.bad"),
            ("%{lr}", "strong-bad"),
            ("%{lr-}", "bad.strong"),
            ("%{l1r-}", "strong"),
            ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
            ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
            ("%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
            ("%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"),
            ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
            ("%{p}.%%.%{t}.%{r}", "mx.example.org.%.7.mx.test"),
            ("%{S}", "strong-bad%40email.example.com"),
        ] {
            let parsed = MacroString::parse(text, true).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(parsed.expand(&values("192.0.2.3")).unwrap(), want, "{text}");
        }
        let v6 = MacroString::parse("%{ir}.%{v}._spf.%{d2}", false).unwrap();
        assert_eq!(
            v6.expand(&values("2001:db8::cb01")).unwrap(),
            "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com"
        );
    }

    #[test]
    fn names_are_cut_on_the_left() {
        let long = format!("{}.example.com", vec!["a".repeat(50); 6].join("."));
        let name = MacroString::domain_spec(&long).unwrap().expand_name(&values("192.0.2.3")).unwrap();
        assert!(name.len() <= NAME_MAX && name.ends_with(".example.com") && !name.starts_with('.'));
    }

    #[test]
    fn ends_of_domains() {
        for good in ["example.com", "example.com.", "%{d}", "x.%{d}", "a.xn--p1ai", "x.%%"] {
            assert!(MacroString::domain_spec(good).is_some(), "{good}");
        }
        for bad in ["", "com", "example.", "1.2.3.4", "a.-b", "a.b-", "%", "%{", "%{}", "%{d", "a b.c", "%x.com"] {
            assert!(MacroString::domain_spec(bad).is_none(), "{bad}");
        }
    }
}
