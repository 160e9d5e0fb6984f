//! A file that is always replaced as a whole: what `accounts` and `addresses` have in common.
//!
//! It is replaced by write to `NAME.new`, fsync, rename and fsync of the directory, all under `NAME.lock`; a crash leaves
//! the old file or the new one. A reader notices a change by inode and times. How it fails: [`FileError`] with what was
//! tried on which path; nothing is replaced then.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// How long a change waits for another process's change, which takes milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// What went wrong with a file.
#[derive(Debug)]
pub enum FileError {
    /// The system refused; a retry helps when its cause is gone.
    Io {
        /// What was tried, such as `read`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Another process holds the lock.
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// It is no file of ours.
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was expected.
        what: String,
    },
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Io { doing, path, source } => write!(f, "cannot {doing} {}: {source}", path.display()),
            FileError::Locked { path } => {
                write!(f, "{} is locked by another process that changes it; try again when it is done", path.display())
            }
            FileError::Foreign { path, what } => write!(f, "{}: {what}", path.display()),
        }
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            FileError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// By what a changed file is noticed. Renaming gives a new inode; editing in place gives new times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    device: u64,
    inode: u64,
    octets: u64,
    modified_ns: (i64, i64),
    changed_ns: (i64, i64),
}

impl Signature {
    fn of(meta: &fs::Metadata) -> Signature {
        Signature {
            device: meta.dev(),
            inode: meta.ino(),
            octets: meta.len(),
            modified_ns: (meta.mtime(), meta.mtime_nsec()),
            changed_ns: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// Whether others may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrecy {
    /// They may not, and the operator hears when they can.
    Secret,
    /// It does not matter.
    Open,
}

/// Proof that the lock is held; dropping it lets go.
#[derive(Debug)]
pub(super) struct Locked {
    _file: File,
}

/// The file's place.
#[derive(Debug)]
pub(super) struct ReplacedFile {
    dir: PathBuf,
    name: &'static str,
    path: PathBuf,
    octets_max: u64,
    secrecy: Secrecy,
}

impl ReplacedFile {
    /// `dir/name`. Makes `dir` (mode 0700) when it does not exist.
    pub fn new(dir: &Path, name: &'static str, octets_max: u64, secrecy: Secrecy) -> Result<ReplacedFile, FileError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|source| FileError::Io { doing: "make the directory", path: dir.to_owned(), source })?;
        Ok(ReplacedFile { dir: dir.to_owned(), name, path: dir.join(name), octets_max, secrecy })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn io(&self, doing: &'static str) -> impl FnOnce(std::io::Error) -> FileError {
        let path = self.path.clone();
        move |source| FileError::Io { doing, path, source }
    }

    /// The file as it is now; `None` when there is none.
    pub fn signature(&self) -> Option<Signature> {
        fs::metadata(&self.path).ok().map(|meta| Signature::of(&meta))
    }

    /// Reads all of it; `None` when there is none.
    pub fn load(&self) -> Result<Option<(Signature, Zeroizing<String>)>, FileError> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.io("open")(e)),
        };
        let meta = file.metadata().map_err(self.io("read"))?;
        if !meta.is_file() || meta.len() > self.octets_max {
            let what = format!("expected a regular file of at most {} octets", self.octets_max);
            return Err(FileError::Foreign { path: self.path.clone(), what });
        }
        if self.secrecy == Secrecy::Secret && meta.permissions().mode() & 0o077 != 0 {
            tracing::warn!("{} can be read by other users; run chmod 600 on it", self.path.display());
        }
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(self.io("read"))?;
        Ok(Some((Signature::of(&meta), text)))
    }

    /// Waits for the lock, not for ever.
    pub fn lock(&self) -> Result<Locked, FileError> {
        let path = self.dir.join(format!("{}.lock", self.name));
        let io = |source| FileError::Io { doing: "lock", path: path.clone(), source };
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(io)?;
        self.give_to_owner(&file);
        let step = Duration::from_millis(20);
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Locked { _file: file }),
                Err(TryLockError::WouldBlock) if waited < LOCK_WAIT => {
                    std::thread::sleep(step);
                    waited += step;
                }
                Err(TryLockError::WouldBlock) => return Err(FileError::Locked { path }),
                Err(TryLockError::Error(e)) => return Err(io(e)),
            }
        }
    }

    /// Replaces the file. The lock must be held.
    pub fn store(&self, _held: &Locked, text: &str) -> Result<Option<Signature>, FileError> {
        let new = self.dir.join(format!("{}.new", self.name));
        match fs::remove_file(&new) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(self.io("replace")(e)),
            _ => {} // a crash may have left one; it was never in force
        }
        let written = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new).and_then(|mut file| {
            self.give_to_owner(&file);
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            File::open(&self.dir)?.sync_all()
        });
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written.map_err(self.io("replace"))?;
        Ok(self.signature()) // after the rename, which changes its times
    }

    /// An administrator who is root must not lock the server out of its own file: it belongs to who owns the directory.
    fn give_to_owner(&self, file: &File) {
        if let (Ok(dir), Ok(own)) = (fs::metadata(&self.dir), file.metadata())
            && dir.uid() != own.uid()
            && let Err(e) = fchown(file, Some(dir.uid()), Some(dir.gid()))
        {
            tracing::warn!("cannot give {} to the owner of its directory: {e}", self.path.display());
        }
    }
}
