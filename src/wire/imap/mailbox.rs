//! Names of mailboxes, from either form of the wire to the one that the rooms share: UTF-8, `INBOX` in upper case.
//!
//! How it fails: what is neither modified UTF-7 nor UTF-8, and what is longer than a name can be, is refused. Whether a
//! name can be created is the store's question.

use super::reader::{Fault, Read, Reader, is_list_char};
use super::utf7;
use crate::base::mailbox::{HIERARCHY_SEPARATOR, MAILBOX_NAME_OCTETS_MAX};

/// A name with `INBOX` in upper case where it is the whole name or its first level (RFC 9051 §5.1).
pub fn canonical_name(name: String) -> String {
    let first = name.split(HIERARCHY_SEPARATOR).next().unwrap_or_default();
    if first.eq_ignore_ascii_case("INBOX") { format!("INBOX{}", &name[first.len()..]) } else { name }
}

/// mailbox
pub(super) fn mailbox(r: &mut Reader<'_>) -> Read<String> {
    let octets = r.astring_octets("a mailbox name")?;
    let name = decoded(r, &octets)?;
    Ok(canonical_name(name))
}

/// list-mailbox: a pattern, or a reference, which may be empty.
pub(super) fn pattern(r: &mut Reader<'_>) -> Read<String> {
    let octets = r.string_or(is_list_char, "a pattern of mailbox names")?;
    let name = decoded(r, &octets)?;
    Ok(canonical_name(name))
}

fn decoded(r: &Reader<'_>, octets: &[u8]) -> Read<String> {
    let Ok(text) = std::str::from_utf8(octets) else {
        return Err(Fault::new("a mailbox name must be UTF-8 or modified UTF-7"));
    };
    // RFC 9051 §5.1 and RFC 6855 §3: an ampersand is itself once UTF-8 is in use. Before, UTF-8 without one can only
    // mean itself.
    let name = if r.mode.utf8 || !text.is_ascii() && !text.contains('&') {
        text.to_owned()
    } else {
        utf7::decode(text).ok_or_else(|| Fault::new("the mailbox name is no valid modified UTF-7"))?
    };
    if name.len() > MAILBOX_NAME_OCTETS_MAX {
        return Err(Fault::new(format!("a mailbox name has at most {MAILBOX_NAME_OCTETS_MAX} octets")));
    }
    Ok(name)
}
