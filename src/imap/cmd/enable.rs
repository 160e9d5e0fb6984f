//! ENABLE (RFC 9051 §6.3.1, RFC 5161). How it fails: unknown names are not answered, as the RFC has it.

use crate::imap::session::Session;

pub(super) fn run(session: &mut Session, tag: String, names: &[String]) {
    let mut enabled = String::from("* ENABLED");
    for name in names {
        let on = &mut session.enabled;
        let written = match name.as_str() {
            "CONDSTORE" => {
                on.condstore = true;
                "CONDSTORE"
            }
            "QRESYNC" => {
                // RFC 7162 §3.2.3: it brings CONDSTORE.
                (on.qresync, on.condstore) = (true, true);
                "QRESYNC"
            }
            "UTF8=ACCEPT" => {
                on.utf8 = true;
                "UTF8=ACCEPT"
            }
            "IMAP4REV2" => {
                on.rev2 = true;
                "IMAP4rev2"
            }
            _ => continue,
        };
        enabled.push(' ');
        enabled.push_str(written);
    }
    session.out.line(&enabled);
    session.ok(tag, "ENABLE completed");
}
