//! Command lines: framing, the verb table, and the grammar of each argument (RFC 5321 §4.1.1, RFC 3030 §2, RFC 4954 §4).
//!
//! Verbs compare without case; arguments come as text that has no control character but tab. How it fails:
//! [`LineError`] and [`ArgumentError`] name the offence; the client wrote it.

use crate::base::address::ReversePath;
use crate::wire::address::{self, AddressError, ForwardPath};
use memchr::memchr;

verbs! {
    /// RFC 5321 §4.1.1.1
    Ehlo = "EHLO",
    /// RFC 5321 §4.1.1.1
    Helo = "HELO",
    /// RFC 2033 §4.1
    Lhlo = "LHLO",
    /// RFC 5321 §4.1.1.2
    Mail = "MAIL",
    /// RFC 5321 §4.1.1.3
    Rcpt = "RCPT",
    /// RFC 5321 §4.1.1.4
    Data = "DATA",
    /// RFC 3030 §2
    Bdat = "BDAT",
    /// RFC 5321 §4.1.1.5
    Rset = "RSET",
    /// RFC 5321 §4.1.1.6
    Vrfy = "VRFY",
    /// RFC 5321 §4.1.1.7
    Expn = "EXPN",
    /// RFC 5321 §4.1.1.8
    Help = "HELP",
    /// RFC 5321 §4.1.1.9
    Noop = "NOOP",
    /// RFC 5321 §4.1.1.10
    Quit = "QUIT",
    /// RFC 3207 §4
    StartTls = "STARTTLS",
    /// RFC 4954 §4
    Auth = "AUTH",
    /// Postfix's XCLIENT_README
    Xclient = "XCLIENT",
}

/// What a line turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A verb and its argument without the spaces around it.
    Command(Verb, &'a str),
    /// A word no service of ours knows.
    Unknown,
    /// Nothing but white space.
    Empty,
    /// The first line of another protocol: a browser, a proxy or a TLS client. Answering it as SMTP would let a web page
    /// speak to us through its visitor.
    Foreign,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineError {
    /// A control character other than tab, a NUL among them.
    Control,
    /// Octets above 127 that are no UTF-8.
    NotUtf8,
}

/// Words that begin requests of other protocols, never an SMTP session.
const FOREIGN: &[&str] =
    &["GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE", "HOST:", "PRI"];

/// Reads a line without its CRLF.
pub fn parse_line(line: &[u8]) -> Result<Line<'_>, LineError> {
    // A TLS record: handshake (22), major version 3 (RFC 8446 §5.1).
    if line.starts_with(&[0x16, 0x03]) {
        return Ok(Line::Foreign);
    }
    let word = line.split(|b| *b == b' ').next().unwrap_or_default();
    if FOREIGN.iter().any(|f| f.as_bytes().eq_ignore_ascii_case(word)) {
        return Ok(Line::Foreign);
    }
    if line.iter().any(|b| *b < b' ' && *b != b'\t' || *b == 0x7f) {
        return Err(LineError::Control);
    }
    let text = std::str::from_utf8(line).map_err(|_| LineError::NotUtf8)?;
    // RFC 5321 §4.1.1: trailing white space is tolerated before the CRLF.
    let text = text.trim_end_matches([' ', '\t']);
    if text.is_empty() {
        return Ok(Line::Empty);
    }
    let (word, argument) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    Ok(Verb::of(word).map_or(Line::Unknown, |verb| Line::Command(verb, argument.trim_start_matches([' ', '\t']))))
}

/// How the octets that arrived begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A line; `consumed` counts its CRLF.
    Line {
        /// Without CRLF.
        line: &'a [u8],
        /// With CRLF.
        consumed: usize,
    },
    /// No CRLF yet, and no reason to stop waiting.
    Partial,
    /// A LF without CR comes before any CRLF (RFC 5321 §2.3.8: never a line end).
    BareLf,
    /// More than the limit without CRLF.
    TooLong,
}

/// Finds the first line in `bytes`. `octets_max` counts the CRLF (RFC 5321 §4.5.3.1.4).
pub fn frame(bytes: &[u8], octets_max: usize) -> Frame<'_> {
    let window = &bytes[..bytes.len().min(octets_max)];
    match memchr(b'\n', window) {
        Some(n) if n > 0 && window[n - 1] == b'\r' => Frame::Line { line: &window[..n - 1], consumed: n + 1 },
        Some(_) => Frame::BareLf,
        None if bytes.len() >= octets_max => Frame::TooLong,
        None => Frame::Partial,
    }
}

/// What is wrong with an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentError {
    /// `FROM:` or `TO:` is missing.
    Keyword,
    /// The path is malformed.
    Path(AddressError),
    /// Not what the command takes.
    Syntax,
}

/// The argument of MAIL: the path, and the parameters as text.
pub fn parse_mail(argument: &str) -> Result<(ReversePath, &str), ArgumentError> {
    address::parse_reverse_path(after_keyword(argument, "FROM:")?).map_err(ArgumentError::Path)
}

/// The argument of RCPT: the path, and the parameters as text.
pub fn parse_rcpt(argument: &str) -> Result<(ForwardPath, &str), ArgumentError> {
    address::parse_forward_path(after_keyword(argument, "TO:")?).map_err(ArgumentError::Path)
}

