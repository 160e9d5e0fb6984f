//! LOGOUT (RFC 9051 §6.1.3). How it fails: it does not.

use crate::imap::session::Session;

pub(super) fn run(session: &mut Session, tag: &str) {
    session.out.line("* BYE logging out");
    session.out.line(&format!("{tag} OK LOGOUT completed"));
    session.close();
}
