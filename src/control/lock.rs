//! The data directory belongs to one server at a time: `DATA/lock`, locked with flock and holding the process id.
//!
//! The lock goes with the process, however it ends; the file stays. How it fails: [`LockError`] says who holds the
//! directory, or what the system refused.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Holds the data directory until dropped.
#[derive(Debug)]
pub struct DataLock {
    // Closing the file gives the lock up.
    _file: File,
}

/// Why the directory is not ours.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it.
    Held {
        /// The directory.
        dir: PathBuf,
        /// Its process id, when the file tells.
        pid: Option<u32>,
    },
    /// The system refused.
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Held { dir, pid: Some(pid) } => {
                write!(f, "the data directory {} is held by process {pid}", dir.display())
            }
            LockError::Held { dir, pid: None } => {
                write!(f, "the data directory {} is held by another process", dir.display())
            }
            LockError::Io { doing, path, error } => write!(f, "cannot {doing} {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for LockError {}

impl DataLock {
    /// Takes `dir`, which is made (mode 0700) when it is not there.
    pub fn take(dir: &Path) -> Result<DataLock, LockError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|error| LockError::Io { doing: "make the data directory", path: dir.to_owned(), error })?;
        DataLock::lock(dir, true)
    }

    /// Takes `dir` only if it is there, for commands on a stopped server's directory.
    pub fn take_existing(dir: &Path) -> Result<DataLock, LockError> {
        DataLock::lock(dir, false)
    }

    fn lock(dir: &Path, create: bool) -> Result<DataLock, LockError> {
        let path = dir.join("lock");
        let fail = |doing| {
            let path = path.clone();
            move |error| LockError::Io { doing, path, error }
        };
        if !create {
            // A directory without server never had a lock; one that is not there at all is a typing error.
            fs::metadata(dir).map_err(|error| LockError::Io { doing: "open", path: dir.to_owned(), error })?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(fail("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Only for the message.
                let _ = (&mut file).take(32).read_to_string(&mut text);
                return Err(LockError::Held { dir: dir.to_owned(), pid: text.trim().parse().ok() });
            }
            Err(TryLockError::Error(error)) => return Err(fail("lock")(error)),
        }
        let write =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        write.map_err(fail("write"))?;
        Ok(DataLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        assert!(DataLock::take_existing(&data).unwrap_err().to_string().starts_with("cannot open"));
        let lock = DataLock::take(&data).unwrap();
        let second = DataLock::take(&data).unwrap_err().to_string();
        let expected = format!("the data directory {} is held by process {}", data.display(), std::process::id());
        assert_eq!(second, expected);
        drop(lock);
        DataLock::take_existing(&data).unwrap();
    }

    #[test]
    fn a_file_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::write(&data, "x").unwrap();
        assert!(DataLock::take(&data).unwrap_err().to_string().starts_with("cannot make the data directory"));
    }
}
