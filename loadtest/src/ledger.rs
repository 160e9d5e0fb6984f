//! Ledgers: what the sender was told about each message, what the sink saw of it, and the two joined.
//!
//! One line a message. Sender: `+|-|? ID CRC RECIPIENTS` (accepted, refused, unknown); sink: `= ID CRC RECIPIENTS`. A
//! relay may split a message by recipient or deliver it twice, so recipients are counted, not lines. How it fails: a file
//! that cannot be written or a line that cannot be read ends the run with its name and number; a last line without its
//! end is what a killed writer leaves and is passed over, and said.

use crate::message::Id;
use std::collections::HashMap;
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

/// The two ledgers joined, counted in recipients where not said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Account {
    /// Messages the sender wrote down.
    pub sent_messages: u64,
    /// Accepted recipients.
    pub accepted: u64,
    /// Messages refused.
    pub refused_messages: u64,
    /// Messages without a reply.
    pub unknown_messages: u64,
    /// Recipients the sink saw.
    pub seen: u64,
    /// Accepted, never seen. Must be 0.
    pub lost: u64,
    /// Seen more often than accepted or unknown.
    pub duplicated: u64,
    /// Messages seen with another body than was sent.
    pub corrupted_messages: u64,
    /// Messages refused and yet seen.
    pub refused_but_seen_messages: u64,
    /// Messages whose reply was lost, and which arrived.
    pub unknown_but_seen_messages: u64,
    /// Messages the sink saw and nobody sent.
    pub foreign_messages: u64,
    /// First ids that were lost, duplicated or corrupted, for whoever looks into it.
    pub examples: Vec<String>,
}

/// Examples kept.
const EXAMPLES_MAX: usize = 10;

impl Account {
    /// Whether nothing accepted was lost or changed.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.corrupted_messages == 0
    }

    fn example(&mut self, what: &str, id: Id) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("{what} {id}"));
        }
    }
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "sent {} messages, {} recipients accepted", self.sent_messages, self.accepted)?;
        writeln!(f, "refused {} messages, {} without a reply", self.refused_messages, self.unknown_messages)?;
        writeln!(f, "seen {} recipients", self.seen)?;
        writeln!(f, "lost {}, duplicated {}, corrupted {}", self.lost, self.duplicated, self.corrupted_messages)?;
        writeln!(
            f,
            "refused but seen {}, unknown but seen {}, foreign {}",
            self.refused_but_seen_messages, self.unknown_but_seen_messages, self.foreign_messages
        )?;
        self.examples.iter().try_for_each(|e| writeln!(f, "  {e}"))
    }
}

#[derive(Default)]
struct Joined {
    fate: Option<(Fate, u32, u32)>,
    seen: u32,
    changed: bool,
}

/// Joins a sender's ledgers with a sink's.
pub fn join(sender: &[impl AsRef<Path>], sink: &[impl AsRef<Path>]) -> io::Result<Account> {
    let mut messages: HashMap<Id, Joined> = HashMap::new();
    for path in sender {
        read(path.as_ref(), |l| messages.entry(l.id).or_default().fate = Some((l.fate, l.crc, l.recipients)))?;
    }
    for path in sink {
        read(path.as_ref(), |l| {
            let joined = messages.entry(l.id).or_default();
            joined.seen += l.recipients;
            joined.changed |= joined.fate.is_some_and(|(_, crc, _)| crc != l.crc);
        })?;
    }
    let mut ordered: Vec<_> = messages.into_iter().collect();
    ordered.sort_unstable_by_key(|(id, _)| *id);
    let mut account = Account::default();
    ordered.iter().for_each(|(id, joined)| settle(&mut account, *id, joined));
    Ok(account)
}

