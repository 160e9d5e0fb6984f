//! Byte buffers between the drivers and the machines: [`Input`] (a view over what arrived), [`Output`] (what is to be
//! sent, with a high-water mark) and [`Chain`] (segments that one vectored write sends without copying them together).
//!
//! How it fails: nothing here fails; `Input::consume` asserts in debug builds that it stays inside the view.

use smallvec::SmallVec;
use std::sync::Arc;

/// Bytes that arrived and are not yet consumed. What a machine leaves is shown to it again in front of the next bytes.
#[derive(Debug)]
pub struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    /// A view over `bytes`.
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { bytes, at: 0 }
    }
    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }
    /// Takes `n` octets (at most what is left) off the front and returns them.
    pub fn consume(&mut self, n: usize) -> &'a [u8] {
        debug_assert!(n <= self.bytes.len() - self.at);
        let end = self.bytes.len().min(self.at + n);
        let taken = &self.bytes[self.at..end];
        self.at = end;
        taken
    }
    /// How much has been consumed.
    pub fn consumed(&self) -> usize {
        self.at
    }
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }
}

/// One piece of a [`Chain`].
#[derive(Clone, Debug)]
pub enum Segment {
    /// Text that lives in the program.
    Static(&'static [u8]),
    /// Bytes owned by the chain.
    Owned(Vec<u8>),
    /// Bytes also held elsewhere (a message body that may be sent again).
    Shared {
        /// The whole allocation.
        bytes: Arc<Vec<u8>>,
        /// First octet of the piece.
        start: usize,
        /// One past the last octet.
        end: usize,
    },
}

impl Segment {
    /// All of a shared allocation.
    pub fn shared(bytes: Arc<Vec<u8>>) -> Segment {
        let end = bytes.len();
        Segment::Shared { bytes, start: 0, end }
    }
    /// The octets.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Segment::Static(b) => b,
            Segment::Owned(b) => b,
            Segment::Shared { bytes, start, end } => &bytes[*start..*end],
        }
    }
}

/// Segments to send in order, in one vectored write where the kernel takes it.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    segments: SmallVec<[Segment; 4]>,
    octets: usize,
}

impl Chain {
    /// An empty chain.
    pub fn new() -> Chain {
        Chain::default()
    }
    /// Appends a segment; empty ones are left out.
    pub fn push(&mut self, segment: Segment) {
        let n = segment.as_slice().len();
        if n > 0 {
            self.octets += n;
            self.segments.push(segment);
        }
    }
    /// Appends owned bytes, joining them with an owned tail when that is small.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Some(Segment::Owned(tail)) = self.segments.last_mut()
            && tail.len() + bytes.len() <= 16 * 1024
        {
            tail.extend_from_slice(bytes);
            self.octets += bytes.len();
            return;
        }
        self.push(Segment::Owned(bytes.to_vec()));
    }
    /// Moves all segments of `other` to the end.
    pub fn append(&mut self, mut other: Chain) {
        self.octets += other.octets;
        self.segments.append(&mut other.segments);
    }
    /// Octets in all.
    pub fn octets(&self) -> usize {
        self.octets
    }
    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.octets == 0
    }
    /// The segments in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
    /// Everything in one vector (tests, TLS).
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.octets);
        self.segments.iter().for_each(|s| all.extend_from_slice(s.as_slice()));
        all
    }
}

impl From<Vec<u8>> for Chain {
    fn from(bytes: Vec<u8>) -> Chain {
        let mut chain = Chain::new();
        chain.push(Segment::Owned(bytes));
        chain
    }
}

/// Where a machine puts what it wants sent. A machine stops adding when [`Output::is_full`].
#[derive(Debug)]
pub struct Output {
    chain: Chain,
    high_water_octets: usize,
}

impl Output {
    /// An empty output that counts as full from `high_water_octets` on.
    pub fn new(high_water_octets: usize) -> Output {
        Output { chain: Chain::new(), high_water_octets }
    }
    /// Whether the machine should wait until some of it has been sent.
    pub fn is_full(&self) -> bool {
        self.chain.octets() >= self.high_water_octets
    }
    /// Adds bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.chain.push_bytes(bytes);
    }
    /// Adds a segment without copying it.
    pub fn push(&mut self, segment: Segment) {
        self.chain.push(segment);
    }
    /// Adds all segments of a chain without copying them.
    pub fn append(&mut self, chain: Chain) {
        self.chain.append(chain);
    }
    /// Takes everything, leaving it empty.
    pub fn take(&mut self) -> Chain {
        std::mem::take(&mut self.chain)
    }
    /// Whether nothing is to be sent.
    pub fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }
    /// Octets waiting.
    pub fn octets(&self) -> usize {
        self.chain.octets()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_keeps_order_and_count() {
        let mut c = Chain::new();
        c.push_bytes(b"a");
        c.push_bytes(b"b");
        c.push(Segment::Static(b""));
        c.push(Segment::shared(Arc::new(b"cd".to_vec())));
        c.push_bytes(b"e");
        assert_eq!(c.to_vec(), b"abcde");
        assert_eq!(c.octets(), 5);
        assert_eq!(c.segments().len(), 3);
    }

    #[test]
    fn input_gives_back_what_is_left() {
        let mut i = Input::new(b"hello");
        assert_eq!(i.consume(2), b"he");
        assert_eq!(i.rest(), b"llo");
        assert_eq!(i.consumed(), 2);
    }
}
