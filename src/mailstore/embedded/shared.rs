//! What the writer and the readers have in common: catalogs, images, and where contents are.
//!
//! An image is an immutable value behind a lock that is held for as long as it takes to clone an `Arc`; the writer puts a
//! new one in its place when it is durable. Images of mailboxes nobody uses leave memory, the least recently used first.
//! How it fails: [`StoreError::Failed`] when the index cannot be read.

use super::catalog::Catalog;
use super::clock::Clock;
use super::image::{Image, Meta};
use super::index::{Computed, Index};
use super::read::search::Header;
use super::texts;
use super::warm::Warm;
use crate::base::mailbox::ask::StoreError;
use crate::base::mailbox::{AccountId, ContentId, MailboxId, Uid};
use crate::log::{Disk, Location, LogReader};
use crate::mailstore::{MailboxKnobs, Quotas};
use crate::wire::mime::SortFields;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Computed values that wait to be written to the index; beyond them they are computed again.
const COMPUTED_WAITING_MAX: usize = 50_000;

/// Messages whose sort fields are remembered (some 300 octets each).
const SORT_FIELDS_MAX: usize = 100_000;

/// A message's octets in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// Its record.
    pub at: Location,
    /// Octets of the message.
    pub octets: u64,
    /// Octets of the payload in front of it.
    pub front: u32,
    /// Octets of it in the record when the rest is in a file.
    pub in_file: Option<u32>,
    /// Messages in mailboxes that are it.
    pub places: u32,
}

pub(super) struct SlotState {
    pub meta: Meta,
    pub image: Option<Arc<Image>>,
    /// The index has not got it yet: it must stay.
    pub pinned: bool,
}

/// A mailbox in memory.
pub(super) struct Slot {
    pub state: RwLock<SlotState>,
    /// Messages from this UID on have been shown to no session.
    pub recent: AtomicU32,
    /// As the index has it.
    recent_kept: AtomicU32,
    used: AtomicU64,
}

/// See the module.
pub(super) struct Shared<D: Disk> {
    pub disk: D,
    pub bodies: PathBuf,
    pub index_path: PathBuf,
    /// Where the full-text index is, when there is one.
    pub texts: Option<PathBuf>,
    pub knobs: MailboxKnobs,
    /// Who knows what accounts may keep.
    pub quotas: OnceLock<Arc<dyn Quotas>>,
    pub clock: Clock,
    pub log: LogReader<D>,
    pub accounts: RwLock<HashMap<AccountId, Arc<Catalog>>>,
    pub slots: RwLock<HashMap<MailboxId, Arc<Slot>>>,
    pub contents: RwLock<HashMap<ContentId, Content>>,
    /// Whether a session was shown something as new since the index was told.
    pub recent_changed: AtomicBool,
    /// Messages in the images.
    loaded: AtomicU64,
    ticks: AtomicU64,
    computed: Mutex<Vec<(u64, Computed)>>,
    sort_fields: RwLock<HashMap<ContentId, Arc<SortFields>>>,
    /// Envelopes, structures and previews that were asked for.
    pub warm_computed: Warm<Computed>,
    /// Headers that were searched.
    pub warm_headers: Warm<Arc<Header>>,
    /// Header sections that were fetched.
    pub warm_heads: Warm<Arc<Vec<u8>>>,
}

impl<D: Disk> Shared<D> {
    pub fn new(
        (disk, bodies, index_path): (D, PathBuf, PathBuf),
        knobs: MailboxKnobs,
        clock: Clock,
        log: LogReader<D>,
    ) -> Shared<D> {
        let warm_octets_max = knobs.warm_octets_max.0;
        Shared {
            warm_computed: Warm::new(warm_octets_max),
            warm_headers: Warm::new(warm_octets_max),
            warm_heads: Warm::new(warm_octets_max),
            disk,
            bodies,
            texts: knobs.full_text_search.then(|| texts::path_of(&index_path)),
            index_path,
            knobs,
            quotas: OnceLock::new(),
            clock,
            log,
            accounts: RwLock::default(),
            slots: RwLock::default(),
            contents: RwLock::default(),
            recent_changed: AtomicBool::new(false),
            loaded: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            computed: Mutex::default(),
            sort_fields: RwLock::default(),
        }
    }

    pub fn catalog(&self, account: AccountId) -> Option<Arc<Catalog>> {
        self.accounts.read().get(&account).cloned()
    }

    pub fn slot(&self, mailbox: MailboxId) -> Option<Arc<Slot>> {
        self.slots.read().get(&mailbox).cloned()
    }

    pub fn content(&self, content: ContentId) -> Option<Content> {
        self.contents.read().get(&content).copied()
    }

    pub fn meta(&self, mailbox: MailboxId) -> Option<Meta> {
        Some(self.slot(mailbox)?.state.read().meta.clone())
    }

