//! The image of a mailbox: what it is and what is in it, as a value that shares its parts with older versions of itself.
//!
//! Messages stand in chunks by UID. A new version of the image shares all chunks with the one before but those that
//! differ, so that the writer prepares the next version while readers go on with theirs, and a change that did not become
//! durable is undone by dropping it. Each chunk knows its highest MODSEQ and its UIDs, so that SELECT and the question what
//! has changed do not look at every message. How it fails: it does not; the caller has checked what it applies.

use crate::base::mailbox::ask::{FlagChange, Status};
use crate::base::mailbox::search::ZonedTime;
use crate::base::mailbox::{AccountId, ContentId, Flags, Keywords, MailboxId, ModSeq, Uid, UidSet};
use crate::base::time::WallTime;
use std::sync::Arc;

/// Messages of a chunk at most.
pub(super) const CHUNK_ROWS_MAX: usize = 256;
/// Expunges that are remembered one by one; before them the answer to what vanished is all UIDs that are not there.
const VANISHED_MAX: usize = 512;
/// Ranges of UIDs in them.
const VANISHED_RANGES_MAX: usize = 4096;

/// A message in a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub uid: Uid,
    /// East of UTC, of the internal date.
    pub zone_minutes: i16,
    /// Whether its last two octets are CRLF.
    pub ends_with_crlf: bool,
    pub flags: Flags,
    pub mod_seq: ModSeq,
    pub octets: u64,
    pub internal: WallTime,
    pub saved: WallTime,
    pub content: ContentId,
}

impl Row {
    pub fn internal_date(&self) -> ZonedTime {
        ZonedTime { at: self.internal, zone_minutes: self.zone_minutes }
    }
}

/// Messages with neighbouring UIDs, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    pub rows: Vec<Row>,
    pub uids: UidSet,
    pub mod_seq: ModSeq,
    /// Whether any may be without `\Seen`: false is certain.
    pub unseen: bool,
}

impl Chunk {
    pub fn new(rows: Vec<Row>) -> Chunk {
        let mut chunk = Chunk { rows, ..Chunk::default() };
        chunk.sum_up();
        chunk
    }

    fn sum_up(&mut self) {
        self.uids = self.rows.iter().map(|r| r.uid).collect();
        self.mod_seq = self.rows.iter().map(|r| r.mod_seq).max().unwrap_or(0);
        self.unseen = self.rows.iter().any(|r| !r.flags.contains(Flags::SEEN));
    }

    fn last(&self) -> Uid {
        self.rows.last().map_or(0, |r| r.uid)
    }
}

/// What is known of a mailbox without its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub account: AccountId,
    pub uid_validity: u32,
    pub uid_next: Uid,
    pub mod_seq: ModSeq,
    pub messages: u64,
    pub unseen: u64,
    pub deleted: u64,
    pub octets: u64,
    pub deleted_octets: u64,
    pub keywords: Keywords,
}

impl Meta {
    pub fn new(account: AccountId, uid_validity: u32) -> Meta {
        Meta {
            account,
            uid_validity,
            uid_next: 1,
            mod_seq: 1,
            messages: 0,
            unseen: 0,
            deleted: 0,
            octets: 0,
            deleted_octets: 0,
            keywords: Keywords::default(),
        }
    }

    pub fn status(&self, mailbox: MailboxId, recent: u64) -> Status {
        Status {
            mailbox,
            messages: self.messages,
            recent,
            unseen: self.unseen,
            deleted: self.deleted,
            octets: self.octets,
            deleted_octets: self.deleted_octets,
            uid_next: self.uid_next,
            uid_validity: self.uid_validity,
            mod_seq: self.mod_seq,
        }
    }

    fn count(&mut self, row: &Row) {
        self.messages += 1;
        self.octets += row.octets;
        self.unseen += u64::from(!row.flags.contains(Flags::SEEN));
        if row.flags.contains(Flags::DELETED) {
            self.deleted += 1;
            self.deleted_octets += row.octets;
        }
    }

    fn discount(&mut self, row: &Row) {
        self.messages -= 1;
        self.octets -= row.octets;
        self.unseen -= u64::from(!row.flags.contains(Flags::SEEN));
        if row.flags.contains(Flags::DELETED) {
            self.deleted -= 1;
            self.deleted_octets -= row.octets;
        }
    }
}

/// What was expunged, for sessions that were away (RFC 7162 §3.2.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Vanished {
    /// What was expunged by changes up to this one is not remembered in particular.
    pub floor: ModSeq,
    /// By which change, ascending, and what.
    pub sets: Vec<(ModSeq, UidSet)>,
}

