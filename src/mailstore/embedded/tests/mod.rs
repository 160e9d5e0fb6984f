//! The embedded store from outside: what its traits promise. How it fails: a panic is the report.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod basics;
mod care;
mod faults;
mod maps;
mod measure;
mod model;
mod readers;
mod search;

use super::clock::Clock;
use super::{EmbeddedStore, Opened};
use crate::base::body::{Body, BodyShape};
use crate::base::id::SpoolId;
use crate::base::mailbox::ask::{
    Change, Delivery, FetchItems, Fetched, NewMessage, Octets, Query, Recipient, Reply, Section, SectionData,
    SectionWhat, Selected, StoreError, Synced,
};
use crate::base::mailbox::{AccountId, FlagNames, Flags, MailboxId, UidSet};
use crate::log::{Disk, RealDisk};
use crate::mailstore::{Delivered, MailReader, MailWriter, MailboxKnobs, Mailstore, Outcome};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A store that can be closed and opened again.
struct Site<D: Disk + Sync> {
    disk: D,
    directory: PathBuf,
    index: PathBuf,
    knobs: MailboxKnobs,
    millis: Arc<AtomicU64>,
    _scratch: tempfile::TempDir,
}

/// A store that is open.
struct Open<D: Disk + Sync> {
    store: EmbeddedStore<D>,
    writer: Box<dyn MailWriter>,
    reader: Box<dyn MailReader>,
    opened: Opened,
}

fn small_knobs() -> MailboxKnobs {
    let mut knobs = MailboxKnobs::default();
    knobs.segment_octets.0 = 64 * 1024;
    knobs.body_inline_octets_max.0 = 16 * 1024;
    knobs.changes_octets_max.0 = 4 * 1024;
    knobs
}

impl Site<RealDisk> {
    fn real() -> Site<RealDisk> {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("store");
        let index = directory.join("index.sqlite");
        Site::new(RealDisk, directory, index, scratch)
    }
}

impl<D: Disk + Sync> Site<D> {
    fn new(disk: D, directory: PathBuf, index: PathBuf, scratch: tempfile::TempDir) -> Site<D> {
        let millis = Arc::new(AtomicU64::new(1_795_437_121_000));
        Site { disk, directory, index, knobs: small_knobs(), millis, _scratch: scratch }
    }

    fn try_open(&self) -> Result<Open<D>, crate::mailstore::MailstoreError> {
        let clock = Clock::Set(self.millis.clone());
        let (store, opened) =
            EmbeddedStore::open_on(self.disk.clone(), &self.directory, &self.index, self.knobs.clone(), clock)?;
        let writer = store.writer()?;
        let reader = store.reader()?;
        Ok(Open { store, writer, reader, opened })
    }

    #[track_caller]
    fn open(&self) -> Open<D> {
        self.try_open().unwrap()
    }

