//! The end of data, and what is kept of a message for the ledger.
//!
//! How it fails: it does not; a message that is too long to be kept has no line in the ledger.

use super::session::Received;
use crate::message;

/// Bodies longer than this are not kept for the ledger, which then has no line for them (they are counted).
const KEPT_OCTETS_MAX: usize = 256 << 20;

/// The octets of a message.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub octets: usize,
    kept: Vec<u8>,
    too_long: bool,
}

impl Body {
    pub fn add(&mut self, octets: &[u8], ledger: bool) {
        self.octets += octets.len();
        if ledger && self.kept.len() + octets.len() <= KEPT_OCTETS_MAX {
            self.kept.extend_from_slice(octets);
        } else {
            self.too_long |= ledger;
        }
    }

    /// It came with DATA: takes off the end and the doubled dots.
    pub fn end_of_data(&mut self) {
        if !self.kept.is_empty() {
            self.kept.truncate(self.kept.len().saturating_sub(3)); // ".\r\n"
            unstuff(&mut self.kept);
        }
    }

    /// What the ledger says about it.
    pub fn received(&self, recipients: u32) -> Option<Received> {
        if self.too_long {
            return None;
        }
        let (header, body) = message::split(&self.kept);
        let (id, crc) = message::seen(header, crc32c::crc32c(body))?;
        Some(Received { id, crc, recipients })
    }
}

/// The last octets seen, to find an end of data that is cut in two.
#[derive(Debug)]
pub(super) struct Scan {
    tail: [u8; 4],
    tail_len: usize,
}

impl Scan {
    /// Right after the command: the CRLF that ended DATA counts for an end of data (RFC 5321 §4.1.1.4).
    pub fn new() -> Scan {
        Scan { tail: [b'\r', b'\n', 0, 0], tail_len: 2 }
    }

    /// Octets of `input` up to and with the end of data, when it is in there (RFC 5321 §4.1.1.4: CRLF . CRLF, nothing else).
    pub fn end_of_data(&mut self, input: &[u8]) -> Option<usize> {
        const END: &[u8] = b"\r\n.\r\n";
        let mut seam = [0u8; 8];
        let head = input.len().min(4);
        seam[..self.tail_len].copy_from_slice(&self.tail[..self.tail_len]);
        seam[self.tail_len..self.tail_len + head].copy_from_slice(&input[..head]);
        let seam = &seam[..self.tail_len + head];
        if let Some(at) = memchr::memmem::find(seam, END) {
            return Some(at + END.len() - self.tail_len);
        }
        if let Some(at) = memchr::memmem::find(input, END) {
            return Some(at + END.len());
        }
        let rest = if input.len() >= 4 { &input[input.len() - 4..] } else { &seam[seam.len().saturating_sub(4)..] };
        let mut tail = [0u8; 4];
        tail[..rest.len()].copy_from_slice(rest);
        (self.tail, self.tail_len) = (tail, rest.len());
        None
    }
}

/// Takes the dot off the front of every line that begins with one (RFC 5321 §4.5.2).
fn unstuff(message: &mut Vec<u8>) {
    if !message.starts_with(b".") && memchr::memmem::find(message, b"\r\n.").is_none() {
        return;
    }
    let mut line_start = true;
    let mut previous = 0;
    message.retain(|b| {
        let drop = line_start && *b == b'.';
        line_start = previous == b'\r' && *b == b'\n';
        previous = *b;
        !drop
    });
}
