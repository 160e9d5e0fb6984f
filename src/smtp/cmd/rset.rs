//! RSET (RFC 5321 §4.1.1.5). How it fails: 501 with an argument; too many are counted.

use crate::base::time::Instant;
use crate::smtp::server::Server;
use crate::wire::replies;

pub(in crate::smtp) fn run(server: &mut Server, now: Instant, argument: &str) {
    if !argument.is_empty() {
        return server.respond(now, replies::no_argument_expected());
    }
    server.end_transaction();
    server.respond(now, replies::reset());
}
