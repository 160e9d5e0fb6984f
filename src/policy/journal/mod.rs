//! The journal: one line of JSON for every session, with everything the policy was told and everything it said, so that
//! the same traffic can be judged again.
//!
//! A [`Run`] is one process that writes; its sessions write through a `Recorder` while they go on ([`super::Session::record`]).
//! A long session is written in parts. `encode` and `decode` are inverses; [`schema`] documents every field. Personal
//! parts can be digests ([`Scrub`]).
//!
//! How it fails: writing cannot fail here, the [`Sink`] may drop a line (and counts it); reading a line that is torn,
//! foreign or newer says so ([`Unread`]).

mod decode;
mod encode;
mod event;
mod headers;
mod json;
mod recorder;
mod schema;
mod scrub;
#[cfg(test)]
mod tests;

pub use decode::{End, Place, Unread, event as read_event, line as read_line, quick_line};
pub use encode::{VERSION, begin, end, event as write_event};
pub use event::{Event, Head, Headers, Said, Text, Tls, Told, What};
pub use headers::Keep;
pub(super) use headers::{facts, section, withheld};
pub use json::{push_number, push_string};
pub(super) use recorder::Recorder;
pub use recorder::{Run, Sink};
pub use schema::schema;
pub use scrub::Scrub;
