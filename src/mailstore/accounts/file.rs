//! The file `accounts`: JSON, one line each; first a header, then the accounts in order of their names.
//!
//! It is replaced by write to `accounts.new`, fsync, rename and fsync of the directory, all under `accounts.lock`; a crash
//! leaves the old file or the new one. How it fails: [`AccountsError`] with file and line; nothing is replaced then.

use super::verifier::{Verifiers, check_phc, scram_from_text, scram_to_text};
use super::{AccountsError, random};
use crate::base::scram::ScramHash;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// About 150,000 accounts; a larger file is not ours.
const FILE_OCTETS_MAX: u64 = 64 * 1024 * 1024;
/// How long a change waits for another process's change, which takes milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const FORMAT: &str = "gatepost-accounts";
const VERSION: u32 = 1;

/// What the file says.
#[derive(Clone)]
pub(super) struct Content {
    /// Secret of the decoy keys for unknown users; kept, so that decoys outlive the process.
    pub decoy_key: Vec<u8>,
    pub accounts: BTreeMap<String, Verifiers>,
}

impl std::fmt::Debug for Content {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content {{ accounts: {:?} }}", self.accounts.keys())
    }
}

impl Content {
    /// The error for a name that is not there, with the nearest that is.
    pub fn unknown(&self, name: &str) -> AccountsError {
        let local = |n: &str| n.split('@').next().unwrap_or_default().to_owned();
        let near = self.accounts.keys().find(|known| local(known) == local(name)).cloned();
        AccountsError::Unknown { name: name.to_owned(), near }
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

/// Proof that the lock is held; dropping it lets go.
#[derive(Debug)]
pub(super) struct Locked {
    _file: File,
}

/// The file's place.
#[derive(Debug)]
pub(super) struct AccountFile {
    dir: PathBuf,
    path: PathBuf,
}

impl AccountFile {
    pub fn new(dir: &Path) -> Result<AccountFile, AccountsError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|source| AccountsError::Io { doing: "make the directory", path: dir.to_owned(), source })?;
        Ok(AccountFile { dir: dir.to_owned(), path: dir.join("accounts") })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn io(&self, doing: &'static str) -> impl FnOnce(std::io::Error) -> AccountsError {
        let path = self.path.clone();
        move |source| AccountsError::Io { doing, path, source }
    }

    /// The file as it is now; `None` when there is none.
    pub fn signature(&self) -> Option<Signature> {
        fs::metadata(&self.path).ok().map(|meta| Signature::of(&meta))
    }

    /// Reads all of it; no file means no accounts.
    pub fn load(&self) -> Result<(Option<Signature>, Content), AccountsError> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let decoy_key = random::<32>()?.to_vec();
                return Ok((None, Content { decoy_key, accounts: BTreeMap::new() }));
            }
            Err(e) => return Err(self.io("open")(e)),
        };
        let meta = file.metadata().map_err(self.io("read"))?;
        if !meta.is_file() || meta.len() > FILE_OCTETS_MAX {
            let what = format!("expected a regular file of at most {FILE_OCTETS_MAX} octets");
            return Err(AccountsError::Corrupt { path: self.path.clone(), line: 1, what });
        }
        if meta.permissions().mode() & 0o077 != 0 {
            tracing::warn!("{} can be read by other users; run chmod 600 on it", self.path.display());
        }
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(self.io("read"))?;
        Ok((Some(Signature::of(&meta)), self.parse(&text)?))
    }

    fn parse(&self, text: &str) -> Result<Content, AccountsError> {
        let corrupt = |line: usize, what: String| AccountsError::Corrupt { path: self.path.clone(), line, what };
        let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line)).filter(|(_, l)| !l.trim().is_empty());
        let (at, header) = lines.next().ok_or_else(|| corrupt(1, "the file is empty, its header is missing".into()))?;
        let header: Header = serde_json::from_str(header).map_err(|e| corrupt(at, json_error(&e)))?;
        if header.format != FORMAT || header.version != VERSION {
            let what = format!("expected format {FORMAT:?} version {VERSION}");
            return Err(corrupt(at, format!("{what}, found {:?} version {}", header.format, header.version)));
        }
        let decoy_key = STANDARD.decode(&header.decoy_key).ok().filter(|key| key.len() >= 16);
        let decoy_key =
            decoy_key.ok_or_else(|| corrupt(at, "\"decoy_key\" must be at least 16 octets in base64".into()))?;
        let mut accounts = BTreeMap::new();
        for (at, line) in lines {
            let row: Row = serde_json::from_str(line).map_err(|e| corrupt(at, json_error(&e)))?;
            let (name, verifiers) = row.into_account().map_err(|what| corrupt(at, what))?;
            if accounts.insert(name.clone(), verifiers).is_some() {
                return Err(corrupt(at, format!("the account {name} stands here twice")));
            }
        }
        Ok(Content { decoy_key, accounts })
    }

    /// Waits for the lock, not for ever.
    pub fn lock(&self) -> Result<Locked, AccountsError> {
        let path = self.dir.join("accounts.lock");
        let io = |source| AccountsError::Io { doing: "lock", path: path.clone(), source };
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
                Err(TryLockError::WouldBlock) => return Err(AccountsError::Locked { path }),
                Err(TryLockError::Error(e)) => return Err(io(e)),
            }
        }
    }

    /// Replaces the file. The lock must be held.
    pub fn store(&self, _held: &Locked, content: &Content) -> Result<Option<Signature>, AccountsError> {
        let text = emit(content);
        let new = self.dir.join("accounts.new");
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

/// serde's own text ends in a line number that counts inside our line.
fn json_error(e: &serde_json::Error) -> String {
    let text = e.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    format!("{text} (column {})", e.column())
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
    decoy_key: String,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    password: String,
    #[serde(rename = "scram-sha-256")]
    scram_sha_256: String,
    #[serde(rename = "scram-sha-1")]
    scram_sha_1: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared_secret: Option<String>,
}

impl Row {
    fn into_account(self) -> Result<(String, Verifiers), String> {
        let name = super::checked_name(&self.name).map_err(|e| e.to_string())?;
        check_phc(&self.password)?;
        let scram = |hash, text: &str, field: &str| {
            scram_from_text(hash, text).ok_or_else(|| format!("{field:?} is not iterations, salt and keys"))
        };
        let verifiers = Verifiers {
            password: self.password.clone(),
            scram_sha_256: scram(ScramHash::Sha256, &self.scram_sha_256, "scram-sha-256")?,
            scram_sha_1: scram(ScramHash::Sha1, &self.scram_sha_1, "scram-sha-1")?,
            shared_secret: self.shared_secret.clone(),
        };
        Ok((name, verifiers))
    }
}

fn emit(content: &Content) -> Zeroizing<String> {
    let header = Header { format: FORMAT.to_owned(), version: VERSION, decoy_key: STANDARD.encode(&content.decoy_key) };
    let mut text = Zeroizing::new(json(&header));
    text.push('\n');
    for (name, verifiers) in &content.accounts {
        let row = Row {
            name: name.clone(),
            password: verifiers.password.clone(),
            scram_sha_256: scram_to_text(ScramHash::Sha256, &verifiers.scram_sha_256),
            scram_sha_1: scram_to_text(ScramHash::Sha1, &verifiers.scram_sha_1),
            shared_secret: verifiers.shared_secret.clone(),
        };
        text.push_str(&json(&row));
        text.push('\n');
    }
    text
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("structs of strings and numbers always serialise")
}
