//! RPOP (RFC 1081): instead of PASS, the name of the user on the client's host, whose administrator is trusted because the
//! host is listed and the port reserved. It may be the account of the same name and no other.
//!
//! How it fails: `[AUTH]` from other hosts and ports and for other names, `-ERR` without USER, `[SYS/TEMP]` when nobody
//! can tell.

use super::super::ask::{Answer, Ask};
use super::super::open;
use super::super::session::Session;
use super::super::state::Pending;
use crate::base::time::Instant;
use crate::sasl::server::{SaslAnswer, SaslAsk};
use crate::wire::pop3::Verb;
use crate::wire::pop3::replies::{self, Response};
use crate::wire::prep;

pub(super) fn run(session: &mut Session, now: Instant, argument: &str) {
    let (name, identity) = match check(session, argument) {
        Ok(checked) => checked,
        Err(response) => return session.refuse(now, &response),
    };
    session.counters.auth_attempts += 1;
    let prepared = (prep::user_name(name.as_bytes()), prep::user_name(identity.as_bytes()));
    let (Ok(user), Ok(identity)) = prepared else {
        return super::auth_failed(session, replies::auth_invalid());
    };
    let ask = SaslAsk::External { identity, authzid: user.clone() };
    session.ask(Ask::Sasl(ask), Pending::Identity(user));
}

fn check<'a>(session: &mut Session, argument: &'a str) -> Result<(String, &'a str), Response> {
    if !session.peer.rpop {
        return Err(replies::rpop_not_offered());
    }
    let [identity] = super::words::<1>(Verb::Rpop, argument)?;
    // RFC 1081: right after a successful USER.
    Ok((super::take_claim(session).ok_or_else(replies::user_first)?, identity))
}

pub(in crate::pop3) fn proceed(session: &mut Session, now: Instant, user: String, answer: Answer) {
    match answer {
        Answer::Sasl(SaslAnswer::External(true)) => open::begin(session, user),
        Answer::Sasl(SaslAnswer::External(false)) => super::auth_failed(session, replies::auth_invalid()),
        Answer::Sasl(SaslAnswer::Unavailable) => session.respond(now, &replies::auth_unavailable()),
        Answer::Refuse(why) => session.respond(now, &replies::login_refused(why)),
        other => session.misfit(now, &other),
    }
}
