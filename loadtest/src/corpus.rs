//! Real messages to send: a file, a folder of files, a Maildir or an mbox.
//!
//! They are made fit to be sent (CRLF line ends, no bare CR) and kept in memory; what no server takes (NUL, lines over 998
//! octets) is left out and counted. How it fails: a path that cannot be read, holds no usable message, or more than fits is
//! named with what to do.

use crate::header;
use fastrand::Rng;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Messages kept at most.
const MESSAGES_MAX: usize = 100_000;
/// Octets kept at most, all together.
const OCTETS_MAX: usize = 1 << 30;
/// Longest line, without its end (RFC 5321 §4.5.3.1.6).
const LINE_OCTETS_MAX: usize = 998;

/// Real messages.
#[derive(Debug)]
pub struct Corpus {
    messages: Vec<Arc<Stored>>,
}

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored {
    /// As BDAT carries it.
    pub plain: Arc<Vec<u8>>,
    /// As DATA carries it, when that differs: dots at the beginning of lines doubled.
    pub stuffed: Option<Arc<Vec<u8>>>,
    /// Which header fields it has, see [`crate::header`].
    pub fields: u16,
    /// Checksum of the body and of these.
    pub crc: u32,
    /// Whether it has octets above 127.
    pub eight_bit: bool,
}

