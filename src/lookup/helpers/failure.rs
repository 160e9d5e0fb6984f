//! Why a helper could not be asked.
//!
//! How it fails: it is the failure.

use std::fmt;
use std::time::Duration;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection.
    Connect(String),
    /// No answer in time; what was waited for.
    Timeout(&'static str, Duration),
    /// The helper closed the connection; what was waited for.
    Closed(&'static str),
    /// The connection broke; what was waited for, and the system's word.
    Broken(&'static str, String),
    /// An answer that is none.
    Garbage(String),
    /// It says itself that it cannot.
    Unable(String),
    /// Too many are waiting already. Not the helper's fault.
    Busy(usize),
    /// It is not asked, since it has failed too often.
    Aside(Duration),
    /// The message cannot be read. Not the helper's fault.
    Body(String),
}

impl Failure {
    /// Whether the helper is to blame, so that it counts against it.
    pub(super) fn is_its_fault(&self) -> bool {
        !matches!(self, Failure::Busy(_) | Failure::Aside(_) | Failure::Body(_))
    }

    /// Whether the connection had gone before anything was said on it.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Failure::Closed(_) | Failure::Broken(..))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect(why) => write!(f, "cannot connect: {why}"),
            Failure::Timeout(what, limit) => write!(f, "no {what} within {limit:?}"),
            Failure::Closed(what) => write!(f, "connection closed instead of {what}"),
            Failure::Broken(what, why) => write!(f, "connection broke at {what}: {why}"),
            Failure::Garbage(what) => write!(f, "not understood: {what}"),
            Failure::Unable(what) => write!(f, "it says: {what}"),
            Failure::Busy(n) => write!(f, "{n} consultations are waiting already (waiting_max)"),
            Failure::Aside(left) => write!(f, "not asked for another {left:?} after too many failures"),
            Failure::Body(why) => write!(f, "the message cannot be read: {why}"),
        }
    }
}

impl std::error::Error for Failure {}