fn settle(account: &mut Account, id: Id, joined: &Joined) {
    account.seen += u64::from(joined.seen);
    let Some((fate, _, recipients)) = joined.fate else {
        account.foreign_messages += 1;
        return;
    };
    account.sent_messages += 1;
    if joined.changed {
        account.corrupted_messages += 1;
        account.example("corrupted", id);
    }
    let extra = u64::from(joined.seen.saturating_sub(recipients));
    match fate {
        Fate::Accepted => {
            account.accepted += u64::from(recipients);
            let lost = u64::from(recipients.saturating_sub(joined.seen));
            account.lost += lost;
            if lost > 0 {
                account.example("lost", id);
            }
        }
        Fate::Unknown => {
            account.unknown_messages += 1;
            account.unknown_but_seen_messages += u64::from(joined.seen > 0);
        }
        Fate::Refused | Fate::Seen => {
            account.refused_messages += 1;
            account.refused_but_seen_messages += u64::from(joined.seen > 0);
            return;
        }
    }
    account.duplicated += extra;
    if extra > 0 {
        account.example("duplicated", id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seq: u64) -> Id {
        Id { run: 1, core: 0, seq }
    }

    fn ledger(dir: &Path, name: &str, lines: &[(Fate, u64, u32, u32)]) -> std::path::PathBuf {
        let path = dir.join(name);
        let mut pens = Pen::create(&path, 2).unwrap();
        for (i, (fate, seq, crc, recipients)) in lines.iter().enumerate() {
            pens[i % 2].write(*fate, id(*seq), *crc, *recipients).unwrap();
        }
        pens.iter_mut().for_each(|p| p.flush().unwrap());
        path
    }

    #[test]
    fn known_loss_duplication_and_corruption_are_found_exactly() {
        use Fate::*;
        let dir = tempfile::tempdir().unwrap();
        let sent = [
            (Accepted, 1, 10, 1),
            (Accepted, 2, 20, 1), // lost
            (Accepted, 3, 30, 1), // twice
            (Accepted, 4, 40, 1), // changed
            (Refused, 5, 50, 1),
            (Refused, 6, 60, 1),    // refused and yet delivered
            (Unknown, 7, 70, 1),    // arrived
            (Unknown, 8, 80, 1),    // did not
            (Accepted, 9, 90, 3),   // one of three recipients lost
            (Accepted, 10, 100, 2), // split by recipient
        ];
        let seen = [
            (Seen, 1, 10, 1),
            (Seen, 3, 30, 1),
            (Seen, 3, 30, 1),
            (Seen, 4, 41, 1),
            (Seen, 6, 60, 1),
            (Seen, 7, 70, 1),
            (Seen, 9, 90, 2),
            (Seen, 10, 100, 1),
            (Seen, 10, 100, 1),
            (Seen, 99, 1, 1), // nobody's
        ];
        let (a, b) = (ledger(dir.path(), "a", &sent), ledger(dir.path(), "b", &seen));
        let account = join(&[a], &[b]).unwrap();
        assert_eq!((account.sent_messages, account.accepted, account.seen), (10, 9, 11));
        assert_eq!((account.lost, account.duplicated, account.corrupted_messages), (2, 1, 1));
        assert_eq!((account.refused_messages, account.refused_but_seen_messages), (2, 1));
        assert_eq!((account.unknown_messages, account.unknown_but_seen_messages), (2, 1));
        assert_eq!(account.foreign_messages, 1);
        assert!(!account.is_clean());
        assert_eq!(account.examples.len(), 4);
    }

    #[test]
    fn a_torn_last_line_is_passed_over_and_nonsense_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let a = ledger(dir.path(), "a", &[(Fate::Accepted, 1, 10, 1)]);
        let torn = dir.path().join("torn");
        std::fs::write(&torn, "= 00000001-0-1 0000000a 1\n= 00000001-0").unwrap();
        assert!(join(&[&a], &[&torn]).unwrap().is_clean());
        std::fs::write(&torn, "= 00000001-0-1 0000000a 1\nwhat\n").unwrap();
        assert!(join(&[&a], &[&torn]).unwrap_err().to_string().contains("line 2: expected"));
    }
}
