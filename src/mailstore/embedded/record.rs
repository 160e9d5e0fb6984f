//! The records of the log and the blobs of the index, as octets.
//!
//! Four kinds of records: a *content* is a message's octets; a *transaction* is what a commit did, as effects; a
//! *snapshot* of an account or a mailbox replaces all transactions on it up to one. How it fails: foreign or torn octets
//! are a [`CodecError`].

use super::catalog::{Catalog, Entry};
use super::effect::Effect;
use super::image::{Chunk, Meta, Row, Vanished};
use crate::base::codec::{CodecError, Reader, Writer};
use crate::base::mailbox::{AccountId, ContentId, Flags, MailboxId, SpecialUse, UidSet};
use crate::base::time::WallTime;
use std::sync::Arc;

/// Octets of a message; the id is its [`ContentId`].
pub(super) const KIND_CONTENT: u8 = 1;
/// What a commit did; the id is the transaction's number.
pub(super) const KIND_TRANSACTION: u8 = 2;
/// All of an account but its messages; the id is its [`AccountId`].
pub(super) const KIND_ACCOUNT: u8 = 3;
/// A part of all of a mailbox; the id is its [`MailboxId`].
pub(super) const KIND_MAILBOX: u8 = 4;

/// Numbers that were given, so that none is given twice even when all that bore them is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Water {
    pub account: u32,
    pub mailbox: u32,
    pub content: u64,
    pub uid_validity: u32,
}

impl Water {
    pub fn rise(&mut self, to: Water) {
        self.account = self.account.max(to.account);
        self.mailbox = self.mailbox.max(to.mailbox);
        self.content = self.content.max(to.content);
        self.uid_validity = self.uid_validity.max(to.uid_validity);
    }

    fn write(self, w: &mut Writer<'_>) {
        w.varint(self.account.into());
        w.varint(self.mailbox.into());
        w.varint(self.content);
        w.varint(self.uid_validity.into());
    }

    fn read(r: &mut Reader<'_>) -> Result<Water, CodecError> {
        Ok(Water { account: number(r)?, mailbox: number(r)?, content: r.varint()?, uid_validity: number(r)? })
    }
}

/// What stands in front of a content's octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Front {
    /// Octets of the message.
    pub octets: u64,
    /// Of them in the record when the rest is in a file.
    pub in_file: Option<u32>,
}

impl Front {
    pub fn encode(self, out: &mut Vec<u8>) {
        let mut w = Writer(out);
        w.varint(self.octets);
        w.option(self.in_file, |w, prefix| w.varint(prefix.into()));
    }

    /// Octets that are enough to read it.
    pub const OCTETS_MAX: usize = 10 + 1 + 5;

    /// Reads it from the beginning of a payload of so many octets; with the octets it takes.
    pub fn decode(payload: &[u8], payload_octets: u32) -> Result<(Front, u32), CodecError> {
        let mut r = Reader::new(payload);
        let front = Front { octets: r.varint()?, in_file: r.option(number)? };
        let taken = payload.len() - r.rest().len();
        let held = u64::from(payload_octets) - (taken as u64).min(payload_octets.into());
        if held != front.in_file.map_or(front.octets, u64::from) {
            return Err(r.error("as many octets as the front says"));
        }
        Ok((front, taken as u32))
    }
}

/// A decoded transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transaction {
    pub water: Water,
    pub effects: Vec<Effect>,
}

/// A decoded snapshot of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AccountSnapshot {
    /// Transactions up to this one are in it.
    pub transaction: u64,
    pub water: Water,
    pub catalog: Catalog,
}

/// A decoded part of a snapshot of a mailbox; the first has `front`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MailboxPart {
    /// Transactions up to this one are in it.
    pub transaction: u64,
    pub part: u32,
    pub parts: u32,
    pub water: Water,
    pub front: Option<(Meta, Vanished)>,
    pub chunks: Vec<(u32, Arc<Chunk>)>,
}

pub(super) fn encode_transaction_front(water: Water, effects: usize, out: &mut Vec<u8>) {
    let mut w = Writer(out);
    water.write(&mut w);
    w.varint(effects as u64);
}

pub(super) fn decode_transaction(payload: &[u8]) -> Result<Transaction, CodecError> {
    let mut r = Reader::new(payload);
    let water = Water::read(&mut r)?;
    let count = r.varint()?;
    let mut effects = Vec::new();
    for _ in 0..count {
        effects.push(read_effect(&mut r)?);
    }
    Ok(Transaction { water, effects })
}

