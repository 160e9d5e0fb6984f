//! HELP (RFC 5321 §4.1.1.8). How it fails: it does not.

use crate::base::time::Instant;
use crate::smtp::ext;
use crate::smtp::server::{Server, Service};
use crate::wire::command::Verb;
use crate::wire::replies;

pub(in crate::smtp) fn run(server: &mut Server, now: Instant, _argument: &str) {
    let lmtp = server.config.service == Service::Lmtp;
    let served = |verb: Verb| match verb {
        Verb::Ehlo | Verb::Helo => !lmtp,
        Verb::Lhlo => lmtp,
        Verb::Xclient => server.peer.rights.xclient,
        Verb::StartTls => ext::is_offered(server, "STARTTLS"),
        Verb::Auth => ext::is_offered(server, "AUTH"),
        _ => true,
    };
    let verbs: Vec<&str> = Verb::ALL.iter().filter(|v| served(**v)).map(|v| v.text()).collect();
    server.respond(now, replies::help(&verbs.join(" ")));
}
