//! The segmented append-only log: append, group commit, read, scan, drop, recover; over a [`Disk`] that tests can break.
//!
//! # How it lies on disk
//!
//! A directory holds segments `NNNNNNNN.seg` of fixed size, spare segments `NNNNNNNN.spare`, and body files
//! `<id>.body`. A segment was written full of zeros and synced before it is used, so that a commit changes no metadata:
//! one `pwritev` and one `fdatasync` for everything that waits. Page 0 is the header, then come batches. **A batch starts
//! on a 4 KiB page and is filled up to one**: a page that has been synced is never written again, so a torn write cannot
//! touch what was acknowledged before it, and the kernel never has to read a page in order to write a part of it.
//!
//! A record says where it stands (segment number, offset, start of its batch), its sequence, kind and id, and carries
//! two CRC32C, one over its header and one over its payload. What a recycled segment still holds from its former life
//! bears another mark and can never be mistaken: the mark is 64 random bits drawn for each life of a segment. For the
//! same reason mail that imitates a record is not taken for one when the scan has to find its footing after damage. The
//! header is durable before the file gets its segment name, and the name before anything in it is acknowledged.
//!
//! # What a commit costs
//!
//! One `pwritev` and one `fdatasync` whatever the batch (a test counts them; strace saw 2682 of each in a bench run). `benches/log.rs` measures it beside `raw`,
//! the same octets by one `pwrite` and `fdatasync` into a zero-written file. In one run on a loaded 2-core machine
//! (ext4, virtio, unoptimised build) a batch of 64 records of 10 KiB took 3.09 ms against 3.13 ms raw: at that size the
//! log is the disk. A batch of one took 3.6 ms against 1.7 ms, most of it other work for the same disk, the first
//! segments being written full of zeros among it. Bodies are not copied: a record is its front and the shared chunks of
//! its body, checksummed once when staged.
//!
//! # How it recovers
//!
//! The start of the batch in each record tells a torn tail from damage: everything before it was durable when the record
//! was written. An unreadable place before that is damage, reported loudly, and the scan goes on behind it; one after it
//! is the tail of a batch nobody was told about, and what stands behind it is dropped.
//!
//! An owner that asks for it ([`Log::write_maps`], [`Log::open_mapped`]) has the live records of each segment written down
//! beside it, in `NNNNNNNN.map`. Then opening reads what no map tells of; damage elsewhere is found when it is read.
//!
//! # How it fails
//!
//! A failed `pwritev` or `fdatasync` fails every append of its batch and is final for the segment: the kernel may have
//! thrown the dirty pages away and marked them clean, so a second sync would lie. The log seals the segment where it was
//! last durable, says so in the header of the next one, and goes on there; if there is no next one it refuses with
//! [`LogError::Disk`] until the disk gives one. Reading a damaged record returns [`LogError::Damaged`].

mod body;
mod disk;
pub mod fault;
#[allow(clippy::module_inception)] // the room is named for the thing in it
mod log;
mod map;
mod reader;
mod record;
mod scan;
mod segment;
#[cfg(test)]
mod tests;

pub use body::{BodyStore, DropList, FileBody};
pub use disk::{Disk, RealDisk};
pub use log::{Compacted, Log, LogCounters, LogOptions, Moving};
pub use map::FrontOf;
pub use reader::LogReader;
pub use record::{Location, RECORD_OVERHEAD_OCTETS};
pub use scan::{Damage, Recovered, Recovery, Torn};

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why the log could not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogError {
    /// Another process has the directory open.
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// The disk refused. Trying later may help; the same sync is never tried again.
    Disk {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What kind of error.
        kind: io::ErrorKind,
        /// What the system said.
        text: String,
    },
    /// The record does not fit into a segment; the caller should have used a body file.
    TooLarge {
        /// Octets of the payload.
        octets: u64,
        /// What would fit.
        octets_max: u64,
    },
    /// What is kept there is not what was written there.
    Damaged {
        /// Where.
        at: Location,
    },
    /// A file of the directory was written by a version that is not known here.
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl LogError {
    pub(crate) fn disk(doing: &'static str, path: &Path, error: &io::Error) -> LogError {
        LogError::Disk { doing, path: path.to_owned(), kind: error.kind(), text: error.to_string() }
    }

    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        matches!(self, LogError::Disk { kind: io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, .. })
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Locked { directory } => {
                write!(f, "{} is in use by another instance; stop it or use its socket", directory.display())
            }
            LogError::Disk { doing, path, text, .. } => write!(f, "{doing} {}: {text}", path.display()),
            LogError::TooLarge { octets, octets_max } => {
                write!(f, "a record of {octets} octets, expected at most {octets_max}")
            }
            LogError::Damaged { at } => write!(f, "the record at {at} is damaged on disk"),
            LogError::Version { path, found } => {
                write!(f, "{}: log version {found}, expected {}", path.display(), segment::VERSION)
            }
        }
    }
}

impl std::error::Error for LogError {}
