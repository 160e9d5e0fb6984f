//! CREATE (RFC 9051 §6.3.4), with USE (RFC 6154 §3) and MAILBOXID (RFC 8474 §4.1). How it fails: NO with the store's
//! code; NO [USEATTR] for two uses at once.

use crate::base::mailbox::SpecialUse;
use crate::base::mailbox::ask::{Change, Reply};
use crate::imap::respond::{self, Missing};
use crate::imap::session::{Ending, Session};
use crate::wire::imap::emit;

pub(super) fn run(session: &mut Session, tag: String, name: String, uses: &[SpecialUse]) {
    if uses.len() > 1 {
        let words = respond::no("USEATTR", "a mailbox has one special use at most");
        return session.finish(Ending::new(tag, words));
    }
    let change = Change::Create { name, special_use: uses.first().copied() };
    session.change(change, |s, reply| {
        let words = match reply {
            Ok(Reply::Created(id)) => {
                let mut text = Vec::new();
                emit::mailbox_id(&mut text, id);
                format!("OK [MAILBOXID ({})] CREATE completed", String::from_utf8_lossy(&text))
            }
            Ok(_) => respond::server_bug(),
            Err(error) => respond::store_error(&error, Missing::Nonexistent),
        };
        s.finish(Ending::new(tag, words));
    });
}
