//! The index: SQLite, rebuildable, never synced on the way of a message.
//!
//! It keeps what is needed to answer without reading the log: catalogs, mailboxes, their messages in chunks, and what was
//! computed from contents. `applied` says up to which transaction of the log it goes; the log repeats the rest at open, and
//! if the index is missing, of another version or of another log, it is made anew. How it fails: [`MailstoreError::Index`]
//! at open; later the writer keeps what could not be written in memory and tries again.

use super::catalog::Catalog;
use super::image::{Chunk, Image, Meta};
use super::record;
use crate::base::mailbox::{AccountId, MailboxId, Uid};
use crate::mailstore::MailstoreError;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Version of the tables; another one is thrown away and made anew.
const VERSION: i64 = 1;
/// How long a connection waits for another one's lock.
const BUSY_WAIT: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(10) };

/// Transactions after which a checkpoint is made, and how long fewer of them wait for one.
const CHECKPOINT_WRITES: u64 = 500;
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// Pages of the write-ahead log that are kept for reuse once they have been moved into the file: 1 MiB.
const WAL_FRAMES_KEPT: i64 = 256;

const TABLES: &str = "
    CREATE TABLE progress (one INTEGER PRIMARY KEY CHECK (one = 1), applied INTEGER NOT NULL, mark INTEGER NOT NULL);
    INSERT INTO progress VALUES (1, 0, 0);
    CREATE TABLE accounts (id INTEGER PRIMARY KEY, catalog BLOB NOT NULL);
    CREATE TABLE mailboxes (id INTEGER PRIMARY KEY, meta BLOB NOT NULL, vanished BLOB NOT NULL, recent INTEGER NOT NULL);
    CREATE TABLE chunks (place INTEGER PRIMARY KEY, rows BLOB NOT NULL);
    CREATE TABLE computed (content INTEGER PRIMARY KEY, envelope BLOB, extended BLOB, basic BLOB, preview TEXT);
";

/// How far the index goes: a transaction and the checksum of its record, by which another log is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Applied {
    pub transaction: u64,
    pub mark: u32,
}

/// A mailbox that is written: what the index has of it, and what it is now.
pub(super) struct Rewritten {
    pub id: MailboxId,
    /// `None`: all of it is written.
    pub old: Option<Arc<Image>>,
    pub new: Arc<Image>,
    pub recent: Uid,
}

/// What one transaction of the index writes.
#[derive(Default)]
pub(super) struct Batch {
    pub applied: Applied,
    pub accounts: Vec<(AccountId, Arc<Catalog>)>,
    pub mailboxes: Vec<Rewritten>,
    pub gone: Vec<MailboxId>,
}

/// What was computed from a content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Computed {
    pub envelope: Option<Arc<[u8]>>,
    pub extended: Option<Arc<[u8]>>,
    pub basic: Option<Arc<[u8]>>,
    pub preview: Option<String>,
}

impl Computed {
    /// What it has, and of another what it has not.
    pub fn with(self, other: Computed) -> Computed {
        Computed {
            envelope: self.envelope.or(other.envelope),
            extended: self.extended.or(other.extended),
            basic: self.basic.or(other.basic),
            preview: self.preview.or(other.preview),
        }
    }
    pub fn octets(&self) -> u64 {
        let blobs = [&self.envelope, &self.extended, &self.basic].into_iter().flatten().map(|b| b.len() as u64);
        blobs.sum::<u64>() + self.preview.as_ref().map_or(0, |p| p.len() as u64)
    }
}

/// A connection to the index.
pub(super) struct Index {
    db: Connection,
    path: PathBuf,
    /// Transactions since the last checkpoint, and when that was.
    written: u64,
    checkpointed: Duration,
}

fn place(mailbox: MailboxId, base: Uid) -> i64 {
    // A mailbox number is below 2^31, see `Water`; so this is not negative.
    (i64::from(mailbox.0) << 32) | i64::from(base)
}

impl Index {
    /// Opens it for the writer. A file that cannot be used is replaced; true when it is empty.
    pub fn open(path: &Path) -> Result<(Index, bool), MailstoreError> {
        let usable = path.exists() && Index::connect(path).is_ok_and(|i| i.version() == Ok(VERSION));
        if !usable {
            Index::remove(path)?;
            let index = Index::connect(path)?;
            let made =
                index.db.execute_batch(TABLES).and_then(|()| index.db.pragma_update(None, "user_version", VERSION));
            made.map_err(|e| index.error(&e))?;
            return Ok((index, true));
        }
        Ok((Index::connect(path)?, false))
    }

    /// Opens it for a reader.
    pub fn open_reader(path: &Path) -> Result<Index, MailstoreError> {
        Index::connect(path)
    }

