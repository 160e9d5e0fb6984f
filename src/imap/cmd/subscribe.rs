//! SUBSCRIBE and UNSUBSCRIBE (RFC 9051 §6.3.7, §6.3.8). How it fails: NO with the store's code.

use crate::base::mailbox::ask::{Change, Reply};
use crate::imap::respond::{self, Missing};
use crate::imap::session::{Ending, Session};

pub(super) fn run(session: &mut Session, tag: String, name: String, on: bool) {
    session.change(Change::Subscribe { name, on }, move |s, reply| {
        let words = match reply {
            Ok(Reply::Done) if on => "OK SUBSCRIBE completed".into(),
            Ok(Reply::Done) => "OK UNSUBSCRIBE completed".into(),
            Ok(_) => respond::server_bug(),
            Err(error) => respond::store_error(&error, Missing::Nonexistent),
        };
        s.finish(Ending::new(tag, words));
    });
}