/// Named deviation: a space after the colon is tolerated, as people at a terminal and old clients write it (RFC 5321
/// §3.3 forbids sending it).
fn after_keyword<'a>(argument: &'a str, keyword: &str) -> Result<&'a str, ArgumentError> {
    match argument.get(..keyword.len()) {
        Some(word) if word.eq_ignore_ascii_case(keyword) => Ok(argument[keyword.len()..].trim_start_matches(' ')),
        _ => Err(ArgumentError::Keyword),
    }
}

/// The argument of BDAT (RFC 3030 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Octets that follow the command.
    pub octets: u64,
    /// Whether the message ends with them.
    pub last: bool,
}

/// Reads `n` or `n LAST`. A number beyond 20 digits is no number; one beyond 64 bits is an error too, because the
/// octets that follow could not be counted.
pub fn parse_bdat(argument: &str) -> Result<Chunk, ArgumentError> {
    let (size, last) = match argument.split_once(' ') {
        Some((size, word)) if word.trim_start_matches(' ').eq_ignore_ascii_case("LAST") => (size, true),
        Some(_) => return Err(ArgumentError::Syntax),
        None => (argument, false),
    };
    if size.is_empty() || size.len() > 20 || !size.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ArgumentError::Syntax);
    }
    size.parse().map(|octets| Chunk { octets, last }).map_err(|_| ArgumentError::Syntax)
}

/// The argument of AUTH: mechanism, and the initial response in base64 (`=` is the empty one, RFC 4954 §4).
pub fn parse_auth(argument: &str) -> Result<(&str, Option<&str>), ArgumentError> {
    let (mechanism, initial) = match argument.split_once(' ') {
        Some((m, i)) => (m, Some(i.trim_start_matches(' '))),
        None => (argument, None),
    };
    // sasl-mech = 1*20mech-char (RFC 4422 §3.1)
    let name_ok = (1..=20).contains(&mechanism.len())
        && mechanism.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let initial_ok = initial.is_none_or(|i| !i.is_empty() && !i.contains(' '));
    if name_ok && initial_ok { Ok((mechanism, initial)) } else { Err(ArgumentError::Syntax) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines() {
        assert_eq!(parse_line(b"mail  FROM:<> "), Ok(Line::Command(Verb::Mail, "FROM:<>")));
        assert_eq!(parse_line(b"QUIT\t"), Ok(Line::Command(Verb::Quit, "")));
        assert_eq!(parse_line(b"QUITE"), Ok(Line::Unknown));
        assert_eq!(parse_line(b"  "), Ok(Line::Empty));
        assert_eq!(parse_line(b"GET / HTTP/1.1"), Ok(Line::Foreign));
        assert_eq!(parse_line(b"\x16\x03\x01\x02"), Ok(Line::Foreign));
        assert_eq!(parse_line(b"HELO a\0b"), Err(LineError::Control));
        assert_eq!(parse_line(b"HELO a\rb"), Err(LineError::Control));
        assert_eq!(parse_line(b"VRFY \xff"), Err(LineError::NotUtf8));
        for v in Verb::ALL {
            assert_eq!(Verb::of(&v.text().to_lowercase()), Some(*v));
        }
    }

    #[test]
    fn frames() {
        assert_eq!(frame(b"NOOP\r\nX", 512), Frame::Line { line: b"NOOP", consumed: 6 });
        assert_eq!(frame(b"NOOP\r", 512), Frame::Partial);
        assert_eq!(frame(b"NOOP\nRSET\r\n", 512), Frame::BareLf);
        assert_eq!(frame(b"\n", 512), Frame::BareLf);
        assert_eq!(frame(b"12345\r\n", 7), Frame::Line { line: b"12345", consumed: 7 });
        assert_eq!(frame(b"123456\r\n", 7), Frame::TooLong);
    }

    #[test]
    fn arguments() {
        assert!(matches!(parse_mail("from: <> SIZE=1"), Ok((ReversePath::Null, " SIZE=1"))));
        assert_eq!(parse_mail("<a@b>"), Err(ArgumentError::Keyword));
        assert_eq!(parse_mail("FROM:a@b"), Err(ArgumentError::Path(AddressError::AngleBracket)));
        assert_eq!(parse_rcpt("FROM:<a@b>"), Err(ArgumentError::Keyword));
        assert_eq!(parse_bdat("10 last"), Ok(Chunk { octets: 10, last: true }));
        assert_eq!(parse_bdat("18446744073709551615"), Ok(Chunk { octets: u64::MAX, last: false }));
        for bad in ["", "x", "-1", "1 LST", "18446744073709551616", "1 LAST x", "0x10", "100000000000000000000"] {
            assert_eq!(parse_bdat(bad), Err(ArgumentError::Syntax), "{bad}");
        }
        assert_eq!(parse_auth("PLAIN ="), Ok(("PLAIN", Some("="))));
        assert_eq!(parse_auth("SCRAM-SHA-256"), Ok(("SCRAM-SHA-256", None)));
        for bad in ["", "PLAIN a b", "PL*IN", "ABCDEFGHIJKLMNOPQRSTU"] {
            assert_eq!(parse_auth(bad), Err(ArgumentError::Syntax), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>, text: String) {
            let _ = parse_line(&bytes);
            let _ = frame(&bytes, 16);
            let _ = (parse_mail(&text), parse_rcpt(&text), parse_bdat(&text), parse_auth(&text));
        }
    }
}
