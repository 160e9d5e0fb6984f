//! CAPABILITY (RFC 9051 §6.1.1). How it fails: it does not.

use crate::imap::ext;
use crate::imap::session::Session;

pub(super) fn run(session: &mut Session, tag: String) {
    let capability = ext::capability(session);
    session.out.line(&format!("* {capability}"));
    session.ok(tag, "CAPABILITY completed");
}
