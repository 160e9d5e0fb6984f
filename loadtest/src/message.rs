//! The messages that are sent: a header with the id, filling shared by all, a last line with the id; or real ones.
//!
//! The checksum covers the body (everything after the first empty line) and the header fields that were sent, whatever relays
//! add to them (see [`crate::header`]). How it fails: it does not.

use crate::corpus::{Corpus, Stored};
use crate::header;
use crate::size::Sizes;
use fastrand::Rng;
use gatepost::base::buf::{Chain, Segment};
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

/// Makes messages.
#[derive(Clone, Debug)]
pub struct Factory {
    content: Content,
    block: Arc<Block>,
    /// Header fields of made messages.
    made_fields: u16,
    /// Whether checksums are wanted.
    is_checked: bool,
}

/// Names of the header fields of made messages.
const MADE_HEADER: &[u8] = b"From:\r\nTo:\r\nSubject:\r\nMessage-ID:\r\n\r\n";

/// What messages are made of.
#[derive(Clone, Debug)]
pub enum Content {
    /// Header, id and filling, of these sizes.
    Made(Sizes),
    /// Real messages, with the id in front.
    Corpus(Arc<Corpus>),
}

/// One message.
#[derive(Clone, Debug)]
pub struct Message {
    /// What is this message's own: the header, or the id's header field of a real one.
    head: Vec<u8>,
    rest: Rest,
    /// Its own last lines. They are last so that their checksum goes on from that of the filling, which is known.
    tail: Vec<u8>,
    /// Octets in all, before dots are doubled.
    pub octets: usize,
    /// Checksum of the body and of the header fields that were sent.
    pub crc: u32,
}

/// The part that is shared with other messages.
#[derive(Clone, Debug)]
enum Rest {
    /// So many octets of the block, again and again; no line begins with a dot.
    Filling(Arc<Vec<u8>>, usize),
    /// A real message.
    Stored(Arc<Stored>),
}

/// What makes up the filling: lines of text of this many octets with their CRLF, as people's mail has them.
const LINE_OCTETS: usize = 78;
/// Lines of the block that fillings are cut from: a multiple of the 26 letters, about a megabyte.
const BLOCK_LINES: usize = 26 * 517;

/// The filling, and what its checksum is after each line.
#[derive(Debug)]
struct Block {
    bytes: Arc<Vec<u8>>,
    crcs: Vec<u32>,
}

impl Block {
    fn new(lines: usize) -> Block {
        let mut bytes = Vec::with_capacity(lines * LINE_OCTETS);
        let mut crcs = Vec::with_capacity(lines + 1);
        crcs.push(0);
        let mut crc = 0;
        for line in 0..lines {
            let start = bytes.len();
            bytes.extend(std::iter::repeat_n(b'a' + (line % 26) as u8, LINE_OCTETS - 2));
            bytes.extend_from_slice(b"\r\n");
            crc = crc32c::crc32c_append(crc, &bytes[start..]);
            crcs.push(crc);
        }
        Block { bytes: Arc::new(bytes), crcs }
    }

    /// Checksum of this many lines. Small messages have theirs in the table: joining two costs more than sending one.
    fn crc(&self, lines: usize) -> u32 {
        let (whole, rest) = (lines / BLOCK_LINES, lines % BLOCK_LINES);
        if whole == 0 {
            return self.crcs[rest];
        }
        let crc = (1..whole).fold(self.crcs[BLOCK_LINES], |crc, _| {
            crc32c::crc32c_combine(crc, self.crcs[BLOCK_LINES], self.bytes.len())
        });
        crc32c::crc32c_combine(crc, self.crcs[rest], rest * LINE_OCTETS)
    }
}

impl Factory {
    /// Messages of about these sizes (never less than header and last line need).
    pub fn made(sizes: Sizes) -> Factory {
        // Fixed small messages need only a little of the block.
        let lines = match sizes {
            Sizes::Fixed(octets) => BLOCK_LINES.min(octets as usize / LINE_OCTETS + 1),
            _ => BLOCK_LINES,
        };
        Factory::with(Content::Made(sizes), lines)
    }

