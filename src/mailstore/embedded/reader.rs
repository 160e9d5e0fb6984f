//! Answers questions from the images; octets and what is computed from them are in `read/`.
//!
//! A reader holds an image for as long as it answers, and is never in the writer's way. How it fails: [`StoreError::Gone`]
//! for a mailbox that was deleted or is another account's.

use super::catalog::Catalog;
use super::glance;
use super::image::Image;
use super::index::Index;
use super::read::parsed::Parsed;
use super::shared::Shared;
use super::texts::Texts;
use crate::base::mailbox::ask::{Octets, Query, Quota, Reply, StoreError, Stored};
use crate::base::mailbox::{AccountId, MailboxId};
use crate::log::Disk;
use crate::mailstore::{MailReader, MailstoreError};
use std::sync::Arc;

/// Octets of one answer to [`Query::Read`].
const READ_OCTETS_MAX: usize = 1 << 20;

/// See the module.
pub(super) struct EmbeddedReader<D: Disk> {
    pub(super) shared: Arc<Shared<D>>,
    pub(super) index: Index,
    /// The full-text index, when there is one.
    pub(super) texts: Option<Texts>,
    /// The message that was read last: several questions about it in a row are usual.
    pub(super) last: Option<Parsed>,
}

impl<D: Disk + Sync> MailReader for EmbeddedReader<D> {
    fn answer(&mut self, account: AccountId, query: Query) -> Result<Reply, StoreError> {
        let catalog = self.shared.catalog(account).ok_or(StoreError::NoSuchAccount)?;
        match query {
            Query::Mailboxes => Ok(Reply::Mailboxes(catalog.infos())),
            Query::Status { names } => {
                let image = |id| self.shared.image(id, &self.index);
                Ok(Reply::Statuses(names.iter().map(|n| self.shared.status(&catalog, n, image)).collect()))
            }
            Query::Select { name, read_only } => {
                let id = catalog.selectable(&name).ok_or(StoreError::NoSuchMailbox)?.id;
                let image = self.shared.image(id, &self.index).map_err(|e| match e {
                    StoreError::Gone => StoreError::NoSuchMailbox,
                    e => e,
                })?;
                Ok(Reply::Selected(Box::new(self.shared.selected(id, &name, &image, read_only))))
            }
            Query::Sync { mailbox, since, uid_next, read_only } => match self.image(account, mailbox) {
                Ok(image) => {
                    Ok(Reply::Synced(Box::new(self.shared.synced(mailbox, &image, (since, uid_next), read_only))))
                }
                Err(StoreError::Gone) => Ok(Reply::Synced(Box::new(glance::gone()))),
                Err(e) => Err(e),
            },
            Query::Fetch { mailbox, uids, items, changed_since, rows_max, octets_max } => {
                let image = self.image(account, mailbox)?;
                self.fetch(&image, &uids, &items, changed_since, (rows_max, octets_max)).map(Reply::Fetched)
            }
            Query::Read { stored, offset, octets_max } => self.read(&stored, offset, octets_max),
            Query::Search { mailbox, key, form, among } => {
                let image = self.image(account, mailbox)?;
                self.search(&image, &key, &form, &among)
            }
            Query::Vanished { mailbox, since, among } => {
                let image = self.image(account, mailbox)?;
                Ok(Reply::Vanished(image.vanished(since, image.meta.uid_next).intersection(&among)))
            }
            Query::Quota => Ok(Reply::Quota(self.quota(&catalog))),
        }
    }
}

impl<D: Disk + Sync> EmbeddedReader<D> {
    pub fn new(shared: Arc<Shared<D>>) -> Result<EmbeddedReader<D>, MailstoreError> {
        let index = Index::open_reader(&shared.index_path)?;
        let texts = shared.texts.as_ref().and_then(|path| Texts::connect(path).ok());
        Ok(EmbeddedReader { shared, index, texts, last: None })
    }

    fn image(&self, account: AccountId, mailbox: MailboxId) -> Result<Arc<Image>, StoreError> {
        // Whose it is is known without its messages.
        let owner = self.shared.meta(mailbox).ok_or(StoreError::Gone)?.account;
        if owner == account { self.shared.image(mailbox, &self.index) } else { Err(StoreError::Gone) }
    }

    fn read(&self, stored: &Stored, offset: u64, octets_max: usize) -> Result<Reply, StoreError> {
        let left = usize::try_from(stored.octets.saturating_sub(offset)).unwrap_or(usize::MAX);
        let octets = left.min(octets_max).min(READ_OCTETS_MAX);
        let read = self.shared.read(stored.content, stored.offset.saturating_add(offset), octets);
        read.map(|octets| Reply::Octets(Arc::new(octets))).map_err(|_| StoreError::Failed)
    }

    fn quota(&self, catalog: &Catalog) -> Quota {
        let (octets, messages) = self.shared.usage(catalog);
        let (octets_max, messages_max) = self.shared.quota_of(&catalog.name);
        let limit = |n: u64| (n > 0).then_some(n);
        Quota { octets, octets_max: limit(octets_max), messages, messages_max: limit(messages_max) }
    }

    /// A piece of a message as it is answered: at hand, or to be read in pieces where it is large.
    pub(super) fn is_large(&self, octets: u64) -> bool {
        octets > self.shared.knobs.section_octets_max.0
    }
}

/// All of a content, or a piece, for later.
pub(super) fn stored(content: crate::base::mailbox::ContentId, offset: u64, octets: u64) -> Octets {
    Octets::Stored(Stored { content, offset, octets })
}
