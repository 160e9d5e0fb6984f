//! What readers think of their mail, as labels: spam is what lies in a mailbox for junk or is marked `$Junk`, ham what is
//! marked `$NotJunk` or was read and lies elsewhere. Mail nobody has looked at, and the contents of Trash, Sent and Drafts,
//! say nothing.
//!
//! One line of JSON a message, `{"message_id":"<…>","label":"spam"}`, as `gatepost policy tune --labels` reads it. How it
//! fails: see the module above; a message without a Message-ID cannot be found again and is left out.

use super::{Moved, Progress, each_message, failed, mailboxes};
use crate::base::mailbox::ask::{MailboxInfo, Row};
use crate::base::mailbox::{AccountId, Flags, Keywords, SpecialUse};
use crate::mailstore::{MailReader, MailstoreError};
use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Octets of a message in which its Message-ID is looked for.
const HEADER_OCTETS_MAX: usize = 64 * 1024;

/// Appends the labels of an account's messages to a file.
pub fn export_labels(
    reader: &mut dyn MailReader,
    account: AccountId,
    to: &Path,
    progress: Progress<'_>,
) -> Result<Moved, MailstoreError> {
    let mut moved = Moved::default();
    let file = fs::OpenOptions::new().create(true).append(true).open(to).map_err(failed("writing", to))?;
    let mut out = BufWriter::new(file);
    for mailbox in mailboxes(reader, account)?.into_iter().filter(|m| m.selectable) {
        let Some(id) = mailbox.id else { continue };
        moved.mailboxes += 1;
        let mut count = 0;
        each_message(reader, account, (id, &mailbox.name), &mut |row, keywords, octets| {
            count += 1;
            progress(&mailbox.name, count);
            let (Some(label), Some(id)) = (label(&mailbox, row, keywords), message_id(&octets)) else { return Ok(()) };
            moved.messages += 1;
            moved.octets += octets.len() as u64;
            let line = serde_json::json!({ "message_id": id, "label": label });
            writeln!(out, "{line}").map_err(failed("writing", to))
        })?;
    }
    out.flush().map_err(failed("writing", to))?;
    Ok(moved)
}

/// `spam`, `ham`, or nothing.
fn label(mailbox: &MailboxInfo, row: &Row, keywords: &Keywords) -> Option<&'static str> {
    let names = super::names_of(row, keywords);
    let marked = |marks: [&str; 2]| names.keywords.iter().any(|k| marks.iter().any(|m| k.eq_ignore_ascii_case(m)));
    // What a person says of one message is more than where it lies.
    if marked(["$Junk", "Junk"]) {
        return Some("spam");
    }
    if marked(["$NotJunk", "NonJunk"]) {
        return Some("ham");
    }
    match mailbox.special_use {
        Some(SpecialUse::Junk) => Some("spam"),
        Some(SpecialUse::Trash | SpecialUse::Sent | SpecialUse::Drafts) => None,
        _ => names.system.contains(Flags::SEEN).then_some("ham"),
    }
}

/// Text of the first Message-ID field (RFC 5322 §3.6.4), on one line.
fn message_id(octets: &[u8]) -> Option<String> {
    let head = octets.get(..HEADER_OCTETS_MAX).unwrap_or(octets);
    let mut found: Option<String> = None;
    for line in head.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        match (&mut found, line.first()) {
            (Some(text), Some(b' ' | b'\t')) => {
                text.push(' ');
                text.push_str(String::from_utf8_lossy(line).trim());
            }
            (Some(_), _) => break,
            (None, _) => {
                let name = line.get(..11).filter(|n| n.eq_ignore_ascii_case(b"message-id:"));
                found = name.map(|_| String::from_utf8_lossy(&line[11..]).trim().to_owned());
            }
        }
    }
    found.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_are_found() {
        assert_eq!(message_id(b"From: a\r\nMessage-ID:\r\n <1@x>\r\nTo: b\r\n\r\n").as_deref(), Some("<1@x>"));
        assert_eq!(message_id(b"message-id: <2@x> \n\nbody").as_deref(), Some("<2@x>"));
        assert_eq!(message_id(b"From: a\r\n\r\nMessage-ID: <3@x>\r\n"), None);
        assert_eq!(message_id(b"Message-ID:\r\nTo: b\r\n\r\n"), None);
    }
}
