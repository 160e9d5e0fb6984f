//! APOP (RFC 1939 §7): the digest of the greeting's timestamp and a shared secret. How it fails: `-ERR` where it is not
//! offered, `[AUTH]` for a wrong digest and for accounts without a secret alike, `[SYS/TEMP]` when nobody can tell.

use super::super::ask::{Answer, Ask};
use super::super::open;
use super::super::session::Session;
use super::super::state::{Digest, Pending};
use super::user::check_utf8;
use crate::base::time::Instant;
use crate::sasl::apop;
use crate::sasl::server::{SaslAnswer, SaslAsk};
use crate::wire::pop3::Verb;
use crate::wire::pop3::replies::{self, Response};
use crate::wire::prep;

pub(super) fn run(session: &mut Session, now: Instant, argument: &str) {
    let (name, digest) = match check(session, argument) {
        Ok(checked) => checked,
        Err(response) => return session.refuse(now, &response),
    };
    session.counters.auth_attempts += 1;
    let Ok(user) = prep::user_name(name.as_bytes()) else {
        return super::auth_failed(session, replies::auth_invalid());
    };
    let ask = SaslAsk::SharedSecret { user: user.clone() };
    session.ask(Ask::Sasl(ask), Pending::Secret(Box::new(Digest { user, digest })));
}

fn check<'a>(session: &Session, argument: &'a str) -> Result<(&'a str, [u8; 16]), Response> {
    if session.timestamp.is_none() {
        return Err(replies::apop_not_offered());
    }
    check_utf8(session, argument)?;
    let [name, digest] = super::words::<2>(Verb::Apop, argument)?;
    Ok((name, apop::parse_digest(digest).ok_or_else(replies::apop_syntax)?))
}

pub(in crate::pop3) fn proceed(session: &mut Session, now: Instant, claim: Digest, answer: Answer) {
    match answer {
        Answer::Sasl(SaslAnswer::SharedSecret(secret)) => {
            let timestamp = session.timestamp.as_deref().unwrap_or_default();
            if apop::is_right(timestamp, secret.as_ref().map(|s| s.as_slice()), &claim.digest) {
                open::begin(session, claim.user);
            } else {
                super::auth_failed(session, replies::auth_invalid());
            }
        }
        Answer::Sasl(SaslAnswer::Unavailable) => session.respond(now, &replies::auth_unavailable()),
        Answer::Refuse(why) => session.respond(now, &replies::login_refused(why)),
        other => session.misfit(now, &other),
    }
}
