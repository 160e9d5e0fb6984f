//! The text of one message on its way in: scanned, held in memory up to a bound, spilled beyond it.
//!
//! How it fails: an offence in the text or a failed spill is remembered and its octets are let go; the reply is due at
//! the end of data, so that the session stays in step.

use crate::base::body::Body;
use crate::base::time::Instant;
use crate::smtp::server::ask::MessageText;
use crate::smtp::server::config::SmtpKnobs;
use crate::wire::data::{DataRules, Fed, Framing, Text};
use crate::wire::replies;
use crate::wire::reply::Reply;
use std::sync::Arc;

/// Octets scanned at a time: the overshoot above the bound in memory.
const STEP_OCTETS: usize = 32 * 1024;
/// Octets reserved for a message whose size was not declared: most mail fits after one growth.
const RESERVE_OCTETS: usize = 8 * 1024;

/// A message being received.
#[derive(Debug)]
pub struct Intake {
    text: Text,
    held: Vec<u8>,
    /// The header section, once octets have been spilled.
    head: Option<Arc<Vec<u8>>>,
    failure: Option<Reply>,
    memory_octets_max: usize,
    /// When the client was asked for it.
    pub started: Instant,
}

impl Intake {
    /// For a message whose text comes in `framing`.
    pub fn new(knobs: &SmtpKnobs, framing: Framing, binary: bool, declared: Option<u64>, now: Instant) -> Intake {
        let rules = DataRules {
            framing,
            bare_newline: knobs.bare_newline,
            binary,
            octets_max: knobs.message_octets_max.0,
            header_octets_max: knobs.header_octets_max.0,
            line_octets_max: knobs.text_line_octets_max.0,
        };
        let memory_octets_max = knobs.body_memory_octets_max.len();
        // A declared size is a claim: it reserves no more than fits into one step.
        let declared = declared.and_then(|n| usize::try_from(n).ok()).unwrap_or(RESERVE_OCTETS);
        Intake {
            text: Text::new(rules),
            held: Vec::with_capacity(declared.min(STEP_OCTETS)),
            head: None,
            failure: None,
            memory_octets_max,
            started: now,
        }
    }

    /// Takes octets off the front of `bytes`, at most one step.
    pub fn feed(&mut self, bytes: &[u8]) -> Fed {
        let fed = self.text.feed(&bytes[..bytes.len().min(STEP_OCTETS)], &mut self.held);
        self.let_go_if_lost();
        fed
    }

    /// After the last octet of the last chunk.
    pub fn finish(&mut self) {
        self.text.finish(&mut self.held);
        self.let_go_if_lost();
    }

    /// The message cannot be kept: the client will hear why at its end.
    pub fn fail(&mut self, reply: Reply) {
        self.failure.get_or_insert(reply);
        self.let_go_if_lost();
    }

    fn let_go_if_lost(&mut self) {
        if self.failure.is_some() || self.text.offence().is_some() {
            self.held = Vec::new();
        }
    }

    /// What the client hears instead of acceptance.
    pub fn failure(&self) -> Option<Reply> {
        self.text.offence().map(replies::offence).or_else(|| self.failure.clone())
    }

    /// Whether more is held than may be.
    pub fn must_spill(&self) -> bool {
        self.held.len() > self.memory_octets_max
    }

    /// Whether the rest has to follow what was spilled before.
    pub fn must_spill_rest(&self) -> bool {
        self.must_spill() || self.head.is_some() && !self.held.is_empty()
    }

    /// Takes what is held; true when it is the first to be spilled.
    pub fn spill(&mut self) -> (bool, Vec<u8>) {
        let first = self.head.is_none();
        if first {
            let header = usize::try_from(self.text.shape().header_octets).unwrap_or(usize::MAX);
            self.head = Some(Arc::new(self.held[..header.min(self.held.len())].to_vec()));
        }
        (first, std::mem::take(&mut self.held))
    }

    /// Octets of text so far.
    pub fn octets(&self) -> u64 {
        self.text.shape().octets
    }

    /// Octets of memory in use.
    pub fn memory_octets(&self) -> usize {
        self.held.capacity() + self.head.as_ref().map_or(0, |h| h.len())
    }

    /// The whole message.
    pub fn into_text(self) -> MessageText {
        let shape = self.text.shape();
        match self.head {
            Some(head) => MessageText::Spilled { shape, head },
            None => MessageText::Memory(Body::memory(shape, vec![Arc::new(self.held)])),
        }
    }
}
