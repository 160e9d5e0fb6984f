//! The grammar of addresses: RFC 5321 §4.1.2 and §4.1.3 with the UTF-8 of RFC 6531 §3.3, to and from the values of
//! [`crate::base::address`].
//!
//! UTF-8 is read wherever the grammar allows it; whether the session may use it is the caller's question
//! (`is_international`). How it fails: [`AddressError`] names the first offence.

use crate::base::address::{Domain, Host, Mailbox, ReversePath};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Octets in a label of a domain at most (RFC 1035 §2.3.4).
pub const LABEL_OCTETS_MAX: usize = 63;
/// Octets of a path with its angle brackets at most (RFC 5321 §4.5.3.1.3).
pub const PATH_OCTETS_MAX: usize = 256;
/// Named deviation: RFC 5321 §4.5.3.1.1 says 64, but variable envelope return paths and rewritten senders (SRS) of
/// well-known mailing services are longer, and §4.5.3.1 asks to impose no limit that is not needed.
pub const LOCAL_OCTETS_TOLERATED_MAX: usize = 128;

const _: () = assert!(LOCAL_OCTETS_TOLERATED_MAX >= Mailbox::LOCAL_OCTETS_MAX);
const _: () = assert!(LOCAL_OCTETS_TOLERATED_MAX < PATH_OCTETS_MAX && Domain::OCTETS_MAX < PATH_OCTETS_MAX);

/// What is wrong with an address. The client wrote it; sending it again does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// There is nothing where an address should be.
    Empty,
    /// `<` or `>` is missing (RFC 5321 §4.1.2, Path).
    AngleBracket,
    /// Longer than [`PATH_OCTETS_MAX`].
    PathTooLong,
    /// A source route that is not `@a,@b:` (RFC 5321 §4.1.1.3).
    SourceRoute,
    /// No `@` after the local part.
    NoAt,
    /// The local part is neither a dot-string nor a quoted string.
    Local,
    /// A quoted string without end, or with something after its end.
    Quote,
    /// The local part is longer than [`LOCAL_OCTETS_TOLERATED_MAX`].
    LocalTooLong,
    /// A label is empty, has a character that is none of a letter, digit or inner hyphen, or is no U-label.
    Domain,
    /// The domain is longer than 255 octets or a label than 63.
    DomainTooLong,
    /// `[…]` that is neither an IPv4 nor an `IPv6:` literal.
    Literal,
    /// A control character or white space where none can be.
    Control,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressError::Empty => "an address is missing",
            AddressError::AngleBracket => "the address must stand in angle brackets",
            AddressError::PathTooLong => "the path is longer than 256 octets",
            AddressError::SourceRoute => "the source route is malformed",
            AddressError::NoAt => "the address has no @domain",
            AddressError::Local => "the local part is malformed",
            AddressError::Quote => "the quoted local part is malformed",
            AddressError::LocalTooLong => "the local part is too long",
            AddressError::Domain => "the domain is malformed",
            AddressError::DomainTooLong => "the domain is too long",
            AddressError::Literal => "the address literal is malformed",
            AddressError::Control => "the address has a control character",
        })
    }
}

impl std::error::Error for AddressError {}

/// What stands in RCPT TO.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ForwardPath {
    /// `<Postmaster>` without domain, in any case (RFC 5321 §4.1.1.3): the postmaster of this server.
    Postmaster,
    /// `<local@host>`
    Mailbox(Mailbox),
}

/// Reads a domain name: labels of letters, digits and inner hyphens, or U-labels (RFC 6531 §3.3).
pub fn parse_domain(text: &str) -> Result<Domain, AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if text.len() > Domain::OCTETS_MAX {
        return Err(AddressError::DomainTooLong);
    }
    text.split('.').try_for_each(check_label)?;
    Ok(Domain::from_checked(text))
}

fn check_label(label: &str) -> Result<(), AddressError> {
    if !label.is_ascii() {
        return check_u_label(label);
    }
    let bytes = label.as_bytes();
    if bytes.len() > LABEL_OCTETS_MAX {
        return Err(AddressError::DomainTooLong);
    }
    let inner = bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) if inner && *first != b'-' && *last != b'-' => Ok(()),
        _ => Err(AddressError::Domain),
    }
}

