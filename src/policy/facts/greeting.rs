//! What the client calls itself in HELO, EHLO or LHLO.

use super::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address in `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3).
pub(in crate::policy) fn literal(name: &str) -> Option<IpAddr> {
    let inner = name.strip_prefix('[')?.strip_suffix(']')?;
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => inner[5..].parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => inner.parse::<Ipv4Addr>().ok().map(IpAddr::from),
    }
}

/// Whether it is a domain of at least two labels or an address literal (RFC 5321 §4.1.1.1, §2.3.5). A bare address,
/// though it looks like labels, is neither.
pub(in crate::policy) fn is_valid(name: &str) -> bool {
    if name.starts_with('[') {
        return literal(name).is_some();
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b >= 0x80)
    };
    let numeric_end = name.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 255 && name.contains('.') && name.split('.').all(label) && !numeric_end
}

/// The rows.
pub const FACTS: &[Fact] = &[
    Fact::told("helo", Type::Domain, Span::from(Stage::Helo), "Argument of HELO or EHLO, as given.", |v| {
        Value::Text(&v.state.greeting.name)
    })
    .settable(|s, g| s.greeting.name = text(g).into()),
    Fact::told(
        "helo.valid",
        Type::Flag,
        Span::from(Stage::Helo),
        "Whether it is a full domain name or an address literal (RFC 5321 §4.1.1.1).",
        |v| Value::Flag(is_valid(&v.state.greeting.name)),
    ),
    Fact::told(
        "helo.literal",
        Type::Flag,
        Span::from(Stage::Helo),
        "Whether it is an address literal such as `[192.0.2.1]`.",
        |v| Value::Flag(literal(&v.state.greeting.name).is_some()),
    ),
    Fact::told(
        "helo.matches_client",
        Type::Flag,
        Span::from(Stage::Helo),
        "Whether it is the client's address literal or its name in the DNS; unknown for a name until the DNS was asked.",
        |v| {
            let name = v.state.greeting.name.as_str();
            if let Some(ip) = literal(name) {
                return Value::Flag(v.state.peer.ip == Some(ip.to_canonical()));
            }
            let Some(ptr) = FactId::find("client.ptr") else { return Value::Unknown };
            match v.state.heard(ptr) {
                Value::Text(ptr) => Value::Flag(!ptr.is_empty() && ptr.eq_ignore_ascii_case(name)),
                _ => Value::Unknown,
            }
        },
    )
    .computed_from("client.ptr", Topic::Reverse),
    Fact::looked(
        "helo.matches",
        Type::Flag,
        Stage::Helo,
        Topic::HeloHost,
        "Whether it has the client's address in the DNS, or is the client's address literal; unknown when the lookup failed.",
    ),
    Fact::told("helo.extended", Type::Flag, Span::from(Stage::Helo), "Whether it was EHLO or LHLO rather than HELO.", |v| {
        Value::Flag(v.state.greeting.extended)
    })
    .settable(|s, g| s.greeting.extended = flag(g)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_and_are_not_names() {
        for good in ["mx.example.org", "mx.example.org.", "[192.0.2.1]", "[IPv6:2001:db8::1]", "a_b.example"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["localhost", "192.0.2.1", "[192.0.2]", "[2001:db8::1]", "", ".", "a..b", "-a.b", "a b.c", "[IPv6:x"]
        {
            assert!(!is_valid(bad), "{bad}");
        }
        assert_eq!(literal("[ipv6:::1]"), Some("::1".parse().unwrap()));
    }
}