pub(super) fn encode_effect(effect: &Effect, out: &mut Vec<u8>) {
    let mut w = Writer(out);
    match effect {
        Effect::Account { account, name } => {
            w.octet(1);
            w.varint(account.0.into());
            w.text(name);
        }
        Effect::Put { account, name, entry } => {
            w.octet(2);
            w.varint(account.0.into());
            write_entry(&mut w, name, entry);
        }
        Effect::Gone { account, mailbox } => {
            w.octet(3);
            w.varint(account.0.into());
            w.varint(mailbox.0.into());
        }
        Effect::Subscribe { account, name, on } => {
            w.octet(4);
            w.varint(account.0.into());
            w.text(name);
            w.octet(u8::from(*on));
        }
        Effect::Keywords { mailbox, names } => {
            w.octet(5);
            w.varint(mailbox.0.into());
            write_texts(&mut w, names.iter());
        }
        Effect::Add { mailbox, rows } => {
            w.octet(6);
            w.varint(mailbox.0.into());
            write_rows(&mut w, rows);
        }
        Effect::Flags { mailbox, mod_seq, groups } => {
            w.octet(7);
            w.varint(mailbox.0.into());
            w.varint(*mod_seq);
            w.varint(groups.len() as u64);
            for (flags, uids) in groups {
                w.varint(flags.0);
                write_uids(&mut w, uids);
            }
        }
        Effect::Expunge { mailbox, mod_seq, uids } => {
            w.octet(8);
            w.varint(mailbox.0.into());
            w.varint(*mod_seq);
            write_uids(&mut w, uids);
        }
    }
}

fn read_effect(r: &mut Reader<'_>) -> Result<Effect, CodecError> {
    Ok(match r.octet()? {
        1 => Effect::Account { account: AccountId(number(r)?), name: r.text()?.to_owned() },
        2 => {
            let account = AccountId(number(r)?);
            let (name, entry) = read_entry(r)?;
            Effect::Put { account, name, entry }
        }
        3 => Effect::Gone { account: AccountId(number(r)?), mailbox: MailboxId(number(r)?) },
        4 => Effect::Subscribe { account: AccountId(number(r)?), name: r.text()?.to_owned(), on: r.octet()? != 0 },
        5 => Effect::Keywords { mailbox: MailboxId(number(r)?), names: read_texts(r)? },
        6 => Effect::Add { mailbox: MailboxId(number(r)?), rows: read_rows(r)? },
        7 => {
            let (mailbox, mod_seq, count) = (MailboxId(number(r)?), r.varint()?, r.varint()?);
            let mut groups = Vec::new();
            for _ in 0..count {
                groups.push((Flags(r.varint()?), read_uids(r)?));
            }
            Effect::Flags { mailbox, mod_seq, groups }
        }
        8 => Effect::Expunge { mailbox: MailboxId(number(r)?), mod_seq: r.varint()?, uids: read_uids(r)? },
        _ => return Err(r.error("an effect")),
    })
}

pub(super) fn encode_account(transaction: u64, water: Water, catalog: &Catalog, out: &mut Vec<u8>) {
    let mut w = Writer(out);
    w.varint(transaction);
    water.write(&mut w);
    encode_catalog(catalog, out);
}

pub(super) fn decode_account(payload: &[u8]) -> Result<AccountSnapshot, CodecError> {
    let mut r = Reader::new(payload);
    let (transaction, water) = (r.varint()?, Water::read(&mut r)?);
    Ok(AccountSnapshot { transaction, water, catalog: read_catalog(&mut r)? })
}

pub(super) fn encode_catalog(catalog: &Catalog, out: &mut Vec<u8>) {
    let mut w = Writer(out);
    w.text(&catalog.name);
    w.varint(catalog.mailboxes.len() as u64);
    for (name, entry) in &catalog.mailboxes {
        write_entry(&mut w, name, entry);
    }
    write_texts(&mut w, catalog.subscribed.iter());
}

pub(super) fn decode_catalog(blob: &[u8]) -> Result<Catalog, CodecError> {
    read_catalog(&mut Reader::new(blob))
}

fn read_catalog(r: &mut Reader<'_>) -> Result<Catalog, CodecError> {
    let mut catalog = Catalog::new(r.text()?);
    for _ in 0..r.varint()? {
        let (name, entry) = read_entry(r)?;
        catalog.put(&name, entry);
    }
    catalog.subscribed = read_texts(r)?.into_iter().collect();
    Ok(catalog)
}

/// Which snapshot it is, and its numbers, without the rest.
pub(super) fn peek_account(payload: &[u8]) -> Result<(u64, Water), CodecError> {
    let mut r = Reader::new(payload);
    Ok((r.varint()?, Water::read(&mut r)?))
}

/// How much of a record of this kind is needed to know what it is: what the maps of the log keep.
pub(super) fn front_octets(kind: u8) -> usize {
    match kind {
        KIND_CONTENT => Front::OCTETS_MAX,
        // Varints of ten octets at most.
        KIND_ACCOUNT | KIND_MAILBOX => 8 * 10,
        _ => usize::MAX,
    }
}

