//! Messages of APPEND and REPLACE on their way in: learnt about as they come, held in memory up to a bound, spilled
//! beyond it.
//!
//! How it fails: an offence is remembered and the octets let go; the client hears of it at the end of its command, so
//! that the session stays in step.

use super::config::ImapKnobs;
use crate::base::body::Body;
use crate::base::body::BodyShape;
use crate::base::mailbox::ask::StoreError;
use crate::wire::data::{BareNewline, DataRules, Framing, Text};
use memchr::memchr;
use std::sync::Arc;

/// Octets taken at a time: the overshoot above the bound in memory.
const STEP_OCTETS: usize = 32 * 1024;

/// Why the messages of a command cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadError {
    /// A NUL outside a literal8 (RFC 9051 §9, CHAR8; RFC 3516 §4.4).
    Nul,
    /// The scratch file.
    Store(StoreError),
}

/// The messages of one command.
#[derive(Debug)]
pub struct Upload {
    /// Those that are whole.
    pub bodies: Vec<Body>,
    /// The one on its way.
    current: Option<Incoming>,
    error: Option<UploadError>,
    memory_octets_max: usize,
}

#[derive(Debug)]
struct Incoming {
    text: Text,
    held: Vec<u8>,
    /// The header section, once octets have been spilled.
    head: Option<Vec<u8>>,
    /// Literal8: NUL may be in it.
    binary: bool,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// Nothing.
    More,
    /// Octets are to be spilled; the first of their message.
    Spill(bool, Vec<u8>),
    /// The scratch file is whole.
    SpillEnd(BodyShape, Vec<u8>),
}

impl Upload {
    /// Before the first message.
    pub fn new(knobs: &ImapKnobs) -> Upload {
        Upload { bodies: Vec::new(), current: None, error: None, memory_octets_max: knobs.body_memory_octets_max.len() }
    }
    /// A message of so many octets begins.
    pub fn begin(&mut self, octets: u64, binary: bool) {
        let rules = DataRules {
            framing: Framing::Chunks,
            bare_newline: BareNewline::Normalise,
            // RFC 9051 §6.3.12: what is appended is kept as it is.
            binary: true,
            octets_max: u64::MAX,
            header_octets_max: u64::MAX,
            line_octets_max: u64::MAX,
        };
        let reserve = usize::try_from(octets).unwrap_or(usize::MAX).min(STEP_OCTETS);
        let held = Vec::with_capacity(reserve);
        self.current = Some(Incoming { text: Text::new(rules), held, head: None, binary });
    }
    /// Octets of it.
    pub fn feed(&mut self, octets: &[u8]) -> Step {
        let others = self.memory_octets();
        let Some(incoming) = self.current.as_mut() else { return Step::More };
        if !incoming.binary && memchr(0, octets).is_some() {
            self.error.get_or_insert(UploadError::Nul);
        }
        if self.error.is_some() {
            incoming.held = Vec::new();
            return Step::More;
        }
        incoming.text.feed(octets, &mut incoming.held);
        if others + octets.len() > self.memory_octets_max { incoming.spill() } else { Step::More }
    }
    /// It is whole.
    pub fn end(&mut self) -> Step {
        let Some(incoming) = self.current.as_mut() else { return Step::More };
        incoming.text.finish(&mut incoming.held);
        if self.error.is_some() {
            return Step::More;
        }
        match incoming.head.take() {
            Some(head) if !incoming.held.is_empty() => {
                incoming.head = Some(head);
                incoming.spill()
            }
            // However it is answered, there is no scratch file then.
            Some(head) => Step::SpillEnd(incoming.text.shape(), head),
            None => {
                let body = Body::memory(incoming.text.shape(), vec![Arc::new(std::mem::take(&mut incoming.held))]);
                self.keep(body);
                Step::More
            }
        }
    }
    /// The current one is kept as this.
    pub fn keep(&mut self, body: Body) {
        self.current = None;
        self.bodies.push(body);
    }
    /// It cannot be kept.
    pub fn fail(&mut self, error: UploadError) {
        self.error.get_or_insert(error);
        if let Some(incoming) = self.current.as_mut() {
            incoming.held = Vec::new();
        }
        self.bodies.clear();
    }
    /// What went wrong.
    pub fn error(&self) -> Option<&UploadError> {
        self.error.as_ref()
    }
    /// Whether a scratch file has been begun and not ended.
    pub fn has_scratch(&self) -> bool {
        self.current.as_ref().is_some_and(|i| i.head.is_some())
    }
    /// Octets of memory in use.
    pub fn memory_octets(&self) -> usize {
        let whole: usize =
            self.bodies.iter().map(|b| b.segments().map_or(0, |s| s.map(|s| s.as_slice().len()).sum())).sum();
        whole + self.current.as_ref().map_or(0, |i| i.held.len())
    }
}

impl Incoming {
    fn spill(&mut self) -> Step {
        let first = self.head.is_none();
        if first {
            let header = usize::try_from(self.text.shape().header_octets).unwrap_or(usize::MAX);
            self.head = Some(self.held[..header.min(self.held.len())].to_vec());
        }
        Step::Spill(first, std::mem::take(&mut self.held))
    }
}
