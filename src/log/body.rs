//! Bodies too large for a record: one file each, written as they stream in, durable before the record that names them.
//!
//! How it fails: every call returns [`LogError`]; a body whose write or sync failed is spoilt and can only be dropped.
//! Files nobody commits are removed when their last [`FileBody`] is dropped, or at the next start.

use super::LogError;
use super::disk::{Disk, read_full_at, write_all_at};
use crate::base::body::BodyFile;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Ids whose last handle was dropped, on whatever thread; the owner of the store takes them in.
pub type DropList = Arc<Mutex<Vec<u64>>>;

/// A handle on a body file. When the last clone goes, the store hears of it.
#[derive(Debug)]
pub struct FileBody {
    id: u64,
    path: PathBuf,
    dropped: DropList,
}

impl BodyFile for FileBody {
    fn id(&self) -> u64 {
        self.id
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }
}

impl Drop for FileBody {
    fn drop(&mut self) {
        self.dropped.lock().push(self.id);
    }
}

struct Entry<F> {
    file: F,
    octets: u64,
    /// Octets are durable.
    synced: bool,
    /// A write or sync failed.
    spoilt: bool,
    /// Durable records that name it.
    kept: u32,
    handles: u32,
}

/// The body files of a directory.
pub struct BodyStore<D: Disk> {
    disk: D,
    directory: PathBuf,
    open: HashMap<u64, Entry<D::File>>,
    dropped: DropList,
    names_synced: bool,
    octets: u64,
}

impl<D: Disk> BodyStore<D> {
    /// A store over the directory of a log. `kept` says how many live records name an id; when `sweep`, files that none
    /// names are removed (not after damage: the record that named them may be what was lost).
    pub fn open(
        disk: D,
        directory: &Path,
        kept: &dyn Fn(u64) -> u32,
        sweep: bool,
    ) -> Result<(BodyStore<D>, Vec<u64>), LogError> {
        let failed = |e: io::Error| LogError::disk("listing", directory, &e);
        let names = disk.list(directory).map_err(failed)?;
        let mut store = BodyStore {
            disk,
            directory: directory.to_owned(),
            open: HashMap::new(),
            dropped: DropList::default(),
            names_synced: true,
            octets: 0,
        };
        let mut orphans = Vec::new();
        for id in names.iter().filter_map(|n| u64::from_str_radix(n.strip_suffix(".body")?, 16).ok()) {
            let path = store.path(id);
            let kept = kept(id);
            if kept > 0 {
                let failed = |e: io::Error| LogError::disk("opening", &path, &e);
                let file = store.disk.open(&path).map_err(failed)?;
                let octets = store.disk.size(&file).map_err(failed)?;
                store.octets += octets;
                store.open.insert(id, Entry { file, octets, synced: true, spoilt: false, kept, handles: 0 });
            } else {
                orphans.push(id);
                if sweep {
                    store.disk.remove(&path).map_err(|e| LogError::disk("removing", &path, &e))?;
                }
            }
        }
        Ok((store, orphans))
    }

    fn path(&self, id: u64) -> PathBuf {
        self.directory.join(format!("{id:016x}.body"))
    }

    fn unknown(&self, id: u64) -> LogError {
        LogError::disk("finding", &self.path(id), &io::ErrorKind::NotFound.into())
    }

    /// Makes a file for a body. `id` must be new.
    pub fn begin(&mut self, id: u64) -> Result<(), LogError> {
        let path = self.path(id);
        let file = self.disk.create(&path).map_err(|e| LogError::disk("making", &path, &e))?;
        self.names_synced = false;
        self.open.insert(id, Entry { file, octets: 0, synced: false, spoilt: false, kept: 0, handles: 0 });
        Ok(())
    }

