//! Segment files: their names, the header page, and the supply of zero-written and recycled spares.
//!
//! How it fails: a header page that is not whole reads as `None`; making a spare returns the disk's error and leaves no
//! half-made spare behind a restart (it is called `.new` until its zeros are durable).

use super::LogError;
use super::disk::{Disk, write_all_at};
use super::record::PAGE;
use crate::base::codec::{Reader, Writer};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Version of the layout.
pub(crate) const VERSION: u32 = 1;
const MAGIC: &[u8; 16] = b"gatepost log seg";
/// Sealed ends that fit into the header page, 15 octets each at most, with room for the rest.
pub(crate) const SEALS_MAX: usize = 256;

/// What a file of the directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Segment(u32),
    Spare(u32),
    New(u32),
    /// A segment of which neither header nor first record could be read; kept for the operator, never touched again.
    Damaged(u32),
    /// What is alive in a segment, see [`super::map`].
    Map(u32),
    /// One that is being written.
    NewMap(u32),
}

impl Name {
    pub fn parse(name: &str) -> Option<Name> {
        let (number, kind) = name.split_once('.')?;
        if number.len() != 8 || !number.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let number = u32::from_str_radix(number, 16).ok()?;
        match kind {
            "seg" => Some(Name::Segment(number)),
            "spare" => Some(Name::Spare(number)),
            "new" => Some(Name::New(number)),
            "damaged" => Some(Name::Damaged(number)),
            "map" => Some(Name::Map(number)),
            "newmap" => Some(Name::NewMap(number)),
            _ => None,
        }
    }

    pub fn path(self, directory: &Path) -> PathBuf {
        directory.join(match self {
            Name::Segment(n) => format!("{n:08x}.seg"),
            Name::Spare(n) => format!("{n:08x}.spare"),
            Name::New(n) => format!("{n:08x}.new"),
            Name::Damaged(n) => format!("{n:08x}.damaged"),
            Name::Map(n) => format!("{n:08x}.map"),
            Name::NewMap(n) => format!("{n:08x}.newmap"),
        })
    }
}

/// Page 0 of a segment, durable before the file gets its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// 64 random bits of this life of the file, repeated in every record.
    pub mark: u64,
    pub number: u32,
    /// Where earlier segments end, as far as their own records do not say it: the one before this (so that damage at
    /// its very end is noticed) and those that were sealed by a failed sync or after a torn batch.
    pub seals: BTreeMap<u32, u32>,
}

impl SegmentHeader {
    pub fn encode(&self) -> Vec<u8> {
        debug_assert!(self.seals.len() <= SEALS_MAX);
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.mark.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        let mut w = Writer(&mut out);
        w.varint(self.seals.len() as u64);
        for (number, end) in &self.seals {
            w.varint(u64::from(*number));
            w.varint(u64::from(*end));
        }
        debug_assert!(out.len() <= PAGE as usize);
        out.resize(PAGE as usize, 0);
        let crc = crc32c::crc32c(&out[20..]);
        out[16..20].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a page; the error is the version when it is not ours.
    pub fn decode(page: &[u8]) -> Result<Option<SegmentHeader>, u32> {
        let Some(page) = page.get(..PAGE as usize) else { return Ok(None) };
        let u32_at = |i: usize| u32::from_le_bytes([page[i], page[i + 1], page[i + 2], page[i + 3]]);
        if &page[..16] != MAGIC || u32_at(16) != crc32c::crc32c(&page[20..]) {
            return Ok(None);
        }
        if u32_at(20) != VERSION {
            return Err(u32_at(20));
        }
        let mark = u64::from(u32_at(24)) | u64::from(u32_at(28)) << 32;
        let mut r = Reader::new(&page[36..]);
        let seals = (|| {
            let mut seals = BTreeMap::new();
            for _ in 0..r.varint().ok()? {
                let number = u32::try_from(r.varint().ok()?).ok()?;
                seals.insert(number, u32::try_from(r.varint().ok()?).ok()?);
            }
            Some(seals)
        })();
        Ok(seals.map(|seals| SegmentHeader { mark, number: u32_at(32), seals }))
    }
}

/// Where a background job leaves what came of it.
type Outcome = Arc<Mutex<Option<Result<(), LogError>>>>;

/// Spare segments: recycled ones, and one made of zeros ahead of need.
pub(crate) struct Supply<D: Disk> {
    disk: D,
    directory: PathBuf,
    octets: u64,
    spares_max: usize,
    ready: Vec<u32>,
    making: Option<(u32, Outcome)>,
    /// Tells the background job that nobody waits any more.
    cancelled: Arc<AtomicBool>,
    next: u32,
}

impl<D: Disk> Supply<D> {
    /// `ready` are the numbers of spares found on disk, `next` a number above all of them.
    pub fn new(disk: D, directory: PathBuf, octets: u64, spares_max: usize, ready: Vec<u32>, next: u32) -> Supply<D> {
        Supply { disk, directory, octets, spares_max, ready, making: None, cancelled: Arc::default(), next }
    }

