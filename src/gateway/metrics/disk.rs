//! A disk that measures how long its syncs take, around the real one.
//!
//! How it fails: as the disk it wraps; a failed sync is counted as well as returned.

use super::{Count, Histogram, WAITS_NS};
use crate::log::Disk;
use parking_lot::Mutex;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What syncing cost. A log may sync from its writer and from a thread beside it, so the counts are behind a lock that
/// is free compared with a sync.
#[derive(Debug)]
pub struct SyncMeter {
    meter: Mutex<(Histogram, Count)>,
}

impl Default for SyncMeter {
    fn default() -> Self {
        SyncMeter { meter: Mutex::new((Histogram::new(WAITS_NS), Count::default())) }
    }
}

impl SyncMeter {
    /// Times of syncs, and how many failed.
    pub fn read(&self) -> (super::Observed, u64) {
        let meter = self.meter.lock();
        (meter.0.read(), meter.1.read())
    }
}

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Metered<D> {
    disk: D,
    meter: Arc<SyncMeter>,
}

impl<D: Disk> Metered<D> {
    /// Measures `disk` into `meter`.
    pub fn new(disk: D, meter: Arc<SyncMeter>) -> Metered<D> {
        Metered { disk, meter }
    }
}

impl<D: Disk> Disk for Metered<D> {
    type File = D::File;

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.make_directory(path)
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }
    fn create(&self, path: &Path) -> io::Result<Self::File> {
        self.disk.create(path)
    }
    fn open(&self, path: &Path) -> io::Result<Self::File> {
        self.disk.open(path)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.link(from, to)
    }
    fn links(&self, file: &Self::File) -> io::Result<u64> {
        self.disk.links(file)
    }
    fn write_at(&self, file: &Self::File, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.disk.write_at(file, offset, parts)
    }
    fn read_at(&self, file: &Self::File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(file, offset, into)
    }
    fn sync_data(&self, file: &Self::File) -> io::Result<()> {
        let began = Instant::now();
        let result = self.disk.sync_data(file);
        let meter = self.meter.meter.lock();
        meter.0.observe_time(began.elapsed());
        meter.1.add(u64::from(result.is_err()));
        result
    }
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.disk.sync_directory(directory)
    }
    fn size(&self, file: &Self::File) -> io::Result<u64> {
        self.disk.size(file)
    }
    fn free_octets(&self, directory: &Path) -> io::Result<u64> {
        self.disk.free_octets(directory)
    }
    fn lock(&self, path: &Path) -> io::Result<Self::File> {
        self.disk.lock(path)
    }
    fn unpredictable(&self) -> io::Result<u64> {
        self.disk.unpredictable()
    }
    fn background(&self, job: Box<dyn FnOnce() + Send>) {
        self.disk.background(job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::RealDisk;

    #[test]
    fn syncs_are_timed() {
        let dir = tempfile::tempdir().unwrap();
        let meter = Arc::new(SyncMeter::default());
        let disk = Metered::new(RealDisk, meter.clone());
        let file = disk.create(&dir.path().join("f")).unwrap();
        disk.write_at(&file, 0, &[IoSlice::new(b"x")]).unwrap();
        disk.sync_data(&file).unwrap();
        let (times, failed) = meter.read();
        assert_eq!((times.count(), failed), (1, 0));
        assert!(times.sum > 0);
    }
}
