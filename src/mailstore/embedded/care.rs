//! What an operator does with a store: back it up while it serves, verify the index against the log and every message
//! against its checksum, make the index anew, compact all of it.
//!
//! How it fails: [`MailstoreError`]; a backup that failed leaves a directory that must be removed. Differences are told,
//! never mended unless asked.

use super::catalog::Catalog;
use super::clock::Clock;
use super::image::Image;
use super::index::Index;
use super::octets::path_of;
use super::recover::{self, Reading};
use super::texts;
use super::writer::EmbeddedWriter;
use crate::base::mailbox::{AccountId, ContentId, MailboxId};
use crate::log::{Disk, LogError, RealDisk};
use crate::mailstore::{BackedUp, MailWriter, MailboxKnobs, MailstoreError};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Differences that are told one by one.
const DIFFERENCES_MAX: usize = 100;
/// Octets that one step of compaction moves.
const STEP_OCTETS: u64 = 16 << 20;

/// What verifying found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Messages whose octets were read and are as they were written.
    pub contents: u64,
    /// Messages whose octets are missing or damaged.
    pub contents_damaged: Vec<ContentId>,
    /// Where the index says something else than the log; the first hundred.
    pub differences: Vec<String>,
    /// Whether the log itself is damaged.
    pub log_damaged: bool,
    /// Whether the index was made anew.
    pub repaired: bool,
}

impl Verified {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.contents_damaged.is_empty() && self.differences.is_empty() && !self.log_damaged
    }
}

/// What compacting brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Segments before.
    pub segments_before: u64,
    /// Segments after.
    pub segments_after: u64,
}

