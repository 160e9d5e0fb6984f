//! The lookup lane: DNS, lists, SPF, signatures and helpers behind one request and one answer type.
//!
//! A core asks with a [`Question`] for records, or with an [`Inquiry`](crate::base::inquiry::Inquiry) for what follows from them, and a token of its own.
//! What is at hand (static names, cached answers) is answered at once ([`Asked::Now`], [`Inquired::Now`]), everything else
//! later through the callback the lane was started with. Equal questions and inquiries under way share one query. One
//! thread with a current-thread runtime does the waiting, a few others the computing; no core ever waits.
//!
//! How it fails: nothing goes unanswered. A full queue, a dead name server, nonsense from it, a lane that has stopped: each
//! is an [`Answer`] with [`Miss::Temporary`] or a [`Finding::Unknown`], which callers turn into 4xx or "unknown". Without
//! any name server the lane starts all the same, says so once in the log and answers [`Trouble::NoServers`].
//!
//! What is deliberately absent: implicit MX, null MX and the order of hosts are decided in `relay::mx` from plain
//! records; search domains of `/etc/resolv.conf` are not used, since mail domains are fully qualified (RFC 5321 §2.3.5).

use crate::base::inquiry::{Case, Finding};
use std::future::Future;
use std::pin::Pin;

mod breaker;
mod cache;
mod counters;
mod dns;
mod find;
pub mod helpers;
mod knobs;
mod lane;
mod listed;
mod names;
mod origin;
mod question;
mod records;
mod signatures;
mod spf;
mod statics;
#[cfg(test)]
mod tests;

pub use breaker::ZoneCounters;
pub use cache::Cache;
pub use counters::{Counters, Kind, KindCounters, LATENCY_BOUNDS};
pub use knobs::{Families, LookupKnobs, NameServer, Organisation};
pub use lane::{Asked, Asker, Inquired, Lane, Reply, StartError};
pub use question::{Answer, ClientName, Found, Miss, MxRecord, Question, Source, Trouble};
pub use statics::{StaticHost, StaticRecord, Statics};

/// Who answers [`Inquiry::Consult`](crate::base::inquiry::Inquiry::Consult): the helpers of the configuration. They keep to time limits and bounds of their own
/// and answer a failure with [`Finding::Unknown`] or with what their setting says.
pub trait Consult: Send + Sync {
    /// What the helper `name` says of the case. Runs on the lane's runtime: it may wait there, and must not block.
    fn consult<'a>(&'a self, name: &'a str, case: &'a Case) -> Pin<Box<dyn Future<Output = Finding> + Send + 'a>>;
}
