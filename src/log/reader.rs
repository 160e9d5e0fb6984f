//! Reading records beside the thread that writes the log.
//!
//! A reader shares the open files of the segments. A segment that is given back is marked *retired* before its file can
//! begin another life, and a reader looks at that mark after it has read: what it read while the mark was not set is what
//! stood there. How it fails: [`LogError::Damaged`] also for a record whose segment was given back; who keeps locations
//! looks the record up again, and it is damage only if it still stands there.

use super::LogError;
use super::disk::{Disk, read_full_at};
use super::record::{HEADER_OCTETS, Header, Location};
use super::segment::Name;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One life of a segment's file.
pub(super) struct Share<F> {
    pub file: F,
    pub mark: u64,
    retired: AtomicBool,
}

impl<F> Share<F> {
    pub fn new(file: F, mark: u64) -> Share<F> {
        Share { file, mark, retired: AtomicBool::new(false) }
    }
}

/// The segments that readers may use.
pub(super) struct Shares<F>(RwLock<BTreeMap<u32, Arc<Share<F>>>>);

impl<F> Default for Shares<F> {
    fn default() -> Self {
        Shares(RwLock::new(BTreeMap::new()))
    }
}

impl<F> Shares<F> {
    pub fn add(&self, number: u32, share: &Arc<Share<F>>) {
        self.0.write().insert(number, share.clone());
    }

    pub fn retire(&self, number: u32) {
        if let Some(share) = self.0.write().remove(&number) {
            share.retired.store(true, Ordering::SeqCst);
        }
    }

    fn find(&self, number: u32) -> Option<Arc<Share<F>>> {
        self.0.read().get(&number).cloned()
    }
}

/// Reads records on any thread. See the module.
pub struct LogReader<D: Disk> {
    disk: D,
    directory: PathBuf,
    shares: Arc<Shares<D::File>>,
}

impl<D: Disk> Clone for LogReader<D> {
    fn clone(&self) -> Self {
        LogReader { disk: self.disk.clone(), directory: self.directory.clone(), shares: self.shares.clone() }
    }
}

impl<D: Disk> LogReader<D> {
    pub(super) fn new(disk: D, directory: PathBuf, shares: Arc<Shares<D::File>>) -> LogReader<D> {
        LogReader { disk, directory, shares }
    }

    /// Reads a whole record and checks it: its payload.
    pub fn read(&self, at: Location) -> Result<Vec<u8>, LogError> {
        let (mut record, payload_at) = self.read_record(at)?;
        record.drain(..payload_at);
        Ok(record)
    }

    /// Reads a whole record and checks it: its octets, and where in them its payload begins.
    pub fn read_record(&self, at: Location) -> Result<(Vec<u8>, usize), LogError> {
        let share = self.shares.find(at.segment).ok_or(LogError::Damaged { at })?;
        let mut bytes = vec![0; HEADER_OCTETS + at.octets as usize];
        let got = self.fill(&share, at, 0, &mut bytes)?;
        let header = self.header(&share, at, &bytes[..got])?;
        if got != bytes.len() || crc32c::crc32c(&bytes[HEADER_OCTETS..]) != header.payload_crc {
            return Err(LogError::Damaged { at });
        }
        Ok((bytes, HEADER_OCTETS))
    }

    /// Reads a piece of a payload, at most `octets_max`; less only at its end. That the record stands there is checked,
    /// its checksum (which is over all of it) is not.
    pub fn read_piece(&self, at: Location, offset: u64, octets_max: usize) -> Result<Vec<u8>, LogError> {
        let share = self.shares.find(at.segment).ok_or(LogError::Damaged { at })?;
        let mut front = [0; HEADER_OCTETS];
        let got = self.fill(&share, at, 0, &mut front)?;
        self.header(&share, at, &front[..got])?;
        let left = usize::try_from(u64::from(at.octets).saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; octets_max.min(left)];
        let wanted = bytes.len();
        let got = self.fill(&share, at, HEADER_OCTETS as u64 + offset, &mut bytes)?;
        if got != wanted {
            return Err(LogError::Damaged { at });
        }
        Ok(bytes)
    }

    /// Reads at an offset from the record's header, and makes sure that the file was not given back meanwhile.
    fn fill(&self, share: &Share<D::File>, at: Location, offset: u64, into: &mut [u8]) -> Result<usize, LogError> {
        let failed = |e: io::Error| LogError::disk("reading", &Name::Segment(at.segment).path(&self.directory), &e);
        let got = read_full_at(&self.disk, &share.file, u64::from(at.offset) + offset, into).map_err(failed)?;
        if share.retired.load(Ordering::SeqCst) {
            return Err(LogError::Damaged { at });
        }
        Ok(got)
    }

    fn header(&self, share: &Share<D::File>, at: Location, bytes: &[u8]) -> Result<Header, LogError> {
        Header::decode(bytes).filter(|h| h.mark == share.mark && h.location() == at).ok_or(LogError::Damaged { at })
    }
}

impl<D: Disk> std::fmt::Debug for LogReader<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader").field("directory", &self.directory).finish_non_exhaustive()
    }
}
