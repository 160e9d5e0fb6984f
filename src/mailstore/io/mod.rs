//! Mail in and out: Maildir, Maildir++ and mbox, through the store's own traits, so that it works with any store.
//!
//! Line ends: both formats keep lines as the system has them (LF), a store keeps CRLF. A message whose lines all end in
//! CRLF is written with LF and read back as it was; one with a bare CR or LF is written as it is, octet for octet.
//!
//! How it fails: [`MailstoreError`] with the file, or the mailbox and why the store refused; what was imported before that
//! stays.

mod labels;
mod maildir;
mod mbox;
#[cfg(test)]
mod tests;

pub use labels::export_labels;
pub use maildir::{export_maildir, import_maildir};
pub use mbox::{export_mbox, import_mbox};

use super::{MailReader, MailWriter, MailstoreError, Outcome};
use crate::base::body::{Body, BodyShape};
use crate::base::mailbox::ask::{
    Change, FetchItems, MailboxInfo, NewMessage, Octets, Query, Reply, Row, Section, SectionData, SectionWhat,
    StoreError,
};
use crate::base::mailbox::{AccountId, FlagNames, Keywords, MailboxId, UidSet};
use std::path::Path;
use std::sync::Arc;

/// Messages of one change when importing.
const BATCH_MESSAGES: usize = 100;
/// Octets of one change when importing, about.
const BATCH_OCTETS: u64 = 8 << 20;
/// Messages and octets of one question when exporting.
const PAGE_MESSAGES: usize = 64;
const PAGE_OCTETS: usize = 4 << 20;
/// Octets of one question for a large message.
const PIECE_OCTETS: usize = 1 << 20;

/// What went in or out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Mailboxes.
    pub mailboxes: u64,
    /// Messages.
    pub messages: u64,
    /// Their octets in the store.
    pub octets: u64,
}

/// Hears the mailbox that is being moved and how many messages of it were.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64);

/// Takes a message of a mailbox: its row, the mailbox's keywords, its octets.
type Each<'a> = &'a mut dyn FnMut(&Row, &Keywords, Vec<u8>) -> Result<(), MailstoreError>;

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> MailstoreError + 'a {
    move |e| MailstoreError::File { doing, path: path.to_owned(), text: e.to_string() }
}

fn refused(what: &str, error: StoreError) -> MailstoreError {
    MailstoreError::Refused { what: what.to_owned(), error }
}

fn mailboxes(reader: &mut dyn MailReader, account: AccountId) -> Result<Vec<MailboxInfo>, MailstoreError> {
    match reader.answer(account, Query::Mailboxes) {
        Ok(Reply::Mailboxes(all)) => Ok(all),
        Ok(_) => Err(refused("the list of mailboxes", StoreError::Failed)),
        Err(e) => Err(refused("the list of mailboxes", e)),
    }
}

/// Tells every message of a mailbox, with its octets.
fn each_message(
    reader: &mut dyn MailReader,
    account: AccountId,
    (mailbox, name): (MailboxId, &str),
    each: Each<'_>,
) -> Result<(), MailstoreError> {
    let whole = Section { part: Vec::new(), what: SectionWhat::All, partial: None, decoded: false, size_only: false };
    let items = Arc::new(FetchItems { sections: vec![whole], ..FetchItems::default() });
    let mut from = Some(1);
    while let Some(first) = from {
        let query = Query::Fetch {
            mailbox,
            uids: UidSet::range(first, u32::MAX),
            items: items.clone(),
            changed_since: None,
            rows_max: PAGE_MESSAGES,
            octets_max: PAGE_OCTETS,
        };
        let fetched = match reader.answer(account, query) {
            Ok(Reply::Fetched(fetched)) => fetched,
            Ok(_) => return Err(refused(name, StoreError::Failed)),
            Err(e) => return Err(refused(name, e)),
        };
        for row in &fetched.rows {
            // A message that is damaged is reported by `verify`; the others go out.
            let Some(SectionData::Octets(octets)) = row.sections.first() else { continue };
            let octets = gather(reader, account, octets).map_err(|e| refused(name, e))?;
            each(row, &fetched.keywords, octets)?;
        }
        from = fetched.next;
    }
    Ok(())
}

