//! COPY (RFC 9051 §6.4.7), MOVE (§6.4.8) and their UID forms. How it fails: NO with the store's code, TRYCREATE for a
//! missing mailbox; all or nothing.

use super::{mod_seq_code, no_such_message};
use crate::base::mailbox::ask::{Change, Copied, Reply};
use crate::imap::respond::{self, Missing};
use crate::imap::session::{Ending, Session};
use crate::imap::sets;
use crate::wire::imap::SequenceSet;

pub(super) fn run(session: &mut Session, tag: String, set: &SequenceSet, uid: bool, moving: bool, to: String) {
    let Some(mailbox) = session.mailbox() else {
        return session.finish(Ending::new(tag, respond::server_bug()));
    };
    if moving && mailbox.read_only {
        return session.finish(Ending::new(tag, respond::no("READ-ONLY", "the mailbox is open for reading")));
    }
    let Ok(uids) = sets::resolve(mailbox, set, uid) else {
        return session.finish(Ending::new(tag, no_such_message()));
    };
    let name = if moving { "MOVE" } else { "COPY" };
    if uids.is_empty() {
        // RFC 9051 §6.4.9: a UID that is not there is no error.
        return session.ok(tag, &format!("{name} completed: nothing was there"));
    }
    let (id, own) = (mailbox.id, mailbox.name == to);
    let change = match moving {
        true => Change::Move { mailbox: id, uids, to },
        false => Change::Copy { mailbox: id, uids, to },
    };
    session.change(change, move |s, reply| match reply {
        Ok(Reply::Copied(copied)) if moving => moved(s, tag, &copied, own),
        Ok(Reply::Copied(copied)) => {
            let ending = Ending::new(tag, format!("OK {}COPY completed", copy_uid(&copied)));
            s.finish(if own { ending.forced() } else { ending });
        }
        Ok(_) => s.finish(Ending::new(tag, respond::server_bug())),
        Err(error) => s.finish(Ending::new(tag, respond::store_error(&error, Missing::TryCreate))),
    });
}

fn moved(session: &mut Session, tag: String, copied: &Copied, own: bool) {
    // RFC 6851 §4.3: COPYUID in an untagged OK before the EXPUNGE.
    if !copied.from.is_empty() {
        session.out.line(&format!("* OK {}moved", copy_uid(copied)));
    }
    let mod_seq = copied.mod_seq;
    session.own_change(mod_seq);
    session.say_expunged(&copied.from, move |s| {
        let ending = Ending::new(tag, format!("OK {}MOVE completed", mod_seq_code(s, mod_seq)));
        s.finish(if own { ending.forced() } else { ending });
    });
}

/// `[COPYUID validity from to] ` (RFC 4315 §3); nothing when nothing was copied.
fn copy_uid(copied: &Copied) -> String {
    if copied.from.is_empty() {
        return String::new();
    }
    format!("[COPYUID {} {} {}] ", copied.uid_validity, copied.from, copied.to)
}
