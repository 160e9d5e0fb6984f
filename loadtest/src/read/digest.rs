//! A message as it arrives, in any pieces: its id and its checksum, without keeping the body.
//!
//! How it fails: a header section longer than [`HEADER_OCTETS_MAX`] without its end has no id; the message then counts as
//! not ours.

use crate::message::{self, Id};

/// Header octets that are kept while its end has not come.
const HEADER_OCTETS_MAX: usize = 256 * 1024;

/// What is known of a message so far.
#[derive(Debug, Default)]
pub struct Digest {
    header: Vec<u8>,
    in_body: bool,
    crc: u32,
    octets: u64,
}

impl Digest {
    /// The next octets, as they are stored (without dot-stuffing).
    pub fn feed(&mut self, bytes: &[u8]) {
        self.octets += bytes.len() as u64;
        if self.in_body {
            self.crc = crc32c::crc32c_append(self.crc, bytes);
            return;
        }
        // The end may lie across two pieces.
        let looked = self.header.len().saturating_sub(3);
        let room = HEADER_OCTETS_MAX.saturating_sub(self.header.len());
        self.header.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if let Some(at) = memchr::memmem::find(&self.header[looked..], b"\r\n\r\n") {
            let end = looked + at + 4;
            self.in_body = true;
            let kept = self.header.split_off(end);
            self.crc = crc32c::crc32c(&kept);
            self.crc = crc32c::crc32c_append(self.crc, &bytes[bytes.len().min(room)..]);
        }
    }

    /// Octets in all.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Id and checksum, when it is one of ours.
    pub fn finish(&self) -> Option<(Id, u32)> {
        self.in_body.then(|| message::seen(&self.header, self.crc)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::tests_support::ours;

    #[test]
    fn any_pieces_give_the_same() {
        let (id, ours, crc) = ours(3000);
        let all = [b"Received: by a relay\r\n", ours.as_bytes()].concat();
        for size in [1, 2, 3, 7, 100, all.len()] {
            let mut digest = Digest::default();
            all.chunks(size).for_each(|c| digest.feed(c));
            assert_eq!(digest.finish(), Some((id, crc)), "pieces of {size}");
            assert_eq!(digest.octets(), all.len() as u64);
        }
    }

    #[test]
    fn what_is_not_ours_has_no_id() {
        let mut digest = Digest::default();
        digest.feed(b"Subject: hello\r\n\r\nbody\r\n");
        assert_eq!(digest.finish(), None);
        let mut endless = Digest::default();
        (0..1000).for_each(|_| endless.feed(&[b'x'; 1000]));
        assert_eq!((endless.finish(), endless.octets()), (None, 1_000_000));
        assert!(endless.header.len() <= HEADER_OCTETS_MAX);
    }
}