impl Vanished {
    fn push(&mut self, mod_seq: ModSeq, uids: UidSet) {
        match self.sets.last_mut() {
            Some((last, set)) if *last == mod_seq => uids.ranges().iter().for_each(|r| set.insert_range(r.0, r.1)),
            _ => self.sets.push((mod_seq, uids)),
        }
        let mut ranges: usize = self.sets.iter().map(|(_, s)| s.ranges().len()).sum();
        let mut forgotten = 0;
        let mut left = self.sets.len();
        while left > VANISHED_MAX || ranges > VANISHED_RANGES_MAX {
            ranges -= self.sets[forgotten].1.ranges().len();
            self.floor = self.sets[forgotten].0;
            forgotten += 1;
            left -= 1;
        }
        self.sets.drain(..forgotten);
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub meta: Meta,
    pub vanished: Arc<Vanished>,
    /// By the lowest UID each may hold, which stays when that message goes.
    pub chunks: Vec<(Uid, Arc<Chunk>)>,
}

impl Image {
    pub fn new(meta: Meta) -> Image {
        Image { meta, vanished: Arc::default(), chunks: Vec::new() }
    }

    /// An image from its parts; the counts of `meta` are made anew.
    pub fn from_parts(mut meta: Meta, vanished: Vanished, chunks: Vec<(Uid, Arc<Chunk>)>) -> Image {
        (meta.messages, meta.unseen, meta.octets, meta.deleted, meta.deleted_octets) = (0, 0, 0, 0, 0);
        chunks.iter().flat_map(|(_, c)| &c.rows).for_each(|row| meta.count(row));
        Image { meta, vanished: Arc::new(vanished), chunks }
    }

    pub fn rows(&self) -> impl DoubleEndedIterator<Item = &Row> {
        self.chunks.iter().flat_map(|(_, c)| c.rows.iter())
    }

    /// Rows of these UIDs, ascending.
    pub fn rows_of<'a>(&'a self, uids: &'a UidSet) -> impl Iterator<Item = &'a Row> {
        uids.ranges().iter().flat_map(move |&(first, last)| self.rows_between(first, last))
    }

    fn rows_between(&self, first: Uid, last: Uid) -> impl Iterator<Item = &Row> {
        let from = self.chunk_of(first).unwrap_or(0);
        self.chunks[from.min(self.chunks.len())..].iter().take_while(move |(base, _)| *base <= last).flat_map(
            move |(_, c)| {
                let start = c.rows.partition_point(|r| r.uid < first);
                let end = c.rows.partition_point(|r| r.uid <= last);
                c.rows[start..end.max(start)].iter()
            },
        )
    }

    pub fn row(&self, uid: Uid) -> Option<&Row> {
        let (_, chunk) = &self.chunks[self.chunk_of(uid)?];
        chunk.rows.binary_search_by_key(&uid, |r| r.uid).ok().map(|i| &chunk.rows[i])
    }

    /// The chunk in which a UID stands if it is there.
    fn chunk_of(&self, uid: Uid) -> Option<usize> {
        self.chunks.partition_point(|(base, _)| *base <= uid).checked_sub(1)
    }

    /// All UIDs.
    pub fn uids(&self) -> UidSet {
        let mut all = UidSet::new();
        for range in self.chunks.iter().flat_map(|(_, c)| c.uids.ranges()) {
            all.insert_range(range.0, range.1);
        }
        all
    }

    /// UIDs from this one on.
    pub fn uids_from(&self, uid: Uid) -> UidSet {
        let mut all = UidSet::new();
        let from = self.chunk_of(uid).unwrap_or(0);
        for range in self.chunks[from.min(self.chunks.len())..].iter().flat_map(|(_, c)| c.uids.ranges()) {
            all.insert_range(range.0.max(uid), range.1);
        }
        all
    }

    pub fn first_unseen(&self) -> Option<Uid> {
        if self.meta.unseen == 0 {
            return None;
        }
        let chunks = self.chunks.iter().filter(|(_, c)| c.unseen);
        chunks.flat_map(|(_, c)| &c.rows).find(|r| !r.flags.contains(Flags::SEEN)).map(|r| r.uid)
    }

    /// Messages below `uid_next` whose flags changed after `since`.
    pub fn changed(&self, since: ModSeq, uid_next: Uid) -> Vec<FlagChange> {
        let chunks = self.chunks.iter().take_while(|(base, _)| *base < uid_next);
        let rows = chunks.filter(|(_, c)| c.mod_seq > since).flat_map(|(_, c)| c.rows.iter());
        rows.take_while(|r| r.uid < uid_next).filter(|r| r.mod_seq > since).map(change_of).collect()
    }

    /// Whether what was expunged after `since` is remembered one by one.
    pub fn remembers_vanished(&self, since: ModSeq) -> bool {
        since >= self.vanished.floor || since >= self.meta.mod_seq
    }

