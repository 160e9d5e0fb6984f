//! Files of the journal: `journal-TIME-RUN.jsonl.zst`, one after the other, each a row of zstd frames of whole lines.
//!
//! How it fails: the system's error; the file at fault is left, and the next batch begins a new one.

use super::JournalKnobs;
use crate::base::time::WallTime;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How names of files begin.
pub const FILE_PREFIX: &str = "journal-";
/// Level of compression: the fastest that zstd calls its default; higher ones cost more time than they save space.
const LEVEL: i32 = 3;
/// The directory is looked through for files to delete so often.
const PRUNE_EVERY: Duration = Duration::from_secs(600);

/// Whether a file of this name belongs to a journal.
pub fn is_journal(name: &str) -> bool {
    name.starts_with(FILE_PREFIX) && (name.ends_with(".jsonl.zst") || name.ends_with(".jsonl"))
}

/// The files of one journal.
pub(super) struct Files {
    dir: PathBuf,
    run: String,
    knobs: JournalKnobs,
    current: Option<Current>,
    pruned: WallTime,
}

struct Current {
    file: File,
    path: PathBuf,
    octets: u64,
    begun: WallTime,
}

impl Files {
    /// Makes the directory, for the server's user only: the journal says who wrote to whom.
    pub fn open(dir: &Path, run: &str, knobs: JournalKnobs, now: WallTime) -> io::Result<Files> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut files = Files { dir: dir.to_owned(), run: run.to_owned(), knobs, current: None, pruned: now };
        files.prune(now);
        // Whether files can be made is found out now, when somebody hears of it.
        files.current = Some(files.create(now)?);
        Ok(files)
    }

    /// Writes whole lines as a frame.
    pub fn write(&mut self, lines: &[u8], now: WallTime) -> io::Result<()> {
        let rotate_octets = self.knobs.rotate_size.0;
        let full = |c: &Current| c.octets >= rotate_octets || now.since(c.begun) >= self.knobs.rotate_age;
        let current = match self.current.take().filter(|c| !full(c)) {
            Some(current) => current,
            None => {
                self.prune(now);
                self.create(now)?
            }
        };
        let frame = zstd::bulk::compress(lines, LEVEL)?;
        let mut current = current;
        // A frame that is only half there ends the file: what came behind it could not be read.
        current.file.write_all(&frame)?;
        current.octets += frame.len() as u64;
        self.current = Some(current);
        if now.since(self.pruned) >= PRUNE_EVERY {
            self.prune(now);
        }
        Ok(())
    }

    /// Ends the file; an empty one is not left behind.
    pub fn close(&mut self) {
        if let Some(current) = self.current.take().filter(|c| c.octets == 0) {
            let _ = fs::remove_file(current.path);
        }
    }

    fn create(&self, now: WallTime) -> io::Result<Current> {
        let time: String = now.rfc3339().chars().filter(|c| !matches!(c, '-' | ':' | '.')).collect();
        let path = self.dir.join(format!("{FILE_PREFIX}{time}-{}.jsonl.zst", self.run));
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        Ok(Current { file, path, octets: 0, begun: now })
    }

    /// Deletes what is too old, and the oldest files of what is too much; never the one that is written.
    fn prune(&mut self, now: WallTime) {
        self.pruned = now;
        let mut kept = 0;
        for (path, octets, age) in newest_first(&self.dir) {
            kept += octets;
            let current = self.current.as_ref().is_some_and(|c| c.path == path);
            let gone = kept > self.knobs.keep_size.0 || age > self.knobs.keep_age;
            if gone
                && !current
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(target: "journal", file = %path.display(), %error, "cannot delete an old file");
            }
        }
    }
}

/// Files of journals in a directory with size and age, the newest first; names begin with their time.
fn newest_first(dir: &Path) -> Vec<(PathBuf, u64, Duration)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<(PathBuf, u64, Duration)> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_journal))
        .filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            let age = meta.modified().ok().and_then(|t| SystemTime::now().duration_since(t).ok()).unwrap_or_default();
            Some((entry.path(), meta.len(), age))
        })
        .collect();
    files.sort_by(|a, b| b.0.cmp(&a.0));
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::knob::Octets;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_ended_by_age_and_size_and_pruned_oldest_first() {
        let dir = tempfile::tempdir().unwrap();
        let knobs = JournalKnobs { rotate_size: Octets(1), keep_size: Octets(150), ..JournalKnobs::default() };
        let at = |n: u64| WallTime::from_millis(1_795_435_200_000 + n * 1000);
        fs::write(dir.path().join("notes.txt"), "not ours").unwrap();
        let mut files = Files::open(dir.path(), "r", knobs, at(0)).unwrap();
        for n in 1..9u64 {
            // Lines that cannot be compressed to nothing.
            files
                .write(
                    format!("{{\"n\":{n},\"x\":\"{:x}\"}}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).as_bytes(),
                    at(n),
                )
                .unwrap();
        }
        files.close();
        let names = names(dir.path());
        assert!(names.contains(&"notes.txt".to_owned()) && names.len() < 7 && names.len() > 2, "{names:?}");
        assert!(names.iter().any(|n| n.starts_with("journal-20261123T120008000Z-r")), "{names:?}");
        assert!(!names.iter().any(|n| n.contains("T120001")), "{names:?}");
    }

    #[test]
    fn an_empty_file_is_not_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut files =
            Files::open(&dir.path().join("a/b"), "r", JournalKnobs::default(), WallTime::default()).unwrap();
        files.close();
        assert!(names(&dir.path().join("a/b")).is_empty());
    }
}
