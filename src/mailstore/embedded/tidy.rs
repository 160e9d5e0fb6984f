//! Work that nobody waits for: contents of expunged messages, snapshots that let old transactions go, compaction, the
//! checkpoint of the index.
//!
//! How it fails: what could not be done is tried again the next time.

use super::effect::Entity;
use super::index::Batch;
use super::octets::path_of;
use super::read::search;
use super::record::{self, KIND_ACCOUNT, KIND_CONTENT, KIND_MAILBOX, KIND_TRANSACTION};
use super::writer::EmbeddedWriter;
use crate::base::buf::Chain;
use crate::base::mailbox::{AccountId, ContentId, MailboxId};
use crate::log::{Disk, Location, Log, Moving};
use std::sync::atomic::Ordering;

/// Octets of a message's row in a snapshot, about.
const ROW_OCTETS: u64 = 24;
/// Octets of text that go into the full-text index in one step: it is not quick, and commits wait.
const TEXT_STEP_OCTETS: usize = 256 * 1024;
/// Octets of a part of a snapshot.
const PART_OCTETS: usize = 256 * 1024;

impl<D: Disk> EmbeddedWriter<D> {
    pub(super) fn tidy_up(&mut self, budget_octets: u64) -> bool {
        debug_assert!(self.ops.is_empty(), "what is staged is committed before tidying");
        if !self.unwritten.is_empty() || !self.unwritten_gone.is_empty() {
            let mut batch = Batch { applied: self.applied, ..Batch::default() };
            self.write_index(&mut batch);
        }
        self.bury_contents();
        let mut more = self.make_snapshots();
        more |= self.compact(budget_octets);
        let (made, gone) = (self.shared.computed_waiting(), std::mem::take(&mut self.dead));
        if !made.is_empty() || !gone.is_empty() {
            // What is not kept is computed again.
            let _ = self.index.keep_computed(&made, &gone);
        }
        more |= self.index_texts(&gone);
        self.keep_recent();
        let _ = self.index.checkpoint(self.shared.clock.elapsed());
        self.shared.shed();
        self.log.prepare();
        more || self.log.write_maps(record::front_octets)
    }

    /// The last call before an orderly end: the next start finds everything written down.
    pub(super) fn rest_now(&mut self) {
        self.tidy_up(0);
        self.log.write_last_maps(record::front_octets);
    }

    /// Adds some texts to the full-text index. Returns whether there are more.
    fn index_texts(&mut self, gone: &[u64]) -> bool {
        let Some(texts) = &mut self.texts else { return false };
        if !gone.is_empty() {
            let _ = texts.remove(gone); // what stays is a candidate that is not there
        }
        let (mut made, mut octets) = (Vec::new(), 0);
        while let Some(id) = self.untexted.front().copied().filter(|_| octets < TEXT_STEP_OCTETS) {
            self.untexted.pop_front();
            let text = self.shared.read_all(id).ok().map(|message| search::text_of(&message));
            octets += text.as_ref().map_or(0, String::len);
            made.push((id.0, text));
        }
        if !made.is_empty() && texts.add(&made).is_err() {
            // Not now: without it everything is read.
            self.texts = None;
            self.untexted.clear();
        }
        !self.untexted.is_empty()
    }

    /// Tells the index what sessions were shown as new. Lost in a crash, it is shown as new once more.
    fn keep_recent(&mut self) {
        if !self.shared.recent_changed.swap(false, Ordering::Relaxed) {
            return;
        }
        let slots = self.shared.slots.read();
        let changed = slots.iter().filter_map(|(id, slot)| Some((*id, slot.recent_to_keep()?))).collect::<Vec<_>>();
        drop(slots);
        if !changed.is_empty() {
            let _ = self.index.keep_recent(&changed);
        }
    }

    /// Lets contents go whose time is over and that have got no new place.
    fn bury_contents(&mut self) {
        let now = self.shared.clock.elapsed();
        while let Some((since, id)) = self.dying.front().copied() {
            if now.saturating_sub(since) < self.shared.knobs.expunged_grace {
                break;
            }
            self.dying.pop_front();
            let mut contents = self.shared.contents.write();
            let Some(content) = contents.get(&id).copied().filter(|c| c.places == 0) else { continue };
            contents.remove(&id);
            drop(contents);
            self.log.release(content.at);
            self.dead.push(id.0);
            if content.in_file.is_some() {
                // One that stays is an orphan, and swept at the next open.
                let _ = self.shared.disk.remove(&path_of(&self.shared.bodies, id));
            }
        }
    }

    /// When transactions take more room than what they made, those who need the oldest are written down as they are.
    fn make_snapshots(&mut self) -> bool {
        if self.ledger.octets() <= self.shared.knobs.changes_octets_max.0 {
            return false;
        }
        let messages: u64 = self.shared.slots.read().values().map(|s| s.state.read().meta.messages).sum();
        let enough = self.shared.knobs.changes_octets_max.0.max(messages * ROW_OCTETS * 2);
        if self.ledger.octets() <= enough {
            return false;
        }
        let entities = self.ledger.oldest();
        self.snapshot(&entities) && self.ledger.octets() > enough
    }

