//! The durable queue: what is waiting, when it is next due, what became of it; an index in memory over [`crate::log`].
//!
//! Three kinds of records: a message (meta data, trace headers, body or the name of its body file), a state (a snapshot
//! of what changes: legs, recipients, hold), and a tombstone. The newest state counts. A tombstone is kept as long as
//! any segment holds a copy of its message, so that nothing finished rises again when an old segment is read back.
//!
//! The owner stages what came in, calls [`Spool::commit`] once for all of it, and answers. What changes about messages
//! already in the queue is marked and written by the same commit, as one snapshot per message however often it changed.
//!
//! **Reports** (bounces, delay warnings, success notes) are part of a message's state: they are due until
//! [`Spool::stage_report`] stages the notification, which is written *before* the original's new state in the same batch.
//! A crash between the two sends a report twice; it never loses one. A commit that fails makes the report due again.
//!
//! How it fails: [`SpoolError`]. A failed commit refuses every message staged for it; changes of queued messages stay
//! marked and are written by the next one. A message whose record cannot be read is held and says so.

mod admin;
mod codec;
mod destinations;
mod index;
mod knobs;
mod queue;
mod recover;
mod report;
mod room;
mod schedule;
mod store;
#[cfg(test)]
mod tests;

pub use admin::{Details, Filter, Leg, RecipientDetails, Selection, Summary, Survey};
pub use index::Status;
pub use knobs::SpoolKnobs;
pub use queue::{Attempt, Fate, Scope, Settled};
pub use recover::Recovery;
pub use report::{Report, ReportKind, Reported};
pub use store::{BodyFileId, Counters, NewMessage, Spool};

use crate::base::id::SpoolId;
use crate::log::LogError;
use std::fmt;

/// Why the queue could not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpoolError {
    /// There is no room; trying later can help (452 4.3.1).
    Full(Room),
    /// The disk refused or the record is damaged.
    Log(LogError),
    /// No message of that id is waiting.
    Unknown(SpoolId),
    /// The caller broke the contract; the text says how.
    Misuse(&'static str),
}

/// Which room is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// `spool.messages_max`
    Messages,
    /// `spool.octets_max`
    Octets,
    /// `spool.free_octets_min` of the file system.
    Disk,
}

impl From<LogError> for SpoolError {
    fn from(e: LogError) -> SpoolError {
        if e.is_full() { SpoolError::Full(Room::Disk) } else { SpoolError::Log(e) }
    }
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpoolError::Full(Room::Messages) => f.write_str("the queue holds as many messages as spool.messages_max"),
            SpoolError::Full(Room::Octets) => f.write_str("the queue holds as many octets as spool.octets_max"),
            SpoolError::Full(Room::Disk) => f.write_str("the file system is full up to spool.free_octets_min"),
            SpoolError::Log(e) => e.fmt(f),
            SpoolError::Unknown(id) => write!(f, "no message {id} is in the queue"),
            SpoolError::Misuse(what) => write!(f, "misuse of the spool: {what}"),
        }
    }
}

impl std::error::Error for SpoolError {}
