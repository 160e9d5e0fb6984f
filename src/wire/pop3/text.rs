//! A message as POP3 sends it: lines that begin with a dot get another (RFC 1939 §3), a CRLF at the end where there is
//! none, and the lone dot. Also where TOP ends (§7).
//!
//! Everything goes piece by piece; the pieces' borders leave no mark. Lines end in CRLF: a LF alone is an octet like any
//! other, and goes out as it is. How it fails: it does not.

use crate::base::buf::{Chain, Segment};
use memchr::memchr_iter;
use std::sync::Arc;

/// From this length on octets are sent from where they are; shorter runs are copied together, so that a message of
/// dots only does not become a segment per line.
const SHARED_OCTETS_MIN: usize = 4096;

/// The transport form of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stuffing {
    /// The octets before the next one.
    before: Before,
    octets: u64,
}

/// What was sent last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Before {
    /// A whole line, or nothing yet.
    #[default]
    Line,
    /// A CR.
    Cr,
    /// Something else.
    Other,
}

impl Stuffing {
    /// Appends a piece: octets `start..end` of `bytes`.
    pub fn push(&mut self, bytes: &Arc<Vec<u8>>, start: usize, end: usize, out: &mut Chain) {
        debug_assert!(start <= end && end <= bytes.len());
        let piece = &bytes[start..end];
        let Some(last) = piece.last() else { return };
        self.octets += piece.len() as u64;
        let mut copied = start;
        if self.before == Before::Line && piece[0] == b'.' {
            out.push_bytes(b".");
        }
        for lf in memchr_iter(b'\n', piece) {
            let after_cr = if lf == 0 { self.before == Before::Cr } else { piece[lf - 1] == b'\r' };
            if after_cr && piece.get(lf + 1) == Some(&b'.') {
                append(bytes, copied, start + lf + 1, out);
                out.push_bytes(b".");
                copied = start + lf + 1;
            }
        }
        append(bytes, copied, end, out);
        let cr_before = if piece.len() == 1 { self.before == Before::Cr } else { piece[piece.len() - 2] == b'\r' };
        self.before = match last {
            b'\r' => Before::Cr,
            b'\n' if cr_before => Before::Line,
            _ => Before::Other,
        };
    }

    /// Appends the end; `Stuffing` is as new then. Says how many octets the message had, the CRLF that was added included.
    pub fn finish(&mut self, out: &mut Chain) -> u64 {
        let mut octets = self.octets;
        if self.before != Before::Line {
            out.push_bytes(b"\r\n");
            octets += 2;
        }
        out.push_bytes(b".\r\n");
        *self = Stuffing::default();
        octets
    }
}

fn append(bytes: &Arc<Vec<u8>>, start: usize, end: usize, out: &mut Chain) {
    if end - start >= SHARED_OCTETS_MIN {
        out.push(Segment::Shared { bytes: bytes.clone(), start, end });
    } else {
        out.push_bytes(&bytes[start..end]);
    }
}

/// Where TOP ends: behind the header section, the empty line and so many lines of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopEnd {
    /// Lines of the text still to come; `None` in the header section.
    left: Option<u32>,
    lines: u32,
    /// Octets of the line so far: none, a CR only, or anything else.
    line: LineSoFar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineSoFar {
    Nothing,
    Cr,
    Something,
}

impl TopEnd {
    /// So many lines.
    pub fn new(lines: u32) -> TopEnd {
        TopEnd { left: None, lines, line: LineSoFar::Nothing }
    }

    /// How many octets of the piece belong to the top.
    pub fn take(&mut self, piece: &[u8]) -> usize {
        let mut at = 0;
        if self.is_reached() {
            return 0;
        }
        for lf in memchr_iter(b'\n', piece) {
            self.note(&piece[at..lf]);
            at = lf + 1;
            let is_empty = self.line != LineSoFar::Something;
            self.line = LineSoFar::Nothing;
            match &mut self.left {
                None if is_empty => self.left = Some(self.lines),
                None => {}
                Some(left) => *left -= 1,
            }
            if self.is_reached() {
                return at;
            }
        }
        self.note(&piece[at..]);
        piece.len()
    }