    /// The mailbox is in use: its image is not the first to leave memory.
    pub fn note_use(&self, slot: &Slot) {
        slot.used.store(self.ticks.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The image of a mailbox, from memory or the index.
    pub fn image(&self, mailbox: MailboxId, index: &Index) -> Result<Arc<Image>, StoreError> {
        let slot = self.slot(mailbox).ok_or(StoreError::Gone)?;
        self.note_use(&slot);
        if let Some(image) = &slot.state.read().image {
            return Ok(image.clone());
        }
        let image = {
            let mut state = slot.state.write();
            if let Some(image) = &state.image {
                return Ok(image.clone());
            }
            // The writer puts its image in place under this lock after it wrote the index: what is read here is not older
            // than what is there then.
            let image = index.image(mailbox).map_err(|_| StoreError::Failed)?.ok_or(StoreError::Gone)?;
            let image = Arc::new(image);
            self.loaded.fetch_add(image.meta.messages, Ordering::Relaxed);
            state.meta = image.meta.clone();
            state.image = Some(image.clone());
            image
        };
        self.shed();
        Ok(image)
    }

    /// Puts the newest image of a mailbox in its place; `pinned` while the index has not got it.
    pub fn put(&self, mailbox: MailboxId, image: Arc<Image>, pinned: bool) {
        let slot = self.slots.read().get(&mailbox).cloned();
        let slot = slot.unwrap_or_else(|| {
            // A mailbox that is new: nothing in it has been seen.
            let slot = Arc::new(Slot::new(image.meta.clone(), 1));
            self.slots.write().insert(mailbox, slot.clone());
            slot
        });
        self.note_use(&slot);
        let mut state = slot.state.write();
        let before = state.image.as_ref().map_or(0, |i| i.meta.messages);
        self.loaded.fetch_add(image.meta.messages, Ordering::Relaxed);
        self.loaded.fetch_sub(before, Ordering::Relaxed);
        state.meta = image.meta.clone();
        state.image = Some(image);
        state.pinned = pinned;
    }

    pub fn remove(&self, mailbox: MailboxId) {
        if let Some(slot) = self.slots.write().remove(&mailbox) {
            let mut state = slot.state.write();
            let before = state.image.take().map_or(0, |i| i.meta.messages);
            self.loaded.fetch_sub(before, Ordering::Relaxed);
        }
    }

    /// Lets images go that were not used for longest, when there are too many messages in memory.
    pub fn shed(&self) {
        let most = self.knobs.image_messages_max;
        if self.loaded.load(Ordering::Relaxed) <= most {
            return;
        }
        let mut slots: Vec<(u64, Arc<Slot>)> =
            self.slots.read().values().map(|s| (s.used.load(Ordering::Relaxed), s.clone())).collect();
        slots.sort_by_key(|(used, _)| *used);
        for (_, slot) in slots {
            if self.loaded.load(Ordering::Relaxed) <= most / 4 * 3 {
                break;
            }
            // One that is being used now is not idle.
            let Some(mut state) = slot.state.try_write() else { continue };
            if !state.pinned
                && let Some(image) = state.image.take()
            {
                self.loaded.fetch_sub(image.meta.messages, Ordering::Relaxed);
            }
        }
    }

    /// Messages in memory.
    #[cfg(test)]
    pub fn loaded(&self) -> u64 {
        self.loaded.load(Ordering::Relaxed)
    }

    /// Octets and messages of an account.
    pub fn usage(&self, catalog: &Catalog) -> (u64, u64) {
        let metas = catalog.mailboxes.values().filter_map(|e| self.meta(e.id));
        metas.fold((0, 0), |(octets, messages), m| (octets + m.octets, messages + m.messages))
    }

    /// Octets and messages that an account may keep; 0 is without limit.
    pub fn quota_of(&self, account: &str) -> (u64, u64) {
        let (octets, messages) = self.quotas.get().map_or((None, None), |quotas| quotas.quota(account));
        (octets.unwrap_or(self.knobs.quota_octets.0), messages.unwrap_or(self.knobs.quota_messages))
    }

    /// Hands the writer a value that was computed.
    pub fn computed_made(&self, content: ContentId, computed: Computed) {
        let mut waiting = self.computed.lock();
        if waiting.len() < COMPUTED_WAITING_MAX {
            waiting.push((content.0, computed));
        }
    }

    /// Fields of a message by which it is sorted and threaded, if they are remembered.
    pub fn sort_fields(&self, content: ContentId) -> Option<Arc<SortFields>> {
        self.sort_fields.read().get(&content).cloned()
    }

    pub fn keep_sort_fields(&self, content: ContentId, fields: &Arc<SortFields>) {
        let mut kept = self.sort_fields.write();
        if kept.len() >= SORT_FIELDS_MAX {
            kept.clear(); // they are made again for what is still sorted
        }
        kept.insert(content, fields.clone());
    }

    pub fn computed_waiting(&self) -> Vec<(u64, Computed)> {
        std::mem::take(&mut *self.computed.lock())
    }
}

impl Slot {
    pub fn new(meta: Meta, recent: Uid) -> Slot {
        Slot {
            state: RwLock::new(SlotState { meta, image: None, pinned: false }),
            recent: AtomicU32::new(recent),
            recent_kept: AtomicU32::new(recent),
            used: AtomicU64::new(0),
        }
    }

    /// What the index has to be told.
    pub fn recent_to_keep(&self) -> Option<Uid> {
        let recent = self.recent.load(Ordering::Relaxed);
        (self.recent_kept.swap(recent, Ordering::Relaxed) != recent).then_some(recent)
    }
}
