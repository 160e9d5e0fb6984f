//! Header fields of a message, found by name in its header section.
//!
//! Only what rules need: the text of a field unfolded (RFC 5322 §2.2.3), as it was sent: encoded words (RFC 2047) stay
//! encoded. How it fails: octets that are no UTF-8 are replaced; a section without an end is read as far as it goes.

use std::borrow::Cow;

/// The fields named `name` (without colon, any case): their raw text, folds included.
fn fields<'a>(headers: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = headers;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let field = next_field(&mut rest)?;
            if let Some(value) = value_of(field, name) {
                return Some(value);
            }
        }
        None
    })
}

/// Takes one field with its folded lines; `None` at the empty line that ends the section.
fn next_field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    if rest.starts_with(b"\r\n") || rest.starts_with(b"\n") {
        return None;
    }
    let mut end = 0;
    loop {
        end = match memchr::memchr(b'\n', &rest[end..]) {
            Some(i) => end + i + 1,
            None => rest.len(),
        };
        // A line that begins with white space continues the field (RFC 5322 §2.2.3).
        if !matches!(rest.get(end), Some(b' ' | b'\t')) {
            break;
        }
    }
    let (field, after) = rest.split_at(end);
    *rest = after;
    Some(field)
}

fn value_of<'a>(field: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (head, tail) = field.split_at_checked(name.len())?;
    if !head.eq_ignore_ascii_case(name.as_bytes()) {
        return None;
    }
    // White space before the colon is obsolete but legal (RFC 5322 §4.5).
    let tail = tail.trim_ascii_start();
    tail.strip_prefix(b":")
}

/// Every field in order: its name without trailing blanks, and its raw text, folds included.
pub fn fields_in_order(headers: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = headers;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let field = next_field(&mut rest)?;
            if let Some(colon) = memchr::memchr(b':', field) {
                return Some((field[..colon].trim_ascii_end(), &field[colon + 1..]));
            }
        }
        None
    })
}

/// How many fields of that name there are.
pub fn count(headers: &[u8], name: &str) -> u64 {
    fields(headers, name).count() as u64
}

/// The first field of that name, unfolded and trimmed.
pub fn first<'a>(headers: &'a [u8], name: &'a str) -> Option<Cow<'a, str>> {
    Some(unfolded(fields(headers, name).next()?))
}

/// Text of a field as rules see it: trimmed, without its folds.
pub fn unfolded(raw: &[u8]) -> Cow<'_, str> {
    let raw = raw.trim_ascii();
    let text = String::from_utf8_lossy(raw);
    if !text.contains(['\r', '\n']) {
        return text;
    }
    // Unfolding removes the line end and keeps the white space behind it.
    Cow::Owned(text.replace(['\r', '\n'], ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_by_name() {
        let h = b"Subject : a\r\n\tb\r\nReceived: x\r\nRECEIVED: y\r\nSubjects: no\r\n\r\nReceived: body\r\n";
        assert_eq!(first(h, "subject").unwrap(), "a\tb");
        assert_eq!(count(h, "received"), 2);
        assert_eq!(first(h, "to"), None);
        assert_eq!(first(b"To:", "to").unwrap(), "");
        assert_eq!(first(b"To: \xff", "to").unwrap(), "\u{fffd}");
        assert_eq!(count(b"", "to"), 0);
    }
}