/// A U-label is what its own A-label decodes to (RFC 5890 §2.3.2.1). Characters that are only *mapped* to others, such
/// as the full-width full stop, would let one name be two for different readers.
fn check_u_label(label: &str) -> Result<(), AddressError> {
    // IDNA's mapping lets other ASCII pass; here letters, digits and hyphens are all there is (RFC 5891 §4.2.1).
    if !label.chars().all(|c| !c.is_ascii() || c.is_ascii_alphanumeric() || c == '-') {
        return Err(AddressError::Domain);
    }
    let ascii = idna::domain_to_ascii(label).map_err(|_| AddressError::Domain)?;
    if ascii.len() > LABEL_OCTETS_MAX {
        return Err(AddressError::DomainTooLong);
    }
    match idna::domain_to_unicode(&ascii) {
        (unicode, Ok(())) if unicode == label.to_lowercase() => Ok(()),
        _ => Err(AddressError::Domain),
    }
}

/// Reads a domain name or an address literal.
pub fn parse_host(text: &str) -> Result<Host, AddressError> {
    match text.strip_prefix('[') {
        Some(rest) => parse_literal(rest.strip_suffix(']').ok_or(AddressError::Literal)?).map(Host::Ip),
        None => parse_domain(text).map(Host::Domain),
    }
}

/// What stands between the brackets (RFC 5321 §4.1.3). General address literals are refused: no tag but `IPv6` is
/// registered, so no host could be meant.
fn parse_literal(text: &str) -> Result<IpAddr, AddressError> {
    match text.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => text[5..].parse::<Ipv6Addr>().map(IpAddr::V6),
        _ => text.parse::<Ipv4Addr>().map(IpAddr::V4),
    }
    .map_err(|_| AddressError::Literal)
}

/// Reads `local@host`, the local part as dot-string or quoted string.
pub fn parse_mailbox(text: &str) -> Result<Mailbox, AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    let (local, rest) = parse_local(text)?;
    if local.len() > LOCAL_OCTETS_TOLERATED_MAX {
        return Err(AddressError::LocalTooLong);
    }
    let host = parse_host(rest.strip_prefix('@').ok_or(AddressError::NoAt)?)?;
    Ok(Mailbox::from_checked(&local, host))
}

/// The local part without quotes and escapes, and what follows it.
fn parse_local(text: &str) -> Result<(String, &str), AddressError> {
    if let Some(quoted) = text.strip_prefix('"') {
        return parse_quoted(quoted);
    }
    let end = text.find('@').ok_or(AddressError::NoAt)?;
    let (local, rest) = text.split_at(end);
    let mut atoms = local.split('.');
    if atoms.all(|atom| !atom.is_empty() && atom.chars().all(is_atext)) {
        return Ok((local.to_owned(), rest));
    }
    Err(if local.chars().any(|c| c.is_control() || c == ' ') { AddressError::Control } else { AddressError::Local })
}

/// A quoted string after its opening quote (RFC 5321 §4.1.2: qtextSMTP and quoted-pairSMTP).
fn parse_quoted(text: &str) -> Result<(String, &str), AddressError> {
    let mut local = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        let c = match c {
            '"' => return Ok((local, &text[at + 1..])),
            // quoted-pairSMTP is a backslash and %d32-126 only.
            '\\' => chars.next().map(|(_, c)| c).filter(char::is_ascii).ok_or(AddressError::Quote)?,
            c => c,
        };
        if c.is_control() {
            return Err(AddressError::Control);
        }
        local.push(c);
    }
    Err(AddressError::Quote)
}

/// atext of RFC 5322 §3.2.3, with UTF-8 (RFC 6531 §3.3); C1 controls are UTF-8 but never meant.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii() && !c.is_control()
}

/// Reads the path of MAIL FROM at the start of `text`; returns it and what follows the `>`.
pub fn parse_reverse_path(text: &str) -> Result<(ReversePath, &str), AddressError> {
    let (inner, rest) = split_path(text)?;
    if inner.is_empty() {
        return Ok((ReversePath::Null, rest)); // RFC 5321 §4.5.5
    }
    Ok((ReversePath::Mailbox(parse_mailbox(skip_route(inner)?)?), rest))
}

