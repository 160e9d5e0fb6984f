//! LANG (RFC 6856 §3): responses are in English, by any of its tags and as everybody's default. How it fails: `-ERR` for
//! other languages; the one in force stays.

use super::super::session::Session;
use crate::base::time::Instant;
use crate::wire::pop3::Verb;
use crate::wire::pop3::replies;

pub(super) fn run(session: &mut Session, now: Instant, argument: &str) {
    if argument.trim().is_empty() {
        session.say(&replies::languages());
        session.out.push_bytes(b"en English\r\n.\r\n");
        return session.await_command(now);
    }
    let Some([range]) = super::checked(session, now, super::words::<1>(Verb::Lang, argument)) else { return };
    // RFC 4647 §3.4: a range is shortened from its end until something fits.
    let language = range.split('-').next().unwrap_or_default();
    let is_ours = range == "*" || range.eq_ignore_ascii_case("i-default") || language.eq_ignore_ascii_case("en");
    session.respond(now, &if is_ours { replies::language_set() } else { replies::language_unknown() });
}
