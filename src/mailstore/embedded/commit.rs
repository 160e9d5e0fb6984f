//! The commit: body files, then contents and transactions in the log with one sync, then the index, then what readers see.
//!
//! How it fails: what was staged is dropped, and everybody hears [`StoreError::DiskFull`] or [`StoreError::Failed`]. A large
//! commit can be cut by the end of a segment; then the changes before the cut are durable, are applied again without the
//! others, and are answered so. A failing index loses nothing: what it could not be told stays in memory and is tried again.

use super::effect::Entity;
use super::image::Image;
use super::index::{Applied, Batch, Rewritten};
use super::octets::path_of;
use super::record::{self, KIND_CONTENT, KIND_TRANSACTION};
use super::shared::Content;
use super::staged::Staged;
use super::writer::{EmbeddedWriter, NewContent, Op};
use crate::base::buf::Chain;
use crate::base::mailbox::ask::StoreError;
use crate::base::mailbox::{ContentId, MailboxId, Uid};
use crate::base::proof::Committed;
use crate::log::{Disk, Location, Log, LogError};
use crate::mailstore::{Commit, Outcome};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Octets of effects in one transaction record; what is more goes into the next.
const TRANSACTION_OCTETS: usize = 256 * 1024;

/// A transaction record on its way: operations `from..to`.
struct NewTransaction {
    number: u64,
    from: usize,
    to: usize,
    mark: u32,
    entities: HashSet<Entity>,
}

impl<D: Disk> EmbeddedWriter<D> {
    pub(super) fn commit_staged(&mut self) -> Commit {
        let mut ops = std::mem::take(&mut self.ops);
        let contents = std::mem::take(&mut self.contents);
        if ops.iter().all(|op| op.count == 0) {
            debug_assert!(contents.is_empty());
            self.staged = Staged::default();
            return answer(ops);
        }
        let written = self.write(&ops, contents);
        if let Err((durable, error)) = &written {
            // What readers see must not hold what is not durable: only the first operations are applied, anew.
            self.restage(&ops[..*durable]);
            // Also those that had nothing to do: they were judged by what would have been.
            ops[*durable..].iter_mut().for_each(|op| op.refuse(error));
        }
        for op in &mut ops {
            if let (Some(id), Outcome::Delivered(delivered)) = (op.proof.take(), &mut op.outcome) {
                delivered.committed = Some(Committed::after_sync(id));
            }
        }
        self.publish();
        answer(ops)
    }

    /// Everything into the log. The error says how many operations are durable all the same.
    fn write(&mut self, ops: &[Op], mut contents: Vec<NewContent>) -> Result<(), (usize, StoreError)> {
        if let Err(e) = self.sync_files(&contents) {
            self.forget(&contents);
            return Err((0, e));
        }
        let mut results_before = 0;
        for content in &mut contents {
            let (head, tail) = (std::mem::take(&mut content.head), std::mem::take(&mut content.tail));
            if let Err(e) = self.log.append(KIND_CONTENT, content.id.0, head, tail) {
                debug_assert!(false, "a content that does not fit was staged: {e}");
            }
            results_before += 1;
        }
        let (transactions, appended) = self.append_transactions(ops);
        let results = self.log.commit();
        let mut error = appended.err();
        for (content, result) in contents.iter().zip(&results) {
            match result {
                Ok(at) => self.content_durable(content, *at),
                Err(e) => error = Some(of_log(e)),
            }
        }
        let mut durable = 0;
        for (transaction, result) in transactions.into_iter().zip(results.into_iter().skip(results_before)) {
            match result {
                Ok(at) if error.is_none() => {
                    durable = transaction.to;
                    self.transaction_durable(transaction, at);
                }
                Ok(at) => self.log.release(at),
                Err(e) => error = error.or(Some(of_log(&e))),
            }
        }
        match error {
            None => Ok(()),
            Some(e) => {
                self.forget(&contents);
                Err((durable, e))
            }
        }
    }

    /// RFC 5321 §6.1 for large messages: octets and names of their files, before the record that names them.
    fn sync_files(&self, contents: &[NewContent]) -> Result<(), StoreError> {
        let disk = &self.shared.disk;
        let mut any = false;
        for content in contents.iter().filter(|c| c.in_file.is_some()) {
            any = true;
            let path = path_of(&self.shared.bodies, content.id);
            let synced = disk.open(&path).and_then(|file| disk.sync_data(&file));
            synced.map_err(|_| StoreError::Failed)?;
        }
        if any {
            disk.sync_directory(&self.shared.bodies).map_err(|_| StoreError::Failed)?;
        }
        Ok(())
    }

