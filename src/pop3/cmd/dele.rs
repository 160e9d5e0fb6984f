//! DELE (RFC 1939 §5): a mark; QUIT deletes. How it fails: `-ERR` for a message that is not there or marked already.

use super::super::session::Session;
use crate::base::time::Instant;
use crate::wire::pop3::replies;
use crate::wire::pop3::{self, Verb};

pub(super) fn run(session: &mut Session, now: Instant, argument: &str) {
    let found = super::words::<1>(Verb::Dele, argument).and_then(|[word]| {
        let number = pop3::number(word).map_err(|_| replies::not_a_number())?;
        let is_deleted = session.maildrop().is_some_and(|m| m.is_deleted(number));
        if is_deleted { Ok((number, true)) } else { super::message(session, word).map(|(number, ..)| (number, false)) }
    });
    match super::checked(session, now, found) {
        Some((_, true)) => session.respond(now, &replies::already_deleted()),
        Some((number, false)) => {
            session.maildrop().into_iter().for_each(|m| m.delete(number));
            session.respond(now, &replies::deleted(number));
        }
        None => {} // it has been said
    }
}
