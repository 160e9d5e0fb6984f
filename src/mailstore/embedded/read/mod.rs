//! What needs the octets of messages: FETCH, and searching.
//!
//! How it fails: a message whose octets are damaged is answered without them.

pub(super) mod fetch;
pub(super) mod parsed;
pub(super) mod search;
mod sort;
mod thread;
