//! Answers questions from the images; octets and what is computed from them are in `read/`.
//!
//! A reader holds an image for as long as it answers, and is never in the writer's way. How it fails: [`StoreError::Gone`]
//! for a mailbox that was deleted or is another account's.

use super::catalog::{Catalog, canonical};
use super::image::Image;
use super::index::Index;
use super::read::parsed::Parsed;
use super::shared::Shared;
use super::texts::Texts;
use crate::base::mailbox::ask::{Octets, Query, Quota, Reply, Selected, Status, StoreError, Stored, Synced};
use crate::base::mailbox::{AccountId, KEYWORDS_MAX, MailboxId, ModSeq, Uid, UidSet};
use crate::log::Disk;
use crate::mailstore::{MailReader, MailstoreError};
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
            Query::Status { names } => Ok(Reply::Statuses(names.iter().map(|n| self.status(&catalog, n)).collect())),
            Query::Select { name, read_only } => self.select(&catalog, &name, read_only),
            Query::Sync { mailbox, since, uid_next, read_only } => {
                self.sync(account, mailbox, (since, uid_next), read_only)
            }
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

    fn status(&self, catalog: &Catalog, name: &str) -> Result<Status, StoreError> {
        let id = catalog.selectable(name).ok_or(StoreError::NoSuchMailbox)?.id;
        let slot = self.shared.slot(id).ok_or(StoreError::NoSuchMailbox)?;
        let recent_from = slot.recent.load(Ordering::Relaxed);
        let meta = slot.state.read().meta.clone();
        let recent = if recent_from >= meta.uid_next {
            0
        } else {
            self.shared.image(id, &self.index)?.uids_from(recent_from).len()
        };
        Ok(meta.status(id, recent))
    }

    fn select(&self, catalog: &Catalog, name: &str, read_only: bool) -> Result<Reply, StoreError> {
        let id = catalog.selectable(name).ok_or(StoreError::NoSuchMailbox)?.id;
        let image = self.shared.image(id, &self.index).map_err(|e| match e {
            StoreError::Gone => StoreError::NoSuchMailbox,
            e => e,
        })?;
        let recent_from = self.recent(id, &image, read_only);
        Ok(Reply::Selected(Box::new(Selected {
            status: image.meta.status(id, image.uids_from(recent_from).len()),
            name: canonical(name).into_owned(),
            uids: image.uids(),
            recent_from,
            first_unseen: image.first_unseen(),
            keywords: image.meta.keywords.clone(),
            more_keywords: image.meta.keywords.len() < KEYWORDS_MAX,
        })))
    }

    /// Where `\Recent` begins for a session; one that may write takes what is there for itself (RFC 3501 §2.3.2).
    fn recent(&self, mailbox: MailboxId, image: &Image, read_only: bool) -> Uid {
        let Some(slot) = self.shared.slot(mailbox) else { return image.meta.uid_next };
        if read_only {
            return slot.recent.load(Ordering::Relaxed).min(image.meta.uid_next);
        }
        let before = slot.recent.fetch_max(image.meta.uid_next, Ordering::Relaxed);
        if before < image.meta.uid_next {
            self.shared.recent_changed.store(true, Ordering::Relaxed);
        }
        before.min(image.meta.uid_next)
    }

    fn sync(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        (since, uid_next): (ModSeq, Uid),
        read_only: bool,
    ) -> Result<Reply, StoreError> {
        let image = match self.image(account, mailbox) {
            Ok(image) => image,
            Err(StoreError::Gone) => return Ok(Reply::Synced(Box::new(gone()))),
            Err(e) => return Err(e),
        };
        let nothing = image.meta.mod_seq <= since;
        Ok(Reply::Synced(Box::new(Synced {
            gone: false,
            added: image.uids_from(uid_next),
            recent_from: self.recent(mailbox, &image, read_only),
            changed: if nothing { Vec::new() } else { image.changed(since, uid_next) },
            vanished: if nothing { UidSet::new() } else { image.vanished(since, uid_next) },
            mod_seq: image.meta.mod_seq,
            uid_next: image.meta.uid_next,
            keywords: image.meta.keywords.clone(),
        })))
    }

    fn read(&self, stored: &Stored, offset: u64, octets_max: usize) -> Result<Reply, StoreError> {
        let left = usize::try_from(stored.octets.saturating_sub(offset)).unwrap_or(usize::MAX);
        let octets = left.min(octets_max).min(READ_OCTETS_MAX);
        let read = self.shared.read(stored.content, stored.offset.saturating_add(offset), octets);
        read.map(|octets| Reply::Octets(Arc::new(octets))).map_err(|_| StoreError::Failed)
    }

    fn quota(&self, catalog: &Catalog) -> Quota {
        let knobs = &self.shared.knobs;
        let (octets, messages) = self.shared.usage(catalog);
        let limit = |n: u64| (n > 0).then_some(n);
        Quota { octets, octets_max: limit(knobs.quota_octets.0), messages, messages_max: limit(knobs.quota_messages) }
    }

    /// A piece of a message as it is answered: at hand, or to be read in pieces where it is large.
    pub(super) fn is_large(&self, octets: u64) -> bool {
        octets > self.shared.knobs.section_octets_max.0
    }
}

fn gone() -> Synced {
    Synced {
        gone: true,
        added: UidSet::new(),
        recent_from: 0,
        changed: Vec::new(),
        vanished: UidSet::new(),
        mod_seq: 0,
        uid_next: 0,
        keywords: Arc::default(),
    }
}

/// All of a content, or a piece, for later.
pub(super) fn stored(content: crate::base::mailbox::ContentId, offset: u64, octets: u64) -> Octets {
    Octets::Stored(Stored { content, offset, octets })
}
