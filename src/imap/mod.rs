//! The IMAP server (RFC 9051, RFC 3501 and their extensions) as a machine: one [`Session`] per connection, no socket, no
//! clock, no store. What it cannot know it asks for as data ([`Ask`]).
//!
//! ```text
//! handle_bytes ─▶ frame ─▶ parse ─▶ cmd: check ─▶ Ask ─▶ (caller) ─▶ handle_answer ─▶ cmd: proceed ─▶ responses
//! ```
//! `session/` holds state and dispatch, `cmd/` one file a command, `ext` the table of what is offered. How it fails:
//! what a client does wrong is BAD or NO with its tag; too much of it is BYE; a store that fails is NO with the code of
//! RFC 5530, except in the middle of a literal, where the connection is closed.

mod ask;
mod cmd;
mod config;
mod ext;
mod list;
mod out;
mod respond;
mod session;
mod sets;
mod state;
#[cfg(test)]
mod tests;
mod upload;

pub use ask::{Answer, Ask};
pub use config::{ImapKnobs, ImapPeer, ImapSettings, LiteralForm};
pub use ext::{Extension, extensions};
pub use session::Session;
pub use state::Counters;
