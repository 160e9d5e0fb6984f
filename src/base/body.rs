//! A message body as it travels: what the receiver learnt about it while it came in ([`BodyShape`]) and its octets, in
//! memory up to a bound and in a file beyond it.
//!
//! The octets are the message without transport encoding: no dot-stuffing, no final `.`; lines end in CRLF (RFC 5321
//! §2.3.8) unless BINARYMIME was negotiated. How it fails: nothing here fails; reading a file body is the lanes' work.

use crate::base::buf::Segment;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// What was learnt about a body while it was received, so that nobody scans it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyShape {
    /// Octets in all.
    pub octets: u64,
    /// Whether any octet has its high bit set.
    pub eight_bit: bool,
    /// Whether any line begins with a dot and must be stuffed when sent by DATA (RFC 5321 §4.5.2).
    pub needs_stuffing: bool,
    /// Whether the last two octets are CRLF (or there are none).
    pub ends_with_crlf: bool,
    /// Whether a CR or LF stands alone, or a NUL is in it: it may only travel by BDAT with BINARYMIME (RFC 3030 §3).
    pub binary: bool,
    /// Octets of the header section, including the empty line; all of it when there is none.
    pub header_octets: u64,
    /// `Received:` fields in the header section (RFC 5321 §6.3).
    pub received_fields: u32,
}

/// A body kept in a file by a lane. Dropping the last handle gives the file up.
pub trait BodyFile: Send + Sync + fmt::Debug {
    /// The lane's number for it.
    fn id(&self) -> u64;
    /// Where the file is, for a store that takes the octets over; `None` when it is no file of this machine.
    fn path(&self) -> Option<&Path> {
        None
    }
}

/// Where the octets are.
#[derive(Clone, Debug)]
pub enum Store {
    /// In memory, in order.
    Memory(Vec<Arc<Vec<u8>>>),
    /// In a file; `head` repeats the first octets (at least the header section up to its limit).
    File {
        /// The file, whole body in it.
        file: Arc<dyn BodyFile>,
        /// The first octets, for whoever judges headers.
        head: Arc<Vec<u8>>,
    },
}

/// A received body. Cloning shares the octets.
#[derive(Clone, Debug)]
pub struct Body {
    /// What is known about it.
    pub shape: BodyShape,
    /// Its octets.
    pub store: Store,
}

impl Body {
    /// A body from whole bytes whose shape the caller knows.
    pub fn memory(shape: BodyShape, chunks: Vec<Arc<Vec<u8>>>) -> Body {
        debug_assert_eq!(shape.octets, chunks.iter().map(|c| c.len() as u64).sum::<u64>());
        Body { shape, store: Store::Memory(chunks) }
    }

    /// The first octets: the whole body in memory, or the head of a file. May be less than the header section.
    pub fn head(&self) -> Vec<u8> {
        match &self.store {
            Store::Memory(chunks) => {
                let want = usize::try_from(self.shape.header_octets).unwrap_or(usize::MAX);
                let mut head = Vec::with_capacity(want.min(64 * 1024));
                for chunk in chunks {
                    let take = chunk.len().min(want - head.len());
                    head.extend_from_slice(&chunk[..take]);
                    if head.len() == want {
                        break;
                    }
                }
                head
            }
            Store::File { head, .. } => {
                let want = usize::try_from(self.shape.header_octets).unwrap_or(usize::MAX).min(head.len());
                head[..want].to_vec()
            }
        }
    }

    /// Segments for a vectored write, when all of it is in memory.
    pub fn segments(&self) -> Option<impl Iterator<Item = Segment> + '_> {
        match &self.store {
            Store::Memory(chunks) => Some(chunks.iter().map(|c| Segment::shared(c.clone()))),
            Store::File { .. } => None,
        }
    }

    /// All octets, when all of it is in memory.
    pub fn to_vec(&self) -> Option<Vec<u8>> {
        match &self.store {
            Store::Memory(chunks) => Some(chunks.iter().flat_map(|c| c.iter().copied()).collect()),
            Store::File { .. } => None,
        }
    }
}
