//! Reading a segment back after a restart: which records are whole, which are the tail of a batch nobody was told about,
//! and where something that was durable has been damaged.
//!
//! How it fails: it does not; what it could not read is in the report, and the caller says so to the operator.

use super::record::{ALIGN, HEADER_OCTETS, Header, Location, PAGE, align};

/// One place at which something durable cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// In which segment.
    pub segment: u32,
    /// First unreadable octet.
    pub from: u64,
    /// Where reading went on.
    pub to: u64,
    /// Kind and id of the damaged record, when its header could still be read.
    pub record: Option<(u8, u64)>,
}

/// The end of a batch that was being written when the machine stopped. Nobody had been told that it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// In which segment.
    pub segment: u32,
    /// First octet that is not whole.
    pub at: u64,
    /// Whole records behind it that were dropped with it.
    pub dropped: u64,
}

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Segments, read or told of by a map.
    pub segments: usize,
    /// Of these, whose map told all of it.
    pub segments_mapped: usize,
    /// Octets of segments that were read.
    pub octets_read: u64,
    /// Whole records.
    pub records: u64,
    /// Octets of their payloads.
    pub octets: u64,
    /// Torn tails; more than one only after several crashes in a row.
    pub torn: Vec<Torn>,
    /// Places that were durable and are unreadable. Not empty is a reason to shout.
    pub damage: Vec<Damage>,
    /// Segments whose header page is unreadable. If their first record is, too, they are set aside as `.damaged`.
    pub headers_damaged: Vec<u32>,
}

impl Recovery {
    /// Whether anything acknowledged may have been lost.
    pub fn is_damaged(&self) -> bool {
        !self.damage.is_empty() || !self.headers_damaged.is_empty()
    }
}

/// A record handed to the owner of the log at start.
#[derive(Debug)]
pub struct Recovered<'a> {
    /// Where it stands.
    pub at: Location,
    /// Its place in time among all records of the log.
    pub sequence: u64,
    /// Kind given at append.
    pub kind: u8,
    /// Id given at append.
    pub id: u64,
    /// Its payload; of a record that a map tells of as much as the owner had it keep.
    pub payload: &'a [u8],
}

impl Recovered<'_> {
    /// Whether [`Recovered::payload`] is all of it.
    pub fn is_whole(&self) -> bool {
        self.payload.len() == self.at.octets as usize
    }
}

/// What is known of a segment's end from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A later header says it: all before it was durable, nothing behind it counts.
    Sealed(u64),
    /// A later segment was begun, so what is in this one was durable.
    Closed,
    /// The last one: durable is what a record names as the start of its batch.
    Open,
}

/// The verdict on one segment.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub records: Vec<Header>,
    pub torn: Option<Torn>,
    pub damage: Vec<Damage>,
    /// Where the readable part ends.
    pub end: u64,
    /// Whether something that looks like a record stands behind the end, so that later headers must go on naming it.
    pub sealed: bool,
}

/// Judges the octets of segment `number` from `from` on; those before are known to be durable, and may be zeros here.
pub(crate) fn scan(bytes: &[u8], mark: u64, number: u32, end: End, from: u64) -> Scan {
    let (records, holes) = find(bytes, mark, number, from);
    let octets = bytes.len() as u64;
    let durable = match end {
        End::Sealed(at) => at.min(octets),
        End::Closed => octets,
        // A record proves that everything before its batch had been synced when it was written.
        End::Open => records.iter().map(|h| u64::from(h.batch_start)).max().unwrap_or(PAGE).max(from),
    };
    let mut scan = Scan { end: if let End::Sealed(_) = end { durable } else { octets }, ..Scan::default() };
    for hole in holes {
        let last = hole.to >= octets;
        let damaged = match end {
            // With nothing behind it, it is only the end of what was written.
            End::Closed => !last || hole.record.is_some(),
            End::Sealed(_) | End::Open => hole.from < durable,
        };
        if damaged {
            let to = if let End::Sealed(_) = end { hole.to.min(durable) } else { hole.to };
            scan.damage.push(Damage { segment: number, from: hole.from, to, record: hole.record });
            continue;
        }
        scan.sealed = hole.begun || !last;
        if let End::Open = end {
            scan.end = hole.from;
            if scan.sealed {
                let dropped = records.iter().filter(|h| u64::from(h.offset) > hole.from).count() as u64;
                scan.torn = Some(Torn { segment: number, at: hole.from, dropped });
            }
        } else if let End::Closed = end {
            scan.end = hole.from;
        }
        break;
    }
    scan.sealed |= records.iter().any(|h| u64::from(h.offset) >= scan.end);
    scan.records = records.into_iter().filter(|h| u64::from(h.offset) < scan.end).collect();
    scan
}

/// An unreadable stretch.
struct Hole {
    from: u64,
    to: u64,
    record: Option<(u8, u64)>,
    /// A record of this segment had been begun here.
    begun: bool,
}

/// All whole records, wherever they stand, and the stretches between them.
fn find(bytes: &[u8], mark: u64, number: u32, from: u64) -> (Vec<Header>, Vec<Hole>) {
    let finder = memchr::memmem::Finder::new(&mark.to_le_bytes()).into_owned();
    let (mut records, mut holes) = (Vec::new(), Vec::new());
    let mut at = usize::try_from(from.max(PAGE)).unwrap_or(usize::MAX);
    while at < bytes.len() {
        if let Some(header) = whole(bytes, at, mark, number) {
            at += header.location().footprint() as usize;
            records.push(header);
            continue;
        }
        let next_batch = align(at as u64, PAGE) as usize;
        if next_batch != at && is_zero(&bytes[at..next_batch.min(bytes.len())]) {
            at = next_batch; // the rest of the page behind a batch
            continue;
        }
        let header = header_at(bytes, at, mark, number);
        let mut to = at + ALIGN as usize;
        let resumed = loop {
            let Some(found) = bytes.get(to..).and_then(|rest| finder.find(rest)) else { break bytes.len() };
            to += found;
            if (to as u64).is_multiple_of(ALIGN) && whole(bytes, to, mark, number).is_some() {
                break to;
            }
            to += 1;
        };
        let begun = bytes[at..].starts_with(&mark.to_le_bytes())
            && bytes.get(at + 20..at + 24) == Some(number.to_le_bytes().as_slice());
        let record = header.map(|h| (h.kind, h.id));
        holes.push(Hole { from: at as u64, to: resumed as u64, record, begun });
        at = resumed;
    }
    (records, holes)
}

/// Whether the rest of a page was padding.
fn is_zero(page: &[u8]) -> bool {
    const ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];
    page == &ZEROS[..page.len()]
}

fn header_at(bytes: &[u8], at: usize, mark: u64, number: u32) -> Option<Header> {
    Header::decode(bytes.get(at..)?).filter(|h| h.mark == mark && h.segment == number && h.offset as usize == at)
}

/// The record at `at`, if header and payload are as they were written.
fn whole(bytes: &[u8], at: usize, mark: u64, number: u32) -> Option<Header> {
    let header = header_at(bytes, at, mark, number)?;
    let payload = bytes.get(at + HEADER_OCTETS..)?.get(..header.payload_octets as usize)?;
    (crc32c::crc32c(payload) == header.payload_crc).then_some(header)
}

/// The mark of a segment whose header page is unreadable, from its first record.
pub(crate) fn mark_of_first_record(bytes: &[u8], number: u32) -> Option<u64> {
    let header = Header::decode(bytes.get(PAGE as usize..)?)?;
    (u64::from(header.offset) == PAGE && header.segment == number).then_some(header.mark)
}
