//! A chain on its way to the kernel: which octets have been taken, and what to offer next.
//!
//! How it fails: it does not; `advance` asserts in debug builds that the kernel took no more than was offered.

use crate::base::buf::Chain;
use std::io::IoSlice;

/// Segments offered in one vectored call at most. The kernel allows 1024 (UIO_MAXIOV); beyond 64 the cost of the call
/// disappears behind the copying.
pub(super) const SLICES_MAX: usize = 64;

/// An open send.
pub(super) struct Outgoing {
    chain: Chain,
    /// The segment that is sent next, and how much of it is gone.
    segment: usize,
    offset: usize,
    taken: usize,
}

impl Outgoing {
    pub(super) fn new(chain: Chain) -> Outgoing {
        Outgoing { chain, segment: 0, offset: 0, taken: 0 }
    }

    /// Octets the kernel has taken.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    pub(super) fn is_done(&self) -> bool {
        self.taken == self.chain.octets()
    }

    /// What is left, piece by piece in order, at most [`SLICES_MAX`] of them.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let rest = &self.chain.segments()[self.segment..];
        rest.iter().take(SLICES_MAX).enumerate().map(|(i, s)| &s.as_slice()[if i == 0 { self.offset } else { 0 }..])
    }

    /// How many pieces [`Outgoing::pieces`] gives.
    pub(super) fn pieces_len(&self) -> usize {
        (self.chain.segments().len() - self.segment).min(SLICES_MAX)
    }

    /// [`Outgoing::pieces`] for a vectored call; returns how many there are.
    pub(super) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let mut n = 0;
        for piece in self.pieces() {
            slices[n] = IoSlice::new(piece);
            n += 1;
        }
        n
    }

    /// The kernel took `octets`.
    pub(super) fn advance(&mut self, mut octets: usize) {
        self.taken += octets;
        debug_assert!(self.taken <= self.chain.octets());
        let segments = self.chain.segments();
        while let Some(segment) = segments.get(self.segment) {
            let left = segment.as_slice().len() - self.offset;
            if octets < left {
                self.offset += octets;
                return;
            }
            octets -= left;
            self.segment += 1;
            self.offset = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::buf::Segment;

    #[test]
    fn any_split_sends_every_octet_once() {
        let mut whole = Chain::new();
        for n in 1..=80usize {
            whole.push(Segment::Owned(vec![n as u8; n % 7 + 1]));
        }
        let all = whole.to_vec();
        for step in 1..=all.len() {
            let mut out = Outgoing::new(whole.clone());
            let mut sent = Vec::new();
            while !out.is_done() {
                let offered: Vec<u8> = out.pieces().flatten().copied().collect();
                let n = offered.len().min(step);
                sent.extend_from_slice(&offered[..n]);
                out.advance(n);
            }
            assert_eq!(sent, all);
            assert_eq!(out.taken(), all.len());
        }
    }
}
