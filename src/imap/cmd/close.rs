//! CLOSE (RFC 9051 §6.4.1) and UNSELECT (§6.4.2). How it fails: a store that cannot expunge now leaves the messages
//! deleted but there; the mailbox is closed all the same.

use super::mod_seq_code;
use crate::base::mailbox::ask::{Change, Reply};
use crate::imap::session::{Ending, Session};

pub(super) fn run_close(session: &mut Session, tag: String) {
    match session.mailbox() {
        // RFC 9051 §6.4.1: EXAMINE removes nothing and is no error.
        Some(mailbox) if !mailbox.read_only && !mailbox.gone => {
            let change = Change::Expunge { mailbox: mailbox.id, uids: None, deleted_only: true };
            session.change(change, |s, reply| {
                let mod_seq = match reply {
                    Ok(Reply::Expunged { mod_seq, .. }) => mod_seq,
                    _ => 0,
                };
                let code = mod_seq_code(s, mod_seq);
                s.deselect();
                s.finish(Ending::new(tag, format!("OK {code}CLOSE completed")));
            });
        }
        _ => {
            session.deselect();
            session.ok(tag, "CLOSE completed");
        }
    }
}

pub(super) fn run_unselect(session: &mut Session, tag: String) {
    session.deselect();
    session.ok(tag, "UNSELECT completed");
}
