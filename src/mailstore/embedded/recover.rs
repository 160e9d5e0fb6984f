//! Opening the store: the log is read, the index is brought up to it or made anew, and what is dead is let go.
//!
//! How it fails: [`MailstoreError`] when the directory cannot be used at all; what could not be read is in [`Opened`].

use super::catalog::Catalog;
use super::clock::Clock;
use super::effect::Entity;
use super::found::{Found, FoundSnapshot, SnapshotText};
use super::image::Image;
use super::index::{Applied, Index};
use super::ledger::Ledger;
use super::octets::{content_of, path_of};
use super::record::{self, Water};
use super::shared::{Shared, Slot};
use super::staged::{Staged, StagedImage};
use super::texts::Texts;
use super::writer::EmbeddedWriter;
use crate::base::mailbox::{AccountId, ContentId, MailboxId};
use crate::log::{self, Disk, Location, Log, LogOptions};
use crate::mailstore::{MailboxKnobs, MailstoreError};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Transactions that are applied before the index is told.
const REPLAY_BATCH: usize = 500;

/// What opening the store found, for the operator's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// What the log says: torn tails, damage.
    pub log: log::Recovery,
    /// Why the index was made anew; `None` when it was used.
    pub rebuilt: Option<&'static str>,
    /// Transactions the index had to be told.
    pub replayed: usize,
    /// Whole records that made no sense (written by another version?).
    pub foreign_records: usize,
    /// Messages whose octets are not there any more.
    pub contents_missing: usize,
    /// Body files that no message names; removed, unless something was damaged.
    pub orphan_bodies: usize,
    /// Accounts.
    pub accounts: usize,
    /// Mailboxes.
    pub mailboxes: usize,
    /// Messages in mailboxes.
    pub messages: u64,
}

impl Opened {
    /// Whether anything acknowledged may have been lost: a reason to shout.
    pub fn is_damaged(&self) -> bool {
        self.log.is_damaged() || self.foreign_records > 0 || self.contents_missing > 0
    }
}

/// How the log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// What no map tells of.
    New,
    /// All of it.
    All,
}

pub(super) fn open<D: Disk>(
    disk: D,
    directory: &Path,
    index_path: &Path,
    knobs: MailboxKnobs,
    clock: Clock,
    reading: Reading,
) -> Result<(EmbeddedWriter<D>, Opened), MailstoreError> {
    let bodies = directory.join("bodies");
    disk.make_directory(&bodies).map_err(|e| failed("making", &bodies, &e))?;
    let lock_path = directory.join("lock");
    let lock = disk.lock(&lock_path).map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock => log::LogError::Locked { directory: directory.to_owned() }.into(),
        _ => failed("locking", &lock_path, &e),
    })?;
    let (mut index, empty) = Index::open(index_path)?;
    let mut why = empty.then_some("there was none that could be used");
    let log_directory = directory.join("log");
    let options = LogOptions { segment_octets: knobs.segment_octets.0 & !4095, spares_max: knobs.segments_spare_max };
    loop {
        let applied = match index.applied() {
            Ok(applied) if why.is_none() => applied,
            _ => Applied::default(),
        };
        let mut found = Found { applied: applied.transaction, ..Found::default() };
        // An index that has to be made needs all of it.
        let open = if reading == Reading::New && why.is_none() { Log::open_mapped } else { Log::open };
        let (mut log, recovery) = open(disk.clone(), &log_directory, options, &mut |record| found.take(&record))?;
        log.set_compact_below_percent(knobs.compact_below_percent);
        log.set_pack_above_percent(knobs.pack_above_percent);
        let mut opened = Opened { log: recovery, rebuilt: why, ..Opened::default() };
        opened.foreign_records = found.foreign.len();
        let doubt = found.doubt(applied);
        let shared = Shared::new(
            (disk.clone(), bodies.clone(), index_path.to_owned()),
            knobs.clone(),
            clock.clone(),
            log.reader(),
        );
        let loaded = if doubt.is_none() { load(&shared, &index).is_ok() } else { false };
        if loaded {
            let writer = EmbeddedWriter::recovered(shared, log, index, lock, applied);
            let recovering = Recovering { writer, found };
            match recovering.run(&mut opened)? {
                Some(writer) => return Ok((writer, opened)),
                None if why.is_some() => {
                    let text = "what was written cannot be read back".to_owned();
                    return Err(MailstoreError::Index { path: index_path.to_owned(), text });
                }
                None => {}
            }
            // The lock was given up with the writer; whoever comes between finds a store that is whole.
            return open_anew(disk, directory, index_path, knobs, clock, "it could not be read");
        }
        drop(log);
        drop(index);
        Index::remove(index_path)?;
        index = Index::open(index_path)?.0;
        why = Some(doubt.unwrap_or("it could not be read"));
    }
}

