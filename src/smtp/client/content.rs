//! The body on its way out: counted for BDAT, or dot-stuffed and ended for DATA. Octets in memory are sent without
//! copying; a body in a file is asked for piece by piece.
//!
//! How it fails: [`Content::supply`] says when the pieces of a file do not add up to the length the body was said to
//! have; nothing that has been promised to BDAT can be taken back, so the connection is lost with it.

use crate::base::body::{Body, Store};
use crate::base::buf::{Output, Segment};
use std::collections::VecDeque;
use std::sync::Arc;

/// Pieces shorter than this are copied together: a segment of a vectored write costs more than they do.
const SHARED_OCTETS_MIN: usize = 1024;

/// How the end of the body is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// BDAT: its length was told before.
    Counted,
    /// DATA: `.` on a line of its own.
    Dotted,
}

/// A body being sent.
#[derive(Debug)]
pub(super) struct Content {
    framing: Framing,
    chunks: VecDeque<Arc<Vec<u8>>>,
    /// How much of the first chunk is gone.
    at: usize,
    /// Octets of the body (without prefix) that have been asked for or are in `chunks`.
    requested: u64,
    /// Octets of the body that have been supplied.
    supplied: u64,
    octets: u64,
    ends_with_crlf: bool,
    stuffing: Option<LineState>,
    finished: bool,
}

/// What stood before the next octet, for dot-stuffing over chunk boundaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineState {
    /// CRLF, or nothing: a dot must be doubled.
    Start,
    /// CR.
    AfterCr,
    /// Anything else.
    Inside,
}

impl LineState {
    fn after(self, octet: u8) -> LineState {
        match (self, octet) {
            (_, b'\r') => LineState::AfterCr,
            (LineState::AfterCr, b'\n') => LineState::Start,
            _ => LineState::Inside,
        }
    }
}

impl Content {
    /// `prefix` goes before the body; it is whole lines or nothing.
    pub(super) fn new(framing: Framing, prefix: Vec<u8>, body: &Body) -> Content {
        debug_assert!(prefix.is_empty() || prefix.ends_with(b"\r\n"));
        let dotted_prefix = prefix.starts_with(b".") || memchr::memmem::find(&prefix, b"\r\n.").is_some();
        let mut chunks = VecDeque::new();
        if !prefix.is_empty() {
            chunks.push_back(Arc::new(prefix));
        }
        let mut in_memory = 0;
        if let Store::Memory(all) = &body.store {
            chunks.extend(all.iter().filter(|c| !c.is_empty()).cloned());
            in_memory = body.shape.octets;
        }
        let stuff = framing == Framing::Dotted && (body.shape.needs_stuffing || dotted_prefix);
        Content {
            framing,
            chunks,
            at: 0,
            requested: in_memory,
            supplied: in_memory,
            octets: body.shape.octets,
            ends_with_crlf: body.shape.ends_with_crlf || body.shape.octets == 0,
            stuffing: stuff.then_some(LineState::Start),
            finished: false,
        }
    }

    /// Whether the last octet, with the end mark, has been handed out.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether its length was told by BDAT.
    pub(super) fn is_counted(&self) -> bool {
        self.framing == Framing::Counted
    }

    /// Whether it waits for [`Content::supply`].
    pub(super) fn is_starved(&self) -> bool {
        self.chunks.is_empty() && self.requested > self.supplied
    }

    /// What to ask for next, so that at most two pieces of `read_octets` are held: offset and length.
    pub(super) fn want(&mut self, read_octets: usize) -> Option<(u64, usize)> {
        let idle = self.requested == self.supplied && self.chunks.len() < 2;
        if !idle || self.requested == self.octets {
            return None;
        }
        let length = read_octets.min(usize::try_from(self.octets - self.requested).unwrap_or(usize::MAX));
        let offset = self.requested;
        self.requested += length as u64;
        Some((offset, length))
    }

    /// The next octets of a body kept in a file; `last` says that there are no more.
    pub(super) fn supply(&mut self, bytes: Vec<u8>, last: bool) -> Result<(), String> {
        let n = bytes.len() as u64;
        if self.requested == self.supplied {
            return Err(format!("{n} octets came that had not been asked for"));
        }
        if self.supplied + n > self.octets || last != (self.supplied + n == self.octets) || n == 0 {
            return Err(format!("expected {} octets in all, found {}", self.octets, self.supplied + n));
        }
        self.supplied += n;
        self.requested = self.supplied; // a short read is asked for again
        self.chunks.push_back(Arc::new(bytes));
        Ok(())
    }

    /// Moves octets to `out` until it is full, the body is finished or more must be supplied. Whether any were moved.
    pub(super) fn fill(&mut self, out: &mut Output) -> bool {
        let before = out.octets();
        while !out.is_full() {
            let Some(chunk) = self.chunks.pop_front() else { break };
            match self.stuffing {
                None => push_piece(out, &chunk, 0, chunk.len()),
                Some(state) => {
                    let (state, stopped_at) = stuff(state, &chunk, self.at, out);
                    self.stuffing = Some(state);
                    self.at = stopped_at;
                    if stopped_at < chunk.len() {
                        self.chunks.push_front(chunk);
                        break;
                    }
                    self.at = 0;
                }
            }
        }
        if self.chunks.is_empty() && self.supplied == self.octets && !self.finished {
            self.finish(out);
        }
        out.octets() > before
    }

    fn finish(&mut self, out: &mut Output) {
        self.finished = true;
        if self.framing == Framing::Dotted {
            // RFC 5321 §4.1.1.4: the end of data is the CRLF of the last line, a dot, CRLF.
            let end: &[u8] = if self.ends_with_crlf { b".\r\n" } else { b"\r\n.\r\n" };
            out.extend(end);
        }
    }
}

