//! What a change does, spelled out: the words of the log's transaction records.
//!
//! The writer decides what a change means (which UID, which MODSEQ, which messages), says it as effects, and applies these
//! to its staged state; recovery reads them back and applies the same. Nothing is decided twice. How it fails: applying
//! does not; an effect on something that is not there any more is left out.

use super::catalog::{Catalog, Entry};
use super::image::{Image, Row};
use crate::base::mailbox::{AccountId, ContentId, Flags, MailboxId, ModSeq, UidSet};
use std::sync::Arc;

/// What has a state of its own in the log: snapshots are of one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Entity {
    Account(AccountId),
    Mailbox(MailboxId),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// There is this account.
    Account { account: AccountId, name: String },
    /// A mailbox stands there now; it may have had another name.
    Put { account: AccountId, name: String, entry: Entry },
    /// A mailbox is gone with all that was in it.
    Gone { account: AccountId, mailbox: MailboxId },
    /// A name is subscribed or not.
    Subscribe { account: AccountId, name: String, on: bool },
    /// More keywords.
    Keywords { mailbox: MailboxId, names: Vec<String> },
    /// Messages came in.
    Add { mailbox: MailboxId, rows: Vec<Row> },
    /// Messages have these flags now.
    Flags { mailbox: MailboxId, mod_seq: ModSeq, groups: Vec<(Flags, UidSet)> },
    /// Messages went.
    Expunge { mailbox: MailboxId, mod_seq: ModSeq, uids: UidSet },
}

impl Effect {
    pub fn entity(&self) -> Entity {
        match self {
            Effect::Account { account, .. }
            | Effect::Put { account, .. }
            | Effect::Gone { account, .. }
            | Effect::Subscribe { account, .. } => Entity::Account(*account),
            Effect::Keywords { mailbox, .. }
            | Effect::Add { mailbox, .. }
            | Effect::Flags { mailbox, .. }
            | Effect::Expunge { mailbox, .. } => Entity::Mailbox(*mailbox),
        }
    }

    /// Applies what concerns the account. `Account` makes the catalog, so it has no effect here.
    pub fn apply_to_catalog(&self, catalog: &mut Catalog) {
        match self {
            Effect::Put { name, entry, .. } => catalog.put(name, entry.clone()),
            Effect::Gone { mailbox, .. } => catalog.remove(*mailbox),
            Effect::Subscribe { name, on: true, .. } => {
                catalog.subscribed.insert(name.clone());
            }
            Effect::Subscribe { name, on: false, .. } => {
                catalog.subscribed.remove(name);
            }
            Effect::Account { .. }
            | Effect::Keywords { .. }
            | Effect::Add { .. }
            | Effect::Flags { .. }
            | Effect::Expunge { .. } => {}
        }
    }

    /// Applies what concerns the mailbox; tells contents that lost and won a place.
    pub fn apply_to_image(&self, image: &mut Image, place: &mut dyn FnMut(ContentId, i32)) {
        match self {
            Effect::Keywords { names, .. } => {
                let keywords = Arc::make_mut(&mut image.meta.keywords);
                keywords.extend(names.iter().cloned());
            }
            Effect::Add { rows, .. } => {
                image.add(rows);
                rows.iter().for_each(|r| place(r.content, 1));
            }
            Effect::Flags { mod_seq, groups, .. } => {
                groups.iter().for_each(|(flags, uids)| image.set_flags(uids, *flags, *mod_seq));
            }
            Effect::Expunge { mod_seq, uids, .. } => {
                image.expunge(uids, *mod_seq).into_iter().for_each(|content| place(content, -1));
            }
            Effect::Account { .. } | Effect::Put { .. } | Effect::Gone { .. } | Effect::Subscribe { .. } => {}
        }
    }
}