fn open_anew<D: Disk>(
    disk: D,
    directory: &Path,
    index_path: &Path,
    knobs: MailboxKnobs,
    clock: Clock,
    why: &'static str,
) -> Result<(EmbeddedWriter<D>, Opened), MailstoreError> {
    Index::remove(index_path)?;
    let (writer, mut opened) = open(disk, directory, index_path, knobs, clock, Reading::All)?;
    opened.rebuilt = Some(why);
    Ok((writer, opened))
}

fn failed(doing: &'static str, path: &Path, e: &std::io::Error) -> MailstoreError {
    MailstoreError::File { doing, path: path.to_owned(), text: e.to_string() }
}

/// Catalogs and mailboxes of the index.
fn load<D: Disk>(shared: &Shared<D>, index: &Index) -> rusqlite::Result<()> {
    let mut accounts = shared.accounts.write();
    for (id, catalog) in index.catalogs()? {
        accounts.insert(id, Arc::new(catalog));
    }
    let mut slots = shared.slots.write();
    for (id, meta, recent) in index.mailboxes()? {
        slots.insert(id, Arc::new(Slot::new(meta, recent)));
    }
    Ok(())
}

impl<D: Disk> EmbeddedWriter<D> {
    fn recovered(shared: Shared<D>, log: Log<D>, index: Index, lock: D::File, applied: Applied) -> EmbeddedWriter<D> {
        EmbeddedWriter {
            shared: Arc::new(shared),
            log,
            index,
            ledger: Ledger::default(),
            names: HashMap::new(),
            water: Water::default(),
            transaction: 0,
            applied,
            staged: Staged::default(),
            contents: Vec::new(),
            ops: Vec::new(),
            unwritten: HashSet::new(),
            unwritten_gone: Vec::new(),
            dying: VecDeque::new(),
            texts: None,
            untexted: VecDeque::new(),
            dead: Vec::new(),
            effects: Vec::new(),
            count: 0,
            entities: HashSet::new(),
            touched: Vec::new(),
            proof: None,
            _lock: lock,
        }
    }
}

struct Recovering<D: Disk> {
    writer: EmbeddedWriter<D>,
    found: Found,
}

impl<D: Disk> Recovering<D> {
    /// `None` when the index turned out to be unusable.
    fn run(mut self, opened: &mut Opened) -> Result<Option<EmbeddedWriter<D>>, MailstoreError> {
        let snapshots = self.found.newest_snapshots();
        self.writer.water = self.found.water;
        self.writer.transaction = self.found.last.max(self.writer.applied.transaction);
        let contents = std::mem::take(&mut self.found.contents);
        *self.writer.shared.contents.write() = contents.into_iter().map(|(id, (_, content))| (id, content)).collect();
        if self.apply_snapshots(&snapshots).is_none() {
            opened.foreign_records += 1;
        }
        opened.replayed = self.replay(&snapshots);
        self.settle_mailboxes();
        if !self.writer.unwritten.is_empty() {
            let (path, text) = (self.writer.shared.index_path.clone(), "it cannot be written".to_owned());
            return Err(MailstoreError::Index { path, text });
        }
        let Some(missing) = self.count_places() else { return Ok(None) };
        opened.contents_missing = missing;
        self.release_dead(snapshots, opened.is_damaged());
        opened.orphan_bodies = self.sweep_bodies(opened.is_damaged())?;
        let mut writer = self.writer;
        writer.names = writer.shared.accounts.read().iter().map(|(id, c)| (c.name.clone(), *id)).collect();
        opened.accounts = writer.names.len();
        {
            let slots = writer.shared.slots.read();
            opened.mailboxes = slots.len();
            opened.messages = slots.values().map(|s| s.state.read().meta.messages).sum();
            if opened.rebuilt.is_some() {
                // Nobody knows what was shown; that something is shown as new twice is the worse mistake.
                slots.values().for_each(|s| s.recent.store(s.state.read().meta.uid_next, Ordering::Relaxed));
            }
        }
        writer.open_texts(opened.rebuilt.is_some())?;
        if opened.log.is_damaged() && opened.rebuilt.is_none() {
            // The index may know what the log has lost: it is written down anew.
            let entities = writer.all_entities();
            writer.snapshot(&entities);
        }
        Ok(Some(writer))
    }

