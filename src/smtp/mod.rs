//! SMTP and LMTP as machines: server and client.
//!
//! `server/` holds the state of a session and its dispatch, `cmd/` one file per command, `ext/` one file per extension;
//! `client/` is the other side. How it fails: a machine never panics on what a peer says; it answers, counts and closes.

pub mod client;
mod cmd;
pub mod ext;
pub mod server;
