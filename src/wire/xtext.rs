//! xtext of RFC 3461 §4 and the UTF-8 address forms of RFC 6533 §3, to and from plain text.
//!
//! How it fails: decoding returns `None` for anything outside the grammar and for control characters hidden in it (they
//! would end up in the header of a notification).

use std::fmt::Write;

/// Decodes xtext: printable ASCII without `+` and `=`, and `+XX`. Named deviation: lower-case hexadecimal is read too.
pub fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'+' => {
                let (high, low) = (hex(bytes.next()?)?, hex(bytes.next()?)?);
                high << 4 | low
            }
            b'=' => return None,
            b'!'..=b'~' => b,
            _ => return None,
        });
    }
    printable(String::from_utf8(out).ok()?)
}

/// Encodes what [`decode`] reads.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'+' | b'=' => push_hex(&mut out, b),
            b'!'..=b'~' => out.push(char::from(b)),
            _ => push_hex(&mut out, b),
        }
    }
    out
}

/// Decodes an address of type `utf-8`: `\x{HEX}` stands for a character (RFC 6533 §3, utf-8-addr-xtext), other UTF-8 for
/// itself (utf-8-addr-unitext).
pub fn decode_utf8_address(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (hex, after) = rest[at..].strip_prefix("\\x{")?.split_once('}')?;
        if !(2..=6).contains(&hex.len()) || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        out.push(char::from_u32(u32::from_str_radix(hex, 16).ok()?)?);
        rest = after;
    }
    // `+` and `=` must be embedded (QCHAR of RFC 6533 §3), so that nobody reads the address as plain xtext.
    if text.contains(['+', '=', ' ']) {
        return None;
    }
    out.push_str(rest);
    printable(out)
}

/// Encodes what [`decode_utf8_address`] reads; in ASCII only unless `utf8` (the next hop has SMTPUTF8).
pub fn encode_utf8_address(text: &str, utf8: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let plain = matches!(c, '!'..='~') && !matches!(c, '+' | '=' | '\\') || utf8 && !c.is_ascii();
        if plain {
            out.push(c);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{{{:02X}}}", u32::from(c));
        }
    }
    out
}

fn hex(b: u8) -> Option<u8> {
    char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

fn push_hex(out: &mut String, b: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('+');
    out.push(char::from(DIGITS[usize::from(b >> 4)]));
    out.push(char::from(DIGITS[usize::from(b & 15)]));
}

fn printable(text: String) -> Option<String> {
    (!text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn examples_and_refusals() {
        assert_eq!(decode("Bob+40example.org").as_deref(), Some("Bob@example.org"));
        assert_eq!(encode("a+b=c d"), "a+2Bb+3Dc+20d");
        for bad in ["a+4", "a+", "a+zz", "a=b", "a b", "é", "+0D+0A", "+00", "+C3"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        assert_eq!(decode_utf8_address("j\\x{FC}rgen@b\\x{FC}.de").as_deref(), Some("jürgen@bü.de"));
        for bad in ["\\x{D800}", "\\x{110000}", "\\x{0A}", "\\x{", "\\y{41}", "\\x{+1}", "a+b", "a=b", "a b"] {
            assert_eq!(decode_utf8_address(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn inverses(text in "[ -~é漢😀]{0,60}", utf8: bool) {
            prop_assert_eq!(decode(&encode(&text)), Some(text.clone()));
            prop_assert_eq!(decode_utf8_address(&encode_utf8_address(&text, utf8)), Some(text));
        }
        #[test]
        fn foreign_text_never_panics(text: String) {
            let _ = decode(&text);
            let _ = decode_utf8_address(&text);
        }
    }
}
