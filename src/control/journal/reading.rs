//! Lines out of files of journals, compressed or not, with a progress bar on a terminal.
//!
//! How it fails: a file that cannot be opened ends it with its name; one whose end is torn is read as far as it goes, and
//! the torn rest counts as one line that is none.

use crate::control::cli::Failure;
use crate::gateway::journal::is_journal;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};

/// Octets of a line at most: a part of a session ends at 64 KiB, one event may be longer.
const LINE_OCTETS_MAX: u64 = 4 << 20;
/// First octets of a zstd frame (RFC 8878 §3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Files of journals, oldest first.
#[derive(Debug)]
pub struct Journals {
    files: Vec<PathBuf>,
    octets: u64,
}

/// How far it is.
pub struct Progress(ProgressBar);

impl Progress {
    /// Not shown.
    pub fn hidden() -> Progress {
        Progress(ProgressBar::hidden())
    }
    /// Shown when standard error is a terminal.
    pub fn bar(journals: &Journals, what: &'static str) -> Progress {
        if !io::stderr().is_terminal() {
            return Progress::hidden();
        }
        let bar = ProgressBar::with_draw_target(Some(journals.octets), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {bytes}/{total_bytes} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(what);
        Progress(bar)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Journals {
    /// The files that the paths name; of a directory, those that look like a journal's. Their names begin with their time.
    pub fn find(paths: &[PathBuf]) -> Result<Journals, Failure> {
        let mut files = Vec::new();
        for path in paths {
            let fail = |e: io::Error| Failure::new(format!("cannot read {}: {e}", path.display()));
            if !path.is_dir() {
                std::fs::metadata(path).map_err(fail)?;
                files.push(path.clone());
                continue;
            }
            let mut found = Vec::new();
            for entry in std::fs::read_dir(path).map_err(fail)? {
                let entry = entry.map_err(fail)?;
                if entry.file_name().to_str().is_some_and(is_journal) {
                    found.push(entry.path());
                }
            }
            if found.is_empty() {
                let expected = "expected files such as journal-20261123T120000000Z-RUN.jsonl.zst";
                return Err(Failure::new(format!("there is no journal in {}; {expected}", path.display())));
            }
            found.sort();
            files.extend(found);
        }
        let octets = files.iter().filter_map(|f| std::fs::metadata(f).ok()).map(|m| m.len()).sum();
        Ok(Journals { files, octets })
    }

    /// Reads every line; `None` is one that is no text, too long or torn.
    pub fn lines(
        &self,
        progress: &Progress,
        mut each: impl FnMut(Option<String>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for path in &self.files {
            let fail = |e: io::Error| Failure::new(format!("cannot read {}: {e}", path.display()));
            let mut reader = open(path, progress).map_err(fail)?;
            // A frame that breaks off is how a crash looks; what was read before it counts.
            while let Some(line) = next_line(&mut reader).unwrap_or(Some(None)) {
                let torn = line.is_none();
                each(line)?;
                if torn && reader.fill_buf().is_err() {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn open(path: &Path, progress: &Progress) -> io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::with_capacity(256 * 1024, progress.0.wrap_read(File::open(path)?));
    if file.fill_buf()?.starts_with(&ZSTD_MAGIC) {
        return Ok(Box::new(BufReader::with_capacity(1 << 20, zstd::Decoder::with_buffer(file)?)));
    }
    Ok(Box::new(file))
}

/// The next line without its end; `None` at the end of the file.
fn next_line(reader: &mut dyn BufRead) -> io::Result<Option<Option<String>>> {
    let mut line = Vec::new();
    let read = reader.take(LINE_OCTETS_MAX).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if read as u64 == LINE_OCTETS_MAX {
        skip_line(reader)?;
        return Ok(Some(None));
    }
    Ok(Some(String::from_utf8(line).ok()))
}

fn skip_line(reader: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let (used, done) = match memchr::memchr(b'\n', buffer) {
            Some(at) => (at + 1, true),
            None => (buffer.len(), false),
        };
        reader.consume(used);
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Vec<Option<String>> {
        let mut lines = Vec::new();
        let journals = Journals::find(&[path.to_owned()]).map_err(|e| e.to_string()).unwrap();
        journals
            .lines(&Progress::hidden(), |line| {
                lines.push(line);
                Ok(())
            })
            .map_err(|e| e.to_string())
            .unwrap();
        lines
    }

    #[test]
    fn frames_plain_files_and_torn_ends() {
        let dir = tempfile::tempdir().unwrap();
        let some = |t: &str| Some(t.to_owned());
        let plain = dir.path().join("journal-1-r.jsonl");
        std::fs::write(&plain, b"a\nb\xff\nc").unwrap();
        assert_eq!(read(&plain), [some("a"), None, some("c")]);
        let mut frames = zstd::bulk::compress(b"d\ne\n", 3).unwrap();
        frames.extend(zstd::bulk::compress(b"f\n", 3).unwrap());
        let packed = dir.path().join("journal-2-r.jsonl.zst");
        std::fs::write(&packed, &frames).unwrap();
        assert_eq!(read(&packed), [some("d"), some("e"), some("f")]);
        std::fs::write(&packed, &frames[..frames.len() - 3]).unwrap();
        let torn = read(&packed);
        assert!(torn.starts_with(&[some("d"), some("e")]) && torn.len() <= 3, "{torn:?}");
        assert_eq!(read(dir.path()).len(), 3 + torn.len());
        let long = dir.path().join("long.jsonl");
        std::fs::write(&long, "x".repeat(LINE_OCTETS_MAX as usize + 10) + "\nlast\n").unwrap();
        assert_eq!(read(&long), [None, some("last")]);
        assert!(Journals::find(&[dir.path().join("none")]).is_err());
    }
}
