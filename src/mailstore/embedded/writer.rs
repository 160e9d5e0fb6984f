//! The writer: stages what is asked for against what the store will be, one file of `changes/` for each kind of change;
//! `commit` makes it durable.
//!
//! How it fails: a change that cannot be made is answered with its [`StoreError`] and leaves nothing behind; how a commit
//! fails is said there.

use super::catalog::Catalog;
use super::effect::{Effect, Entity};
use super::image::{Image, Row};
use super::index::{Applied, Index};
use super::ledger::Ledger;
use super::record::{self, Water};
use super::shared::Shared;
use super::staged::Staged;
use super::texts::Texts;
use crate::base::buf::Chain;
use crate::base::id::SpoolId;
use crate::base::mailbox::ask::{Change, Delivery, Reply, StoreError};
use crate::base::mailbox::search::ZonedTime;
use crate::base::mailbox::{AccountId, ContentId, FLAG_OCTETS_MAX, FlagNames, Flags, KEYWORDS_MAX, MailboxId, Uid};
use crate::log::{Disk, Log};
use crate::mailstore::{BackedUp, Commit, MailWriter, MailstoreError, Outcome};
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A message's octets on their way to the log.
pub(super) struct NewContent {
    pub id: ContentId,
    pub octets: u64,
    pub front: u32,
    pub in_file: Option<u32>,
    pub head: Vec<u8>,
    pub tail: Chain,
}

/// Something staged.
pub(super) struct Op {
    pub token: u64,
    pub outcome: Outcome,
    /// Its effects, encoded.
    pub effects: Vec<u8>,
    pub count: usize,
    pub entities: HashSet<Entity>,
    pub touched: Vec<MailboxId>,
    /// The delivery whose proof the commit makes.
    pub proof: Option<SpoolId>,
}

/// See the module.
pub(super) struct EmbeddedWriter<D: Disk> {
    pub shared: Arc<Shared<D>>,
    pub log: Log<D>,
    pub index: Index,
    pub ledger: Ledger,
    pub names: HashMap<String, AccountId>,
    pub water: Water,
    /// The last transaction that was given a number.
    pub transaction: u64,
    pub applied: Applied,
    pub staged: Staged,
    pub contents: Vec<NewContent>,
    pub ops: Vec<Op>,
    /// What the index could not be told yet.
    pub unwritten: HashSet<Entity>,
    pub unwritten_gone: Vec<MailboxId>,
    /// Contents without a place, and since when.
    pub dying: VecDeque<(Duration, ContentId)>,
    /// The full-text index, and contents it has not got.
    pub texts: Option<Texts>,
    pub untexted: VecDeque<ContentId>,
    /// Contents that died; what was computed from them can go.
    pub dead: Vec<u64>,
    /// Effects of the operation that is being staged.
    pub(super) effects: Vec<u8>,
    pub(super) count: usize,
    pub(super) entities: HashSet<Entity>,
    pub(super) touched: Vec<MailboxId>,
    pub(super) proof: Option<SpoolId>,
    /// The directory is ours; last, so that it is let go last.
    pub(super) _lock: D::File,
}

impl<D: Disk + Sync> MailWriter for EmbeddedWriter<D> {
    fn account(&mut self, token: u64, name: &str) {
        let answer = self.account_of(name).map(Reply::Account);
        self.staged_op(token, Outcome::Replied(answer));
    }

    fn change(&mut self, token: u64, account: AccountId, change: Change) {
        let answer = self.stage_change(account, change);
        debug_assert!(answer.is_ok() || self.count == 0, "a change that failed has had an effect");
        self.staged_op(token, Outcome::Replied(answer));
    }

    fn deliver(&mut self, token: u64, delivery: Delivery) {
        let delivered = self.stage_delivery(delivery);
        self.staged_op(token, Outcome::Delivered(delivered));
    }

    fn commit(&mut self) -> Commit {
        self.commit_staged()
    }

    fn tidy(&mut self, budget_octets: u64) -> bool {
        self.tidy_up(budget_octets)
    }

    fn rest(&mut self) {
        self.rest_now();
    }

    fn backup(&mut self, directory: &Path) -> Result<BackedUp, MailstoreError> {
        self.back_up(directory)
    }
}

impl<D: Disk> EmbeddedWriter<D> {
    fn stage_change(&mut self, account: AccountId, change: Change) -> Result<Reply, StoreError> {
        match change {
            Change::Create { name, special_use } => self.create(account, &name, special_use),
            Change::Delete { name } => self.delete(account, &name),
            Change::Rename { from, to } => self.rename(account, &from, &to),
            Change::Subscribe { name, on } => self.subscribe(account, &name, on),
            Change::Append { name, messages } => self.append(account, &name, messages),
            Change::Replace { mailbox, uid, name, message } => self.replace(account, (mailbox, uid), &name, message),
            Change::Copy { mailbox, uids, to } => self.copy(account, mailbox, &uids, &to, false),
            Change::Move { mailbox, uids, to } => self.copy(account, mailbox, &uids, &to, true),
            Change::Store { mailbox, uids, how, flags, unchanged_since } => {
                self.store(account, mailbox, &uids, (how, &flags), unchanged_since)
            }
            Change::Purge => self.purge(account),
            Change::Expunge { mailbox, uids, deleted_only } => {
                self.expunge(account, mailbox, uids.as_ref(), deleted_only)
            }
        }
    }

