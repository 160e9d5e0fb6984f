//! STARTTLS (RFC 3207). How it fails: 502 where it is not offered, 501 with an argument, 503 inside a transaction.

use crate::base::time::Instant;
use crate::smtp::ext;
use crate::smtp::server::Server;
use crate::wire::replies;
use crate::wire::reply::Reply;

pub(in crate::smtp) fn run(server: &mut Server, now: Instant, argument: &str) {
    match check(server, argument) {
        Ok(()) => server.start_tls(now, &replies::ready_for_tls()),
        Err(reply) => server.respond(now, reply),
    }
}

fn check(server: &Server, argument: &str) -> Result<(), Reply> {
    if server.greeting.is_none() {
        return Err(replies::hello_first());
    }
    if !ext::is_offered(server, "STARTTLS") {
        return Err(replies::not_offered());
    }
    if !argument.is_empty() {
        return Err(replies::no_argument_expected()); // RFC 3207 §4: 501
    }
    if server.transaction.is_some() {
        return Err(replies::not_in_transaction());
    }
    Ok(())
}
