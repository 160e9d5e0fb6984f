//! ENVELOPE (RFC 9051 §7.5.2): what the header of a message says, octet for octet and not decoded.
//!
//! How it fails: it does not; a field that is not there is NIL.

use super::address::{ADDRESSES_MAX, Address, addresses};
use super::header::{fields, unfold};
use super::structure::Structure;
use crate::wire::imap::emit::{nstring, string};

/// Octets of one text in ENVELOPE and BODYSTRUCTURE at most; a longer one is cut. The field itself can be fetched whole.
pub(super) const TEXT_OCTETS_MAX: usize = 16 * 1024;

/// ENVELOPE of a message in its parentheses.
pub fn envelope(message: &[u8], structure: &Structure) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let header = structure.part(structure.root()).header();
    write(&mut out, message.get(header).unwrap_or_default());
    out
}

/// A text in the form that fits it; 8-bit text as a literal, because what is kept serves sessions of every mode.
pub(super) fn text(out: &mut Vec<u8>, text: &[u8]) {
    string(out, &text[..text.len().min(TEXT_OCTETS_MAX)], false);
}

/// The same, or NIL.
pub(super) fn ntext(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        Some(value) => text(out, value),
        None => nstring(out, None, false),
    }
}

#[derive(Default)]
struct Found<'a> {
    date: Option<&'a [u8]>,
    subject: Option<&'a [u8]>,
    in_reply_to: Option<&'a [u8]>,
    message_id: Option<&'a [u8]>,
    from: Vec<&'a [u8]>,
    sender: Vec<&'a [u8]>,
    reply_to: Vec<&'a [u8]>,
    to: Vec<&'a [u8]>,
    cc: Vec<&'a [u8]>,
    bcc: Vec<&'a [u8]>,
}

/// Fields of addresses that are joined at most, of each name.
const REPEATED_FIELDS_MAX: usize = 100;

pub(super) fn write(out: &mut Vec<u8>, header: &[u8]) {
    let found = find(header);
    out.push(b'(');
    for value in [found.date, found.subject] {
        ntext(out, value.map(unfold).as_deref());
        out.push(b' ');
    }
    let from = out.len();
    address_list(out, &found.from);
    let from = from..out.len();
    for list in [&found.sender, &found.reply_to] {
        // RFC 9051 §7.5.2: the server makes them of From where they are absent or empty.
        out.push(b' ');
        let before = out.len();
        address_list(out, list);
        if &out[before..] == b"NIL" {
            out.truncate(before);
            out.extend_from_within(from.clone());
        }
    }
    for list in [&found.to, &found.cc, &found.bcc] {
        out.push(b' ');
        address_list(out, list);
    }
    for value in [found.in_reply_to, found.message_id] {
        out.push(b' ');
        ntext(out, value.map(unfold).as_deref());
    }
    out.push(b')');
}

fn find(header: &[u8]) -> Found<'_> {
    let mut found = Found::default();
    for field in fields(header) {
        let list = match field.name.len() {
            2 if field.is("to") => &mut found.to,
            2 if field.is("cc") => &mut found.cc,
            3 if field.is("bcc") => &mut found.bcc,
            4 if field.is("from") => &mut found.from,
            6 if field.is("sender") => &mut found.sender,
            8 if field.is("reply-to") => &mut found.reply_to,
            _ => {
                let once = match field.name.len() {
                    4 if field.is("date") => &mut found.date,
                    7 if field.is("subject") => &mut found.subject,
                    10 if field.is("message-id") => &mut found.message_id,
                    11 if field.is("in-reply-to") => &mut found.in_reply_to,
                    _ => continue,
                };
                once.get_or_insert(field.value);
                continue;
            }
        };
        if list.len() < REPEATED_FIELDS_MAX {
            list.push(field.value);
        }
    }
    found
}

fn address_list(out: &mut Vec<u8>, values: &[&[u8]]) {
    let before = out.len();
    let mut left = ADDRESSES_MAX;
    out.push(b'(');
    for value in values {
        addresses(value, left, |address| {
            left -= 1;
            write_address(out, &address);
        });
    }
    if left == ADDRESSES_MAX {
        out.truncate(before);
        out.extend_from_slice(b"NIL");
    } else {
        out.push(b')');
    }
}

fn write_address(out: &mut Vec<u8>, address: &Address) {
    out.push(b'(');
    for (i, part) in [&address.name, &address.route, &address.mailbox, &address.host].into_iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        ntext(out, part.as_deref());
    }
    out.push(b')');
}
