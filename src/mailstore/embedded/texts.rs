//! The full-text index: a file of its own, filled in idle time, and only ever a filter. What it says is not there is not
//! looked at; what it says may be there is read; what it does not know yet is read, too.
//!
//! It keeps, for each message, which sequences of three characters its decoded text has (FTS5, trigram tokens, no
//! positions), so that parts of words are found as IMAP wants it. How it fails: a file that cannot be used is begun anew; an
//! error while searching means that everything is read.

use super::index::Index;
use crate::mailstore::MailstoreError;
use rusqlite::{Connection, params};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Version of the tables.
const VERSION: i64 = 1;
/// Candidates of one text; beyond them the filter is of no use.
const CANDIDATES_MAX: usize = 200_000;
/// Tokens of a text that are looked up.
const TOKENS_MAX: usize = 24;
const BUSY_WAIT: Duration = Duration::from_secs(10);

const TABLES: &str = "
    CREATE TABLE progress (one INTEGER PRIMARY KEY CHECK (one = 1), upto INTEGER NOT NULL);
    INSERT INTO progress VALUES (1, 0);
    CREATE TABLE left_out (content INTEGER PRIMARY KEY);
    CREATE VIRTUAL TABLE texts USING fts5(text, content='', contentless_delete=1, tokenize='trigram', detail=none);
";

/// Contents whose text is known, and those of them that have a text.
#[derive(Debug)]
pub(super) struct Covered {
    upto: u64,
    left_out: HashSet<u64>,
}

impl Covered {
    pub fn knows(&self, content: u64) -> bool {
        content <= self.upto && !self.left_out.contains(&content)
    }
}

/// A connection to it.
pub(super) struct Texts {
    db: Connection,
}

/// Its file beside that of the index.
pub(super) fn path_of(index: &Path) -> PathBuf {
    let stem = index.file_stem().and_then(|s| s.to_str()).unwrap_or("index");
    index.with_file_name(format!("{stem}-search.sqlite"))
}

impl Texts {
    /// Opens it for the writer; `anew` when what it knows is of another store.
    pub fn open(path: &Path, anew: bool) -> Result<Texts, MailstoreError> {
        let error = |e: rusqlite::Error| MailstoreError::Index { path: path.to_owned(), text: e.to_string() };
        if !anew && path.exists() {
            let opened = Texts::connect(path);
            if let Ok(texts) = opened
                && texts.db.pragma_query_value(None, "user_version", |r| r.get::<_, i64>(0)) == Ok(VERSION)
                && texts.upto().is_ok()
            {
                return Ok(texts);
            }
        }
        Index::remove(path)?;
        let texts = Texts::connect(path).map_err(error)?;
        texts.db.execute_batch(TABLES).map_err(error)?;
        texts.db.pragma_update(None, "user_version", VERSION).map_err(error)?;
        Ok(texts)
    }

    /// Opens it for a reader.
    pub fn connect(path: &Path) -> rusqlite::Result<Texts> {
        let db = Connection::open(path)?;
        db.busy_timeout(BUSY_WAIT)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(Texts { db })
    }

    /// Contents up to this one are in it.
    pub fn upto(&self) -> rusqlite::Result<u64> {
        self.db.query_row("SELECT upto FROM progress", [], |r| Ok(r.get::<_, i64>(0)? as u64))
    }

    /// Adds the texts of contents in ascending order.
    pub fn add(&mut self, texts: &[(u64, Option<String>)]) -> rusqlite::Result<()> {
        let Some((last, _)) = texts.last() else { return Ok(()) };
        let all = self.db.transaction()?;
        for (content, text) in texts {
            // The tokenizer ends at a NUL.
            match text.as_ref().filter(|t| !t.contains('\0')) {
                Some(text) => all
                    .prepare_cached("INSERT INTO texts (rowid, text) VALUES (?1, ?2)")?
                    .execute(params![*content as i64, text])?,
                None => all.prepare_cached("INSERT OR IGNORE INTO left_out VALUES (?1)")?.execute([*content as i64])?,
            };
        }
        all.execute("UPDATE progress SET upto = ?1", [*last as i64])?;
        all.commit()
    }

    /// Forgets contents that are gone.
    pub fn remove(&mut self, gone: &[u64]) -> rusqlite::Result<()> {
        let all = self.db.transaction()?;
        for content in gone {
            all.prepare_cached("DELETE FROM texts WHERE rowid = ?1")?.execute([*content as i64])?;
            all.prepare_cached("DELETE FROM left_out WHERE content = ?1")?.execute([*content as i64])?;
        }
        all.commit()
    }

    /// What it knows. Asked before the candidates: what comes in between is read for nothing, not overlooked.
    pub fn covered(&self) -> rusqlite::Result<Covered> {
        let upto = self.upto()?;
        let mut statement = self.db.prepare_cached("SELECT content FROM left_out")?;
        let left_out = statement.query_map([], |r| Ok(r.get::<_, i64>(0)? as u64))?.collect::<rusqlite::Result<_>>()?;
        Ok(Covered { upto, left_out })
    }

    /// Contents between two that may have `text` (in lower case) in them; `None` when it cannot say.
    pub fn candidates(&self, text: &str, (first, last): (u64, u64)) -> rusqlite::Result<Option<HashSet<u64>>> {
        let Some(tokens) = tokens_of(text) else { return Ok(None) };
        let mut statement = self
            .db
            .prepare_cached("SELECT rowid FROM texts WHERE texts MATCH ?1 AND rowid BETWEEN ?2 AND ?3 LIMIT ?4")?;
        let most = CANDIDATES_MAX as i64 + 1;
        let rows = statement.query_map(params![tokens, first as i64, last as i64, most], |r| r.get::<_, i64>(0))?;
        let found = rows.map(|r| r.map(|n| n as u64)).collect::<rusqlite::Result<HashSet<u64>>>()?;
        Ok((found.len() <= CANDIDATES_MAX).then_some(found))
    }
}

/// A question for all sequences of three characters of a text; `None` when it is too short.
fn tokens_of(text: &str) -> Option<String> {
    if text.contains('\0') {
        return None;
    }
    let characters: Vec<char> = text.chars().collect();
    if characters.len() < 3 {
        return None;
    }
    let tokens: Vec<String> = characters
        .windows(3)
        .take(TOKENS_MAX)
        .map(|three| format!("\"{}\"", three.iter().collect::<String>().replace('"', "\"\"")))
        .collect();
    Some(tokens.join(" AND "))
}