    /// Makes snapshots durable and lets go what they replace. False when the log refused.
    pub(super) fn snapshot(&mut self, entities: &[Entity]) -> bool {
        let mut staged: Vec<(Entity, usize, bool)> = Vec::new();
        for entity in entities {
            let (parts, whole) = match entity {
                Entity::Account(id) => self.append_account(*id),
                Entity::Mailbox(id) => self.append_mailbox(*id),
            };
            staged.push((*entity, parts, whole));
        }
        let mut results = self.log.commit().into_iter();
        let mut all = true;
        for (entity, parts, whole) in staged {
            let places: Vec<_> = results.by_ref().take(parts).collect();
            let durable: Vec<Location> = places.iter().filter_map(|r| r.as_ref().ok().copied()).collect();
            if durable.len() < parts || !whole {
                all = false;
                durable.into_iter().for_each(|at| self.log.release(at));
                continue;
            }
            for at in self.ledger.snapshotted(entity, self.applied.transaction, durable) {
                self.log.release(at);
            }
        }
        all
    }

    /// Stages an account's snapshot: how many records, and whether they are all.
    fn append_account(&mut self, id: AccountId) -> (usize, bool) {
        let Some(catalog) = self.shared.catalog(id) else { return (0, false) };
        let mut head = vec![0; Log::<D>::HEAD_ROOM];
        record::encode_account(self.applied.transaction, self.water, &catalog, &mut head);
        let appended = self.log.append(KIND_ACCOUNT, id.0.into(), head, Chain::new()).is_ok();
        (usize::from(appended), appended)
    }

    /// Stages a mailbox's snapshot: how many records, and whether they are all.
    fn append_mailbox(&mut self, id: MailboxId) -> (usize, bool) {
        let Ok(image) = self.shared.image(id, &self.index) else { return (0, false) };
        // The front of the first part can be large because of what vanished; half a segment is room for both.
        let most = PART_OCTETS.min(self.log.payload_octets_max() as usize / 4);
        let rows_max = (most / ROW_OCTETS as usize / 2).max(1);
        let mut parts: Vec<&[_]> = Vec::new();
        let (mut from, mut rows) = (0, 0);
        for (at, (_, chunk)) in image.chunks.iter().enumerate() {
            if rows > 0 && rows + chunk.rows.len() > rows_max {
                parts.push(&image.chunks[from..at]);
                (from, rows) = (at, 0);
            }
            rows += chunk.rows.len();
        }
        parts.push(&image.chunks[from..]);
        for (i, chunks) in parts.iter().enumerate() {
            let mut head = vec![0; Log::<D>::HEAD_ROOM];
            let front = (i == 0).then_some((&image.meta, &*image.vanished));
            let place = (self.applied.transaction, i as u32, parts.len() as u32);
            record::encode_mailbox_part(place, self.water, front, chunks, &mut head);
            if self.log.append(KIND_MAILBOX, id.0.into(), head, Chain::new()).is_err() {
                return (i, false);
            }
        }
        (parts.len(), true)
    }

    /// Gives back segments; copies what is left of those in which little is alive.
    fn compact(&mut self, budget_octets: u64) -> bool {
        if self.log.collect().is_err() || budget_octets == 0 {
            return false;
        }
        let done = self.log.compact(budget_octets, &mut |_, _| true);
        if done.moving.is_empty() {
            return false;
        }
        let results = self.log.commit();
        for moving in done.moving {
            if let Some(Ok(to)) = results.get(moving.index) {
                self.moved(moving, *to);
            }
        }
        let _ = self.log.collect();
        true
    }

    /// A record stands elsewhere now: one of the two places is free.
    fn moved(&mut self, moving: Moving, to: Location) {
        let Moving { from, kind, id, .. } = moving;
        let needed = match kind {
            KIND_CONTENT => match self.shared.contents.write().get_mut(&ContentId(id)).filter(|c| c.at == from) {
                Some(content) => {
                    content.at = to;
                    true
                }
                None => false,
            },
            KIND_TRANSACTION => self.ledger.moved_transaction(id, from, to),
            KIND_ACCOUNT => {
                u32::try_from(id).is_ok_and(|id| self.ledger.moved_part(Entity::Account(AccountId(id)), from, to))
            }
            KIND_MAILBOX => {
                u32::try_from(id).is_ok_and(|id| self.ledger.moved_part(Entity::Mailbox(MailboxId(id)), from, to))
            }
            _ => true,
        };
        self.log.release(from);
        if !needed {
            debug_assert!(false, "a live record that nobody needs was moved");
            self.log.release(to);
        }
    }
}
