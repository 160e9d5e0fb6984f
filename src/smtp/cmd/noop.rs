//! NOOP (RFC 5321 §4.1.1.9): its argument is ignored. How it fails: it does not; too many are counted.

use crate::base::time::Instant;
use crate::smtp::server::Server;
use crate::wire::replies;

pub(in crate::smtp) fn run(server: &mut Server, now: Instant, _argument: &str) {
    server.respond(now, replies::noop());
}