fn gather(reader: &mut dyn MailReader, account: AccountId, octets: &Octets) -> Result<Vec<u8>, StoreError> {
    let stored = match octets {
        Octets::Memory { bytes, start, end } => return Ok(bytes[*start..*end].to_vec()),
        Octets::Stored(stored) => *stored,
    };
    let mut all = Vec::new();
    while (all.len() as u64) < stored.octets {
        let query = Query::Read { stored, offset: all.len() as u64, octets_max: PIECE_OCTETS };
        match reader.answer(account, query)? {
            Reply::Octets(piece) if !piece.is_empty() => all.extend_from_slice(&piece),
            _ => return Err(StoreError::Failed),
        }
    }
    Ok(all)
}

/// Puts messages into a mailbox, many in a change.
struct Importer<'a> {
    writer: &'a mut dyn MailWriter,
    account: AccountId,
    waiting: Vec<NewMessage>,
    octets: u64,
    moved: Moved,
}

impl<'a> Importer<'a> {
    fn new(writer: &'a mut dyn MailWriter, account: AccountId) -> Importer<'a> {
        Importer { writer, account, waiting: Vec::new(), octets: 0, moved: Moved::default() }
    }

    fn change(&mut self, change: Change) -> Result<(), StoreError> {
        self.writer.change(0, self.account, change);
        match self.writer.commit().outcomes.pop() {
            Some((_, Outcome::Replied(reply))) => reply.map(|_| ()),
            _ => Err(StoreError::Failed),
        }
    }

    /// Makes the mailbox if it is not there.
    fn enter(&mut self, name: &str) -> Result<(), MailstoreError> {
        self.moved.mailboxes += 1;
        match self.change(Change::Create { name: name.to_owned(), special_use: None }) {
            Ok(()) | Err(StoreError::Exists) => Ok(()),
            Err(e) => Err(refused(name, e)),
        }
    }

    fn add(&mut self, name: &str, message: NewMessage) -> Result<(), MailstoreError> {
        self.octets += message.body.shape.octets;
        self.waiting.push(message);
        if self.waiting.len() >= BATCH_MESSAGES || self.octets >= BATCH_OCTETS { self.flush(name) } else { Ok(()) }
    }

    fn flush(&mut self, name: &str) -> Result<(), MailstoreError> {
        let messages = std::mem::take(&mut self.waiting);
        let (count, octets) = (messages.len() as u64, std::mem::take(&mut self.octets));
        if count > 0 {
            self.change(Change::Append { name: name.to_owned(), messages }).map_err(|e| refused(name, e))?;
            self.moved.messages += count;
            self.moved.octets += octets;
        }
        Ok(())
    }
}

/// A body from whole octets, with what can be learnt by looking at them.
fn body_of(octets: Vec<u8>) -> Body {
    let header_octets = crate::wire::mime::header_section(&octets).unwrap_or(octets.len()) as u64;
    let shape = BodyShape {
        octets: octets.len() as u64,
        eight_bit: !octets.is_ascii(),
        needs_stuffing: octets.starts_with(b".") || octets.windows(2).any(|w| w == b"\n."),
        ends_with_crlf: octets.is_empty() || octets.ends_with(b"\r\n"),
        binary: !lines_are_crlf(&octets) || octets.contains(&0),
        header_octets,
        received_fields: 0,
    };
    Body::memory(shape, vec![Arc::new(octets)])
}

/// Whether no CR or LF stands alone.
fn lines_are_crlf(octets: &[u8]) -> bool {
    let bare_lf = octets.iter().enumerate().any(|(i, b)| *b == b'\n' && (i == 0 || octets[i - 1] != b'\r'));
    let bare_cr = octets.iter().enumerate().any(|(i, b)| *b == b'\r' && octets.get(i + 1) != Some(&b'\n'));
    !bare_lf && !bare_cr
}

/// As it is written to a file of this system.
fn outward(octets: Vec<u8>) -> Vec<u8> {
    if !lines_are_crlf(&octets) {
        return octets;
    }
    octets.into_iter().filter(|b| *b != b'\r').collect()
}

/// As it is kept in the store.
fn inward(octets: Vec<u8>) -> Vec<u8> {
    if octets.contains(&b'\r') {
        return octets;
    }
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 32);
    for b in octets {
        if b == b'\n' {
            out.push(b'\r');
        }
        out.push(b);
    }
    out
}

/// Names of a message's flags.
fn names_of(row: &Row, keywords: &Keywords) -> FlagNames {
    FlagNames::of(row.flags, keywords)
}
