//! RETR (RFC 1939 §5). How it fails: `-ERR` for a message that is not there, marked or meanwhile expunged, `[SYS/TEMP]`
//! when it cannot be read, `[UTF8]` where such headers are refused; a closed connection when that shows in the middle.

use super::super::session::Session;
use crate::base::time::Instant;
use crate::wire::pop3::Verb;

pub(super) fn run(session: &mut Session, now: Instant, argument: &str) {
    let found = super::words::<1>(Verb::Retr, argument).and_then(|[word]| super::message(session, word));
    if let Some((number, uid, octets)) = super::checked(session, now, found) {
        session.send_message(now, number, uid, octets);
    }
}
