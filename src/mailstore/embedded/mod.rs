//! The embedded store: the segmented log is the truth, a SQLite index makes it quick, images in memory make it quicker.
//!
//! # How it lies on disk
//!
//! `log/` holds the segments ([`crate::log`]), `bodies/` one file for each large message, `index.sqlite` the index,
//! `index-search.sqlite` the full-text index, `lock` who has it open. A message's octets are in the log once, whatever the number of its recipients and copies; what
//! a commit does to accounts and mailboxes is one *transaction* record of spelled-out effects. Now and then a *snapshot*
//! of an account or a mailbox replaces the transactions on it. Recovery takes, for each, the newest whole snapshot and the
//! transactions after it; the index says up to which transaction it goes, and is told the rest, or made anew.
//!
//! # Who does what
//!
//! One [`MailWriter`](super::MailWriter) stages changes against newer versions of the images (`changes/`), makes them
//! durable with one sync (`commit`), and puts the new images in place of the old. Readers hold an image as long as they
//! answer from it. Octets are read beside the writer; a record that was moved meanwhile is looked up again.
//!
//! # How it fails
//!
//! Open: [`MailstoreError`](super::MailstoreError). A disk that is full or fails refuses what was staged, and nothing of it
//! is visible or kept. A failing index loses nothing: it is written again later, or made anew at the next open.

mod care;
mod catalog;
mod changes;
mod clock;
mod commit;
mod effect;
mod found;
mod glance;
mod image;
mod index;
mod ledger;
mod octets;
mod read;
mod reader;
mod record;
mod recover;
mod shared;
mod staged;
mod texts;
mod tidy;
mod warm;
mod writer;

#[cfg(test)]
mod tests;

pub use care::{Compacted, Verified, compact, verify};
pub use recover::Opened;

use super::{Glance, MailReader, MailWriter, MailboxKnobs, Mailstore, MailstoreError, Quotas};
use crate::base::mailbox::AccountId;
use crate::log::{Disk, RealDisk};
use clock::Clock;
use parking_lot::Mutex;
use recover::Reading;
use shared::Shared;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use writer::EmbeddedWriter;

/// See the module. `D` is the disk of its log; tests give one that breaks.
pub struct EmbeddedStore<D: Disk = RealDisk> {
    shared: Arc<Shared<D>>,
    writer: Mutex<Option<EmbeddedWriter<D>>>,
}

impl EmbeddedStore {
    /// Opens the store in `directory`, making it when it is not there.
    pub fn open(directory: &Path, knobs: MailboxKnobs) -> Result<(EmbeddedStore, Opened), MailstoreError> {
        let index = directory.join("index.sqlite");
        EmbeddedStore::open_on(RealDisk, directory, &index, knobs, Clock::system())
    }
}

impl<D: Disk + Sync> EmbeddedStore<D> {
    /// Accounts that have mailboxes here, by name, without making any.
    pub fn accounts(&self) -> BTreeMap<String, AccountId> {
        self.shared.accounts.read().iter().map(|(id, catalog)| (catalog.name.clone(), *id)).collect()
    }

    /// Has accounts ask here what they may keep; without it, and of a second call, the settings count for all.
    pub fn set_quotas(&self, quotas: Arc<dyn Quotas>) {
        let _ = self.shared.quotas.set(quotas);
    }

    fn open_on(
        disk: D,
        directory: &Path,
        index: &Path,
        knobs: MailboxKnobs,
        clock: Clock,
    ) -> Result<(EmbeddedStore<D>, Opened), MailstoreError> {
        let (writer, opened) = recover::open(disk, directory, index, knobs, clock, Reading::New)?;
        Ok((EmbeddedStore { shared: writer.shared.clone(), writer: Mutex::new(Some(writer)) }, opened))
    }
}

impl<D: Disk + Sync> Mailstore for EmbeddedStore<D> {
    fn reader(&self) -> Result<Box<dyn MailReader>, MailstoreError> {
        Ok(Box::new(reader::EmbeddedReader::new(self.shared.clone())?))
    }

    fn glance(&self) -> Arc<dyn Glance> {
        self.shared.clone()
    }

    fn writer(&self) -> Result<Box<dyn MailWriter>, MailstoreError> {
        match self.writer.lock().take() {
            Some(writer) => Ok(Box::new(writer)),
            None => Err(MailstoreError::WriterTaken),
        }
    }
}

impl<D: Disk> std::fmt::Debug for EmbeddedStore<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore").field("index", &self.shared.index_path).finish_non_exhaustive()
    }
}