    fn pass(&self, seconds: u64) {
        self.millis.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}

fn body(text: &str) -> Body {
    let octets = text.len() as u64;
    let header_octets = text.find("\r\n\r\n").map_or(octets, |n| n as u64 + 4);
    let shape = BodyShape { octets, header_octets, ..BodyShape::default() };
    Body::memory(shape, vec![Arc::new(text.as_bytes().to_vec())])
}

fn message(text: &str) -> NewMessage {
    NewMessage { flags: FlagNames::default(), internal_date: None, body: body(text) }
}

fn flagged(text: &str, flags: FlagNames) -> NewMessage {
    NewMessage { flags, ..message(text) }
}

fn whole() -> Section {
    Section { part: Vec::new(), what: SectionWhat::All, partial: None, decoded: false, size_only: false }
}

fn uids(list: &[u32]) -> UidSet {
    list.iter().copied().collect()
}

impl<D: Disk + Sync> Open<D> {
    #[track_caller]
    fn account(&mut self, name: &str) -> AccountId {
        self.writer.account(7, name);
        match self.commit_one() {
            Outcome::Replied(Ok(Reply::Account(account))) => account,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn commit_one(&mut self) -> Outcome {
        let mut commit = self.writer.commit();
        assert_eq!(commit.outcomes.len(), 1);
        commit.outcomes.remove(0).1
    }

    #[track_caller]
    fn change(&mut self, account: AccountId, change: Change) -> Result<Reply, StoreError> {
        self.writer.change(1, account, change);
        match self.commit_one() {
            Outcome::Replied(reply) => reply,
            Outcome::Delivered(other) => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn create(&mut self, account: AccountId, name: &str) -> MailboxId {
        match self.change(account, Change::Create { name: name.into(), special_use: None }) {
            Ok(Reply::Created(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn append(&mut self, account: AccountId, name: &str, text: &str) -> u32 {
        let messages = vec![message(text)];
        match self.change(account, Change::Append { name: name.into(), messages }) {
            Ok(Reply::Appended(appended)) => appended.uids[0],
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn deliver(&mut self, text: &str, to: Vec<Recipient>) -> Delivered {
        let delivery = Delivery { id: SpoolId(9), prefix: b"Received: here\r\n".to_vec(), body: body(text), to };
        self.writer.deliver(3, delivery);
        match self.commit_one() {
            Outcome::Delivered(delivered) => delivered,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn store(&mut self, account: AccountId, mailbox: MailboxId, set: &[u32], flags: Flags) -> Reply {
        use crate::base::mailbox::ask::StoreHow;
        let (uids, flags) = (uids(set), FlagNames::system(flags));
        self.change(account, Change::Store { mailbox, uids, how: StoreHow::Add, flags, unchanged_since: None }).unwrap()
    }

    #[track_caller]
    fn expunge(&mut self, account: AccountId, mailbox: MailboxId, set: &[u32]) -> UidSet {
        let change = Change::Expunge { mailbox, uids: Some(uids(set)), deleted_only: false };
        match self.change(account, change) {
            Ok(Reply::Expunged { uids, .. }) => uids,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn select(&mut self, account: AccountId, name: &str) -> Selected {
        match self.reader.answer(account, Query::Select { name: name.into(), read_only: true }) {
            Ok(Reply::Selected(selected)) => *selected,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn sync(&mut self, account: AccountId, mailbox: MailboxId, since: u64, uid_next: u32) -> Synced {
        match self.reader.answer(account, Query::Sync { mailbox, since, uid_next, read_only: true }) {
            Ok(Reply::Synced(synced)) => *synced,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn fetch(&mut self, account: AccountId, mailbox: MailboxId, items: FetchItems) -> Fetched {
        let query = Query::Fetch {
            mailbox,
            uids: UidSet::range(1, u32::MAX),
            items: Arc::new(items),
            changed_since: None,
            rows_max: 10_000,
            octets_max: 100 << 20,
        };
        match self.reader.answer(account, query) {
            Ok(Reply::Fetched(fetched)) => fetched,
            other => panic!("{other:?}"),
        }
    }

    /// UID and text of every message.
    #[track_caller]
    fn texts(&mut self, account: AccountId, mailbox: MailboxId) -> Vec<(u32, String)> {
        let items = FetchItems { sections: vec![whole()], ..FetchItems::default() };
        let rows = self.fetch(account, mailbox, items).rows;
        let texts = rows.into_iter().map(|row| (row.uid, self.text(account, &row.sections[0])));
        texts.collect()
    }

    #[track_caller]
    fn text(&mut self, account: AccountId, section: &SectionData) -> String {
        let octets = match section {
            SectionData::Octets(Octets::Memory { bytes, start, end }) => bytes[*start..*end].to_vec(),
            SectionData::Octets(Octets::Stored(stored)) => {
                let mut all = Vec::new();
                while (all.len() as u64) < stored.octets {
                    let query = Query::Read { stored: *stored, offset: all.len() as u64, octets_max: 10_000 };
                    match self.reader.answer(account, query) {
                        Ok(Reply::Octets(octets)) if !octets.is_empty() => all.extend_from_slice(&octets),
                        other => panic!("{other:?}"),
                    }
                }
                all
            }
            other => panic!("{other:?}"),
        };
        String::from_utf8(octets).unwrap()
    }
}

fn recipient(index: u32, accounts: &[&str]) -> Recipient {
    Recipient { index, accounts: accounts.iter().map(|a| (*a).to_owned()).collect(), mailbox: None, partly: false }
}

fn remove_index(path: &Path) {
    super::index::Index::remove(path).unwrap();
}
