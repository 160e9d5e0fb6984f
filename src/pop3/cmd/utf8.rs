//! UTF8 (RFC 6856 §2): names, passwords and messages may be UTF-8 from here on. How it fails: it does not.

use super::super::session::Session;
use crate::base::time::Instant;
use crate::wire::pop3::replies;

pub(super) fn run(session: &mut Session, now: Instant, _argument: &str) {
    session.utf8 = true;
    session.respond(now, &replies::utf8_enabled());
}