    /// Real messages.
    pub fn of(corpus: Arc<Corpus>) -> Factory {
        Factory::with(Content::Corpus(corpus), 0)
    }

    fn with(content: Content, lines: usize) -> Factory {
        let block = Arc::new(Block::new(lines));
        Factory { content, block, made_fields: header::mask(MADE_HEADER), is_checked: true }
    }

    /// Without checksums, when nobody writes them down: they take a tenth of the sender's time.
    pub fn unchecked(self) -> Factory {
        Factory { is_checked: false, ..self }
    }

    /// What the messages are made of.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The message with this id; its size, or which of the real ones it is, comes from `rng`.
    pub fn message(&self, id: Id, from: &str, to: &str, rng: &mut Rng) -> Message {
        match &self.content {
            Content::Made(sizes) => self.filled(id, from, to, sizes.draw(rng)),
            Content::Corpus(corpus) => {
                let stored = corpus.draw(rng);
                let head = format!("{ID_FIELD}: {id} {:x}\r\n", stored.fields).into_bytes();
                let (octets, crc) = (head.len() + stored.plain.len(), stored.crc);
                Message { head, rest: Rest::Stored(stored), tail: Vec::new(), octets, crc }
            }
        }
    }

    fn filled(&self, id: Id, from: &str, to: &str, octets: usize) -> Message {
        let head = format!(
            "From: <{from}>\r\nTo: <{to}>\r\nSubject: load\r\nMessage-ID: <{id}@load.example.test>\r\n{ID_FIELD}: {id} {:x}\r\n\r\n",
            self.made_fields
        )
        .into_bytes();
        let mut tail = format!("{id}\r\n").into_bytes();
        let left = octets.saturating_sub(head.len() + tail.len());
        let (mut lines, mut odd) = (left / LINE_OCTETS, left % LINE_OCTETS);
        if odd == 1 && lines > 0 {
            // No line has one octet: one line fewer, and one that is an octet longer.
            (lines, odd) = (lines - 1, LINE_OCTETS + 1);
        }
        if odd >= 2 {
            tail.extend(std::iter::repeat_n(b'-', odd - 2));
            tail.extend_from_slice(b"\r\n");
        }
        // Nobody asks for it when nobody writes it down.
        let crc = match self.is_checked {
            true => header::joined(
                crc32c::crc32c_append(self.block.crc(lines), &tail),
                header::sum(&head, self.made_fields),
            ),
            false => 0,
        };
        let filling = lines * LINE_OCTETS;
        let octets = head.len() + filling + tail.len();
        Message { head, rest: Rest::Filling(self.block.bytes.clone(), filling), tail, octets, crc }
    }
}

impl Message {
    /// Appends the message; with dots doubled for DATA (RFC 5321 §4.5.2), as it is for BDAT.
    pub fn push_into(&self, out: &mut Chain, dots_doubled: bool) {
        out.push_bytes(&self.head);
        match &self.rest {
            Rest::Filling(block, octets) => {
                let mut left = *octets;
                while left > 0 {
                    let end = left.min(block.len());
                    out.push(Segment::Shared { bytes: block.clone(), start: 0, end });
                    left -= end;
                }
            }
            Rest::Stored(stored) => {
                let bytes = stored.stuffed.as_ref().filter(|_| dots_doubled).unwrap_or(&stored.plain);
                out.push(Segment::shared(bytes.clone()));
            }
        }
        out.push_bytes(&self.tail);
    }

    /// Whether it needs 8BITMIME (RFC 6152).
    pub fn is_eight_bit(&self) -> bool {
        matches!(&self.rest, Rest::Stored(stored) if stored.eight_bit)
    }
}

/// Header section with its empty line, and body.
pub fn split(message: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memmem::find(message, b"\r\n\r\n") {
        Some(at) => message.split_at(at + 4),
        None => (message, &[]),
    }
}

