//! Answers that need nothing but the images in memory: for readers, and at once for whoever must not wait.
//!
//! [`Glance`] takes no lock that is held while a disk is asked, and does work that is bounded by [`ROWS_MAX`] rows,
//! [`CHUNKS_MAX`] chunks and [`NAMES_MAX`] names. How it fails: `None`, and the question goes to a reader.

use super::catalog::{Catalog, canonical};
use super::image::{Image, Row};
use super::shared::Shared;
use crate::base::mailbox::ask::{
    FetchItems, Fetched, Query, Reply, Row as Answer, Selected, Status, StoreError, Synced,
};
use crate::base::mailbox::{AccountId, KEYWORDS_MAX, MailboxId, ModSeq, Uid, UidSet};
use crate::log::Disk;
use crate::mailstore::Glance;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Rows that are answered at once.
const ROWS_MAX: u64 = 128;
/// Chunks of a mailbox that are looked at at once: some two million messages, and 40 µs.
const CHUNKS_MAX: usize = 8192;
/// Names of one question.
const NAMES_MAX: usize = 128;

impl<D: Disk + Sync> Glance for Shared<D> {
    fn glance(&self, account: AccountId, query: &Query) -> Option<Result<Reply, StoreError>> {
        let catalog = self.accounts.try_read()?.get(&account)?.clone();
        match query {
            Query::Mailboxes if catalog.mailboxes.len() <= NAMES_MAX => Some(Ok(Reply::Mailboxes(catalog.infos()))),
            Query::Status { names } if names.len() <= NAMES_MAX => {
                let at_hand = |id| self.image_at_hand(id).ok_or(StoreError::Busy);
                let statuses: Vec<_> = names.iter().map(|name| self.status(&catalog, name, at_hand)).collect();
                let all = !statuses.iter().any(|status| matches!(status, Err(StoreError::Busy)));
                all.then_some(Ok(Reply::Statuses(statuses)))
            }
            Query::Select { name, read_only } => {
                let id = catalog.selectable(name)?.id;
                let image = self.image_at_hand(id)?;
                Some(Ok(Reply::Selected(Box::new(self.selected(id, name, &image, *read_only)))))
            }
            Query::Sync { mailbox, since, uid_next, read_only } => {
                let image = self.image_at_hand(*mailbox).filter(|image| image.meta.account == account)?;
                // What vanished long ago is everything that is not there.
                let near = image.remembers_vanished(*since);
                near.then(|| {
                    Ok(Reply::Synced(Box::new(self.synced(*mailbox, &image, (*since, *uid_next), *read_only))))
                })
            }
            Query::Fetch { mailbox, uids, items, changed_since, .. }
                if uids.len() <= ROWS_MAX && changed_since.is_none() && is_in_the_image(items) =>
            {
                let image = self.image_at_hand(*mailbox).filter(|image| image.meta.account == account)?;
                let rows = image.rows_of(uids).map(row_alone).collect();
                Some(Ok(Reply::Fetched(Fetched { rows, next: None, keywords: image.meta.keywords.clone() })))
            }
            _ => None,
        }
    }
}

/// Whether the rows of the image are all that is asked for.
fn is_in_the_image(items: &FetchItems) -> bool {
    items.sections.is_empty() && !items.envelope && items.structure.is_none() && !items.preview && !items.thread
}

/// A row with nothing but what the image has.
pub(super) fn row_alone(row: &Row) -> Answer {
    Answer {
        uid: row.uid,
        flags: row.flags,
        mod_seq: row.mod_seq,
        internal_date: row.internal_date(),
        saved: row.saved,
        octets: row.octets,
        ends_with_crlf: row.ends_with_crlf,
        content: row.content,
        thread: None,
        envelope: None,
        structure: None,
        preview: None,
        sections: Vec::new(),
    }
}

impl<D: Disk> Shared<D> {
    /// The image of a mailbox if it is in memory and nobody is at it.
    fn image_at_hand(&self, mailbox: MailboxId) -> Option<Arc<Image>> {
        let slot = self.slots.try_read()?.get(&mailbox)?.clone();
        let image = slot.state.try_read()?.image.clone().filter(|image| image.chunks.len() <= CHUNKS_MAX)?;
        self.note_use(&slot);
        Some(image)
    }

    /// STATUS; the image is asked for where something is recent.
    pub(super) fn status(
        &self,
        catalog: &Catalog,
        name: &str,
        image: impl Fn(MailboxId) -> Result<Arc<Image>, StoreError>,
    ) -> Result<Status, StoreError> {
        let id = catalog.selectable(name).ok_or(StoreError::NoSuchMailbox)?.id;
        let slot = self.slot(id).ok_or(StoreError::NoSuchMailbox)?;
        let recent_from = slot.recent.load(Ordering::Relaxed);
        // A reader may hold the lock while it asks the index; then the image is what the caller waits for, or not.
        let meta = match slot.state.try_read() {
            Some(state) => state.meta.clone(),
            None => image(id)?.meta.clone(),
        };
        let recent = if recent_from >= meta.uid_next { 0 } else { image(id)?.uids_from(recent_from).len() };
        Ok(meta.status(id, recent))
    }

    /// SELECT and EXAMINE of the mailbox with this image.
    pub(super) fn selected(&self, id: MailboxId, name: &str, image: &Image, read_only: bool) -> Selected {
        let recent_from = self.recent(id, image, read_only);
        Selected {
            status: image.meta.status(id, image.uids_from(recent_from).len()),
            name: canonical(name).into_owned(),
            uids: image.uids(),
            recent_from,
            first_unseen: image.first_unseen(),
            keywords: image.meta.keywords.clone(),
            more_keywords: image.meta.keywords.len() < KEYWORDS_MAX,
        }
    }

    /// Where `\Recent` begins for a session; one that may write takes what is there for itself (RFC 3501 §2.3.2).
    fn recent(&self, mailbox: MailboxId, image: &Image, read_only: bool) -> Uid {
        let Some(slot) = self.slot(mailbox) else { return image.meta.uid_next };
        if read_only {
            return slot.recent.load(Ordering::Relaxed).min(image.meta.uid_next);
        }
        let before = slot.recent.fetch_max(image.meta.uid_next, Ordering::Relaxed);
        if before < image.meta.uid_next {
            self.recent_changed.store(true, Ordering::Relaxed);
        }
        before.min(image.meta.uid_next)
    }

    /// What happened to the mailbox with this image since.
    pub(super) fn synced(
        &self,
        mailbox: MailboxId,
        image: &Image,
        (since, uid_next): (ModSeq, Uid),
        read_only: bool,
    ) -> Synced {
        let nothing = image.meta.mod_seq <= since;
        Synced {
            gone: false,
            added: image.uids_from(uid_next),
            recent_from: self.recent(mailbox, image, read_only),
            changed: if nothing { Vec::new() } else { image.changed(since, uid_next) },
            vanished: if nothing { UidSet::new() } else { image.vanished(since, uid_next) },
            mod_seq: image.meta.mod_seq,
            uid_next: image.meta.uid_next,
            keywords: image.meta.keywords.clone(),
        }
    }
}

/// What a session hears whose mailbox is gone.
pub(super) fn gone() -> Synced {
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