    fn append_transactions(&mut self, ops: &[Op]) -> (Vec<NewTransaction>, Result<(), StoreError>) {
        let mut all: Vec<NewTransaction> = Vec::new();
        let mut from = 0;
        while from < ops.len() {
            let (mut to, mut octets, mut count) = (from, 0, 0);
            while to < ops.len() && (to == from || octets + ops[to].effects.len() <= TRANSACTION_OCTETS) {
                octets += ops[to].effects.len();
                count += ops[to].count;
                to += 1;
            }
            if count > 0 {
                let mut head = vec![0; Log::<D>::HEAD_ROOM];
                record::encode_transaction_front(self.water, count, &mut head);
                ops[from..to].iter().for_each(|op| head.extend_from_slice(&op.effects));
                self.transaction += 1;
                let mark = crc32c::crc32c(&head[Log::<D>::HEAD_ROOM..]);
                match self.log.append(KIND_TRANSACTION, self.transaction, head, Chain::new()) {
                    Ok(_) => {
                        let entities = ops[from..to].iter().flat_map(|op| op.entities.iter().copied()).collect();
                        all.push(NewTransaction { number: self.transaction, from, to, mark, entities });
                    }
                    Err(_) => return (all, Err(StoreError::Limit("the change is too large"))),
                }
            }
            from = to;
        }
        (all, Ok(()))
    }

    fn content_durable(&mut self, content: &NewContent, at: Location) {
        let NewContent { id, octets, front, in_file, .. } = *content;
        self.shared.contents.write().insert(id, Content { at, octets, front, in_file, places: 0 });
        if self.texts.is_some() {
            self.untexted.push_back(id);
        }
    }

    fn transaction_durable(&mut self, transaction: NewTransaction, at: Location) {
        debug_assert!(transaction.from < transaction.to);
        self.applied = Applied { transaction: transaction.number, mark: transaction.mark };
        if !self.ledger.record(transaction.number, at, &transaction.entities) {
            self.log.release(at);
        }
    }

    /// Contents of a failed commit: those in the log are dead, files go.
    fn forget(&mut self, contents: &[NewContent]) {
        for content in contents {
            self.dying.push_back((self.shared.clock.elapsed(), content.id));
            if self.shared.content(content.id).is_none() && content.in_file.is_some() {
                let _ = self.shared.disk.remove(&path_of(&self.shared.bodies, content.id));
            }
        }
    }

    /// Applies the effects of the first operations to the published state.
    fn restage(&mut self, durable: &[Op]) {
        self.staged = Staged::default();
        for op in durable.iter().filter(|op| op.count > 0) {
            let mut framed = Vec::with_capacity(op.effects.len() + 16);
            record::encode_transaction_front(self.water, op.count, &mut framed);
            framed.extend_from_slice(&op.effects);
            let effects = record::decode_transaction(&framed).map(|t| t.effects).unwrap_or_default();
            debug_assert_eq!(effects.len(), op.count, "effects read back as they were written");
            for effect in &effects {
                self.prepare(effect);
                self.staged.apply(&self.shared, effect);
            }
        }
        let accounts = self.shared.accounts.read();
        let staged = &self.staged.accounts;
        self.names.retain(|_, account| accounts.contains_key(account) || staged.contains_key(account));
    }

    /// Asks for the image that an effect needs.
    pub(super) fn prepare(&mut self, effect: &super::effect::Effect) {
        use super::effect::Effect;
        let mailbox = match effect {
            Effect::Gone { mailbox, .. }
            | Effect::Keywords { mailbox, .. }
            | Effect::Add { mailbox, .. }
            | Effect::Flags { mailbox, .. }
            | Effect::Expunge { mailbox, .. } => *mailbox,
            Effect::Account { .. } | Effect::Put { .. } | Effect::Subscribe { .. } => return,
        };
        // One that is gone needs none.
        let _ = self.staged.image(&self.shared, &self.index, mailbox);
    }

