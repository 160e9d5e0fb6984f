//! Content back to what it was before it was mailed: transfer encodings (RFC 2045 §6), charsets, encoded words (RFC 2047).
//!
//! How it fails: it does not; what is broken is taken as far as it makes sense, and octets that are no text become
//! U+FFFD. Charsets are `mail-parser`'s.

use mail_parser::decoders::charsets::map::charset_decoder;
use memchr::memmem;

/// A Content-Transfer-Encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// 7bit, 8bit, binary
    Identity,
    Base64,
    QuotedPrintable,
    Unknown,
}

impl Encoding {
    /// By its name; RFC 2045 §6.1: without one it is 7bit.
    pub(super) fn of(name: Option<&[u8]>) -> Encoding {
        let Some(name) = name else {
            return Encoding::Identity;
        };
        match name.to_ascii_lowercase().as_slice() {
            b"7bit" | b"8bit" | b"binary" => Encoding::Identity,
            b"base64" => Encoding::Base64,
            b"quoted-printable" => Encoding::QuotedPrintable,
            _ => Encoding::Unknown,
        }
    }
}

/// Takes an encoding away; what has none, or an unknown one, stays as it is.
pub(super) fn decode(body: &[u8], encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Identity | Encoding::Unknown => body.to_vec(),
        Encoding::Base64 => base64(body),
        Encoding::QuotedPrintable => quoted_printable(body),
    }
}

/// RFC 2045 §6.8: characters outside the alphabet are skipped. Padding ends a piece; what follows is another.
fn base64(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0u32);
    for b in text {
        let value = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                (bits, held) = (0, 0);
                continue;
            }
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    out
}

/// RFC 2045 §6.7. White space at the end of a line was added on the way; an `=` that encodes nothing is itself.
fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|b| *b == b'\n') {
        let content = line.strip_suffix(b"\n").map(|l| l.strip_suffix(b"\r").unwrap_or(l)).unwrap_or(line);
        let end = &line[content.len()..];
        let content = content.trim_ascii_end();
        let (content, end) = match content.strip_suffix(b"=") {
            Some(content) => (content, &b""[..]),
            None => (content, end),
        };
        unescape(&mut out, content);
        out.extend_from_slice(end);
    }
    out
}

fn unescape(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'=', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let digits = rest.get(..2).and_then(|d| Some((hex(d[0])?, hex(d[1])?)));
        match digits {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = &rest[2..];
            }
            None => out.push(b'='),
        }
    }
    out.extend_from_slice(rest);
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|d| d as u8)
}

/// Octets of a charset as text.
pub(super) fn text_of(octets: &[u8], charset: Option<&[u8]>) -> String {
    let charset = charset.map(<[u8]>::trim_ascii).unwrap_or_default();
    let utf8 = charset.is_empty()
        || [&b"utf-8"[..], b"utf8", b"us-ascii", b"ascii"].iter().any(|c| c.eq_ignore_ascii_case(charset));
    if !utf8 && let Some(decoder) = charset_decoder(charset) {
        return decoder(octets);
    }
    String::from_utf8_lossy(octets).into_owned()
}

/// A field value on one line with its encoded words decoded (RFC 2047 §6).
pub(super) fn field_text(value: &[u8]) -> String {
    let line = super::header::unfold(value);
    if memmem::find(&line, b"=?").is_none() {
        return String::from_utf8_lossy(&line).into_owned();
    }
    let mut out = String::with_capacity(line.len());
    let mut pending = Pending::default();
    let mut rest = line.as_ref();
    while let Some(at) = memmem::find(rest, b"=?") {
        let Some(word) = encoded_word(&rest[at..]) else {
            pending.flush(&mut out);
            out.push_str(&String::from_utf8_lossy(&rest[..at + 2]));
            rest = &rest[at + 2..];
            continue;
        };
        // RFC 2047 §6.2: white space between two encoded words is not shown.
        let between = &rest[..at];
        if pending.charset.is_none() || !between.trim_ascii().is_empty() {
            pending.flush(&mut out);
            out.push_str(&String::from_utf8_lossy(between));
        }
        pending.add(&mut out, &word);
        rest = &rest[at + word.octets..];
    }
    pending.flush(&mut out);
    out.push_str(&String::from_utf8_lossy(rest));
    out
}

/// Octets of the charset of neighbouring words, decoded together: senders cut characters in two.
#[derive(Default)]
struct Pending {
    charset: Option<Vec<u8>>,
    octets: Vec<u8>,
}

impl Pending {
    fn add(&mut self, out: &mut String, word: &EncodedWord<'_>) {
        let same = self.charset.as_ref().is_some_and(|c| c.eq_ignore_ascii_case(word.charset));
        if !same {
            self.flush(out);
            self.charset = Some(word.charset.to_vec());
        }
        self.octets.extend_from_slice(&word.text);
    }
    fn flush(&mut self, out: &mut String) {
        if let Some(charset) = self.charset.take() {
            out.push_str(&text_of(&self.octets, Some(&charset)));
            self.octets.clear();
        }
    }
}

