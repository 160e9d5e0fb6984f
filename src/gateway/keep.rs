//! What the policy remembers longer than the process lives, greylisting and reputation, as a file in the data directory: read
//! at the start, written now and then and at the end.
//!
//! Writing is atomic: a new file, synced, put in place of the old one. How it fails: a file that is torn or foreign is put
//! aside, said in the log, and everybody is new again; a file that cannot be written is said once until it can be.

use super::config::{Config, StartError};
use crate::policy::{Limits, Memory, MemorySize};
use crossbeam::channel::{self, RecvTimeoutError};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

/// The file's name in the data directory.
pub const FILE: &str = "policy-memory";

/// The memory of the policy, from the last run or empty.
pub(super) fn recall(config: &Config, secret: u64) -> Memory {
    let knobs = &config.settings.limits;
    let size = MemorySize { greylist: knobs.greylist_max, reputation: knobs.reputation_max };
    let path = path(config);
    let octets = match std::fs::read(&path) {
        Ok(octets) => octets,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Memory::new(size, secret),
        Err(error) => {
            tracing::error!(target: "policy", path = %path.display(), %error, "greylisting and reputation cannot be read; everybody is new");
            return Memory::new(size, secret);
        }
    };
    match Memory::restore(size, &octets) {
        Ok(memory) => {
            tracing::debug!(target: "policy", path = %path.display(), octets = octets.len(), "greylisting and reputation are back");
            memory
        }
        Err(error) => {
            let aside = path.with_extension("bad");
            let kept = std::fs::rename(&path, &aside).map_or("it is overwritten", |()| "it is kept beside");
            tracing::error!(target: "policy", path = %path.display(), aside = %aside.display(), error, kept, "greylisting and reputation cannot be used; everybody is new");
            Memory::new(size, secret)
        }
    }
}

fn path(config: &Config) -> PathBuf {
    config.settings.server.data.join(FILE)
}

/// The thread that writes.
pub(super) struct Keeper {
    end: channel::Sender<()>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Begins to write now and then.
    pub fn start(config: &Config, limits: Arc<Limits>) -> Result<Keeper, StartError> {
        let (end, ended) = channel::bounded::<()>(1);
        let (path, every) = (path(config), config.settings.limits.save_every);
        let thread = std::thread::Builder::new()
            .name("memory".into())
            .spawn(move || {
                let mut writer = Writer { path, limits, last: Vec::new(), failing: false };
                loop {
                    let over = ended.recv_timeout(every);
                    writer.write();
                    if over != Err(RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            })
            .map_err(|e| StartError(format!("cannot start a thread: {e}")))?;
        Ok(Keeper { end, thread })
    }

    /// Writes for the last time; nobody is judged any more.
    pub fn stop(self) {
        drop(self.end);
        if self.thread.join().is_err() {
            tracing::error!(target: "policy", "the thread that keeps greylisting and reputation panicked");
        }
    }
}

struct Writer {
    path: PathBuf,
    limits: Arc<Limits>,
    /// Checksum of what was written last: an idle server writes nothing.
    last: Vec<u8>,
    failing: bool,
}

impl Writer {
    fn write(&mut self) {
        let snapshot = self.limits.memory().snapshot();
        let sum = snapshot[snapshot.len().saturating_sub(16)..].to_vec();
        if sum == self.last || (self.last.is_empty() && !self.path.exists() && self.limits.memory().is_empty()) {
            return;
        }
        match replace(&self.path, &snapshot) {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(target: "policy", path = %self.path.display(), "greylisting and reputation are kept again");
                }
                self.last = sum;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(target: "policy", path = %self.path.display(), %error, "greylisting and reputation cannot be kept; a restart would forget what came since");
                }
            }
        }
    }
}

/// Puts a whole, synced file in place of the old one.
fn replace(path: &Path, octets: &[u8]) -> io::Result<()> {
    let next = path.with_extension("new");
    let mut file = File::create(&next)?;
    file.write_all(octets)?;
    file.sync_all()?;
    std::fs::rename(&next, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
