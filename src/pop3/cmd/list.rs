//! LIST (RFC 1939 §5): octets of one message or of all. How it fails: `-ERR` for a message that is not there or marked.

use super::super::send::ListingWhat;
use super::super::session::Session;
use crate::base::time::Instant;
use crate::wire::pop3::Verb;
use crate::wire::pop3::replies;

pub(super) fn run(session: &mut Session, now: Instant, argument: &str) {
    if argument.trim().is_empty() {
        let (count, total) = session.maildrop().map_or((0, 0), |m| (m.count(), m.total()));
        session.say(&replies::maildrop(count, total));
        return session.send_listing(ListingWhat::Octets);
    }
    let found = super::words::<1>(Verb::List, argument).and_then(|[word]| super::message(session, word));
    if let Some((number, _, octets)) = super::checked(session, now, found) {
        session.respond(now, &replies::scan_listing(number, octets));
    }
}
