//! LAST (RFC 1081; RFC 1460 took it out, and some clients still ask): the highest message number that RETR or DELE has
//! accessed. How it fails: it does not.

use super::super::session::Session;
use crate::base::time::Instant;
use crate::wire::pop3::replies;

pub(super) fn run(session: &mut Session, now: Instant, _argument: &str) {
    let last = session.maildrop().map_or(0, |m| m.last);
    session.respond(now, &replies::last(last));
}