    fn note(&mut self, octets: &[u8]) {
        self.line = match (self.line, octets) {
            (line, []) => line,
            (LineSoFar::Nothing, [b'\r']) => LineSoFar::Cr,
            _ => LineSoFar::Something,
        };
    }

    /// Whether nothing more belongs to it.
    pub fn is_reached(&self) -> bool {
        self.left == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The naive twin.
    fn stuffed(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (i, octet) in message.iter().enumerate() {
            if *octet == b'.' && (i == 0 || message[..i].ends_with(b"\r\n")) {
                out.push(b'.');
            }
            out.push(*octet);
        }
        if !(out.is_empty() || message.ends_with(b"\r\n")) {
            out.extend(b"\r\n");
        }
        out.extend(b".\r\n");
        out
    }

    /// What a client makes of it.
    fn unstuffed(mut sent: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let end = sent.windows(2).position(|w| w == b"\r\n").unwrap() + 2;
            let (line, rest) = sent.split_at(end);
            if line == b".\r\n" {
                assert_eq!(rest, b"");
                return out;
            }
            out.extend(line.strip_prefix(b".").unwrap_or(line));
            sent = rest;
        }
    }

    fn sent(message: &[u8], cuts: &[usize]) -> (Vec<u8>, u64) {
        let (mut stuffing, mut chain, mut at) = (Stuffing::default(), Chain::new(), 0);
        let bytes = Arc::new(message.to_vec());
        for cut in cuts.iter().copied().chain([message.len()]) {
            let end = cut.clamp(at, message.len());
            stuffing.push(&bytes, at, end, &mut chain);
            at = end;
        }
        let octets = stuffing.finish(&mut chain);
        (chain.to_vec(), octets)
    }

    #[test]
    fn a_large_run_is_not_copied_and_short_ones_are_joined() {
        let (mut stuffing, mut chain) = (Stuffing::default(), Chain::new());
        stuffing.push(&Arc::new(vec![b'x'; 10_000]), 0, 10_000, &mut chain);
        assert!(matches!(chain.segments(), [Segment::Shared { .. }]));
        let dots = b".\r\n".repeat(10_000);
        let mut chain = Chain::new();
        Stuffing::default().push(&Arc::new(dots), 0, 30_000, &mut chain);
        assert!(chain.segments().len() < 5, "{}", chain.segments().len());
        assert_eq!(chain.octets(), 40_000);
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![b'.', b'\r', b'\n', b'a']), 0..60)
    }

    proptest! {
        #[test]
        fn it_is_the_twin_and_the_client_gets_the_message(message in text(), cuts in prop::collection::vec(0usize..60, 0..6)) {
            let (wire, octets) = sent(&message, &cuts);
            prop_assert_eq!(&wire, &stuffed(&message));
            let got = unstuffed(&wire);
            prop_assert_eq!(got.len() as u64, octets);
            prop_assert!(got == message || got == [message.as_slice(), b"\r\n"].concat());
        }

        #[test]
        fn the_top_is_the_header_and_so_many_lines(message in text(), lines in 0u32..4, cut in 0usize..60) {
            let mut expected = 0;
            let mut left = None;
            for line in message.split_inclusive(|b| *b == b'\n') {
                if left == Some(0) {
                    break;
                }
                expected += line.len();
                left = match left {
                    None if line == b"\r\n" || line == b"\n" => Some(lines),
                    Some(n) if line.ends_with(b"\n") => Some(n - 1),
                    other => other,
                };
            }
            let (mut end, cut) = (TopEnd::new(lines), cut.min(message.len()));
            let first = end.take(&message[..cut]);
            let taken = first + if first == cut { end.take(&message[cut..]) } else { 0 };
            prop_assert_eq!(taken, expected);
        }
    }
}
