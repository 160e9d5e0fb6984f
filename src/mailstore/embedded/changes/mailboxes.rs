//! Accounts and their mailboxes: made, deleted, renamed, subscribed.
//!
//! How it fails: with the [`StoreError`] that says which rule of RFC 9051 §6.3.4–§6.3.6 it would break.

use crate::base::mailbox::ask::{Reply, StoreError};
use crate::base::mailbox::{AccountId, MailboxId, SpecialUse};
use crate::log::Disk;
use crate::mailstore::embedded::catalog::{self, Catalog, Entry, FIRST_MAILBOXES, INBOX, canonical};
use crate::mailstore::embedded::effect::Effect;
use crate::mailstore::embedded::writer::{EmbeddedWriter, NewRow};

/// Octets of an account's name.
const ACCOUNT_NAME_OCTETS_MAX: usize = 320;

impl<D: Disk> EmbeddedWriter<D> {
    /// The number of an account; one that is new is made with its first mailboxes.
    pub(in crate::mailstore::embedded) fn account_of(&mut self, name: &str) -> Result<AccountId, StoreError> {
        if let Some(account) = self.names.get(name).copied() {
            if self.catalog(account)?.selectable(INBOX).is_none() {
                self.put_first_mailboxes(account); // it was purged
            }
            return Ok(account);
        }
        if name.is_empty() || name.len() > ACCOUNT_NAME_OCTETS_MAX {
            return Err(StoreError::NoSuchAccount);
        }
        self.water.account += 1;
        let account = AccountId(self.water.account);
        self.names.insert(name.to_owned(), account);
        self.push(Effect::Account { account, name: name.to_owned() });
        self.put_first_mailboxes(account);
        Ok(account)
    }

    fn put_first_mailboxes(&mut self, account: AccountId) {
        let first = [(INBOX, None)].into_iter().chain(FIRST_MAILBOXES.map(|(name, u)| (name, Some(u))));
        for (name, special_use) in first {
            self.put_new(account, name, special_use, true);
            self.push(Effect::Subscribe { account, name: name.to_owned(), on: true });
        }
    }

    /// All of an account's mail goes, for an account that is removed. What is left is its number, so that nobody else gets
    /// it; under its name it would begin anew.
    pub(in crate::mailstore::embedded) fn purge(&mut self, account: AccountId) -> Result<Reply, StoreError> {
        let catalog = self.catalog(account)?;
        let (mut messages, mut mailboxes) = (0, 0);
        for entry in catalog.mailboxes.values() {
            if entry.selectable {
                mailboxes += 1;
                messages += self.image(account, entry.id)?.meta.messages;
            }
        }
        for entry in catalog.mailboxes.values() {
            self.push(Effect::Gone { account, mailbox: entry.id });
        }
        for name in &catalog.subscribed {
            self.push(Effect::Subscribe { account, name: name.clone(), on: false });
        }
        Ok(Reply::Purged { messages, mailboxes })
    }

    fn put_new(
        &mut self,
        account: AccountId,
        name: &str,
        special_use: Option<SpecialUse>,
        selectable: bool,
    ) -> MailboxId {
        self.water.mailbox += 1;
        // RFC 9051 §2.3.1.1: higher than any before under this name; seconds of the day serve, if two are not the same.
        let now = u32::try_from(self.shared.clock.now().as_secs()).unwrap_or(u32::MAX);
        self.water.uid_validity = now.max(self.water.uid_validity.saturating_add(1));
        let id = MailboxId(self.water.mailbox);
        let entry = Entry { id, uid_validity: self.water.uid_validity, special_use, selectable };
        self.push(Effect::Put { account, name: name.to_owned(), entry });
        id
    }

    pub(in crate::mailstore::embedded) fn create(
        &mut self,
        account: AccountId,
        name: &str,
        special_use: Option<SpecialUse>,
    ) -> Result<Reply, StoreError> {
        let name = catalog::checked(name)?;
        let catalog = self.catalog(account)?;
        if catalog.mailboxes.get(&name).is_some_and(|e| e.selectable) {
            return Err(StoreError::Exists);
        }
        // RFC 6154 §3: a use that cannot be given is refused.
        if special_use.is_some() && catalog.mailboxes.values().any(|e| e.special_use == special_use) {
            return Err(StoreError::Cannot("another mailbox has that special use"));
        }
        self.check_room(&catalog, &name, 1)?;
        self.put_parents(account, &catalog, &name);
        if let Some(level) = catalog.mailboxes.get(&name) {
            self.push(Effect::Gone { account, mailbox: level.id });
        }
        Ok(Reply::Created(self.put_new(account, &name, special_use, true)))
    }

    /// Whether there may be `more` mailboxes, and the levels above `name`.
    fn check_room(&self, catalog: &Catalog, name: &str, more: usize) -> Result<(), StoreError> {
        let levels = catalog::parents(name).filter(|p| !catalog.mailboxes.contains_key(*p)).count();
        if catalog.mailboxes.len() + levels + more > self.shared.knobs.mailboxes_max {
            return Err(StoreError::Limit("the account has too many mailboxes"));
        }
        if self.water.mailbox > i32::MAX as u32 - 1000 {
            return Err(StoreError::Limit("the store has no more mailbox numbers"));
        }
        Ok(())
    }

