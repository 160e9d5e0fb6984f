//! Modified UTF-7 of mailbox names (RFC 3501 §5.1.3), both ways and each the exact inverse of the other.
//!
//! How it fails: what the encoder would not have written is refused, so that one mailbox has one name on the wire:
//! printable characters in base64, superfluous shifts, bits that are left over, lone surrogates.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// A name as IMAP4rev1 writes it.
pub fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        match c {
            '&' => out.push_str("&-"),
            ' '..='~' => out.push(c),
            _ => {
                let end = rest.find(|c: char| matches!(c, ' '..='~')).unwrap_or(rest.len());
                shifted(&mut out, &rest[..end]);
                rest = &rest[end..];
                continue;
            }
        }
        rest = &rest[1..];
    }
    out
}

/// UTF-16 in base64 between `&` and `-`.
fn shifted(out: &mut String, text: &str) {
    out.push('&');
    let (mut bits, mut held) = (0u32, 0u32);
    for unit in text.encode_utf16() {
        bits = bits << 16 | u32::from(unit);
        held += 16;
        while held >= 6 {
            held -= 6;
            out.push(char::from(ALPHABET[(bits >> held & 63) as usize]));
        }
        bits &= (1 << held) - 1;
    }
    if held > 0 {
        out.push(char::from(ALPHABET[(bits << (6 - held) & 63) as usize]));
    }
    out.push('-');
}

/// The name that was written so; `None` when it is not what [`encode`] writes for any name.
pub fn decode(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let shift = &rest[at + 1..];
        let end = shift.find('-')?;
        match &shift[..end] {
            "" => out.push('&'),
            base64 => unshifted(&mut out, base64)?,
        }
        rest = &shift[end + 1..];
    }
    out.push_str(rest);
    (encode(&out) == text).then_some(out)
}

fn unshifted(out: &mut String, base64: &str) -> Option<()> {
    let (mut bits, mut held) = (0u32, 0u32);
    let mut units = Vec::with_capacity(base64.len() * 6 / 16);
    for b in base64.bytes() {
        let value = ALPHABET.iter().position(|a| *a == b)? as u32;
        bits = bits << 6 | value;
        held += 6;
        if held >= 16 {
            held -= 16;
            units.push((bits >> held) as u16);
            bits &= (1 << held) - 1;
        }
    }
    for c in char::decode_utf16(units) {
        out.push(c.ok()?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_the_rfc() {
        for (name, wire) in [
            ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
            ("&Jjo!", "&-Jjo!"),
            ("Entwürfe", "Entw&APw-rfe"),
            ("a\u{1f600}b", "a&2D3eAA-b"),
            ("", ""),
            ("tab\tnot", "tab&AAk-not"),
        ] {
            assert_eq!(encode(name), wire);
            assert_eq!(decode(wire).as_deref(), Some(name), "{wire}");
        }
    }

    #[test]
    fn what_nobody_would_write_is_refused() {
        // RFC 3501 §5.1.3 names the second: a superfluous shift.
        for wire in ["&Jjo!", "&U,BTFw-&ZeVnLIqe-", "&AGE-", "&", "a&", "&2D0-", "&AP=-", "é", "&APwA-", "&A-", "&APx-"]
        {
            assert_eq!(decode(wire), None, "{wire}");
        }
    }

    proptest! {
        #[test]
        fn each_undoes_the_other(name: String, wire in "[&A-Za-z,+-]{0,12}") {
            let written = encode(&name);
            prop_assert!(written.bytes().all(|b| matches!(b, b' '..=b'~')));
            prop_assert_eq!(decode(&written), Some(name));
            if let Some(name) = decode(&wire) {
                prop_assert_eq!(encode(&name), wire);
            }
        }
    }
}