struct EncodedWord<'a> {
    charset: &'a [u8],
    text: Vec<u8>,
    /// How long it is on the wire.
    octets: usize,
}

/// Octets of an encoded word at most; RFC 2047 §2 has 75, senders write longer ones.
const ENCODED_WORD_OCTETS_MAX: usize = 1000;

/// `=?charset?B?text?=` at the front (RFC 2047 §2), with a language behind the charset left out (RFC 2231 §5).
fn encoded_word(text: &[u8]) -> Option<EncodedWord<'_>> {
    let text = &text[..text.len().min(ENCODED_WORD_OCTETS_MAX)];
    let inner = text.strip_prefix(b"=?")?;
    let charset_end = inner.iter().position(|b| *b == b'?' || b.is_ascii_whitespace())?;
    let charset = inner[..charset_end].split(|b| *b == b'*').next().unwrap_or_default();
    let behind = inner[charset_end..].strip_prefix(b"?")?;
    let (encoding, behind) = (*behind.first()?, behind.get(1..)?.strip_prefix(b"?")?);
    let end = memmem::find(behind, b"?=")?;
    let encoded = &behind[..end];
    let decoded = match encoding {
        b'b' | b'B' => base64(encoded),
        b'q' | b'Q' => {
            // RFC 2047 §4.2: an underscore is a space.
            let spaced: Vec<u8> = encoded.iter().map(|b| if *b == b'_' { b' ' } else { *b }).collect();
            let mut out = Vec::with_capacity(spaced.len());
            unescape(&mut out, &spaced);
            out
        }
        _ => return None,
    };
    let octets = text.len() - behind.len() + end + 2;
    (!charset.is_empty()).then_some(EncodedWord { charset, text: decoded, octets })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn encoded_words() {
        for (value, expected) in [
            ("plain  text", "plain  text"),
            // RFC 2047 §8
            ("=?ISO-8859-1?Q?a?=", "a"),
            ("=?ISO-8859-1?Q?a?= b", "a b"),
            ("=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
            ("=?ISO-8859-1?Q?a?=\r\n   =?ISO-8859-1?Q?b?=", "ab"),
            ("=?ISO-8859-1?Q?a_b?=", "a b"),
            ("=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"),
            ("=?iso-8859-1*de?q?Gr=FC=DFe?= x", "Grüße x"),
            ("=?utf-8?B?w6k?= =?UTF-8?b?w6k=?=", "éé"),
            ("=?utf-8?Q?=C3?= =?utf-8?Q?=A9?=", "é"),
            ("=?koi8-r?B?8NLJ18XU?=", "Привет"),
            ("=?x?Z?y?= =?", "=?x?Z?y?= =?"),
            ("=?utf-8?q?open", "=?utf-8?q?open"),
            ("=?none-such?q?=41?=", "A"),
            ("caf\u{e9}", "café"),
        ] {
            assert_eq!(field_text(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn transfer_encodings() {
        assert_eq!(base64(b"SGVs\r\nbG8=!V29y bGQ"), b"HelloWorld");
        assert_eq!(quoted_printable(b"a=3Db =\r\nc \r\nd=\nx=4"), b"a=b c\r\ndx=4");
        assert_eq!(quoted_printable(b"= 41=zz=E9"), b"= 41=zz\xe9");
        assert_eq!(Encoding::of(Some(b"BASE64")), Encoding::Base64);
        assert_eq!(Encoding::of(Some(b"x-uuencode")), Encoding::Unknown);
    }

    proptest! {
        #[test]
        fn base64_is_undone(octets: Vec<u8>) {
            use ::base64::{Engine, engine::general_purpose::STANDARD};
            prop_assert_eq!(base64(STANDARD.encode(&octets).as_bytes()), octets);
        }

        #[test]
        fn no_octets_are_too_strange(value: Vec<u8>, charset in "[a-z0-9-]{0,12}") {
            let mut wrapped = b"=?".to_vec();
            wrapped.extend_from_slice(charset.as_bytes());
            wrapped.extend_from_slice(b"?q?");
            wrapped.extend_from_slice(&value);
            wrapped.extend_from_slice(b"?=");
            field_text(&wrapped);
            field_text(&value);
            base64(&value);
            quoted_printable(&value);
        }

        #[test]
        fn no_charset_fails(octets: Vec<u8>, which in 0usize..20) {
            const NAMES: [&str; 20] = ["utf-8", "utf-7", "utf-16", "utf-16le", "utf-16be", "iso-2022-jp", "gb18030",
                "gbk", "big5", "euc-kr", "euc-jp", "shift_jis", "iso-8859-1", "iso-8859-8", "koi8-u", "windows-1252",
                "macintosh", "cp850", "tis-620", "hz-gb-2312"];
            text_of(&octets, Some(NAMES[which].as_bytes()));
        }
    }
}
