//! Mail that arrives: one content, a place in a mailbox for each account.
//!
//! How it fails: by recipient. A recipient with several accounts has it in all of them or in none, so that a verdict is
//! true; an account that has it already by another recipient of the same delivery does not get it twice.

use crate::base::mailbox::ask::{Delivery, Recipient, StoreError};
use crate::base::mailbox::{AccountId, ContentId, Flags, MailboxId, Uid};
use crate::log::Disk;
use crate::mailstore::Delivered;
use crate::mailstore::embedded::catalog::INBOX;
use crate::mailstore::embedded::effect::Effect;
use crate::mailstore::embedded::writer::{EmbeddedWriter, NewRow};
use std::collections::HashSet;

impl<D: Disk> EmbeddedWriter<D> {
    pub(in crate::mailstore::embedded) fn stage_delivery(&mut self, delivery: Delivery) -> Delivered {
        let Delivery { id, prefix, body, to } = delivery;
        let octets = prefix.len() as u64 + body.shape.octets;
        let mut has = HashSet::new();
        let mut content = None;
        let mut verdicts = Vec::with_capacity(to.len());
        for recipient in to {
            let verdict = self.places_for(&recipient, octets, &has).and_then(|places| {
                let content = match content {
                    Some(content) => content,
                    None => {
                        if octets > self.shared.knobs.message_octets_max.0 {
                            return Err(StoreError::Limit("the message is too large"));
                        }
                        content.insert(self.stage_content(&prefix, &body)?.0).to_owned()
                    }
                };
                self.put_in(content, octets, body.shape.ends_with_crlf, &places)?;
                has.extend(places.iter().map(|(account, _)| *account));
                Ok(())
            });
            verdicts.push((recipient.index, verdict));
        }
        let anybody = verdicts.iter().any(|(_, v)| v.is_ok());
        if !anybody && content.is_some() {
            self.drop_contents(self.contents.len() - 1);
        }
        self.proof = anybody.then_some(id); // the commit makes it, after its sync
        Delivered { verdicts, committed: None }
    }

    /// Where a recipient's mail goes; all of it is checked.
    fn places_for(
        &mut self,
        recipient: &Recipient,
        octets: u64,
        has: &HashSet<AccountId>,
    ) -> Result<Vec<(AccountId, MailboxId)>, StoreError> {
        let mut places: Vec<(AccountId, MailboxId)> = Vec::with_capacity(recipient.accounts.len());
        for name in &recipient.accounts {
            let account = self.account_of(name)?;
            if has.contains(&account) || places.iter().any(|(a, _)| *a == account) {
                continue;
            }
            self.check_quota(account, octets, 1)?;
            let catalog = self.catalog(account)?;
            let detail = recipient.mailbox.as_deref().and_then(|name| catalog.selectable(name));
            let entry = detail.or_else(|| catalog.selectable(INBOX)).ok_or(StoreError::NoSuchMailbox)?;
            let image = self.image(account, entry.id)?;
            if image.meta.uid_next >= Uid::MAX - 1 {
                return Err(StoreError::Limit("the mailbox has no more UIDs"));
            }
            places.push((account, entry.id));
        }
        if recipient.accounts.is_empty() {
            return Err(StoreError::NoSuchAccount);
        }
        Ok(places)
    }

    fn put_in(
        &mut self,
        content: ContentId,
        octets: u64,
        ends_with_crlf: bool,
        places: &[(AccountId, MailboxId)],
    ) -> Result<(), StoreError> {
        let row = NewRow { content, octets, ends_with_crlf, flags: Flags::NONE, internal: self.now() };
        for (account, mailbox) in places {
            let image = self.image(*account, *mailbox)?;
            let rows = self.rows_at_end(&image, &[row])?;
            drop(image);
            self.push(Effect::Add { mailbox: *mailbox, rows });
        }
        Ok(())
    }
}
