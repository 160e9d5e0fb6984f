//! The grammar of POP3 (RFC 1939 §3, RFC 2449 §4): lines, verbs, arguments; the catalogue of replies ([`replies`]) and
//! the transport form of a message ([`text`]).
//!
//! Named deviation: a line may end in LF alone. Nothing a POP3 client says is passed on, so no other reader can see other
//! line ends, and people do type to this service. How it fails: [`LineError`] and [`ArgumentError`] name the offence; the
//! client wrote it.

pub mod replies;
pub mod text;

use memchr::memchr;

/// Octets of a command line with its line end at most (RFC 2449 §4).
pub const LINE_OCTETS_MAX: usize = 255;
/// Octets of a line in an AUTH exchange at most, the AUTH command with its initial response included. RFC 5034 §4 wants
/// the longest message of any mechanism to fit; this is what RFC 4954 §4 names.
pub const SASL_LINE_OCTETS_MAX: usize = 12_288;

verbs! {
    /// RFC 1939 §7
    Apop = "APOP",
    /// RFC 5034 §4
    Auth = "AUTH",
    /// RFC 2449 §5
    Capa = "CAPA",
    /// RFC 1939 §5
    Dele = "DELE",
    /// RFC 6856 §3
    Lang = "LANG",
    /// RFC 1081, left out of its successors
    Last = "LAST",
    /// RFC 1939 §5
    List = "LIST",
    /// RFC 1939 §5
    Noop = "NOOP",
    /// RFC 1939 §7
    Pass = "PASS",
    /// RFC 1939 §4, §6
    Quit = "QUIT",
    /// RFC 1939 §5
    Retr = "RETR",
    /// RFC 1081, left out of its successors
    Rpop = "RPOP",
    /// RFC 1939 §5
    Rset = "RSET",
    /// RFC 1939 §5
    Stat = "STAT",
    /// RFC 2595 §4
    Stls = "STLS",
    /// RFC 1939 §7
    Top = "TOP",
    /// RFC 1939 §7
    Uidl = "UIDL",
    /// RFC 1939 §7
    User = "USER",
    /// RFC 6856 §2
    Utf8 = "UTF8",
}

/// How the octets that arrived begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A line; `consumed` counts its line end.
    Line {
        /// Without its line end.
        line: &'a [u8],
        /// With it.
        consumed: usize,
    },
    /// No line end yet, and no reason to stop waiting.
    Partial,
    /// More than the limit without a line end.
    TooLong,
}

/// Finds the first line in `bytes`. `octets_max` counts the line end.
pub fn frame(bytes: &[u8], octets_max: usize) -> Frame<'_> {
    let window = &bytes[..bytes.len().min(octets_max)];
    match memchr(b'\n', window) {
        Some(n) => Frame::Line { line: window[..n].strip_suffix(b"\r").unwrap_or(&window[..n]), consumed: n + 1 },
        None if bytes.len() >= octets_max => Frame::TooLong,
        None => Frame::Partial,
    }
}

/// What a line turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A verb and what stands behind the one space after it: for a password every space may count.
    Command(Verb, &'a str),
    /// A word we do not know.
    Unknown,
    /// Nothing but white space.
    Empty,
    /// The first line of another protocol: a browser, a proxy or a TLS client. Answering it as POP3 would let a web page
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

/// Words that begin requests of other protocols, never a line of POP3.
const FOREIGN: &[&str] =
    &["GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE", "HOST:", "PRI", "EHLO", "HELO"];

/// Reads a line without its line end.
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
    if text.trim_matches([' ', '\t']).is_empty() {
        return Ok(Line::Empty);
    }
    let (word, argument) = text.split_once(' ').unwrap_or((text.trim_end_matches('\t'), ""));
    Ok(Verb::of(word).map_or(Line::Unknown, |verb| Line::Command(verb, argument)))
}

/// What is wrong with an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentError {
    /// There are too few or too many.
    Count,
    /// It is no number.
    Number,
}

/// Exactly `N` arguments, separated by spaces (RFC 1939 §3).
pub fn words<const N: usize>(argument: &str) -> Result<[&str; N], ArgumentError> {
    let mut found = [""; N];
    let mut words = argument.split([' ', '\t']).filter(|word| !word.is_empty());
    for place in &mut found {
        *place = words.next().ok_or(ArgumentError::Count)?;
    }
    if words.next().is_some() { Err(ArgumentError::Count) } else { Ok(found) }
}

/// A number of a message or of lines. One too large for any of them is the largest there is.
pub fn number(word: &str) -> Result<u32, ArgumentError> {
    if word.is_empty() || !word.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ArgumentError::Number);
    }
    Ok(word.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_in_lf_with_or_without_cr() {
        assert_eq!(frame(b"NOOP\r\nx", 255), Frame::Line { line: b"NOOP", consumed: 6 });
        assert_eq!(frame(b"NOOP\nx", 255), Frame::Line { line: b"NOOP", consumed: 5 });
        assert_eq!(frame(b"NOOP\r", 255), Frame::Partial);
        assert_eq!(frame(b"NOOP\r\n", 5), Frame::TooLong);
        assert_eq!(frame(b"NOOP\r\n", 6), Frame::Line { line: b"NOOP", consumed: 6 });
    }

    #[test]
    fn a_password_keeps_its_spaces() {
        assert_eq!(parse_line(b"pass  a b "), Ok(Line::Command(Verb::Pass, " a b ")));
        assert_eq!(parse_line(b"Quit"), Ok(Line::Command(Verb::Quit, "")));
        assert_eq!(parse_line(b"QUITE"), Ok(Line::Unknown));
        assert_eq!(parse_line(b"  "), Ok(Line::Empty));
        assert_eq!(parse_line(b"GET / HTTP/1.1"), Ok(Line::Foreign));
        assert_eq!(parse_line(b"PASS \xff"), Err(LineError::NotUtf8));
        assert_eq!(parse_line(b"NOOP\0"), Err(LineError::Control));
        for verb in Verb::ALL {
            assert_eq!(parse_line(verb.text().to_lowercase().as_bytes()), Ok(Line::Command(*verb, "")));
        }
    }

    #[test]
    fn arguments_are_counted_and_numbers_are_digits() {
        assert_eq!(words::<2>(" 1  20 "), Ok(["1", "20"]));
        assert_eq!(words::<1>("1 2"), Err(ArgumentError::Count));
        assert_eq!(words::<1>(""), Err(ArgumentError::Count));
        assert_eq!(words::<0>(" "), Ok([]));
        assert_eq!(number("0042"), Ok(42));
        assert_eq!(number("99999999999999999999"), Ok(u32::MAX));
        assert_eq!(number("-1"), Err(ArgumentError::Number));
        assert_eq!(number("+1"), Err(ArgumentError::Number));
    }
}
