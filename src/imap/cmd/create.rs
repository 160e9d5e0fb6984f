//! CREATE (RFC 9051 §6.3.4), with USE (RFC 6154 §3) and MAILBOXID (RFC 8474 §4.1). How it fails: NO with the store's
//! code; NO [USEATTR] for two uses at once, or one that another mailbox has.

use crate::base::mailbox::SpecialUse;
use crate::base::mailbox::ask::{Change, Reply, StoreError};
use crate::imap::respond::{self, Missing};
use crate::imap::session::{Ending, Session};
use crate::wire::imap::emit;

pub(super) fn run(session: &mut Session, tag: String, name: String, uses: &[SpecialUse]) {
    if uses.len() > 1 {
        let words = respond::no("USEATTR", "a mailbox has one special use at most");
        return session.finish(Ending::new(tag, words));
    }
    let change = Change::Create { name, special_use: uses.first().copied() };
    let has_use = !uses.is_empty();
    session.change(change, move |s, reply| {
        let words = match reply {
            Ok(Reply::Created(id)) => {
                let mut text = Vec::new();
                emit::mailbox_id(&mut text, id);
                format!("OK [MAILBOXID ({})] CREATE completed", String::from_utf8_lossy(&text))
            }
            Ok(_) => respond::server_bug(),
            // RFC 6154 §3: the mailbox could be made, but not for this.
            Err(StoreError::Cannot(why)) if has_use => respond::no("USEATTR", why),
            Err(error) => respond::store_error(&error, Missing::Nonexistent),
        };
        s.finish(Ending::new(tag, words));
    });
}
