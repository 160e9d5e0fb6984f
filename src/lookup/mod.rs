//! The lookup lane: DNS behind one request and one answer type.
//!
//! A core asks with a [`Question`] and a token of its own; static names and cached answers come back at once
//! ([`Asked::Now`]), everything else is answered later through the callback the lane was started with. Equal questions in
//! flight share one query. One thread with a current-thread runtime does the waiting; no core ever waits.
//!
//! How it fails: a question never goes unanswered. A full queue, a dead name server, nonsense from it, a lane that has
//! stopped: each is an [`Answer`] with [`Miss::Temporary`], which callers turn into 4xx or "unknown". Without any name
//! server the lane starts all the same, says so once in the log and answers [`Trouble::NoServers`].
//!
//! What is deliberately absent: implicit MX, null MX and the order of hosts are decided in `relay::mx` from plain
//! records; search domains of `/etc/resolv.conf` are not used, since mail domains are fully qualified (RFC 5321 §2.3.5).

mod cache;
mod dns;
mod knobs;
mod lane;
mod question;
mod statics;
#[cfg(test)]
mod tests;

pub use cache::Cache;
pub use knobs::{Families, LookupKnobs, NameServer};
pub use lane::{Asked, Asker, Counters, Lane, StartError};
pub use question::{Answer, ClientName, Found, Miss, MxRecord, Question, Source, Trouble};
pub use statics::{StaticHost, StaticRecord, Statics};
