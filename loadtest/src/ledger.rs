//! Ledgers: what the sender was told about each message, what sinks and readers saw of it, and all of them joined.
//!
//! One line a message. Sender: `+|-|? ID CRC RECIPIENTS` (accepted, refused, unknown); sink: `= ID CRC RECIPIENTS`. A
//! relay may split a message by recipient or deliver it twice, so recipients are counted, not lines. How it fails: a file
//! that cannot be written or a line that cannot be read ends the run with its name and number; a last line without its
//! end is what a killed writer leaves and is passed over, and said.

mod join;

use crate::message::Id;
pub use join::{Account, Accounts, accounts, join};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The sender got a 2xx.
    Accepted,
    /// The sender got a 4xx or 5xx, or never handed the message over.
    Refused,
    /// The sender handed it over and got no reply.
    Unknown,
    /// The sink got it.
    Seen,
}

impl Fate {
    fn mark(self) -> char {
        match self {
            Fate::Accepted => '+',
            Fate::Refused => '-',
            Fate::Unknown => '?',
            Fate::Seen => '=',
        }
    }
    fn of(mark: &str) -> Option<Fate> {
        [Fate::Accepted, Fate::Refused, Fate::Unknown, Fate::Seen].into_iter().find(|f| mark == f.mark().to_string())
    }
}

/// Buffered octets that make a writer go to the file.
const FLUSH_OCTETS: usize = 64 * 1024;

/// One core's pen for a ledger that all cores share.
pub struct Pen {
    file: Arc<Mutex<File>>,
    lines: String,
}

impl Pen {
    /// One pen per core for a new ledger at `path`.
    pub fn create(path: &Path, cores: usize) -> io::Result<Vec<Pen>> {
        let file = File::create(path).map_err(|e| io::Error::other(format!("ledger {}: {e}", path.display())))?;
        let file = Arc::new(Mutex::new(file));
        Ok((0..cores).map(|_| Pen { file: file.clone(), lines: String::new() }).collect())
    }

    /// Writes a line; it reaches the file at the latest with [`Pen::flush`].
    pub fn write(&mut self, fate: Fate, id: Id, crc: u32, recipients: u32) -> io::Result<()> {
        // Writing to a String does not fail.
        let _ = writeln!(self.lines, "{} {id} {crc:08x} {recipients}", fate.mark());
        if self.lines.len() >= FLUSH_OCTETS { self.flush() } else { Ok(()) }
    }

    /// Hands everything to the file.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let mut file = self.file.lock().map_err(|_| io::Error::other("ledger: another core's write panicked"))?;
        file.write_all(self.lines.as_bytes())?;
        self.lines.clear();
        Ok(())
    }
}

/// One line read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    fate: Fate,
    id: Id,
    crc: u32,
    recipients: u32,
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.split(' ');
    let fate = Fate::of(words.next()?)?;
    let id = words.next()?.parse().ok()?;
    let crc = u32::from_str_radix(words.next()?, 16).ok()?;
    let recipients = words.next()?.parse().ok()?;
    words.next().is_none().then_some(Line { fate, id, crc, recipients })
}

fn read(path: &Path, mut take: impl FnMut(Line)) -> io::Result<()> {
    let named = |e: io::Error| io::Error::other(format!("ledger {}: {e}", path.display()));
    let mut file = io::BufReader::new(File::open(path).map_err(named)?);
    let mut text = String::new();
    for number in 1.. {
        text.clear();
        if file.read_line(&mut text).map_err(named)? == 0 {
            break;
        }
        let Some(whole) = text.strip_suffix('\n') else {
            eprintln!("ledger {}: the last line is torn, its writer was killed", path.display());
            break;
        };
        take(parse(whole).ok_or_else(|| {
            named(io::Error::other(format!("line {number}: expected \"MARK ID CRC RECIPIENTS\", found {whole:?}")))
        })?);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::*;

    fn id(seq: u64) -> Id {
        Id { run: 1, core: 0, seq }
    }

    pub(super) fn ledger(dir: &Path, name: &str, pens: usize, lines: &[(Fate, u64, u32, u32)]) -> std::path::PathBuf {
        let path = dir.join(name);
        let mut pens = Pen::create(&path, pens).unwrap();
        for (i, (fate, seq, crc, recipients)) in lines.iter().enumerate() {
            let pen = i % pens.len();
            pens[pen].write(*fate, id(*seq), *crc, *recipients).unwrap();
        }
        pens.iter_mut().for_each(|p| p.flush().unwrap());
        path
    }

    #[test]
    fn a_torn_last_line_is_passed_over_and_nonsense_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let a = ledger(dir.path(), "a", 2, &[(Fate::Accepted, 1, 10, 1)]);
        let torn = dir.path().join("torn");
        std::fs::write(&torn, "= 00000001-0-1 0000000a 1\n= 00000001-0").unwrap();
        assert!(join(&[&a], &[&torn]).unwrap().is_clean());
        std::fs::write(&torn, "= 00000001-0-1 0000000a 1\nwhat\n").unwrap();
        assert!(join(&[&a], &[&torn]).unwrap_err().to_string().contains("line 2: expected"));
    }
}
