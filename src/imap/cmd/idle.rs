//! IDLE (RFC 9051 §6.3.13): updates at once, until DONE. How it fails: any other line is BAD and ends it.

use crate::base::buf::Input;
use crate::imap::config::IDLE_LINE_OCTETS_MAX;
use crate::imap::session::{Ending, Flow, Session, Taken, take_line};
use crate::imap::state::Phase;

pub(super) fn run(session: &mut Session, tag: String) {
    session.out.line("+ idling");
    look(session, tag);
}

/// Tells what is new and goes on idling.
pub(in crate::imap) fn tell(session: &mut Session) {
    if let Phase::Idle { tag } = std::mem::replace(&mut session.phase, Phase::Command) {
        look(session, tag);
    }
}

fn look(session: &mut Session, tag: String) {
    let notices = session.counters.notices;
    session.update(true, true, Vec::new(), move |s| {
        // A notice that came meanwhile may be of something later.
        let again = s.counters.notices != notices && s.mailbox().is_some_and(|m| m.noticed && !m.gone);
        if again { look(s, tag) } else { s.wait_for_done(tag) }
    });
}

/// What the client says in the meantime.
pub(in crate::imap) fn read_done(session: &mut Session, input: &mut Input<'_>) -> Flow {
    let is_done = match take_line(input, IDLE_LINE_OCTETS_MAX) {
        Taken::Line(line) => line.eq_ignore_ascii_case(b"DONE"),
        Taken::Partial => return Flow::Wait,
        Taken::TooLong => {
            session.bye("IDLE is ended by DONE");
            return Flow::Again;
        }
    };
    if let Phase::Idle { tag } = std::mem::replace(&mut session.phase, Phase::Command) {
        let words = if is_done { "OK IDLE terminated" } else { "BAD IDLE is ended by DONE" };
        session.finish(Ending::new(tag, words));
    }
    Flow::Again
}
