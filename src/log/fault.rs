//! A disk in memory that breaks on command: power cuts, torn writes, failing syncs, a full file system, flipped bits,
//! short writes. Deterministic by its seed.
//!
//! It keeps two truths per file, what the page cache shows and what is durable, in sectors of 512 octets. A power cut
//! keeps of the unsynced sectors all, none, a prefix in order of offset, or any subset; and of the unsynced directory
//! changes a prefix (a journalling file system keeps their order). A failed sync throws the dirty sectors away and marks
//! them clean, as Linux does: a later sync succeeds without them.
//!
//! How it fails: as asked; after a power cut every call returns an error until [`FaultDisk::restart`].

use super::disk::Disk;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Octets that are written whole or not at all.
pub const SECTOR_OCTETS: usize = 512;

/// What a power cut keeps of a file's unsynced sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// All of them.
    All,
    /// None.
    None,
    /// Those below a random offset.
    Prefix,
    /// Each by a coin.
    Subset,
    /// One of the former, drawn for each file.
    Any,
}

#[derive(Default)]
struct Inode {
    cache: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

enum NameChange {
    Add(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

struct State {
    rng: fastrand::Rng,
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    changes: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    next: u64,
    epoch: u64,
    operations: u64,
    cut_at: Option<u64>,
    off: bool,
    fail_sync: BTreeSet<u64>,
    syncs: u64,
    capacity_octets: u64,
    short_writes: bool,
}

/// See the module. Clones speak of the same disk.
#[derive(Clone)]
pub struct FaultDisk(Arc<Mutex<State>>);

/// A file of a [`FaultDisk`].
#[derive(Debug)]
pub struct FaultFile {
    inode: u64,
    epoch: u64,
    lock: Option<(PathBuf, LockHolder)>,
}

struct LockHolder(Arc<Mutex<State>>);

impl std::fmt::Debug for LockHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LockHolder")
    }
}

impl Drop for FaultFile {
    fn drop(&mut self) {
        if let Some((path, LockHolder(state))) = self.lock.take() {
            let mut state = state.lock();
            if state.epoch == self.epoch {
                state.locks.remove(&path);
            }
        }
    }
}

impl std::fmt::Debug for FaultDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = self.0.lock();
        write!(f, "FaultDisk({} files, {} operations, off: {})", s.names.len(), s.operations, s.off)
    }
}

impl FaultDisk {
    /// An empty disk without faults.
    pub fn new(seed: u64) -> FaultDisk {
        FaultDisk(Arc::new(Mutex::new(State {
            rng: fastrand::Rng::with_seed(seed),
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            locks: BTreeSet::new(),
            next: 1,
            epoch: 0,
            operations: 0,
            cut_at: None,
            off: false,
            fail_sync: BTreeSet::new(),
            syncs: 0,
            capacity_octets: u64::MAX,
            short_writes: false,
        })))
    }

    /// Changing operations (create, rename, remove, write, sync) so far.
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Cuts the power in the middle of the `n`-th changing operation from now: a write is in the cache, a sync has
    /// written nothing yet.
    pub fn cut_power_after(&self, n: u64) {
        let mut s = self.0.lock();
        s.cut_at = Some(s.operations + n);
    }

    /// Cuts the power now.
    pub fn cut_power(&self) {
        self.0.lock().off = true;
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.0.lock().off
    }

    /// Makes the `n`-th sync from now fail and lose what it was to write.
    pub fn fail_sync_after(&self, n: u64) {
        let mut s = self.0.lock();
        let at = s.syncs + n;
        s.fail_sync.insert(at);
    }

    /// Sets how much fits.
    pub fn set_capacity(&self, octets: u64) {
        self.0.lock().capacity_octets = octets;
    }

    /// Octets allocated.
    pub fn used_octets(&self) -> u64 {
        self.0.lock().used()
    }

    /// Makes writes shorter than asked, at random.
    pub fn set_short_writes(&self, on: bool) {
        self.0.lock().short_writes = on;
    }

    /// Power back on: only what was durable, and of the rest what `survival` says, is there. Old handles are void.
    pub fn restart(&self, survival: Survival) {
        let mut guard = self.0.lock();
        let s = &mut *guard;
        let kept = s.rng.usize(0..=s.changes.len());
        let changes = std::mem::take(&mut s.changes);
        for change in changes.into_iter().take(kept) {
            change.apply(&mut s.durable_names);
        }
        for inode in s.inodes.values_mut() {
            inode.crash(survival, &mut s.rng);
        }
        s.names = s.durable_names.clone();
        s.drop_unnamed();
        s.locks.clear();
        s.epoch += 1;
        s.off = false;
        s.cut_at = None;
        s.fail_sync.clear();
    }