fn push_piece(out: &mut Output, chunk: &Arc<Vec<u8>>, start: usize, end: usize) {
    if end - start < SHARED_OCTETS_MIN {
        out.extend(&chunk[start..end]);
    } else {
        out.push(Segment::Shared { bytes: chunk.clone(), start, end });
    }
}

/// Sends `chunk` from `at` on with a dot before each dot that begins a line (RFC 5321 §4.5.2), until `out` is full.
fn stuff(mut state: LineState, chunk: &Arc<Vec<u8>>, mut at: usize, out: &mut Output) -> (LineState, usize) {
    // The first octets may continue a line end that began in the chunk before.
    while at < chunk.len() && state != LineState::Inside {
        if state == LineState::Start && chunk[at] == b'.' {
            out.extend(b".");
        }
        out.extend(&chunk[at..at + 1]);
        state = state.after(chunk[at]);
        at += 1;
    }
    let finder = memchr::memmem::Finder::new(b"\r\n.");
    while at < chunk.len() {
        if out.is_full() {
            return (LineState::Inside, at); // `at` is never behind a line end here, see below
        }
        let Some(found) = finder.find(&chunk[at..]) else {
            push_piece(out, chunk, at, chunk.len());
            let tail = &chunk[chunk.len().saturating_sub(2).max(at)..];
            return (tail.iter().fold(LineState::Inside, |s, b| s.after(*b)), chunk.len());
        };
        let dot = at + found + 2;
        push_piece(out, chunk, at, dot);
        out.extend(b"..");
        at = dot + 1;
    }
    (state, at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::body::BodyShape;
    use proptest::prelude::*;

    fn shape_of(bytes: &[u8]) -> BodyShape {
        BodyShape {
            octets: bytes.len() as u64,
            needs_stuffing: bytes.starts_with(b".") || bytes.windows(3).any(|w| w == b"\r\n."),
            ends_with_crlf: bytes.is_empty() || bytes.ends_with(b"\r\n"),
            ..BodyShape::default()
        }
    }

    /// The slow twin: stuffs octet by octet.
    fn naive(bytes: &[u8]) -> Vec<u8> {
        let mut out: Vec<u8> = Vec::new();
        for (i, b) in bytes.iter().enumerate() {
            if *b == b'.' && (i == 0 || bytes[..i].ends_with(b"\r\n")) {
                out.push(b'.');
            }
            out.push(*b);
        }
        if !bytes.is_empty() && !bytes.ends_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
        out
    }

    fn drain(content: &mut Content, high_water_octets: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let mut out = Output::new(high_water_octets);
            content.fill(&mut out);
            if out.is_empty() {
                return all;
            }
            all.extend(out.take().to_vec());
        }
    }

    #[test]
    fn large_pieces_are_not_copied() {
        let chunk = Arc::new(vec![b'x'; 100_000]);
        let body = Body::memory(shape_of(&chunk), vec![chunk.clone()]);
        let mut content = Content::new(Framing::Counted, b"A: b\r\n".to_vec(), &body);
        let mut out = Output::new(1 << 20);
        assert!(content.fill(&mut out) && content.is_finished());
        let chain = out.take();
        assert!(chain.segments().iter().any(|s| s.as_slice().as_ptr() == chunk.as_ptr()));
        assert_eq!(chain.octets(), 100_006);
    }

    #[test]
    fn a_file_that_is_shorter_or_longer_than_it_was_is_noticed() {
        let shape = BodyShape { octets: 10, ends_with_crlf: true, ..BodyShape::default() };
        let body = Body { shape, store: Store::Memory(vec![]) };
        let fresh = || {
            let mut c = Content::new(Framing::Counted, vec![], &body);
            (c.requested, c.supplied) = (0, 0);
            assert_eq!(c.want(6), Some((0, 6)));
            assert_eq!(c.want(6), None);
            assert!(c.is_starved());
            c
        };
        assert!(fresh().supply(vec![0; 6], true).is_err());
        assert!(fresh().supply(vec![0; 11], false).is_err());
        assert!(fresh().supply(vec![], false).is_err());
        let mut c = fresh();
        c.supply(vec![1; 6], false).unwrap();
        assert_eq!(c.want(6), Some((6, 4)));
        c.supply(vec![2; 3], false).unwrap();
        drain(&mut c, 100);
        assert_eq!(c.want(6), Some((9, 1)));
        c.supply(vec![3], true).unwrap();
        assert_eq!(drain(&mut c, 100), [3]);
        assert!(c.is_finished() && c.supply(vec![1], true).is_err());
    }

    proptest! {
        #[test]
        fn stuffing_agrees_with_its_slow_twin_at_any_split(
            parts in proptest::collection::vec(proptest::sample::select(vec!["\r\n", ".", "..", "a", "\r", "abc\r\n", "\r\n.\r\n"]), 0..40),
            cuts in proptest::collection::vec(0usize..60, 0..6),
            high_water_octets in 1usize..40,
        ) {
            let bytes: Vec<u8> = parts.concat().into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let chunks = cuts.windows(2).map(|w| Arc::new(bytes[w[0]..w[1]].to_vec())).collect();
            let body = Body::memory(shape_of(&bytes), chunks);
            let sent = drain(&mut Content::new(Framing::Dotted, vec![], &body), high_water_octets);
            prop_assert_eq!(sent, naive(&bytes));
            let counted = drain(&mut Content::new(Framing::Counted, vec![], &body), high_water_octets);
            prop_assert_eq!(counted, bytes);
        }
    }
}
