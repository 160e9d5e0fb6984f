//! What is kept of a header section: the name of every field, and the text of those that rules may want; and the way back,
//! a section that answers as the whole one did.
//!
//! How it fails: a field without a colon is passed over; beyond [`FIELDS_MAX`] fields the rest is cut and says so.

use super::event::{Headers, Text};
use crate::policy::header::{fields_in_order, unfolded};
use std::borrow::Cow;

/// Fields that are written at most; mail that people read has fewer than a hundred.
pub const FIELDS_MAX: usize = 256;
/// Octets of a field's text that are written at most; a longer one is left out rather than cut, so that no rule is fooled.
pub const VALUE_OCTETS_MAX: usize = 2048;

/// Fields whose text is kept, beside those that the policy in force asks for.
#[derive(Clone, Debug)]
pub struct Keep {
    /// Names in lower case.
    pub names: Vec<String>,
}

impl Default for Keep {
    fn default() -> Keep {
        let names = [
            "from",
            "sender",
            "reply-to",
            "to",
            "cc",
            "subject",
            "date",
            "message-id",
            "mime-version",
            "content-type",
            "list-id",
            "list-unsubscribe",
            "auto-submitted",
            "precedence",
            "x-mailer",
            "user-agent",
        ];
        Keep { names: names.map(str::to_owned).to_vec() }
    }
}

/// Takes what is kept out of a header section. `asked` are the fields whose text the policy reads.
pub fn facts<'a>(section: &'a [u8], keep: Option<&Keep>, asked: &[Box<str>]) -> Headers<'a> {
    let mut headers = Headers { octets: section.len() as u64, ..Headers::default() };
    for (name, raw) in fields_in_order(section) {
        let name = lower(name);
        headers.received += u64::from(name == "received");
        if headers.fields.len() >= FIELDS_MAX {
            headers.cut = true;
            continue;
        }
        let wanted = keep.is_some_and(|keep| {
            keep.names.iter().any(|n| *n == name) || asked.iter().any(|n| n.eq_ignore_ascii_case(&name))
        });
        let first = wanted && !headers.fields.iter().any(|(n, _)| *n == name);
        let value = first.then(|| unfolded(raw)).filter(|text| text.len() <= VALUE_OCTETS_MAX);
        headers.fields.push((name, value));
    }
    headers
}

fn lower(name: &[u8]) -> Text<'_> {
    match std::str::from_utf8(name) {
        Ok(text) if !text.bytes().any(|b| b.is_ascii_uppercase()) => Cow::Borrowed(text),
        _ => Cow::Owned(String::from_utf8_lossy(name).to_ascii_lowercase()),
    }
}

/// Writes a section that has these fields.
pub fn section(headers: &Headers<'_>, out: &mut Vec<u8>) {
    out.clear();
    for (name, value) in &headers.fields {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        out.extend_from_slice(value.as_deref().unwrap_or_default().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Names of fields whose text was not kept: the first of that name has none.
pub fn withheld<'h>(headers: &'h Headers<'_>) -> impl Iterator<Item = &'h str> {
    let first = |i: usize, name: &str| !headers.fields[..i].iter().any(|(n, _)| n == name);
    headers
        .fields
        .iter()
        .enumerate()
        .filter(move |(i, (name, value))| value.is_none() && first(*i, name))
        .map(|(_, (name, _))| &**name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::header;

    #[test]
    fn a_section_made_again_answers_as_the_first_one() {
        let whole =
            b"Received: by a\r\nSubject : Hello\r\n\t w\xc3\xb6rld \r\nX-Odd: 1\r\nreceived: by b\r\nTo:\r\n\r\n";
        let kept = facts(whole, Some(&Keep::default()), &["x-odd".into()]);
        assert_eq!((kept.octets, kept.received, kept.cut), (whole.len() as u64, 2, false));
        let mut again = Vec::new();
        section(&kept, &mut again);
        for name in ["subject", "x-odd", "to", "cc"] {
            assert_eq!(header::first(&again, name), header::first(whole, name), "{name}");
        }
        assert_eq!(header::count(&again, "Received"), 2);
        assert_eq!(withheld(&kept).collect::<Vec<_>>(), ["received"]);
        let nothing = facts(whole, None, &["x-odd".into()]);
        assert!(nothing.fields.iter().all(|(_, value)| value.is_none()));
        let many = "A: b\r\n".repeat(FIELDS_MAX + 1);
        assert!(facts(many.as_bytes(), None, &[]).cut);
    }
}
