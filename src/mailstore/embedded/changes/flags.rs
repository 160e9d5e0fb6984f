//! STORE and EXPUNGE.
//!
//! How it fails: messages that are gone are left out; those that changed meanwhile are named (RFC 7162 §3.1.3).

use crate::base::mailbox::ask::{Reply, StoreError, StoreHow};
use crate::base::mailbox::{AccountId, FlagNames, Flags, MailboxId, ModSeq, UidSet};
use crate::log::Disk;
use crate::mailstore::embedded::effect::Effect;
use crate::mailstore::embedded::image::{Row, change_of};
use crate::mailstore::embedded::writer::{EmbeddedWriter, KeywordsWanted};
use std::collections::BTreeMap;

impl<D: Disk> EmbeddedWriter<D> {
    /// Answers every message that was addressed and not held back by `unchanged_since`; the MODSEQ of one whose flags
    /// were like that already stays.
    pub(in crate::mailstore::embedded) fn store(
        &mut self,
        account: AccountId,
        mailbox: MailboxId,
        uids: &UidSet,
        (how, names): (StoreHow, &FlagNames),
        unchanged_since: Option<ModSeq>,
    ) -> Result<Reply, StoreError> {
        let image = self.image(account, mailbox)?;
        let mut keywords = KeywordsWanted::of(&image);
        let flags = match how {
            StoreHow::Remove => keywords.flags_known(names),
            StoreHow::Replace | StoreHow::Add => keywords.flags(names)?,
        };
        let (mut modified, mut stored) = (UidSet::new(), UidSet::new());
        let mut groups: BTreeMap<u64, UidSet> = BTreeMap::new();
        for row in image.rows_of(uids) {
            if unchanged_since.is_some_and(|since| row.mod_seq > since) {
                modified.insert(row.uid);
                continue;
            }
            stored.insert(row.uid);
            let new = match how {
                StoreHow::Replace => flags,
                StoreHow::Add => row.flags.with(flags),
                StoreHow::Remove => row.flags.without(flags),
            };
            if new != row.flags {
                groups.entry(new.0).or_default().insert(row.uid);
            }
        }
        let mod_seq = image.meta.mod_seq + 1;
        drop(image);
        if !stored.is_empty() {
            keywords.effect(mailbox).into_iter().for_each(|effect| self.push(effect));
        }
        if !groups.is_empty() {
            let groups = groups.into_iter().map(|(flags, uids)| (Flags(flags), uids)).collect();
            self.push(Effect::Flags { mailbox, mod_seq, groups });
        }
        let image = self.image(account, mailbox)?;
        let changed = image.rows_of(&stored).map(change_of).collect();
        Ok(Reply::Stored { changed, modified, keywords: image.meta.keywords.clone() })
    }

    pub(in crate::mailstore::embedded) fn expunge(
        &mut self,
        account: AccountId,
        mailbox: MailboxId,
        uids: Option<&UidSet>,
        deleted_only: bool,
    ) -> Result<Reply, StoreError> {
        let image = self.image(account, mailbox)?;
        let wanted = |row: &&Row| !deleted_only || row.flags.contains(Flags::DELETED);
        let gone: UidSet = match uids {
            Some(uids) => image.rows_of(uids).filter(wanted).map(|r| r.uid).collect(),
            None if deleted_only && image.meta.deleted == 0 => UidSet::new(),
            None => image.rows().filter(wanted).map(|r| r.uid).collect(),
        };
        let mut mod_seq = image.meta.mod_seq;
        drop(image);
        if !gone.is_empty() {
            mod_seq += 1;
            self.push(Effect::Expunge { mailbox, mod_seq, uids: gone.clone() });
        }
        Ok(Reply::Expunged { uids: gone, mod_seq })
    }
}
