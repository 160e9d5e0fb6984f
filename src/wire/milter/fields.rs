//! Header fields as filters are told them: name, and value with its folds as LF and white space.
//!
//! How it fails: it does not. The first line that is no field ends the header section, as Sendmail has it, so that what
//! follows is told as body rather than left out.

use super::Text;
use memchr::memchr;
use std::borrow::Cow;

/// A field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderField<'a> {
    /// What stands in front of the colon.
    pub name: &'a [u8],
    /// What stands behind it, without the last line end.
    raw: &'a [u8],
}

impl<'a> HeaderField<'a> {
    /// The value: folds as LF (libmilter, `xxfi_header`), at most `octets_max`; with the space behind the colon, or
    /// without one.
    pub fn value(&self, leading_space: bool, octets_max: usize) -> Text<'a> {
        let raw = match self.raw {
            [b' ', rest @ ..] if !leading_space => rest,
            raw => raw,
        };
        let raw = &raw[..raw.len().min(octets_max)];
        if memchr(b'\r', raw).is_none() {
            return Cow::Borrowed(raw);
        }
        let mut value = Vec::with_capacity(raw.len());
        for (at, b) in raw.iter().enumerate() {
            if *b != b'\r' || raw.get(at + 1) != Some(&b'\n') {
                value.push(*b);
            }
        }
        Cow::Owned(value)
    }
}

/// The fields at the front of a message.
#[derive(Clone, Debug)]
pub struct HeaderFields<'a> {
    whole: &'a [u8],
    at: usize,
    ended: bool,
}

impl HeaderFields<'_> {
    /// Octets of the header section that has been read: all of it, its empty line included, once there is no next field.
    pub fn octets(&self) -> usize {
        self.at
    }
}

/// Reads the fields at the front of `message`.
pub fn header_fields(message: &[u8]) -> HeaderFields<'_> {
    HeaderFields { whole: message, at: 0, ended: false }
}

impl<'a> Iterator for HeaderFields<'a> {
    type Item = HeaderField<'a>;

    fn next(&mut self) -> Option<HeaderField<'a>> {
        if self.ended {
            return None;
        }
        let rest = &self.whole[self.at..];
        let line = line_end(rest, 0);
        if matches!(&rest[..line], b"\r\n" | b"\n") {
            self.at += line;
            self.ended = true;
            return None;
        }
        let colon = memchr(b':', &rest[..line]);
        let name = colon.map(|at| rest[..at].trim_ascii_end());
        // RFC 5322 §3.6.8: printable ASCII; spaces in front of the colon are obsolete (§4.5).
        let Some((name, colon)) =
            name.zip(colon).filter(|(n, _)| !n.is_empty() && n.iter().all(|b| matches!(b, 0x21..=0x7e)))
        else {
            self.ended = true;
            return None;
        };
        let mut end = line;
        while matches!(rest.get(end), Some(b' ' | b'\t')) {
            end = line_end(rest, end); // RFC 5322 §2.2.3
        }
        let text = rest[..end].strip_suffix(b"\n").unwrap_or(&rest[..end]);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        self.at += end;
        Some(HeaderField { name, raw: text.get(colon + 1..).unwrap_or_default() })
    }
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |n| at + n + 1)
}
