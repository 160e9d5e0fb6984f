//! STARTTLS (RFC 9051 §6.2.1). How it fails: BAD where it is not offered.

use crate::imap::ask::Ask;
use crate::imap::ext;
use crate::imap::session::{Ending, Session};
use crate::imap::state::Phase;

pub(super) fn run(session: &mut Session, tag: String) {
    if !ext::starttls_offered(session) {
        return session.finish(Ending::new(tag, "BAD STARTTLS is not offered"));
    }
    session.out.line(&format!("{tag} OK begin TLS now"));
    session.instruct(Ask::StartTls);
    session.phase = Phase::StartTls;
}