    /// Removes the file and what SQLite keeps beside it.
    pub fn remove(path: &Path) -> Result<(), MailstoreError> {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            match std::fs::remove_file(&name) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    let (path, text) = (name.into(), e.to_string());
                    return Err(MailstoreError::File { doing: "removing", path, text });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn connect(path: &Path) -> Result<Index, MailstoreError> {
        let error = |e: rusqlite::Error| MailstoreError::Index { path: path.to_owned(), text: e.to_string() };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags).map_err(error)?;
        db.busy_timeout(BUSY_WAIT).map_err(error)?;
        db.pragma_update(None, "journal_mode", "WAL").map_err(error)?;
        // A commit never waits for the disk: checkpoints are made by `tidy`, and the log repeats what a crash took away.
        db.pragma_update(None, "synchronous", "NORMAL").map_err(error)?;
        db.pragma_update(None, "wal_autocheckpoint", 0).map_err(error)?;
        db.set_prepared_statement_cache_capacity(32);
        Ok(Index { db, path: path.to_owned(), written: 0, checkpointed: Duration::ZERO })
    }

    fn error(&self, e: &rusqlite::Error) -> MailstoreError {
        MailstoreError::Index { path: self.path.clone(), text: e.to_string() }
    }

    fn version(&self) -> rusqlite::Result<i64> {
        self.db.pragma_query_value(None, "user_version", |r| r.get(0))
    }

    pub fn applied(&self) -> rusqlite::Result<Applied> {
        self.db.query_row("SELECT applied, mark FROM progress", [], |r| {
            Ok(Applied { transaction: r.get::<_, i64>(0)? as u64, mark: r.get(1)? })
        })
    }

    /// All catalogs.
    pub fn catalogs(&self) -> rusqlite::Result<Vec<(AccountId, Catalog)>> {
        let mut statement = self.db.prepare("SELECT id, catalog FROM accounts")?;
        let rows = statement.query_map([], |r| {
            Ok((AccountId(r.get(0)?), decoded(record::decode_catalog(r.get_ref(1)?.as_blob()?))?))
        })?;
        rows.collect()
    }

    /// All mailboxes without their messages, and where `\Recent` begins.
    pub fn mailboxes(&self) -> rusqlite::Result<Vec<(MailboxId, Meta, Uid)>> {
        let mut statement = self.db.prepare("SELECT id, meta, recent FROM mailboxes")?;
        let rows = statement.query_map([], |r| {
            Ok((MailboxId(r.get(0)?), decoded(record::decode_meta(r.get_ref(1)?.as_blob()?))?, r.get(2)?))
        })?;
        rows.collect()
    }

    /// Every chunk of every mailbox.
    pub fn each_chunk(&self, visit: &mut dyn FnMut(MailboxId, Chunk)) -> rusqlite::Result<()> {
        let mut statement = self.db.prepare("SELECT place, rows FROM chunks")?;
        let mut rows = statement.query([])?;
        while let Some(r) = rows.next()? {
            let mailbox = MailboxId((r.get::<_, i64>(0)? >> 32) as u32);
            visit(mailbox, Chunk::new(decoded(record::decode_rows(r.get_ref(1)?.as_blob()?))?));
        }
        Ok(())
    }

    /// A mailbox with its messages.
    pub fn image(&self, id: MailboxId) -> rusqlite::Result<Option<Image>> {
        let snapshot = self.db.unchecked_transaction()?;
        let front = snapshot
            .prepare_cached("SELECT meta, vanished FROM mailboxes WHERE id = ?1")?
            .query_row([id.0], |r| {
                Ok((
                    decoded(record::decode_meta(r.get_ref(0)?.as_blob()?))?,
                    decoded(record::decode_vanished(r.get_ref(1)?.as_blob()?))?,
                ))
            })
            .optional()?;
        let Some((meta, vanished)) = front else { return Ok(None) };
        let mut statement =
            snapshot.prepare_cached("SELECT place, rows FROM chunks WHERE place BETWEEN ?1 AND ?2 ORDER BY place")?;
        let rows = statement.query_map([place(id, 0), place(id, Uid::MAX)], |r| {
            let chunk = Chunk::new(decoded(record::decode_rows(r.get_ref(1)?.as_blob()?))?);
            Ok((r.get::<_, i64>(0)? as u32, Arc::new(chunk)))
        })?;
        let chunks = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(Some(Image::from_parts(meta, vanished, chunks)))
    }

    /// Writes a batch, all or nothing.
    pub fn write(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        self.written += 1;
        let all = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for id in &batch.gone {
            all.prepare_cached("DELETE FROM mailboxes WHERE id = ?1")?.execute([id.0])?;
            all.prepare_cached("DELETE FROM chunks WHERE place BETWEEN ?1 AND ?2")?
                .execute([place(*id, 0), place(*id, Uid::MAX)])?;
        }
        for (id, catalog) in &batch.accounts {
            let mut blob = Vec::new();
            record::encode_catalog(catalog, &mut blob);
            all.prepare_cached("INSERT OR REPLACE INTO accounts VALUES (?1, ?2)")?.execute(params![id.0, blob])?;
        }
        for mailbox in &batch.mailboxes {
            write_mailbox(&all, mailbox)?;
        }
        all.prepare_cached("UPDATE progress SET applied = ?1, mark = ?2")?
            .execute(params![batch.applied.transaction as i64, batch.applied.mark])?;
        all.commit()
    }

