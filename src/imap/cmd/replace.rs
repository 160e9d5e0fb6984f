//! REPLACE and UID REPLACE (RFC 8508): a new message for an old one, at once. How it fails: as APPEND does, and NO
//! [EXPUNGEISSUED] when the old one is gone.

use super::append::new_messages;
use super::no_such_message;
use crate::base::mailbox::ask::{Change, Reply};
use crate::imap::respond::{self, Missing};
use crate::imap::session::{Ending, Session};
use crate::imap::sets;
use crate::wire::imap::{AppendMessage, Bound, SequenceSet};

pub(super) fn run(session: &mut Session, tag: String, which: Bound, uid: bool, name: String, new: AppendMessage) {
    let message = match new_messages(session, vec![new]) {
        Ok(mut messages) => messages.pop(),
        Err(words) => return session.finish(Ending::new(tag, words)),
    };
    let Some((mailbox, message)) = session.mailbox().zip(message) else {
        return session.finish(Ending::new(tag, respond::server_bug()));
    };
    if mailbox.read_only {
        return session.finish(Ending::new(tag, respond::no("READ-ONLY", "the mailbox is open for reading")));
    }
    let set = SequenceSet::Ranges(vec![(which, which)]);
    let Ok(uids) = sets::resolve(mailbox, &set, uid) else {
        return session.finish(Ending::new(tag, no_such_message()));
    };
    let Some(uid) = uids.first() else {
        return session.finish(Ending::new(tag, respond::no("NONEXISTENT", "there is no such message")));
    };
    let change = Change::Replace { mailbox: mailbox.id, uid, name, message };
    session.change(change, move |s, reply| {
        let words = match reply {
            Ok(Reply::Replaced { appended }) => {
                s.counters.appended += 1;
                let uids: crate::base::mailbox::UidSet = appended.uids.iter().copied().collect();
                // RFC 8508 §3.4: before the EXPUNGE, so that the client knows what stands for what.
                let validity = appended.uid_validity;
                s.out.line(&format!("* OK [APPENDUID {validity} {uids}] the new message is there"));
                "OK REPLACE completed".into()
            }
            Ok(_) => respond::server_bug(),
            Err(error) => respond::store_error(&error, Missing::TryCreate),
        };
        s.finish(Ending::new(tag, words).forced());
    });
}
