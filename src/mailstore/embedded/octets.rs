//! The octets of messages: from the record in the log, and from the file beside it where the message is large.
//!
//! How it fails: [`Unreadable`] when what should be there is not what was written there. A record that was moved while it
//! was being read is looked up again.

use super::shared::{Content, Shared};
use crate::base::mailbox::ContentId;
use crate::log::{Disk, LogError};
use std::path::{Path, PathBuf};

/// How often a content is looked up again because it was moved meanwhile.
const TRIES: usize = 4;

/// The content is gone, or damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// The file of a content.
pub(super) fn path_of(bodies: &Path, content: ContentId) -> PathBuf {
    bodies.join(format!("{:016x}.body", content.0))
}

/// The content whose file has this name.
pub(super) fn content_of(name: &str) -> Option<ContentId> {
    u64::from_str_radix(name.strip_suffix(".body")?, 16).ok().map(ContentId)
}

impl<D: Disk> Shared<D> {
    /// Octets of a message from `offset`, at most `octets_max`; fewer only at its end.
    pub fn read(&self, id: ContentId, offset: u64, octets_max: usize) -> Result<Vec<u8>, Unreadable> {
        let mut last = None;
        for _ in 0..TRIES {
            let content = self.content(id).ok_or(Unreadable)?;
            if last.replace(content.at) == Some(content.at) {
                break; // it was not moved: it is damaged
            }
            match self.read_at(id, content, offset, octets_max) {
                Ok(octets) => return Ok(octets),
                Err(LogError::Damaged { .. }) => {}
                Err(_) => return Err(Unreadable),
            }
        }
        Err(Unreadable)
    }

    /// All of a message.
    pub fn read_all(&self, id: ContentId) -> Result<Vec<u8>, Unreadable> {
        let octets = self.content(id).ok_or(Unreadable)?.octets;
        self.read(id, 0, usize::try_from(octets).map_err(|_| Unreadable)?)
    }

    /// All of a message, checked and not moved in memory: it begins at the octet that is returned beside it.
    pub fn read_whole(&self, id: ContentId) -> Result<(Vec<u8>, usize), Unreadable> {
        let mut last = None;
        for _ in 0..TRIES {
            let content = self.content(id).ok_or(Unreadable)?;
            if content.in_file.is_some() {
                return self.read_all(id).map(|octets| (octets, 0));
            }
            if last.replace(content.at) == Some(content.at) {
                break; // it was not moved: it is damaged
            }
            match self.log.read_record(content.at) {
                Ok((record, payload_at)) => return Ok((record, payload_at + content.front as usize)),
                Err(LogError::Damaged { .. }) => {}
                Err(_) => return Err(Unreadable),
            }
        }
        Err(Unreadable)
    }

    fn read_at(&self, id: ContentId, content: Content, offset: u64, octets_max: usize) -> Result<Vec<u8>, LogError> {
        let left = content.octets.saturating_sub(offset);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(octets_max);
        let Some(in_record) = content.in_file else {
            if offset == 0 && wanted as u64 == content.octets {
                // All of it: then its checksum can be checked, too.
                let mut payload = self.log.read(content.at)?;
                payload.drain(..content.front as usize);
                return Ok(payload);
            }
            return self.log.read_piece(content.at, u64::from(content.front) + offset, wanted);
        };
        let mut octets = Vec::with_capacity(wanted);
        if offset < u64::from(in_record) {
            let n = wanted.min((u64::from(in_record) - offset) as usize);
            octets = self.log.read_piece(content.at, u64::from(content.front) + offset, n)?;
        }
        if octets.len() < wanted {
            let path = path_of(&self.bodies, id);
            let failed = |e: std::io::Error| LogError::Disk {
                doing: "reading",
                path: path.clone(),
                kind: e.kind(),
                text: e.to_string(),
            };
            let file = self.disk.open(&path).map_err(failed)?;
            let from = (offset + octets.len() as u64) - u64::from(in_record);
            let start = octets.len();
            octets.resize(wanted, 0);
            let mut got = start;
            while got < wanted {
                let n = self.disk.read_at(&file, from + (got - start) as u64, &mut octets[got..]).map_err(failed)?;
                if n == 0 {
                    return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
                }
                got += n;
            }
        }
        Ok(octets)
    }
}
