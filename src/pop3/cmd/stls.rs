//! STLS (RFC 2595 §4). How it fails: `-ERR` where there is no TLS, under TLS, and after UTF8 (RFC 6856 §2).

use super::super::ask::Ask;
use super::super::session::Session;
use super::super::state::{Phase, State};
use crate::base::time::Instant;
use crate::wire::pop3::replies::{self, Response};

pub(super) fn run(session: &mut Session, now: Instant, _argument: &str) {
    match check(session) {
        Ok(()) => {
            session.say(&replies::begin_tls());
            // RFC 2595 §4: what was said in clear counts no more.
            session.phase = Phase::Authorization { claim: None };
            session.enter(now, State::StartTls);
            session.instruct(Ask::StartTls);
        }
        Err(response) => session.refuse(now, &response),
    }
}

fn check(session: &Session) -> Result<(), Response> {
    if !session.settings.tls_available {
        return Err(replies::tls_not_offered());
    }
    if session.peer.tls.is_some() {
        return Err(replies::tls_active());
    }
    if session.utf8 {
        return Err(replies::tls_after_utf8());
    }
    Ok(())
}

/// Whether the client could have TLS by it.
pub(super) fn is_offered(session: &Session) -> bool {
    check(session).is_ok()
}