/// The id in a header section, and which header fields the message was sent with.
pub fn id_in(header: &[u8]) -> Option<(Id, u16)> {
    let mut lines = header.split(|b| *b == b'\n');
    let line = lines.find(|l| {
        l.len() > ID_FIELD.len()
            && l[..ID_FIELD.len()].eq_ignore_ascii_case(ID_FIELD.as_bytes())
            && l[ID_FIELD.len()] == b':'
    })?;
    let mut words = std::str::from_utf8(&line[ID_FIELD.len() + 1..]).ok()?.split_ascii_whitespace();
    let id = words.next()?.parse().ok()?;
    // Messages of an earlier version say nothing about their header: none of it is looked at.
    let fields = words.next().map_or(Ok(0), |mask| u16::from_str_radix(mask, 16)).ok()?;
    Some((id, fields))
}

/// Id and checksum of a message that was received, from its header section and the CRC32C of its body.
pub fn seen(header: &[u8], body: u32) -> Option<(Id, u32)> {
    let (id, fields) = id_in(header)?;
    Some((id, header::joined(body, header::sum(header, fields))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(message: &Message, dots_doubled: bool) -> Vec<u8> {
        let mut out = Chain::new();
        message.push_into(&mut out, dots_doubled);
        out.to_vec()
    }

    #[test]
    fn a_message_has_its_size_and_carries_its_id_and_checksum() {
        let mut rng = Rng::with_seed(1);
        let sizes = [0, 500, 501, 577, 578, 579, 1000, 10_240, 100_000, 1_048_476, 3_000_000];
        for (factory, size) in sizes.iter().flat_map(|n| {
            let range = Sizes::Uniform(*n, *n);
            [(Factory::made(Sizes::Fixed(*n)), *n), (Factory::made(range), *n)]
        }) {
            let id = Id { run: 7, core: 1, seq: 123_456 };
            let m = factory.message(id, "a@example.test", "b@example.test", &mut rng);
            let all = whole(&m, true);
            assert_eq!(all.len(), m.octets);
            assert!(size < 500 || all.len() as u64 == size, "{size}: {}", all.len());
            let (header, body) = split(&all);
            assert_eq!(seen(header, crc32c::crc32c(body)), Some((id, m.crc)), "{size}");
            let other = String::from_utf8_lossy(header).replace("load\r\n", "other\r\n");
            assert_ne!(seen(other.as_bytes(), crc32c::crc32c(body)), Some((id, m.crc)), "{size}");
            assert!(all.ends_with(b"\r\n") && !all.split(|b| *b == b'\n').any(|l| l.starts_with(b".")));
            assert!(all.split(|b| *b == b'\n').all(|l| l.len() <= 998));
        }
    }

    #[test]
    fn a_real_message_carries_its_id_and_is_otherwise_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one");
        std::fs::write(&path, "Subject: caf\u{e9}\n\n.hidden\ntext\n").unwrap();
        let factory = Factory::of(Arc::new(Corpus::load(&path).unwrap().0));
        let id = Id { run: 7, core: 1, seq: 5 };
        let m = factory.message(id, "", "", &mut Rng::with_seed(1));
        // Bit 5 of the mask: a subject.
        let plain = format!("{ID_FIELD}: {id} 20\r\nSubject: caf\u{e9}\r\n\r\n.hidden\r\ntext\r\n");
        assert_eq!((whole(&m, false), m.octets), (plain.clone().into_bytes(), plain.len()));
        assert_eq!(whole(&m, true), plain.replace("\r\n.hid", "\r\n..hid").into_bytes());
        let (header, body) = split(plain.as_bytes());
        assert_eq!(seen(header, crc32c::crc32c(body)), Some((id, m.crc)));
        assert!(m.is_eight_bit());
    }

    #[test]
    fn ids_read_back() {
        let id = Id { run: 0xdead_beef, core: 3, seq: u64::MAX };
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("nonsense".parse::<Id>(), Err(()));
        assert_eq!(
            id_in(b"Subject: x\r\nx-gatepost-id: 00000001-2-3\r\n\r\n"),
            Some((Id { run: 1, core: 2, seq: 3 }, 0))
        );
        assert_eq!(id_in(b"X-Gatepost-Idx: 00000001-2-3\r\n"), None);
    }
}
