//! Mail that arrives: one content, a place in a mailbox for each account.
//!
//! How it fails: by recipient. A recipient with several accounts has it in all of them or in none, so that a verdict is
//! true, or is to be served partly, and then is told who was left out; an account that has it already by another recipient of the same delivery does not get it twice.

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
        let mut all_left = Vec::new();
        for recipient in to {
            let mut left = Vec::new();
            let verdict = self.places_for(&recipient, octets, &has, &mut left).and_then(|places| {
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
            if verdict.is_ok() {
                all_left.extend(left.into_iter().map(|(name, why)| (recipient.index, name, why)));
            }
            verdicts.push((recipient.index, verdict));
        }
        let anybody = verdicts.iter().any(|(_, v)| v.is_ok());
        if !anybody && content.is_some() {
            self.drop_contents(self.contents.len() - 1);
        }
        self.proof = anybody.then_some(id); // the commit makes it, after its sync
        Delivered { verdicts, left: all_left, committed: None }
    }

    /// Where a recipient's mail goes; all of it is checked.
    fn places_for(
        &mut self,
        recipient: &Recipient,
        octets: u64,
        has: &HashSet<AccountId>,
        left: &mut Vec<(String, StoreError)>,
    ) -> Result<Vec<(AccountId, MailboxId)>, StoreError> {
        let mut places: Vec<(AccountId, MailboxId)> = Vec::with_capacity(recipient.accounts.len());
        let mut chosen: HashSet<AccountId> = HashSet::with_capacity(recipient.accounts.len());
        for name in &recipient.accounts {
            let account = self.account_of(name)?;
            if has.contains(&account) || !chosen.insert(account) {
                continue;
            }
            match self.place_for(account, recipient.mailbox.as_deref(), octets) {
                Ok(place) => places.push(place),
                Err(why) if recipient.partly && recipient.accounts.len() > 1 => left.push((name.clone(), why)),
                Err(why) => return Err(why),
            }
        }
        match left.first() {
            // Nobody can have it: then that is the verdict.
            Some((_, why)) if left.len() == chosen.len() => Err(why.clone()),
            _ if recipient.accounts.is_empty() => Err(StoreError::NoSuchAccount),
            _ => Ok(places),
        }
    }

    /// Where an account's mail goes, if there is room for it.
    fn place_for(
        &mut self,
        account: AccountId,
        mailbox: Option<&str>,
        octets: u64,
    ) -> Result<(AccountId, MailboxId), StoreError> {
        self.check_quota(account, octets, 1)?;
        let catalog = self.catalog(account)?;
        let detail = mailbox.and_then(|name| catalog.selectable(name));
        let entry = detail.or_else(|| catalog.selectable(INBOX)).ok_or(StoreError::NoSuchMailbox)?;
        let image = self.image(account, entry.id)?;
        if image.meta.uid_next >= Uid::MAX - 1 {
            return Err(StoreError::Limit("the mailbox has no more UIDs"));
        }
        Ok((account, entry.id))
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