    /// Makes the staged state the published one: places of contents, index, then what readers see.
    pub(super) fn publish(&mut self) {
        let staged = std::mem::take(&mut self.staged);
        self.count_places(&staged);
        let mut batch = Batch { applied: self.applied, ..Batch::default() };
        batch.accounts = staged.accounts.iter().map(|(id, catalog)| (*id, catalog.clone())).collect();
        let mut changed: Vec<Rewritten> = Vec::new();
        for (id, image) in staged.images {
            if image.base.as_ref().is_some_and(|base| Arc::ptr_eq(base, &image.now)) {
                continue;
            }
            let old = image.base.filter(|_| !self.unwritten.contains(&Entity::Mailbox(id)));
            changed.push(Rewritten { id, old, new: image.now, recent: self.recent_of(id) });
        }
        batch.mailboxes = changed;
        batch.gone = staged.gone.iter().copied().collect();
        let written = self.write_index(&mut batch);
        for (id, catalog) in staged.accounts {
            self.shared.accounts.write().insert(id, catalog);
        }
        for mailbox in &batch.mailboxes {
            self.shared.put(mailbox.id, mailbox.new.clone(), !written);
        }
        for id in staged.gone {
            self.shared.remove(id);
            for at in self.ledger.gone(Entity::Mailbox(id)) {
                self.log.release(at);
            }
        }
        self.shared.shed();
    }

    fn recent_of(&self, mailbox: MailboxId) -> Uid {
        self.shared.slot(mailbox).map_or(1, |s| s.recent.load(Ordering::Relaxed))
    }

    /// Writes the index, with what it could not be told before. What fails is kept for the next time.
    pub(super) fn write_index(&mut self, batch: &mut Batch) -> bool {
        self.add_unwritten(batch);
        match self.index.write(batch) {
            Ok(()) => {
                for entity in std::mem::take(&mut self.unwritten) {
                    if let Entity::Mailbox(id) = entity
                        && let Some(slot) = self.shared.slot(id)
                    {
                        slot.state.write().pinned = false;
                    }
                }
                self.unwritten_gone.clear();
                true
            }
            Err(_) => {
                self.unwritten.extend(batch.accounts.iter().map(|(id, _)| Entity::Account(*id)));
                self.unwritten.extend(batch.mailboxes.iter().map(|m| Entity::Mailbox(m.id)));
                self.unwritten_gone.clone_from(&batch.gone);
                false
            }
        }
    }

    fn add_unwritten(&mut self, batch: &mut Batch) {
        batch.gone.append(&mut self.unwritten_gone);
        for entity in &self.unwritten {
            match entity {
                Entity::Account(id) if !batch.accounts.iter().any(|(a, _)| a == id) => {
                    batch.accounts.extend(self.shared.catalog(*id).map(|catalog| (*id, catalog)));
                }
                Entity::Mailbox(id) if !batch.gone.contains(id) && !batch.mailboxes.iter().any(|m| m.id == *id) => {
                    let image: Option<Arc<Image>> = self.shared.slot(*id).and_then(|s| s.state.read().image.clone());
                    let recent = self.recent_of(*id);
                    batch.mailboxes.extend(image.map(|new| Rewritten { id: *id, old: None, new, recent }));
                }
                _ => {}
            }
        }
    }

    /// Contents that lost their last place can be read for a while, then they go.
    fn count_places(&mut self, staged: &Staged) {
        let since = self.shared.clock.elapsed();
        let mut contents = self.shared.contents.write();
        let mut dying: Vec<ContentId> = Vec::new();
        for (id, by) in &staged.places {
            let Some(content) = contents.get_mut(id) else { continue };
            let places = i64::from(content.places) + by;
            debug_assert!(places >= 0, "{id:?} has lost more places than it had");
            content.places = u32::try_from(places.max(0)).unwrap_or(u32::MAX);
            if content.places == 0 {
                dying.push(*id);
            }
        }
        drop(contents);
        dying.sort_unstable();
        self.dying.extend(dying.into_iter().map(|id| (since, id)));
    }
}

impl Op {
    fn refuse(&mut self, error: &StoreError) {
        self.proof = None;
        self.touched.clear();
        match &mut self.outcome {
            Outcome::Replied(answer) => *answer = Err(error.clone()),
            Outcome::Delivered(delivered) => {
                delivered.verdicts.iter_mut().filter(|(_, v)| v.is_ok()).for_each(|(_, v)| *v = Err(error.clone()));
            }
        }
    }
}

fn of_log(error: &LogError) -> StoreError {
    if error.is_full() { StoreError::DiskFull } else { StoreError::Failed }
}

fn answer(ops: Vec<Op>) -> Commit {
    let mut commit = Commit::default();
    let mut touched = BTreeSet::new();
    for op in ops {
        touched.extend(op.touched);
        commit.outcomes.push((op.token, op.outcome));
    }
    commit.touched = touched.into_iter().collect();
    commit
}
