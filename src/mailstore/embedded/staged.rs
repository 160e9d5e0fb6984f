//! What the store will be when everything staged is durable: newer versions of catalogs and images, beside the published
//! ones. Dropping it undoes it.
//!
//! How it fails: [`StoreError::Gone`] for a mailbox that is not there, [`StoreError::Failed`] when the index cannot be read.

use super::catalog::Catalog;
use super::effect::Effect;
use super::image::{Image, Meta};
use super::index::Index;
use super::shared::Shared;
use crate::base::mailbox::ask::StoreError;
use crate::base::mailbox::{AccountId, ContentId, MailboxId};
use crate::log::Disk;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A mailbox as it will be.
pub(super) struct StagedImage {
    /// As it is in the index; `None` when it is new.
    pub base: Option<Arc<Image>>,
    pub now: Arc<Image>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Staged {
    pub accounts: HashMap<AccountId, Arc<Catalog>>,
    pub images: HashMap<MailboxId, StagedImage>,
    pub gone: HashSet<MailboxId>,
    /// By how much the places of a content change.
    pub places: HashMap<ContentId, i64>,
}

impl Staged {
    pub fn catalog<D: Disk>(&self, shared: &Shared<D>, account: AccountId) -> Option<Arc<Catalog>> {
        self.accounts.get(&account).cloned().or_else(|| shared.catalog(account))
    }

    /// A mailbox as it will be; what is applied to it from now on needs no disk.
    pub fn image<D: Disk>(
        &mut self,
        shared: &Shared<D>,
        index: &Index,
        mailbox: MailboxId,
    ) -> Result<Arc<Image>, StoreError> {
        if let Some(staged) = self.images.get(&mailbox) {
            return Ok(staged.now.clone());
        }
        if self.gone.contains(&mailbox) {
            return Err(StoreError::Gone);
        }
        let image = shared.image(mailbox, index)?;
        self.images.insert(mailbox, StagedImage { base: Some(image.clone()), now: image.clone() });
        Ok(image)
    }

    pub fn meta<D: Disk>(&self, shared: &Shared<D>, mailbox: MailboxId) -> Option<Meta> {
        if self.gone.contains(&mailbox) {
            return None;
        }
        self.images.get(&mailbox).map(|s| s.now.meta.clone()).or_else(|| shared.meta(mailbox))
    }

    /// Octets and messages of an account.
    pub fn usage<D: Disk>(&self, shared: &Shared<D>, catalog: &Catalog) -> (u64, u64) {
        let metas = catalog.mailboxes.values().filter_map(|e| self.meta(shared, e.id));
        metas.fold((0, 0), |(octets, messages), m| (octets + m.octets, messages + m.messages))
    }

    /// Applies an effect. Images it concerns were asked for before.
    pub fn apply<D: Disk>(&mut self, shared: &Shared<D>, effect: &Effect) {
        match effect {
            Effect::Account { account, name } => {
                self.accounts.insert(*account, Arc::new(Catalog::new(name)));
            }
            Effect::Put { account, .. } | Effect::Gone { account, .. } | Effect::Subscribe { account, .. } => {
                let Some(catalog) = self.catalog(shared, *account) else { return };
                let catalog = self.accounts.entry(*account).or_insert(catalog);
                effect.apply_to_catalog(Arc::make_mut(catalog));
                self.apply_to_images(shared, *account, effect);
            }
            Effect::Keywords { mailbox, .. }
            | Effect::Add { mailbox, .. }
            | Effect::Flags { mailbox, .. }
            | Effect::Expunge { mailbox, .. } => {
                let Some(staged) = self.images.get_mut(mailbox) else { return };
                let places = &mut self.places;
                effect.apply_to_image(Arc::make_mut(&mut staged.now), &mut |content, by| {
                    *places.entry(content).or_default() += i64::from(by);
                });
            }
        }
    }

    /// A mailbox that appears is empty; with one that disappears its messages lose their place.
    fn apply_to_images<D: Disk>(&mut self, shared: &Shared<D>, account: AccountId, effect: &Effect) {
        match effect {
            Effect::Put { entry, .. }
                if entry.selectable && !self.images.contains_key(&entry.id) && shared.slot(entry.id).is_none() =>
            {
                self.make(account, entry.id, entry.uid_validity);
            }
            Effect::Gone { mailbox, .. } => {
                if let Some(staged) = self.images.remove(mailbox) {
                    for row in staged.now.rows() {
                        *self.places.entry(row.content).or_default() -= 1;
                    }
                }
                self.gone.insert(*mailbox);
            }
            _ => {}
        }
    }

    /// An empty mailbox.
    pub fn make(&mut self, account: AccountId, mailbox: MailboxId, uid_validity: u32) {
        let now = Arc::new(Image::new(Meta::new(account, uid_validity)));
        self.images.insert(mailbox, StagedImage { base: None, now });
    }
}