/// Reads the path of RCPT TO at the start of `text`; returns it and what follows the `>`.
pub fn parse_forward_path(text: &str) -> Result<(ForwardPath, &str), AddressError> {
    let (inner, rest) = split_path(text)?;
    if inner.eq_ignore_ascii_case("postmaster") {
        return Ok((ForwardPath::Postmaster, rest));
    }
    Ok((ForwardPath::Mailbox(parse_mailbox(skip_route(inner)?)?), rest))
}

/// What stands between `<` and its `>`, and what follows. A `>` inside a quoted string is not the end.
fn split_path(text: &str) -> Result<(&str, &str), AddressError> {
    let inner = match text.strip_prefix('<') {
        Some(inner) => inner,
        None if text.is_empty() => return Err(AddressError::Empty),
        None => return Err(AddressError::AngleBracket),
    };
    let (mut quoted, mut escaped) = (false, false);
    for (at, b) in inner.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted && at + 2 > PATH_OCTETS_MAX => return Err(AddressError::PathTooLong),
            b'>' if !quoted => return Ok((&inner[..at], &inner[at + 1..])),
            _ => {}
        }
    }
    Err(if quoted { AddressError::Quote } else { AddressError::AngleBracket })
}

/// A source route `@a,@b:` must be accepted and should be ignored (RFC 5321 §4.1.1.3, Appendix C).
fn skip_route(inner: &str) -> Result<&str, AddressError> {
    if !inner.starts_with('@') {
        return Ok(inner);
    }
    // An IPv6 literal in the route has colons of its own.
    let mut in_literal = false;
    let colon = inner.bytes().position(|b| {
        in_literal = (in_literal || b == b'[') && b != b']';
        b == b':' && !in_literal
    });
    let (route, mailbox) = inner.split_at(colon.ok_or(AddressError::SourceRoute)?);
    for hop in route.split(',') {
        parse_host(hop.strip_prefix('@').ok_or(AddressError::SourceRoute)?).map_err(|_| AddressError::SourceRoute)?;
    }
    Ok(&mailbox[1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn domains() {
        for good in ["example.org", "EXAMPLE.org", "a", "1.2.3.4", "a-b.c", "xn--bcher-kva.example", "bücher.example"]
        {
            assert_eq!(parse_domain(good).unwrap().as_str(), good);
        }
        for bad in ["<በ", "a>በ.example", "bü cher.example", "bü@cher.example"] {
            assert_eq!(parse_domain(bad), Err(AddressError::Domain), "{bad}");
        }
        let long = format!("{}.org", "a".repeat(64));
        let longest = [&"a".repeat(63)[..]; 4].join(".");
        assert_eq!(longest.len(), 255);
        assert!(parse_domain(&longest).is_ok());
        for (bad, why) in [
            ("", AddressError::Empty),
            (".", AddressError::Domain),
            ("a..b", AddressError::Domain),
            ("a.", AddressError::Domain),
            (".a", AddressError::Domain),
            ("-a.b", AddressError::Domain),
            ("a-.b", AddressError::Domain),
            ("a_b.c", AddressError::Domain),
            ("a b", AddressError::Domain),
            ("a\0b", AddressError::Domain),
            ("example。org", AddressError::Domain),
            ("ｅxample.org", AddressError::Domain),
            (&long, AddressError::DomainTooLong),
            (&format!("{longest}a"), AddressError::DomainTooLong),
        ] {
            assert_eq!(parse_domain(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn literals() {
        for (text, ip) in [("[192.0.2.1]", "192.0.2.1"), ("[IPv6:2001:db8::1]", "2001:db8::1"), ("[ipv6:::1]", "::1")] {
            assert_eq!(parse_host(text), Ok(Host::Ip(ip.parse().unwrap())));
        }
        for bad in
            ["[]", "[192.0.2]", "[192.0.2.256]", "[2001:db8::1]", "[IPv6:1]", "[192.0.2.1", "[x:y]", "[IPv6:fe80::1%e]"]
        {
            assert_eq!(parse_host(bad), Err(AddressError::Literal), "{bad}");
        }
    }

    #[test]
    fn mailboxes() {
        let m = parse_mailbox("\"a b\\\"c\"@[192.0.2.7]").unwrap();
        assert_eq!((m.local(), m.host().to_string().as_str()), ("a b\"c", "[192.0.2.7]"));
        assert_eq!(parse_mailbox("\"ann\"@example.org").unwrap().to_string(), "ann@example.org");
        assert_eq!(parse_mailbox("\"\"@example.org").unwrap().to_string(), "\"\"@example.org");
        assert_eq!(parse_mailbox("o'neil+x=y/z@example.org").unwrap().local(), "o'neil+x=y/z");
        assert!(parse_mailbox("jürgen@example.org").unwrap().is_international());
        assert!(parse_mailbox(&format!("{}@b.c", "a".repeat(128))).is_ok());
        for (bad, why) in [
            ("", AddressError::Empty),
            ("ann", AddressError::NoAt),
            ("@example.org", AddressError::Local),
            ("a..b@c", AddressError::Local),
            (".a@c", AddressError::Local),
            ("a.@c", AddressError::Local),
            ("a b@c", AddressError::Control),
            ("a\tb@c", AddressError::Control),
            ("a@b@c", AddressError::Domain),
            ("a(c)@b", AddressError::Local),
            ("\"a@c", AddressError::Quote),
            ("\"a\"b@c", AddressError::NoAt),
            ("\"a\\", AddressError::Quote),
            ("\"a\\é\"@c", AddressError::Quote),
            ("\"a\u{7f}\"@c", AddressError::Control),
            ("a\u{85}@c", AddressError::Control),
            ("a@", AddressError::Empty),
            (&format!("{}@b.c", "a".repeat(129)), AddressError::LocalTooLong),
        ] {
            assert_eq!(parse_mailbox(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn paths() {
        assert_eq!(parse_reverse_path("<> SIZE=1"), Ok((ReversePath::Null, " SIZE=1")));
        let (path, rest) = parse_reverse_path("<@a.org,@[IPv6:::1],@b.org:\"x>y\"@c.org>z").unwrap();
        assert_eq!((path.to_string().as_str(), rest), ("\"x>y\"@c.org", "z"));
        assert_eq!(parse_forward_path("<PostMaster>"), Ok((ForwardPath::Postmaster, "")));
        assert!(matches!(parse_forward_path("<postmaster@a.org>"), Ok((ForwardPath::Mailbox(_), ""))));
        let long = format!("<{}@{}.{}>", "a".repeat(63), "b".repeat(63), ["c"; 64].join("."));
        assert_eq!(long.len(), 257);
        for (bad, why) in [
            ("", AddressError::Empty),
            ("ann@example.org", AddressError::AngleBracket),
            ("<ann@example.org", AddressError::AngleBracket),
            ("<\"ann@example.org>", AddressError::Quote),
            ("<<ann@example.org>>", AddressError::Local),
            ("<@a.org>", AddressError::SourceRoute),
            ("<@a.org,b.org:x@c>", AddressError::SourceRoute),
            ("<@:x@c>", AddressError::SourceRoute),
            ("< ann@example.org>", AddressError::Control),
            (&long, AddressError::PathTooLong),
        ] {
            assert_eq!(parse_reverse_path(bad).map(|_| ()), Err(why), "{bad:?}");
        }
        assert_eq!(parse_forward_path("<>"), Err(AddressError::Empty));
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_read_back(local in "[ -~é漢]{0,40}", host in "[a-z0-9]{1,9}(\\.[a-z0-9]{1,9}){0,3}") {
            let m = Mailbox::from_checked(&local, parse_host(&host).unwrap());
            prop_assert_eq!(parse_mailbox(&m.to_string()), Ok(m.clone()));
            let path = format!("<{m}> REST");
            prop_assert_eq!(parse_reverse_path(&path), Ok((ReversePath::Mailbox(m), " REST")));
        }

        #[test]
        fn literals_are_read_back(ip: IpAddr) {
            prop_assert_eq!(parse_host(&Host::Ip(ip).to_string()), Ok(Host::Ip(ip)));
        }

        #[test]
        fn foreign_text_never_panics_and_never_holds_controls(text in "\\PC*|[<>@\",:\\\\\\[\\] -~\\x00-\\x1f]*") {
            if let Ok(m) = parse_mailbox(&text) {
                let bad_char = m.to_string().chars().any(char::is_control);
                prop_assert!(!bad_char);
                prop_assert_eq!(parse_mailbox(&m.to_string()), Ok(m));
            }
            let _ = parse_reverse_path(&text);
            let _ = parse_forward_path(&text);
        }
    }
}
