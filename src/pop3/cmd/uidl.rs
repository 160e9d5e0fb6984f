//! UIDL (RFC 1939 §7): UIDVALIDITY and UID in 16 hexadecimal digits, for ever the message's and never used again. How it
//! fails: `-ERR` for a message that is not there or marked.

use super::super::send::ListingWhat;
use super::super::session::Session;
use crate::base::time::Instant;
use crate::wire::pop3::Verb;
use crate::wire::pop3::replies;

pub(super) fn run(session: &mut Session, now: Instant, argument: &str) {
    if argument.trim().is_empty() {
        session.say(&replies::unique_ids());
        return session.send_listing(ListingWhat::UniqueIds);
    }
    let found = super::words::<1>(Verb::Uidl, argument).and_then(|[word]| super::message(session, word));
    if let Some((number, uid, _)) = super::checked(session, now, found) {
        let id = session.maildrop().map(|m| m.unique_id(uid)).unwrap_or_default();
        session.respond(now, &replies::unique_id(number, &id));
    }
}
