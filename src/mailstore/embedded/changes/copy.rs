//! COPY and MOVE: new places for the same contents (RFC 9051 §6.4.7, §6.4.8).
//!
//! How it fails: all or none. Keywords that do not fit into the other mailbox any more stay behind, the message does not.

use crate::base::mailbox::ask::{Copied, Reply, StoreError};
use crate::base::mailbox::{AccountId, FlagNames, Flags, MailboxId, UidSet};
use crate::log::Disk;
use crate::mailstore::embedded::effect::Effect;
use crate::mailstore::embedded::writer::{EmbeddedWriter, KeywordsWanted, NewRow};
use std::collections::HashMap;

impl<D: Disk> EmbeddedWriter<D> {
    pub(in crate::mailstore::embedded) fn copy(
        &mut self,
        account: AccountId,
        mailbox: MailboxId,
        uids: &UidSet,
        to: &str,
        moving: bool,
    ) -> Result<Reply, StoreError> {
        let from = self.image(account, mailbox)?;
        let (target, image) = self.image_of(account, to)?;
        let mut keywords = KeywordsWanted::of(&image);
        let mut known: HashMap<Flags, Flags> = HashMap::new();
        let (mut new, mut gone, mut octets) = (Vec::new(), UidSet::new(), 0);
        for row in from.rows_of(uids) {
            let flags = *known.entry(row.flags).or_insert_with(|| {
                let names = FlagNames::of(row.flags, &from.meta.keywords);
                keywords.flags(&names).unwrap_or_else(|_| keywords.flags_known(&names))
            });
            new.push(NewRow {
                content: row.content,
                octets: row.octets,
                ends_with_crlf: row.ends_with_crlf,
                flags,
                internal: row.internal_date(),
            });
            gone.insert(row.uid);
            octets += row.octets;
        }
        if !moving {
            self.check_quota(account, octets, new.len() as u64)?;
        }
        let rows = self.rows_at_end(&image, &new)?;
        let uid_validity = image.meta.uid_validity;
        drop((from, image));
        let reached: UidSet = rows.iter().map(|r| r.uid).collect();
        if !rows.is_empty() {
            keywords.effect(target).into_iter().for_each(|effect| self.push(effect));
            self.push(Effect::Add { mailbox: target, rows });
        }
        let mut mod_seq = self.image(account, mailbox)?.meta.mod_seq;
        if moving && !gone.is_empty() {
            mod_seq += 1;
            self.push(Effect::Expunge { mailbox, mod_seq, uids: gone.clone() });
        }
        Ok(Reply::Copied(Copied { uid_validity, from: gone, to: reached, mod_seq }))
    }
}