    /// Paths of all files, sorted.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.lock().names.keys().cloned().collect()
    }

    /// Flips one bit of a file, in cache and on disk.
    pub fn flip_bit(&self, path: &Path, offset: usize, bit: u8) {
        let mut s = self.0.lock();
        let Some(inode) = s.names.get(path).copied() else { return };
        if let Some(inode) = s.inodes.get_mut(&inode) {
            for side in [&mut inode.cache, &mut inode.durable] {
                if let Some(octet) = side.get_mut(offset) {
                    *octet ^= 1 << (bit & 7);
                }
            }
        }
    }

    /// What the cache shows of a file.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let s = self.0.lock();
        Some(s.inodes.get(s.names.get(path)?)?.cache.clone())
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameChange::Add(path, inode) => {
                names.insert(path, inode);
            }
            NameChange::Remove(path) => {
                names.remove(&path);
            }
            NameChange::Rename(from, to) => {
                if let Some(inode) = names.remove(&from) {
                    names.insert(to, inode);
                }
            }
        }
    }
}

impl Inode {
    /// Moves a sector from the cache to the durable side.
    fn persist(&mut self, sector: usize) {
        let start = sector * SECTOR_OCTETS;
        let end = (start + SECTOR_OCTETS).min(self.cache.len());
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[start..end].copy_from_slice(&self.cache[start..end]);
    }

