//! What waits for the wire: text written here, and pieces of messages that are shared and not copied.
//!
//! How it fails: it does not; whoever writes much asks [`Outbox::is_full`] in between.

use crate::base::buf::{Output, Segment};
use crate::wire::imap::emit;
use std::collections::VecDeque;
use std::sync::Arc;

/// From this many octets on a piece of a message is sent from where it is; a smaller one is cheaper to copy.
const SHARE_OCTETS_MIN: usize = 4096;

/// Octets in order.
#[derive(Debug, Default)]
pub struct Outbox {
    segments: VecDeque<Segment>,
    /// Behind the segments.
    pub text: Vec<u8>,
    segments_octets: usize,
}

impl Outbox {
    /// Octets waiting.
    pub fn octets(&self) -> usize {
        self.segments_octets + self.text.len()
    }
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.octets() == 0
    }
    /// Adds text.
    pub fn say(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }
    /// Adds a line and its end.
    pub fn line(&mut self, text: &str) {
        self.say(text);
        self.say("\r\n");
    }
    /// Adds a number.
    pub fn number(&mut self, n: u64) {
        emit::number(&mut self.text, n);
    }
    /// Adds a piece of a shared allocation.
    pub fn share(&mut self, bytes: &Arc<Vec<u8>>, start: usize, end: usize) {
        if end - start < SHARE_OCTETS_MIN {
            return self.text.extend_from_slice(&bytes[start..end]);
        }
        self.seal();
        self.segments_octets += end - start;
        self.segments.push_back(Segment::Shared { bytes: bytes.clone(), start, end });
    }
    fn seal(&mut self) {
        if !self.text.is_empty() {
            self.segments_octets += self.text.len();
            self.segments.push_back(Segment::Owned(std::mem::take(&mut self.text)));
        }
    }
    /// Moves what fits to the wire.
    pub fn drain(&mut self, out: &mut Output) {
        while !out.is_full() {
            let Some(segment) = self.segments.pop_front() else { break };
            self.segments_octets -= segment.as_slice().len();
            out.push(segment);
        }
        if self.segments.is_empty() && !out.is_full() && !self.text.is_empty() {
            out.extend(&self.text);
            self.text = Vec::new();
        }
    }
    /// Gives back what an idle session does not need.
    pub fn shrink(&mut self) {
        if self.segments.is_empty() {
            self.segments = VecDeque::new();
        }
        if self.text.is_empty() {
            self.text = Vec::new();
        }
    }
    /// Octets of memory in use, shared pieces included.
    pub fn memory_octets(&self) -> usize {
        self.segments_octets + self.text.capacity() + self.segments.capacity() * size_of::<Segment>()
    }
}