/// The front of a mailbox's part; `front` in the first of them.
pub(super) fn encode_mailbox_part(
    (transaction, part, parts): (u64, u32, u32),
    water: Water,
    front: Option<(&Meta, &Vanished)>,
    chunks: &[(u32, Arc<Chunk>)],
    out: &mut Vec<u8>,
) {
    let mut w = Writer(out);
    w.varint(transaction);
    w.varint(part.into());
    w.varint(parts.into());
    water.write(&mut w);
    w.octet(u8::from(front.is_some()));
    if let Some((meta, vanished)) = front {
        write_meta(&mut w, meta);
        write_vanished(&mut w, vanished);
    }
    w.varint(chunks.len() as u64);
    for (base, chunk) in chunks {
        w.varint((*base).into());
        write_rows(&mut w, &chunk.rows);
    }
}

/// Which part of which snapshot it is, and its numbers, without the rest.
pub(super) fn peek_mailbox_part(payload: &[u8]) -> Result<(u64, u32, u32, Water), CodecError> {
    let mut r = Reader::new(payload);
    Ok((r.varint()?, number(&mut r)?, number(&mut r)?, Water::read(&mut r)?))
}

pub(super) fn decode_mailbox_part(payload: &[u8]) -> Result<MailboxPart, CodecError> {
    let mut r = Reader::new(payload);
    let (transaction, part, parts) = (r.varint()?, number(&mut r)?, number(&mut r)?);
    let water = Water::read(&mut r)?;
    let front = r.option(|r| Ok((read_meta(r)?, read_vanished(r)?)))?;
    let mut chunks = Vec::new();
    for _ in 0..r.varint()? {
        chunks.push((number(&mut r)?, Arc::new(Chunk::new(read_rows(&mut r)?))));
    }
    Ok(MailboxPart { transaction, part, parts, water, front, chunks })
}

pub(super) fn encode_meta(meta: &Meta) -> Vec<u8> {
    let mut out = Vec::new();
    let mut w = Writer(&mut out);
    write_meta(&mut w, meta);
    for count in [meta.messages, meta.unseen, meta.deleted, meta.octets, meta.deleted_octets] {
        w.varint(count);
    }
    out
}

pub(super) fn decode_meta(blob: &[u8]) -> Result<Meta, CodecError> {
    let mut r = Reader::new(blob);
    let mut meta = read_meta(&mut r)?;
    for count in [&mut meta.messages, &mut meta.unseen, &mut meta.deleted, &mut meta.octets, &mut meta.deleted_octets] {
        *count = r.varint()?;
    }
    Ok(meta)
}

pub(super) fn encode_vanished(vanished: &Vanished) -> Vec<u8> {
    let mut out = Vec::new();
    write_vanished(&mut Writer(&mut out), vanished);
    out
}

pub(super) fn decode_vanished(blob: &[u8]) -> Result<Vanished, CodecError> {
    read_vanished(&mut Reader::new(blob))
}

pub(super) fn encode_rows(rows: &[Row]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * 24 + 8);
    write_rows(&mut Writer(&mut out), rows);
    out
}

pub(super) fn decode_rows(blob: &[u8]) -> Result<Vec<Row>, CodecError> {
    read_rows(&mut Reader::new(blob))
}

fn write_meta(w: &mut Writer<'_>, meta: &Meta) {
    w.varint(meta.account.0.into());
    w.varint(meta.uid_validity.into());
    w.varint(meta.uid_next.into());
    w.varint(meta.mod_seq);
    write_texts(w, meta.keywords.iter());
}

fn read_meta(r: &mut Reader<'_>) -> Result<Meta, CodecError> {
    let mut meta = Meta::new(AccountId(number(r)?), number(r)?);
    meta.uid_next = number(r)?;
    meta.mod_seq = r.varint()?;
    meta.keywords = Arc::new(read_texts(r)?);
    Ok(meta)
}

fn write_vanished(w: &mut Writer<'_>, vanished: &Vanished) {
    w.varint(vanished.floor);
    w.varint(vanished.sets.len() as u64);
    for (mod_seq, uids) in &vanished.sets {
        w.varint(*mod_seq);
        write_uids(w, uids);
    }
}

fn read_vanished(r: &mut Reader<'_>) -> Result<Vanished, CodecError> {
    let mut vanished = Vanished { floor: r.varint()?, sets: Vec::new() };
    for _ in 0..r.varint()? {
        vanished.sets.push((r.varint()?, read_uids(r)?));
    }
    Ok(vanished)
}