    /// Ends an operation: what it did goes to the log with the next commit.
    fn staged_op(&mut self, token: u64, outcome: Outcome) {
        self.ops.push(Op {
            token,
            outcome,
            effects: std::mem::take(&mut self.effects),
            count: std::mem::take(&mut self.count),
            entities: std::mem::take(&mut self.entities),
            touched: std::mem::take(&mut self.touched),
            proof: self.proof.take(),
        });
    }

    /// Says and applies an effect of the operation that is being staged.
    pub(super) fn push(&mut self, effect: Effect) {
        record::encode_effect(&effect, &mut self.effects);
        self.count += 1;
        self.entities.insert(effect.entity());
        match &effect {
            Effect::Gone { mailbox, .. } => self.touched.push(*mailbox),
            _ => {
                if let Entity::Mailbox(mailbox) = effect.entity() {
                    self.touched.push(mailbox);
                }
            }
        }
        self.staged.apply(&self.shared, &effect);
    }

    pub(super) fn catalog(&self, account: AccountId) -> Result<Arc<Catalog>, StoreError> {
        self.staged.catalog(&self.shared, account).ok_or(StoreError::NoSuchAccount)
    }

    /// A mailbox of the account, as it will be.
    pub(super) fn image(&mut self, account: AccountId, mailbox: MailboxId) -> Result<Arc<Image>, StoreError> {
        let image = self.staged.image(&self.shared, &self.index, mailbox)?;
        if image.meta.account == account { Ok(image) } else { Err(StoreError::Gone) }
    }

    /// A mailbox by its name, as it will be.
    pub(super) fn image_of(&mut self, account: AccountId, name: &str) -> Result<(MailboxId, Arc<Image>), StoreError> {
        let id = self.catalog(account)?.selectable(name).map(|e| e.id).ok_or(StoreError::NoSuchMailbox)?;
        Ok((id, self.image(account, id)?))
    }

    /// Whether so much more fits into the account.
    pub(super) fn check_quota(&self, account: AccountId, octets: u64, messages: u64) -> Result<(), StoreError> {
        let catalog = self.catalog(account)?;
        let (octets_max, messages_max) = self.shared.quota_of(&catalog.name);
        if octets_max == 0 && messages_max == 0 {
            return Ok(());
        }
        let (has_octets, has_messages) = self.staged.usage(&self.shared, &catalog);
        let over = |has: u64, more: u64, most: u64| most > 0 && more > 0 && has.saturating_add(more) > most;
        if over(has_octets, octets, octets_max) || over(has_messages, messages, messages_max) {
            return Err(StoreError::OverQuota);
        }
        Ok(())
    }

    /// Rows for new messages at the end of a mailbox, with the next UIDs and MODSEQ.
    pub(super) fn rows_at_end(&self, image: &Image, new: &[NewRow]) -> Result<Vec<Row>, StoreError> {
        let (first, count) = (image.meta.uid_next, new.len() as u64);
        // RFC 9051 §2.3.1.1: when UIDs run out the mailbox would need a new UIDVALIDITY.
        if u64::from(first) + count >= u64::from(Uid::MAX) {
            return Err(StoreError::Limit("the mailbox has no more UIDs"));
        }
        let (mod_seq, saved) = (image.meta.mod_seq + 1, self.shared.clock.now());
        let row = |(i, n): (usize, &NewRow)| Row {
            uid: first + i as u32,
            zone_minutes: n.internal.zone_minutes,
            ends_with_crlf: n.ends_with_crlf,
            flags: n.flags,
            mod_seq,
            octets: n.octets,
            internal: n.internal.at,
            saved,
            content: n.content,
        };
        Ok(new.iter().enumerate().map(row).collect())
    }

    pub(super) fn now(&self) -> ZonedTime {
        ZonedTime { at: self.shared.clock.now(), zone_minutes: 0 }
    }
}

/// A message that is to be added to a mailbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewRow {
    pub content: ContentId,
    pub octets: u64,
    pub ends_with_crlf: bool,
    pub flags: Flags,
    pub internal: ZonedTime,
}

/// Keywords of a mailbox as they will be with those that a change names.
pub(super) struct KeywordsWanted {
    all: Vec<String>,
    had: usize,
}

impl KeywordsWanted {
    pub fn of(image: &Image) -> KeywordsWanted {
        KeywordsWanted { all: image.meta.keywords.to_vec(), had: image.meta.keywords.len() }
    }

    /// Bits of these flags; keywords that are new are made.
    pub fn flags(&mut self, names: &FlagNames) -> Result<Flags, StoreError> {
        let mut flags = names.system;
        for name in &names.keywords {
            if name.len() > FLAG_OCTETS_MAX || name.is_empty() {
                return Err(StoreError::Limit("a keyword is too long"));
            }
            match self.known(name) {
                Some(flag) => flags = flags.with(flag),
                None if self.all.len() >= KEYWORDS_MAX => {
                    return Err(StoreError::Limit("the mailbox has too many keywords"));
                }
                None => {
                    flags = flags.with(Flags::keyword(self.all.len()));
                    self.all.push(name.clone());
                }
            }
        }
        Ok(flags)
    }

    /// Bits of those that are there.
    pub fn flags_known(&self, names: &FlagNames) -> Flags {
        names.keywords.iter().filter_map(|n| self.known(n)).fold(names.system, Flags::with)
    }

    fn known(&self, name: &str) -> Option<Flags> {
        self.all.iter().position(|k| k.eq_ignore_ascii_case(name)).map(Flags::keyword)
    }

    /// The effect that makes the new ones, if there are any.
    pub fn effect(&self, mailbox: MailboxId) -> Option<Effect> {
        let names = self.all[self.had..].to_vec();
        (!names.is_empty()).then_some(Effect::Keywords { mailbox, names })
    }
}
