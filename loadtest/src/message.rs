//! The messages that are sent: a header with the id, a first body line with the id, and filling shared by all.
//!
//! The checksum covers the body only (everything after the first empty line), since every relay adds header fields. How
//! it fails: it does not.

use gatepost::base::buf::Segment;
use std::sync::Arc;

/// Name of the header field that carries the id.
pub const ID_FIELD: &str = "X-Gatepost-Id";

/// Id of a message: run, core, sequence; unique over runs because a run's number comes from the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// Number of the run.
    pub run: u32,
    /// Core that sent it.
    pub core: u16,
    /// Which message of that core.
    pub seq: u64,
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}-{}-{}", self.run, self.core, self.seq)
    }
}

impl std::str::FromStr for Id {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.trim().splitn(3, '-');
        let mut part = || parts.next().ok_or(());
        let run = u32::from_str_radix(part()?, 16).map_err(|_| ())?;
        let core = part()?.parse().map_err(|_| ())?;
        Ok(Id { run, core, seq: part()?.parse().map_err(|_| ())? })
    }
}

/// Makes messages of one size.
#[derive(Clone, Debug)]
pub struct Factory {
    from: String,
    to: String,
    filling: Arc<Vec<u8>>,
    filling_crc: u32,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Header and first body line.
    pub head: Vec<u8>,
    /// The rest of the body; ends with CRLF; no line begins with a dot.
    pub filling: Segment,
    /// Octets in all.
    pub octets: usize,
    /// CRC32C of the body.
    pub crc: u32,
}

/// What makes up the filling: lines of text of this many octets with their CRLF, as people's mail has them.
const LINE_OCTETS: usize = 78;

impl Factory {
    /// Messages of about `size` octets (never less than header and first line need).
    pub fn new(from: &str, to: &str, size: usize) -> Factory {
        let mut factory = Factory { from: from.to_owned(), to: to.to_owned(), filling: Arc::default(), filling_crc: 0 };
        // Ids differ in length by a few octets between messages; the size is that of a middling one.
        let head = factory.head(Id { run: u32::MAX, core: 0, seq: 100_000 }).len();
        let mut filling = Vec::with_capacity(size);
        while head + filling.len() < size {
            let left = size - head - filling.len();
            let line = left.min(LINE_OCTETS).saturating_sub(2);
            let letter = b'a' + (filling.len() / LINE_OCTETS % 26) as u8;
            filling.extend(std::iter::repeat_n(letter, line));
            filling.extend_from_slice(b"\r\n");
        }
        factory.filling_crc = crc32c::crc32c(&filling);
        factory.filling = Arc::new(filling);
        factory
    }

    fn head(&self, id: Id) -> Vec<u8> {
        format!(
            "From: <{}>\r\nTo: <{}>\r\nSubject: load\r\nMessage-ID: <{id}@load.example.test>\r\n{ID_FIELD}: {id}\r\n\r\n{id}\r\n",
            self.from, self.to
        )
        .into_bytes()
    }

    /// The message with this id.
    pub fn message(&self, id: Id) -> Message {
        let head = self.head(id);
        let first_line = id_line(&head);
        let crc = crc32c::crc32c_combine(crc32c::crc32c(first_line), self.filling_crc, self.filling.len());
        Message { octets: head.len() + self.filling.len(), head, filling: Segment::shared(self.filling.clone()), crc }
    }
}

/// The body part of a head made above.
fn id_line(head: &[u8]) -> &[u8] {
    split(head).1
}

/// Header section with its empty line, and body.
pub fn split(message: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memmem::find(message, b"\r\n\r\n") {
        Some(at) => message.split_at(at + 4),
        None => (message, &[]),
    }
}

/// The id in a header section.
pub fn id_in(header: &[u8]) -> Option<Id> {
    let mut lines = header.split(|b| *b == b'\n');
    let line = lines.find(|l| {
        l.len() > ID_FIELD.len()
            && l[..ID_FIELD.len()].eq_ignore_ascii_case(ID_FIELD.as_bytes())
            && l[ID_FIELD.len()] == b':'
    })?;
    std::str::from_utf8(&line[ID_FIELD.len() + 1..]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_size_and_carries_its_id_and_checksum() {
        for size in [0, 500, 1000, 10_240, 100_000] {
            let factory = Factory::new("a@example.test", "b@example.test", size);
            let id = Id { run: 7, core: 1, seq: 123_456 };
            let m = factory.message(id);
            let mut all = m.head.clone();
            all.extend_from_slice(m.filling.as_slice());
            assert_eq!(all.len(), m.octets);
            assert!(size < 500 || (all.len() as i64 - size as i64).abs() <= 8, "{size}: {}", all.len());
            let (header, body) = split(&all);
            assert_eq!(id_in(header), Some(id));
            assert_eq!(crc32c::crc32c(body), m.crc);
            assert!(all.ends_with(b"\r\n") && !all.split(|b| *b == b'\n').any(|l| l.starts_with(b".")));
            assert!(all.split(|b| *b == b'\n').all(|l| l.len() <= 998));
        }
    }

    #[test]
    fn ids_read_back() {
        let id = Id { run: 0xdead_beef, core: 3, seq: u64::MAX };
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("nonsense".parse::<Id>(), Err(()));
        assert_eq!(id_in(b"Subject: x\r\nx-gatepost-id: 00000001-2-3\r\n\r\n"), Some(Id { run: 1, core: 2, seq: 3 }));
        assert_eq!(id_in(b"X-Gatepost-Idx: 00000001-2-3\r\n"), None);
    }
}