    /// UIDs below `uid_next` that were expunged after `since`. May name more where that is long ago.
    pub fn vanished(&self, since: ModSeq, uid_next: Uid) -> UidSet {
        let below = UidSet::range(1, uid_next.saturating_sub(1));
        if since < self.vanished.floor {
            return below.difference(&self.uids());
        }
        let mut gone = UidSet::new();
        let from = self.vanished.sets.partition_point(|(m, _)| *m <= since);
        for (first, last) in self.vanished.sets[from..].iter().flat_map(|(_, s)| s.ranges()) {
            gone.insert_range(*first, *last);
        }
        gone.intersection(&below)
    }

    /// Adds messages with ascending UIDs, all higher than those that were ever there.
    pub fn add(&mut self, rows: &[Row]) {
        for row in rows {
            debug_assert!(row.uid >= self.meta.uid_next);
            self.meta.count(row);
            self.meta.uid_next = row.uid.saturating_add(1);
            self.meta.mod_seq = self.meta.mod_seq.max(row.mod_seq);
            match self.chunks.last_mut() {
                Some((_, chunk)) if chunk.rows.len() < CHUNK_ROWS_MAX => {
                    let chunk = Arc::make_mut(chunk);
                    chunk.rows.push(*row);
                    chunk.uids.insert(row.uid);
                    chunk.mod_seq = chunk.mod_seq.max(row.mod_seq);
                    chunk.unseen |= !row.flags.contains(Flags::SEEN);
                }
                _ => self.chunks.push((row.uid, Arc::new(Chunk::new(vec![*row])))),
            }
        }
    }

    /// Sets the flags of messages.
    pub fn set_flags(&mut self, uids: &UidSet, flags: Flags, mod_seq: ModSeq) {
        self.meta.mod_seq = self.meta.mod_seq.max(mod_seq);
        for &(first, last) in uids.ranges() {
            let from = self.chunk_of(first).unwrap_or(0);
            for (_, chunk) in self.chunks.iter_mut().skip(from).take_while(|(base, _)| *base <= last) {
                let start = chunk.rows.partition_point(|r| r.uid < first);
                let end = chunk.rows.partition_point(|r| r.uid <= last);
                if start >= end {
                    continue;
                }
                let chunk = Arc::make_mut(chunk);
                chunk.mod_seq = chunk.mod_seq.max(mod_seq);
                for row in &mut chunk.rows[start..end] {
                    self.meta.discount(row);
                    row.flags = flags;
                    row.mod_seq = mod_seq;
                    self.meta.count(row);
                }
                chunk.unseen = chunk.rows.iter().any(|r| !r.flags.contains(Flags::SEEN));
            }
        }
    }

    /// Takes messages out and remembers that they are gone.
    pub fn expunge(&mut self, uids: &UidSet, mod_seq: ModSeq) -> Vec<ContentId> {
        self.meta.mod_seq = self.meta.mod_seq.max(mod_seq);
        let mut contents = Vec::new();
        let mut emptied = false;
        for &(first, last) in uids.ranges() {
            let from = self.chunk_of(first).unwrap_or(0);
            for (_, chunk) in self.chunks.iter_mut().skip(from).take_while(|(base, _)| *base <= last) {
                let start = chunk.rows.partition_point(|r| r.uid < first);
                let end = chunk.rows.partition_point(|r| r.uid <= last);
                if start >= end {
                    continue;
                }
                let chunk = Arc::make_mut(chunk);
                for row in chunk.rows.drain(start..end) {
                    self.meta.discount(&row);
                    contents.push(row.content);
                }
                chunk.sum_up();
                emptied |= chunk.rows.len() < CHUNK_ROWS_MAX / 4;
            }
        }
        if emptied {
            self.join_small();
        }
        Arc::make_mut(&mut self.vanished).push(mod_seq, uids.clone());
        contents
    }

    /// Drops empty chunks and joins neighbours that have become small.
    fn join_small(&mut self) {
        let mut joined: Vec<(Uid, Arc<Chunk>)> = Vec::with_capacity(self.chunks.len());
        for (base, chunk) in self.chunks.drain(..) {
            match joined.last_mut() {
                _ if chunk.rows.is_empty() => {}
                Some((_, last)) if last.rows.len() + chunk.rows.len() <= CHUNK_ROWS_MAX / 2 => {
                    debug_assert!(last.last() < base);
                    let last = Arc::make_mut(last);
                    last.rows.extend_from_slice(&chunk.rows);
                    last.sum_up();
                }
                _ => joined.push((base, chunk)),
            }
        }
        self.chunks = joined;
    }
}

pub(super) fn change_of(row: &Row) -> FlagChange {
    FlagChange { uid: row.uid, flags: row.flags, mod_seq: row.mod_seq }
}