impl Corpus {
    /// Reads `path`; returns also how many messages were left out.
    pub fn load(path: &Path) -> Result<(Corpus, usize), String> {
        let mut corpus = Corpus { messages: Vec::new() };
        let (mut octets, mut left_out) = (0, 0);
        for file in files(path)? {
            let bytes = fs::read(&file).map_err(|e| format!("messages {}: {e}", file.display()))?;
            for raw in messages_in(&bytes) {
                let Some(stored) = Stored::new(raw) else {
                    left_out += 1;
                    continue;
                };
                octets += stored.plain.len() + stored.stuffed.as_ref().map_or(0, |s| s.len());
                corpus.messages.push(Arc::new(stored));
                if octets > OCTETS_MAX || corpus.messages.len() > MESSAGES_MAX {
                    return Err(format!(
                        "messages {}: more than {MESSAGES_MAX} messages or {} MiB; name a folder with fewer",
                        path.display(),
                        OCTETS_MAX >> 20
                    ));
                }
            }
        }
        if corpus.messages.is_empty() {
            return Err(format!(
                "messages {}: expected a message, an mbox, a Maildir or a folder of messages; {left_out} were unfit",
                path.display()
            ));
        }
        Ok((corpus, left_out))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Never: there is at least one.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// One of them.
    pub fn draw(&self, rng: &mut Rng) -> Arc<Stored> {
        self.messages[rng.usize(0..self.messages.len())].clone()
    }
}

/// The files of a path, in the order of their names: itself, those of a Maildir's `cur` and `new`, or those of a folder.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    let named = |e: std::io::Error| format!("messages {}: {e}", path.display());
    if fs::metadata(path).map_err(named)?.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let maildir = path.join("cur").is_dir() && path.join("new").is_dir();
    let folders = if maildir { vec![path.join("cur"), path.join("new")] } else { vec![path.to_owned()] };
    let mut files = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(&folder).map_err(named)? {
            let file = entry.map_err(named)?.path();
            let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if file.is_file() && !hidden {
                files.push(file);
            }
            if files.len() > MESSAGES_MAX {
                return Err(format!("messages {}: more than {MESSAGES_MAX} files", path.display()));
            }
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The messages of a file: many when it begins as an mbox does (RFC 4155), else one.
fn messages_in(bytes: &[u8]) -> Vec<Vec<u8>> {
    if !bytes.starts_with(b"From ") {
        return vec![bytes.to_vec()];
    }
    let mut messages: Vec<Vec<u8>> = Vec::new();
    let mut after_empty = true;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        if after_empty && line.starts_with(b"From ") {
            // The empty line in front of it belongs to the mbox, too.
            if let Some(before) = messages.last_mut() {
                drop_empty_line(before);
            }
            messages.push(Vec::new());
        } else if let Some(message) = messages.last_mut() {
            message.extend_from_slice(unquoted(line));
        }
        after_empty = line == b"\n" || line == b"\r\n";
    }
    if let Some(last) = messages.last_mut() {
        drop_empty_line(last);
    }
    messages
}

fn drop_empty_line(message: &mut Vec<u8>) {
    for end in [b"\r\n\r\n".as_slice(), b"\n\n"] {
        if message.ends_with(end) {
            message.truncate(message.len() - end.len() / 2);
            return;
        }
    }
}

/// `>From ` is a quoted `From `, `>>From ` a quoted `>From ` (mboxrd).
fn unquoted(line: &[u8]) -> &[u8] {
    let marks = line.iter().take_while(|b| **b == b'>').count();
    if marks > 0 && line[marks..].starts_with(b"From ") { &line[1..] } else { line }
}

impl Stored {
    /// A message made fit; `None` when it cannot be.
    fn new(raw: Vec<u8>) -> Option<Stored> {
        if raw.is_empty() || raw.contains(&0) {
            return None;
        }
        let mut plain = with_crlf(&raw);
        // A message that begins with its body would be read as a header: an empty line in front makes it one.
        let first = plain.split(|b| *b == b'\r').next().unwrap_or_default();
        let name = first.split(|b| *b == b':').next().unwrap_or_default();
        let is_field = name.len() < first.len() && !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
        if !is_field && !first.is_empty() {
            plain.splice(0..0, *b"\r\n");
        }
        if plain.split(|b| *b == b'\n').any(|line| line.len() > LINE_OCTETS_MAX + 1) {
            return None;
        }
        let (head, body) = match plain.starts_with(b"\r\n") {
            true => plain.split_at(2),
            false => crate::message::split(&plain),
        };
        let fields = header::mask(head);
        let crc = header::joined(crc32c::crc32c(body), header::sum(head, fields));
        let eight_bit = !plain.is_ascii();
        let stuffed = stuffed(&plain).map(Arc::new);
        Some(Stored { plain: Arc::new(plain), stuffed, fields, crc, eight_bit })
    }
}

/// Every line end, whatever it was, as CRLF; the last line has one.
fn with_crlf(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + raw.len() / 32 + 2);
    let mut bytes = raw.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => {
                bytes.next_if_eq(&b'\n');
                out.extend_from_slice(b"\r\n");
            }
            b'\n' => out.extend_from_slice(b"\r\n"),
            other => out.push(other),
        }
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// RFC 5321 §4.5.2: a line that begins with a dot gets another one; `None` when there is no such line.
fn stuffed(plain: &[u8]) -> Option<Vec<u8>> {
    if !plain.starts_with(b".") && memchr::memmem::find(plain, b"\r\n.").is_none() {
        return None;
    }
    let mut out = Vec::with_capacity(plain.len() + 16);
    for line in plain.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(raw: &str) -> Option<String> {
        Stored::new(raw.as_bytes().to_vec()).map(|s| String::from_utf8(s.plain.to_vec()).unwrap())
    }

    #[test]
    fn messages_are_made_fit() {
        assert_eq!(plain("A: b\n\nx\ry\r\nz").as_deref(), Some("A: b\r\n\r\nx\r\ny\r\nz\r\n"));
        assert_eq!(plain("no header here\n").as_deref(), Some("\r\nno header here\r\n"));
        assert_eq!(plain("\nbody\n").as_deref(), Some("\r\nbody\r\n"));
        assert_eq!(plain("A: b\n\nx\0y"), None);
        assert_eq!(plain(&format!("A: b\n\n{}\n", "x".repeat(999))), None);
        assert!(plain(&format!("A: b\n\n{}\n", "x".repeat(998))).is_some());
        assert_eq!(plain(""), None);
        let dotted = Stored::new(b"A: b\n\n.\n..\nx.\n".to_vec()).unwrap();
        assert_eq!(dotted.stuffed.unwrap().as_slice(), b"A: b\r\n\r\n..\r\n...\r\nx.\r\n");
        assert_eq!(
            dotted.crc,
            header::joined(crc32c::crc32c(b".\r\n..\r\nx.\r\n"), header::sum(&dotted.plain, dotted.fields))
        );
        assert!(Stored::new(b"A: b\n\nx\n".to_vec()).unwrap().stuffed.is_none());
    }

    #[test]
    fn an_mbox_is_taken_apart() {
        let quoted = "From a@b Mon\nA: 1\n\nHi\nFrom here on\n>From there\n\nFrom c@d Tue\nA: 2\n\n>>From x\n\n";
        let found: Vec<String> =
            messages_in(quoted.as_bytes()).into_iter().map(|m| String::from_utf8(m).unwrap()).collect();
        assert_eq!(found, ["A: 1\n\nHi\nFrom here on\nFrom there\n", "A: 2\n\n>From x\n"]);
    }

    #[test]
    fn folders_and_maildirs_are_read_and_what_is_unfit_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let maildir = dir.path().join("m");
        for folder in ["cur", "new", "tmp"] {
            fs::create_dir_all(maildir.join(folder)).unwrap();
        }
        fs::write(maildir.join("cur/1:2,S"), "A: 1\n\nx\n").unwrap();
        fs::write(maildir.join("new/2"), "A: 2\n\nx\n").unwrap();
        fs::write(maildir.join("tmp/3"), "A: 3\n\nx\n").unwrap();
        fs::write(maildir.join("new/.hidden"), "x").unwrap();
        fs::write(maildir.join("new/4"), "A: \0\n").unwrap();
        let (corpus, left_out) = Corpus::load(&maildir).unwrap();
        assert_eq!((corpus.len(), left_out), (2, 1));
        let (corpus, _) = Corpus::load(&maildir.join("tmp")).unwrap();
        assert_eq!(corpus.len(), 1);
        fs::remove_file(maildir.join("tmp/3")).unwrap();
        assert!(Corpus::load(&maildir.join("tmp")).unwrap_err().contains("expected a message"));
        assert!(Corpus::load(Path::new("/nonexistent")).unwrap_err().contains("/nonexistent"));
    }
}