    /// Where `\Recent` begins in mailboxes.
    pub fn keep_recent(&mut self, recent: &[(MailboxId, Uid)]) -> rusqlite::Result<()> {
        self.written += 1;
        let all = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for (id, uid) in recent {
            all.prepare_cached("UPDATE mailboxes SET recent = ?2 WHERE id = ?1")?.execute([id.0, *uid])?;
        }
        all.commit()
    }

    /// What was computed from a content.
    pub fn computed(&self, content: u64) -> rusqlite::Result<Option<Computed>> {
        let mut statement =
            self.db.prepare_cached("SELECT envelope, extended, basic, preview FROM computed WHERE content = ?1")?;
        statement
            .query_row([content as i64], |r| {
                let blob = |i| -> rusqlite::Result<Option<Arc<[u8]>>> {
                    Ok(r.get_ref(i)?.as_blob_or_null().map_err(|_| broken())?.map(Arc::from))
                };
                Ok(Computed { envelope: blob(0)?, extended: blob(1)?, basic: blob(2)?, preview: r.get(3)? })
            })
            .optional()
    }

    /// Keeps what was computed, and forgets contents that are gone.
    pub fn keep_computed(&mut self, made: &[(u64, Computed)], gone: &[u64]) -> rusqlite::Result<()> {
        self.written += 1;
        let all = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for (content, c) in made {
            all.prepare_cached(
                "INSERT INTO computed VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (content) DO UPDATE SET
                 envelope = coalesce(excluded.envelope, envelope), extended = coalesce(excluded.extended, extended),
                 basic = coalesce(excluded.basic, basic), preview = coalesce(excluded.preview, preview)",
            )?
            .execute(params![
                *content as i64,
                c.envelope.as_deref(),
                c.extended.as_deref(),
                c.basic.as_deref(),
                c.preview
            ])?;
        }
        for content in gone {
            all.prepare_cached("DELETE FROM computed WHERE content = ?1")?.execute([*content as i64])?;
        }
        all.commit()
    }

    /// Moves what was written from the write-ahead log into the file, as far as readers let it, when that is much or was
    /// long ago: it costs two syncs.
    pub fn checkpoint(&mut self, now: Duration) -> rusqlite::Result<()> {
        let due = self.written >= CHECKPOINT_WRITES
            || (self.written > 0 && now.saturating_sub(self.checkpointed) >= CHECKPOINT_INTERVAL);
        if !due {
            return Ok(());
        }
        (self.written, self.checkpointed) = (0, now);
        let (busy, frames, moved): (i64, i64, i64) =
            self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
        if busy != 0 || moved < frames || frames < WAL_FRAMES_KEPT {
            return Ok(());
        }
        // All of it is in the file: the room is given back, unless a reader is at it just now; nobody waits for that.
        self.db.busy_timeout(Duration::ZERO)?;
        let truncated = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        self.db.busy_timeout(BUSY_WAIT)?;
        truncated
    }
}

/// Writes the chunks that differ from what the index has: equal ones are the same allocation.
fn write_mailbox(db: &Connection, mailbox: &Rewritten) -> rusqlite::Result<()> {
    let (meta, vanished) = (record::encode_meta(&mailbox.new.meta), record::encode_vanished(&mailbox.new.vanished));
    db.prepare_cached("INSERT OR REPLACE INTO mailboxes VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        mailbox.id.0,
        meta,
        vanished,
        mailbox.recent
    ])?;
    let none = Vec::new();
    let old = match &mailbox.old {
        Some(old) => &old.chunks,
        None => {
            db.prepare_cached("DELETE FROM chunks WHERE place BETWEEN ?1 AND ?2")?
                .execute([place(mailbox.id, 0), place(mailbox.id, Uid::MAX)])?;
            &none
        }
    };
    let mut old = old.iter().peekable();
    for (base, chunk) in &mailbox.new.chunks {
        while let Some((gone, _)) = old.next_if(|(b, _)| b < base) {
            db.prepare_cached("DELETE FROM chunks WHERE place = ?1")?.execute([place(mailbox.id, *gone)])?;
        }
        if old.next_if(|(b, _)| b == base).is_some_and(|(_, c)| Arc::ptr_eq(c, chunk)) {
            continue;
        }
        db.prepare_cached("INSERT OR REPLACE INTO chunks VALUES (?1, ?2)")?
            .execute(params![place(mailbox.id, *base), record::encode_rows(&chunk.rows)])?;
    }
    for (gone, _) in old {
        db.prepare_cached("DELETE FROM chunks WHERE place = ?1")?.execute([place(mailbox.id, *gone)])?;
    }
    Ok(())
}

fn broken() -> rusqlite::Error {
    rusqlite::Error::InvalidQuery
}

fn decoded<T>(value: Result<T, crate::base::codec::CodecError>) -> rusqlite::Result<T> {
    value.map_err(|e| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, Box::new(e)))
}