    /// RFC 9051 §6.3.4: levels above are made.
    fn put_parents(&mut self, account: AccountId, catalog: &Catalog, name: &str) {
        for parent in catalog::parents(name).filter(|p| !catalog.mailboxes.contains_key(*p)) {
            self.put_new(account, parent, None, true);
        }
    }

    pub(in crate::mailstore::embedded) fn delete(
        &mut self,
        account: AccountId,
        name: &str,
    ) -> Result<Reply, StoreError> {
        let name = canonical(name).into_owned();
        if name == INBOX {
            return Err(StoreError::Cannot("INBOX cannot be deleted")); // RFC 9051 §6.3.5
        }
        let catalog = self.catalog(account)?;
        let entry = catalog.mailboxes.get(&name).ok_or(StoreError::NoSuchMailbox)?;
        let has_children = catalog.below(&name).next().is_some();
        if !entry.selectable && has_children {
            return Err(StoreError::HasChildren);
        }
        if entry.selectable {
            self.image(account, entry.id)?;
        }
        self.push(Effect::Gone { account, mailbox: entry.id });
        if has_children {
            self.put_new(account, &name, None, false);
        }
        Ok(Reply::Done)
    }

    pub(in crate::mailstore::embedded) fn rename(
        &mut self,
        account: AccountId,
        from: &str,
        to: &str,
    ) -> Result<Reply, StoreError> {
        let (from, to) = (canonical(from).into_owned(), catalog::checked(to)?);
        let catalog = self.catalog(account)?;
        let entry = catalog.mailboxes.get(&from).ok_or(StoreError::NoSuchMailbox)?.clone();
        if catalog.mailboxes.contains_key(&to) {
            return Err(StoreError::Exists);
        }
        if from == INBOX {
            return self.rename_inbox(account, &catalog, entry.id, &to);
        }
        let below: Vec<(String, Entry)> = catalog.below(&from).map(|(n, e)| (n.to_owned(), e.clone())).collect();
        if to.strip_prefix(&from).is_some_and(|rest| rest.starts_with('/')) {
            return Err(StoreError::InvalidName("a mailbox cannot be moved below itself"));
        }
        let mut renamed = vec![(to.clone(), entry)];
        for (name, entry) in below {
            renamed.push((catalog::checked(&format!("{to}{}", &name[from.len()..]))?, entry));
        }
        if renamed.iter().any(|(name, _)| catalog.mailboxes.contains_key(name)) {
            return Err(StoreError::Exists);
        }
        self.check_room(&catalog, &to, 0)?;
        self.put_parents(account, &catalog, &to);
        for (name, entry) in renamed {
            self.push(Effect::Put { account, name, entry });
        }
        Ok(Reply::Done)
    }

    /// RFC 9051 §6.3.6: INBOX stays, its messages move; what is below it stays where it is.
    fn rename_inbox(
        &mut self,
        account: AccountId,
        catalog: &Catalog,
        inbox: MailboxId,
        to: &str,
    ) -> Result<Reply, StoreError> {
        self.check_room(catalog, to, 1)?;
        let old = self.image(account, inbox)?;
        self.put_parents(account, catalog, to);
        let new = self.put_new(account, to, None, true);
        if old.meta.messages == 0 {
            return Ok(Reply::Done);
        }
        // The bits of keywords mean the same there, because it has the same keywords.
        if !old.meta.keywords.is_empty() {
            self.push(Effect::Keywords { mailbox: new, names: old.meta.keywords.to_vec() });
        }
        let rows = old.rows().map(|r| NewRow {
            content: r.content,
            octets: r.octets,
            ends_with_crlf: r.ends_with_crlf,
            flags: r.flags,
            internal: r.internal_date(),
        });
        let image = self.image(account, new)?;
        let rows = self.rows_at_end(&image, &rows.collect::<Vec<_>>())?;
        drop(image);
        self.push(Effect::Add { mailbox: new, rows });
        self.push(Effect::Expunge { mailbox: inbox, mod_seq: old.meta.mod_seq + 1, uids: old.uids() });
        Ok(Reply::Done)
    }

    pub(in crate::mailstore::embedded) fn subscribe(
        &mut self,
        account: AccountId,
        name: &str,
        on: bool,
    ) -> Result<Reply, StoreError> {
        let catalog = self.catalog(account)?;
        let name = if on { catalog::checked(name)? } else { canonical(name).into_owned() };
        if on && catalog.subscribed.len() >= self.shared.knobs.mailboxes_max.saturating_mul(2) {
            return Err(StoreError::Limit("the account has too many subscriptions"));
        }
        if catalog.subscribed.contains(&name) != on {
            self.push(Effect::Subscribe { account, name, on });
        }
        Ok(Reply::Done)
    }
}
