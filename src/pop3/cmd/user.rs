//! USER (RFC 1939 §7), with UTF-8 after UTF8 (RFC 6856 §2). How it fails: `-ERR` where a password could be read on the
//! wire (RFC 2595 §4), so that none is sent; every name is welcome, so that nobody learns who exists.

use super::super::session::Session;
use super::super::state::Phase;
use crate::base::time::Instant;
use crate::wire::pop3::replies::{self, Response};

pub(super) fn run(session: &mut Session, now: Instant, argument: &str) {
    match check(session, argument) {
        Ok(()) => {
            session.phase = Phase::Authorization { claim: Some(argument.trim().to_owned()) };
            session.respond(now, &replies::send_password());
        }
        Err(response) => session.refuse(now, &response),
    }
}

fn check(session: &Session, argument: &str) -> Result<(), Response> {
    // RPOP (RFC 1081) names its user here too, and shows no password.
    if !session.is_protected() && !session.peer.rpop {
        return Err(needs_protection(session));
    }
    check_utf8(session, argument)
}

/// What to do where passwords are not taken.
pub(super) fn needs_protection(session: &Session) -> Response {
    if session.settings.tls_available { replies::auth_needs_tls() } else { replies::auth_needs_protection() }
}

/// RFC 6856 §2: names and passwords beyond ASCII need UTF8.
pub(super) fn check_utf8(session: &Session, argument: &str) -> Result<(), Response> {
    if argument.is_ascii() || session.utf8 { Ok(()) } else { Err(replies::utf8_first()) }
}
