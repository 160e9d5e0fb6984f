//! STAT (RFC 1939 §5). How it fails: it does not.

use super::super::session::Session;
use crate::base::time::Instant;
use crate::wire::pop3::replies;

pub(super) fn run(session: &mut Session, now: Instant, _argument: &str) {
    let (count, total) = session.maildrop().map_or((0, 0), |m| (m.count(), m.total()));
    session.respond(now, &replies::stat(count, total));
}