    /// Snapshots the index does not know replace what it has.
    fn apply_snapshots(&mut self, snapshots: &BTreeMap<Entity, (u64, Vec<FoundSnapshot>)>) -> Option<()> {
        let mut whole = Some(());
        for (entity, (_, parts)) in snapshots {
            if parts.iter().any(|p| matches!(p.text, SnapshotText::Known)) {
                continue;
            }
            let payloads: Option<Vec<Cow<'_, [u8]>>> = parts.iter().map(|p| self.text_of(p)).collect();
            let Some(payloads) = payloads else {
                whole = None;
                continue;
            };
            let applied = match entity {
                Entity::Account(id) => self.apply_account(*id, &payloads),
                Entity::Mailbox(id) => self.apply_mailbox(*id, &payloads),
            };
            whole = whole.and(applied);
            if self.writer.staged.images.len() >= REPLAY_BATCH {
                self.publish();
            }
        }
        self.publish();
        whole
    }

    fn text_of<'a>(&self, snapshot: &'a FoundSnapshot) -> Option<Cow<'a, [u8]>> {
        match &snapshot.text {
            SnapshotText::Known => None,
            SnapshotText::Here(text) => Some(Cow::Borrowed(text)),
            SnapshotText::InTheLog => self.writer.shared.log.read(snapshot.at).ok().map(Cow::Owned),
        }
    }

    fn apply_account(&mut self, id: AccountId, payloads: &[Cow<'_, [u8]>]) -> Option<()> {
        let snapshot = record::decode_account(payloads.first()?).ok()?;
        // The transaction that made a mailbox may be gone, while what came into it is told by others.
        for entry in snapshot.catalog.mailboxes.values().filter(|e| e.selectable) {
            if self.writer.shared.slot(entry.id).is_none() {
                self.writer.staged.make(id, entry.id, entry.uid_validity);
            }
        }
        self.writer.staged.accounts.insert(id, Arc::new(snapshot.catalog));
        Some(())
    }

    fn apply_mailbox(&mut self, id: MailboxId, payloads: &[Cow<'_, [u8]>]) -> Option<()> {
        let mut front = None;
        let mut chunks = Vec::new();
        for payload in payloads {
            let part = record::decode_mailbox_part(payload).ok()?;
            front = front.or(part.front);
            chunks.extend(part.chunks);
        }
        let (meta, vanished) = front?;
        let now = Arc::new(Image::from_parts(meta, vanished, chunks));
        self.writer.staged.images.insert(id, StagedImage { base: None, now });
        Some(())
    }

    /// Applies transactions that the index and the snapshots do not know.
    fn replay(&mut self, snapshots: &BTreeMap<Entity, (u64, Vec<FoundSnapshot>)>) -> usize {
        let mut replayed = 0;
        let transactions: Vec<(u64, u32, Vec<u8>)> = self
            .found
            .transactions
            .iter_mut()
            .filter_map(|(number, t)| Some((*number, t.mark, t.payload.take()?)))
            .collect();
        for (number, mark, payload) in transactions {
            let effects = record::decode_transaction(&payload).map(|t| t.effects).unwrap_or_default();
            for effect in &effects {
                let known = snapshots.get(&effect.entity()).is_some_and(|(upto, _)| *upto >= number);
                if !known {
                    self.writer.prepare(effect);
                    self.writer.staged.apply(&self.writer.shared, effect);
                }
            }
            self.writer.applied = Applied { transaction: number, mark };
            replayed += 1;
            if replayed % REPLAY_BATCH == 0 {
                self.publish();
            }
        }
        // A snapshot can go further than the transactions that are left.
        if self.found.last > self.writer.applied.transaction {
            self.writer.applied = Applied { transaction: self.found.last, mark: 0 };
        }
        self.publish();
        replayed
    }

    /// Places are counted at the end.
    fn publish(&mut self) {
        self.writer.staged.places.clear();
        self.writer.publish();
    }

    /// Every mailbox of a catalog is there, and no other.
    fn settle_mailboxes(&mut self) {
        let catalogs: Vec<(AccountId, Arc<Catalog>)> =
            self.writer.shared.accounts.read().iter().map(|(id, c)| (*id, c.clone())).collect();
        let mut there = HashSet::new();
        for (account, catalog) in &catalogs {
            self.writer.water.account = self.writer.water.account.max(account.0);
            for entry in catalog.mailboxes.values() {
                self.writer.water.mailbox = self.writer.water.mailbox.max(entry.id.0);
                self.writer.water.uid_validity = self.writer.water.uid_validity.max(entry.uid_validity);
                if entry.selectable {
                    there.insert(entry.id);
                    if self.writer.shared.slot(entry.id).is_none() {
                        self.writer.staged.make(*account, entry.id, entry.uid_validity);
                    }
                }
            }
        }
        let known: Vec<MailboxId> = self.writer.shared.slots.read().keys().copied().collect();
        self.writer.staged.gone.extend(known.into_iter().filter(|id| !there.contains(id)));
        self.publish();
    }

    /// How many places each content has; how many messages have no content.
    fn count_places(&mut self) -> Option<usize> {
        let mut missing = 0;
        let mut contents = self.writer.shared.contents.write();
        let slots = self.writer.shared.slots.read();
        let counted = self.writer.index.each_chunk(&mut |mailbox, chunk| {
            if slots.contains_key(&mailbox) {
                for row in &chunk.rows {
                    match contents.get_mut(&row.content) {
                        Some(content) => content.places += 1,
                        None => missing += 1,
                    }
                }
            }
        });
        counted.ok().map(|()| missing)
    }

    fn release_dead(&mut self, snapshots: BTreeMap<Entity, (u64, Vec<FoundSnapshot>)>, damaged: bool) {
        let writer = &mut self.writer;
        let alive = |shared: &Shared<D>, entity: &Entity| match entity {
            Entity::Account(id) => shared.accounts.read().contains_key(id),
            Entity::Mailbox(id) => shared.slots.read().contains_key(id),
        };
        let mut upto: HashMap<Entity, u64> = HashMap::new();
        for (entity, (transaction, parts)) in snapshots {
            let places: Vec<Location> = parts.iter().map(|p| p.at).collect();
            if alive(&writer.shared, &entity) {
                upto.insert(entity, transaction);
                writer.ledger.snapshotted(entity, transaction, places);
            } else {
                places.into_iter().for_each(|at| writer.log.release(at));
            }
        }
        for (number, transaction) in std::mem::take(&mut self.found.transactions) {
            let needed = transaction.entities.into_iter();
            let needed = needed.filter(|e| upto.get(e).is_none_or(|u| *u < number) && alive(&writer.shared, e));
            if !writer.ledger.record(number, transaction.at, &needed.collect()) {
                writer.log.release(transaction.at);
            }
        }
        let mut contents = writer.shared.contents.write();
        contents.retain(|_, content| {
            // What named it may be what was damaged: then it stays for whoever repairs that.
            let stays = content.places > 0 || damaged;
            if !stays {
                writer.log.release(content.at);
            }
            stays
        });
        // What makes no sense here may do so to another version: it stays.
        self.found.dead.drain(..).for_each(|at| writer.log.release(at));
    }

    /// Removes files that no content names, unless the record that named them may be what was damaged.
    fn sweep_bodies(&self, damaged: bool) -> Result<usize, MailstoreError> {
        let shared = &self.writer.shared;
        let names = shared.disk.list(&shared.bodies).map_err(|e| failed("listing", &shared.bodies, &e))?;
        let known: BTreeSet<ContentId> =
            shared.contents.read().iter().filter(|(_, c)| c.in_file.is_some()).map(|(id, _)| *id).collect();
        let mut orphans = 0;
        for id in names.iter().filter_map(|n| content_of(n)).filter(|id| !known.contains(id)) {
            orphans += 1;
            if !damaged {
                let path = path_of(&shared.bodies, id);
                shared.disk.remove(&path).map_err(|e| failed("removing", &path, &e))?;
            }
        }
        Ok(orphans)
    }
}

impl<D: Disk> EmbeddedWriter<D> {
    fn open_texts(&mut self, anew: bool) -> Result<(), MailstoreError> {
        let Some(path) = &self.shared.texts else { return Ok(()) };
        let texts = Texts::open(path, anew)?;
        let upto = texts.upto().unwrap_or(0);
        let mut left: Vec<ContentId> = self.shared.contents.read().keys().copied().filter(|id| id.0 > upto).collect();
        left.sort_unstable();
        self.untexted = left.into();
        self.texts = Some(texts);
        Ok(())
    }

    fn all_entities(&self) -> Vec<Entity> {
        let accounts: Vec<Entity> = self.shared.accounts.read().keys().map(|id| Entity::Account(*id)).collect();
        let mailboxes = self.shared.slots.read();
        accounts.into_iter().chain(mailboxes.keys().map(|id| Entity::Mailbox(*id))).collect()
    }
}
