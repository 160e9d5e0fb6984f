//! EHLO, HELO and LHLO (RFC 5321 §4.1.1.1, RFC 2033 §4.1). How it fails: 501 without an argument, 500 when the service
//! wants the other hello; a refused hello changes nothing (RFC 5321 §4.1.4).

use crate::base::time::Instant;
use crate::smtp::ext;
use crate::smtp::server::{Ask, Greeting, HeloName, Pending, Server, Service, Then, Verdict};
use crate::wire::{address, replies};

pub(in crate::smtp) fn run_ehlo(server: &mut Server, now: Instant, argument: &str) {
    run(server, now, argument, true, server.config.service != Service::Lmtp);
}

pub(in crate::smtp) fn run_helo(server: &mut Server, now: Instant, argument: &str) {
    run(server, now, argument, false, server.config.service != Service::Lmtp);
}

pub(in crate::smtp) fn run_lhlo(server: &mut Server, now: Instant, argument: &str) {
    run(server, now, argument, true, server.config.service == Service::Lmtp);
}

fn run(server: &mut Server, now: Instant, argument: &str, extended: bool, served: bool) {
    if !served {
        return server.respond(now, replies::not_this_hello());
    }
    if argument.is_empty() {
        return server.respond(now, replies::hello_argument_expected());
    }
    // What follows the first word is ignored: RFC 821 hosts put comments there.
    let text = argument.split([' ', '\t']).next().unwrap_or(argument).to_owned();
    let name = HeloName { host: address::parse_host(&text).ok(), text };
    let greeting = Greeting { name: name.clone(), extended };
    server.ask(Ask::Helo { name, extended }, Pending::Helo(greeting));
}

pub(in crate::smtp) fn proceed(server: &mut Server, now: Instant, greeting: Greeting, verdict: Verdict) {
    let after = match verdict {
        Verdict::Go(after) => after,
        Verdict::No(refusal) => return server.refuse(now, refusal),
    };
    // RFC 5321 §4.1.4: a hello in the middle of a session is as good as RSET.
    server.end_transaction();
    // From here on a proxy may pass on what the client itself sends: it must not say XCLIENT once more.
    server.peer.rights.xclient &= server.peer.xclient.is_none();
    let extended = greeting.extended;
    server.greeting = Some(greeting);
    let client = server.peer.client.ip();
    let mut reply = replies::hello(server.config.hostname.as_str(), &format!("[{client}]"));
    if extended {
        reply.lines.extend(ext::offered(server));
    }
    server.respond_after(now, after, vec![reply], Then::Command);
}
