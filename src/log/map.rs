//! Maps: what is alive in a segment, written down beside it, so that opening the log need not read it.
//!
//! A map tells of its segment up to some offset: where each record stands, its kind, id and sequence, and as much of the
//! front of its payload as the owner asked for. It is a help and no truth: it is never synced, bears the mark of the
//! segment's life and a checksum, and whoever opens the log with [`Log::open`](super::Log::open) reads without it. What
//! was dead when it was written stays dead, so it is left out. How it fails: a map that cannot be written is written
//! later; one that is not whole, of another life or of damage is none, and the segment is read as ever.

use super::disk::{Disk, read_full_at, write_all_at};
use super::record::{HEADER_OCTETS, Header, Location, PAGE};
use super::segment::Name;
use crate::base::codec::{Reader, Writer};
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::Path;

const MAGIC: &[u8; 16] = b"gatepost log map";
/// Version of the layout; another one is no map.
const VERSION: u64 = 1;
/// Octets of a map at most; a larger one would save nothing.
const MAP_OCTETS_MAX: u64 = 256 << 20;

/// Octets of a payload's front that are kept in the map, by kind.
pub type FrontOf = fn(u8) -> usize;

/// What a map says of its segment as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// It tells of everything before this offset, which was durable.
    pub upto: u64,
    /// Nothing more will be written into the segment: `upto` is its end.
    pub complete: bool,
    /// See [`super::scan::Scan::sealed`].
    pub sealed: bool,
    /// Above all sequences in it, those of dead records too.
    pub next_sequence: u64,
    /// Octets of all records in it, those of dead ones too.
    pub kept_octets: u64,
}

/// A map that was read.
pub(super) struct Map {
    bytes: Vec<u8>,
    records_at: usize,
    pub extent: Extent,
}

/// A live record as the map tells of it.
pub(super) struct Mapped<'a> {
    pub at: Location,
    pub kind: u8,
    pub id: u64,
    pub sequence: u64,
    pub front: &'a [u8],
}

impl Map {
    /// Reads the map of a segment, if there is one that can be believed.
    pub fn read<D: Disk>(disk: &D, directory: &Path, number: u32, mark: u64) -> Option<Map> {
        let file = disk.open(&Name::Map(number).path(directory)).ok()?;
        let octets = disk.size(&file).ok().filter(|n| (20..=MAP_OCTETS_MAX).contains(n))?;
        let mut bytes = vec![0; usize::try_from(octets).ok()?];
        let got = read_full_at(disk, &file, 0, &mut bytes).ok()?;
        let body = bytes.get(..got).and_then(|b| b.strip_prefix(MAGIC.as_slice()))?;
        let (crc, body) = body.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*crc) != crc32c::crc32c(body) {
            return None;
        }
        let mut r = Reader::new(body);
        let of = (r.varint().ok()?, r.varint().ok()?, r.varint().ok()?);
        if of != (VERSION, u64::from(number), mark) {
            return None;
        }
        let (upto, next_sequence, kept_octets) = (r.varint().ok()?, r.varint().ok()?, r.varint().ok()?);
        let state = r.octet().ok()?;
        let extent = Extent { upto, next_sequence, kept_octets, complete: state & 1 != 0, sealed: state & 2 != 0 };
        let records_at = bytes.len() - r.rest().len();
        let map = Map { bytes, records_at, extent };
        // All of it is understood before any of it is believed.
        map.each(number, &mut |_| {}).map(|()| map)
    }

    /// Shows every record, by place.
    pub fn each(&self, number: u32, visit: &mut dyn FnMut(Mapped<'_>)) -> Option<()> {
        let mut r = Reader::new(&self.bytes[self.records_at..]);
        let mut from = PAGE;
        for _ in 0..r.varint().ok()? {
            let offset = from + r.varint().ok()?;
            let octets = u32::try_from(r.varint().ok()?).ok()?;
            let at = Location { segment: number, offset: u32::try_from(offset).ok()?, octets };
            let (kind, id, sequence) = (r.octet().ok()?, r.varint().ok()?, r.varint().ok()?);
            let front = r.bytes().ok()?;
            from = offset + at.footprint();
            if from > self.extent.upto || front.len() > octets as usize {
                return None;
            }
            visit(Mapped { at, kind, id, sequence, front });
        }
        r.rest().is_empty().then_some(())
    }
}

/// Writes the map of a segment. `live` are offset and octets of what is alive in it.
pub(super) fn write<D: Disk>(
    disk: &D,
    directory: &Path,
    file: &D::File,
    (number, mark): (u32, u64),
    extent: Extent,
    live: &BTreeMap<u32, u32>,
    front_of: FrontOf,
) -> io::Result<()> {
    let mut body = Vec::new();
    let mut w = Writer(&mut body);
    let Extent { upto, next_sequence, kept_octets, .. } = extent;
    [VERSION, u64::from(number), mark, upto, next_sequence, kept_octets].into_iter().for_each(|n| w.varint(n));
    w.octet(u8::from(extent.complete) | u8::from(extent.sealed) << 1);
    w.varint(live.len() as u64);
    let mut from = PAGE;
    let mut octets_read = vec![0; HEADER_OCTETS];
    for (offset, octets) in live {
        let at = Location { segment: number, offset: *offset, octets: *octets };
        octets_read.resize(HEADER_OCTETS, 0);
        read_full_at(disk, file, u64::from(*offset), &mut octets_read)?;
        let header = Header::decode(&octets_read).filter(|h| h.mark == mark && h.location() == at);
        let header = header.ok_or(io::ErrorKind::InvalidData)?;
        octets_read.resize(front_of(header.kind).min(*octets as usize), 0);
        let payload_at = u64::from(*offset) + HEADER_OCTETS as u64;
        if read_full_at(disk, file, payload_at, &mut octets_read)? != octets_read.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        w.varint(u64::from(*offset) - from);
        w.varint(u64::from(*octets));
        w.octet(header.kind);
        w.varint(header.id);
        w.varint(header.sequence);
        w.bytes(&octets_read);
        from = u64::from(*offset) + at.footprint();
    }
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    let (new, path) = (Name::NewMap(number).path(directory), Name::Map(number).path(directory));
    // One that was begun before a crash.
    let _ = disk.remove(&new);
    let file = disk.create(&new)?;
    write_all_at(disk, &file, 0, &mut [IoSlice::new(&head), IoSlice::new(&body)])?;
    disk.rename(&new, &path)
}
