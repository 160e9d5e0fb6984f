//! NOOP (RFC 9051 §6.1.2) and CHECK (RFC 3501 §6.4.1): looks for updates. How it fails: it does not.

use crate::imap::session::{Ending, Session};

pub(super) fn run(session: &mut Session, tag: String, text: &str) {
    session.finish(Ending::new(tag, format!("OK {text}")).forced());
}
