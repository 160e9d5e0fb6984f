//! A message that was read, with its structure.
//!
//! How it fails: [`Unreadable`] when its octets are gone or damaged.

use crate::base::mailbox::ContentId;
use crate::log::Disk;
use crate::mailstore::embedded::octets::Unreadable;
use crate::mailstore::embedded::reader::EmbeddedReader;
use crate::wire::mime::{self, Structure};
use std::sync::Arc;

/// What is read first of a large message in order to have its header; then four times as much.
const FRONT_OCTETS: usize = 32 * 1024;
/// Octets of a header at most; what is longer is read as a whole message.
const HEADER_OCTETS_MAX: usize = 2 << 20;

/// See the module.
#[derive(Clone)]
pub(in crate::mailstore::embedded) struct Parsed {
    pub content: ContentId,
    pub bytes: Arc<Vec<u8>>,
    pub structure: Arc<Structure>,
}

impl<D: Disk + Sync> EmbeddedReader<D> {
    /// A whole message and its structure; the last one is remembered.
    pub fn parsed(&mut self, content: ContentId) -> Result<Parsed, Unreadable> {
        if let Some(last) = self.last.as_ref().filter(|l| l.content == content) {
            return Ok(last.clone());
        }
        let bytes = Arc::new(self.shared.read_all(content)?);
        let structure = Arc::new(Structure::parse(&bytes));
        let parsed = Parsed { content, bytes, structure };
        self.last = Some(parsed.clone());
        Ok(parsed)
    }

    /// The header section of a message, its empty line included; of a large message not more than that is read.
    pub fn header(&mut self, content: ContentId) -> Result<Vec<u8>, Unreadable> {
        let octets = self.shared.content(content).ok_or(Unreadable)?.octets;
        let mut want = FRONT_OCTETS;
        loop {
            let mut front = self.shared.read(content, 0, want)?;
            if let Some(end) = mime::header_section(&front) {
                front.truncate(end);
                return Ok(front);
            }
            if front.len() as u64 >= octets || want >= HEADER_OCTETS_MAX {
                return Ok(front); // no empty line: all of it is header
            }
            want *= 4;
        }
    }
}
