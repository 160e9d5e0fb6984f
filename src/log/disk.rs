//! What the log wants from a file system, as a trait, and the real one.
//!
//! How it fails: every call returns the system's error; nothing is retried here but EINTR. A `sync_data` that failed
//! must not be repeated by the caller: the second one may succeed although the data is gone.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

/// A file system as the log uses it. Clones speak of the same one.
pub trait Disk: Clone + Send + 'static {
    /// An open file.
    type File: Send + Sync + 'static;

    /// Makes a directory and those above it; one that exists already is fine.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Makes a file for reading and writing; it must not exist.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Renames a file within its directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Names a file has.
    fn links(&self, file: &Self::File) -> io::Result<u64>;
    /// Writes parts one after the other at `offset`; may write less than all (never nothing of something).
    fn write_at(&self, file: &Self::File, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Reads at `offset`; less than asked at the end of the file.
    fn read_at(&self, file: &Self::File, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Makes the contents (and size) of a file durable.
    fn sync_data(&self, file: &Self::File) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
    /// Octets in a file.
    fn size(&self, file: &Self::File) -> io::Result<u64>;
    /// Octets an unprivileged writer could still allocate.
    fn free_octets(&self, directory: &Path) -> io::Result<u64>;
    /// Makes and locks a file until the handle is dropped; `WouldBlock` when another has it.
    fn lock(&self, path: &Path) -> io::Result<Self::File>;
    /// A number nobody outside can guess.
    fn unpredictable(&self) -> io::Result<u64>;
    /// Runs a job that may take long, beside the caller where the disk is real, at once where it is simulated.
    fn background(&self, job: Box<dyn FnOnce() + Send>);
}

/// Writes all parts at `offset`, however short the single writes are.
pub(crate) fn write_all_at<D: Disk>(
    disk: &D,
    file: &D::File,
    mut offset: u64,
    mut parts: &mut [IoSlice<'_>],
) -> io::Result<()> {
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match disk.write_at(file, offset, parts) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                offset += n as u64;
                IoSlice::advance_slices(&mut parts, n);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads until `into` is full or the file ends; returns how much.
pub(crate) fn read_full_at<D: Disk>(disk: &D, file: &D::File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < into.len() {
        match disk.read_at(file, offset + got as u64, &mut into[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// Parts the kernel takes in one call (IOV_MAX of Linux).
const PARTS_MAX: usize = 1024;

fn read_write() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600); // mail is private
    options
}

impl Disk for RealDisk {
    type File = File;

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        // Names that are not UTF-8 are not ours.
        std::fs::read_dir(directory)?
            .filter_map(|entry| entry.map(|e| e.file_name().into_string().ok()).transpose())
            .collect()
    }
    fn create(&self, path: &Path) -> io::Result<File> {
        read_write().create_new(true).open(path)
    }
    fn open(&self, path: &Path) -> io::Result<File> {
        read_write().open(path)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }
    fn links(&self, file: &File) -> io::Result<u64> {
        Ok(std::os::unix::fs::MetadataExt::nlink(&file.metadata()?))
    }
    fn write_at(&self, file: &File, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let parts = &parts[..parts.len().min(PARTS_MAX)];
        Ok(rustix::io::pwritev(file, parts, offset)?)
    }
    fn read_at(&self, file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(file, into, offset)
    }
    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }
    fn size(&self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }
    fn free_octets(&self, directory: &Path) -> io::Result<u64> {
        let v = rustix::fs::statvfs(directory)?;
        Ok(v.f_bavail.saturating_mul(v.f_frsize))
    }
    fn lock(&self, path: &Path) -> io::Result<File> {
        let file = read_write().create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(std::fs::TryLockError::Error(e)) => Err(e),
        }
    }
    fn unpredictable(&self) -> io::Result<u64> {
        let mut octets = [0; 8];
        File::open("/dev/urandom")?.read_exact(&mut octets)?;
        Ok(u64::from_le_bytes(octets))
    }
    fn background(&self, job: Box<dyn FnOnce() + Send>) {
        // Without a thread the work is done here: slower, but done.
        let slot = std::sync::Arc::new(parking_lot::Mutex::new(Some(job)));
        let theirs = slot.clone();
        let run = move |slot: &parking_lot::Mutex<Option<Box<dyn FnOnce() + Send>>>| {
            let job = slot.lock().take();
            if let Some(job) = job {
                job();
            }
        };
        let spawned = std::thread::Builder::new().name("log-segments".into()).spawn(move || run(&theirs));
        if spawned.is_err() {
            run(&slot);
        }
    }
}
