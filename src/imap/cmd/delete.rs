//! DELETE (RFC 9051 §6.3.5). How it fails: NO with the store's code.

use crate::base::mailbox::ask::{Change, Reply};
use crate::imap::respond::{self, Missing};
use crate::imap::session::{Ending, Session};

pub(super) fn run(session: &mut Session, tag: String, name: String) {
    let own = session.mailbox().is_some_and(|m| m.name == name);
    session.change(Change::Delete { name }, move |s, reply| {
        let words = match reply {
            Ok(Reply::Done) => "OK DELETE completed".into(),
            Ok(_) => respond::server_bug(),
            Err(error) => respond::store_error(&error, Missing::Nonexistent),
        };
        let ending = Ending::new(tag, words);
        s.finish(if own { ending.forced() } else { ending });
    });
}