    fn crash(&mut self, survival: Survival, rng: &mut fastrand::Rng) {
        let survival = match survival {
            Survival::Any => {
                *rng.choice(&[Survival::All, Survival::None, Survival::Prefix, Survival::Subset]).unwrap_or(&survival)
            }
            other => other,
        };
        let dirty: Vec<usize> = std::mem::take(&mut self.dirty).into_iter().collect();
        let prefix = rng.usize(0..=dirty.len());
        for (i, sector) in dirty.into_iter().enumerate() {
            let keep = match survival {
                Survival::All | Survival::Any => true,
                Survival::None => false,
                Survival::Prefix => i < prefix,
                Survival::Subset => rng.bool(),
            };
            if keep {
                self.persist(sector);
            }
        }
        self.cache.clone_from(&self.durable);
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl State {
    /// Counts a changing operation; an error once the power is off. True in the one during which it goes.
    fn step(&mut self) -> io::Result<bool> {
        if self.off {
            return Err(power_is_off());
        }
        self.operations += 1;
        if self.cut_at.is_some_and(|at| self.operations >= at) {
            self.off = true;
        }
        Ok(self.off)
    }

    fn done<T>(&self, cut: bool, value: T) -> io::Result<T> {
        if cut { Err(power_is_off()) } else { Ok(value) }
    }

    fn used(&self) -> u64 {
        self.names.values().filter_map(|n| self.inodes.get(n)).map(|i| i.cache.len() as u64).sum()
    }

    fn inode(&mut self, file: &FaultFile) -> io::Result<&mut Inode> {
        if self.off || file.epoch != self.epoch {
            return Err(power_is_off());
        }
        self.inodes.get_mut(&file.inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for FaultDisk {
    type File = FaultFile;

    fn make_directory(&self, _path: &Path) -> io::Result<()> {
        if self.0.lock().off { Err(power_is_off()) } else { Ok(()) }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let s = self.0.lock();
        if s.off {
            return Err(power_is_off());
        }
        let inside = s.names.keys().filter(|p| p.parent() == Some(directory));
        Ok(inside.filter_map(|p| p.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn create(&self, path: &Path) -> io::Result<FaultFile> {
        let mut s = self.0.lock();
        let cut = s.step()?;
        if s.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = s.next;
        s.next += 1;
        s.inodes.insert(inode, Inode::default());
        s.names.insert(path.to_owned(), inode);
        s.changes.push(NameChange::Add(path.to_owned(), inode));
        let epoch = s.epoch;
        s.done(cut, FaultFile { inode, epoch, lock: None })
    }

    fn open(&self, path: &Path) -> io::Result<FaultFile> {
        let s = self.0.lock();
        if s.off {
            return Err(power_is_off());
        }
        let inode = *s.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(FaultFile { inode, epoch: s.epoch, lock: None })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut s = self.0.lock();
        let cut = s.step()?;
        s.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        s.changes.push(NameChange::Remove(path.to_owned()));
        s.done(cut, ())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut s = self.0.lock();
        let cut = s.step()?;
        if !s.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = || NameChange::Rename(from.to_owned(), to.to_owned());
        change().apply(&mut s.names);
        s.changes.push(change());
        s.done(cut, ())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut s = self.0.lock();
        let cut = s.step()?;
        let inode = *s.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        if s.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        s.names.insert(to.to_owned(), inode);
        s.changes.push(NameChange::Add(to.to_owned(), inode));
        s.done(cut, ())
    }

    fn links(&self, file: &FaultFile) -> io::Result<u64> {
        let s = self.0.lock();
        if s.off || file.epoch != s.epoch {
            return Err(power_is_off());
        }
        Ok(s.names.values().filter(|inode| **inode == file.inode).count() as u64)
    }

    fn write_at(&self, file: &FaultFile, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut s = self.0.lock();
        let cut = s.step()?;
        let mut data = Vec::with_capacity(parts.iter().map(|p| p.len()).sum());
        parts.iter().for_each(|p| data.extend_from_slice(p));
        if s.short_writes && data.len() > 1 && s.rng.bool() {
            let n = s.rng.usize(1..data.len());
            data.truncate(n);
        }
        let room = s.capacity_octets.saturating_sub(s.used());
        let inode = s.inode_even_off(file)?;
        let offset = offset as usize;
        let grows = (offset + data.len()).saturating_sub(inode.cache.len()) as u64;
        if grows > room {
            let fits = data.len().saturating_sub((grows - room) as usize);
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            data.truncate(fits);
        }
        let end = offset + data.len();
        if inode.cache.len() < end {
            inode.cache.resize(end, 0);
        }
        inode.cache[offset..end].copy_from_slice(&data);
        if !data.is_empty() {
            inode.dirty.extend(offset / SECTOR_OCTETS..=(end - 1) / SECTOR_OCTETS);
        }
        s.done(cut, data.len())
    }

    fn read_at(&self, file: &FaultFile, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut s = self.0.lock();
        let inode = s.inode(file)?;
        let rest = inode.cache.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(into.len());
        into[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn sync_data(&self, file: &FaultFile) -> io::Result<()> {
        let mut s = self.0.lock();
        let cut = s.step()?;
        s.syncs += 1;
        let syncs = s.syncs;
        let fails = s.fail_sync.remove(&syncs);
        if cut {
            return Err(power_is_off());
        }
        let inode = s.inode_even_off(file)?;
        let dirty = std::mem::take(&mut inode.dirty);
        if fails {
            return Err(io::Error::from_raw_os_error(5)); // EIO; the dirty sectors are gone
        }
        dirty.into_iter().for_each(|sector| inode.persist(sector));
        Ok(())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let mut s = self.0.lock();
        let cut = s.step()?;
        s.syncs += 1;
        let syncs = s.syncs;
        if s.fail_sync.remove(&syncs) {
            return Err(io::Error::from_raw_os_error(5)); // EIO; the journal still has the changes
        }
        if cut {
            return Err(power_is_off());
        }
        let _ = directory; // one journal for all of them
        let changes = std::mem::take(&mut s.changes);
        for change in changes {
            change.apply(&mut s.durable_names);
        }
        s.drop_unnamed();
        Ok(())
    }

    fn size(&self, file: &FaultFile) -> io::Result<u64> {
        Ok(self.0.lock().inode(file)?.cache.len() as u64)
    }

    fn free_octets(&self, _directory: &Path) -> io::Result<u64> {
        let s = self.0.lock();
        if s.off { Err(power_is_off()) } else { Ok(s.capacity_octets.saturating_sub(s.used())) }
    }

    fn lock(&self, path: &Path) -> io::Result<FaultFile> {
        let mut s = self.0.lock();
        if s.off {
            return Err(power_is_off());
        }
        if !s.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let lock = Some((path.to_owned(), LockHolder(self.0.clone())));
        Ok(FaultFile { inode: 0, epoch: s.epoch, lock })
    }

    fn unpredictable(&self) -> io::Result<u64> {
        Ok(self.0.lock().rng.u64(..))
    }

    fn background(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }
}

impl State {
    /// Forgets files that no name leads to, when no directory change is open that could bring one back.
    fn drop_unnamed(&mut self) {
        let alive: BTreeSet<u64> = self.names.values().chain(self.durable_names.values()).copied().collect();
        self.inodes.retain(|n, _| alive.contains(n));
    }

    /// The inode for the operation during which the power goes.
    fn inode_even_off(&mut self, file: &FaultFile) -> io::Result<&mut Inode> {
        if file.epoch != self.epoch {
            return Err(power_is_off());
        }
        self.inodes.get_mut(&file.inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