    /// Adds octets at the end.
    pub fn append(&mut self, id: u64, octets: &[u8]) -> Result<(), LogError> {
        let path = self.path(id);
        let missing = self.unknown(id);
        let entry = self.open.get_mut(&id).filter(|e| !e.spoilt && e.kept == 0).ok_or(missing)?;
        if let Err(e) = write_all_at(&self.disk, &entry.file, entry.octets, &mut [IoSlice::new(octets)]) {
            entry.spoilt = true;
            return Err(LogError::disk("writing", &path, &e));
        }
        entry.octets += octets.len() as u64;
        entry.synced = false;
        self.octets += octets.len() as u64;
        Ok(())
    }

    /// A handle; the file goes away with the last one unless a record keeps it.
    pub fn handle(&mut self, id: u64) -> Result<Arc<FileBody>, LogError> {
        let missing = self.unknown(id);
        let entry = self.open.get_mut(&id).ok_or(missing)?;
        entry.handles += 1;
        Ok(Arc::new(FileBody { id, path: self.path(id), dropped: self.dropped.clone() }))
    }

    /// Octets of a body.
    pub fn octets_of(&self, id: u64) -> Option<u64> {
        self.open.get(&id).map(|e| e.octets)
    }

    /// Octets of all bodies.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Makes a body's octets durable; its name is by [`BodyStore::sync_names`].
    pub fn sync(&mut self, id: u64) -> Result<(), LogError> {
        let path = self.path(id);
        let missing = self.unknown(id);
        let entry = self.open.get_mut(&id).filter(|e| !e.spoilt).ok_or(missing)?;
        if !entry.synced {
            if let Err(e) = self.disk.sync_data(&entry.file) {
                entry.spoilt = true; // a second sync could succeed without the data
                return Err(LogError::disk("syncing", &path, &e));
            }
            entry.synced = true;
        }
        Ok(())
    }

    /// Makes the names of all bodies durable.
    pub fn sync_names(&mut self) -> Result<(), LogError> {
        if !self.names_synced {
            let failed = |e: io::Error| LogError::disk("syncing", &self.directory, &e);
            self.disk.sync_directory(&self.directory).map_err(failed)?;
            self.names_synced = true;
        }
        Ok(())
    }

    /// A durable record names it now.
    pub fn keep(&mut self, id: u64) {
        if let Some(entry) = self.open.get_mut(&id) {
            entry.kept += 1;
        }
    }

    /// A record that named it is gone, or there will be none.
    pub fn give_up(&mut self, id: u64) {
        if let Some(entry) = self.open.get_mut(&id) {
            entry.kept = entry.kept.saturating_sub(1);
        }
        self.remove_if_idle(id);
    }

    /// Takes in handles that were dropped since.
    pub fn sweep(&mut self) {
        let ids = std::mem::take(&mut *self.dropped.lock());
        for id in ids {
            if let Some(entry) = self.open.get_mut(&id) {
                entry.handles = entry.handles.saturating_sub(1);
            }
            self.remove_if_idle(id);
        }
    }

    fn remove_if_idle(&mut self, id: u64) {
        if self.open.get(&id).is_some_and(|e| e.kept == 0 && e.handles == 0)
            && let Some(entry) = self.open.remove(&id)
        {
            self.octets -= entry.octets;
            // A file that stays is an orphan, and swept at the next start.
            let _ = self.disk.remove(&self.path(id));
        }
    }

    /// Reads at `offset`, at most `octets_max`; less only at the end.
    pub fn read(&self, id: u64, offset: u64, octets_max: usize) -> Result<Vec<u8>, LogError> {
        let entry = self.open.get(&id).ok_or_else(|| self.unknown(id))?;
        let left = usize::try_from(entry.octets.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut octets = vec![0; octets_max.min(left)];
        let failed = |e: io::Error| LogError::disk("reading", &self.path(id), &e);
        let got = read_full_at(&self.disk, &entry.file, offset, &mut octets).map_err(failed)?;
        octets.truncate(got);
        Ok(octets)
    }
}

impl<D: Disk> std::fmt::Debug for BodyStore<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BodyStore").field("files", &self.open.len()).field("octets", &self.octets).finish()
    }
}