    /// Spares that can be taken at once.
    pub fn len(&self) -> usize {
        self.ready.len()
    }

    /// Starts making a spare when there is none.
    pub fn lead(&mut self) {
        if self.ready.is_empty() && self.making.is_none() {
            self.start();
        }
        self.gather();
    }

    fn start(&mut self) {
        let number = self.next;
        self.next += 1;
        let outcome = Outcome::default();
        let (disk, directory, octets, theirs) =
            (self.disk.clone(), self.directory.clone(), self.octets, outcome.clone());
        let cancelled = self.cancelled.clone();
        self.disk.background(Box::new(move || {
            let made = make_spare(&disk, &directory, number, octets, &cancelled);
            *theirs.lock() = Some(made);
        }));
        self.making = Some((number, outcome));
    }

    /// Takes in what the background job made; its error, if it failed.
    fn gather(&mut self) -> Option<LogError> {
        let (number, outcome) = self.making.as_ref()?;
        let number = *number;
        let result = outcome.lock().take()?;
        self.making = None;
        match result {
            Ok(()) => {
                self.ready.push(number);
                None
            }
            Err(e) => Some(e),
        }
    }

    /// A spare, waiting for one that is being made, or making one.
    pub fn take(&mut self) -> Result<Name, LogError> {
        loop {
            if let Some(number) = self.ready.pop() {
                return Ok(Name::Spare(number));
            }
            if self.making.is_none() {
                self.start();
            }
            if let Some(e) = self.gather() {
                return Err(e);
            }
            if self.making.is_some() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }

    /// Keeps a dead segment for reuse, or removes it when there are enough. The caller syncs the directory.
    pub fn recycle(&mut self, segment: Name, octets: u64) -> Result<(), LogError> {
        let from = segment.path(&self.directory);
        if octets == self.octets && self.ready.len() < self.spares_max {
            let number = self.next;
            self.next += 1;
            let to = Name::Spare(number).path(&self.directory);
            self.disk.rename(&from, &to).map_err(|e| LogError::disk("recycling", &from, &e))?;
            self.ready.push(number);
            return Ok(());
        }
        self.disk.remove(&from).map_err(|e| LogError::disk("removing", &from, &e))
    }
}

impl<D: Disk> Drop for Supply<D> {
    /// Waits for the background job, so that nothing touches the directory once its lock is gone.
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        while self.making.is_some() {
            if self.gather().is_none() && self.making.is_some() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }
}

/// Writes a file of zeros, makes it durable, and only then calls it a spare.
fn make_spare<D: Disk>(
    disk: &D,
    directory: &Path,
    number: u32,
    octets: u64,
    cancelled: &AtomicBool,
) -> Result<(), LogError> {
    let path = Name::New(number).path(directory);
    let made = write_zeros(disk, &path, octets, cancelled)
        .and_then(|()| disk.rename(&path, &Name::Spare(number).path(directory)))
        .map_err(|e| LogError::disk("making", &path, &e));
    if made.is_err() {
        let _ = disk.remove(&path); // a half-made one is of no use; recovery removes it if this fails too
    }
    made
}

/// Zeros are written in pieces, each synced, so that commits beside it never wait for all of it.
const PIECE_OCTETS: usize = 2 << 20;

fn write_zeros<D: Disk>(disk: &D, path: &Path, octets: u64, cancelled: &AtomicBool) -> io::Result<()> {
    // Asking first keeps a full disk from being written to its last octet at every attempt.
    if disk.free_octets(path.parent().unwrap_or(path))? < octets {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let file = disk.create(path)?;
    let zeros = vec![0u8; PIECE_OCTETS.min(usize::try_from(octets).unwrap_or(PIECE_OCTETS))];
    let mut at = 0;
    while at < octets {
        if cancelled.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let n = (octets - at).min(zeros.len() as u64);
        write_all_at(disk, &file, at, &mut [IoSlice::new(&zeros[..n as usize])])?;
        disk.sync_data(&file)?;
        at += n;
    }
    Ok(())
}
