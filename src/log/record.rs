//! A record of the log: its header of 56 octets and where it stands.
//!
//! How it fails: [`Header::decode`] returns `None` for everything that is not a whole header with a true checksum.

use std::fmt;

/// Octets of a header.
pub(crate) const HEADER_OCTETS: usize = 56;
/// Octets a record takes in its segment beside its payload, alignment included.
pub const RECORD_OVERHEAD_OCTETS: u64 = HEADER_OCTETS as u64 + ALIGN - 1;
/// Records stand at multiples of this.
pub(crate) const ALIGN: u64 = 8;
/// Batches stand at multiples of this: the page size, and the largest sector that is written whole.
pub(crate) const PAGE: u64 = 4096;

/// Rounds up to a multiple of `to`, a power of two.
pub(crate) const fn align(n: u64, to: u64) -> u64 {
    (n + to - 1) & !(to - 1)
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// Number of the segment.
    pub segment: u32,
    /// Offset of the record's header in it.
    pub offset: u32,
    /// Octets of its payload.
    pub octets: u32,
}

impl Location {
    /// Octets the record takes in its segment.
    pub fn footprint(self) -> u64 {
        align(HEADER_OCTETS as u64 + u64::from(self.octets), ALIGN)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {:08} offset {}", self.segment, self.offset)
    }
}

/// What stands in front of every payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The 64 random bits of this life of the segment.
    pub mark: u64,
    pub payload_crc: u32,
    pub payload_octets: u32,
    pub segment: u32,
    pub offset: u32,
    /// Offset at which this record's batch begins; everything before it was durable when this was written.
    pub batch_start: u32,
    pub sequence: u64,
    pub id: u64,
    pub kind: u8,
}

impl Header {
    pub fn location(&self) -> Location {
        Location { segment: self.segment, offset: self.offset, octets: self.payload_octets }
    }

    /// The octets as they are written.
    pub fn encode(&self) -> [u8; HEADER_OCTETS] {
        let mut out = [0; HEADER_OCTETS];
        out[0..8].copy_from_slice(&self.mark.to_le_bytes());
        out[12..16].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[16..20].copy_from_slice(&self.payload_octets.to_le_bytes());
        out[20..24].copy_from_slice(&self.segment.to_le_bytes());
        out[24..28].copy_from_slice(&self.offset.to_le_bytes());
        out[28..32].copy_from_slice(&self.batch_start.to_le_bytes());
        out[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        out[40..48].copy_from_slice(&self.id.to_le_bytes());
        out[48] = self.kind;
        let crc = header_crc(&out);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads what [`Header::encode`] wrote at the front of `bytes`.
    pub fn decode(bytes: &[u8]) -> Option<Header> {
        let bytes: &[u8; HEADER_OCTETS] = bytes.get(..HEADER_OCTETS)?.try_into().ok()?;
        let u32_at = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        let u64_at = |i: usize| u64::from(u32_at(i)) | u64::from(u32_at(i + 4)) << 32;
        if u32_at(8) != header_crc(bytes) {
            return None;
        }
        Some(Header {
            mark: u64_at(0),
            payload_crc: u32_at(12),
            payload_octets: u32_at(16),
            segment: u32_at(20),
            offset: u32_at(24),
            batch_start: u32_at(28),
            sequence: u64_at(32),
            id: u64_at(40),
            kind: bytes[48],
        })
    }
}

/// Over the header but the checksum itself.
fn header_crc(bytes: &[u8; HEADER_OCTETS]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..8]), &bytes[12..])
}