/// Rows as differences to the one before.
fn write_rows(w: &mut Writer<'_>, rows: &[Row]) {
    w.varint(rows.len() as u64);
    let mut last = (0u32, 0u64, 0u64, 0u64);
    for row in rows {
        let internal = row.internal.as_millis();
        w.varint((row.uid - last.0).into());
        difference(w, row.content.0, last.1);
        difference(w, row.mod_seq, last.2);
        difference(w, internal, last.3);
        difference(w, row.saved.as_millis(), internal);
        w.varint(row.flags.0);
        // Nearly every message ends in a line end: those that do not have the lowest bit set.
        w.varint(row.octets << 1 | u64::from(!row.ends_with_crlf));
        w.varint(zigzag(row.zone_minutes.into()));
        last = (row.uid, row.content.0, row.mod_seq, internal);
    }
}

fn read_rows(r: &mut Reader<'_>) -> Result<Vec<Row>, CodecError> {
    let count = r.varint()?;
    let mut rows = Vec::with_capacity((count as usize).min(r.rest().len() / 8));
    let mut last = (0u32, 0u64, 0u64, 0u64);
    for _ in 0..count {
        let step: u32 = number(r)?;
        let uid = last.0.checked_add(step).filter(|_| step > 0).ok_or_else(|| r.error("ascending UIDs"))?;
        let content = sum(r, last.1)?;
        let mod_seq = sum(r, last.2)?;
        let internal = sum(r, last.3)?;
        let saved = sum(r, internal)?;
        let (flags, octets) = (Flags(r.varint()?), r.varint()?);
        let zone_minutes = i16::try_from(unzigzag(r.varint()?)).map_err(|_| r.error("a zone"))?;
        rows.push(Row {
            uid,
            zone_minutes,
            ends_with_crlf: octets & 1 == 0,
            flags,
            mod_seq,
            octets: octets >> 1,
            internal: WallTime::from_millis(internal),
            saved: WallTime::from_millis(saved),
            content: ContentId(content),
        });
        last = (uid, content, mod_seq, internal);
    }
    Ok(rows)
}

fn difference(w: &mut Writer<'_>, value: u64, from: u64) {
    w.varint(zigzag(value.wrapping_sub(from) as i64));
}

fn sum(r: &mut Reader<'_>, from: u64) -> Result<u64, CodecError> {
    Ok(from.wrapping_add(unzigzag(r.varint()?) as u64))
}

fn zigzag(n: i64) -> u64 {
    (n << 1 ^ n >> 63) as u64
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

fn write_uids(w: &mut Writer<'_>, uids: &UidSet) {
    w.varint(uids.ranges().len() as u64);
    let mut last = 0;
    for (first, end) in uids.ranges() {
        w.varint((first - last).into());
        w.varint((end - first).into());
        last = *end;
    }
}

fn read_uids(r: &mut Reader<'_>) -> Result<UidSet, CodecError> {
    let mut uids = UidSet::new();
    let mut last = 0u32;
    for _ in 0..r.varint()? {
        let first = last.checked_add(number(r)?);
        let end = first.and_then(|f| Some((f, f.checked_add(number(r).ok()?)?)));
        let (first, end) = end.ok_or_else(|| r.error("a range of UIDs"))?;
        uids.insert_range(first, end);
        last = end;
    }
    Ok(uids)
}

fn write_texts<'a>(w: &mut Writer<'_>, texts: impl ExactSizeIterator<Item = &'a String>) {
    w.varint(texts.len() as u64);
    texts.for_each(|t| w.text(t));
}

fn read_texts(r: &mut Reader<'_>) -> Result<Vec<String>, CodecError> {
    let mut texts = Vec::new();
    for _ in 0..r.varint()? {
        texts.push(r.text()?.to_owned());
    }
    Ok(texts)
}

fn write_entry(w: &mut Writer<'_>, name: &str, entry: &Entry) {
    w.text(name);
    w.varint(entry.id.0.into());
    w.varint(entry.uid_validity.into());
    w.octet(u8::from(entry.selectable));
    let use_number = |u: SpecialUse| SpecialUse::ALL.iter().position(|a| *a == u).unwrap_or_default() as u8;
    w.option(entry.special_use, |w, u| w.octet(use_number(u)));
}

fn read_entry(r: &mut Reader<'_>) -> Result<(String, Entry), CodecError> {
    let name = r.text()?.to_owned();
    let (id, uid_validity, selectable) = (MailboxId(number(r)?), number(r)?, r.octet()? != 0);
    let special_use =
        r.option(|r| SpecialUse::ALL.get(usize::from(r.octet()?)).copied().ok_or_else(|| r.error("a special use")))?;
    Ok((name, Entry { id, uid_validity, special_use, selectable }))
}

fn number(r: &mut Reader<'_>) -> Result<u32, CodecError> {
    let n = r.varint()?;
    u32::try_from(n).map_err(|_| r.error("a number below 2^32"))
}
