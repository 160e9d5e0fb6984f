//! RENAME (RFC 9051 §6.3.6). How it fails: NO with the store's code.

use crate::base::mailbox::HIERARCHY_SEPARATOR;
use crate::base::mailbox::ask::{Change, Reply};
use crate::imap::respond::{self, Missing};
use crate::imap::session::{Ending, Session};

pub(super) fn run(session: &mut Session, tag: String, from: String, to: String) {
    let change = Change::Rename { from: from.clone(), to: to.clone() };
    session.change(change, move |s, reply| {
        let words = match reply {
            Ok(Reply::Done) => {
                follow(s, &from, &to);
                "OK RENAME completed".into()
            }
            Ok(_) => respond::server_bug(),
            Err(error) => respond::store_error(&error, Missing::Nonexistent),
        };
        s.finish(Ending::new(tag, words).forced());
    });
}

/// The selected mailbox keeps its id and gets its new name. INBOX stays where it is (RFC 9051 §6.3.6).
fn follow(session: &mut Session, from: &str, to: &str) {
    let Some(mailbox) = session.mailbox_mut() else { return };
    let Some(rest) = mailbox.name.strip_prefix(from) else { return };
    if (rest.is_empty() || rest.starts_with(HIERARCHY_SEPARATOR)) && from != "INBOX" {
        mailbox.name = format!("{to}{rest}");
    }
}
