//! What the records of the log say, gathered while it is read: contents, transactions, snapshots, and which copy of each
//! counts.
//!
//! How it fails: a record that makes no sense is told as foreign, and stays where it is.

use super::effect::Entity;
use super::index::Applied;
use super::record::{self, Front, KIND_ACCOUNT, KIND_CONTENT, KIND_MAILBOX, KIND_TRANSACTION, Water};
use super::shared::Content;
use crate::base::mailbox::{AccountId, ContentId, MailboxId};
use crate::log::{Location, Recovered};
use std::collections::{BTreeMap, HashMap, HashSet};

pub(super) struct FoundTransaction {
    pub sequence: u64,
    pub at: Location,
    pub mark: u32,
    pub entities: HashSet<Entity>,
    /// Kept when the index has not got it.
    pub payload: Option<Vec<u8>>,
}

pub(super) struct FoundSnapshot {
    pub sequence: u64,
    pub at: Location,
    pub text: SnapshotText,
}

/// What a snapshot says.
pub(super) enum SnapshotText {
    /// The index has it.
    Known,
    /// This.
    Here(Vec<u8>),
    /// To be read: a map told of it.
    InTheLog,
}

/// What the log says.
#[derive(Default)]
pub(super) struct Found {
    /// Up to which transaction the index goes.
    pub applied: u64,
    pub contents: HashMap<ContentId, (u64, Content)>,
    pub transactions: BTreeMap<u64, FoundTransaction>,
    /// By entity, transaction and part; with the number of parts.
    pub snapshots: BTreeMap<(Entity, u64), (u32, BTreeMap<u32, FoundSnapshot>)>,
    /// Copies of what stands elsewhere, too.
    pub dead: Vec<Location>,
    pub foreign: Vec<Location>,
    pub water: Water,
    pub last: u64,
}

impl Found {
    pub fn take(&mut self, record: &Recovered<'_>) {
        let taken = match record.kind {
            KIND_CONTENT => self.take_content(record),
            KIND_TRANSACTION => self.take_transaction(record),
            KIND_ACCOUNT => self.take_account(record),
            KIND_MAILBOX => self.take_mailbox(record),
            _ => None,
        };
        if taken.is_none() {
            self.foreign.push(record.at);
        }
    }

    fn take_content(&mut self, record: &Recovered<'_>) -> Option<()> {
        let (front, octets) = Front::decode(record.payload, record.at.octets).ok()?;
        let id = ContentId(record.id);
        self.water.content = self.water.content.max(record.id);
        let content = Content { at: record.at, octets: front.octets, front: octets, in_file: front.in_file, places: 0 };
        // A copy of compaction is newer than what it was copied from.
        match self.contents.get_mut(&id) {
            Some((sequence, known)) if *sequence < record.sequence => {
                self.dead.push(known.at);
                (*sequence, *known) = (record.sequence, content);
            }
            Some(_) => self.dead.push(record.at),
            None => {
                self.contents.insert(id, (record.sequence, content));
            }
        }
        Some(())
    }

    fn take_transaction(&mut self, record: &Recovered<'_>) -> Option<()> {
        let transaction = record::decode_transaction(record.payload).ok()?;
        self.water.rise(transaction.water);
        self.last = self.last.max(record.id);
        let entities = transaction.effects.iter().map(super::effect::Effect::entity).collect();
        let payload = (record.id > self.applied).then(|| record.payload.to_vec());
        let mark = crc32c::crc32c(record.payload);
        let new = FoundTransaction { sequence: record.sequence, at: record.at, mark, entities, payload };
        match self.transactions.get_mut(&record.id) {
            Some(known) if known.sequence < new.sequence => {
                self.dead.push(known.at);
                *known = new;
            }
            Some(_) => self.dead.push(record.at),
            None => {
                self.transactions.insert(record.id, new);
            }
        }
        Some(())
    }

    fn take_account(&mut self, record: &Recovered<'_>) -> Option<()> {
        let (transaction, water) = record::peek_account(record.payload).ok()?;
        let account = AccountId(u32::try_from(record.id).ok()?);
        self.take_snapshot(record, Entity::Account(account), (transaction, 0, 1), water);
        Some(())
    }

    fn take_mailbox(&mut self, record: &Recovered<'_>) -> Option<()> {
        let (transaction, part, parts, water) = record::peek_mailbox_part(record.payload).ok()?;
        let mailbox = MailboxId(u32::try_from(record.id).ok()?);
        self.take_snapshot(record, Entity::Mailbox(mailbox), (transaction, part, parts), water);
        Some(())
    }

    fn take_snapshot(
        &mut self,
        record: &Recovered<'_>,
        entity: Entity,
        (transaction, part, parts): (u64, u32, u32),
        water: Water,
    ) {
        self.water.rise(water);
        self.last = self.last.max(transaction);
        let text = match transaction > self.applied {
            true if record.is_whole() => SnapshotText::Here(record.payload.to_vec()),
            true => SnapshotText::InTheLog,
            false => SnapshotText::Known,
        };
        let new = FoundSnapshot { sequence: record.sequence, at: record.at, text };
        let (_, known) = self.snapshots.entry((entity, transaction)).or_insert((parts, BTreeMap::new()));
        match known.get_mut(&part) {
            Some(known) if known.sequence < new.sequence => {
                self.dead.push(known.at);
                *known = new;
            }
            Some(_) => self.dead.push(record.at),
            None => {
                known.insert(part, new);
            }
        }
    }

    /// Why the index cannot be of this log.
    pub fn doubt(&self, applied: Applied) -> Option<&'static str> {
        if applied.transaction > self.last {
            return Some("it was newer than the log");
        }
        let same = self.transactions.get(&applied.transaction).is_none_or(|t| t.mark == applied.mark);
        (!same).then_some("it was of another log")
    }

    /// For each entity its newest whole snapshot; the others are dead.
    pub fn newest_snapshots(&mut self) -> BTreeMap<Entity, (u64, Vec<FoundSnapshot>)> {
        let mut newest: BTreeMap<Entity, (u64, Vec<FoundSnapshot>)> = BTreeMap::new();
        for ((entity, transaction), (parts, found)) in std::mem::take(&mut self.snapshots) {
            let found: Vec<FoundSnapshot> = found.into_values().collect();
            if found.len() < parts as usize {
                self.dead.extend(found.iter().map(|f| f.at));
            } else if let Some((_, old)) = newest.insert(entity, (transaction, found)) {
                self.dead.extend(old.iter().map(|f| f.at)); // ascending: the later one is newer
            }
        }
        newest
    }
}
