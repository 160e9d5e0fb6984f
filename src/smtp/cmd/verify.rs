//! VRFY and EXPN (RFC 5321 §3.5, §4.1.1.6, §4.1.1.7): the policy says who may ask, everybody else hears 252.
//! How it fails: 501 without an argument, 553 for UTF-8 without SMTPUTF8 (RFC 6531 §3.7.4.2).

use crate::base::time::Instant;
use crate::smtp::server::{Answer, Ask, Pending, Server, Then, Verdict};
use crate::wire::replies;
use crate::wire::reply::Reply;

pub(in crate::smtp) fn run_vrfy(server: &mut Server, now: Instant, argument: &str) {
    run(server, now, argument, |argument| Ask::Vrfy { argument });
}

pub(in crate::smtp) fn run_expn(server: &mut Server, now: Instant, argument: &str) {
    run(server, now, argument, |argument| Ask::Expn { argument });
}

fn run(server: &mut Server, now: Instant, argument: &str, ask: impl Fn(String) -> Ask) {
    match check(argument) {
        Ok(name) => server.ask(ask(name.to_owned()), Pending::Verify),
        Err(reply) => server.respond(now, reply),
    }
}

/// The name without the SMTPUTF8 parameter.
fn check(argument: &str) -> Result<&str, Reply> {
    let (name, utf8) = match argument.rsplit_once(' ') {
        Some((name, word)) if word.eq_ignore_ascii_case("SMTPUTF8") => (name.trim_end_matches(' '), true),
        _ => (argument, false),
    };
    match name {
        "" => Err(replies::verify_argument_expected()),
        _ if !name.is_ascii() && !utf8 => Err(replies::needs_smtputf8()),
        _ => Ok(name),
    }
}

pub(in crate::smtp) fn proceed(server: &mut Server, now: Instant, answer: Answer) {
    match answer {
        Answer::Verified(reply) => server.respond(now, reply),
        other => match other.verdict() {
            Verdict::Go(after) => {
                server.respond_after(now, after, vec![replies::cannot_verify()], Then::Command); // RFC 5321 §3.5.3
            }
            Verdict::No(refusal) => server.refuse(now, refusal),
        },
    }
}
