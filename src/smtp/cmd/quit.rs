//! QUIT (RFC 5321 §4.1.1.10). How it fails: it does not; whatever follows it, the client wants to go.

use crate::base::time::Instant;
use crate::smtp::server::{Server, Then};
use crate::wire::replies;
use std::time::Duration;

pub(in crate::smtp) fn run(server: &mut Server, now: Instant, _argument: &str) {
    server.respond_after(now, Duration::ZERO, vec![replies::bye()], Then::Close);
}
