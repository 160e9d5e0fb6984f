//! TOP (RFC 1939 §7): the header section, the empty line and so many lines of the text; a large message is read only as
//! far as they reach. How it fails: as RETR, and `-ERR` for a number of lines that is none.

use super::super::session::Session;
use crate::base::time::Instant;
use crate::wire::pop3::replies;
use crate::wire::pop3::{self, Verb};

pub(super) fn run(session: &mut Session, now: Instant, argument: &str) {
    let found = super::words::<2>(Verb::Top, argument).and_then(|[word, lines]| {
        let lines = pop3::number(lines).map_err(|_| replies::usage("TOP message lines"))?;
        super::message(session, word).map(|(number, uid, _)| (number, uid, lines))
    });
    if let Some((number, uid, lines)) = super::checked(session, now, found) {
        session.send_top(number, uid, lines);
    }
}
