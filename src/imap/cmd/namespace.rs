//! NAMESPACE (RFC 9051 §6.3.10): one personal namespace. How it fails: it does not.

use crate::imap::session::Session;

pub(super) fn run(session: &mut Session, tag: String) {
    session.out.line("* NAMESPACE ((\"\" \"/\")) NIL NIL");
    session.ok(tag, "NAMESPACE completed");
}