/// Verifies a store that nobody has open: the index against what the log says, and every message against its checksum.
/// `progress` hears how many of how many messages were read. With `repair` an index that differs is made anew.
pub fn verify(
    directory: &Path,
    knobs: MailboxKnobs,
    repair: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verified, MailstoreError> {
    let index = directory.join("index.sqlite");
    let beside = directory.join("verify.sqlite");
    verify_on(RealDisk, directory, (&index, &beside), knobs, repair, progress)
}

fn verify_on<D: Disk + Sync>(
    disk: D,
    directory: &Path,
    (index, beside): (&Path, &Path),
    knobs: MailboxKnobs,
    repair: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verified, MailstoreError> {
    // First the index is told what a crash kept from it: that is no difference.
    drop(recover::open(disk.clone(), directory, index, knobs.clone(), Clock::system(), Reading::New)?);
    Index::remove(beside)?;
    let (writer, opened) = recover::open(disk, directory, beside, knobs, Clock::system(), Reading::All)?;
    let mut found = Verified { log_damaged: opened.is_damaged(), ..Verified::default() };
    let (expected, held) = (state(&writer.index, beside)?, state(&Index::open_reader(index)?, index));
    match held {
        Ok(held) => expected.compare(&held, &mut found.differences),
        Err(e) => found.differences.push(e.to_string()),
    }
    read_contents(&writer, &mut found, progress);
    let repaired = repair && !found.differences.is_empty();
    if repaired {
        Index::remove(index)?; // the next open makes it anew
    }
    found.repaired = repaired;
    drop(writer);
    Index::remove(&texts::path_of(beside))?;
    Index::remove(beside)?;
    Ok(found)
}

fn read_contents<D: Disk + Sync>(writer: &EmbeddedWriter<D>, found: &mut Verified, progress: &mut dyn FnMut(u64, u64)) {
    let mut ids: Vec<ContentId> = writer.shared.contents.read().keys().copied().collect();
    ids.sort_unstable();
    let all = ids.len() as u64;
    for (at, id) in ids.into_iter().enumerate() {
        match writer.shared.read_all(id) {
            Ok(_) => found.contents += 1,
            Err(_) => found.contents_damaged.push(id),
        }
        progress(at as u64 + 1, all);
    }
}

/// What an index says.
struct State {
    catalogs: BTreeMap<AccountId, Catalog>,
    mailboxes: BTreeMap<MailboxId, Image>,
}

fn state(index: &Index, path: &Path) -> Result<State, MailstoreError> {
    let error = |e: rusqlite::Error| MailstoreError::Index { path: path.to_owned(), text: e.to_string() };
    let mut mailboxes = BTreeMap::new();
    for (id, _, _) in index.mailboxes().map_err(error)? {
        mailboxes.extend(index.image(id).map_err(error)?.map(|image| (id, image)));
    }
    Ok(State { catalogs: index.catalogs().map_err(error)?.into_iter().collect(), mailboxes })
}

impl State {
    fn compare(&self, held: &State, differences: &mut Vec<String>) {
        let mut differs = |text: String| {
            if differences.len() < DIFFERENCES_MAX {
                differences.push(text);
            }
        };
        let accounts: std::collections::BTreeSet<_> = self.catalogs.keys().chain(held.catalogs.keys()).collect();
        for id in accounts {
            match (self.catalogs.get(id), held.catalogs.get(id)) {
                (Some(a), Some(b)) if a == b => {}
                (Some(a), Some(_)) => differs(format!("account {}: other mailboxes or subscriptions", a.name)),
                (Some(a), None) => differs(format!("account {}: missing", a.name)),
                (None, _) => differs(format!("account {}: not in the log", id.0)),
            }
        }
        let mailboxes: std::collections::BTreeSet<_> = self.mailboxes.keys().chain(held.mailboxes.keys()).collect();
        for id in mailboxes {
            match (self.mailboxes.get(id), held.mailboxes.get(id)) {
                (Some(a), Some(b)) => {
                    a.compare(b).into_iter().for_each(|what| differs(format!("mailbox {}: {what}", id.0)))
                }
                (Some(_), None) => differs(format!("mailbox {}: missing", id.0)),
                (None, _) => differs(format!("mailbox {}: not in the log", id.0)),
            }
        }
    }
}

impl Image {
    /// How another image differs; how messages are put into chunks does not matter.
    fn compare(&self, other: &Image) -> Vec<String> {
        let mut all = Vec::new();
        if self.meta != other.meta {
            all.push(format!("expected {:?}, found {:?}", self.meta, other.meta));
        }
        if self.vanished != other.vanished {
            all.push("another memory of what was expunged".to_owned());
        }
        let first = self.rows().zip(other.rows()).find(|(a, b)| a != b);
        all.extend(first.map(|(a, b)| format!("message {}: expected {a:?}, found {b:?}", a.uid)));
        all
    }
}

/// Compacts a store that nobody has open: everything expunged gives its room back. `progress` hears how many segments
/// there are.
pub fn compact(
    directory: &Path,
    mut knobs: MailboxKnobs,
    progress: &mut dyn FnMut(u64),
) -> Result<Compacted, MailstoreError> {
    knobs.expunged_grace = Duration::ZERO;
    knobs.compact_below_percent = 90;
    let index = directory.join("index.sqlite");
    // Opening gives back what is dead already.
    let segments_before = segments(directory)?;
    let (mut writer, _) = recover::open(RealDisk, directory, &index, knobs, Clock::system(), Reading::New)?;
    let mut left = segments_before * 4 + 16; // each step empties about one; a limit all the same
    while writer.tidy(STEP_OCTETS) && left > 0 {
        left -= 1;
        progress(writer.log.counters().segments);
    }
    Ok(Compacted { segments_before, segments_after: writer.log.counters().segments })
}

/// Segments in use, as the directory has them.
fn segments(directory: &Path) -> Result<u64, MailstoreError> {
    let log = directory.join("log");
    let failed = |e: std::io::Error| MailstoreError::File { doing: "reading", path: log.clone(), text: e.to_string() };
    let entries = std::fs::read_dir(&log).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    Ok(entries.iter().filter(|e| e.path().extension().is_some_and(|x| x == "seg")).count() as u64)
}

impl<D: Disk + Sync> EmbeddedWriter<D> {
    /// The log, and the files of large messages; the index is made anew by whoever opens it.
    pub(super) fn back_up(&mut self, directory: &Path) -> Result<BackedUp, MailstoreError> {
        debug_assert!(self.ops.is_empty(), "what is staged is committed before a backup");
        let disk = &self.shared.disk;
        let failed = |doing, path: &Path, e: &std::io::Error| {
            MailstoreError::from(LogError::Disk { doing, path: path.to_owned(), kind: e.kind(), text: e.to_string() })
        };
        if disk.list(directory).is_ok_and(|names| !names.is_empty()) {
            return Err(MailstoreError::Exists { path: directory.to_owned() });
        }
        let bodies = directory.join("bodies");
        disk.make_directory(&bodies).map_err(|e| failed("making", &bodies, &e))?;
        let mut done = BackedUp { octets_copied: self.log.copy_to(&directory.join("log"))?, body_files: 0 };
        let large: Vec<ContentId> = {
            let contents = self.shared.contents.read();
            contents.iter().filter(|(_, c)| c.in_file.is_some()).map(|(id, _)| *id).collect()
        };
        for id in large {
            let (from, to) = (path_of(&self.shared.bodies, id), path_of(&bodies, id));
            if disk.link(&from, &to).is_err() {
                let copied = self.copy_file(&from, &to).and_then(|file| {
                    disk.sync_data(&file)?;
                    disk.size(&file)
                });
                done.octets_copied += copied.map_err(|e| failed("copying to", &to, &e))?;
            }
            done.body_files += 1;
        }
        for path in [bodies.as_path(), directory] {
            disk.sync_directory(path).map_err(|e| failed("syncing", path, &e))?;
        }
        Ok(done)
    }
}
