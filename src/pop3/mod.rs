//! The POP3 machine (RFC 1939 and what came after): one [`Session`] per connection, no socket, no clock.
//!
//! ```text
//! handle_bytes ─▶ frame ─▶ cmd: check ─▶ Ask ─▶ (caller) ─▶ handle_answer ─▶ cmd: proceed ─▶ responses
//! ```
//! The maildrop is INBOX as it was at login: its messages keep their numbers to the end of the session, what arrives
//! meanwhile is seen at the next login, and DELE takes effect at QUIT only. A connection that ends otherwise deletes
//! nothing (RFC 1939 §6).
//!
//! While an ask is open no input is consumed: the caller keeps what is left and, after each answer, time-out and flushed
//! output, shows it again by `handle_bytes` (also when it is empty). Long responses are made piece by piece, the next when
//! the last was taken by `poll_transmit`. After each call the caller sends what `poll_transmit` gives, then looks at
//! `poll_ask`.
//!
//! How it fails: what a client does wrong is answered from [`crate::wire::pop3::replies`], counted, and ends the session
//! beyond the limits of [`Pop3Knobs`]; a message that cannot be read to its end closes the connection, since nothing but
//! the lone dot could end it; an answer that does not fit its ask is `[SYS/TEMP]` and a debug assertion.

mod ahead;
mod ask;
mod cmd;
mod maildrop;
mod open;
mod read;
mod send;
mod session;
mod settings;
mod state;
#[cfg(test)]
mod tests;

pub use ask::{Answer, Ask};
pub use cmd::{CAPABILITIES, Capability};
pub use session::Session;
pub use settings::{MaildropLock, Pop3Knobs, Pop3Settings, RawUtf8};
pub use state::{Counters, Pop3Peer};
