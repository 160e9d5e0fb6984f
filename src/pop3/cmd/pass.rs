//! PASS (RFC 1939 §7): the argument is the password, every space of it. How it fails: `-ERR` without USER, `[AUTH]` for
//! wrong credentials and on a wire that is not protected, `[SYS/TEMP]` when nobody can tell.

use super::super::ask::{Answer, Ask};
use super::super::open;
use super::super::session::Session;
use super::super::state::Pending;
use super::user::{check_utf8, needs_protection};
use crate::base::time::Instant;
use crate::sasl::server::{SaslAnswer, SaslAsk};
use crate::wire::pop3::replies::{self, Response};
use crate::wire::prep;
use zeroize::Zeroizing;

pub(super) fn run(session: &mut Session, now: Instant, argument: &str) {
    let name = match check(session, argument) {
        Ok(name) => name,
        Err(response) => return session.refuse(now, &response),
    };
    session.counters.auth_attempts += 1;
    // A name that no account can have fails as one that none has.
    let Ok(user) = prep::user_name(name.as_bytes()) else {
        return super::auth_failed(session, replies::auth_invalid());
    };
    let password = Zeroizing::new(argument.to_owned());
    session.ask(Ask::Sasl(SaslAsk::Password { user: user.clone(), password }), Pending::Password(user));
}

fn check(session: &mut Session, argument: &str) -> Result<String, Response> {
    if !session.is_protected() {
        return Err(needs_protection(session));
    }
    check_utf8(session, argument)?;
    super::take_claim(session).ok_or_else(replies::user_first)
}

pub(in crate::pop3) fn proceed(session: &mut Session, now: Instant, user: String, answer: Answer) {
    match answer {
        Answer::Sasl(SaslAnswer::Password(true)) => open::begin(session, user),
        Answer::Sasl(SaslAnswer::Password(false)) => super::auth_failed(session, replies::auth_invalid()),
        Answer::Sasl(SaslAnswer::Unavailable) => session.respond(now, &replies::auth_unavailable()),
        Answer::Refuse(why) => session.respond(now, &replies::login_refused(why)),
        other => session.misfit(now, &other),
    }
}
