//! EXPUNGE (RFC 9051 §6.4.3) and UID EXPUNGE (§6.4.9). How it fails: NO in a mailbox that is open for reading, NO with the
//! store's code.

use super::mod_seq_code;
use crate::base::mailbox::ask::{Change, Reply};
use crate::imap::respond::{self, Missing};
use crate::imap::session::{Ending, Session};
use crate::imap::sets;
use crate::wire::imap::SequenceSet;

pub(super) fn run(session: &mut Session, tag: String, set: Option<SequenceSet>) {
    let Some(mailbox) = session.mailbox() else {
        return session.finish(Ending::new(tag, respond::server_bug()));
    };
    if mailbox.read_only {
        return session.finish(Ending::new(tag, respond::no("READ-ONLY", "the mailbox is open for reading")));
    }
    // A UID beyond all is no error (RFC 9051 §6.4.9).
    let uids = set.map(|set| sets::resolve(mailbox, &set, true).unwrap_or_default());
    let change = Change::Expunge { mailbox: mailbox.id, uids, deleted_only: true };
    session.change(change, |s, reply| match reply {
        Ok(Reply::Expunged { uids, mod_seq }) => {
            if !uids.is_empty() {
                s.own_change(mod_seq);
            }
            s.say_expunged(&uids, move |s| {
                let code = mod_seq_code(s, mod_seq);
                s.ok(tag, &format!("{code}EXPUNGE completed"));
            });
        }
        Ok(_) => s.finish(Ending::new(tag, respond::server_bug())),
        Err(error) => s.finish(Ending::new(tag, respond::store_error(&error, Missing::Nonexistent))),
    });
}
